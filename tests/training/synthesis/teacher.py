"""A strong teacher at the wire: it writes papers and cases, annotates, plays tools, and solves."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from tests.wire.model_server import Request, Say, Turn
from tests.wire.openai_server import OpenAIServer
from training.synthesis import papers, tool_cases

ABSENT = "Not stated."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up_tide",
            "description": "The height of the tide at a harbour.",
            "parameters": {
                "type": "object",
                "properties": {"harbour": {"type": "string", "description": "its name"}, "hour": {"type": "integer"}},
                "required": ["harbour"],
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "list_ferries", "description": "The ferries of today.", "parameters": {"type": "object"}},
    },
]
_NAMES = "Aldo Brig Cato Dune Elva Fenn Gala Hale Iris Juno Kite Lark Moss Nova Opal Pike Quay Rook Sage Tern".split()  # noqa: SIM905
_THINGS = "planner filter index compiler scheduler sampler decoder monitor cache router detector encoder".split()  # noqa: SIM905
_FIELDS = (
    "harbour traffic",
    "barley fields",
    "school buses",
    "river gauges",
    "museum halls",
    "hospital wards",
    "glacier maps",
)
_DOES = ["drops stale records", "sorts by need", "waits for sunlight", "asks two neighbours", "keeps rare cases"]
_ASKED = (
    "How high is the tide in {harbour} now? My boats are {other}.",
    "Before we sail with {other}, look up what the water does at {harbour}.",
    "Tell {other} whether {harbour} has enough depth this hour.",
    "We moor the {other} today and want the level from {harbour}, please.",
    "Is it flood or ebb by {harbour}? Compare it with {other} later.",
    "Give a number for the sea at {harbour}; leave {other} out.",
)


def a_paper(number: int) -> tuple[str, dict[str, str]]:
    """An abstract that differs from every other number's, and its annotation."""
    chance = random.Random(number)
    name = f"{chance.choice(_NAMES)}{number}x"
    thing, field, does = chance.choice(_THINGS), chance.choice(_FIELDS), chance.choice(_DOES)
    sites, share, cost = chance.randint(20, 999), chance.randint(11, 98), chance.randint(2, 10)
    other = f"{chance.choice(_NAMES)} {chance.choice(_THINGS)}"
    abstract = (
        f"Operators of {field} still work by hand, which wastes {chance.choice(_NAMES)} crews and {thing} hours. "
        f"We introduce {name}, a {thing} for {field} that {does} before any {chance.choice(_NAMES)} alarm is sent. "
        f"On {sites} sites, {name} found {share}% of the faults, while the older {other} found half of them. "
        f"The {thing} was trained with {chance.choice(_NAMES)} logs of {cost} seasons and tuned on "
        f"{chance.choice(_FIELDS)}. Future {thing} teams may use {name} in {chance.choice(_FIELDS)}, and {field} "
        f"should keep {chance.choice(_NAMES)} logs."
    )
    moves = {
        "claim": f"The authors introduce {name}, a {thing} for {field} that {does}.",
        "evidence": f"On {sites} sites, {name} found {share}% of the faults.",
        "method": f"The {thing} was trained with logs of {cost} seasons and tuned.",
        "scope": f"{name} applies to {sites} sites of operators of {field}.",
        "limitation": ABSENT,
        "comparison": f"The older {other} found half of the faults.",
        "implication": f"Future {thing} teams may use {name}, and {field} should keep logs.",
        "novelty": ABSENT,
    }
    return abstract, moves


def a_case(number: int, bare: bool = False) -> dict[str, Any]:
    """A case for the two tools; `bare` is one that needs neither."""
    chance = random.Random(number)
    harbour, metres = f"Port {chance.choice(_NAMES)} {number}", chance.randint(100, 999)
    if bare:
        task = f"Find me one word that rhymes with {chance.choice(_THINGS)} and fits {chance.choice(_FIELDS)}."
        return {"task": task, "facts": "", "calls": [], "answer": ["seaside"]}
    return {
        "task": _ASKED[number % len(_ASKED)].format(harbour=harbour, other=" ".join(chance.sample(_NAMES, 4))),
        "facts": f"The tide at {harbour} stands at {metres} centimetres.",
        "calls": [{"name": "look_up_tide", "arguments": json.dumps({"harbour": harbour})}],
        "answer": [str(metres)],
    }


class Teacher(OpenAIServer):
    """Answers by what it is asked. Turns that were scripted come first.

    What an evolve step makes of a text is another paper or case, without its last sentence where it must be shorter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.papers: dict[str, dict[str, str]] = {}
        self.cases: dict[str, dict[str, Any]] = {}
        self.written = 0

    def _take(self, request: Request) -> Turn:
        if self.turns:
            return super()._take(request)
        self.requests.append(request)
        self.asked.set()
        messages = request.body["messages"]
        system, user = messages[0]["content"], messages[1]["content"]
        if system == papers.SYSTEM:
            return self._paper(user)
        if system == tool_cases.SYSTEM:
            return self._case(user)
        if system.startswith("You play the tool"):
            facts = system.partition("nothing else:\n")[2].partition("\n")[0]
            return Say(json.dumps({"output": facts, "error": not facts}))
        if user in self.papers:
            return Say(json.dumps(self.papers[user]))
        return self._solve(messages)

    def _paper(self, asked: str) -> Say:
        self.written += 1
        abstract, moves = a_paper(self.written)
        if "two thirds of the words" in asked:
            last = abstract.rindex("Future")
            abstract, moves = abstract[: last - 1], moves | {"implication": ABSENT}
        self.papers[abstract] = moves
        return Say(json.dumps({"title": f"Paper {self.written}", "abstract": abstract}))

    def _case(self, asked: str) -> Say:
        self.written += 1
        case = a_case(self.written, bare="none of them helps" in asked)
        self.cases[case["task"]] = case
        return Say(json.dumps(case))

    def _solve(self, messages: list[dict[str, Any]]) -> Say:
        """Call what the case expects, then answer with what the tool said."""
        case = self.cases[messages[1]["content"]]
        said = [message["content"] for message in messages if message["role"] == "tool"]
        if case["calls"] and not said:
            return Say(tool_calls=tuple((call["name"], call["arguments"]) for call in case["calls"]))
        metres = re.findall(r"\d+ centimetres", " ".join(said))
        return Say(f"It is {metres[0]}." if metres else "Try seaside.")
