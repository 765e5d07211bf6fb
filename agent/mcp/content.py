"""What a server answers, as text: a model reads it. Pictures and sound are named, not shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from agent.errors import ToolError

if TYPE_CHECKING:
    from mcp_types import CallToolResult, GetPromptResult, ReadResourceResult


def of_result(result: CallToolResult) -> str:
    """A tool's result. Raises ToolError with what it says if it is an error."""
    text = _joined(_block(block) for block in result.content)
    if not text and result.structured_content is not None:
        text = json.dumps(result.structured_content, ensure_ascii=False)
    if result.is_error:
        raise ToolError(text or "it failed and did not say why")
    return text or "It answered with nothing."


def of_resource(result: ReadResourceResult) -> str:
    """The contents of a resource."""
    return _joined(_contents(one) for one in result.contents) or "The resource is empty."


def of_prompt(result: GetPromptResult) -> str:
    """A prompt's messages as one text."""
    return _joined(_block(message.content) for message in result.messages)


def _block(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "image" | "audio":
            return _unseen(block.type, block.mime_type, block.data)
        case "resource_link":
            return f"[resource {block.name}: {block.uri}]"
    return _contents(block.resource)


def _contents(contents: Any) -> str:
    text = getattr(contents, "text", None)
    return str(text) if text is not None else _unseen("resource", contents.mime_type, contents.blob)


def _unseen(kind: str, mime_type: str | None, base64: str) -> str:
    return f"[{kind}, {mime_type or 'of no stated type'}, {len(base64) * 3 // 4:,} bytes, not shown]"


def _joined(pieces: Iterable[str]) -> str:
    return "\n".join(piece for piece in pieces if piece)
