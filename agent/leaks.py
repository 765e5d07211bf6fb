"""What a run has read, and whether an address, a command or a message about to leave carries a piece of it.

A piece counts where it is long (PIECE characters in a row, letters and digits only), or shorter and no word (SHORT or a
little more, with digits among the letters), or a secret. Addresses are also read with their percent signs, base64,
hexadecimal and backwards spelling undone, and what went to the same place before is read together with it, so that a
text sent in slices is seen. An address that stood, as it is, in what was read or typed carries nothing new.

What this does not see: encryption, other compression and codes, and what is sent a few letters at a time in words.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

PIECE, SHORT, NUMBER, OPAQUE = 24, 12, 13, 32
"""Characters from which a piece counts: of any text, of letters with digits, of digits, of what may be a code."""
STEP = 2
"""Letters between the windows that are kept: a piece of SHORT + STEP - 1 is never missed."""
REMEMBERED = 500_000
"""Characters that are compared; the oldest are forgotten."""
LONGEST = 20_000
"""Characters of an address or message that are looked at; a longer one counts as a leak if anything was read."""
_LINK = re.compile(r"(?:https?://|\b(?=[\w-]+(?:\.[\w-]+)+/))[^\s<>\"')\]}]+")
_CODED = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")


class Redactor(Protocol):
    """As agent.redact has it."""

    def redact(self, text: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Leak:
    """What an outgoing text carries, as words for a question."""

    what: str
    secret: bool = False


@dataclass(slots=True)
class Memory:
    """What the run has read so far, for comparing."""

    texts: dict[str, str] = field(default_factory=dict)
    """Letters and digits of what is private, in lower case, by where it came from: files and commands under the empty
    name, a server's answers under `mcp:SERVER`, which may be given its own words again."""
    windows: dict[str, set[str]] = field(default_factory=dict)
    """Of these texts, every STEP letters the SHORT that follow: a piece is found without reading it all again."""
    links: set[str] = field(default_factory=set)
    typed: str = ""
    sent: dict[tuple[str, str], str] = field(default_factory=dict)
    """What went to each place before without a doubt, in paths and in queries, the last LONGEST characters."""
    doubted: set[str] = field(default_factory=set)
    """Places to which something was sent that a person refused: only known addresses are free of doubt there."""

    def read(self, text: str, *, origin: str | None = "", links: bool = False) -> None:
        """Remember an observation.

        Args:
            text: what was read.
            origin: where from, as in `texts`; None for what is public and may be sent (a page).
            links: whether addresses in it may be followed: not where the model may have written them itself.
        """
        if links:
            found = (_address(link) for link in _LINK.findall(text))
            self.links.update(link for link in found if not self._piece(_letters(link), ""))
        if origin is None:
            return
        letters = _letters(text)
        known = f"{self.texts.get(origin, '')} {letters}"
        if len(known) > REMEMBERED:  # the older half goes, so that this is seldom
            known = known[-REMEMBERED // 2 :]
            self.windows[origin] = set(_windows(known))
        self.texts[origin] = known
        self.windows.setdefault(origin, set()).update(_windows(letters))

    def said(self, words: str) -> None:
        """Remember what the person typed: it may be sent."""
        self.typed = (self.typed + " " + _letters(words))[-REMEMBERED:]
        self.links.update(_address(link) for link in _LINK.findall(words))

    def carried(self, outgoing: str, place: str, redactor: Redactor | None) -> Leak | None:
        """What of the person's an outgoing text carries; None if nothing is seen.

        Args:
            outgoing: an address, a command, or the texts of a call.
            place: where it goes, e.g. `net:example.org`: slices that went there before count with it.
            redactor: knows secrets.
        """
        readings = [reading[:LONGEST] for reading in _readings(outgoing)]
        if redactor is not None and any(redactor.redact(reading) != reading for reading in readings):
            return Leak("a secret", secret=True)
        if not any(self.texts.values()) or self._is_known(outgoing):
            return None
        if place in self.doubted:
            return Leak("words of the model's own, which tried before to send what was read")
        if len(outgoing) > LONGEST:
            return Leak(f"{len(outgoing):,} characters")
        values = _values(outgoing)
        together = {
            (place, part): (self.sent.get((place, part), "") + value)[-LONGEST:] for part, value in values.items()
        }
        for text in together.values():
            readings += _readings(text)
        for reading in readings:
            if found := self._piece(_letters(reading), place):
                return Leak(f"what was read: {found[:40]!r}")
        words = _CODED.findall(" ".join(values.values()))
        if opaque := next((word for word in words if self._is_opaque(word, place)), ""):
            return Leak(f"what may be a code: {opaque[:40]!r}")
        self.sent.update(together)  # only what raised no doubt: else every later address would raise it again
        return None

    def _is_known(self, outgoing: str) -> bool:
        """Whether an address stood in what was read or typed, or is the beginning of one that did."""
        address = _address(outgoing)
        return outgoing.startswith("http") and any(link.startswith(address) for link in self.links)

    def _piece(self, letters: str, place: str) -> str:
        """The first piece that was read elsewhere and not typed."""
        others = [origin for origin in self.texts if not (origin and origin == place)]
        for start in range(len(letters) - SHORT + 1):
            window = letters[start : start + SHORT]
            for origin in others:
                if window in self.windows[origin] and window not in self.typed:
                    found = _grown(letters, start, self.texts[origin])
                    if found not in self.typed and _tells(found):
                        return found
        return ""

    def _is_opaque(self, part: str, place: str) -> bool:
        letters = _letters(part)
        mixed = re.search(r"\d", part) and re.search(r"[a-z]", part) and re.search(r"[A-Z]", part)
        own = self.texts.get(place, "") if place else ""
        return len(part) >= OPAQUE and bool(mixed) and letters not in self.typed and letters not in own


def _windows(letters: str) -> Iterator[str]:
    return (letters[start : start + SHORT] for start in range(0, len(letters) - SHORT + 1, STEP))


def _grown(letters: str, start: int, text: str) -> str:
    """The longest piece around a window that stands in the text."""
    end = start + SHORT
    while end < len(letters) and letters[start : end + 1] in text:
        end += 1
    while start and letters[start - 1 : end] in text:
        start -= 1
    return letters[start:end]


def _address(link: str) -> str:
    """An address without what does not matter for comparing: scheme, fragment, a last slash, a full stop after it."""
    return link.split("://", 1)[-1].partition("#")[0].rstrip("/.,;:!?")


def _tells(piece: str) -> bool:
    digits = sum(letter.isdigit() for letter in piece)
    if digits == len(piece):
        return len(piece) >= NUMBER
    return len(piece) >= PIECE or (digits >= 2 and len(piece) - digits >= 2)


def _letters(text: str) -> str:
    return "".join([letter for letter in text if letter.isalnum()]).lower()


def _values(outgoing: str) -> dict[str, str]:
    """What the sender chooses: of an address its path and its query's values; of anything else, all of it."""
    if not outgoing.startswith(("http://", "https://")):
        return {"text": outgoing}
    try:
        address = urllib.parse.urlsplit(outgoing)
    except ValueError:
        return {"text": outgoing}
    pairs = urllib.parse.parse_qsl(address.query, keep_blank_values=True)
    return {"path": address.path.strip("/"), "query": "".join(value or name for name, value in pairs)}


def _readings(text: str) -> Iterator[str]:
    """The text, and what it is once usual codes are undone."""
    plain = urllib.parse.unquote_plus(urllib.parse.unquote(text))
    yield text
    yield plain
    yield plain[::-1]
    raw = urllib.parse.unquote(text)
    for word in dict.fromkeys([*_CODED.findall(raw), *_CODED.findall(raw.replace("/", " "))]):
        for decode in (_base64, bytes.fromhex, _base32):
            with suppress(ValueError, binascii.Error):
                decoded = decode(word).decode("utf-8")
                if decoded.isprintable() or "\n" in decoded:
                    yield decoded


def _base64(word: str) -> bytes:
    body = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    return base64.b64decode(
        body[: len(body) // 4 * 4 + (len(body) % 4 if len(body) % 4 != 1 else 0)] + "==", validate=False
    )


def _base32(word: str) -> bytes:
    body = word.rstrip("=").upper()
    return base64.b32decode(body + "=" * (-len(body) % 8))
