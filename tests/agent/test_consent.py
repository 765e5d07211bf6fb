"""Consent: who may say yes to what."""

from __future__ import annotations

import asyncio

import pytest

from agent.consent import Consent
from agent.errors import ConsentDenied


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
