"""What a model that is not local is shown in place of secrets and personal data: `[EMAIL-1]`, always the same for one.

E-mail addresses, phone numbers (with a country's code, or in the usual national forms), payment cards (Luhn), bank
accounts (IBAN) and secrets (agent/redact.py). What the person typed into the task is left as it is. The placeholders
become the values again where they stay on this machine: in the arguments of tools that read and write files, and in the
answer. Other tools are refused them.

What this does not see: names, street addresses, and anything that only its meaning makes personal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agent.errors import ToolError
from agent.messages import texts, with_texts
from agent.redact import Redactor

_EMAIL = re.compile(r"(?<![\w.+/:-])(?!git@)[\w.+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\d.,-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\d.,-]?\d)")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){5,12}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4}|0\d{2,4}[ /-]\d{6,8})(?![\w-])"
)
_PLACEHOLDER = re.compile(r"\[(?:EMAIL|IBAN|CARD|PHONE|SECRET)-\d+\]")


@dataclass(slots=True)
class Placeholders:
    """The placeholders of one session and what they stand for."""

    values: dict[str, str] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _typed: str = ""

    def said(self, words: str) -> None:
        """What the person typed is left as it is from now on."""
        self._typed += f"\n{words}"

    def mask(self, text: str, redactor: Redactor, *, personal: bool) -> str:
        """The text with placeholders.

        Args:
            text: what the model would be shown.
            redactor: knows secrets; these go in any case.
            personal: whether personal data goes too (`policy.personal = "redact"`).
        """
        spans = [(span.start, span.end) for span in redactor.spans(text)]
        for start, end in reversed(spans):
            text = text[:start] + self._name("SECRET", text[start:end]) + text[end:]
        text = redactor.redact(text)  # private key blocks, which have no span; nothing stands for these
        for kind, pattern, fits in _KINDS if personal else ():
            text = pattern.sub(partial(self._masked, kind, fits), text)
        return text

    def restore(self, text: str) -> str:
        """The text with the values again."""
        return _PLACEHOLDER.sub(lambda found: self.values.get(found[0], found[0]), text)

    def fill(self, tool: str, effect: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A call's arguments with the values again, for a tool that reads or writes files.

        Raises:
            ToolError: another tool would carry such a value off.
        """
        if not self.values:
            return arguments
        held = sorted({name for text in texts(arguments) for name in _PLACEHOLDER.findall(text) if name in self.values})
        if held and effect not in ("read", "write"):
            raise ToolError(
                f"{tool} was not run: {', '.join(held)} stands for data that stays on this machine",
                "Call it without that, or tell the person what to do.",
            )
        filled: dict[str, Any] = with_texts(arguments, self.restore) if held else arguments
        return filled

    def _masked(self, kind: str, fits: Callable[[str], bool], found: re.Match[str]) -> str:
        return self._name(kind, found[0]) if fits(found[0]) and found[0] not in self._typed else found[0]

    def _name(self, kind: str, value: str) -> str:
        if value not in self._names:
            number = sum(name.startswith(f"[{kind}-") for name in self.values) + 1
            self._names[value] = f"[{kind}-{number}]"
            self.values[self._names[value]] = value
        return self._names[value]


def _luhn(text: str) -> bool:
    digits = [int(letter) for letter in text if letter.isdigit()][::-1]
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[1::2]]
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    letters = text.replace(" ", "")
    number = "".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])
    return 15 <= len(letters) <= 34 and int(number) % 97 == 1


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("EMAIL", _EMAIL, lambda _: True),
    ("IBAN", _IBAN, _is_iban),
    ("CARD", _CARD, _luhn),
    ("PHONE", _PHONE, lambda _: True),
)
