"""Cases of several steps, in the shapes that only training has: what they ask for is what their calls do."""

from __future__ import annotations

from random import Random

from evals.simulated import steps
from evals.simulated.case import Case, Kind
from evals.simulated.maker import Maker
from evals.simulated.phrasing import VAGUE, requested, sentence
from evals.simulated.scenarios import make

COUNT = 60


def cases(kind: Kind) -> list[Case]:
    return [make(kind, "train", str(number)) for number in range(COUNT)]


def test_training_asks_for_two_things_or_three() -> None:
    made = cases("parallel")
    assert {len(case.calls) for case in made} == {2, 3}
    assert {len(make("parallel", "test", str(number)).calls) for number in range(COUNT)} == {2}


def test_a_record_may_have_to_be_found_out_before_it_is_asked_about() -> None:
    """The second look-up is about what the first one showed, and the task does not tell it."""
    for seed in range(20):
        chance = Random(seed)
        case = steps._nested(Maker("train", chance)).case("x", "train", "chained", chance)
        first, second = case.calls
        shown = {str(value) for rows in case.records.values() for row in rows for value in row.values()}
        (name,) = second.arguments.values()
        assert str(name) in shown
        assert str(name) not in case.task
        assert str(next(iter(first.arguments.values()))) in case.task
        assert case.turns[0].thought.startswith("I need the ")


def test_an_action_may_stand_beside_one_that_needs_a_look_up() -> None:
    made = [case for case in cases("chained") if not case.check.contains]
    assert {len(case.calls) for case in made} == {2, 3}
    assert all(case.turns[0].thought.startswith("I need the ") for case in made)


def test_two_things_are_often_looked_up_with_the_same_tool_and_never_in_the_same_record() -> None:
    looks = [[(call.name, str(call.arguments)) for call in case.calls[:2]] for case in cases("several")]
    assert sum(first[0] == second[0] for first, second in looks) >= COUNT / 5
    assert all(first != second for first, second in looks)


def test_thoughts_about_ones_own_work_say_what_the_tool_is_for() -> None:
    """As those about any other tool do: a thought in words of its own leads to a tool that has them in its name."""
    kinds: tuple[Kind, ...] = ("delegate", "edit", "beads")
    for kind in kinds:
        for case in cases(kind):
            own = {tool.called: tool.text for tool in case.offered if tool.family in ("work", "files")}
            turns = [turn for turn in case.turns if turn.calls[0].name in own]
            texts = [own[turn.calls[0].name] for turn in turns]
            assert turns
            assert all(
                turn.thought.endswith(f"I should {text[0].lower()}{text[1:]}")
                for turn, text in zip(turns, texts, strict=True)
            )
    assert make("delegate", "test", "1").turns[0].thought == "These are long and independent, so I hand them over."


def test_one_of_two_tools_may_fail_once() -> None:
    made = cases("retry")
    assert {len(case.calls) for case in made} == {2, 3}
    for case in made:
        (failing,) = case.fails
        assert [call.name for call in case.calls].count(failing) == 2
    assert len({messages for case in made for messages in case.fails.values()}) > 15


def test_an_argument_may_be_left_open_in_words() -> None:
    said = [phrase for phrases in VAGUE.values() for phrase in phrases]
    made = cases("missing")
    assert sum(any(phrase in case.task for phrase in said) for case in made) >= COUNT / 4
    assert all(case.answer.endswith("?") and not case.calls for case in made)
    assert not [case.answer for case in made if "the the" in case.answer or "{}" in case.answer]


def test_one_of_two_or_three_pieces_of_work_is_free() -> None:
    made = [case for case in cases("beads") if len(case.calls) > 2]
    assert {len(case.work.beads) for case in made} == {2, 3}
    for case in made:
        free = [f"b-{number}" for number, (_, after) in enumerate(case.work.beads, 1) if not after]
        assert free == [next(iter(case.calls[1].arguments.values()))]


def test_requests_stand_in_one_sentence_or_in_sentences_of_their_own() -> None:
    said = {requested(["feed Rex", "call Ann"], "train", Random(seed)) for seed in range(200)}
    assert any(text.startswith("Feed Rex. ") for text in said)
    assert any(" and call Ann" in text for text in said)
    asked = [requested(["who feeds Rex?", "call Ann"], "train", Random(seed)) for seed in range(50)]
    assert all("ho feeds Rex?" in text and text.endswith("all Ann.") for text in asked)
    assert requested(["feed Rex", "call Ann"], "dev", Random(1)).endswith(("feed Rex, and after it call Ann.", "Ann?"))
    assert {sentence("if it rains, call Ann", Random(seed))[-1] for seed in range(20)} == {"."}
