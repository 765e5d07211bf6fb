"""Supervised fine-tuning of an adapter, from a recipe to the best checkpoint.

Read top to bottom: `train` sets a run up and says how it ended; `_Run.work` is the loop, `step` one step of the
optimiser, `evaluate` what happens after an epoch. Several GPUs: `accelerate launch` starts this in every process; each
takes its share of a batch's examples, and the gradients are summed, so that the losses are those of one process.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ApprenticeError, OutputError, TrainingError
from training import base
from training.learning import checkpoint, data, optim, processes
from training.learning.checkpoint import Summary
from training.learning.encode import Example
from training.recipe import Recipe

if TYPE_CHECKING:
    from training.learning.policy import Rollouts

Tell = Callable[[dict[str, Any]], None]


def train(recipe: Recipe, out: Path, *, resume: bool = False, tell: Tell = lambda event: None) -> Summary:
    """Train an adapter.

    Args:
        recipe: what to do; its `dataset` is a folder.
        out: the run's folder: recipe.toml, metrics.jsonl, checkpoint-STEP/, adapter/ (the best), summary.json.
        resume: go on with the last checkpoint in `out`.
        tell: takes each event, a dictionary with `event`: notice, start, step, epoch, end.

    Returns:
        How it ended: finished, or interrupted by a signal.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or one with another recipe.
        InputError: the dataset or the adapter to start from cannot be used.
        ModelUnavailable: the base or a package is not there.
        TrainingError: the loss is not a number, or the memory is full; the last checkpoint is good.
        OutputError: the disk is full, or `out` cannot be written.
    """
    main = int(os.environ.get("RANK", "0")) == 0
    done = checkpoint.open_run(out, recipe, resume=resume, main=main)
    if done is not None:
        tell({"event": "notice", "text": f"{out} is already finished"})
        return done
    run = _Run(recipe, out, tell)
    stopped = "interrupted"
    try:
        run.start(resume)
        stopped = run.work()
    except ApprenticeError as error:
        stopped = error.message
        raise
    finally:
        summary = run.close(stopped)
    return summary


class _Run:
    """One training run while it goes on."""

    def __init__(self, recipe: Recipe, out: Path, tell: Tell) -> None:
        from training.learning import model

        self.recipe, self.out = recipe, out
        self.accelerator = processes.join(recipe, model.choose_device(recipe.device), out)
        self.main = self.accelerator.is_main_process
        self.tell: Tell = tell if self.main else lambda event: None
        self.device = self.accelerator.device
        with self.accelerator.main_process_first():
            self.base = base.find(recipe.base)
        self.data = data.load(recipe, base.load_tokenizer(self.base.source))
        self.model = model.build(recipe, self.base, self.device)
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = optim.make_optimizer(recipe, self.weights)
        self.progress = checkpoint.Progress()
        self.per_epoch = self.data.steps_per_epoch(recipe)
        self.total = min(recipe.epochs * self.per_epoch, recipe.max_steps or sys.maxsize)
        self.rollouts = self.sampling()
        self.saved = 0
        self.whole = True
        """Whether the weights are those of a whole step, and not of one that broke off half-way."""

    def sampling(self) -> Rollouts | None:
        """What lets the model learn from its own replies, if the recipe wants that."""
        recipe = self.recipe
        if not recipe.policy.samples:
            return None
        from training.learning.policy import Rollouts

        longest = max(example.trained.index(True) for example in self.data.own)
        share = -(-recipe.batch // self.accelerator.num_processes)
        options: dict[str, Any] = {"prompts": share, "longest": longest, "graphs": recipe.precision != "nf4"}
        return Rollouts(self.model, self.data.encoder, self.data.taught, recipe.policy, **options)

    def start(self, resume: bool) -> None:
        """Go on with the last checkpoint, or from the beginning, and tell what the run is made of."""
        from training.learning.model import load_adapter

        found = checkpoint.checkpoints(self.out) if resume else []
        if found:
            self.progress, state = checkpoint.load(found[-1], self.data.sha256, self.device)
            load_adapter(self.model, found[-1])
            self.optimizer.load_state_dict(state)
            self.saved = self.progress.step
        elif resume:
            self.notice(f"{self.out} holds no checkpoint yet: it begins anew")
        if self.main:
            checkpoint.rewind_metrics(self.out, self.progress.step)
        if long := self.data.too_long:
            self.notice(f"left out, of more than {self.recipe.max_length} tokens: {len(long)} rows, e.g. {long[0]}")
        told = {"step": self.progress.step, "steps": self.total, "per_epoch": self.per_epoch, "rows": self.data.rows}
        told |= {
            "tokens": sum(len(example.tokens) for example in self.data.own),
            "targets": sum(example.targets for example in self.data.own),
            "weights": sum(weight.numel() for weight in self.weights),
        }
        where = {"device": processes.device_name(self.device), "processes": self.accelerator.num_processes}
        self.tell({"event": "start", **told, "base": self.base.name, **where})

    def work(self) -> str:
        """Step after step until the end; says what ended it. A signal ends it after the step, with a checkpoint."""
        from training.learning import packing, score

        with processes.signals() as signalled, score.attending(self.model, packing.NAME), self.rescue():
            batches = self.batches()
            while not (reason := self.ended()):
                stopping = self.step(next(batches), stop=bool(signalled))
                if self.progress.step % self.per_epoch == 0 or self.progress.step == self.total:
                    self.evaluate()
                    self.keep_epoch()
                    self.save()
                elif stopping or self.progress.step % self.recipe.save_steps == 0:
                    self.save()
                if stopping and not self.ended():
                    return "interrupted"
            self.average()
        return reason

    def batches(self) -> Iterator[list[Example]]:
        """The batches from where the run is, epoch after epoch."""
        epoch, first = divmod(self.progress.step, self.per_epoch)
        while True:
            yield from self.data.epoch(epoch, self.recipe)[first:]
            epoch, first = epoch + 1, 0

    def ended(self) -> str:
        """Why the run is at its end; empty if it is not."""
        if 0 < self.recipe.patience <= self.progress.epochs_without_better:
            return "patience"
        if self.progress.step < self.total:
            return ""
        return "epochs" if self.total == self.recipe.epochs * self.per_epoch else "max_steps"

    def step(self, batch: list[Example], *, stop: bool) -> bool:
        """One step of the optimiser over a batch of examples. Returns whether any process wants to stop.

        Raises:
            TrainingError: the loss or its gradient is not a number; the weights are as they were before.
        """
        import torch

        began = time.perf_counter()
        number = self.progress.step + 1
        torch.manual_seed(hash((self.recipe.seed, number, self.accelerator.process_index)))  # dropout, also resumed
        rate = optim.learning_rate(self.recipe, number, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, stopping, norm = self.gradients(batch, stop)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise TrainingError(
                f"the loss of step {number} is not a number (loss {loss}, gradient {norm})",
                "Lower optim.lr, or look at the rows of that step.",
            )
        self.whole = False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.whole = True
        tokens, seconds = sum(len(example.tokens) for example in batch), time.perf_counter() - began
        self.progress.step = number
        self.progress.tokens += tokens
        self.progress.seconds += seconds
        told = {"step": number, "epoch": round(number / self.per_epoch, 4), "loss": loss, "lr": rate, "grad_norm": norm}
        if self.rollouts:
            told["reward"] = self.rollouts.reward
        speed = {"tokens": tokens, "tokens_per_second": round(tokens / seconds, 1)}
        self.log("step", told | speed | {"memory_bytes": processes.memory(self.device)})
        return stopping

    def gradients(self, batch: list[Example], stop: bool) -> tuple[float, bool, float]:
        """Make the gradients of a batch's loss. Returns the loss (nats a target), who wants to stop, and the norm.

        The sum over all targets of the whole batch is divided by their number, however it is cut into pieces and
        processes, so that a target counts the same in each.
        """
        import torch

        from training.learning import packing, score

        count = float(sum(example.targets for example in batch))
        world, index = self.accelerator.num_processes, self.accelerator.process_index
        mine = sorted(batch, key=lambda example: len(example.tokens))[index::world]
        if self.rollouts:
            mine, count = self.rollouts(mine), float(world)
        told = torch.tensor([0.0, float(stop)], device=self.device)
        for piece in packing.micro_batches(mine, self.recipe.micro_tokens):
            packed = packing.pack(piece, self.device)
            loss, plain = score.summed_loss(self.model, packed, self.recipe.label_smoothing)
            (loss / count).backward()  # type: ignore[no-untyped-call]
            told[0] += plain / count
        if world > 1:
            told = processes.add_up(self.accelerator, told, self.weights)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.recipe.optim.clip)
        values: list[float] = torch.cat([told, norm.reshape(1)]).tolist()  # the one place that waits for the GPU
        return values[0], values[1] > 0, values[2]

    def evaluate(self) -> None:
        """Measure the validation split, log it, and keep the adapter if it is the best so far."""
        found = self.measure()
        value = found.get(self.metric, float(self.progress.step))
        best = self.progress.best_metric
        better = best is None or self.metric == "last" or (value < best if self.metric == "loss" else value > best)
        if better:
            self.progress.best_step, self.progress.best_metric = self.progress.step, value
            self.write(lambda: checkpoint.write_adapter(self.out / "adapter", *self.adapter()))
        self.progress.epochs_without_better = 0 if better else self.progress.epochs_without_better + 1
        self.log("epoch", {"step": self.progress.step, **found, "best": better})

    def measure(self) -> dict[str, float]:
        """The held-out loss (nats a target) and, where answers are generated, f1, valid and agreement (shares)."""
        from training.learning import score

        if not self.data.validation:
            return {}
        world, index = self.accelerator.num_processes, self.accelerator.process_index
        sums = score.held_out_loss(self.model, self.data.validation[index::world], self.recipe, self.device)
        loss, targets = self.accelerator.reduce(sums, "sum").tolist()
        found = {"loss": loss / targets}
        if self.data.asked:
            sums = score.generated_scores(
                self.model, self.data, self.data.asked[index::world], self.recipe, self.device
            )
            found |= score.told(self.accelerator.reduce(sums, "sum"))
        return found

    def keep_epoch(self) -> None:
        """Keep the adapter as this epoch leaves it, if the recipe wants the mean of the last ones."""
        if count := self.recipe.average:
            self.write(lambda: checkpoint.keep_epoch(self.out, self.progress.step, self.adapter()[0], count))

    def average(self) -> None:
        """Try the mean of the last epochs' adapters; it is kept if it is better than the best of them."""
        from safetensors.torch import load_file, save

        from training.learning.model import load_adapter

        self.accelerator.wait_for_everyone()
        kept = checkpoint.epochs(self.out)
        if not self.recipe.average or len(kept) < 2:
            return
        states = [load_file(path) for path in kept]
        mean = {key: sum((state[key] for state in states[1:]), states[0][key]) / len(states) for key in states[0]}
        folder = self.out / "epochs" / "mean"
        weights = save(mean, metadata={"format": "pt"})
        self.write(lambda: checkpoint.write_adapter(folder, weights, self.adapter()[1]))
        self.accelerator.wait_for_everyone()
        load_adapter(self.model, folder)
        self.notice(f"the mean of the last {len(kept)} epochs' adapters:")
        self.evaluate()

    def save(self) -> None:
        """Write a checkpoint of the step that is done, unless it is there."""
        if self.saved != self.progress.step:
            state, sha256 = self.optimizer.state_dict(), self.data.sha256
            self.write(lambda: checkpoint.save(self.out, self.progress, self.adapter(), state, sha256))
            self.saved = self.progress.step

    def log(self, event: str, line: dict[str, Any]) -> None:
        """Tell an event, add it to metrics.jsonl, and send its numbers to the trackers."""
        self.write(lambda: checkpoint.write_metrics(self.out, {"event": event, **line}))
        self.tell({"event": event, **line})
        self.accelerator.log({key: value for key, value in line.items() if key != "step"}, step=line["step"])

    def notice(self, text: str) -> None:
        self.tell({"event": "notice", "text": text})

    def write(self, write: Callable[[], object]) -> None:
        """Write files, in the main process only."""
        if self.main:
            write()

    def adapter(self) -> tuple[bytes, bytes]:
        from training.learning.model import save_adapter

        return save_adapter(self.model)

    @property
    def metric(self) -> str:
        """What decides which epoch is the best; without validation rows, the last one is."""
        return "f1" if self.data.asked else "loss" if self.data.validation else "last"

    @contextmanager
    def rescue(self) -> Iterator[None]:
        """Whatever breaks the run off: the last whole step is saved if it can be, and the reason told."""
        import torch

        try:
            yield
            return
        except TrainingError as error:
            self.save_what_is_whole()
            raise TrainingError(error.message, f"{self.last_checkpoint()} {error.hint}") from None
        except OutputError as error:
            raise OutputError(error.message, f"{self.last_checkpoint()} {error.hint}") from None
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
                raise
        self.optimizer.zero_grad(set_to_none=True)  # here, since the error held the tensors of the step that failed
        self.save_what_is_whole()
        raise TrainingError(
            f"the memory of {processes.device_name(self.device)} is full at step {self.progress.step + 1}",
            f"{self.last_checkpoint()} Lower micro_tokens (now {self.recipe.micro_tokens}) or set checkpointing=true; "
            "`apprentice train plan` says what fits.",
        )

    def save_what_is_whole(self) -> None:
        """Save the last whole step, if there is one and the disk takes it."""
        if self.whole and self.progress.step:
            try:
                self.save()
            except (OutputError, MemoryError):
                return

    def last_checkpoint(self) -> str:
        found = checkpoint.checkpoints(self.out)
        return (
            f"The last checkpoint is {found[-1]}: --resume goes on there." if found else "There is no checkpoint yet."
        )

    def close(self, stopped: str) -> Summary:
        """Write summary.json (where a run broke off: if the disk takes it) and let the processes go."""
        done = self.progress
        summary = Summary(
            finished=stopped in ("epochs", "max_steps", "patience"),
            stopped=stopped,
            best_step=done.best_step,
            best_metric=done.best_metric,
            metric=self.metric,
            train_rows=self.data.rows,
            dataset_sha256=self.data.sha256,
            base={"name": self.base.name, "sha256": self.base.sha256},
            tokens=done.tokens,
            seconds=round(done.seconds, 3),
            tokens_per_second=round(done.tokens / done.seconds, 1) if done.seconds else 0.0,
            peak_memory_bytes=processes.memory(self.device),
            device=processes.device_name(self.device),
        )
        try:
            self.write(lambda: checkpoint.write_summary(self.out, summary))
        except OutputError:
            if summary.finished:
                raise
        self.tell({"event": "end", **asdict(summary)})
        self.accelerator.end_training()
        return summary
