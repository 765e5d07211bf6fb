"""Papers from files: text, Markdown, LaTeX, PDF, JSONL and CSV, one or a whole folder of them."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import InputError
from skills.annotate import extract
from skills.annotate.request import PAPER_SUFFIXES

TEXT_LIMIT = 10_000_000
"""Bytes of the largest text document, and of the longest line of JSONL or field of CSV."""
PDF_LIMIT = 200_000_000
"""Bytes of the largest PDF; only its first pages are read."""
OUR_MARK = "<!-- annotated by apprentice -->"
"""Stands at the end of our own Markdown, so that a folder's annotations are not taken for papers."""
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
TABLES = (".csv", ".jsonl")
NOTE = 6
"""A document of a folder with fewer words is a note, and no paper; one that the user named is taken at their word."""
COLUMN = "Name the column that holds the abstracts with --column."
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Paper:
    """What is annotated. `source` says where it came from, as a person would look it up: `papers.csv:3`."""

    source: str
    title: str
    abstract: str
    id: str = ""


@dataclass(slots=True)
class Reading:
    """The papers of some sources, in order, and a sentence for each thing that was left out."""

    papers: list[Paper] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, other: Reading) -> None:
        self.papers += other.papers
        self.skipped += other.skipped


def read_file(path: Path, column: str = "", name: str = "") -> Reading:
    """The papers of one file, by its suffix; a file with another suffix is read as plain text.

    Args:
        path: the file.
        column: the key or column that holds the abstracts; empty for `abstract`.
        name: how the file is called in errors and as the source; empty for its path.

    Raises:
        InputError: what is wrong with it, in one sentence.
    """
    name = name or str(path)
    with _readable(name):
        if not path.is_file():
            raise InputError(f"{name} is not a regular file" if path.exists() else f"there is no file {name}")
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{name} is empty")
        suffix = path.suffix.lower()
        if suffix == ".jsonl":
            reading = _jsonl(path, column or "abstract", name)
        elif suffix == ".csv":
            reading = _csv(path, column, name)
        elif suffix == ".json":
            raise InputError(f"{name} is JSON, and I read JSONL: one object a line", "Convert it: jq -c '.[]' IN > OUT")
        else:
            return Reading([_document(path, suffix, size, name)])
    if not reading.papers:
        raise InputError(f"{name} holds no abstract" + (f": {reading.skipped[0]}" if reading.skipped else ""))
    return reading


def read_folder(path: Path, column: str = "", name: str = "", leave_out: Sequence[Path] = (), most: int = 0) -> Reading:
    """The papers of all files in a folder and below it, sorted by path. What cannot be read is named and skipped.

    Args:
        path: the folder. Hidden folders and those of package managers are left out.
        column: as for `read_file`.
        name: how the folder is called; empty for its path.
        leave_out: files that are not read, such as the one that is going to be written.
        most: the most files to read; 0 for all.

    Raises:
        InputError: there is no paper in it.
    """
    name = name or str(path)
    files = [file for file in _files(path) if file not in leave_out]
    reading = Reading()
    for number, file in enumerate(files):
        if most and number >= most:
            reading.skipped.append(f"{len(files) - most} more files in {name} were not read")
            break
        called = os.path.normpath(os.path.join(name, file.relative_to(path)))
        try:
            found = read_file(file, column, called)
        except InputError as error:
            reading.skipped.append(error.message)
            continue
        if file.suffix.lower() in TABLES or len(found.papers[0].abstract.split()) >= NOTE:
            reading.add(found)
        else:
            reading.skipped.append(f"{called} is too short for a paper")
    if not reading.papers:
        count = "1 file" if len(files) == 1 else f"{len(files)} files"
        why = f": {count}, none with an abstract ({reading.skipped[0]})" if reading.skipped else ""
        raise InputError(f"there is no paper in the folder {name}{why}", f"I read {', '.join(PAPER_SUFFIXES)}.")
    return reading


def from_text(text: str, source: str) -> Paper:
    """A paper from text that was typed or piped in: an abstract, or a longer document that has one.

    Raises:
        InputError: it is empty, too long, not text, or no abstract is found in it.
    """
    if not text.strip():
        raise InputError(f"{source} is empty")
    if len(text) > TEXT_LIMIT:
        raise InputError(f"{source} has {len(text):,} characters, more than {TEXT_LIMIT:,}", extract.INSTEAD)
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{source} is not UTF-8 text", "Convert it with iconv, or give the file's name.")
    text = _normal(text)
    if "\\begin{abstract}" in text or "\\documentclass" in text:
        from skills.annotate.latex import from_latex

        found = from_latex(text, source)
    elif text.startswith(("---\n", "#")) or "\n#" in text:
        found = extract.from_markdown(text, source)
    else:
        found = extract.from_text(text, source)
    return Paper(source, found.title, found.abstract)


def _document(path: Path, suffix: str, size: int, name: str) -> Paper:
    """The one paper of a text document or PDF."""
    with path.open("rb") as file:
        is_pdf = file.read(5) == b"%PDF-"
    limit = PDF_LIMIT if is_pdf else TEXT_LIMIT
    if size > limit:
        raise InputError(f"{name} has {size:,} bytes, and a document may have {limit:,}", extract.INSTEAD)
    if is_pdf:
        from skills.annotate.pdf import pdf_text

        title, text = pdf_text(path, name)
        found = extract.from_pdf_text(_normal(text), name, _normal(title))
        return Paper(name, found.title, found.abstract)
    if suffix == ".pdf":
        raise InputError(f"{name} is not a PDF, whatever its name says", extract.INSTEAD)
    text = _normal(_decode(path.read_bytes(), name))
    if not text.strip():
        raise InputError(f"{name} is empty")
    if text.rstrip().endswith(OUR_MARK):
        raise InputError(f"{name} is an annotation, not a paper")
    if suffix == ".tex":
        from skills.annotate.latex import from_latex

        found = from_latex(text, name)
    else:
        found = extract.from_markdown(text, name) if suffix == ".md" else extract.from_text(text, name)
    return Paper(name, found.title, found.abstract)


def _jsonl(path: Path, column: str, name: str) -> Reading:
    reading = Reading()
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(TEXT_LIMIT + 1), b""), start=1):
            where = f"{name}:{number}"
            if len(line) > TEXT_LIMIT:
                raise InputError(f"line {number} of {name} is longer than {TEXT_LIMIT:,} bytes")
            text = _decode(line, f"line {number} of {name}").removeprefix("\ufeff")
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"line {number} of {name} is not JSON: {error}", "Correct or remove that line."
                ) from None
            if not isinstance(row, dict):
                raise InputError(f"line {number} of {name} is not a JSON object")
            if column not in row:
                raise InputError(f"line {number} of {name} has no {column!r}; {_keys(row)}", COLUMN)
            _add_row(reading, where, row[column], row)
    return reading


def _csv(path: Path, column: str, name: str) -> Reading:
    csv.field_size_limit(TEXT_LIMIT)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            return _csv_rows(file, column, name)
        except UnicodeDecodeError:
            raise _not_utf8(path, name) from None
        except csv.Error as error:
            raise InputError(f"{name} is not readable CSV: {error}") from None


def _csv_rows(file: io.TextIOBase, column: str, name: str) -> Reading:
    reading = Reading()
    first = file.readline(TEXT_LIMIT)
    file.seek(0)
    if "\0" in first:
        raise InputError(f"{name} is a binary file, not CSV")
    rows = csv.reader(file, delimiter=max(",;\t", key=first.count))  # most spreadsheets in Europe write semicolons
    header = [cell.strip() for cell in next(rows, [])]
    lowered = [cell.lower() for cell in header]
    wanted = (column or "abstract").lower()
    if wanted not in lowered:
        raise InputError(
            f"{name} has no column {column or 'abstract'!r}; it has {', '.join(header)}",
            COLUMN,
        )
    before = rows.line_num
    for cells in rows:
        where, before = f"{name}:{before + 1}", rows.line_num
        if cells:
            row = dict(zip(lowered, cells, strict=False))
            _add_row(reading, where, row.get(wanted), row)
    return reading


def _add_row(reading: Reading, where: str, abstract: Any, row: dict[str, Any]) -> None:
    if not isinstance(abstract, str) or not abstract.strip():
        reading.skipped.append(f"{where} has no abstract")
        return
    title, key = (row.get(name) for name in ("title", "id"))
    reading.papers.append(
        Paper(
            where,
            extract.paragraph(_normal(title)) if isinstance(title, str) else "",
            extract.paragraph(_normal(abstract)),
            str(key) if isinstance(key, str | int) else "",
        )
    )


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder that may hold papers, sorted. Hidden ones, links to folders, and links that lead out of the
    folder are left out: the person named this folder, and who filled it may be somebody else.
    """
    found, root = [], os.path.realpath(folder)
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS]
        found += [Path(here, name) for name in names if name.lower().endswith(PAPER_SUFFIXES) and name[0] != "."]
    yield from sorted(path for path in found if Path(os.path.realpath(path)).is_relative_to(root))


def _decode(data: bytes, name: str) -> str:
    if data.startswith(_UTF16):
        raise InputError(f"{name} is UTF-16, not UTF-8", _convert(name, "UTF-16"))
    if b"\0" in data[:8192]:
        raise InputError(f"{name} is a binary file, not text", f"I read {', '.join(PAPER_SUFFIXES)}.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong_byte(name, data[error.start], error.start) from None


def _not_utf8(path: Path, name: str) -> InputError:
    """The error for a file that does not decode, with the offset of the first wrong byte."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return _wrong_byte(name, line[error.start], offset + error.start)
            offset += len(line)
    return InputError(f"{name} is not UTF-8 text")


def _wrong_byte(name: str, byte: int, offset: int) -> InputError:
    return InputError(f"{name} is not UTF-8 text: byte 0x{byte:02x} at offset {offset}", _convert(name, "ISO-8859-1"))


def _convert(name: str, encoding: str) -> str:
    return f"Convert it, for example: iconv -f {encoding} -t UTF-8 {name.rpartition(' ')[2]} > converted.txt"


def _keys(row: dict[str, Any]) -> str:
    return f"it has {', '.join(list(row)[:12])}" if row else "it is empty"


def _normal(text: str) -> str:
    """NFC, without a byte order mark, with `\\n` line ends."""
    return unicodedata.normalize("NFC", text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from None
