"""The command line from outside: exit codes, where output goes, and what a person is told."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import agent
from agent.commands import traces
from agent.messages import Usage
from agent.traces import RunSummary
from tests.program import hear_interrupts

ROOT = Path(__file__).resolve().parents[2]
AGENT = [sys.executable, str(ROOT / "agent.py")]


def run(*arguments: str, cwd: Path, stdin: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python agent.py ARGUMENTS` in a folder, with no terminal."""
    done = subprocess.run(
        [*AGENT, *arguments],
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=60,
        env=os.environ | environment,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def model(workspace: Path) -> str:
    """The address of a model that reads a.txt and says what is in it."""
    (workspace / "a.txt").write_text("hi\n")
    replies = [
        {"thought": "I look.", "tool_calls": [{"name": "read_file", "arguments": {"path": "a.txt"}}]},
        {"content": "It says hi."},
    ]
    return script(workspace, replies)


def script(folder: Path, replies: list[dict[str, object]]) -> str:
    path = folder / "replies.jsonl"
    path.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    return f"scripted:{path}"


def test_a_task_prints_its_answer_and_nothing_else_on_standard_output(workspace: Path, model: str) -> None:
    done = run("what does a.txt say?", "--model", model, cwd=workspace)
    assert (done.returncode, done.stdout) == (0, "It says hi.\n")
    assert "→ read_file" in done.stderr


def test_json_prints_every_event_as_one_line(workspace: Path, model: str) -> None:
    done = run("--json", "what does a.txt say?", "--model", model, cwd=workspace)
    kinds = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert kinds[0] == "run"
    assert kinds[-2:] == ["end", "answer"]
    assert done.stderr == ""


def test_what_ran_is_on_record(workspace: Path, model: str) -> None:
    run("what does a.txt say?", "--model", model, cwd=workspace)
    shown = run("traces", "show", "last", cwd=workspace)
    assert "task     what does a.txt say?" in shown.stdout
    assert "It says hi." in shown.stdout
    record = json.loads(run("traces", "show", "last", "--json", cwd=workspace).stdout)
    assert [message["role"] for message in record["messages"]] == ["system", "user", "assistant", "tool", "assistant"]


def test_records_are_listed_searched_exported_and_deleted(workspace: Path, model: str) -> None:
    run("what does a.txt say?", "--model", model, cwd=workspace)
    listed = [json.loads(line) for line in run("traces", "list", "--json", cwd=workspace).stdout.splitlines()]
    assert [entry["task"] for entry in listed] == ["what does a.txt say?"]
    assert run("traces", "search", "says hi", cwd=workspace).returncode == 0
    assert run("traces", "search", "nowhere", cwd=workspace).returncode == 1
    assert run("traces", "export", "out.jsonl", cwd=workspace).returncode == 0
    assert json.loads((workspace / "out.jsonl").read_text())["messages"][1]["content"] == "what does a.txt say?"
    again = run("traces", "export", "out.jsonl", cwd=workspace)
    assert again.returncode == 2
    assert "out.jsonl exists" in again.stderr
    kept = run("traces", "delete", "last", cwd=workspace)
    assert kept.returncode == 2
    assert run("traces", "delete", "last", "--yes", cwd=workspace).returncode == 0
    assert run("traces", "list", cwd=workspace).stdout == "no runs\n"
    assert run("traces", "show", "last", cwd=workspace).returncode == 2


def test_a_failed_run_has_an_exit_code(workspace: Path) -> None:
    calls = [{"tool_calls": [{"name": "list_files", "arguments": {}}]}] * 3
    done = run("loop", "--model", script(workspace, calls), cwd=workspace)
    assert done.returncode == 1
    assert "list_files was called three times" in done.stderr


def test_the_step_budget_is_a_flag(workspace: Path, model: str) -> None:
    done = run("x", "--model", model, "--max-steps", "1", cwd=workspace)
    assert done.returncode == 1
    assert "stopped after 1 steps" in done.stderr


def test_an_error_is_a_sentence_a_hint_and_a_code(workspace: Path) -> None:
    done = run("do it", cwd=workspace)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no model is set for this task\n  Set models.default")
    assert done.stdout == ""


def test_an_error_is_an_event_too_with_json(workspace: Path) -> None:
    event = json.loads(run("do it", "--json", cwd=workspace).stdout)
    assert (event["event"], event["kind"]) == ("error", "UsageError")


def test_an_unknown_skill_is_answered_with_the_nearest(workspace: Path) -> None:
    done = run("/anotate paper.txt", "--model", "local", cwd=workspace)
    assert done.returncode == 2
    assert "there is no skill /anotate" in done.stderr
    assert "/annotate" in done.stderr


def test_an_unknown_effect_cannot_be_allowed(workspace: Path, model: str) -> None:
    done = run("x", "--model", model, "--allow", "everything", cwd=workspace)
    assert done.returncode == 2
    assert "--allow everything is not an effect" in done.stderr


def test_standard_input_stands_where_a_dash_stands(workspace: Path) -> None:
    address = script(workspace, [{"content": "seen"}])
    done = run("what is this: -", "--model", address, cwd=workspace, stdin=b"piped words")
    assert (done.returncode, done.stdout) == (0, "seen\n")
    assert "Standard input:\npiped words" in run("traces", "show", "last", cwd=workspace).stdout


def test_without_a_dash_standard_input_is_not_read(workspace: Path) -> None:
    address = script(workspace, [{"content": "seen"}])
    run("what is this", "--model", address, cwd=workspace, stdin=b"piped words")
    assert "piped words" not in run("traces", "show", "last", cwd=workspace).stdout


@pytest.mark.parametrize(
    ("given", "said"), [(b"", "empty"), (b" \n", "empty"), (b"\xff\xfe", "not UTF-8 (byte 0)"), (None, "empty")]
)
def test_unusable_standard_input_is_told(workspace: Path, given: bytes | None, said: str) -> None:
    done = run("-", "--model", "local", cwd=workspace, stdin=given)
    assert done.returncode == 2
    assert said in done.stderr


def test_an_answer_is_saved_where_the_person_said(workspace: Path) -> None:
    address = script(workspace, [{"content": "the answer"}, {"content": "another"}])
    done = run("say something save to out.txt", "--model", address, cwd=workspace)
    assert done.returncode == 0
    assert (workspace / "out.txt").read_text() == "the answer\n"
    assert "user\nsay something\n" in run("traces", "show", "last", cwd=workspace).stdout
    again = run("say something save to out.txt", "--model", address, cwd=workspace)
    assert again.returncode == 2
    assert "out.txt exists" in again.stderr
    assert run("say it save to out.txt", "--overwrite", "--model", address, cwd=workspace).returncode == 0


def test_a_missing_workspace_is_told(workspace: Path) -> None:
    done = run("x", "--workspace", "nowhere", cwd=workspace)
    assert done.returncode == 2
    assert "the workspace nowhere is not a folder" in done.stderr


def test_help_is_short_and_has_examples(workspace: Path) -> None:
    done = run("--help", cwd=workspace)
    assert done.returncode == 0
    assert 'apprentice "/annotate paper.txt save to output.md"' in done.stdout
    assert len(done.stdout.splitlines()) < 50


@pytest.mark.parametrize("command", ["chat", "skills", "tools", "models", "traces", "route", "doctor", "config"])
def test_every_command_has_help_of_its_own(command: str, workspace: Path) -> None:
    done = run(command, "--help", cwd=workspace)
    assert done.returncode == 0
    assert f"usage: apprentice {command}" in done.stdout


def test_listings_are_for_people_and_for_programs(workspace: Path) -> None:
    assert "/annotate (built-in)" in run("skills", cwd=workspace).stdout
    names = [json.loads(line)["name"] for line in run("skills", "--json", cwd=workspace).stdout.splitlines()]
    assert names == ["annotate", "panel", "review", "summarize"]
    assert "read_file [read, concurrent]" in run("tools", cwd=workspace).stdout
    schemas = [json.loads(line) for line in run("tools", "--json", cwd=workspace).stdout.splitlines()]
    assert all(schema["type"] == "function" for schema in schemas)
    assert "ollama:NAME" in run("models", cwd=workspace).stdout
    assert json.loads(run("models", "--json", cwd=workspace).stdout)["configured"]["models.default"] == ""


def test_route_says_which_model_and_why_and_runs_nothing(workspace: Path) -> None:
    done = run("route", "/summarize a.txt", "--model", "anthropic:big", cwd=workspace)
    assert "skill       summarize: you typed /summarize" in done.stdout
    assert "model       anthropic:big: you gave --model" in done.stdout
    assert "leaves this machine" in done.stdout
    decision = json.loads(run("route", "x", "--model", "local", "--json", cwd=workspace).stdout)
    assert (decision["rule"], decision["local"]) == ("flag", True)


def test_a_setting_is_set_in_the_users_file_and_takes_effect(workspace: Path) -> None:
    assert run("config", "set", "models.default", "ollama:a", cwd=workspace).returncode == 0
    assert run("config", "set", "budget.steps", "7", cwd=workspace).returncode == 0
    assert run("config", "set", "models.default", "ollama:b", cwd=workspace).returncode == 0
    shown = run("config", cwd=workspace).stdout
    assert "models.default = 'ollama:b' (default '')" in shown
    assert "budget.steps = 7 (default 20)" in shown
    assert "model       ollama:b: it is models.default" in run("route", "x", cwd=workspace).stdout
    path = Path(run("config", "path", cwd=workspace).stdout.strip())
    assert path.read_text().count("default") == 1


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("models.defalt", "x", "models.default"),
        ("budget.steps", "many", "takes a number"),
        ("work.todos", "maybe", "is true or false"),
        ("budget.steps", "0", "greater than or equal to 1"),
        ("privacy", "closed", "Allowed: open, local-only"),
    ],
)
def test_a_setting_that_does_not_fit_changes_nothing(workspace: Path, key: str, value: str, said: str) -> None:
    done = run("config", "set", key, value, cwd=workspace)
    assert done.returncode == 2
    assert said in done.stderr
    assert not Path(run("config", "path", cwd=workspace).stdout.strip()).exists()


def test_trust_is_not_given_without_a_person(workspace: Path) -> None:
    (workspace / ".apprentice").mkdir()
    (workspace / ".apprentice" / "config.toml").write_text('[models]\ndefault = "anthropic:theirs"\n')
    done = run("config", "trust", cwd=workspace)
    assert done.returncode != 0
    routed = run("route", "x", cwd=workspace)
    assert "no model is set" in routed.stderr
    assert run("config", "untrust", cwd=workspace).stdout.endswith("was not trusted\n")


def test_a_repl_reads_lines_and_keeps_the_conversation(workspace: Path) -> None:
    address = script(workspace, [{"content": "one"}, {"content": "two"}])
    lines = b"first\n/good\nsecond\n/trace\n/new\n/help\n/quit\nnever\n"
    done = run("chat", "--model", address, "--quiet", cwd=workspace, stdin=lines)
    assert done.returncode == 0
    assert "is labelled good" in done.stdout
    assert "one" in done.stdout
    assert "two" in done.stdout
    second = json.loads(run("traces", "show", "last", "--json", cwd=workspace).stdout)
    assert [message["content"] for message in second["messages"][1:]] == ["first", "one", "second", "two"]


def test_labels_need_a_run(workspace: Path) -> None:
    done = run("chat", cwd=workspace, stdin=b"/good\n/trace\n")
    assert "no run to label" in done.stdout
    assert "no run to show" in done.stdout


def test_lines_that_are_piped_into_the_repl_start_no_skill_save_nothing_and_open_no_path(
    workspace: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("what nobody may read")
    reads = {"tool_calls": [{"name": "read_file", "arguments": {"path": str(secret)}}]}
    address = script(workspace, [reads, {"content": "one"}, {"content": "two"}])
    lines = f"look at {secret}\n/annotate {secret} save to out.md\n".encode()
    done = run("chat", "--model", address, "--quiet", "--yes", cwd=workspace, stdin=lines)
    assert done.stdout.splitlines() == ["one", "two"]
    assert not (workspace / "out.md").exists()
    assert "outside the workspace" in run("traces", "show", first(workspace), cwd=workspace).stdout
    last = json.loads(run("traces", "show", "last", "--json", cwd=workspace).stdout)
    assert (last["skills"], last["messages"][-2]["content"]) == ([], f"/annotate {secret} save to out.md")


def first(workspace: Path) -> str:
    """The oldest run on record."""
    id: str = json.loads(run("traces", "list", "--json", cwd=workspace).stdout.splitlines()[-1])["id"]
    return id


def test_a_question_that_ends_like_a_wish_to_save_is_left_whole(workspace: Path) -> None:
    address = script(workspace, [{"content": "Nothing."}])
    assert run("what does this save to disk", "--model", address, cwd=workspace).returncode == 0
    shown = json.loads(run("traces", "show", "last", "--json", cwd=workspace).stdout)
    assert shown["messages"][1]["content"] == "what does this save to disk"
    assert not (workspace / "disk").exists()


def test_an_answer_that_was_cut_is_shown_and_not_saved(workspace: Path) -> None:
    address = script(workspace, [{"content": "one two three"}])
    limit = {"APPRENTICE_MODELS__MAX_TOKENS": "2"}
    done = run("say it save to out.txt", "--model", address, cwd=workspace, **limit)
    assert (done.returncode, done.stdout) == (1, "one two \n")
    assert "nothing was saved to out.txt: the answer was cut at its token limit" in done.stderr
    assert not (workspace / "out.txt").exists()


@pytest.mark.parametrize("task", ["what is 3 - 2", "what does ~approx mean", "~nobody-here/a.txt and 10 / 2"])
def test_words_that_only_look_like_commands_are_words(workspace: Path, task: str) -> None:
    address = script(workspace, [{"content": "Fine."}])
    done = run(task, "--model", address, cwd=workspace)
    assert (done.returncode, done.stdout) == (0, "Fine.\n"), done.stderr


def test_an_error_cannot_steer_the_terminal(workspace: Path) -> None:
    address = script(workspace, [{"error": "fell over\x1b]0;owned\x07\x1b[2J"}])
    done = run("x", "--model", address, "--quiet", cwd=workspace)
    assert done.returncode == 4
    assert "fell over" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_dash_that_waits_for_input_for_ever_can_be_interrupted(workspace: Path) -> None:
    reading, writing = os.pipe()
    command = [sys.executable, str(ROOT / "agent.py"), "what is this: -", "--model", "local"]
    with subprocess.Popen(
        command, cwd=workspace, stdin=reading, stderr=subprocess.PIPE, preexec_fn=hear_interrupts
    ) as child:
        os.write(writing, b"some words, and never an end")
        while fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4) != b"\0" * 4:  # until they are read
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        assert child.wait(5) == 130
        assert child.stderr is not None
        assert b"interrupted" in child.stderr.read()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("typed", "said", "hint"),
    [
        (["doctr"], "there is no command 'doctr'", "Did you mean `apprentice doctor`?"),
        (["trace", "list"], "there is no command 'trace'", "Did you mean `apprentice traces list`?"),
        (["which", "files?"], "a task is one argument", 'Put it in quotes: apprentice "which files?"'),
        (["x", "--modle", "local"], "there is no option --modle", "Did you mean --model?"),
        (["skills", "--jsn"], "there is no option --jsn", "Did you mean --json?"),
        (["skills", "more"], "'more' is more than this command takes", "`apprentice skills --help` shows"),
        (["config", "sett", "a", "b"], "apprentice config has no action 'sett'", "There are: list, set, path"),
        (["config", "set", "a"], "the following arguments are required: VALUE", "`apprentice config set --help`"),
        (["x", "--max-steps", "0"], "--max-steps: '0' is not a whole number from 1", "`apprentice --help`"),
        (["traces", "list", "--limit", "-3"], "--limit: '-3' is not a whole number from 1", "`apprentice traces list"),
        (["x", "--format", "xml"], "--format: invalid choice: 'xml'", "`apprentice --help`"),
    ],
)
def test_a_mistyped_command_line_is_answered_with_what_was_meant(
    typed: list[str], said: str, hint: str, workspace: Path
) -> None:
    done = run(*typed, cwd=workspace)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: {said}")
    assert second.startswith(f"  {hint}")
    event = json.loads(run(*typed, "--json", cwd=workspace).stdout)
    assert (event["event"], event["kind"]) == ("error", "UsageError")


def test_the_version_is_told(workspace: Path) -> None:
    assert run("--version", cwd=workspace).stdout == f"apprentice {agent.__version__}\n"


def test_help_is_a_word_too(workspace: Path) -> None:
    assert run("help", cwd=workspace).stdout == run("--help", cwd=workspace).stdout


def test_route_names_the_skill_even_if_no_model_is_set(workspace: Path) -> None:
    done = run("route", "/summarize a.txt", cwd=workspace)
    assert (done.returncode, done.stdout) == (2, "skill       summarize: you typed /summarize\n")
    assert "error: no model is set for this task" in done.stderr


def test_settings_show_their_default_only_if_changed(workspace: Path) -> None:
    shown = run("config", cwd=workspace, APPRENTICE_BUDGET__STEPS="7").stdout.splitlines()
    assert "budget.steps = 7 (default 20)" in shown
    assert "budget.seconds = 1800" in shown
    assert "" not in shown


def test_runs_are_listed_in_columns_that_fit_the_screen(workspace: Path) -> None:
    def summary(task: str, model: str, parent: str = "") -> RunSummary:
        usage, begun = Usage(), 1_700_000_000.0
        return RunSummary(
            "0123456789ab", parent, task, [], model, "success", "answer", None, {}, usage, begun, begun + 2, 1, "", ""
        )

    rows = [summary("/annotate a.txt", "local", "ba9876543210"), summary("a task\nof two lines", "ollama:qwen3:8b")]
    first, second = (line.split("  success ")[1] for line in traces.table(rows, 200))
    assert first == "   2.0s  local              /annotate a.txt"
    assert second == "   2.0s  ollama:qwen3:8b  a task of two lines"
    narrow = traces.table(rows, 60)
    assert {len(line) for line in narrow} == {60}
    assert all(line.endswith("…") for line in narrow)
    assert traces.table([], 60) == []


@pytest.mark.parametrize(("count", "said"), [(1, "1 run written"), (2, "2 runs written")])
def test_one_run_is_not_runs(count: int, said: str, workspace: Path, model: str) -> None:
    for _ in range(count):
        run("what does a.txt say?", "--model", model, cwd=workspace)
    assert run("traces", "export", "out.jsonl", cwd=workspace).stdout.startswith(said)


def test_a_refused_call_is_told_in_two_sentences(workspace: Path) -> None:
    replies = [{"tool_calls": [{"name": "run_shell", "arguments": {"command": "ls"}}]}, {"content": "no"}]
    done = run("list", "--model", script(workspace, replies), cwd=workspace)
    assert "✗ run_shell: not allowed: run 'ls' in" in done.stderr
    assert ". To allow it, give --allow shell. ·" in done.stderr
