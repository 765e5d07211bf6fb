"""The trace store's tables, their migrations, and how a trajectory becomes rows and comes back."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from agent.messages import Detail, Json, Message, Route, ToolCall, Trajectory, Usage
from agent.redact import Redactor

APPLICATION_ID = 0x41505254
"""Marks the file as ours ("APRT")."""

MIGRATIONS: tuple[tuple[int, str, str], ...] = (
    (
        1,
        "runs, messages and tools",
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY, parent_id TEXT NOT NULL, task TEXT NOT NULL, skills TEXT NOT NULL,
            model TEXT NOT NULL, tools TEXT NOT NULL, route TEXT, outcome TEXT NOT NULL, reason TEXT NOT NULL,
            score REAL, labels TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
            seconds REAL NOT NULL, cost REAL, started REAL NOT NULL, ended REAL NOT NULL, workspace TEXT NOT NULL,
            version TEXT NOT NULL, process TEXT NOT NULL
        );
        CREATE TABLE tools (hash TEXT PRIMARY KEY, schema TEXT NOT NULL);
        CREATE TABLE messages (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, position INTEGER NOT NULL,
            role TEXT NOT NULL, content TEXT NOT NULL, thought TEXT NOT NULL, tool_calls TEXT NOT NULL,
            tool_call_id TEXT NOT NULL, name TEXT NOT NULL, is_error INTEGER NOT NULL, detail TEXT NOT NULL,
            token_ids BLOB NOT NULL, logprobs BLOB NOT NULL, hash TEXT NOT NULL,
            PRIMARY KEY (run_id, position)
        );
        """,
    ),
    (
        2,
        "indexes for lists",
        """
        CREATE INDEX runs_by_start ON runs (started);
        CREATE INDEX runs_by_parent ON runs (parent_id) WHERE parent_id != '';
        """,
    ),
    (
        3,
        "what a person says that a run should have answered",
        """
        CREATE TABLE corrections (
            number INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            given REAL NOT NULL, answer TEXT NOT NULL
        );
        CREATE INDEX corrections_by_run ON corrections (run_id);
        """,
    ),
)
"""(number, name, statements), append-only: a released entry is never edited. The number is the file's user_version."""

NEWEST = MIGRATIONS[-1][0]
RUN_COLUMNS = (
    "id, parent_id, task, skills, model, tools, route, outcome, reason, score, labels, prompt_tokens, "
    "completion_tokens, seconds, cost, started, ended, workspace, version, process"
)
MESSAGE_COLUMNS = (
    "run_id, position, role, content, thought, tool_calls, tool_call_id, name, is_error, detail, token_ids, logprobs"
)
INSERT_RUN = f"INSERT INTO runs ({RUN_COLUMNS}) VALUES ({', '.join('?' * 20)})"
INSERT_MESSAGE = f"INSERT INTO messages ({MESSAGE_COLUMNS}, hash) VALUES ({', '.join('?' * 13)})"


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a store up to date: each step and its number in one transaction.

    Args:
        connection: in autocommit mode.

    Raises:
        sqlite3.Error: the step did not happen; the ones before it did.
    """
    for number, _, statements in MIGRATIONS:
        if version(connection) >= number:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            if version(connection) < number:  # another process may have been first
                for statement in statements.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def without_nan(value: Any) -> Any:
    """A JSON value with null for NaN and infinities, which SQLite's JSON functions refuse."""
    return json.loads(dump(value), parse_constant=lambda _: None)


def writable(text: str) -> str:
    """The text as UTF-8 can hold it: halves of surrogate pairs that models sometimes write become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def run_row(run: Trajectory, tools: Iterable[str], redactor: Redactor, ours: str, process: str) -> tuple[Any, ...]:
    """A run's row in the order of RUN_COLUMNS, redacted. `tools` are the hashes of its tools' schemas."""
    usage = run.usage
    model, *decided = _decided(run, redactor)
    return (
        run.id,
        run.parent_id,
        writable(redactor.redact(run.task)),
        writable(dump(run.skills)),
        model,
        dump(list(tools)),
        *decided,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.seconds,
        usage.cost,
        run.started,
        run.ended,
        writable(redactor.redact(run.workspace)),
        ours,
        process,
    )


def closing_row(run: Trajectory, redactor: Redactor) -> tuple[Any, ...]:
    """What changes when a run ends, in the order of CLOSE_RUN."""
    usage = run.usage
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.seconds, usage.cost)
    return (*_decided(run, redactor), *counts, writable(dump(run.skills)), run.ended, run.id)


CLOSE_RUN = (
    "UPDATE runs SET model = ?, route = ?, outcome = ?, reason = ?, score = ?, labels = json_patch(labels, ?), "
    "prompt_tokens = ?, completion_tokens = ?, seconds = ?, cost = ?, skills = ?, ended = ? WHERE id = ?"
)


def _decided(run: Trajectory, redactor: Redactor) -> tuple[Any, ...]:
    route = writable(dump(redactor.redact_json(asdict(run.route)))) if run.route else None
    labels = writable(dump(without_nan(redactor.redact_json(run.labels))))
    return (
        writable(redactor.redact(run.model)),
        route,
        run.outcome,
        writable(redactor.redact(run.reason)),
        run.score,
        labels,
    )


def correction_text(answer: str, redactor: Redactor) -> str:
    """A correction as it is stored, redacted; a JSON object string by string, so that it stays one."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return writable(redactor.redact(answer))
    clean = redactor.redact_json(value)
    return writable(answer if clean == value else json.dumps(clean, ensure_ascii=False))


def tool_row(schema: Json, redactor: Redactor) -> tuple[str, str]:
    """A tool schema's hash and text, redacted."""
    text = writable(dump(redactor.redact_json(schema)))
    return hashlib.sha256(text.encode()).hexdigest(), text


def message_row(run_id: str, index: int, message: Message, detail: Detail, redactor: Redactor) -> tuple[Any, ...]:
    """A message's row in the order of MESSAGE_COLUMNS and its hash, redacted.

    Where redaction changed anything, the token ids would still spell the secret: they and the log-probabilities go.
    """
    calls = [
        {"id": c.id, "name": c.name, "arguments": c.arguments, "malformed": c.malformed} for c in message.tool_calls
    ]
    said = [message.content, message.thought, message.name, message.tool_call_id]
    how = _how(detail)
    clean_said, clean_calls, clean_how = (redactor.redact_json(part) for part in (said, calls, how))
    fired = clean_said != said or clean_calls != calls or clean_how != how
    content, thought, name, call_id = map(writable, clean_said)
    row = (
        run_id,
        index,
        message.role,
        content,
        thought,
        writable(dump(clean_calls)) if calls else "[]",
        call_id,
        name,
        int(message.is_error),
        writable(dump(clean_how)),
        b"" if fired else array("i", detail.token_ids).tobytes(),
        b"" if fired else array("f", detail.logprobs).tobytes(),
    )
    return (*row, content_hash(row))


def _how(detail: Detail) -> Json:
    """A detail less its token arrays and less what is empty: most messages have none of it."""
    usage = detail.usage
    everything = {
        "model": detail.model,
        "adapter": detail.adapter,
        "sampling": detail.sampling,
        "usage": [usage.prompt_tokens, usage.completion_tokens, usage.seconds, usage.cost] if usage != Usage() else [],
        "finish_reason": detail.finish_reason,
        "seconds": detail.seconds,
        "preference": detail.preference,
        "error": detail.error,
    }
    return {key: value for key, value in everything.items() if value}


def content_hash(row: Iterable[Any]) -> str:
    """The SHA-256 of a message's columns; each is preceded by its length, so that none can run into the next."""
    digest = hashlib.sha256()
    for value in row:
        part = value if isinstance(value, bytes) else str(value).encode()
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def load_run(row: tuple[Any, ...], tools: list[Json]) -> Trajectory:
    """A trajectory from its row in the order of RUN_COLUMNS, without its messages."""
    route = json.loads(row[6]) if row[6] else None
    return Trajectory(
        id=row[0],
        parent_id=row[1],
        task=row[2],
        skills=json.loads(row[3]),
        model=row[4],
        tools=tools,
        route=Route(**route) if route else None,
        outcome=row[7],
        reason=row[8],
        score=row[9],
        labels=json.loads(row[10]),
        usage=Usage(*row[11:15]),
        started=row[15],
        ended=row[16],
        workspace=row[17],
    )


def load_message(row: tuple[Any, ...]) -> tuple[Message, Detail]:
    """A message and its detail from a row in the order of MESSAGE_COLUMNS."""
    _, _, role, content, thought, calls, call_id, name, is_error, how, token_ids, logprobs = row
    called = tuple(ToolCall(**call) for call in json.loads(calls)) if calls != "[]" else ()
    message = Message(role, content, thought, called, call_id, name, bool(is_error))
    kept = json.loads(how)
    kept["usage"] = Usage(*kept["usage"]) if "usage" in kept else Usage()
    detail = Detail(
        **kept,
        token_ids=tuple(array("i", token_ids)),
        logprobs=tuple(array("f", logprobs)),
    )
    return message, detail
