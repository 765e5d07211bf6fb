"""Annotations from files: JSONL, CSV keyed by arXiv id, and rows that other commands wrote."""

from __future__ import annotations

import csv
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agent.errors import InputError
from agent.messages import Message
from skills.annotate import record
from skills.annotate.attempt import prompt
from skills.annotate.extract import paragraph
from skills.annotate.framework import Framework
from skills.annotate.validate import check
from training.dataset.candidates import RANK, Candidate, Ledger, candidate
from training.rows import Row, Source, document_key, read_rows

ID_COLUMNS = ("arxiv_id", "id")
FIELD_LIMIT = 10_000_000
"""Characters of the longest field of a CSV file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One annotated paper of a file. `moves` is what the file gives for each of the framework's keys."""

    path: Path
    line: int
    id: str
    title: str
    field: str
    abstract: str
    moves: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.path.name}:{self.line}"


def from_files(paths: Sequence[tuple[Path, Source]], ledger: Ledger) -> Iterator[Candidate]:
    """The candidates of files of annotations.

    Args:
        paths: files, each with the source that its annotations count as; training rows in them, too.
        ledger: told what is left out: entries without an abstract, or with broken moves.

    Raises:
        InputError: a file cannot be read, or has no annotations.
    """
    for path, source in paths:
        if _holds_rows(path):
            yield from (_counted_as(found, source) for found in rows(path))
    read = [(list(entries(path)), source, _sha256(path)) for path, source in paths if not _holds_rows(path)]
    abstracts = {bare_id(entry.id): entry.abstract for found, _, _ in read for entry in found if entry.abstract}
    known = record.available()
    for found, source, sha256 in read:
        for entry in found:
            abstract = entry.abstract or abstracts.get(bare_id(entry.id), "")
            framework = next((one for one in known if set(one.keys) >= set(entry.moves)), None)
            made = _candidate(entry, abstract, framework, source, sha256)
            if isinstance(made, str):
                ledger.drop(made, entry.where)
            else:
                yield made


def documents(path: Path) -> Iterator[tuple[str, str]]:
    """The documents of a file, as key and text: of annotations, of rows, or of what has an `abstract` or a `task`.

    Raises:
        InputError: it cannot be read, or there is no document in it.
    """
    count = 0
    if _holds_rows(path):
        pairs = ((row.document, document_text(row)) for row in read_rows(path))
    else:
        found = (entry.get("abstract") or entry.get("task") or "" for _, entry in _objects(path))
        texts = (paragraph(_nfc(str(text))) for text in found)
        pairs = ((document_key(text), text) for text in texts)
    for key, text in pairs:
        if text:
            count += 1
            yield key, text
    if not count:
        raise InputError(
            f"{path} holds no document", "It wants the key or column `abstract` or `task`, or training rows."
        )


def rows(path: Path) -> Iterator[Candidate]:
    """The candidates of a file of training rows; each row's source counts as it says."""
    for number, row in enumerate(read_rows(path), start=1):
        copy = "derived_from" in row.provenance
        yield candidate(
            document=row.document,
            text=document_text(row),
            skill=row.skill,
            messages=row.messages,
            source=row.source,
            provenance=row.provenance or {"file": path.name, "line": number},
            where=f"{path.name}:{number}",
            tools=row.tools,
            slot=f"derived {row.id}" if copy else "",  # made to stand beside its original, not to compete with it
        )


def _counted_as(found: Candidate, source: Source) -> Candidate:
    return replace(found, row=found.row.model_copy(update={"source": source}), rank=RANK[source])


def document_text(row: Row) -> str:
    """What a row's document says: its user messages."""
    return "\n".join(str(message.get("content", "")) for message in row.messages if message["role"] == "user")


def entries(path: Path) -> Iterator[Entry]:
    """The annotated papers of a JSONL or CSV file.

    Raises:
        InputError: it cannot be read, or its columns or keys are no framework's moves.
    """
    found = 0
    known = record.available()
    for line, entry in _objects(path):
        moves = entry.get("annotation")
        if not isinstance(moves, dict):
            keys = next((one.keys for one in known if set(one.keys) <= set(entry)), None)
            if keys is None:
                raise InputError(
                    f"line {line} of {path} has neither an `annotation` nor a framework's moves; it has "
                    f"{', '.join(map(str, entry))}",
                    f"Frameworks: {'; '.join(f'{one.name} ({chr(44).join(one.keys)})' for one in known)}.",
                )
            moves = {key: entry[key] for key in keys}
        found += 1
        yield Entry(
            path,
            line,
            next((str(entry[key]) for key in ID_COLUMNS if entry.get(key)), ""),
            paragraph(str(entry.get("title") or "")),
            str(entry.get("field") or ""),
            paragraph(_nfc(str(entry.get("abstract") or ""))),
            moves,
        )
    if not found:
        raise InputError(f"{path} holds no annotation")


def annotated(abstract: str, annotation: Mapping[str, str], framework: Framework, **more: Any) -> Candidate:
    """A candidate that answers what the runtime asks about an abstract.

    Args:
        abstract: the document.
        annotation: its moves.
        framework: which of them there are.
        more: source, provenance, where and rank, as `candidate` takes them.
    """
    return answered(abstract, record.completion(annotation, framework), framework, **more)


def answered(abstract: str, content: str, framework: Framework, **more: Any) -> Candidate:
    """The same with the model's own text, whatever it is: for answers that are wrong."""
    messages = [*prompt(framework, abstract), Message("assistant", content)]
    key = document_key(abstract)
    spoken = [asdict(message) | {"tool_calls": []} for message in messages]
    return candidate(
        document=key, text=abstract, skill="annotate", messages=spoken, slot=f"annotate {framework.version}", **more
    )


def bare_id(name: str) -> str:
    """An arXiv id without its version; another id as it is."""
    head, mark, version = name.rpartition("v")
    return head if mark and head and version.isdigit() and head[-1].isdigit() else name


def _candidate(
    entry: Entry, abstract: str, framework: Framework | None, source: Source, sha256: str
) -> Candidate | str:
    """The candidate of an entry, or why there is none."""
    if not abstract:
        return "no abstract, here or under its id in another file"
    if framework is None:
        return "its moves are no framework's"
    given = {key: text if str(text or "").strip() else framework.absent for key, text in entry.moves.items()}
    try:
        annotation = record.checked(given, framework)
    except InputError as error:
        return error.message
    if source != "gold":
        broken = sorted({finding.rule for finding in check(annotation, abstract, framework) if not finding.doubt})
        if broken:
            return f"breaks the rules: {', '.join(broken)}"
    kept = {"id": entry.id, "title": entry.title, "field": entry.field}
    provenance = {
        "file": entry.path.name,
        "line": entry.line,
        "file_sha256": sha256,
        **{key: value for key, value in kept.items() if value},
        "framework": framework.name,
    }
    return annotated(abstract, annotation, framework, source=source, provenance=provenance, where=entry.where)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a file as objects, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _csv(file) if path.suffix.lower() == ".csv" else _jsonl(file, path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start})", "Convert it first, e.g. with iconv.") from None
    except csv.Error as error:
        raise InputError(f"{path} is not readable CSV: {error}") from None


def _jsonl(file: Iterable[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} of {path} is not JSON: {error}", "Correct or remove that line.") from None
        if not isinstance(entry, dict):
            raise InputError(f"line {number} of {path} is not a JSON object")
        yield number, entry


def _csv(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(FIELD_LIMIT)
    first = file.readline()
    file.seek(0)
    table = csv.reader(file, delimiter=max(",;\t", key=first.count))
    header = [cell.strip().lower() for cell in next(table, [])]
    before = table.line_num
    for cells in table:
        number, before = before + 1, table.line_num
        if cells:
            yield number, dict(zip(header, cells, strict=False))


def _holds_rows(path: Path) -> bool:
    if path.suffix.lower() != ".jsonl":
        return False
    first = next((entry for _, entry in _objects(path)), {})
    return {"messages", "document"} <= set(first)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
