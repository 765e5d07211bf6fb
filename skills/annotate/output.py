"""What is written: Markdown, JSON, JSONL or CSV, and the work in progress beside it.

OUT.partial is append-only: a header line, then one JSON line a finished paper, each on the disk before the next paper
begins. Its keys are hashes of content, framework and model, so the same command finds what it did before. At the end
the result is written to a new file that takes OUT's name, and OUT.partial goes.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.errors import OutputError
from skills.annotate.explain import explain, support
from skills.annotate.framework import Framework
from skills.annotate.papers import OUR_MARK, Paper
from skills.annotate.request import Format

VERSION = 1
"""Of the lines of OUT.partial."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One paper's annotation as it is kept: the moves in order, the exact model, and what the validators said."""

    annotation: dict[str, str]
    model: str
    valid: bool
    validators: tuple[str, ...] = ()
    run: str = ""


def key(abstract: str, framework: str, model: str) -> str:
    """What one piece of work is known by.

    Args:
        abstract: the text that is annotated.
        framework: its name, version and the level of grounding.
        model: the address that the router chose, a specialist's version included.
    """
    return hashlib.sha256("\0".join((abstract, framework, model)).encode()).hexdigest()


def render(rows: Sequence[tuple[Paper, Answer]], form: Format, framework: Framework, *, explained: bool = False) -> str:
    """The result as text, with a final newline.

    Args:
        rows: papers and their annotations, in the order of the input.
        form: md, json, jsonl or csv. In JSON one paper is an object and several are a list.
        framework: the moves, in order.
        explained: whether each move's support in the abstract is shown too; not in CSV.
    """
    if form == "md":
        notes = [_explanation(paper, answer, framework) if explained else "" for paper, answer in rows]
        sections = [_markdown(paper, answer, note) for (paper, answer), note in zip(rows, notes, strict=True)]
        return "\n---\n\n".join(sections) + f"\n{OUR_MARK}\n"
    if form == "csv":
        return _csv(rows, framework.keys)
    objects = [_object(paper, answer) for paper, answer in rows]
    if explained:
        for entry, (paper, answer) in zip(objects, rows, strict=True):
            entry["support"] = [asdict(one) for one in support(answer.annotation, paper.abstract, framework)]
    if form == "jsonl":
        return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in objects)
    return json.dumps(objects[0] if len(objects) == 1 else objects, ensure_ascii=False, indent=2) + "\n"


def _object(paper: Paper, answer: Answer) -> dict[str, Any]:
    return {
        "source": paper.source,
        **({"id": paper.id} if paper.id else {}),
        "title": paper.title,
        "annotation": answer.annotation,
        "model": answer.model,
        "valid": answer.valid,
        "validators": list(answer.validators),
    }


def _explanation(paper: Paper, answer: Answer, framework: Framework) -> str:
    return "## Support\n\n" + explain(answer.annotation, paper.abstract, framework)


def _markdown(paper: Paper, answer: Answer, notes: str) -> str:
    lines = [f"# {paper.title or paper.source}", "", f"Source: {paper.source}", ""]
    for move, text in answer.annotation.items() if any(answer.annotation.values()) else ():
        lines += [f"**{move.replace('_', ' ').capitalize()}.** {text}", ""]
    if notes:
        lines += [notes.strip(), ""]
    said = "Validators: all passed." if not answer.validators else f"Validators: {'; '.join(answer.validators)}."
    return "\n".join([*lines, f"*{said} Model: {answer.model}.*", ""])


def _csv(rows: Sequence[tuple[Paper, Answer]], moves: Sequence[str]) -> str:
    with_id = ["id"] if any(paper.id for paper, _ in rows) else []
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["source", *with_id, "title", *moves, "model", "valid"])
    for paper, answer in rows:
        stated = [answer.annotation.get(move, "") for move in moves]
        ids = [paper.id] if with_id else []
        table.writerow([paper.source, *ids, paper.title, *stated, answer.model, str(answer.valid).lower()])
    return text.getvalue()


class Partial:
    """The work in progress on one output file. Use it as `with Partial(...) as partial:`.

    Args:
        out: the file that the result goes to.
        keys: of all papers of this task; some of them must be in an OUT.partial that is found, or it is not ours.
        overwrite: an OUT that exists may be replaced, and an OUT.partial of another task begun anew.

    Raises:
        OutputError: OUT exists, OUT.partial is another task's or in use, or the system refused.
    """

    def __init__(self, out: Path, keys: Iterable[str], overwrite: bool = False) -> None:
        self.out = out
        self.path = out.with_name(out.name + ".partial")
        self.done: dict[str, Answer] = {}
        self._wanted = frozenset(keys)
        self._overwrite = overwrite
        self._finished = False
        self._file = -1
        self._end = 0

    def __enter__(self) -> Partial:
        if self.out.exists() and not self._overwrite and not self.path.exists():
            raise self._exists()
        self._file = self._open()
        try:
            self._take_up()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.done and not self._finished:  # no paper was done: leave nothing behind
            with suppress(OSError):
                self.path.unlink()
        self._close()

    def add(self, key: str, answer: Answer) -> None:
        """Keep one finished paper; it is on the disk when this returns. Raises OutputError, with the others intact."""
        self._append({"key": key, **asdict(answer)})
        self.done[key] = answer

    def finish(self, text: str, *, keep: bool = False) -> None:
        """Write OUT, whole or not at all, and remove OUT.partial.

        Args:
            text: the rendered result.
            keep: OUT.partial stays, because some papers failed and the same command is to try them again.

        Raises:
            OutputError: the system refused, or somebody else made OUT meanwhile; OUT.partial stays.
        """
        if self.out.exists() and not self._overwrite:
            raise self._exists()
        temporary = self.out.with_name(f".{self.out.name}.{secrets.token_hex(4)}.tmp")
        try:
            if keep:
                self._append({"delivered": True})
            with open(temporary, "x", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.out)
        except OSError as error:
            raise self._refused(self.out, error) from None
        finally:
            with suppress(OSError):
                temporary.unlink()
        self._finished = True
        if not keep:
            with suppress(OSError):
                self.path.unlink()

    def _open(self) -> int:
        """Open and lock OUT.partial, never through a link. Made anew if it went between the two."""
        while True:
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise self._refused(self.path, error) from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    return file
            except BlockingIOError:
                os.close(file)
                raise OutputError(
                    f"another process is writing {self.out} at this moment", "Wait for it, or save to another name."
                ) from None
            except FileNotFoundError:
                pass
            os.close(file)

    def _take_up(self) -> None:
        """Read what an earlier run finished, cut off a torn last line, or begin with a header."""
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        self._end = data.rfind(b"\n") + 1
        lines = data[: self._end].splitlines()
        if lines:
            self._read(lines)
        ours = not self.done or bool(self._wanted & self.done.keys())
        if not ours and not self._overwrite:
            raise OutputError(
                f"{self.path} holds finished papers ({len(self.done)}) of another task, framework or model",
                "Repeat that command to finish it, save to another name, or give --overwrite to begin anew.",
            )
        if self.out.exists() and not self._overwrite:
            raise self._exists()
        if not ours:
            self.done.clear()
            self._end = 0
        try:
            os.ftruncate(self._file, self._end)
        except OSError as error:
            raise self._refused(self.path, error) from None
        if self._end == 0:
            self._append({"partial": VERSION, "overwrite": self._overwrite})

    def _read(self, lines: Sequence[bytes]) -> None:
        try:
            header, *rows = [json.loads(line) for line in lines]
            if header["partial"] != VERSION:
                raise OutputError(
                    f"{self.path} was written by another version of this program",
                    "Save to another name, or move that file away.",
                )
            # What an earlier run of this task was allowed to replace, or made itself, may be replaced again.
            self._overwrite = self._overwrite or header["overwrite"] or any("delivered" in row for row in rows)
            for row in (row for row in rows if "key" in row):
                done = row.pop("key")
                self.done[done] = Answer(**{**row, "validators": tuple(row["validators"])})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise OutputError(
                f"{self.path} is damaged or was not written by this program",
                "Save to another name, or move that file away.",
            ) from None

    def _append(self, row: dict[str, Any]) -> None:
        data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise self._refused(self.path, error) from None
        self._end += len(data)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _exists(self) -> OutputError:
        return OutputError(
            f"{self.out} exists already and is kept", "Give --overwrite to replace it, or save to another name."
        )

    def _refused(self, path: Path, error: OSError) -> OutputError:
        kept = f"The finished papers ({len(self.done)}) are kept in {self.path}; the same command goes on."
        return OutputError(f"{path} cannot be written: {error.strerror or error}", kept if self.done else "")
