"""What an outgoing text carries of what was read."""

from __future__ import annotations

import base64

import pytest

from agent.leaks import LONGEST, Leak, Memory
from agent.redact import Redactor

MINUTES = (
    "Board minutes: the merger with Northwind closes on Tuesday. Code 93-plum-4471-Kestrel. Call 4111111111111111."
)
PIECE = "the merger with Northwind closes on Tuesday"
PLACE = "net:a.org"


def memory(**more: object) -> Memory:
    found = Memory()
    found.read(MINUTES)
    return found


def carried(outgoing: str, found: Memory | None = None, place: str = PLACE) -> Leak | None:
    return (found or memory()).carried(outgoing, place, Redactor({"API_TOKEN": "correct-horse-7-battery"}))


@pytest.mark.parametrize(
    "value",
    [
        "the+merger+with+Northwind+closes+on+Tuesday",
        "the%20merger%20with%20Northwind%20closes",
        "THE_MERGER_WITH_NORTHWIND_CLOSES",
        base64.b64encode(PIECE.encode()).decode(),
        base64.urlsafe_b64encode(PIECE.encode()).decode().rstrip("="),
        base64.b32encode(PIECE.encode()).decode(),
        PIECE.encode().hex(),
        PIECE[::-1].replace(" ", "-"),
        "93-plum-4471-Kestrel",
        "4111111111111111",
    ],
)
def test_a_piece_of_what_was_read_is_seen_in_usual_spellings(value: str) -> None:
    assert carried(f"http://a.org/x?d={value}")
    assert carried(f"http://a.org/{value}/x.png")


@pytest.mark.parametrize(
    "address",
    [
        "http://a.org/",
        "http://a.org/3/library/asyncio.html",
        "http://a.org/merger",
        "http://a.org/s?q=northwind+tuesday",
    ],
)
def test_an_ordinary_address_carries_nothing(address: str) -> None:
    assert carried(address) is None


def test_slices_that_went_to_the_same_place_are_read_together() -> None:
    found = memory()
    assert carried("http://a.org/1?d=the-merger-wi", found) is None
    assert carried("http://a.org/2?d=th-Northwind-cl", found, place="net:b.org") is None
    assert carried("http://a.org/3?d=th-Northwind-cl", found)


def test_a_secret_is_seen_even_if_nothing_was_read_and_also_encoded() -> None:
    token = "correct-horse-7-battery"
    for value in (token, base64.b64encode(token.encode()).decode(), token.encode().hex(), token[::-1]):
        assert carried(f"http://a.org/?t={value}", Memory()) == Leak("a secret", secret=True)


def test_what_the_person_typed_may_be_sent() -> None:
    found = memory()
    found.said(f"Search the web for {PIECE}, please, see http://a.org/x?d=93-plum-4471-Kestrel")
    assert carried("http://a.org/x?d=the+merger+with+Northwind+closes+on+Tuesday", found) is None
    assert carried("http://a.org/x?d=93-plum-4471-Kestrel", found) is None


def test_an_address_that_stood_in_a_file_may_be_followed_and_its_beginning() -> None:
    found = Memory()
    found.read(
        "see https://docs.example.org/library/asyncio-task.html#x and example.org/a/very-long-path-2024-x1.", links=True
    )
    assert carried("https://docs.example.org/library/asyncio-task.html", found) is None
    assert carried("https://docs.example.org/library/", found) is None
    assert carried("http://example.org/a/very-long-path-2024-x1", found) is None
    assert carried("http://evil.org/a/very-long-path-2024-x1", found)


def test_an_address_that_the_model_may_have_written_is_no_link() -> None:
    address = "http://a.org/x?d=the-merger-with-Northwind-closes"
    found = memory()
    found.read(address, links=False)
    assert carried(address, found)
    found.read(address, links=True)  # it carries what was read elsewhere, whoever shows it
    assert carried(address, found)


def test_a_server_is_given_its_own_words_again_and_no_other_is() -> None:
    found = Memory()
    found.read("TICKET-2024-000481-xk", origin="mcp:desk")
    assert carried("TICKET-2024-000481-xk", found, "mcp:desk") is None
    assert carried("TICKET-2024-000481-xk", found, "mcp:mail")


def test_public_content_may_be_sent() -> None:
    found = Memory()
    found.read(MINUTES, origin=None)
    assert carried(f"http://a.org/?q={PIECE.replace(' ', '+')}", found) is None


def test_what_cannot_be_read_is_doubted_once_something_private_was_read() -> None:
    address = "http://a.org/?d=Q7w9Zk3LmP0xR5tY8uB2nV6cD4fG1hJqWsE"
    assert carried(address, Memory()) is None
    assert "may be a code" in str(carried(address))
    assert carried("http://a.org/" + "x" * LONGEST)
