"""The command line from outside: exit codes, where output goes, and what a person is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    lines = b"first\n/good\nsecond\n/trace\n/new\n/nonsense\n/help\n/quit\nnever\n"
    done = run("chat", "--model", address, "--quiet", cwd=workspace, stdin=lines)
    assert done.returncode == 0
    assert "is labelled good" in done.stdout
    assert "one" in done.stdout
    assert "two" in done.stdout
    assert "there is no skill /nonsense" in done.stdout
    second = json.loads(run("traces", "show", "last", "--json", cwd=workspace).stdout)
    assert [message["content"] for message in second["messages"][1:]] == ["first", "one", "second", "two"]


def test_labels_need_a_run(workspace: Path) -> None:
    done = run("chat", cwd=workspace, stdin=b"/good\n/trace\n")
    assert "no run to label" in done.stdout
    assert "no run to show" in done.stdout
