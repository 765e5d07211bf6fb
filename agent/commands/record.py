"""The record as commands open it, and its runs as people name them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent import config
from agent.errors import InputError, StoreError

if TYPE_CHECKING:
    from agent.traces import TraceStore


class OpenStore:
    """The trace store of the user's settings, closed at the end of the block; tells if it had to be set aside."""

    def __enter__(self) -> TraceStore:
        from agent.redact import Redactor
        from agent.traces import TraceStore

        settings, _ = config.load(Path("/dev/null"), trusted=False)
        self.store = TraceStore.open(config.data_dir(settings) / "traces.db", Redactor())
        if self.store.notice:
            sys.stderr.write(f"! {self.store.notice}\n")
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()


def resolve(store: TraceStore, given: str) -> str:
    """The id of a run: `last` (the newest that is no part of another), or the beginning of one.

    Raises:
        InputError: nothing is on record yet.
        StoreError: no run begins so, or several do.
    """
    if given != "last":
        return store.resolve(given)
    newest = store.runs(limit=1)
    if not newest:
        raise InputError("there is no run on record yet")
    run_id, parent = newest[0].id, newest[0].parent_id
    while parent:
        try:
            run_id, parent = parent, store.get(parent).parent_id
        except StoreError:  # it was deleted: the part stands for itself
            return run_id
    return run_id
