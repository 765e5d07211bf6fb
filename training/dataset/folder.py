"""The dataset folder: written whole beside its place, then put there; read back with its hashes checked."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, InputError, OutputError, UsageError
from agent.messages import Json
from training.rows import SPLITS, Row, Split, as_jsonl, read_rows

MANIFEST = "manifest.json"
CASES = "cases.jsonl"
"""The gate's annotations as a suite for `evals run annotate --cases`."""
FRAMEWORK = "eight-moves"
"""The moves that such a suite holds."""
ASIDE = ".before"
REVIEW = "review.jsonl"
"""A person's decisions about rows; they outlive every build."""


def write(out: Path, rows: Mapping[Split, Sequence[Row]], manifest: Json, card: str) -> None:
    """Write a dataset folder; an older one gives way only when the new one is whole, and its review goes on.

    Args:
        out: the folder.
        rows: of each split, in the order in which they are written.
        manifest: what manifest.json says, less the hashes of the files.
        card: the text of README.md.

    Raises:
        UsageError: there is something else in the folder.
        ConfigError: pyarrow is not installed.
        OutputError: it cannot be written; what stood there is as it was.
    """
    out = out.absolute()
    if out.exists() and not is_dataset(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} is there and is no dataset", "Give --out a new folder.")
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    before = out.with_name(f".{out.name}.{secrets.token_hex(4)}{ASIDE}")
    try:
        partial.mkdir(parents=True)
        _fill(partial, rows, manifest, card)
        if (out / REVIEW).is_file():
            shutil.copyfile(out / REVIEW, partial / REVIEW)
        if out.exists():
            os.rename(out, before)
        try:
            os.rename(partial, out)
        except OSError:
            if before.exists():
                os.rename(before, out)
            raise
    except OSError as error:
        raise OutputError(f"the dataset {out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if out.exists():
            shutil.rmtree(before, ignore_errors=True)


def take_up(out: Path) -> None:
    """Put back a dataset that a killed build had set aside; a review in it must not be lost."""
    out = out.absolute()
    aside = sorted(out.parent.glob(f".{out.name}.*{ASIDE}"), key=lambda path: path.stat().st_mtime)
    if aside and not out.exists():
        os.rename(aside[-1], out)


def cases(rows: Sequence[Row]) -> str:
    """Annotations as the lines of an evaluation suite; rows of other skills and other moves are left out."""
    lines = []
    for row in rows:
        if row.skill == "annotate" and row.provenance.get("framework") == FRAMEWORK:
            abstract = next(message["content"] for message in row.messages if message["role"] == "user")
            about = {"id": row.id, **{name: row.provenance.get(name, "") for name in ("field", "title")}}
            lines.append(_json({**about, "abstract": abstract, "annotation": json.loads(row.completion)}) + "\n")
    return "".join(lines)


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset of ours."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Json:
    """The manifest of a dataset, its files checked against it.

    Raises:
        InputError: it is no dataset, or a file is not what the manifest says.
    """
    try:
        manifest: Json = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for split in SPLITS:
            if _sha256(folder / f"{split}.jsonl") != manifest["files"][split]["sha256"]:
                raise InputError(f"{folder / split}.jsonl is not what the manifest says", "Build the dataset again.")
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no dataset: there is no {Path(error.filename).name}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / MANIFEST} is no dataset's manifest: {error!r}") from None
    return manifest


def rows_of(folder: Path) -> list[tuple[Split, Row]]:
    """Every example of a dataset with its split; negatives are none. Raises InputError."""
    kept: tuple[Split, ...] = ("train", "validation", "gate")
    return [(split, row) for split in kept for row in read_rows(folder / f"{split}.jsonl")]


def _fill(folder: Path, rows: Mapping[Split, Sequence[Row]], manifest: Json, card: str) -> None:
    whole, files = hashlib.sha256(), {}
    for split in SPLITS:
        data = as_jsonl(rows[split]).encode()
        (folder / f"{split}.jsonl").write_bytes(data)
        _write_parquet(folder / f"{split}.parquet", rows[split])
        files[split] = {"rows": len(rows[split]), "sha256": hashlib.sha256(data).hexdigest()}
        whole.update(data)
    (folder / CASES).write_text(cases(rows["gate"]), encoding="utf-8")
    told = {"name": manifest["name"], "created": manifest["created"], "skill": manifest["skill"]}
    told |= {"sha256": whole.hexdigest(), "files": files} | manifest
    (folder / MANIFEST).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card.replace("SHA256", whole.hexdigest()), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_parquet(path: Path, rows: Sequence[Row]) -> None:
    """The rows as a table; what differs in shape from row to row (arguments, schemas, provenance) is a JSON string."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("pyarrow is not installed", "Run scripts/setup train.") from None
    text = pyarrow.string()
    call = pyarrow.struct([("id", text), ("name", text), ("arguments", text)])
    message = pyarrow.struct(
        [
            *((name, text) for name in ("role", "content", "thought")),
            ("tool_calls", pyarrow.list_(call)),
            *((name, text) for name in ("tool_call_id", "name")),
            ("is_error", pyarrow.bool_()),
            ("weight", pyarrow.int8()),
            ("todos", text),
        ]
    )
    plain = [(name, text) for name in ("id", "document", "skill", "source")]
    many = [("messages", pyarrow.list_(message)), ("tools", pyarrow.list_(text))]
    schema = pyarrow.schema([*plain, *many, ("provenance", text)])
    table = pyarrow.Table.from_pylist([_flat(row) for row in rows], schema=schema)
    pyarrow.parquet.write_table(table, path)


def _flat(row: Row) -> Json:
    flat = row.model_dump(mode="json")
    for message in flat["messages"]:
        for call in message.get("tool_calls", ()):
            call["arguments"] = _json(call.get("arguments") or {})
    return {**flat, "tools": [_json(tool) for tool in flat["tools"]], "provenance": _json(flat["provenance"])}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
