"""Cases by kind: each can be solved, and each is about what its kind says."""

from __future__ import annotations

import json
from random import Random

import pytest

from agent.models.json_grammar import json_grammar
from agent.protocols import action_schema
from agent.session import Session
from evals.simulated import suite
from evals.simulated.case import Case, Kind, read
from evals.simulated.judge import Verdict, judge
from evals.simulated.maker import Maker
from evals.simulated.play import Played, solve
from evals.simulated.pools import SPLITS
from evals.simulated.scenarios import MAKERS, make
from evals.simulated.world import schema
from tests.evals.simulated.playing import in_session

KINDS: list[Kind] = list(MAKERS)


def solved(cases: list[Case], protocol: str = "json") -> list[tuple[Played, Verdict]]:
    """The cases' own solutions, played and judged."""

    async def work(session: Session) -> list[Played]:
        return [await solve(case, session, protocol) for case in cases]

    return [(played, judge(played)) for played in in_session(work)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_solution_passes_its_check_without_a_step_or_a_word_too_many(kind: Kind) -> None:
    cases = [make(kind, split, str(number)) for split in SPLITS for number in range(4)]
    for played, verdict in solved(cases):
        case = played.world.case
        assert verdict.problem == "", f"{case.id} of {case.split}"
        assert (verdict.exact, verdict.valid, verdict.steps) == (verdict.wanted, verdict.calls, verdict.least)
        assert (verdict.completed, verdict.in_phase, verdict.edited) == (verdict.todos, verdict.phased, verdict.needed)
        assert False not in (verdict.selected, verdict.only, verdict.uncalled)


@pytest.mark.parametrize("protocol", ["native", "text"])
def test_solutions_pass_in_the_other_protocols_too(protocol: str) -> None:
    cases = [make(kind, "test", "0") for kind in KINDS]
    assert [verdict.problem for _, verdict in solved(cases, protocol)] == [""] * len(cases)


def test_the_same_seed_makes_the_same_case_and_another_seed_another() -> None:
    assert make("chained", "test", "7") == make("chained", "test", "7")
    assert make("chained", "test", "7").task != make("chained", "test", "8").task


def test_test_cases_offer_eight_tools_or_more_with_two_near_neighbours() -> None:
    for kind in KINDS:
        for number in range(8):
            case = make(kind, "test", str(number))
            assert 8 <= len(case.offered) <= 13, kind
            names = [offered.called for offered in case.offered]
            assert len(set(names)) == len(names)
            if kind in ("single", "missing", "retry", "outage", "chained", "several"):
                families = [offered.family for offered in case.offered]
                wanted = {o.family for o in case.offered if o.called in {call.name for call in case.calls}}
                small = wanted & {"calculator", "world_clock", "news"}
                assert small or any(families.count(family) >= 3 for family in wanted or families)


def test_where_none_fits_the_tool_is_not_on_offer_though_its_neighbours_may_be() -> None:
    near = 0
    for number in range(30):
        chance = Random(number)
        draft = MAKERS["none"](Maker("test", chance))
        case = draft.case("x", "test", "none", chance)
        left_out = {(family.name, spec.name) for family, spec in draft.without}
        assert case.calls == ()
        assert left_out
        assert not left_out & {(offered.family, offered.tool) for offered in case.offered}
        near += bool({family for family, _ in left_out} & {offered.family for offered in case.offered})
    assert 5 < near < 25


def test_what_a_chained_case_needs_is_nowhere_in_its_task() -> None:
    for kind in ("chained", "several"):
        for number in range(10):
            case = make(kind, "test", str(number))  # type: ignore[arg-type]
            *looked, last = case.calls
            assert len(looked) == (1 if kind == "chained" else 2)
            told = json.dumps([offered.model_dump() for offered in case.offered]) + case.task
            assert any(str(value) not in told for value in last.arguments.values())


def test_the_tools_of_every_shipped_case_make_a_grammar() -> None:
    """Without one the embedded model cannot be asked; so nothing of a schema is beyond it."""
    for case in [*read([suite.path("dev")]), *read([suite.path("test")])]:
        assert json_grammar(action_schema([schema(offered, case.split) for offered in case.offered]))


def test_a_missing_argument_is_in_no_task() -> None:
    case = make("missing", "test", "3")
    assert case.check.asks
    assert case.answer.endswith("?")
    assert case.calls == ()


def test_a_misspelt_name_is_tried_and_then_corrected() -> None:
    for number in range(10):
        case = make("corrected", "test", str(number))
        first, second = case.calls
        (wrong,), (right,) = first.arguments.values(), second.arguments.values()
        assert wrong != right
        assert str(wrong) in case.task
        assert str(right) not in case.task
        assert case.check.calls == (second,)


def test_personal_data_is_in_the_task_or_in_the_record_and_the_check_forbids_it() -> None:
    in_task = 0
    for number in range(20):
        case = make("private", "test", str(number))
        (secret, *_) = case.check.excludes
        in_task += secret in case.task
        assert secret in case.task or secret in json.dumps(case.records)
        assert secret not in case.answer
    assert 0 < in_task < 20


def test_conditions_hold_in_some_cases_and_not_in_others() -> None:
    lengths = {len(make("conditional", "test", str(number)).calls) for number in range(20)}
    assert lengths == {1, 2}
