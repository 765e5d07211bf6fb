"""What a person sees: plain lines, JSON lines, and a terminal's colours."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from agent import terminal
from agent.messages import Event


class Screen(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def words(self) -> str:
        """What a person reads there: without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())


def on_screen(*events: Event, columns: int = 80, prose: bool = True) -> str:
    """What these events leave on a terminal of so many columns."""
    err = Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        sink = terminal.choose(as_json=False, quiet=False, prose=prose, out=Screen(), err=err)
        for event in events:
            sink(event)
    return err.words


def ended(outcome: str, reason: str, *, run: str = "id1", tokens: int = 20, **more: Any) -> Event:
    usage = {"seconds": 1.0, "prompt_tokens": tokens, "completion_tokens": 0, "cost": None}
    return Event("end", run, {"outcome": outcome, "reason": reason, **usage, **more})


def begun(run: str, task: str, parent: str = "", rule: str = "flag") -> Event:
    asked = {"task": task, "model": "local", "reason": "you gave --model", "skills": [], "parent": parent, "rule": rule}
    return Event("run", run, asked)


def show(sink_of: str) -> tuple[str, str]:
    out, err = (Screen(), Screen()) if sink_of == "rich" else (io.StringIO(), io.StringIO())
    sink = terminal.choose(as_json=sink_of == "json", quiet=sink_of == "quiet", out=out, err=err)
    sink(Event("run", "id1", {"task": "the task", "model": "local", "reason": "you gave --model", "skills": []}))
    sink(Event("thought", "id1", {"text": "I think."}))
    sink(Event("text", "id1", {"text": "hel"}))
    sink(Event("text", "id1", {"text": "lo"}))
    sink(Event("observation", "id1", {"id": "c", "name": "f", "content": "no", "is_error": True, "seconds": 0.1}))
    sink(Event("answer", "id1", {"text": "hello"}))
    return out.getvalue(), err.getvalue()


def test_without_a_terminal_the_answer_alone_is_on_standard_output() -> None:
    out, err = show("plain")
    assert out == "hello\n"
    assert "the task · local (you gave --model) · run id1" in err
    assert "✗ f: no · 0.10 s" in err


def test_quiet_says_nothing_but_the_answer() -> None:
    assert show("quiet") == ("hello\n", "")


def test_json_lines_are_one_object_an_event() -> None:
    out, err = show("json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["run", "thought", "text", "text", "observation", "answer"]
    assert events[0]["run"] == "id1"
    assert err == ""


def test_a_terminal_streams_and_does_not_repeat_the_answer() -> None:
    out, err = show("rich")
    assert out == ""
    assert err.count("hello") == 1
    assert "I think." in re.sub(r"\x1b\[[0-9;]*m", "", err)


def test_a_stream_is_broken_between_words_however_its_pieces_are_cut() -> None:
    text = "One microphone is enough to count the bees.\n\n  This line is indented and long."
    for size in (1, 3, 7, 100):
        pieces = [Event("text", "id1", {"text": text[at : at + size]}) for at in range(0, len(text), size)]
        shown = on_screen(*pieces, ended("success", "answer"), columns=20)
        assert [line.rstrip() for line in shown.splitlines()] == [
            "One microphone is",
            "enough to count the",
            "bees.",
            "",
            "  This line is",
            "indented and long.",
            "■ success · 1.0 s ·",
            "20 tokens",
        ]


def test_lines_of_code_stay_whole_in_a_stream() -> None:
    code = "```python\nprint('a line longer than the screen')\n```\n"
    said = on_screen(Event("text", "id1", {"text": code + "These words are broken again."}), columns=20)
    assert said.splitlines()[:3] == code.splitlines()
    assert said.splitlines()[3].rstrip() == "These words are"


def test_every_other_line_is_broken_between_words_too() -> None:
    said = on_screen(Event("notice", "", {"text": "the words of this notice stay whole"}), columns=20)
    answer = on_screen(Event("answer", "", {"text": "**The** words of this answer stay whole"}), columns=20)
    assert said.split() == ["!", "the", "words", "of", "this", "notice", "stay", "whole"]
    assert answer.split() == ["The", "words", "of", "this", "answer", "stay", "whole"]
    assert all(len(line.rstrip()) <= 20 for line in (said + answer).splitlines())


def test_a_title_begins_at_the_left() -> None:
    assert on_screen(Event("answer", "", {"text": "# Title\n\ntext"})).split("\n")[1].rstrip() == "Title"


def test_json_and_csv_are_shown_as_they_are() -> None:
    text = '{\n  "claim": "*x* costs **2**",\n  "method": "' + "long " * 30 + '"\n}'
    assert on_screen(Event("answer", "", {"text": text}), prose=False) == text + "\n"


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (ended("success", "answer"), "■ success · 1.0 s · 20 tokens"),
        (ended("success", "answer; 2 doubts: scope repeats claim"), "■ success: 2 doubts · 1.0 s · 20 tokens"),
        (ended("failure", "stopped after 3 steps", tokens=0), "■ failure: stopped after 3 steps · 1.0 s"),
        (ended("failure", "the server is down", tokens=0, raised=True), "■ failure · 1.0 s"),
        (ended("unknown", "cancelled", raised=True), "■ interrupted · 1.0 s · 20 tokens"),
    ],
)
def test_the_last_line_says_how_it_ended_and_nothing_twice(end: Event, line: str) -> None:
    assert terminal.summary(end) == line


@pytest.mark.parametrize("at_terminal", [True, False])
def test_a_run_that_is_a_part_of_another_takes_one_line(at_terminal: bool) -> None:
    step = {"number": 1, "seconds": 0.4, "prompt_tokens": 9, "completion_tokens": 1}
    events = [
        begun("whole", "two papers"),
        Event("notice", "whole", {"text": "[1/2] A paper"}),
        begun("part", "/annotate a.txt", parent="whole"),
        Event("step", "part", step),
        ended("success", "answer", run="part"),
        ended("success", "answer; all valid", run="whole", tokens=0),
    ]
    err = io.StringIO()
    plain = terminal.choose(as_json=False, quiet=False, out=io.StringIO(), err=err)
    for event in events:
        plain(event)
    assert (on_screen(*events) if at_terminal else err.getvalue()).splitlines() == [
        "● two papers · local (you gave --model) · run whole",
        "! [1/2] A paper",
        "  ■ success · 1.0 s · 20 tokens",
        "■ success: all valid · 1.0 s",
    ]


@pytest.mark.parametrize("at_terminal", [True, False])
def test_a_phase_is_told_in_full_and_a_sub_agent_by_its_ends(at_terminal: bool) -> None:
    step = {"number": 1, "seconds": 0.4, "prompt_tokens": 9, "completion_tokens": 1}
    events = [
        begun("phase", "greet", parent="job", rule="phase"),
        Event("step", "phase", step),
        begun("one", "look", parent="phase", rule="delegated"),
        begun("two", "ask", parent="phase", rule="delegated"),
        Event("step", "one", step),
        Event("text", "one", {"text": "both at once"}),
        Event("thought", "two", {"text": "both at once"}),
        ended("success", "answer", run="two"),
        ended("failure", "no reply", run="one"),
        ended("success", "job_complete", run="phase", tokens=60),
    ]
    err = io.StringIO()
    plain = terminal.choose(as_json=False, quiet=False, out=io.StringIO(), err=err)
    for event in events:
        plain(event)
    assert (on_screen(*events) if at_terminal else err.getvalue()).splitlines() == [
        "● greet · local (you gave --model) · run phase",
        "  step 1 · 0.40 s · 9+1 tokens",
        "  ● look · local (you gave --model) · run one",
        "  ● ask · local (you gave --model) · run two",
        "  ■ success · 1.0 s · 20 tokens · run two",
        "  ■ failure: no reply · 1.0 s · 20 tokens · run one",
        "■ success: job_complete · 1.0 s · 60 tokens",
    ]


def test_an_answer_that_did_not_stream_is_shown() -> None:
    err = Screen()
    terminal.choose(as_json=False, quiet=False, out=Screen(), err=err)(Event("answer", "", {"text": "# Title\n\ntext"}))
    assert "Title" in err.getvalue()
    assert "text" in err.getvalue()


def test_a_piped_answer_goes_to_the_pipe_while_a_person_watches() -> None:
    out = io.StringIO()
    terminal.choose(as_json=False, quiet=False, out=out, err=Screen())(Event("answer", "", {"text": "the answer"}))
    assert out.getvalue() == "the answer\n"


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x1b]0;title\x07", "\r", "\x9b31m", "\u202e"])
def test_what_a_model_writes_cannot_steer_the_terminal(hostile: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    sink = terminal.choose(as_json=False, quiet=False, out=out, err=err)
    sink(Event("answer", "", {"text": f"a{hostile}b"}))
    sink(Event("action", "", {"id": "c", "name": "f", "arguments": {"x": f"a{hostile}b"}}))
    sink(Event("notice", "", {"text": f"a{hostile}b"}))
    for char in ("\x1b", "\x07", "\r", "\x9b", "\u202e"):
        assert char not in out.getvalue() + err.getvalue()


def test_rich_markup_in_a_models_words_is_shown_not_obeyed() -> None:
    text = Event("text", "", {"text": "[bold]x[/bold]"})
    assert "[bold]x[/bold]" in on_screen(text, ended("success", "answer"))


def test_the_screen_runs_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "agent.terminal"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert "notes.txt has **2** lines." in done.stdout
    assert "step 1" in done.stderr


def test_a_tools_name_cannot_steer_the_terminal() -> None:
    evil = "f\x1b]0;owned\x07\x1b[2J\n■ success"
    for kind, data in (
        ("action", {"id": "c", "name": evil, "arguments": {}}),
        ("observation", {"id": "c", "name": evil, "content": "no", "is_error": True, "seconds": 0.1}),
    ):
        line = terminal.summary(Event(kind, "id1", data))  # type: ignore[arg-type]
        assert ("\x1b" in line, "\n" in line) == (False, False)


def test_what_a_run_is_called_cannot_steer_the_terminal() -> None:
    evil = "f\x1b]0;owned\x07\x1b[2J"
    for kind, data in (
        ("run", {"task": "t", "model": evil, "reason": evil, "skills": []}),
        ("skill", {"name": "s", "reason": evil}),
    ):
        assert "\x1b" not in terminal.summary(Event(kind, "id1", data))  # type: ignore[arg-type]
