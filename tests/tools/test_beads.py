"""The bead tools, as a model calls them: what each answers, asks for, and refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.commands.task import known_tools
from agent.errors import ConsentDenied, ToolError
from agent.settings import Settings
from tests.agent.beads.places import line, read, write
from tests.program import calling
from tests.tools.conftest import MakeContext
from tools import beads
from tools.registry import ToolContext, call, load

TOOLS = load([])
NAMES = {f"bead_{what}" for what in ("create", "show", "ready", "claim", "update", "depend", "close")}


def use(context: ToolContext, name: str, **arguments: Any) -> str:
    return asyncio.run(call(TOOLS[name], context, arguments))


@pytest.fixture
def context(make_context: MakeContext, workspace: Path) -> ToolContext:
    """A context with beads that may be written, whose first sentence was said."""
    write(workspace, line("bd-1", description="Look closely.", priority=1), line("bd-2", "bd-1"))
    found = make_context(yes=True)
    use(found, "bead_ready")
    return found


def test_the_tools_are_offered_where_there_are_beads(workspace: Path) -> None:
    def offered(**settings: Any) -> set[str]:
        return set(known_tools(workspace, Settings.model_validate(settings), trusted=False)) & NAMES

    assert offered() == set()
    assert offered(beads={"enabled": True}) == NAMES
    (workspace / ".beads").mkdir()
    assert offered() == NAMES
    assert offered(tools={"disabled": ["bead_close"]}) == NAMES - {"bead_close"}


def test_every_tool_of_the_file_is_named() -> None:
    assert {name for name, tool in TOOLS.items() if tool.origin == "tools.beads"} == NAMES


def test_how_the_beads_are_reached_is_said_once(make_context: MakeContext, workspace: Path) -> None:
    write(workspace, line("bd-1"))
    context = make_context()
    assert use(context, "bead_ready").startswith("[bd is not installed: beads are read from and written to .beads/")
    assert use(context, "bead_ready") == "bd-1  priority 2  task  do bd-1"


def test_the_life_of_a_bead(context: ToolContext, workspace: Path) -> None:
    assert use(context, "bead_ready") == "bd-1  priority 1  task  do bd-1"
    page = use(context, "bead_claim", id="bd-1")
    assert page.startswith("bd-1 is yours.\nbd-1: do bd-1\nin_progress, task, priority 1\nheld by: apprentice")
    assert "Description:\nLook closely." in page
    assert use(context, "bead_ready") == "No bead is ready."
    made = use(context, "bead_create", title="also", depends_on=["bd-1"], type="bug", priority=0)
    name = made.removeprefix("Made ").partition(":")[0]
    assert use(context, "bead_depend", id="bd-2", on=name) == f"bd-2 depends on {name} (blocks)."
    assert f"held back: it waits for bd-1 (in_progress); it waits for {name} (open)" in use(
        context, "bead_show", id="bd-2"
    )
    assert use(context, "bead_close", id="bd-1", reason="looked") == "Closed bd-1."
    assert "closed because: looked" in use(context, "bead_show", id="bd-1")
    assert use(context, "bead_ready") == f"{name}  priority 0  bug  also"
    assert use(context, "bead_update", id=name, status="deferred", note="not yet").startswith(
        f"Changed {name} (deferred"
    )
    assert read(workspace)[name]["notes"] == "not yet"


def test_what_is_written_is_asked_for_and_what_is_read_is_not(make_context: MakeContext, workspace: Path) -> None:
    before = write(workspace, line("bd-1"), line("bd-2")).read_bytes()
    context = make_context()
    for name, arguments in {
        "bead_create": {"title": "x"},
        "bead_claim": {"id": "bd-1"},
        "bead_update": {"id": "bd-1", "priority": 0},
        "bead_depend": {"id": "bd-1", "on": "bd-2"},
        "bead_close": {"id": "bd-1", "reason": "done"},
    }.items():
        with pytest.raises(ConsentDenied, match=r"not allowed: .*bead"):
            use(context, name, **arguments)
    assert "do bd-1" in use(context, "bead_show", id="bd-1")
    assert (workspace / ".beads/issues.jsonl").read_bytes() == before


def test_secrets_do_not_get_into_the_file(make_context: MakeContext, workspace: Path) -> None:
    write(workspace, line("bd-1"))
    context = make_context(yes=True, environment={"MY_TOKEN": "hush-hush-hush"})
    use(context, "bead_create", title="use hush-hush-hush", description="it is hush-hush-hush")
    use(context, "bead_update", id="bd-1", title="hush-hush-hush", note="hush-hush-hush")
    use(context, "bead_close", id="bd-1", reason="hush-hush-hush")
    assert "hush" not in (workspace / ".beads/issues.jsonl").read_text()


def test_an_update_of_nothing_is_refused(context: ToolContext) -> None:
    with pytest.raises(ToolError, match="nothing to change"):
        use(context, "bead_update", id="bd-1")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bead_create", {"title": ""}),
        ("bead_create", {"title": "x", "priority": 5}),
        ("bead_create", {"title": "x", "type": "gate"}),
        ("bead_update", {"id": "bd-1", "status": "closed"}),
        ("bead_update", {"id": "bd-1", "status": "in_progress"}),
        ("bead_depend", {"id": "bd-1", "on": "bd-2", "type": "likes"}),
        ("bead_close", {"id": "bd-1", "reason": ""}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(context: ToolContext, name: str, arguments: Any) -> None:
    with pytest.raises(ToolError, match=f"{name} was not run"):
        use(context, name, **arguments)


def test_without_the_folder_the_tools_say_who_makes_it(make_context: MakeContext, workspace: Path) -> None:
    with pytest.raises(ToolError, match=r"no \.beads folder"):
        use(make_context(yes=True), "bead_ready")
    assert list(workspace.iterdir()) == []


def test_a_model_cannot_write_the_beads_file_or_its_hooks_by_other_means(context: ToolContext, workspace: Path) -> None:
    for path in (".beads/issues.jsonl", ".beads/hooks/on_close", ".BEADS/apprentice/bd-1.json"):
        with pytest.raises(ToolError, match="only a person may change"):
            use(context, "write_file", path=path, content="x")


def test_long_lists_and_texts_are_cut_and_say_so(make_context: MakeContext, workspace: Path) -> None:
    write(workspace, *(line(f"bd-{n}") for n in range(30)), line("bd-long", "bd-1", description="word " * 5000))
    context = make_context()
    assert use(context, "bead_ready").endswith("[10 more]")
    shown = use(make_context(output_limit=500), "bead_show", id="bd-long")
    assert len(shown) <= 500
    assert shown.endswith("[the rest was left out]")


def test_a_run_that_claims_a_bead_holds_it_by_its_id(bench: Callable[..., Any], workspace: Path) -> None:
    from agent.commands.task import do

    write(workspace, line("bd-1"))
    desk = bench([calling("bead_claim", id="bd-1"), {"content": "mine"}], yes=True)
    assert asyncio.run(do(desk.session, "take it", model="scripted")) == "mine"
    [run] = desk.of("run")
    assert read(workspace)["bd-1"]["assignee"] == beads.actor(desk.events[0].run_id)
    holder = json.loads((workspace / ".beads/apprentice/bd-1.json").read_text())
    assert holder["actor"] == read(workspace)["bd-1"]["assignee"]
    assert run["task"] == "take it"
