"""Which of many tools a model is shown, and how it finds the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agent.selection import Index, choose, query_forms
from tests.conftest import Bench
from tools.registry import Tool


def tool(name: str, description: str, effect: Any = "mcp", **parameters: str) -> Tool:
    async def run(context: object, /, **arguments: Any) -> str:
        return f"{name} ran"

    properties = {key: {"type": "string", "description": about} for key, about in parameters.items()}
    return Tool(
        name, description, {"type": "object", "properties": properties}, run, effect, False, "mcp:x", outside=True
    )


TOOLS = {
    made.name: made
    for made in (
        tool("tracker__create_issue", "Open a new issue in a repository.", title="what it is about"),
        tool("tracker__listPullRequests", "List pull requests by their state."),
        tool("mail__send_message", "Send an e-mail.", recipient="the address"),
        tool("calendar__add_event", "Put an appointment into the calendar.", attendees="who comes"),
        tool("weather__forecast", "The weather of the coming days at a place."),
        tool("files__read", "Read a file."),
    )
}


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("Please open an issue about the crash", "tracker__create_issue"),
        ("which pull request is still open?", "tracker__listPullRequests"),
        ("write an e-mail to Ada", "mail__send_message"),
        ("add the attendee Bob to it", "calendar__add_event"),
        ("creating issues", "tracker__create_issue"),
        ("forecasting the weather", "weather__forecast"),
    ],
)
def test_the_tool_that_a_task_needs_comes_first(task: str, name: str) -> None:
    assert Index(TOOLS).best(task, 3)[0] == name


def test_a_task_that_shares_no_word_finds_nothing() -> None:
    index = Index(TOOLS)
    assert index.best("quantum chromodynamics", 5) == []
    assert index.best("what is it and why the of", 5) == []
    assert Index({}).best("anything", 5) == []


def test_a_pasted_text_is_looked_at_only_so_far() -> None:
    assert len(set(query_forms(" ".join(f"word{n}x" for n in range(5000))).values())) == 64


def test_a_few_tools_are_all_shown_and_there_is_nothing_to_find() -> None:
    assert choose(TOOLS, "anything", 6) == TOOLS


def test_of_many_tools_those_that_fit_are_shown_with_all_of_ours_and_a_way_to_the_rest() -> None:
    ours = {"read_file": tool("read_file", "Read.", effect="read")}
    offer = choose(ours | TOOLS, "open an issue", 2)
    assert next(iter(offer)) == "read_file"
    assert "tracker__create_issue" in offer
    assert list(offer)[-1] == "find_tools"
    assert len(offer) <= 4
    assert "6 are there, of calendar, files, mail, tracker, weather" in offer["find_tools"].description


def test_places_that_no_word_decides_are_filled_from_every_server_in_turn() -> None:
    other = {made.name: made for made in (replace(TOOLS["files__read"], name="y__a", origin="mcp:y"),)}
    offer = choose(TOOLS | other, "xyzzy", 3)
    assert list(offer) == ["tracker__create_issue", "tracker__listPullRequests", "y__a", "find_tools"]


def replies(*calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"tool_calls": [{"name": name, "arguments": given}]} for name, given in calls]
    return [*made, {"content": "done"}]


def run_loop(made: Bench, offer: dict[str, Tool]) -> Any:
    """Run a task with this offer; the run as the record has it."""
    from agent.loop import Loop
    from agent.messages import Route
    from agent.run import Run

    async def work() -> str:
        schemas = [one.schema for one in offer.values()]
        async with Run(made.session, "task", Route("scripted", "flag", "asked"), tools=schemas) as run:
            await Loop(run, "scripted", offer).answer("task")
            return run.id

    identity = asyncio.run(work())
    made.session.store.flush()
    return made.session.store.get(identity)


def test_what_is_found_can_be_called_and_the_record_has_its_schema(bench: Any) -> None:
    offer = choose(TOOLS, "open an issue", 1)
    assert "weather__forecast" not in offer
    made = bench(replies(("find_tools", {"query": "weather"}), ("weather__forecast", {})))
    record = run_loop(made, offer)
    found, ran = [message for message in record.messages if message.role == "tool"]
    assert '"name": "weather__forecast"' in found.content
    assert (ran.content, ran.is_error) == ("weather__forecast ran", False)
    assert [schema["function"]["name"] for schema in made.model.requests[0].tools] == [
        "tracker__create_issue",
        "find_tools",
    ]
    assert "weather__forecast" in [schema["function"]["name"] for schema in made.model.requests[1].tools]
    assert "weather__forecast" in [schema["function"]["name"] for schema in record.tools]


def test_what_is_found_fits_the_constrained_protocol_too(bench: Any) -> None:
    from agent.models.base import Capabilities

    offer = choose(TOOLS, "open an issue", 1)
    say = '{"thought": "", "action": {"name": "find_tools", "arguments": {"query": "forecast"}}}'
    made = bench(
        [{"content": say}, {"content": '{"thought": "", "answer": "done"}'}],
        capabilities=Capabilities(native_tools=False, json_schema=True),
    )
    run_loop(made, offer)
    assert "weather__forecast" not in str(made.model.requests[0].schema)
    assert "weather__forecast" in str(made.model.requests[1].schema)


def test_a_search_that_finds_nothing_says_what_to_do(bench: Any) -> None:
    made = bench(replies(("find_tools", {"query": "quarks"})))
    record = run_loop(made, choose(TOOLS, "open an issue", 1))
    assert "None of 6 tools has these words" in next(m.content for m in record.messages if m.role == "tool")
