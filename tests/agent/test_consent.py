"""Consent: who may say yes to what."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.consent import Consent
from agent.errors import ConsentDenied
from agent.policy import Rules
from agent.redact import Redactor
from agent.settings import Rule


class Person:
    """Answers every question the same way, and remembers the questions."""

    def __init__(self, answer: bool) -> None:
        self.answer, self.asked = answer, list[str]()
        self.busy = False

    async def __call__(self, question: str) -> bool:
        assert not self.busy, "two questions at once"
        self.busy = True
        self.asked.append(question)
        await asyncio.sleep(0.01)
        self.busy = False
        return self.answer


def require(consent: Consent, effect: str, detail: str = "the detail") -> None:
    asyncio.run(consent.require(effect, detail))


@pytest.mark.parametrize(
    ("effect", "flag"), [("write", "--yes"), ("shell", "--allow shell"), ("net:a.org", "--allow net:a.org")]
)
def test_without_a_terminal_and_a_flag_the_answer_is_no_and_names_the_flag(effect: str, flag: str) -> None:
    with pytest.raises(ConsentDenied, match="not allowed: the detail") as caught:
        require(Consent(), effect)
    assert flag in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("how", "effect", "hint"),
    [
        ("begin anew with", "shell", "To allow it, begin anew with --allow shell."),
        ("begin anew with", "write", "To allow it, begin anew with --yes."),
        ("", "shell", "Only a person at a terminal can allow this."),
    ],
)
def test_the_hint_says_what_a_person_can_do_where_they_are(how: str, effect: str, hint: str) -> None:
    with pytest.raises(ConsentDenied) as caught:
        require(Consent(how=how).on_behalf_of("Sub-agent 1"), effect)
    assert caught.value.hint == hint


def test_yes_covers_writing_and_nothing_else() -> None:
    consent = Consent(yes=True)
    require(consent, "write")
    for effect in ("shell", "net:a.org"):
        with pytest.raises(ConsentDenied):
            require(consent, effect)


def test_an_allowed_effect_is_not_asked_about() -> None:
    person = Person(False)
    consent = Consent(allowed=frozenset(["shell", "net:a.org"]), ask=person)
    require(consent, "shell")
    require(consent, "net:a.org")
    assert person.asked == []


@pytest.mark.parametrize("host", ["net:b.org", "net:a.org.evil.net", "net:sub.a.org"])
def test_one_host_allowed_is_no_other_host_allowed(host: str) -> None:
    with pytest.raises(ConsentDenied):
        require(Consent(allowed=frozenset(["net:a.org"])), host)


def test_a_person_is_shown_what_would_happen_and_decides() -> None:
    person = Person(True)
    require(Consent(ask=person), "shell", "rm -r build")
    assert person.asked == ["Allow shell: rm -r build?"]
    with pytest.raises(ConsentDenied):
        require(Consent(ask=Person(False)), "shell", "rm -r build")


def test_every_command_and_every_write_is_asked_about_anew() -> None:
    person = Person(True)
    consent = Consent(ask=person)
    for effect in ("shell", "shell", "write", "write"):
        require(consent, effect)
    assert len(person.asked) == 4


@pytest.mark.parametrize("answer", [True, False])
def test_an_answer_about_a_host_holds_for_the_session(answer: bool) -> None:
    person = Person(answer)
    consent = Consent(ask=person)
    for _ in range(2):
        if answer:
            require(consent, "net:a.org")
        else:
            with pytest.raises(ConsentDenied):
                require(consent, "net:a.org")
    assert len(person.asked) == 1
    assert consent.answers == {"net:a.org": answer}


def test_effects_at_the_same_time_are_asked_one_by_one_and_a_host_once() -> None:
    person = Person(True)
    consent = Consent(ask=person)

    async def at_once() -> None:
        await asyncio.gather(*(consent.require(effect, effect) for effect in ("net:a.org", "net:a.org", "net:b.org")))

    asyncio.run(at_once())
    assert sorted(person.asked) == ["Allow net:a.org: net:a.org?", "Allow net:b.org: net:b.org?"]


def test_local_only_refuses_the_network_whoever_allows_it() -> None:
    person = Person(True)
    consent = Consent(yes=True, allowed=frozenset(["net:a.org"]), ask=person, local_only=True)
    with pytest.raises(ConsentDenied, match="local-only"):
        require(consent, "net:a.org")
    assert person.asked == []
    require(consent, "shell")


def exposed(**given: Any) -> Consent:
    """Consent after content from outside was read."""
    consent = Consent(**given)
    consent.taint.expose("fetch_url", 1.0)
    return consent


@pytest.mark.parametrize("effect", ["shell", "net:a.org", "mcp:mail"])
def test_after_content_from_outside_what_was_allowed_is_asked_about(effect: str) -> None:
    with pytest.raises(ConsentDenied, match="content from outside was read: fetch_url") as caught:
        require(exposed(allowed=frozenset([effect])), effect)
    assert caught.value.hint == f"To allow it, give --allow-after-outside {effect}."
    require(exposed(after_outside=frozenset([effect])), effect)
    require(exposed(rules=Rules([Rule(action="allow", tool="*", after_outside=True)])), effect)
    with pytest.raises(ConsentDenied):
        require(exposed(rules=Rules([Rule(action="allow", tool="*")])), effect)


def test_an_answer_from_before_is_asked_for_once_more_and_then_holds() -> None:
    person = Person(True)
    consent = Consent(ask=person)
    require(consent, "net:a.org")
    consent.taint.expose("fetch_url", 1.0)
    for _ in range(3):
        require(consent, "net:a.org")
    assert len(person.asked) == 2


def test_another_task_is_not_exposed_to_what_this_one_read_and_answers_about_that_do_not_hold_for_it() -> None:
    person = Person(True)
    consent = exposed(ask=person, allowed=frozenset(["net:a.org"]))
    require(consent, "net:a.org")
    other = consent.for_another_task()
    require(other, "net:a.org")
    assert len(person.asked) == 1
    other.taint.expose("fetch_url", 1.0)
    require(other, "net:a.org")
    assert len(person.asked) == 2
    consent.taint.left = True
    assert consent.for_another_task() is consent


def test_after_content_from_outside_each_tool_of_a_server_is_asked_about_once() -> None:
    person = Person(True)
    consent = exposed(ask=person, allowed=frozenset(["mcp:mail"]))

    async def go() -> None:
        for name in ("mail__list", "mail__list", "mail__send"):
            bound = await consent.for_call(name, "mcp", {})
            await bound.require("mcp:mail", name)

    asyncio.run(go())
    assert len(person.asked) == 2


def test_writing_needs_no_other_consent_after_content_from_outside() -> None:
    require(exposed(yes=True), "write")


def test_a_command_that_uses_the_network_needs_both_in_one_question() -> None:
    person = Person(True)
    asyncio.run(Consent(ask=person).require("shell", "run it", command="curl x"))
    assert person.asked == ["Allow shell and net:shell: run it (it uses the network: 'curl')?"]
    with pytest.raises(ConsentDenied) as caught:
        asyncio.run(Consent(allowed=frozenset(["shell"])).require("shell", "run it", command="curl x"))
    assert caught.value.hint == "To allow it, give --allow net:shell."
    asyncio.run(Consent(allowed=frozenset(["shell", "net:shell"])).require("shell", "run it", command="curl x"))
    with pytest.raises(ConsentDenied, match="privacy is local-only"):
        asyncio.run(Consent(ask=person, local_only=True).require("shell", "run it", command="curl x"))


def test_what_carries_what_was_read_is_asked_about_each_time_though_its_host_is_allowed() -> None:
    person = Person(True)
    consent = Consent(ask=person, allowed=frozenset(["net:a.org"]), after_outside=frozenset(["net:a.org"]))
    consent.taint.memory.read("the merger closes on Tuesday at nine")
    for _ in range(2):
        asyncio.run(consent.require("net:a.org", "fetch", sent="http://a.org/?q=merger-closes-on-Tuesday-at-nine"))
    asyncio.run(consent.require("net:a.org", "fetch", sent="http://a.org/index"))
    assert len(person.asked) == 2
    assert "it carries what was read: 'mergerclosesontuesdayatnine'" in person.asked[0]


def test_without_a_person_nothing_that_carries_a_secret_leaves() -> None:
    consent = Consent(allowed=frozenset(["mcp:mail"]), redactor=Redactor({"API_TOKEN": "correct-horse"}))

    async def go(text: str) -> None:
        bound = await consent.for_call("mail__send", "mcp", {"to": ["x", {"y": text}]})
        await bound.require("mcp:mail", "send")

    asyncio.run(go("hello"))
    with pytest.raises(ConsentDenied, match="it carries a secret") as caught:
        asyncio.run(go("it is correct-horse"))
    assert caught.value.hint == "Only a person at a terminal can allow this."


def test_the_names_of_files_are_no_contents(workspace: Path) -> None:
    (workspace / "training").mkdir()
    (workspace / "training" / "commands-improve-2024.py").write_text("")
    consent = Consent(allowed=frozenset(["shell", "net:shell"]), rules=Rules(root=workspace))
    consent.taint.memory.read("training/commands-improve-2024.py\nthe merger closes on Tuesday at nine")
    asyncio.run(consent.require("shell", "x", command="git add training/commands-improve-2024.py && git push"))
    with pytest.raises(ConsentDenied, match="it carries"):
        asyncio.run(consent.require("shell", "x", command="git push 'the merger closes on Tuesday at nine'"))


def test_a_rule_that_denies_beats_a_flag_and_names_itself() -> None:
    consent = Consent(yes=True, rules=Rules([Rule(action="deny", path="private/**")]))
    with pytest.raises(ConsentDenied) as caught:
        asyncio.run(consent.require("write", "write it", path="private/a"))
    assert caught.value.hint == 'A rule says no: the policy rule deny path = "private/**".'
    asyncio.run(consent.require("write", "write it", path="public/a"))


def test_a_rule_that_asks_beats_a_flag_and_is_asked_once_a_call() -> None:
    person = Person(True)
    rules = Rules([Rule(action="ask", tool="run_shell")])
    consent = Consent(ask=person, allowed=frozenset(["shell"]), rules=rules)

    async def go() -> None:
        bound = await consent.for_call("run_shell", "shell", {"command": "ls"})
        await bound.require("shell", "run 'ls'", command="ls")

    asyncio.run(go())
    assert person.asked == [
        'Allow run_shell: call run_shell {"command": "ls"} (the policy rule ask tool = "run_shell")?'
    ]
    with pytest.raises(ConsentDenied, match="not allowed: call run_shell"):
        asyncio.run(Consent(rules=rules, allowed=frozenset(["shell"])).for_call("run_shell", "shell", {}))


def test_a_person_who_said_no_three_times_is_not_asked_again_before_the_next_task() -> None:
    person = Person(False)
    consent = Consent(ask=person)
    for number in range(5):
        with pytest.raises(ConsentDenied, match="not allowed"):
            require(consent, "shell", f"command {number}")
    assert len(person.asked) == 3
    with pytest.raises(ConsentDenied):
        require(consent, "write")
    assert len(person.asked) == 4
    consent.begin("another task")
    with pytest.raises(ConsentDenied):
        require(consent, "shell")
    assert len(person.asked) == 5


def test_nothing_is_hidden_in_a_question() -> None:
    person = Person(True)
    require(Consent(ask=person), "shell", "echo hi" + " " * 400 + "; rm x\n\u202e\x1b[2K")
    assert person.asked == [r"Allow shell: echo hi [400 blanks] ; rm x\n\u202e\x1b[2K?"]
