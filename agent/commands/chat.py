"""`apprentice chat`: a REPL. Each line is a run of its own on record, with the conversation before it as context."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent import config
from agent.errors import ApprenticeError, StoreError, UsageError
from agent.messages import Event, Message
from agent.session import Session

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

    from agent.redact import Redactor

HELP = """\
/NAME ...     a skill, e.g. /annotate paper.txt (Tab completes it, and names of tools)
/good, /bad   label the last run
/edit         correct the last answer in your editor; the correction goes on record
/trace        show the last run as it is on record
/new          forget the conversation
/quit         leave (also Ctrl-D)
Alt-Enter starts a new line; Ctrl-C stops the step that is going on and keeps its record."""


def add_chat(parser: argparse.ArgumentParser) -> None:
    from agent.cli import add_run_options

    parser.description = "Talk in a REPL."
    parser.epilog = HELP
    add_run_options(parser)
    parser.set_defaults(run=chat)


@dataclass(slots=True)
class Conversation:
    """What a REPL remembers: the session, the turns so far, and the id of the last run."""

    session: Session
    model: str
    turns: list[Message] = field(default_factory=list)
    last_run: str = ""
    ended_well: bool = False
    """Whether the last run to end was a success."""
    by_person: bool = True
    """Whether a person types the lines; piped ones start no skill, save nothing, and make nothing readable."""

    async def take(self, line: str) -> bool:
        """Do one line. Returns whether to go on; failures are told, not raised."""
        word = line.split(maxsplit=1)[0]
        try:
            if word in ("/quit", "/exit"):
                return False
            if word in OWN:
                OWN[word](self)
            else:
                await self._work(line)
        except ApprenticeError as error:
            self._say(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""))
        return True

    async def _work(self, line: str) -> None:
        from agent.commands import task, typed

        session = self.session
        for path in typed.readable_paths(line, session.workspace.root) if self.by_person else ():
            session.workspace.allow_reading(path)
        answer = await task.do(session, line, model=self.model, earlier=self.turns, by_person=self.by_person)
        session.emit(Event("answer", "", {"text": answer}))
        if answer:
            self.turns += [Message("user", line), Message("assistant", answer)]
            if self.ended_well:
                task.improve_if_due(session)

    def label(self, verdict: str) -> None:
        """Record what the person thinks of the last run."""
        if not self.last_run:
            raise UsageError("there is no run to label yet")
        self.session.store.label(self.last_run, verdict=verdict)
        self._say(f"run {self.last_run} is labelled {verdict}")

    def edit(self) -> None:
        """Open the last answer in the person's editor, and record what they make of it as a correction."""
        from agent import correction, editor
        from agent.commands import task

        if not task.at_terminal():
            raise UsageError("there is no terminal to edit at", "Use `apprentice traces correct RUN FILE`.")
        if not self.last_run:
            raise UsageError("there is no run to correct yet")
        self.session.store.flush()
        run = self.session.store.get(self.last_run)
        before = correction.begin(run)
        after = editor.edit(before, ".json" if before.startswith("{") else ".md")
        if after.strip() == before.strip():
            self._say("nothing was changed, so nothing is recorded; /good says that the answer is right")
            return
        found = correction.check(run, after)
        self.session.store.correct([(run.id, found.answer)])
        self._say("\n".join([*(f"! {doubt}" for doubt in found.doubts), f"the correction of run {run.id} is recorded"]))

    def show(self) -> None:
        """Show the last run from the record."""
        from agent.commands.traces import render

        if not self.last_run:
            raise UsageError("there is no run to show yet")
        self.session.store.flush()
        parts = self.session.store.runs(limit=-1, parent=self.last_run)[::-1]
        self._say(render(self.session.store.get(self.last_run), parts))

    def forget(self) -> None:
        self.turns.clear()
        self._say("the conversation starts anew; the record stays")

    async def tell_stopped(self) -> None:
        """Say that a line was stopped, once its record is closed."""
        try:
            await asyncio.to_thread(self.session.store.flush)
            self._say("stopped; what was done is on record")
        except StoreError as error:
            self._say(f"stopped; {error.message}")

    def _say(self, text: str) -> None:
        from agent.terminal import clean

        print(clean(text))


OWN: dict[str, Callable[[Conversation], None]] = {
    "/good": lambda conversation: conversation.label("good"),
    "/bad": lambda conversation: conversation.label("bad"),
    "/edit": Conversation.edit,
    "/trace": Conversation.show,
    "/new": Conversation.forget,
    "/help": lambda conversation: print(HELP),
}


async def chat(options: argparse.Namespace) -> int:
    """Read lines until the person leaves. Without a terminal, lines come from standard input."""
    from agent import terminal
    from agent.commands import task

    sink = terminal.choose(as_json=options.json, quiet=options.quiet)
    holder: list[Conversation] = []

    def emit(event: Event) -> None:
        if event.kind == "run" and holder and not event.data["parent"]:
            holder[0].last_run = event.run_id
        if event.kind == "end" and holder:
            holder[0].ended_well = event.data["outcome"] == "success"
        sink(event)

    ask = task.ask_on_terminal if task.at_terminal() else None
    session = await task.open_session(options, emit, ask=ask, how="leave, and begin `apprentice chat` with")
    conversation = Conversation(session, options.model, by_person=bool(sys.stdin and sys.stdin.isatty()))
    holder.append(conversation)
    try:
        if task.at_terminal():
            await _interactive(conversation)
        else:
            await _piped(conversation)
    finally:
        await session.close()
    return 0


async def _interactive(conversation: Conversation) -> None:
    session = conversation.session
    tools = session.tools | (session.mcp.approved() if session.mcp else {})
    named = {name: tool.origin for name, tool in tools.items()}
    commands = ["/" + name for name in session.skills] + list(OWN) + ["/quit"]
    prompt = _prompt(commands, named, session.tool_context.redactor)
    print(f"Apprentice {_served_by(conversation)}. /help says what you can type; Ctrl-D leaves.")
    while True:
        try:
            line = (await prompt.prompt_async("> ")).strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            continue
        if line and not await _interruptible(conversation, line):
            return


def _served_by(conversation: Conversation) -> str:
    from agent.router import route

    try:
        return f"with {route(conversation.session.settings, flag=conversation.model, skills=[]).model}"
    except ApprenticeError:
        return "without a model: restart with --model ADDRESS, or set models.default"


async def _piped(conversation: Conversation) -> None:
    for line in sys.stdin:
        if line.strip() and not await conversation.take(line.strip()):
            return


async def _interruptible(conversation: Conversation, line: str) -> bool:
    """Do a line; Ctrl-C cancels it, and only it."""
    work = asyncio.ensure_future(conversation.take(line))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            return await work
        await conversation.tell_stopped()
        return True
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _prompt(commands: Iterable[str], tools: Mapping[str, str], redactor: Redactor) -> PromptSession[str]:
    """An input line with history, completion, and Alt-Enter for a further line.

    Args:
        commands: what a line may begin with.
        tools: names that may stand anywhere in it, each with where the tool comes from.
        redactor: for the history.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter, merge_completers
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return PromptSession(
        history=_history(redactor),
        completer=merge_completers(
            [
                WordCompleter(list(commands), sentence=True),
                WordCompleter(list(tools), WORD=True, meta_dict=dict(tools)),
            ]
        ),
        key_bindings=keys,
        multiline=True,
        complete_while_typing=False,
    )


def _history(redactor: Redactor) -> History:
    """The lines of all REPLs, in a file of the person's own; in memory alone where it cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Redacted(FileHistory):
        """Like the record, it keeps no secret that a person pastes."""

        def store_string(self, string: str) -> None:
            with contextlib.suppress(OSError):  # a full disk: the line itself still counts
                super().store_string(redactor.redact(string))

    path = config.cache_dir() / "chat_history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        return InMemoryHistory()
    return Redacted(str(path))
