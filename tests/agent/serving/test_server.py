"""What other agents are offered over MCP, asked by the SDK's own client, and what is on record afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, Implementation

from agent.messages import Json, Trajectory
from agent.models.base import Capabilities
from agent.models.scripted import Scripted
from agent.serving import server
from agent.serving.call import Service
from tests.program import ABSTRACTS, annotation, calling

Make = Callable[..., Any]
SCHEMA = Capabilities(json_schema=True)
ABSTRACT = ABSTRACTS[0]["abstract"]
GOOD = {"content": annotation(0)}
Talk = Callable[[Client], Awaitable[Any]]


def serve(bench: Any, talk: Talk, model: str = "scripted") -> Any:
    """Connect a client to a server around this bench's session, and let it talk."""

    async def go() -> Any:
        made = server.make(Service(bench.session, model))
        async with Client(made, client_info=Implementation(name="tester", version="1")) as client:
            return await talk(client)

    return asyncio.run(go())


def call(bench: Any, name: str, **arguments: Any) -> CallToolResult:
    """One call's result."""
    result: CallToolResult = serve(bench, lambda client: client.call_tool(name, arguments))
    return result


def said(result: CallToolResult) -> str:
    return str(result.content[0].text)  # type: ignore[union-attr]


def runs(bench: Any) -> list[Trajectory]:
    """Every run on record, oldest first."""
    bench.session.store.flush()
    return list(bench.session.store.each())


def test_it_offers_annotate_first_then_the_skills_that_are_texts_then_what_reads(bench: Make) -> None:
    listed = serve(bench([]), lambda client: client.list_tools()).tools
    assert [tool.name for tool in listed] == [
        "annotate", "review", "summarize", "read_file", "list_files", "search_files",
    ]  # fmt: skip
    assert [tool.name for tool in listed if tool.annotations.read_only_hint] == [
        "read_file",
        "list_files",
        "search_files",
    ]
    assert set(listed[0].input_schema["properties"]) == {"text", "path", "framework", "format"}
    assert set(listed[0].output_schema["properties"]) == {"papers", "left_out"}


def test_a_text_is_annotated_as_text_and_as_data(bench: Make) -> None:
    result = call(bench([GOOD], capabilities=SCHEMA), "annotate", text=ABSTRACT)
    assert not result.is_error
    assert "**Claim.** " in said(result)
    (paper,) = result.structured_content["papers"]
    assert paper["annotation"] == json.loads(annotation(0))
    assert (paper["valid"], paper["model"]) == (True, "scripted")


def test_each_call_is_a_run_that_names_its_client_and_is_part_of_no_other(bench: Make) -> None:
    made = bench([GOOD], capabilities=SCHEMA)
    result = call(made, "annotate", text=ABSTRACT)
    (run,) = runs(made)
    assert run.id == result.structured_content["papers"][0]["run"]
    assert (run.parent_id, run.skills, run.outcome) == ("", ["annotate"], "success")
    assert run.labels == {"source": "mcp:tester"}
    assert result.content[1].uri == f"apprentice://runs/{run.id}"  # type: ignore[union-attr]


def test_a_clients_name_for_itself_cannot_look_like_another_label(bench: Make) -> None:
    made = bench([])

    async def go() -> None:
        named = Implementation(name="x verdict=good\n\x1b[31m" + "y" * 100, version="1")
        async with Client(server.make(Service(made.session)), client_info=named) as client:
            await client.call_tool("list_files", {})

    asyncio.run(go())
    (run,) = runs(made)
    assert run.labels == {"source": "mcp:x_verdict_good_31m" + "y" * 42}


def test_what_a_stronger_model_took_over_has_both_runs(bench: Make) -> None:
    made = bench([calling("list_files")] * 3, settings={"models": {"strong": "strong"}})
    made.session.models["strong"] = Scripted([{"content": "Nothing."}], address="strong")
    result = call(made, "summarize", text="A text.")
    first, second = runs(made)
    assert [content.uri.rpartition("/")[2] for content in result.content[1:]] == [first.id, second.id]  # type: ignore[union-attr]
    assert (result.structured_content or {})["run"] == second.id
    assert not result.is_error


def test_a_folder_is_one_run_with_a_part_for_each_paper(bench: Make) -> None:
    made = bench([GOOD, {"content": annotation(1)}], capabilities=SCHEMA)
    for number in (0, 1):
        made.session.workspace.write_text(f"papers/{number}.txt", ABSTRACTS[number]["abstract"])
    result = call(made, "annotate", path="papers", format="jsonl")
    assert [json.loads(line)["source"] for line in said(result).splitlines()] == ["papers/0.txt", "papers/1.txt"]
    parent, *parts = runs(made)
    assert [part.parent_id for part in parts] == [parent.id] * 2
    assert (parent.outcome, parent.reason) == ("success", "answer; 2 of 2 papers annotated, 2 valid")


def test_a_paper_that_fails_for_itself_is_named_and_the_others_are_there(bench: Make) -> None:
    made = bench([GOOD, {"content": "{", "error": "it broke off"}], capabilities=SCHEMA)
    made.session.workspace.write_text("rows.csv", f'abstract\n"{ABSTRACT}"\n"{ABSTRACTS[1]["abstract"]}"\n')
    result = call(made, "annotate", path="rows.csv")
    data = result.structured_content or {}
    assert [paper["source"] for paper in data["papers"]] == ["rows.csv:2"]
    assert data["left_out"] == ["rows.csv:3 was not annotated: scripted: it broke off"]
    assert not result.is_error
    assert runs(made)[0].outcome == "failure"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "annotate needs a text or a path, one of the two"),
        ({"text": ABSTRACT, "path": "a.txt"}, "annotate needs a text or a path, one of the two"),
        ({"path": "../secret.txt"}, "../secret.txt is outside the workspace"),
        ({"path": "gone.txt"}, "there is no file gone.txt"),
        ({"text": ABSTRACT, "framework": "eight-move"}, "Did you mean 'eight-moves'?"),
        ({"text": ABSTRACT, "format": "pdf"}, "annotate was not run: format: Input should be 'md'"),
        ({"txt": ABSTRACT}, "Its arguments are: text, path, framework, format."),
    ],
)
def test_what_is_wrong_with_a_call_is_told_in_a_sentence(bench: Make, arguments: Json, sentence: str) -> None:
    made = bench([])
    result = call(made, "annotate", **arguments)
    assert result.is_error
    assert sentence in said(result)
    assert made.model.requests == []


def test_a_skill_needs_a_text_or_a_path(bench: Make) -> None:
    assert "summarize needs a text or a path" in said(call(bench([]), "summarize"))
    assert "there is no file gone.txt" in said(call(bench([]), "summarize", path="gone.txt"))


def test_the_words_of_a_call_are_no_commands(bench: Make) -> None:
    """What a person types after /annotate can name arXiv papers and a file to save to; another agent's text cannot."""
    made = bench([GOOD], capabilities=SCHEMA)
    result = call(made, "annotate", text=f"{ABSTRACT} save to out.md")
    assert not result.is_error
    assert list(made.session.workspace.root.iterdir()) == []
    assert made.model.requests[0].messages[1].content.endswith("save to out.md")


def test_summarize_works_in_the_loop_and_returns_its_answer(bench: Make) -> None:
    made = bench([calling("read_file", path="notes.txt"), {"content": "It says hello."}])
    made.session.workspace.write_text("notes.txt", "hello\n")
    result = call(made, "summarize", path="notes.txt", wish="for a child")
    (run,) = runs(made)
    assert result.structured_content == {
        "answer": "It says hello.", "outcome": "success", "reason": "answer", "run": run.id,
    }  # fmt: skip
    assert (run.task, run.skills, run.labels) == ("/summarize notes.txt", ["summarize"], {"source": "mcp:tester"})
    assert "# Skill: summarize" in run.messages[0].content
    assert run.messages[1].content == "for a child\n\nThe source is the file notes.txt."
    assert "hello" in run.messages[3].content


@pytest.mark.parametrize(
    ("consent", "offered"), [({}, False), ({"yes": True}, True), ({"allowed": frozenset({"net:example.org"})}, False)]
)
def test_a_model_is_offered_only_what_a_flag_allows(bench: Make, consent: Json, offered: bool) -> None:
    made = bench([{"content": "Short."}], **consent)
    call(made, "summarize", text="A long text.")
    names = [tool["function"]["name"] for tool in made.model.requests[0].tools]
    assert ("write_file" in names) is offered
    assert ("fetch_url" in names) is bool(consent.get("allowed"))
    assert "read_file" in names


def test_an_effect_that_nobody_allowed_is_refused_without_asking(bench: Make) -> None:
    made = bench([calling("write_file", path="out.txt", content="x"), {"content": "I could not write it."}])
    call(made, "summarize", text="A long text.")
    assert runs(made)[0].messages[3].is_error
    assert list(made.session.workspace.root.iterdir()) == []


def test_a_run_that_ends_without_an_answer_is_an_error_with_its_reason(bench: Make) -> None:
    made = bench([calling("list_files"), calling("list_files")], settings={"budget": {"steps": 1}})
    result = call(made, "summarize", text="A long text.")
    assert result.is_error
    assert said(result) == "This is not a whole answer: stopped after 1 steps (budget.steps)."
    assert (result.structured_content or {})["outcome"] == "failure"


def test_without_a_model_the_client_is_told_what_to_set(bench: Make) -> None:
    result = serve(bench([]), lambda client: client.call_tool("summarize", {"text": "A text."}), model="")
    assert result.is_error
    assert "Set models.default" in said(result)


def test_a_model_that_fails_is_told_and_on_record(bench: Make) -> None:
    made = bench([{"error": "it fell over"}])
    result = call(made, "summarize", text="A text.")
    assert result.is_error
    assert "it fell over" in said(result)
    assert runs(made)[0].outcome == "failure"


def test_files_are_read_on_record_with_no_model(bench: Make) -> None:
    made = bench([])
    made.session.workspace.write_text("notes.txt", "hello\n")
    assert "hello" in said(call(made, "read_file", path="notes.txt"))
    (run,) = runs(made)
    assert (run.task, run.model, run.outcome) == ('read_file {"path": "notes.txt"}', "", "success")
    assert [(message.role, message.name) for message in run.messages] == [("user", ""), ("tool", "read_file")]
    assert run.route is not None
    assert run.route.rule == "client"


def test_a_refused_path_is_on_record_too(bench: Make) -> None:
    made = bench([])
    result = call(made, "read_file", path="/etc/passwd")
    assert result.is_error
    assert "outside the workspace" in said(result)
    (run,) = runs(made)
    assert (run.outcome, run.messages[1].is_error) == ("failure", True)


def test_arguments_are_checked_as_the_loop_checks_them(bench: Make) -> None:
    assert "Its arguments are: path, start, end." in said(call(bench([]), "read_file", file="notes.txt"))


KEY = "sk-ant-api03-" + "aB3" * 31


@pytest.mark.parametrize(
    ("name", "arguments", "replies"),
    [
        ("read_file", {"path": "notes.txt"}, []),
        ("summarize", {"path": "notes.txt"}, [{"content": f"the key is {KEY}"}]),
        ("summarize", {"path": "notes.txt"}, [{"error": f"the key is {KEY} and no good"}]),
    ],
    ids=["a file", "an answer", "an error"],
)
def test_secrets_do_not_leave_with_a_result(bench: Make, name: str, arguments: Json, replies: list[Json]) -> None:
    made = bench(replies)
    made.session.workspace.write_text("notes.txt", f"the key is {KEY}\n")
    result = call(made, name, **arguments)
    assert KEY not in result.model_dump_json()
    assert "the key is " in said(result)


def test_progress_tells_what_a_person_would_see(bench: Make) -> None:
    made = bench([calling("list_files"), {"content": "Nothing."}])
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    serve(made, lambda client: client.call_tool("summarize", {"text": "A text."}, progress_callback=note))
    (run,) = runs(made)
    lines = [str(message).partition(":")[0] for _, message in told]
    assert lines == [f"run {run.id} by scripted", "step 1", "calls list_files", "list_files answered", "step 2"]
    assert [number for number, _ in told] == [1, 2, 3, 4, 5]


def test_annotate_tells_which_move_it_writes(bench: Make) -> None:
    told: list[str | None] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    made = bench([GOOD], capabilities=SCHEMA)
    serve(made, lambda client: client.call_tool("annotate", {"text": ABSTRACT}, progress_callback=note))
    assert "novelty" in " ".join(str(line) for line in told)


def test_cancelling_a_call_stops_its_run_and_keeps_the_record(bench: Make) -> None:
    made = bench([{"content": "One two three.", "delay": 30}])

    async def give_up(client: Client) -> bool:
        with anyio.move_on_after(0.3) as scope:
            await client.call_tool("summarize", {"text": "A text."})
        await client.list_tools()  # the server goes on serving
        return scope.cancelled_caught

    assert serve(made, give_up)
    (run,) = runs(made)
    assert (run.outcome, run.reason) == ("unknown", "cancelled")
    assert [message.role for message in run.messages] == ["system", "user", "assistant"]
    assert run.details[2].error == "cancelled"


def test_calls_at_once_keep_their_own_runs_and_progress(bench: Make) -> None:
    made = bench([{"content": f"Answer {number}.", "delay": 0.1} for number in range(6)])

    async def all_at_once(client: Client) -> list[tuple[CallToolResult, list[str]]]:
        async def one() -> tuple[CallToolResult, list[str]]:
            told: list[str] = []

            async def note(progress: float, total: float | None, message: str | None) -> None:
                told.append(str(message))

            return await client.call_tool("summarize", {"text": "A text."}, progress_callback=note), told

        return await asyncio.gather(*(one() for _ in range(6)))

    results = serve(made, all_at_once)
    assert len({result.structured_content["run"] for result, _ in results}) == 6
    for result, told in results:
        assert told[0] == f"run {result.structured_content['run']} by scripted"
        assert len(told) == 2
    assert [run.outcome for run in runs(made)] == ["success"] * 6


def test_a_client_reads_the_runs_that_it_began_and_no_others(bench: Make) -> None:
    made = bench([GOOD], capabilities=SCHEMA)

    async def read(client: Client) -> tuple[Json, str]:
        result = await client.call_tool("annotate", {"text": ABSTRACT})
        record = await client.read_resource(result.content[1].uri)  # type: ignore[union-attr]
        with pytest.raises(MCPError) as error:
            await client.read_resource("apprentice://runs/0123456789ab")
        return json.loads(record.contents[0].text), str(error.value)  # type: ignore[union-attr]

    record, refused = serve(made, read)
    assert record["labels"] == {"source": "mcp:tester"}
    assert record["messages"][1]["content"] == ABSTRACT
    assert refused == "this server began no run 0123456789ab"


def test_the_skills_texts_are_resources(bench: Make) -> None:
    made = bench([])
    listed = serve(made, lambda client: client.list_resources()).resources
    assert [resource.uri for resource in listed] == [
        f"apprentice://skills/{name}" for name in ("annotate", "panel", "review", "summarize")
    ]
    text = serve(made, lambda client: client.read_resource("apprentice://skills/review")).contents[0].text
    assert text.startswith("# Review a paper")


def test_skills_that_are_texts_are_prompts_for_the_clients_own_model(bench: Make) -> None:
    made = bench([])
    listed = serve(made, lambda client: client.list_prompts()).prompts
    assert [prompt.name for prompt in listed] == ["review", "summarize"]
    got = serve(made, lambda client: client.get_prompt("summarize", {"source": "notes.txt"}))
    assert got.messages[0].content.text.endswith("The source is: notes.txt")
    assert made.model.requests == []
