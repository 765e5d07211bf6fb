"""The tools, prompts and resources that the official MCP conformance suite looks for, on a server made as ours is.

What our own server has too (tools whose calls are runs on record, progress, errors, prompts, resources, HTTP) goes
through the same functions of agent/serving. What ours does not offer (logging, sampling, elicitation, completion,
subscriptions) is the SDK's alone. `python -m tests.wire.mcp_fixture PORT` serves it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.tools import Tool

from agent import cli
from agent.commands.task import open_session
from agent.errors import ToolError
from agent.messages import Json, Route
from agent.run import Run
from agent.serving import server, transport
from agent.serving.call import Call, Service, result

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0").decode()
ASKED = "What the suite asks for by this name."
NOTHING: Json = {"type": "object", "properties": {}, "additionalProperties": False}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}
PERSON: Json = {
    "$schema": DIALECT,
    "type": "object",
    "$defs": {"address": ADDRESS},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}
DEFAULTS: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
NUMBERS = ("One", "Two", "Three")
PLAIN = [f"option{number}" for number in (1, 2, 3)]
TITLED = [{"const": f"value{number}", "title": f"{name} Option"} for number, name in enumerate(NUMBERS, 1)]
ENUMS: Json = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": PLAIN},
        "titledSingle": {"type": "string", "oneOf": TITLED},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": [f"Option {name}" for name in NUMBERS],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": PLAIN}},
        "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
    },
}


def text(said: str) -> types.TextContent:
    return types.TextContent(type="text", text=said)


def embedded(uri: str, said: str, kind: str = "text/plain") -> types.EmbeddedResource:
    return types.EmbeddedResource(
        type="resource", resource=types.TextResourceContents(uri=uri, mime_type=kind, text=said)
    )


IMAGE = types.ImageContent(type="image", data=PIXEL, mime_type="image/png")
CONTENTS: dict[str, list[types.ContentBlock]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [types.AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")],
    "test_embedded_resource": [embedded("test://embedded-resource", "This is an embedded resource content.")],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        IMAGE,
        embedded("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json"),
    ],
}


def our_tools(service: Service) -> list[Tool]:
    """Tools whose calls go through agent/serving, as annotate's do."""

    def made(name: str, work: server.Work, schema: Json = NOTHING) -> Tool:
        return server.tool(service, name, ASKED, schema, work)

    constant = [made(name, returning(content)) for name, content in CONTENTS.items()]
    return [
        *constant,
        made("test_error_handling", fail),
        made("test_tool_with_progress", work_in_parts),
        made("json_schema_2020_12_tool", returning([text("Seen.")]), PERSON),
    ]


def returning(content: list[types.ContentBlock]) -> Callable[[Call, Json], Coroutine[Any, Any, types.CallToolResult]]:
    async def work(call: Call, given: Json) -> types.CallToolResult:
        return types.CallToolResult(content=content)

    return work


async def fail(call: Call, given: Json) -> types.CallToolResult:
    raise ToolError("this tool intentionally returns an error for testing")


async def work_in_parts(call: Call, given: Json) -> types.CallToolResult:
    """A run on record that tells three times how far it is."""
    async with Run(call.session, "three parts", Route("", "client", "the suite asked")) as run:
        for part in range(3):
            run.emit("notice", text=f"part {part + 1} of 3")
            await asyncio.sleep(0.05)
        run.finish("success", "answer")
    return result(call, "Done.", None)


def add_what_only_the_sdk_has(made: MCPServer[Any]) -> None:
    """Logging, sampling and elicitation: requests to the client, which our own tools never make."""

    @made.tool(description=ASKED)
    async def test_tool_with_logging(context: Context[Any, Any]) -> str:
        for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await context.request_context.session.send_log_message("info", said, related_request_id=context.request_id)
            await asyncio.sleep(0.05)
        return "Logged."

    @made.tool(description=ASKED)
    async def test_sampling(prompt: str, context: Context[Any, Any]) -> str:
        asked = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
        session = context.request_context.session
        reply = await session.create_message([asked], max_tokens=100, related_request_id=context.request_id)
        return f"LLM response: {getattr(reply.content, 'text', '')}"

    @made.tool(description=ASKED)
    async def test_elicitation(message: str, context: Context[Any, Any]) -> str:
        fields = {name: {"type": "string"} for name in ("username", "email")}
        return await elicit(context, message, {"type": "object", "properties": fields, "required": list(fields)})

    @made.tool(description=ASKED)
    async def test_elicitation_sep1034_defaults(context: Context[Any, Any]) -> str:
        return await elicit(context, "Please check these values.", DEFAULTS)

    @made.tool(description=ASKED)
    async def test_elicitation_sep1330_enums(context: Context[Any, Any]) -> str:
        return await elicit(context, "Please choose.", ENUMS)


async def elicit(context: Context[Any, Any], message: str, schema: Json) -> str:
    session = context.request_context.session
    reply = await session.elicit_form(message, schema, related_request_id=context.request_id)
    return f"Elicitation completed: action={reply.action}, content={json.dumps(reply.content)}"


def add_resources(made: MCPServer[Any]) -> None:
    @made.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @made.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PIXEL)

    @made.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @made.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        return "Watched."


def add_prompts(made: MCPServer[Any]) -> None:
    @made.prompt(description=ASKED)
    def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @made.prompt(description=ASKED)
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @made.prompt(description=ASKED)
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        there = embedded(resourceUri, "Embedded resource content for testing.")
        return [UserMessage(there), UserMessage("Please process the embedded resource above.")]

    @made.prompt(description=ASKED)
    def test_prompt_with_image() -> list[UserMessage]:
        return [UserMessage(IMAGE), UserMessage("Please analyze the image above.")]


def add_requests(made: MCPServer[Any]) -> None:
    """Completion, and requests that need only be taken: a level for the log, and subscriptions."""

    async def complete(context: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
        words = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
        return types.CompleteResult(completion=types.Completion(values=words))

    made._lowlevel_server.add_request_handler("completion/complete", types.CompleteRequestParams, complete)

    async def taken(context: Any, params: Any) -> types.EmptyResult:
        return types.EmptyResult()

    for method, params in (
        ("logging/setLevel", types.SetLevelRequestParams),
        ("resources/subscribe", types.SubscribeRequestParams),
        ("resources/unsubscribe", types.UnsubscribeRequestParams),
    ):
        made._lowlevel_server.add_request_handler(method, params, taken)


async def main(port: int) -> None:
    options = cli.command_parser("mcp").parse_args(["serve"])
    session = await open_session(options, lambda event: None, ask=None)
    service = Service(session)
    try:
        made = server.begin("conformance fixture", "For the official suite.", our_tools(service))
        for add in (add_what_only_the_sdk_has, add_resources, add_prompts, add_requests):
            add(made)
        await transport.over_http(made, port, service.end)
    finally:
        await session.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
