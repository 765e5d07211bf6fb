"""Messages as prompt tokens, through the chat template that the model carries.

Only the template's own markers become control tokens. A text that contains `<|im_end|>` stays text: before the
template is rendered, a character that occurs nowhere is put between its characters, so that no marker can be read in
it; after the template's markers are found, that character is taken out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agent.errors import ModelError
from agent.messages import Message

if TYPE_CHECKING:
    from agent.models.llama_context import Context

PRIVATE_USE = range(0xE000, 0xF8FF)


def prompt_tokens(context: Context, messages: Sequence[Message]) -> list[int]:
    """The whole prompt, up to where the reply begins.

    Args:
        context: the loaded model; it has the template and the tokenizer.
        messages: the conversation, oldest first.

    Raises:
        ModelError: the template refuses the conversation.
    """
    joiner = _unused_character(messages)
    guarded = {message.content: _guard(context, message.content, joiner) for message in messages}
    rows = [{"role": message.role, "content": guarded[message.content]} for message in messages]
    text = _render(context, rows)
    tokens = context.tokenize(text, special=True)
    if joiner in text:
        tokens = _without_joiner(context, text, tokens, joiner)
    if context.bos is not None and tokens[:1] != [context.bos]:
        tokens.insert(0, context.bos)
    return tokens


def _unused_character(messages: Sequence[Message]) -> str:
    used = set().union(*(message.content for message in messages))
    return next(chr(code) for code in PRIVATE_USE if chr(code) not in used)


def _guard(context: Context, content: str, joiner: str) -> str:
    if context.tokenize(content, special=True) == context.tokenize(content):
        return content
    return joiner.join(content)


def _render(context: Context, rows: list[dict[str, str]]) -> str:
    try:
        return _format(context, rows)
    except Exception as error:  # a template is the model author's code: it may raise anything
        if rows and rows[0]["role"] == "system" and len(rows) > 1:
            return _render(context, _without_system(rows))
        raise ModelError(f"the chat template of {context.path.name} refuses this conversation: {error}") from None


def _format(context: Context, rows: list[dict[str, str]]) -> str:
    messages: Any = rows
    return str(context.chat_format(messages=messages).prompt)


def _without_system(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Some templates have no system role: its text then opens the next message."""
    first, second, *rest = rows
    return [{"role": second["role"], "content": f"{first['content']}\n\n{second['content']}"}, *rest]


def _without_joiner(context: Context, text: str, tokens: list[int], joiner: str) -> list[int]:
    """Tokenise again, the text between the markers apart and without the joiner."""
    result: list[int] = []
    for token in tokens:
        if context.is_control(token):
            marker = context.piece(token, special=True).decode("utf-8")
            before, _, text = text.partition(marker)
            result += [*context.tokenize(before.replace(joiner, "")), token]
    return result + context.tokenize(text.replace(joiner, ""))
