"""The REPL at a real terminal: keys as a person presses them, the screen, and what is on record afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.program import Terminal, calling, record, script

ENTER, ALT_ENTER, TAB, UP, CTRL_C, CTRL_D = "\r", "\x1b\r", "\t", "\x1b[A", "\x03", "\x04"


@contextmanager
def chat(workspace: Path, *replies: dict[str, Any]) -> Iterator[Terminal]:
    """A REPL that has shown its prompt."""
    with Terminal("chat", "--model", script(workspace, replies), cwd=workspace) as terminal:
        terminal.expect("Ctrl-D leaves.")
        terminal.expect(">")
        yield terminal


def say(terminal: Terminal, text: str, ending: str = "■ success") -> None:
    """Type a line and wait until its run is over and the prompt is back."""
    terminal.type(text + ENTER)
    terminal.expect(ending)
    terminal.expect("\n>")


def leave(terminal: Terminal) -> None:
    terminal.type(CTRL_D)
    assert terminal.wait() == 0


def test_lines_are_answered_and_the_conversation_is_kept(workspace: Path) -> None:
    with chat(workspace, {"content": "The first answer."}, {"content": "The second answer."}) as terminal:
        say(terminal, "one")
        say(terminal, "two")
        assert "The second answer." in terminal.output
        leave(terminal)
    said = [message.content for message in record().messages[1:]]
    assert said == ["one", "The first answer.", "two", "The second answer."]


def test_the_first_line_says_which_model_answers(workspace: Path) -> None:
    with Terminal("chat", "--model", "local", cwd=workspace) as terminal:
        terminal.expect("Apprentice with local. /help")
        terminal.expect(">")
        leave(terminal)
    with Terminal("chat", cwd=workspace) as terminal:
        terminal.expect("Apprentice without a model: restart with --model ADDRESS, or set models.default.")
        terminal.expect(">")
        leave(terminal)


def test_ctrl_d_leaves(workspace: Path) -> None:
    with chat(workspace) as terminal:
        leave(terminal)
    assert "Traceback" not in terminal.output


def test_ctrl_c_at_the_prompt_forgets_the_line_and_goes_on(workspace: Path) -> None:
    with chat(workspace, {"content": "fine"}) as terminal:
        terminal.type("half a thought" + CTRL_C)
        terminal.expect("\n>")
        say(terminal, "whole")
        leave(terminal)
    assert record().task == "whole"


def test_tab_completes_the_name_of_a_skill(workspace: Path) -> None:
    (workspace / "paper.txt").write_text("x\n")
    with chat(workspace) as terminal:
        terminal.type("/anno" + TAB)
        terminal.expect("/annotate")
        terminal.type(" paper.txt" + ENTER)
        terminal.expect("skill annotate: you typed /annotate")
        terminal.expect("\n>")
        leave(terminal)


def test_tab_completes_a_command_of_the_repl(workspace: Path) -> None:
    with chat(workspace) as terminal:
        terminal.type("/hel" + TAB)
        terminal.expect("/help")
        terminal.type(ENTER)
        terminal.expect("label the last run")
        terminal.expect("\n>")
        leave(terminal)


def test_alt_enter_starts_a_new_line_and_enter_sends_them(workspace: Path) -> None:
    with chat(workspace, {"content": "three lines"}) as terminal:
        say(terminal, f"first{ALT_ENTER}second{ALT_ENTER}third")
        leave(terminal)
    assert record().task == "first\nsecond\nthird"


def test_the_history_is_kept_in_a_file_and_the_up_arrow_brings_it_back(workspace: Path) -> None:
    with chat(workspace, {"content": "fine"}) as terminal:
        say(terminal, "what I asked")
        leave(terminal)
    path = Path(os.environ["APPRENTICE_CACHE_DIR"]) / "chat_history"
    assert "+what I asked\n" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0, "nobody else reads what was typed"
    with chat(workspace, {"content": "again"}) as terminal:
        say(terminal, UP + " later")
        leave(terminal)
    assert record().task == "what I asked later"


def test_ctrl_c_stops_the_step_keeps_its_record_and_the_repl_goes_on(workspace: Path) -> None:
    with chat(workspace, {"content": "never said", "delay": 60}, {"content": "I am still here."}) as terminal:
        terminal.type("take your time" + ENTER)
        terminal.expect("● take your time")
        time.sleep(0.2)
        started = time.monotonic()
        terminal.type(CTRL_C)
        terminal.expect("stopped; what was done is on record")
        assert time.monotonic() - started < 2
        stopped = record()
        say(terminal, "are you there?")
        assert "I am still here." in terminal.output
        leave(terminal)
    assert (stopped.task, stopped.outcome, stopped.reason) == ("take your time", "unknown", "cancelled")
    assert [message.content for message in record().messages[1:]] == ["are you there?", "I am still here."]


def test_a_command_of_the_models_is_asked_about_between_two_prompts(workspace: Path) -> None:
    call = calling("run_shell", command="touch ran")
    with chat(workspace, call, {"content": "refused"}, call, {"content": "done"}) as terminal:
        for answer, exists in (("n", False), ("y", True)):
            terminal.type("run it" + ENTER)
            terminal.expect("Allow shell: run 'touch ran'")
            terminal.expect("[y/N]")
            say(terminal, answer)
            assert (workspace / "ran").exists() == exists
        leave(terminal)


def test_ctrl_c_at_a_question_stops_the_step(workspace: Path) -> None:
    with chat(workspace, calling("run_shell", command="touch ran"), {"content": "here"}) as terminal:
        terminal.type("run it" + ENTER)
        terminal.expect("[y/N]")
        terminal.type(CTRL_C)
        terminal.expect("\n■ interrupted")
        terminal.expect("stopped; what was done is on record")
        say(terminal, "and now?")
        leave(terminal)
    assert not (workspace / "ran").exists()
    assert record().task == "and now?"


def test_runs_are_labelled_and_shown(workspace: Path) -> None:
    with chat(workspace, {"content": "the answer"}) as terminal:
        say(terminal, "question")
        terminal.type("/good" + ENTER)
        terminal.expect("is labelled good")
        terminal.type("/trace" + ENTER)
        terminal.expect("outcome  success: answer")
        terminal.type("/nonsense" + ENTER)
        terminal.expect("there is no skill /nonsense\r\n  `apprentice skills` lists them")
        terminal.type("/quit" + ENTER)
        assert terminal.wait() == 0
    assert record().labels == {"verdict": "good"}


def test_a_model_that_fails_is_told_and_the_repl_goes_on(workspace: Path) -> None:
    with chat(workspace, {"error": "it fell over"}, {"content": "up again"}) as terminal:
        say(terminal, "one", "error: ")
        say(terminal, "two")
        assert "it fell over" in terminal.output
        leave(terminal)
    assert record().outcome == "success"


def test_a_history_that_cannot_be_written_stops_nobody(workspace: Path) -> None:
    Path(os.environ["APPRENTICE_CACHE_DIR"]).write_text("a file, where a folder should be")
    with chat(workspace, {"content": "fine"}) as terminal:
        say(terminal, "hello")
        leave(terminal)
    assert record().task == "hello"
