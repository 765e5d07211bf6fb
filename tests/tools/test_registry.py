"""Tools from typed functions: schemas, arguments, and a user's own files."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from agent.errors import ConfigError, ToolError
from tests.tools.conftest import MakeContext
from tools.registry import ToolContext, call, load, tool, validate

OWN = '''
"""A tool of my own."""
from tools.files import read_file
from tools.registry import ToolContext, tool


@tool(effect="read")
async def shout(context: ToolContext, text: str, times: int = 1) -> str:
    """Say it loudly.

    Args:
        text: what to say.
        times: how often.
    """
    return text.upper() * times
'''


class Mood(Enum):
    good = "good"
    bad = "bad"


class Point(BaseModel):
    x: int
    title: str = "origin"


@tool(effect="read", concurrent=True)
async def everything(
    context: ToolContext,
    text: str,
    number: float,
    kind: Literal["a", "b"],
    words: list[str],
    title: str = "none",
    count: int = 3,
    maybe: int | None = None,
    flag: bool = False,
    mood: Mood = Mood.good,
    points: list[Point] = [],  # noqa: B006 - pydantic copies defaults
    table: dict[str, int] = {},  # noqa: B006
) -> str:
    """Take every kind of argument.

    The description may go on
    in a second paragraph.

    Args:
        text: some text.
        number: a number, with a note
            that goes on: here.
        kind: one of two.
        words: several words.
        title: a parameter that pydantic has a word for, too.
        count: how many.
        maybe: a number or nothing.
        flag: yes or no.
        mood: an enumeration.
        points: objects.
        table: names and numbers.

    Returns:
        nothing: of interest.
    """
    return repr((text, number, kind, words, title, count, maybe, flag, mood, points, table))


def test_the_schema_says_what_the_signature_and_the_docstring_say() -> None:
    function = everything.schema["function"]
    properties = function["parameters"]["properties"]
    assert everything.schema["type"] == "function"
    assert function["name"] == "everything"
    assert function["description"] == "Take every kind of argument. The description may go on in a second paragraph."
    assert function["parameters"]["required"] == ["text", "number", "kind", "words"]
    assert function["parameters"]["additionalProperties"] is False
    assert list(properties)[:5] == ["text", "number", "kind", "words", "title"]
    assert properties["text"] == {"type": "string", "description": "some text."}
    assert properties["number"] == {"type": "number", "description": "a number, with a note that goes on: here."}
    assert properties["kind"] == {"type": "string", "enum": ["a", "b"], "description": "one of two."}
    assert properties["words"]["items"] == {"type": "string"}
    assert properties["title"]["default"] == "none"
    assert properties["maybe"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]
    assert properties["table"]["additionalProperties"] == {"type": "integer"}


def test_the_schema_is_pydantics_less_its_titles() -> None:
    ours = everything.schema["function"]["parameters"]
    theirs = everything.parameters.model_json_schema()
    assert set(ours["properties"]) == set(theirs["properties"])
    assert "title" in ours["properties"]
    assert "title" in ours["$defs"]["Point"]["properties"]
    without = json.loads(json.dumps(theirs))

    def strip(node: Any, names: bool = False) -> None:
        if isinstance(node, dict):
            if not names:
                node.pop("title", None)
            for key, entry in node.items():
                strip(entry, key in ("properties", "$defs") and not names)
        elif isinstance(node, list):
            for entry in node:
                strip(entry)

    strip(without)
    assert ours == without


def test_arguments_arrive_as_python_values(make_context: MakeContext) -> None:
    arguments = {
        "text": "t",
        "number": 2,
        "kind": "b",
        "words": ["x"],
        "mood": "bad",
        "points": [{"x": 1}],
        "count": "7",
    }
    checked = validate(everything, arguments)
    assert checked["number"] == 2.0
    assert checked["mood"] is Mood.bad
    assert checked["points"] == [Point(x=1)]
    assert (checked["count"], checked["maybe"], checked["flag"], checked["table"]) == (7, None, False, {})
    assert asyncio.run(call(everything, make_context(), arguments)).startswith("('t', 2.0, 'b', ['x'], 'none', 7, None")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"text": None}, "text: Input should be a valid string"),
        ({"kind": "c"}, "kind: Input should be 'a' or 'b'"),
        ({"words": "x"}, "words: Input should be a valid list"),
        ({"words": ["a", 1]}, r"words\.1: Input should be a valid string"),
        ({"wrods": []}, "wrods: Extra inputs are not permitted"),
        ({"number": "many", "count": "few"}, "number: .*; count: "),
    ],
)
def test_arguments_that_do_not_fit_are_named_for_the_model(
    make_context: MakeContext, change: dict[str, Any], problem: str
) -> None:
    arguments = {"text": "t", "number": 2, "kind": "b", "words": []} | change
    with pytest.raises(ToolError, match=f"everything was not run: .*{problem}") as caught:
        asyncio.run(call(everything, make_context(), arguments))
    assert caught.value.hint.startswith("Its arguments are: text, number, kind, words, title")
    with pytest.raises(ToolError, match="text: Field required"):
        validate(everything, {})


def test_a_parameter_may_have_the_name_of_a_pydantic_method(make_context: MakeContext) -> None:
    @tool(effect="read")
    async def odd(context: ToolContext, json: str, copy: int = 1) -> str:
        """Do it.

        Args:
            json: some.
            copy: how many.
        """
        return f"{json} {copy}"

    assert asyncio.run(call(odd, make_context(), {"json": "x", "copy": 2})) == "x 2"


async def undocumented(context: ToolContext) -> str:
    return ""


async def untyped(context: ToolContext, thing) -> str:  # type: ignore[no-untyped-def]
    """Do it.

    Args:
        thing: what.
    """
    return ""


async def unexplained(context: ToolContext, thing: str) -> str:
    """Do it."""
    return ""


def not_async(context: ToolContext) -> str:
    """Do it."""
    return ""


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (undocumented, "needs a docstring"),
        (untyped, "thing needs a type and a line under Args"),
        (unexplained, "thing needs a type and a line under Args"),
        (not_async, "must be an async function"),
    ],
)
def test_a_function_that_a_model_could_not_use_is_refused_at_import(function: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        tool(effect="read")(function)


def test_the_built_in_tools_are_there() -> None:
    tools = load([])
    assert {name: (found.effect, found.concurrent) for name, found in tools.items()} == {
        "read_file": ("read", True),
        "write_file": ("write", False),
        "edit_file": ("write", False),
        "list_files": ("read", True),
        "search_files": ("read", True),
        "run_shell": ("shell", False),
        "fetch_url": ("net", True),
        "arxiv": ("net", False),
        "bead_create": ("write", False),
        "bead_show": ("read", True),
        "bead_ready": ("read", True),
        "bead_claim": ("write", False),
        "bead_update": ("write", False),
        "bead_depend": ("write", False),
        "bead_close": ("write", False),
        **{name: ("read", False) for name in ("todo_add", "todo_complete", "todo_list")},
        **{name: ("read", False) for name in ("next_phase_todos", "job_complete", "notes_read", "delegate")},
        "notes_write": ("write", False),
    }
    for found in tools.values():
        assert found.description.endswith(".")
        assert all(entry["description"] for entry in found.schema["function"]["parameters"]["properties"].values())


def test_disabled_tools_are_left_out() -> None:
    assert {"read_file", "arxiv"} & set(load([], ["arxiv", "read_file", "no_such"])) == set()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


def test_a_users_file_adds_its_own_tools_and_may_import_others(own: Path, make_context: MakeContext) -> None:
    (own / "shout.py").write_text(OWN)
    (own / "notes.txt").write_text("not a tool")
    tools = load([own, own / "missing"])
    assert set(tools) - set(load([])) == {"shout"}
    assert asyncio.run(call(tools["shout"], make_context(), {"text": "a", "times": 2})) == "AA"
    assert tools["read_file"].origin == "tools.files"
    assert "shout" not in load([own], ["shout"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def (", r"broken\.py failed: SyntaxError"),
        ("import no_such_module", r"broken\.py failed: ModuleNotFoundError: No module named 'no_such_module'"),
        (OWN.replace("text: what to say.", ""), r"broken\.py failed: TypeError: tool shout: text needs a type"),
        (OWN.replace("shout", "read_file").replace("from tools.files import read_file", ""), "'read_file' exists"),
    ],
)
def test_a_users_file_that_does_not_work_is_named(own: Path, text: str, problem: str) -> None:
    (own / "broken.py").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        load([own])


def test_two_files_with_one_tool_are_refused(own: Path) -> None:
    for name in ("a.py", "b.py"):
        (own / name).write_text(OWN)
    with pytest.raises(ConfigError, match=r"b\.py: the tool 'shout' exists already"):
        load([own])


def test_loading_the_tools_imports_nothing_slow() -> None:
    program = "import sys; from tools.registry import load; load([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    slow = {"httpx", "httpcore", "bs4", "xml.etree.ElementTree", "rich", "llama_cpp", "numpy"}
    assert set(done.stdout.split()) & slow == set()


@tool(effect="read")
async def much(context: ToolContext) -> str:
    """Say much."""
    return "".join(f"line {number}\n" for number in range(1000))


def test_a_long_answer_of_anybodys_tool_is_cut_and_kept_in_a_file(make_context: MakeContext) -> None:
    context = make_context(output_limit=400)
    said = asyncio.run(call(much, context, {}))
    assert len(said) < 800
    assert said.startswith("line 0\n")
    (kept,) = context.outputs.iterdir()
    assert kept.read_text().endswith("line 999\n")
