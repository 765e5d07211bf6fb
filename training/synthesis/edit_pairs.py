"""Small edits from a git repository's history, as rows in the generic tool-calling form.

The commit's message is the task, the file around the edit is given, and the answer is one call of `edit_file`. The call
is checked: applied to the file before the commit it gives the file after it, byte for byte; so the rows are `check`.

Git is only read, by two commands and never through a shell: `git log --raw` names the changed blobs, `git cat-file`
prints them. So no filter, diff driver, hook, pager or signature program of that repository runs, and nothing is
fetched. A secret in an edit drops the row; elsewhere it is redacted.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from agent.loop import SYSTEM
from agent.redact import Redactor
from tools.files import edit_file
from training.rows import Row
from training.synthesis.git_history import Change, History

FILES = 3
"""A commit that changes more files is no small edit."""
CHANGED_LINES = 12
EDIT_CHARACTERS = 1500
BLOB_CHARACTERS = 200_000
LINE = 240
"""Characters of the longest line that is shown."""
AROUND = 12
"""Lines that are shown before and after the edit."""
FEWEST_WORDS = 3
"""Of a message that says what to do."""
VENDORED = re.compile(
    r"(?:^|/)(?:vendor|vendored|third_party|node_modules|dist|build|site-packages|\.git)/|\.min\.\w+$|\.lock$|"
    r"(?:^|/)(?:package-lock\.json|go\.sum|.*_pb2\.py|.*\.snap|.*\.svg|.*\.csv|.*\.ipynb)$|generated"
)
TRAILER = re.compile(r"^[A-Z][A-Za-z-]+(?:-by|-[Ii]d|-[Dd]ate): .*$|^\(cherry picked from .*$|^git-svn-id: .*$", re.M)
NO_TASK = re.compile(r"^(?:wip|fixup!|squash!|revert|merge|bump|release|version|update changelog|v?\d+\.\d+)", re.I)


@dataclass(slots=True)
class Edits:
    """The rows of a history, newest first, and why other edits were left out."""

    rows: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> str:
        """What was left out, the commonest reason first."""
        return ", ".join(f"{count} {reason}" for reason, count in self.left_out.most_common())


def edits(repository: Path, most: int, redactor: Redactor | None = None) -> Edits:
    """The small edits of a repository's history; the same history gives the same rows.

    Args:
        repository: a folder with a git repository.
        most: rows, at most; the newest commits come first.
        redactor: takes secrets out; the person's own by default.

    Raises:
        InputError: it is no repository that git will read.
    """
    redactor = redactor or Redactor()
    found = Edits()
    with History(repository) as history:
        root = history.root
        for change in history.changes():
            made = _row(history, change, root, redactor)
            if isinstance(made, str):
                found.left_out[made] += 1
            else:
                found.rows.append(made)
            if len(found.rows) == most:
                break
    return found


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement: `old` occurs once in the file. `first` and `last` are the lines shown around it, from 1."""

    old: str
    new: str
    first: int
    last: int


def one_edit(before: str, after: str) -> Edit | str:
    """The one small replacement that turns a text into another, or why there is none.

    Lines that did not change are added above and below until the old text occurs only once.
    """
    old_lines, new_lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    matcher = difflib.SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    changes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    if not changes:
        return "not changed"
    (_, start, _, new_start, _), (_, _, end, _, new_end) = changes[0], changes[-1]
    if max(end - start, new_end - new_start) > CHANGED_LINES:
        return "large" if len(changes) == 1 else "changed in several places"
    if not "".join(old_lines[start:end]).split() and not "".join(new_lines[new_start:new_end]).split():
        return "white space only"
    while not _once(before, "".join(old_lines[start:end])):
        if start == 0 and end == len(old_lines):
            return "not unique"
        if start > 0:
            start, new_start = start - 1, new_start - 1
        if end < len(old_lines) and not _once(before, "".join(old_lines[start:end])):
            end, new_end = end + 1, new_end + 1
    old, new = "".join(old_lines[start:end]), "".join(new_lines[new_start:new_end])
    if max(len(old), len(new)) > EDIT_CHARACTERS:
        return "large"
    return Edit(old, new, max(1, start + 1 - AROUND), min(len(old_lines), end + AROUND))


def instruction(message: str) -> str:
    """A commit's message as a task: without trailers; empty if it asks for nothing."""
    text = TRAILER.sub("", message).strip()
    subject = text.split("\n", 1)[0]
    return "" if NO_TASK.match(subject) or len(subject.split()) < FEWEST_WORDS else text


def _row(history: History, change: Change, root: str, redactor: Redactor) -> Row | str:
    """The row of a change, or why there is none."""
    task = instruction(change.message)
    if not task:
        return "no task in the message"
    if change.files > FILES:
        return f"of more than {FILES} files"
    if VENDORED.search(change.path):
        return "vendored or generated"
    texts = [_text(history.blob(blob)) for blob in (change.before, change.after)]
    if None in texts:
        return "binary or huge"
    before, after = (text or "" for text in texts)
    edit = one_edit(before, after)
    if isinstance(edit, str):
        return edit
    if before.replace(edit.old, edit.new) != after:
        return "not reproduced by its own edit"
    shown = "".join(before.splitlines(keepends=True)[edit.first - 1 : edit.last])
    if any(len(line) > LINE for line in shown.splitlines()):
        return "of long lines"
    if redactor.redact(edit.old) != edit.old or redactor.redact(edit.new) != edit.new:
        return "with a secret"
    return _as_row(change, edit, redactor.redact(task), redactor.redact(shown), root, len(before.splitlines()))


def _as_row(change: Change, edit: Edit, task: str, shown: str, root: str, lines: int) -> Row:
    where = f"{change.path}, lines {edit.first} to {edit.last} of {lines}"
    call = {
        "id": "call_1",
        "name": edit_file.name,
        "arguments": {"path": change.path, "old": edit.old, "new": edit.new},
    }
    document = hashlib.sha256("\n".join((root, change.path, change.commit)).encode()).hexdigest()[:16]
    return Row(
        id=f"edit-{document}",
        document=document,
        skill="tools",
        messages=(
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{task}\n\n{where}\n{shown}"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ),
        tools=(edit_file.schema,),
        source="check",
        provenance={
            "repository": root,
            "commit": change.commit,
            "path": change.path,
            "check": "the edit gives the commit",
        },
    )


def _text(data: bytes) -> str | None:
    """A blob as text with `\\n` line ends; None if it is binary, no UTF-8, or huge."""
    if len(data) > BLOB_CHARACTERS or b"\0" in data or b"\r" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _once(text: str, piece: str) -> bool:
    return bool(piece) and text.count(piece) == 1
