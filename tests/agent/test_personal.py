"""Placeholders for personal data and secrets."""

from __future__ import annotations

import pytest

from agent.errors import ToolError
from agent.personal import Placeholders
from agent.redact import Redactor

REDACTOR = Redactor({"API_TOKEN": "correct-horse-battery"})


def masked(text: str, found: Placeholders | None = None, personal: bool = True) -> str:
    return (found or Placeholders()).mask(text, REDACTOR, personal=personal)


@pytest.mark.parametrize(
    ("value", "placeholder"),
    [
        ("anna.berg+x@mail.example.org", "[EMAIL-1]"),
        ("+49 170 5550123", "[PHONE-1]"),
        ("(415) 555-0132", "[PHONE-1]"),
        ("415-555-0132", "[PHONE-1]"),
        ("4111 1111 1111 1111", "[CARD-1]"),
        ("5555555555554444", "[CARD-1]"),
        ("DE89 3704 0044 0532 0130 00", "[IBAN-1]"),
        ("GB29NWBK60161331926819", "[IBAN-1]"),
        ("correct-horse-battery", "[SECRET-1]"),
    ],
)
def test_a_value_becomes_a_placeholder_and_again_itself(value: str, placeholder: str) -> None:
    found = Placeholders()
    for text in (f"Anna;{value};Berlin", f"it is {value}.", value):
        assert masked(text, found) == text.replace(value, placeholder)
        assert found.restore(masked(text, found)) == text


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # fails Luhn
        "GB28NWBK60161331926819",  # fails its check sum
        "1700000000000",  # milliseconds
        "2024-01-02, 1,234,567 rows, 3.14159265358979",
        "@pytest.fixture and git@host.org:a/b.git",
        "arXiv:2402.11651, version 1.2.3.4, 10.1000/182",
        "0x1F and 12345678901234567890123",
    ],
)
def test_what_only_looks_alike_is_left(text: str) -> None:
    assert masked(text) == text


def test_the_same_value_has_the_same_placeholder_and_another_the_next() -> None:
    found = Placeholders()
    assert masked("a@b.org c@d.org a@b.org", found) == "[EMAIL-1] [EMAIL-2] [EMAIL-1]"
    assert masked("c@d.org", found) == "[EMAIL-2]"


def test_what_the_person_typed_is_left() -> None:
    found = Placeholders()
    found.said("write to a@b.org")
    assert masked("a@b.org, c@d.org", found) == "a@b.org, [EMAIL-1]"


def test_secrets_go_even_where_personal_data_is_kept() -> None:
    assert masked("a@b.org correct-horse-battery", personal=False) == "a@b.org [SECRET-1]"


def test_a_private_key_goes_for_good() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
    assert "MIIE" not in masked(key)


def test_file_tools_get_the_values_and_others_are_refused() -> None:
    found = Placeholders()
    masked("a@b.org", found)
    arguments = {"path": "x", "list": ["[EMAIL-1]"], "deep": {"text": "to [EMAIL-1], [EMAIL-9]"}, "n": 1}
    assert found.fill("write_file", "write", arguments) == {
        "path": "x",
        "list": ["a@b.org"],
        "deep": {"text": "to a@b.org, [EMAIL-9]"},
        "n": 1,
    }
    with pytest.raises(ToolError, match=r"\[EMAIL-1\] stands for data that stays"):
        found.fill("fetch_url", "net", {"url": "http://a.org/?m=[EMAIL-1]"})
    assert found.fill("fetch_url", "net", {"url": "http://a.org"}) == {"url": "http://a.org"}
    assert Placeholders().fill("fetch_url", "net", {"url": "[EMAIL-1]"}) == {"url": "[EMAIL-1]"}
