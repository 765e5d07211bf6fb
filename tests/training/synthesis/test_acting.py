"""Trajectories of a scripted expert: what they are, and that training sees what the loop sent."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from random import Random

import pytest
from pydantic import BaseModel

from agent.errors import UsageError
from agent.session import Session
from evals.simulated.case import Case
from evals.simulated.judge import judge
from evals.simulated.play import EXPERT, play, scripted, solve
from evals.simulated.renaming import reserved
from evals.simulated.scenarios import MAKERS, make
from evals.simulated.world import World, schema
from tests.evals.simulated.playing import in_session
from tests.training import tiny
from tests.training.commands.test_synthesize_command import train
from training.commands.sft import runs
from training.dataset.candidates import Ledger
from training.dataset.trajectories import collect
from training.learning.encode import Encoder
from training.rows import Row, read_rows
from training.synthesis import acting as synthesis
from training.synthesis.acting import SHARES, Made, acting


@pytest.fixture(scope="module")
def made() -> Made:
    return asyncio.run(acting(60, 5))


def test_the_same_seed_makes_the_same_rows_and_a_smaller_count_the_first_of_them(made: Made) -> None:
    assert asyncio.run(acting(10, 5)).rows == made.rows[:10]
    assert asyncio.run(acting(2, 6)).rows != made.rows[:2]


def test_rows_are_verified_and_of_the_generic_tool_calling_form(made: Made) -> None:
    for row in made.rows:
        assert (row.skill, row.source, row.verified) == ("agent", "check", True)
        assert row.provenance["made"] == "acting"
        assert [message["role"] for message in row.messages[:2]] == ["system", "user"]
        assert row.messages[-1]["role"] == "assistant"
        assert row.messages[-1]["content"]
        names = {tool["function"]["name"] for tool in row.tools}
        calls = [call for message in row.messages for call in message.get("tool_calls", ())]
        assert {call["name"] for call in calls} <= names
        assert not names & reserved()
        assert all(message["thought"] for message in row.messages if message["role"] == "assistant")


def test_addresses_stand_in_the_task_as_the_person_typed_them(made: Made) -> None:
    told = [message["content"] for row in made.rows for message in row.messages]
    assert any("@" in text for text in told)
    assert not [text for text in told if "[EMAIL-" in text or "[PHONE-" in text]


def test_every_kind_of_case_has_its_share(made: Made) -> None:
    assert set(SHARES) == set(MAKERS)
    assert sum(made.kinds.values()) == 60
    assert set(made.kinds) <= set(SHARES)
    bare = sum(not any(message.get("tool_calls") for message in row.messages) for row in made.rows)
    assert 0.1 * 60 <= bare <= 0.4 * 60, "many tasks need no call"
    assert any(message.get("is_error") for row in made.rows for message in row.messages), "and some tools fail"


def test_a_thousand_rows_show_thousands_of_tools_and_phrases() -> None:
    """What is seen often is learned by heart; so nearly nothing is. The cases are made, and not played."""
    chance = Random("variety")
    cases = [
        make(kind, "train", str(number))
        for number in range(1000)
        for kind in chance.choices(list(SHARES), list(SHARES.values()))
    ]
    functions = [schema(offered, "train")["function"] for case in cases for offered in case.offered]
    assert len({one["name"] for one in functions}) >= 4500
    assert len({one["description"] for one in functions}) >= 3500
    parameters = {name for one in functions for name in one["parameters"]["properties"]}
    assert len(parameters) >= 1200
    assert not [name for name in parameters if hasattr(BaseModel, name)], "a model of arguments has room for each"
    own = [one for case in cases for one in case.offered if one.family in ("work", "files")]
    assert len({one.name for one in own}) >= 250
    assert len({case.instructions for case in cases}) >= 80
    assert len({case.task for case in cases}) >= 995
    assert len({re.split(r"\W+", case.task)[0] for case in cases}) >= 100, "tasks begin in many ways"
    assert len({word for case in cases for word in case.task.split()}) >= 3000


def test_the_expert_says_sentences(made: Made) -> None:
    thoughts = [message["thought"] for row in made.rows for message in row.messages if message["role"] == "assistant"]
    verbs = [verb for text in thoughts for verb in re.findall(r"I should (\w+)", text)]
    assert len(set(verbs)) >= 15
    assert not [verb for verb in verbs if verb.endswith("s") and not verb.endswith("ss")]
    assert not set(verbs) & {"who", "when", "use", "this", "a", "the", "all", "to"}


def test_an_expert_that_fails_its_check_makes_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    right = make

    def wrong(*arguments: str) -> Case:
        return right(*arguments).model_copy(update={"turns": (), "answer": "Nothing."})  # type: ignore[arg-type]

    monkeypatch.setattr(synthesis, "make", wrong)
    with pytest.raises(AssertionError, match="does not pass its check"):
        asyncio.run(acting(1, 5))


def test_more_tasks_than_there_are_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make("single", "train", "1")
    monkeypatch.setattr(synthesis, "make", lambda *arguments: case)
    with pytest.raises(UsageError, match="only 1 different tasks"):
        asyncio.run(acting(2, 5))


@pytest.mark.parametrize("kind", ["several", "none", "phases", "corrected", "delegate"])
def test_what_is_trained_on_is_what_the_loop_sent_token_by_token(kind: str) -> None:
    """Each prompt of the loop opens the row's tokens, and what the model then said is trained on, and only that."""
    case = make(kind, "train", "9")  # type: ignore[arg-type]

    async def work(session: Session) -> tuple[Row, list[list[dict[str, str]]]]:
        model = scripted(case)
        session.models[EXPERT] = model
        played = await play(case, session, EXPERT)
        assert judge(played).success
        played.run.labels["check"] = True
        (found,) = collect([played.run], "", Ledger()).examples
        asked = [[{"role": m.role, "content": m.content} for m in request.messages] for request in model.requests]
        return found.row, asked

    row, asked = in_session(work)
    encoder = Encoder(tiny.tokenizer())
    (example,) = encoder.examples(row)
    spoken = [(start, end) for start, end, counts in runs(example.trained) if counts]
    assert len(spoken) == len(asked) == len(case.turns) + 1
    said = [reply["content"] for reply in scripted(case).replies]
    for messages, (start, end), text in zip(asked, spoken, said, strict=True):
        assert example.tokens[:start] == encoder.prompt(messages, ())
        assert encoder.tokenizer.decode(example.tokens[start:end]) == f"{text}<|im_end|>"


def test_arguments_stand_in_the_order_of_the_schema() -> None:
    """The grammar of the json protocol writes them in that order, so a model must not learn another one."""

    async def work(session: Session) -> list[Case]:
        cases = [make(kind, "train", str(number)) for kind in MAKERS for number in range(3)]
        for case in cases:
            played = await solve(case, session)
            shapes = {tool["function"]["name"]: tool["function"]["parameters"] for tool in played.run.tools}
            for call in case.calls:
                order = [key for key in shapes[call.name]["properties"] if key in call.arguments]
                assert list(call.arguments) == order
        return cases

    assert len(in_session(work)) == 3 * len(MAKERS)


def test_the_command_writes_the_rows_and_tells_the_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "acting.jsonl"
    assert train("synthesize", "acting", "--count", "12", "--seed", "5", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"12 rows written to {out}: ")
    assert "left out: nothing" in printed
    rows = list(read_rows(out))
    assert len(rows) == 12
    assert rows == list(asyncio.run(acting(12, 5)).rows)
    assert "acting-" not in json.dumps([row.model_dump(mode="json") for row in rows]), "no temporary folder is told"


def test_of_a_models_own_runs_only_those_are_kept_that_pass_without_detours(tmp_path: Path) -> None:
    """Here the model solves the first two cases and fails the others."""
    expert = asyncio.run(acting(5, 5))
    encoder = Encoder(tiny.tokenizer())
    said = [
        {"content": shown["content"]}
        for row in expert.rows[:2]
        for shown in encoder.shown(row)
        if shown["role"] == "assistant"
    ]
    wrong = {"content": '{"thought": "", "answer": "Whatever."}'}
    path = tmp_path / "m.jsonl"
    lines = [{"capabilities": {"native_tools": False, "json_schema": True}}, *said, *[wrong] * 3]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = asyncio.run(acting(5, 5, player=f"scripted:{path}"))
    assert [row.messages for row in own.rows] == [row.messages for row in expert.rows[:2]]
    assert own.left_out == {"failed the check": 3}
    assert own.rows[0].provenance["model"] == f"scripted:{path}"


def test_a_detour_is_not_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call a second time changes nothing where it only reads, but nobody should learn it."""
    cases = [
        case
        for number in range(20)
        if World(case := make("single", "train", str(number))).reading() >= {call.name for call in case.calls}
    ]
    monkeypatch.setattr(synthesis, "make", lambda *arguments: cases[0])
    twice = cases[0].model_copy(update={"turns": (*cases[0].turns, *cases[0].turns)})
    path = tmp_path / "m.jsonl"
    lines = [{"capabilities": {"native_tools": False, "json_schema": True}}, *scripted(twice).replies]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = asyncio.run(acting(1, 5, player=f"scripted:{path}"))
    assert (found.rows, found.left_out) == ([], {"passed the check in a roundabout way": 1})


def test_acting_has_no_evolve_steps(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="acting has no evolve steps"):
        train("synthesize", "acting", "--count", "1", "--out", str(tmp_path / "x"), "--evolve", "harder")


def test_a_teacher_is_needed_for_everything_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rehearsal needs a teacher"):
        train("synthesize", "rehearsal", "--count", "1", "--out", str(tmp_path / "x"))
