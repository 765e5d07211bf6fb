"""Policies: which rule decides, and that nothing gets round one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.policy import BUILT_IN, Request, Rules, spelled
from agent.settings import Rule


def rule(action: str, **named: Any) -> Rule:
    return Rule.model_validate({"action": action, **named})


def decided(rules: list[Rule], effect: str = "shell", **named: str) -> str:
    return Rules(rules, Path("/work")).decide(Request(effect, **named)).action


def test_deny_beats_ask_beats_allow_in_any_order() -> None:
    rules = [rule("allow", tool="*"), rule("ask", tool="run_*"), rule("deny", tool="run_shell")]
    for order in (rules, rules[::-1]):
        assert decided(order, tool="run_shell") == "deny"
        assert decided(order, tool="run_other") == "ask"
        assert decided(order, tool="read_file") == "allow"


def test_everything_that_a_rule_names_must_fit() -> None:
    rules = [rule("deny", tool="write_file", path="docs/**")]
    assert decided(rules, "write", tool="write_file", path="docs/a/b.md") == "deny"
    assert decided(rules, "write", tool="edit_file", path="docs/a/b.md") == ""
    assert decided(rules, "write", tool="write_file", path="src/a.md") == ""


@pytest.mark.parametrize(
    "path", ["private/a.txt", "private/b/c.txt", "/work/private/a", "./x/../private/a", "PRIVATE/a", "private//a"]
)
def test_a_denied_folder_is_denied_in_every_spelling(path: str) -> None:
    assert decided([rule("deny", path="private/**")], "read", path=path) == "deny"


def test_a_star_in_a_path_stops_at_a_slash_and_two_do_not() -> None:
    assert decided([rule("allow", path="docs/*.md")], "write", path="docs/a.md") == "allow"
    assert decided([rule("allow", path="docs/*.md")], "write", path="docs/b/a.md") == ""
    assert decided([rule("allow", path="docs/**/*.md")], "write", path="docs/b/c/a.md") == "allow"
    assert decided([rule("allow", path="docs/**/*.md")], "write", path="docs/a.md") == "allow"
    assert decided([rule("allow", path="docs/**")], "write", path="docs/../src/a.md") == ""


def test_a_path_without_a_slash_is_a_name_in_any_folder() -> None:
    assert decided([rule("ask", path=".env")], "read", path="deep/down/.env") == "ask"
    assert decided([rule("ask", path="*.pem")], "read", path="a/b.pem") == "ask"
    assert decided([rule("ask", path=".env")], "read", path="a.env") == ""


def test_hosts_are_compared_without_regard_to_case() -> None:
    assert decided([rule("deny", host="*.Evil.net")], "net:a.evil.NET") == "deny"
    assert decided([rule("deny", host="evil.net")], "net:notevil.net") == ""
    assert decided([rule("deny", host="*")], "shell", command="ls") == ""


@pytest.mark.parametrize(
    "command",
    [
        "git push",
        "cd x && git push",
        "git  push origin",
        "g'i't push",
        "(git push)",
        "env A=1 git push",
        "a=$(git push)",
    ],
)
def test_a_denied_command_is_found_inside_others(command: str) -> None:
    assert decided([rule("deny", command="git push*")], command=command) == "deny"


@pytest.mark.parametrize(
    "command", ["git status; rm x", "git status && rm x", "git status | sh", "git status `rm x`", "git status\nrm x"]
)
def test_an_allowed_command_lets_nothing_ride_along(command: str) -> None:
    rules = [rule("allow", command="git status*")]
    assert decided(rules, command="git status --short") == "allow"
    assert decided(rules, command=command) == ""


def test_built_in_rules_ask_about_credentials_unless_a_rule_of_the_persons_fits() -> None:
    assert decided([], command="cat ~/.ssh/id_rsa") == "ask"
    assert decided([], command="tar -xPf a.tar") == "ask"
    assert decided([], command="cat notes.txt") == ""
    assert decided([rule("allow", command="cat ~/.ssh/config")], command="cat ~/.ssh/config") == "allow"
    assert {built_in.action for built_in in BUILT_IN} == {"ask"}


def test_a_file_that_a_tool_comes_across_is_judged_by_rules_for_paths_alone() -> None:
    rules = Rules([rule("deny", path="private/**"), rule("deny", tool="write_file", path="docs/**")])
    assert rules.on_file("private/a") == "deny"
    assert rules.on_file("docs/a") == ""
    assert Rules().on_file("private/a") == ""


def test_a_verdict_says_which_rule_decided() -> None:
    verdict = Rules([rule("deny", command="git push*", tool="run_shell")]).decide(
        Request("shell", tool="run_shell", command="git push")
    )
    assert verdict.reason == 'the policy rule deny tool = "run_shell", command = "git push*"'
    assert "built-in rule ask" in Rules().decide(Request("shell", command="sudo ls")).reason
    assert Rules().decide(Request("shell", command="ls")).reason == "no rule fits"
    assert spelled(rule("allow", tool="x", after_outside=True)).endswith("also after_outside")
