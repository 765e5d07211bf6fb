"""What a person sees of a training run: a table that is kept up to date, or plain lines without a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

LINE_EVERY = 10
"""Steps between two plain lines."""
EPOCHS_SHOWN = 12


class View:
    """Shows the events of `training.sft.train`. Use it as `with View() as view: train(..., tell=view.tell)`.

    Args:
        console: where to; standard error if not given, so that standard output holds only the result.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False)
        self.begun: dict[str, Any] = {}
        self.step: dict[str, Any] = {}
        self.epochs: list[dict[str, Any]] = []
        self.live = Live(console=self.console, refresh_per_second=4, transient=False)

    def __enter__(self) -> View:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def tell(self, event: dict[str, Any]) -> None:
        """Take one event."""
        kind = event["event"]
        if kind == "start":
            self.begun = event
            self.say(begin_line(event))
        elif kind == "notice":
            self.say(f"! {event['text']}")
        elif kind == "step":
            self.step = event
        elif kind == "epoch":
            self.epochs.append(event)
        if self.console.is_terminal:
            self.live.update(self.table())
        elif kind == "epoch" or (kind == "step" and (event["step"] % LINE_EVERY == 0 or event["step"] == 1)):
            self.say(plain_line(event, self.begun))

    def say(self, line: str) -> None:
        """Print a line as it is; a file's name may hold brackets."""
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def table(self) -> Table:
        """The last step, and the last epochs' evaluations."""
        judged = "reward" if "reward" in (self.step or {}) else "loss"
        table = Table("step", "epoch", judged, "held out", "F1", "valid", "rate", "gradient", "tokens/s", "memory")
        for epoch in self.epochs[-EPOCHS_SHOWN:]:
            mark = " *" if epoch["best"] else ""
            f1, valid = (f"{epoch[key]:.3f}" if key in epoch else "" for key in ("f1", "valid"))
            held = f"{epoch['loss']:.4f}{mark}" if "loss" in epoch else mark
            table.add_row(f"{epoch['step']}", "", "", held, f1, valid, "", "", "", "")
        if self.step:
            step = self.step
            table.add_row(
                f"{step['step']}/{self.begun['steps']}",
                f"{step['epoch']:.2f}",
                f"{step[judged]:.4f}",
                "",
                "",
                "",
                f"{step['lr']:.2e}",
                f"{step['grad_norm']:.3f}",
                f"{step['tokens_per_second']:,.0f}",
                f"{step['memory_bytes'] / 2**30:.2f} GiB",
            )
        return table


def begin_line(event: dict[str, Any]) -> str:
    """What a run is made of, in one sentence."""
    share = event["targets"] / event["tokens"]
    several = f", {event['processes']} processes" if event["processes"] > 1 else ""
    onward = f" from step {event['step']}" if event["step"] else ""
    return (
        f"{event['rows']} rows, {event['tokens']:,} tokens ({share:.0%} trained on), {event['weights']:,} weights on "
        f"{event['base']}, {event['device']}{several}; {event['steps']} steps{onward}"
    )


def plain_line(event: dict[str, Any], begun: dict[str, Any]) -> str:
    """One step or one evaluation, for logs."""
    if event["event"] == "epoch":
        parts = [f"{key} {event[key]:.4f}" for key in ("loss", "f1", "valid", "agreement") if key in event]
        best = "the best so far" if event["best"] else "not better"
        return f"step {event['step']}: held out: {', '.join([*parts, best])}"
    judged = "reward" if "reward" in event else "loss"
    return (
        f"step {event['step']}/{begun['steps']}: {judged} {event[judged]:.4f}, rate {event['lr']:.2e}, "
        f"{event['tokens_per_second']:,.0f} tokens/s, {event['memory_bytes'] / 2**30:.2f} GiB"
    )
