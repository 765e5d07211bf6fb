"""The tools for one's own work and for files as training shows them: never under their own names.

Which words a case uses for them is drawn once a case (`Voice`): a list is a checklist with entries here and an agenda
with points there. So what is learned is to read what such a tool says, and not how it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from evals.simulated.case import Offered
from evals.simulated.composed import article

LISTS = (
    ("checklist", "entry"),
    ("agenda", "point"),
    ("worklist", "step"),
    ("backlog", "feature"),
    ("roster", "shift"),
    ("programme", "number"),
    ("docket", "matter"),
    ("plan", "item"),
    ("board", "note"),
    ("schedule", "job"),
    ("run_sheet", "line"),
    ("queue", "order"),
    ("tracker", "task"),
    ("ledger", "action"),
)
"""What a list is called, and what stands on it."""
CARDS = "card issue slip package unit block node chunk lot errand assignment quest topic job work_order"
HELPERS = "colleague helper assistant teammate worker deputy aide specialist agent partner"
PAPERS = "document page sheet script source record manuscript paper config form"
Ways = tuple[str, str, dict[str, str]]
TOOLS: Mapping[str, Ways] = {
    "todo_add": (
        "add_{entry},{list}_add,put_on_{list},new_{entry},append_{entry},note_{entry}",
        "Put {an_entry} on the {list}.|Append {an_entry} to the {list}.|Write a new {entry} down.",
        {"title": "{entry} wording label what words headline"},
    ),
    "todo_complete": (
        "tick_off,finish_{entry},{entry}_done,close_{entry},check_off_{entry},mark_{entry},settle_{entry},{list}_tick",
        "Tick off {an_entry} of the {list}, with a remark.|Mark {an_entry} that is finished and say how it went.|"
        "Close a finished {entry} with a comment.|Report {an_entry} of the {list} as finished.|"
        "Strike {an_entry} out once its work is over, with a word about it.|Put {an_entry} down as through.|"
        "Say that {an_entry} is over, and what came of it.",
        {"id": "{entry}_id {entry} number which ref {entry}_no", "note": "remark comment outcome how result report"},
    ),
    "todo_list": (
        "show_{list},{list}_open,open_{entry}s,remaining,{list}_view,what_is_left",
        "Show what is not ticked off on the {list}.|View what is left of the {list}.|Read the open part of the {list}.|"
        "Name every {entry} that is still to come.|Tell what remains on the {list}.",
        {},
    ),
    "next_phase_todos": (
        "start_doing,open_work_stage,begin_work,hand_in_plan,submit_plan,plan_ready,set_{list},start_{list}",
        "Finish the {plan} stage by giving the {list} of the {work} stage.|Hand in the {list}; {work} begins then.|"
        "Go from {plan} to {work}, with every {entry} to do.|Give every {entry}, and so end the {plan} stage.|"
        "Leave {plan} and begin {work} with this {list}.|"
        "Say what has to be done in the {work} stage, which then starts.|"
        "Turn the plan into the {list} of the {work} stage.",
        {"todos": "entries steps plan points {list} pieces {entry}s"},
    ),
    "job_complete": (
        "finish_assignment,end_assignment,wrap_up,conclude,job_over,report_done,sign_off,finish_all",
        "Finish the assignment and tell its outcome.|Conclude everything with a short report.|Sign the whole work off.|"
        "Declare that everything is over and sum it up.|Bring the assignment to its end, with a few words on it.|"
        "Say that no {entry} is left and the work as a whole has ended.",
        {
            "summary": "outcome result report what_was_done conclusion",
            "reason_open": "why_unfinished left_open excuse remaining_reason",
        },
    ),
    "bead_create": (
        "{card}_new,pin_{card},add_{card},open_{card},make_{card},enter_{card}",
        "Pin a new {card} with some work.|Open a new {card}.|Enter {a_card} that says what is to be done.|"
        "Make {a_card} for a piece of work.|Put one more {card} with the others.",
        {"title": "headline what name wording summary_line text"},
    ),
    "bead_show": (
        "{card}_details,view_{card},look_at_{card},{card}_info,inspect_{card},read_{card}",
        "View one {card} and what it waits for.|Read {a_card} in full.|Look at one {card}.|"
        "Tell everything about {a_card}.",
        {"id": "{card} {card}_id number ref which"},
    ),
    "bead_ready": (
        "free_{card}s,{card}s_to_take,open_{card}s,next_{card}s,available_{card}s,list_free_{card}s,unblocked_{card}s",
        "View every {card} that can be taken now.|List each {card} that is free and waits for no other.|"
        "Find out which {card} may be started.|Show what {card} is next.|Name each {card} that nothing holds up.|"
        "Tell which {card} can be begun.",
        {},
    ),
    "bead_claim": (
        "take_{card},grab_{card},start_{card},reserve_{card},pick_up_{card},own_{card},begin_{card}",
        "Take a free {card} before doing its work.|Reserve {a_card} for yourself, then do it.|"
        "Start {a_card}: it is yours from then on.|Make {a_card} your own, so that nobody else begins it.|"
        "Put your name on {a_card}.",
        {"id": "{card} {card}_id number ref which"},
    ),
    "bead_update": ("{card}_state,move_{card}", "Give {a_card} another state.", {"id": "{card}", "status": "state"}),
    "bead_depend": (
        "{card}_after,chain_{card}s,block_{card},{card}_waits,link_{card}s,hold_{card}",
        "Make one {card} wait for another.|Hold {a_card} back until another is through.|Block {a_card} by another.|"
        "Say that one {card} comes after another one.",
        {"id": "{card} {card}_id number ref which", "on": "other_{card} waits_for blocker after needed_first"},
    ),
    "bead_close": (
        "{card}_done,finish_{card},complete_{card},resolve_{card},hand_in_{card},end_{card}",
        "Finish a taken {card} whose work is through.|Hand in {a_card} that you took, with its result.|"
        "Resolve {a_card} once its work is over.|Put your {card} down as through and say how it went.|"
        "Bring {a_card} of yours to its end.",
        {"id": "{card} {card}_id number ref which", "reason": "result what_came_out closing_note comment"},
    ),
    "delegate": (
        "hand_out,ask_{helper}s,split_up,assign_{helper}s,share_out,outsource,distribute,farm_out,call_{helper}s",
        "Give big separate jobs to {helper}s, who each work alone.|Let {helper}s do long pieces of work for you.|"
        "Distribute heavy work among {helper}s.|Have every long piece done by {a_helper} of its own.|"
        "Pass large pieces on to {helper}s.|Hand big jobs to {helper}s, one for each.|"
        "Get extensive work done by {helper}s instead of yourself.",
        {
            "tasks": "assignments parts pieces jobs briefs portions",
            "parallel": "at_once together side_by_side concurrently simultaneous",
        },
    ),
    "read_file": (
        "open_{paper},view_{paper},show_{paper},print_{paper},{paper}_lines,load_{paper},see_{paper}",
        "View the lines of {a_paper}.|Open {a_paper} to see what it says.|Show what is in {a_paper}.|"
        "Print {a_paper} or a part of it.|Get the text of {a_paper}.",
        {
            "path": "document {paper} name location target where",
            "start": "first_line from_line top",
            "end": "last_line to_line bottom",
        },
    ),
    "edit_file": (
        "replace_passage,swap_text,patch_{paper},replace_in_{paper},change_{paper},revise_{paper},{paper}_replace",
        "Swap one passage of {a_paper} for another.|Replace some words in {a_paper}.|"
        "Put other text in place of a passage.|Exchange one piece of {a_paper} for a new one.|"
        "Alter {a_paper} in one place.",
        {
            "path": "document {paper} name location target where",
            "old": "passage before find original search_text current",
            "new": "replacement after instead replaced_by fresh_text then",
        },
    ),
    "write_file": (
        "store_{paper},save_{paper},put_{paper},overwrite_{paper},make_{paper}",
        "Save a whole {paper} anew.|Store {a_paper} in full.|Overwrite {a_paper} with a text.|"
        "Put a new text into {a_paper}, from its beginning to its end.",
        {"path": "document {paper} name location target where", "content": "everything full_text body all_text words"},
    ),
}
"""By tool: names, texts, and other names for each parameter."""
STAGES = (
    ("planning", "working"),
    ("draft", "execution"),
    ("thinking", "doing"),
    ("preparation", "action"),
    ("outline", "delivery"),
    ("design", "building"),
    ("first", "second"),
)


@dataclass(frozen=True, slots=True)
class Voice:
    """The words that one case uses for lists, work, helpers and files."""

    words: dict[str, str]

    @classmethod
    def drawn(cls, chance: Random) -> Voice:
        listing, entry = chance.choice(LISTS)
        card, helper, paper = (chance.choice(names.split()) for names in (CARDS, HELPERS, PAPERS))
        plan, work = chance.choice(STAGES)
        plain = {"list": listing, "entry": entry, "card": card, "helper": helper, "paper": paper}
        return cls(plain | {"plan": plan, "work": work})

    def said(self, text: str) -> str:
        """A sentence with this case's words in it, and their articles."""
        plain = {key: word.replace("_", " ") for key, word in self.words.items()}
        articled = {f"{article(key)}".replace(" ", "_"): article(word) for key, word in plain.items()}
        return text.format(**plain, **articled)

    def offered(self, names: Sequence[str], family: str, chance: Random) -> list[Offered]:
        """Tools of `work` or `files` under names, parameters and texts of this case."""
        found = []
        for tool in names:
            called, texts, parameters = TOOLS[tool]
            others: dict[str, str] = {}
            for own, choices in parameters.items():
                free = [
                    name for name in choices.format(**self.words).split() if name not in (*others.values(), *parameters)
                ]
                others[own] = chance.choice(free)
            name = chance.choice(called.split(",")).format(**self.words)
            text = self.said(chance.choice(texts.split("|")))
            found.append(Offered(family=family, tool=tool, name=name, parameters=others, text=text))
        return found
