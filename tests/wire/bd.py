"""A program that answers as `bd --json` is documented to: for tests, since bd itself is no Python package.

Its beads are in `.beads/bd-state.json`, which it reads and writes as a whole: the environment variable BD_ANSWERS says
how it answers (array, object, envelope, none, broken), and `.beads/bd-calls` keeps every call, a line each. As with
bd, a claim looks first and then writes: two at the same instant may both succeed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

STATE, CALLS = Path(".beads/bd-state.json"), Path(".beads/bd-calls")
Beads = dict[str, Any]
Options = dict[str, str]


def answer(value: Any) -> None:
    """Print what was asked for, in the form that BD_ANSWERS names."""
    form = os.environ.get("BD_ANSWERS", "array")
    if form == "object" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if form == "envelope":
        value = {"schema_version": 1, "data": value}
    if form == "none":
        return
    print("✓ done" if form == "broken" else json.dumps(value))


def refuse(text: str) -> NoReturn:
    """End as bd does when it will not."""
    if os.environ.get("BD_ANSWERS") == "object":
        print(json.dumps({"error": text}))
    else:
        print(f"Error: {text}", file=sys.stderr)
    raise SystemExit(1)


def parsed(words: list[str]) -> tuple[str, list[str], Options]:
    """The command, what stands without a name, and the options. What bd does not know it refuses."""
    plain = [word for word in words if not word.startswith("-")]
    options = {name: value for name, _, value in (word[2:].partition("=") for word in words if word.startswith("-"))}
    if plain[0] not in COMMANDS or not set(options) <= OPTIONS[plain[0]] | {"json", "sandbox", "actor"}:
        refuse(f"unknown command or flag in {words}")
    if "json" not in options:
        refuse("a person is meant to read this")
    return plain[0], plain[1:], options


def main() -> None:
    words = sys.argv[1:]
    with CALLS.open("a") as calls:
        calls.write(json.dumps({"words": words, "secret": os.environ.get("MY_API_KEY", "")}) + "\n")
    time.sleep(float(os.environ.get("BD_SECONDS", "0")))
    beads: Beads = json.loads(STATE.read_text()) if STATE.exists() else {}
    command, names, options = parsed(words)
    names = [name for name in names if name != "add"]
    if missing := [name for name in names if name not in beads]:
        refuse(f"no issue found matching {missing[0]!r}")
    result = COMMANDS[command](beads, names, options)
    STATE.write_text(json.dumps(beads))
    answer(result)


def shown(beads: Beads, name: str) -> dict[str, Any]:
    """A bead with the others that it depends on, and those that depend on it."""

    def others(entry: dict[str, Any], key: str) -> dict[str, Any]:
        return {**beads[entry[key]], "dependency_type": entry["type"]}

    bead = beads[name]
    links = [(one, link) for one in beads.values() for link in one.get("links", []) if link["on"] == name]
    more = {
        "dependencies": [others(link, "on") for link in bead.get("links", [])],
        "dependents": [{**one, "dependency_type": link["type"]} for one, link in links],
    }
    return {key: value for key, value in {**bead, **more}.items() if key != "links"}


def ready(beads: Beads, names: list[str], options: Options) -> Any:
    def waits(bead: dict[str, Any]) -> bool:
        return any(
            beads[link["on"]]["status"] != "closed" for link in bead.get("links", []) if link["type"] == "blocks"
        )

    return [bead for bead in beads.values() if bead["status"] in ("open", "in_progress") and not waits(bead)]


def show(beads: Beads, names: list[str], options: Options) -> Any:
    return [shown(beads, names[0])]


def create(beads: Beads, names: list[str], options: Options) -> Any:
    name = f"bd-{len(beads) + 1}"
    links = [
        {"on": one.partition(":")[2], "type": one.partition(":")[0]}
        for one in options.get("deps", "").split(",")
        if one
    ]
    links += [{"on": options["parent"], "type": "parent-child"}] if "parent" in options else []
    fields = {"title": options["title"], "description": options["description"], "issue_type": options["type"]}
    beads[name] = {"id": name, "status": "open", "priority": int(options["priority"]), "links": links, **fields}
    beads[name]["created_by"] = options["actor"]
    return beads[name]


def update(beads: Beads, names: list[str], options: Options) -> Any:
    bead = beads[names[0]]
    if "claim" in options:
        if bead.get("assignee") not in (None, "", options["actor"]):
            refuse(f"issue already claimed by {bead['assignee']}")
        bead |= {"assignee": os.environ.get("BD_ASSIGNEE", options["actor"]), "status": "in_progress"}
    bead |= {field: options[field] for field in ("title", "status", "assignee") if field in options}
    if "priority" in options:
        bead["priority"] = int(options["priority"])
    if "append-notes" in options:
        bead["notes"] = "\n".join(filter(None, [bead.get("notes", ""), options["append-notes"]]))
    return [bead]


def close(beads: Beads, names: list[str], options: Options) -> Any:
    bead = beads[names[0]]
    if bead.get("assignee") not in (None, "", options["actor"]):
        refuse(f"cannot close {bead['id']}: assignee is {bead['assignee']!r}, actor is {options['actor']!r}")
    bead |= {"status": "closed", "close_reason": options["reason"]}
    return [bead]


def dep(beads: Beads, names: list[str], options: Options) -> Any:
    first, on = names
    if any(link["on"] == first for link in beads[on].get("links", [])):
        refuse("adding dependency would create a cycle")
    beads[first].setdefault("links", []).append({"on": on, "type": options["type"]})
    return {"status": "added", "issue_id": first, "depends_on_id": on, "type": options["type"]}


COMMANDS = {"ready": ready, "show": show, "create": create, "update": update, "close": close, "dep": dep}
OPTIONS = {
    "ready": {"limit"},
    "show": set[str](),
    "create": {"title", "description", "type", "priority", "parent", "deps"},
    "update": {"title", "priority", "status", "assignee", "append-notes", "claim"},
    "close": {"reason"},
    "dep": {"type"},
}

if __name__ == "__main__":
    main()
