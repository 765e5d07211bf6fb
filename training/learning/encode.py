"""A row as tokens, and which of them the model itself says.

The tokens of a prompt are those that the product gives the model (agent/models/chat_prompt.py): only the template's own
markers become control tokens, so a text that contains `<|im_end|>` stays text. The tokens of an annotation are cut as
the product's template cuts it (skills/annotate/grammar.py): the forced keys and the moves apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from agent import protocols
from agent.errors import InputError
from agent.messages import Json, Message, ToolCall
from agent.todos import ended_with
from training.recipe import Recipe
from training.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PRIVATE_USE = range(0xE000, 0xF8FF)
"""Characters that no text holds; one of them is put between others so that no marker can be read there."""


@dataclass(slots=True)
class Example:
    """Tokens, and of each whether the model says it, so that the loss counts it.

    `weights` says how much each target counts, one number a target; empty is 1 each.

    A row becomes one example, or several where the template shows an earlier turn otherwise than it was said (Qwen3's
    leaves out its thoughts), or where a prompt ended with a todo list, which the next one no longer holds: each then
    ends with the turns that its prompt shows as they were.
    """

    row: str
    tokens: list[int] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    @property
    def targets(self) -> int:
        """How many tokens the loss counts. The first token is never one: nothing comes before it."""
        return sum(self.trained)

    @property
    def end(self) -> int:
        """The token that ends its reply."""
        return self.tokens[-1]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The examples of some rows, and the rows that were too long."""

    examples: list[Example]
    too_long: list[str]

    @property
    def tokens(self) -> int:
        return sum(len(example.tokens) for example in self.examples)


class Encoder:
    """Turns rows into examples for one tokenizer.

    Args:
        tokenizer: of the base; it has the chat template.
        protocol: how thoughts and calls are written; see `Recipe.protocol`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, protocol: str = "json") -> None:
        self.tokenizer = tokenizer
        self.native = protocol == "native"
        self.protocol = protocols.ReactText() if protocol == "text" else protocols.ConstrainedJson()
        self.plain = lru_cache(maxsize=4096)(self._plain)
        special = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.markers = dict(sorted(special.items(), key=lambda marker: len(marker[0]), reverse=True))
        """The control tokens by their texts, the longest first."""
        self.marker = re.compile(f"({'|'.join(map(re.escape, self.markers))})")

    def encode(self, rows: Iterable[Row], max_length: int) -> Encoded:
        """All rows; those with an example of more tokens than `max_length` are left out whole."""
        found = Encoded([], [])
        for row in rows:
            examples = self.examples(row)
            if any(len(example.tokens) > max_length for example in examples):
                found.too_long.append(row.id)
            else:
                found.examples.extend(examples)
        return found

    def examples(self, row: Row) -> list[Example]:
        """The examples of one row. Raises InputError, naming the row, if it cannot be shown to this model."""
        found: list[Example] = []
        shown = self.shown(row)
        for place, message in enumerate(shown):
            if message["role"] != "assistant" or row.messages[place].get("weight") == 0:
                continue
            if place == 0:
                raise InputError(f"the row {row.id} begins with the assistant", "Somebody has to ask first.")
            prompt = self.prompt(_asked(shown[:place], row.messages[place].get("todos", "")), row.tools)
            reply = self.reply(row, shown[: place + 1])
            if not found or prompt[: len(found[-1].tokens)] != found[-1].tokens:
                found.append(Example(row.id))
            here = found[-1]
            here.trained += [False] * (len(prompt) - len(here.tokens)) + [True] * len(reply)
            here.tokens = prompt + reply
        if not found:
            raise InputError(f"the row {row.id} has no assistant message", "There is nothing in it to learn.")
        return found

    def prompt(self, shown: Sequence[Json], tools: Sequence[Json] = ()) -> list[int]:
        """The tokens up to where the reply to these messages begins.

        Args:
            shown: messages as the template takes them: role and content; for the native protocol also tool calls.
            tools: schemas, for the native protocol.
        """
        tokens = self._tokens(*self._rendered(shown, tools, ask=True))
        return tokens if tokens[: len(self.opening)] == self.opening else [*self.opening, *tokens]

    def reply(self, row: Row, shown: Sequence[Json]) -> list[int]:
        """The tokens of the last message, which is the assistant's, with the marker that closes it."""
        asked, joiner = self._rendered(shown[:-1], row.tools, ask=True, joiner=self._joiner(shown))
        whole, joiner = self._rendered(shown, row.tools, ask=False, joiner=joiner)
        if not whole.startswith(asked):
            raise InputError(f"the row {row.id}: the base's chat template shows its last message in no known way")
        said = whole[len(asked) :]
        ends = [found.end() for found in self.marker.finditer(said)]
        if not ends:
            raise InputError(f"the row {row.id}: the base's chat template closes no message")
        said = said[: ends[-1]]
        if self.native:
            return self._tokens(said, joiner)
        content = shown[-1]["content"]
        _, _, closing = said.rpartition(self._guarded(content, joiner))
        pieces = annotation_pieces(row) if row.skill == "annotate" else [content]
        return [token for piece in pieces for token in self.plain(piece)] + self._tokens(closing, joiner)

    def shown(self, row: Row) -> list[Json]:
        """The messages as the chosen protocol shows them to the model."""
        if self.native:
            return [_native(message) for message in row.messages]
        agentic = bool(row.tools) or any(m.get("thought") or m.get("tool_calls") for m in row.messages)
        found = [_message(message) for message in row.messages]
        if agentic:
            found = [self.protocol.render(message) for message in found]
        return [{"role": message.role, "content": message.content} for message in found]

    @cached_property
    def opening(self) -> list[int]:
        """The token that every prompt begins with, for models that want one."""
        begun = self.tokenizer("", add_special_tokens=True)["input_ids"]
        bos = self.tokenizer.bos_token_id
        return [bos] if begun[:1] == [bos] else []

    def _rendered(
        self, shown: Sequence[Json], tools: Sequence[Json], *, ask: bool, joiner: str = ""
    ) -> tuple[str, str]:
        """The template's text, and the character that stands between those of texts that hold a marker."""
        joiner = joiner or self._joiner(shown)
        messages = _everywhere(list(shown), lambda text: self._guarded(text, joiner))
        return self._template(messages, list(tools) if self.native and tools else None, ask), joiner

    def _template(self, messages: list[Json], tools: list[Json] | None, ask: bool) -> str:
        from jinja2.exceptions import TemplateError

        try:
            given: Any = {"tools": tools, "add_generation_prompt": ask, "continue_final_message": False}
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, **given)
        except TemplateError as error:
            if messages and messages[0]["role"] == "system" and len(messages) > 1:
                return self._template(_without_system(messages), tools, ask)
            raise InputError(f"the base's chat template refuses this conversation: {error}") from None
        return str(text)

    def _joiner(self, shown: Sequence[Json]) -> str:
        used = json.dumps(list(shown), ensure_ascii=False)
        return next(chr(code) for code in PRIVATE_USE if chr(code) not in used)

    def _guarded(self, text: str, joiner: str) -> str:
        return joiner.join(text) if self.marker.search(text) else text

    def _tokens(self, text: str, joiner: str) -> list[int]:
        """The tokens of a rendered text: its markers as control tokens, what is between them as plain text."""
        found: list[int] = []
        for number, part in enumerate(self.marker.split(text)):
            if number % 2 == 1:
                found.append(self.markers[part])
            else:
                found += self.plain(part.replace(joiner, ""))
        return found

    def _plain(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return tokens


def encode(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Encoded:
    """The rows as a recipe wants them; see `Encoder`."""
    return Encoder(tokenizer, recipe.protocol).encode(rows, recipe.max_length)


def annotation_pieces(row: Row) -> list[str]:
    """The text of an annotation, cut where the product forces a text and where it lets the model speak.

    Raises:
        InputError: it is not what json.dumps writes for an object of texts.
    """
    content = row.completion
    try:
        moves = json.loads(content)
        if json.dumps(moves, ensure_ascii=False) != content or not all(
            isinstance(text, str) for text in moves.values()
        ):
            raise ValueError
    except (ValueError, AttributeError):
        raise InputError(
            f"the row {row.id} holds no annotation as the product writes it",
            "Its reply has to be json.dumps({move: text, ...}, ensure_ascii=False).",
        ) from None
    pieces, opening = [], "{"
    for number, (key, text) in enumerate(moves.items(), start=1):
        closing = '"}' if number == len(moves) else '",'
        pieces += [f'{opening}{json.dumps(key)}: "', json.dumps(text, ensure_ascii=False)[1:-1] + closing]
        opening = " "
    return pieces


def _message(given: Json) -> Message:
    """A row's message as the runtime knows it."""
    calls = tuple(
        ToolCall(str(call.get("id", "")), call["name"], call.get("arguments") or {}, call.get("malformed", ""))
        for call in given.get("tool_calls") or ()
    )
    content = given.get("content") or ""
    return Message(given["role"], content, given.get("thought") or "", calls, name=given.get("name") or "")


def _native(given: Json) -> Json:
    """A row's message as chat templates with tools of their own take it."""
    shown: Json = {"role": given["role"], "content": given.get("content") or ""}
    if given.get("thought"):
        shown["reasoning_content"] = given["thought"]
    if given.get("tool_calls"):
        shown["tool_calls"] = [
            {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments") or {}}}
            for call in given["tool_calls"]
        ]
    if given["role"] == "tool":
        shown["name"] = given.get("name") or ""
    return shown


def _asked(shown: list[Json], todos: str) -> list[Json]:
    """The prompt of one turn, as the loop shows it: with the todo list of that moment at its end."""
    return [*shown[:-1], {**shown[-1], "content": ended_with(shown[-1]["content"], todos)}]


def _without_system(messages: list[Json]) -> list[Json]:
    """Some templates have no system role: its text then opens the next message, as the product has it."""
    first, second, *rest = messages
    return [{**second, "content": f"{first['content']}\n\n{second['content']}"}, *rest]


def _everywhere(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text in it changed, the keys and the roles left as they are."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_everywhere(entry, change) for entry in value]
    if isinstance(value, dict):
        return {key: entry if key == "role" else _everywhere(entry, change) for key, entry in value.items()}
    return value
