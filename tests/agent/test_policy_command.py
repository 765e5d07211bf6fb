"""`apprentice policy`: the dry run asks the gate itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import config_dir
from tests.in_process import typed

RULES = """
[[policy.rules]]
action = "deny"
command = "git push*"

[[policy.rules]]
action = "allow"
tool = "mail__*"

[[policy.rules]]
action = "ask"
path = ".env"
"""


@pytest.fixture(autouse=True)
def rules(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    config_dir().mkdir(parents=True)
    (config_dir() / "config.toml").write_text(RULES)


@pytest.mark.parametrize(
    ("what", "code", "printed"),
    [
        (
            "shell git push origin",
            3,
            'deny: not allowed: shell. A rule says no: the policy rule deny command = "git push*".',
        ),
        ('run_shell {"command": "cd x; git push"}', 3, 'the policy rule deny command = "git push*"'),
        ('run_shell {"command": "ls"}', 0, "ask: Allow shell: run_shell?"),
        (
            'run_shell {"command": "curl x"}',
            0,
            "ask: Allow shell and net:shell: run_shell (it uses the network: 'curl')?",
        ),
        ('mail__send {"text": "x"}', 0, "allow"),
        ('read_file {"path": "a/.env"}', 0, 'the policy rule ask path = ".env"'),
        ('read_file {"path": "a.txt"}', 0, "allow"),
        ("net:a.org", 0, "ask: Allow net:a.org"),
        ('fetch_url {"url": "https://a.org/x"}', 0, "ask: Allow net:a.org: fetch_url?"),
        ('arxiv {"query": "x"}', 0, "ask: Allow net:export.arxiv.org"),
        ("write", 0, "ask: Allow write"),
    ],
)
def test_check_says_what_happens_and_which_rule_decides(
    capsys: pytest.CaptureFixture[str], what: str, code: int, printed: str
) -> None:
    done = typed(capsys, "policy", "check", what)
    assert done.returncode == code, done.stderr
    assert printed in done.stdout


def test_flags_count_as_they_would_in_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "policy", "check", "write", "--yes").stdout == "allow\n"
    assert typed(capsys, "policy", "check", "shell ls", "--allow", "shell").stdout == "allow\n"
    after = typed(capsys, "policy", "check", "shell ls", "--allow", "shell", "--after-outside").stdout
    assert "ask: Allow shell: shell (content from outside was read" in after
    flags = ("--allow-after-outside", "shell", "--after-outside")
    assert typed(capsys, "policy", "check", "shell ls", *flags).stdout == "allow\n"


def test_list_shows_the_rules_and_what_each_tool_meets(capsys: pytest.CaptureFixture[str]) -> None:
    said = typed(capsys, "policy").stdout
    assert 'rule 1: deny command = "git push*"' in said
    assert "read_file [read]: allow" in said
    assert "run_shell [shell]: ask" in said
    assert said == typed(capsys, "policy", "list").stdout


@pytest.mark.parametrize("what", ["nothing", "fly {}", "run_shell {", "run_shell []", "net:a.org more"])
def test_what_cannot_be_read_is_refused_with_the_form_to_use(capsys: pytest.CaptureFixture[str], what: str) -> None:
    done = typed(capsys, "policy", "check", what)
    assert done.returncode == 2
    assert "Write an effect" in done.stderr


def test_local_only_shows_in_the_dry_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPRENTICE_PRIVACY", "local-only")
    assert "deny" in typed(capsys, "policy", "check", "net:a.org").stdout
