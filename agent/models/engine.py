"""The thread that owns a loaded model: requests queue for it, stream from it, and can be stopped within milliseconds.

A thread inside llama_decode sees no Ctrl-C, and asyncio waits for the threads of its own pool; so this is a daemon
thread of ours, and llama.cpp asks a flag between any two operations whether to go on.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ApprenticeError, ModelError, ModelUnavailable

if TYPE_CHECKING:
    from agent.models.llama_context import Context

MOST_THREADS = 8
"""More threads than this make a small model slower: they wait for each other after every operation."""

RUN, HALT = b"\0", b"\1"

Emit = Callable[[Any], None]
Work = Callable[["Context", Emit], Any]


class Job:
    """One request to the engine's thread: what it emits, then its result, reach the event loop that submitted it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def put(self, kind: str, item: Any) -> None:
        """Hand something over; called in the engine's thread. An event loop that is gone cancels the job."""
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, (kind, item))
        except RuntimeError:
            self.cancelled = True

    async def items(self) -> AsyncIterator[Any]:
        """What the job emits, then its result. Raises what the job raised."""
        while True:
            kind, item = await self._items.get()
            if kind == "error":
                raise item
            yield item
            if kind == "result":
                return


class Engine:
    """One loaded model and its thread. Both begin with the first request.

    Args:
        path: the GGUF file.
        limit: the most tokens of context.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.users = 0
        self.failure: BaseException | None = None
        self._abort = ctypes.create_string_buffer(2)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: Job | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"llama.cpp {path.name}", daemon=True)
        self._started = False

    async def run(self, work: Work) -> AsyncGenerator[Any, None]:
        """Run `work(context, emit)` in the thread, after what came before it; yield what it emits, then its result.

        Closing this iterator early, or cancelling the task that reads it, stops the work within milliseconds.

        Raises:
            ModelError: what the work raised, or why the model did not load.
        """
        job = Job(work)
        self._jobs.put(job)
        if not self._started:
            self._started = True
            self._thread.start()
        try:
            async for item in job.items():
                yield item
        finally:
            self._cancel(job)

    def stop(self) -> None:
        """End the thread and free the model. Returns when it has ended."""
        with self._lock:
            self._stopping = True
            self._abort[0] = HALT
        self._jobs.put(None)
        if self._started:
            self._thread.join(5)

    @property
    def busy(self) -> bool:
        """Whether a request is being worked on."""
        return self._current is not None

    def _cancel(self, job: Job) -> None:
        with self._lock:
            job.cancelled = True
            if self._current is job:
                self._abort[0] = HALT

    def _serve(self) -> None:
        context = self._load()
        while (job := self._jobs.get()) is not None:
            if context is None:
                job.put("error", self.failure)
            else:
                self._perform(job, context)
        if context is not None:
            context.close()

    def _load(self) -> Context | None:
        try:
            from agent.models.llama_context import Context

            return Context(self.path, self.limit, self._abort)
        except ApprenticeError as error:
            self.failure = error
        except Exception as error:
            self.failure = ModelUnavailable(
                f"llama-cpp-python does not work on this machine: {error}", "`apprentice doctor` says how to fix it."
            )
        return None

    def _perform(self, job: Job, context: Context) -> None:
        from agent.models.llama_context import Stopped

        with self._lock:
            self._current = job
            self._abort[0] = HALT if job.cancelled or self._stopping else RUN

        def emit(item: Any) -> None:
            job.put("item", item)
            if job.cancelled:
                raise Stopped

        try:
            if not job.cancelled:
                job.put("result", job.work(context, emit))
        except Stopped:
            job.put("error", ModelError("the request was stopped"))
        except ApprenticeError as error:
            job.put("error", error)
        except Exception as error:
            job.put("error", ModelError(f"llama.cpp failed on {self.path.name}: {error!r}"))
        finally:
            with self._lock:
                self._current = None


_engines: dict[tuple[Path, int], Engine] = {}


def acquire(path: Path, limit: int) -> Engine:
    """The engine of this file and context, shared by all who ask for it; each gives it back with `release`."""
    key = (path.resolve(), limit)
    engine = _engines.get(key)
    if engine is None or engine.failure is not None:
        engine = _engines[key] = Engine(path, limit)
    engine.users += 1
    return engine


async def release(engine: Engine) -> None:
    """Give the engine back; the last one to do so frees the model."""
    engine.users -= 1
    if engine.users == 0:
        for key in [key for key, entry in _engines.items() if entry is engine]:
            del _engines[key]
        await asyncio.to_thread(engine.stop)


@atexit.register
def _stop_all() -> None:
    """A thread inside llama.cpp while the process takes its libraries down is a crash: end it first."""
    for engine in list(_engines.values()):
        engine.stop()


def thread_count(setting: int) -> int:
    """How many threads to evaluate with: what the settings say, else the cores that are free now.

    Two threads on two cores of which one is busy are slower than one, for they wait for each other. A core counts as
    busy if it was so over the last minute and is so now: our own last reply alone must not halve the next one.
    """
    if setting:
        return setting
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = min(_load_average(), _running())
    return max(1, min(cores - round(busy), MOST_THREADS))


def _load_average() -> float:
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0


def _running() -> float:
    """How many threads of the machine run at this moment, without the one that asks; no limit where nobody says."""
    try:
        fields = Path("/proc/loadavg").read_text("ascii").split()
        return max(0.0, float(fields[3].partition("/")[0]) - 1)
    except (OSError, IndexError, ValueError):
        return float("inf")
