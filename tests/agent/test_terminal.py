"""What a person sees: plain lines, JSON lines, and a terminal's colours."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from agent import terminal
from agent.messages import Event


class Screen(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


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
    assert "I think." in err


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
    err = Screen()
    sink = terminal.choose(as_json=False, quiet=False, out=Screen(), err=err)
    sink(Event("text", "", {"text": "[bold]x[/bold]"}))
    assert "[bold]x[/bold]" in err.getvalue()


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
