"""What a server answers, as the text that a model reads."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from mcp_types import CallToolResult, GetPromptResult, ReadResourceResult

from agent.errors import ToolError
from agent.mcp import content

PICTURE = base64.b64encode(b"x" * 3000).decode()


def result(*blocks: dict[str, Any], **more: Any) -> CallToolResult:
    return CallToolResult.model_validate({"content": list(blocks), **more})


def test_texts_stand_one_below_the_other_and_what_is_no_text_is_named() -> None:
    answered = result(
        {"type": "text", "text": "one"},
        {"type": "image", "data": PICTURE, "mimeType": "image/png"},
        {"type": "audio", "data": PICTURE, "mimeType": "audio/wav"},
        {"type": "resource_link", "name": "notes", "uri": "note://1"},
        {"type": "resource", "resource": {"uri": "note://2", "text": "inside"}},
        {"type": "resource", "resource": {"uri": "note://3", "blob": PICTURE}},
    )
    assert content.of_result(answered).splitlines() == [
        "one",
        "[image, image/png, 3,000 bytes, not shown]",
        "[audio, audio/wav, 3,000 bytes, not shown]",
        "[resource notes: note://1]",
        "inside",
        "[resource, of no stated type, 3,000 bytes, not shown]",
    ]


def test_structured_content_is_shown_where_there_is_no_text() -> None:
    assert content.of_result(result(structuredContent={"a": "ü"})) == '{"a": "ü"}'
    assert content.of_result(result({"type": "text", "text": "so"}, structuredContent={"a": 1})) == "so"
    assert content.of_result(result()) == "It answered with nothing."


def test_an_error_without_words_is_still_an_error() -> None:
    with pytest.raises(ToolError, match="did not say why"):
        content.of_result(result(isError=True))


def test_resources_and_prompts_become_text() -> None:
    read = {"contents": [{"uri": "a:b", "text": "one"}, {"uri": "a:c", "text": "two"}]}
    assert content.of_resource(ReadResourceResult.model_validate(read)) == "one\ntwo"
    assert content.of_resource(ReadResourceResult.model_validate({"contents": []})) == "The resource is empty."
    said = {"role": "user", "content": {"type": "text", "text": "do it"}}
    assert content.of_prompt(GetPromptResult.model_validate({"messages": [said, said]})) == "do it\ndo it"
