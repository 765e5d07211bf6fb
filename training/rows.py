"""One training row, and the dataset folder it stands in: what every stage from traces to weights reads and writes.

A dataset folder holds `train.jsonl`, `validation.jsonl`, `gate.jsonl`, `negatives.jsonl` (each also as Parquet),
`manifest.json` and a dataset card `README.md`. A line of a JSONL file is one `Row`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.errors import InputError

Source = Literal[
    "gold",  # a person's label
    "correction",  # a person's correction of a run
    "check",  # a case's own check
    "agreement",  # a stronger model said the same
    "curated",  # an agent's output that the curator kept
    "unfiltered",  # an agent's output that nobody judged
    "replay",  # the incumbent's accepted output
    "rehearsal",  # the base model's own answer, against forgetting
    "synthetic",  # a teacher's task and trajectory, validated by running
]
VERIFIED: frozenset[str] = frozenset({"gold", "correction", "check", "agreement"})
"""What counts as known to be right. A validator only rejects; it verifies nothing."""
Split = Literal["train", "validation", "gate", "negatives"]
SPLITS: tuple[Split, ...] = ("train", "validation", "gate", "negatives")


class Row(BaseModel):
    """One example. The model is trained on what its assistant messages say, and on nothing else.

    Args:
        id: unique in the dataset.
        document: the key of the document that it was made from; rows of one document are never split.
        skill: which skill it teaches, e.g. `annotate`.
        messages: OpenAI-style, as `agent.messages` names the fields; the last one is the assistant's. An assistant's
            message with `weight` 0 is context: an earlier turn that this row does not vouch for. One with `todos` was
            said to a prompt that ended with that text, which stood there for this turn alone.
        tools: JSON schemas of the tools that the model could call.
        source: where it comes from; decides which of two rows about one document is kept.
        provenance: enough to find it again: the file and line, or the run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    document: str
    skill: str
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    source: Source
    provenance: dict[str, Any]

    @property
    def verified(self) -> bool:
        return self.source in VERIFIED

    @property
    def completion(self) -> str:
        """What the model is to say last."""
        return str(self.messages[-1].get("content", ""))


def document_key(text: str) -> str:
    """The key of a document: the same for texts that differ in spaces, case and punctuation only.

    Args:
        text: the document, e.g. an abstract.

    Returns:
        16 hexadecimal digits.
    """
    words = re.findall(r"\w+", text.casefold())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file.

    Raises:
        InputError: the file cannot be read, or a line is not a row; the sentence names the line.
    """
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 (named in the error)
                if line.strip():
                    yield Row.model_validate_json(line)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"])) or "the line"
        raise InputError(f"line {number} of {path} is not a training row: {where}: {wrong['msg']}") from None


def as_jsonl(rows: Iterable[Row]) -> str:
    """Rows as the text of a JSONL file."""
    return "".join(json.dumps(row.model_dump(mode="json"), ensure_ascii=False) + "\n" for row in rows)
