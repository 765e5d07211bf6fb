"""Runs put on record, for the tests of the store and of its file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from agent.messages import Detail, Message, Trajectory
from agent.traces import TraceStore


def a_run(run_id: str = "a1b2c3", **more: Any) -> Trajectory:
    values: dict[str, Any] = {"task": "count the files", "started": time.time(), "model": "scripted", "workspace": "/w"}
    return Trajectory(run_id, **{**values, **more})


def record(
    store: TraceStore, run: Trajectory, *messages: Message | tuple[Message, Detail], end: bool = True
) -> Trajectory:
    """Put a run with these messages on record."""

    async def write() -> None:
        await store.open_run(run)
        for index, entry in enumerate(messages):
            message, detail = entry if isinstance(entry, tuple) else (entry, Detail())
            await store.add_message(run.id, index, message, detail)

    asyncio.run(write())
    if end:
        run.ended = run.started + 1
        store.close_run(run)
        store.flush()
    return run


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
