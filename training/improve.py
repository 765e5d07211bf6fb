"""`improve`: from what is on record to a specialist that serves, if it is better than the one that does.

Read top to bottom: `improve` is the whole way, and each stage is one method of `_Work`. A stage that is done is not
done again (improvement/state.py); a stage that was broken off goes on where it was: the curator with its next
annotation, training with its last checkpoint, the evaluation with its next row. Annotations are curated first, since
the rows of the dataset need to know which of the incumbent's own answers were kept.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from agent import config, improving, registry, specialists
from agent.errors import InputError, UsageError
from agent.messages import Json
from agent.models import embedded
from agent.models.gguf_file import sha256
from agent.registry import Specialist
from training.curation.curate import Decision
from training.dataset import folder as datasets
from training.dataset.build import write
from training.improvement import material, measure, rehearsing
from training.improvement.material import Order
from training.improvement.state import STAGES, State, alone, digest, read
from training.recipe import Lora, Recipe

DECISIONS = "decisions.jsonl"
MEASURED = ("annotate",)
"""The skills that there is a suite and a metric for."""


@dataclass(frozen=True, slots=True)
class Result:
    """How an improvement ended.

    Args:
        promoted: whether the candidate serves from the next run on.
        reasons: the gate's sentences, or why it never came to the gate.
        candidate: its address; empty if none was made.
        incumbent: the address of what it had to beat; empty if it never came to that.
        table: each metric before and after.
        report: the folder of both reports.
        again: whether nothing is new since the last time, whose result this is.
    """

    promoted: bool
    reasons: list[str]
    candidate: str = ""
    incumbent: str = ""
    table: list[tuple[str, float, float]] | None = None
    report: str = ""
    again: bool = False


class View(Protocol):
    """Who is told what goes on."""

    def say(self, text: str) -> None:
        """A sentence, e.g. that a stage is done."""

    def training(self, event: Json) -> None:
        """An event of `training.sft.train`."""

    def row(self, name: str, done: int, total: int, row: Any) -> None:
        """A row of `name` was measured: how many are done, how many there are."""


class Unheard:
    """Nobody."""

    def say(self, text: str) -> None: ...

    def training(self, event: Json) -> None: ...

    def row(self, name: str, done: int, total: int, row: Any) -> None: ...


async def improve(order: Order, *, restart: bool = False, view: View | None = None) -> Result:
    """Curate, build, train, add, evaluate, ask the gate, promote.

    Args:
        order: what a person asked for.
        restart: begin anew, also where a broken-off improvement could be gone on with.
        view: told what goes on.

    Returns:
        How it ended. The gate's no is a result, not an error.

    Raises:
        UsageError: another improvement of the skill is at work, or it is a skill that cannot be measured.
        KeyboardInterrupt: a signal ended the training; the same call goes on there.
        ApprenticeError: what a stage raises; the same call goes on with that stage.
    """
    view = view or Unheard()
    name = specialist_of(order.skill)
    with alone(order.folder):
        improving.remember(order.folder, order.settings)
        state, incumbent = _begin(order, name, restart)
        if state.resumed:
            view.say(f"going on after the stage {[s for s in STAGES if s in state.content['stages']][-1]}")
        work = _Work(order, name, state, incumbent, view)
        result = await work.do()
        state.finish(asdict(replace(result, again=False)))
        return result


def specialist_of(skill: str) -> str:
    """The name of a skill's specialist. Raises UsageError if there is none, or nothing to measure it by."""
    from skills import registry as skills

    known, _ = skills.load(config.config_dir() / "skills", None)
    if skill not in MEASURED or not known[skill].metadata.get("specialist"):
        raise UsageError(f"the skill {skill!r} cannot be improved", f"There are suites for: {', '.join(MEASURED)}.")
    return known[skill].metadata["specialist"]


def recipe_for(recipe: Recipe, incumbent: Specialist | None) -> Recipe:
    """The recipe as it is used: going on from an adapter takes that adapter's rank, alpha and layers.

    Raises:
        UsageError: it trains another base than the one that is served.
    """
    if recipe.base != "embedded":
        raise UsageError(
            f"the recipe {recipe.name} trains {recipe.base}, and the embedded base is served",
            "Set base=embedded (and models.local_path, if another GGUF is to stand in for it).",
        )
    if incumbent is None:
        return recipe
    adapter = incumbent.card["adapter"]
    same = {"r": adapter["rank"], "alpha": adapter["alpha"], "targets": adapter["targets"]}
    lora = Lora.model_validate({**recipe.lora.model_dump(), **same})
    return recipe.model_copy(update={"lora": lora})


def _begin(order: Order, name: str, restart: bool) -> tuple[State, Specialist | None]:
    """The state to go on with, or a new one; and the version that has to be beaten.

    A process that died between the promotion and its last line finds its own candidate serving: then what it had to
    beat is still the version before.
    """
    base = embedded.find(order.settings)
    serving = registry.promoted(name, order.settings)
    if serving is not None:
        registry.check_weights(serving, base)
    asked = {
        "recipe": order.recipe.model_dump(mode="json"),
        "files": [[_sha256(path) for path in group] for group in (order.gold, order.rows, order.exclude)],
        "base": sha256(base),
    }
    found = read(order.folder)
    made = found.get("stages", {}).get("add", {}).get("output", {})
    if serving is not None and not restart and "result" not in found and made.get("version") == serving.version:
        earlier = found["request"]["incumbent"]
        state = State(order.folder, {**asked, "incumbent": earlier})
        if state.resumed:
            before = registry.specialist(name, earlier["version"], order.settings) if earlier else None
            return state, before
    return State(order.folder, {**asked, "incumbent": _known(serving)}, restart=restart), serving


class _Work:
    """One improvement while it goes on."""

    def __init__(self, order: Order, name: str, state: State, incumbent: Specialist | None, view: View) -> None:
        self.order, self.name, self.state, self.incumbent, self.view = order, name, state, incumbent, view
        self.settings = order.settings
        self.recipe = recipe_for(order.recipe, incumbent)
        self.dataset = order.folder / "dataset"

    async def do(self) -> Result:
        """Every stage in turn."""
        curated = await self.stage("curate", None, self.curate)
        built = await self.stage("build", [curated, self.settings.gate.rows], self.build)
        if "missing" in built:
            return Result(False, [built["missing"]])
        if "again" in built:
            return replace(Result(**built["again"]), again=True)
        trained = await self.stage("train", built, self.train)
        added = await self.stage("add", trained, self.add)
        candidate = registry.specialist(self.name, added["version"], self.settings)
        measured = await self.stage("evaluate", [added, self.settings.annotate.model_dump()], self.evaluate)
        policy = self.settings.gate.model_dump()
        decided = await self.stage("gate", [measured, policy], self.gate)
        result = Result(
            decided["promote"],
            decided["reasons"],
            candidate.address,
            measured["incumbent"],
            [(name, before, after) for name, before, after in measured["table"]],
            measured["report"],
        )
        if decided["promote"]:
            await self.stage("promote", decided, self.promote)
        return result

    async def stage(self, name: str, inputs: Any, work: Callable[[str], Any]) -> Json:
        """One stage, and a sentence about it. What found too little is not remembered as done."""
        began = time.monotonic()
        output, before = await self.state.stage(name, inputs, work)
        seconds = "done before" if before else f"{time.monotonic() - began:.1f} s"
        self.view.say(f"{name:<9} {output['told']} ({seconds})")
        return output

    async def curate(self, key: str) -> Json:
        """The curator's rules decide on every annotation on record; the runs are labelled."""
        found = await material.curated(self.order, self.order.folder / DECISIONS)
        kept = sorted(decision.run for decision in found if decision.kept)
        return {"told": f"{len(kept)} of {len(found)} annotations on record kept", "kept": digest(kept)}

    async def build(self, key: str) -> Json:
        """The dataset, if enough verified rows can be kept out of it; with what the recipe rehearses."""
        kept = {decision.run for decision in self.decisions() if decision.kept}
        inputs, prepared = material.rows(self.order, self.incumbent, kept, self.view.say)
        if missing := material.missing(prepared, self.settings.gate.rows):
            return {"told": "too few verified rows", "missing": missing}
        if self.recipe.rehearsal and not rehearsing.given(self.order.rows):
            answers = await rehearsing.answers(self.order, self.view.say)
            order = replace(self.order, rows=(*self.order.rows, answers))
            inputs, prepared = material.rows(order, self.incumbent, kept)
        datasets.take_up(self.dataset)
        manifest = await write(prepared, inputs, self.dataset, self.settings)
        before = self.state.before
        if before and before["stages"].get("build", {}).get("output", {}).get("sha256") == manifest["sha256"]:
            told = "nothing new since the last time"
            return {"told": told, "sha256": manifest["sha256"], "again": before["result"]}
        train, gate = (manifest["files"][split]["rows"] for split in ("train", "gate"))
        told = f"{train} rows to train on ({_sources(material.counts(prepared))}), {gate} kept out for the gate"
        return {"told": told, "sha256": manifest["sha256"]}

    def decisions(self) -> list[Decision]:
        """The curator's decisions, as they stand in their file."""
        from training.synthesis.journal import Journal

        return [Decision(**entry) for entry in Journal(self.order.folder / DECISIONS).entries]

    async def train(self, key: str) -> Json:
        """The adapter: from the incumbent's on, or from nothing."""
        from training import sft
        from training.export import peft_adapter

        run, recipe = self.state.product("run", key), self.recipe.model_copy(update={"dataset": str(self.dataset)})
        if self.incumbent:
            start = self.state.product("start", key)
            if not start.is_dir():
                peft_adapter(self.incumbent.adapter, embedded.find(self.settings), start)
            recipe = recipe.model_copy(update={"start": str(start)})
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's waits until nothing blocks
        try:
            summary = sft.train(recipe, run, resume=run.is_dir(), tell=self.view.training)
        finally:
            signal.signal(signal.SIGINT, before)
        if not summary.finished:
            raise KeyboardInterrupt
        told = f"{summary.tokens:,} tokens in {summary.seconds:.0f} s, the best at step {summary.best_step}"
        return {"told": told, "run": str(run)}

    async def add(self, key: str) -> Json:
        """The candidate in the registry; the one that a killed process added is found again."""
        from training import publish

        run = Path(self.state.content["stages"]["train"]["output"]["run"])
        summary = json.loads((run / "summary.json").read_text("utf-8"))
        known = [one for one in registry.specialists(self.settings) if one.name == self.name]
        found = next((one for one in known if one.card.get("training") == summary), None)
        found = found or publish.add(self.name, run, self.settings, dataset=self.dataset)
        return {"told": found.address, "version": found.version}

    async def evaluate(self, key: str) -> Json:
        """Both reports that the gate reads."""
        out, found = self.state.product("measured", key), self.candidate()
        cases = self.dataset / datasets.CASES
        measured = await measure.on_cases(cases, found, self.incumbent, self.settings, out / "annotate", self.view.row)
        rehearsed = await measure.on_rehearsal(found, self.settings, out / "rehearsal", self.view.row)
        rival = list(measured["models"])[1]
        told = f"{measured['suite']['rows']} rows that neither has seen, against {rival}"
        table = measure.table(measured, rehearsed)
        return {"told": told, "report": str(out), "incumbent": rival, "table": table}

    async def gate(self, key: str) -> Json:
        """The gate's decision, kept beside the candidate's card."""
        from training import gate

        out, base = Path(self.state.content["stages"]["evaluate"]["output"]["report"]), embedded.find(self.settings)
        reports = out / "annotate", out / "rehearsal"
        decision = gate.judge(self.candidate(), self.incumbent, *reports, self.settings.gate, sha256(base))
        return {"told": "yes" if decision.promote else "no", "promote": decision.promote, "reasons": decision.reasons}

    async def promote(self, key: str) -> Json:
        """The pointer moves, unless a killed process moved it."""
        found, serving = self.candidate(), registry.promoted(self.name, self.settings)
        if serving is None or serving.version != found.version:
            specialists.promote(self.name, found.version, self.settings)
        return {"told": f"{found.address} serves from the next run on"}

    def candidate(self) -> Specialist:
        version = self.state.content["stages"]["add"]["output"]["version"]
        return registry.specialist(self.name, version, self.settings)


def _known(found: Specialist | None) -> dict[str, str] | None:
    return {"version": found.version, "adapter": found.adapter_sha256} if found else None


def _sources(counts: dict[str, dict[str, int]]) -> str:
    return ", ".join(f"{by_split['train']} {source}" for source, by_split in counts.items() if "train" in by_split)


def _sha256(path: Path) -> str:
    try:
        return specialists.file_sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
