"""`train dataset`: build one, show what it holds, review a share of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import config
from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.messages import Json


def add_actions(actions: Any) -> None:
    """Add `dataset` with its own actions to those of `train`."""
    dataset = actions.add_parser("dataset", help="make, show or review the rows to train on")
    steps = dataset.add_subparsers(metavar="ACTION", title="actions", required=True)
    _add_build(steps)
    show = steps.add_parser("show", help="what a dataset holds")
    show.add_argument("folder", nargs="?", type=Path, default=None, metavar="DIR")
    show.add_argument("--json", action="store_true", help="the manifest")
    show.set_defaults(run=show_dataset)
    review = steps.add_parser("review", help="look at a random share: y(es), n(o), e(dit), q(uit)")
    review.add_argument("folder", nargs="?", type=Path, default=None, metavar="DIR")
    review.add_argument("--share", type=share, default=0.15, metavar="X", help="of the rows (default: 0.15)")
    review.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice (default: 0)")
    review.set_defaults(run=review_dataset)


def _add_build(steps: Any) -> None:
    build = steps.add_parser("build", help="make a dataset from the record and from files")
    build.add_argument("--out", type=Path, metavar="DIR", help="default: datasets/SKILL in your data folder")
    build.add_argument("--skill", default="annotate", metavar="NAME", help="agent: runs without one; all: every one")
    for name, told in FILES.items():
        build.add_argument(f"--{name}", type=Path, action="append", default=[], metavar="PATH", help=told)
    build.add_argument("--unverified", action="store_true", help="train on what nobody verified, too")
    build.add_argument("--no-traces", action="store_true", help="from the files alone")
    build.add_argument("--validation", type=float, default=0.1, metavar="X", help="share of documents (default: 0.1)")
    build.add_argument("--gate", type=float, default=0.1, metavar="X", help="share of documents (default: 0.1)")
    build.add_argument("--least", type=int, default=40, metavar="N", help="verified in the gate (default: 40)")
    build.add_argument("--json", action="store_true", help="the manifest")
    build.set_defaults(run=build_dataset)


FILES = {
    "gold": "annotations by people (JSONL, CSV); repeatable, as all files are",
    "curated": "an agent's annotations that the curator kept",
    "agent": "an agent's annotations as they came",
    "rows": "training rows, e.g. synthetic or rehearsal",
    "exclude": "evaluation files: their documents stay out",
}


def share(text: str) -> float:
    """A share above 0, at most 1, given as an option's value."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share above 0 and up to 1")
    return found


async def build_dataset(options: argparse.Namespace) -> int:
    from agent.commands.record import OpenStore
    from training.dataset import trajectories
    from training.dataset.build import Inputs, build
    from training.dataset.selection import Rules
    from training.dataset.split import Shares

    skill = "" if options.skill == "all" else options.skill
    rules = Rules(Shares(options.validation, options.gate, options.least), options.unverified)
    inputs = Inputs(skill, **{name: options.__dict__[name] for name in FILES}, rules=rules)
    out = options.out or _usual(options.skill)
    settings, _ = config.load(Path("/dev/null"), trusted=False)
    with OpenStore() as store:
        manifest = await build(inputs, () if options.no_traces else trajectories.on_record(store), out, settings)
    _tell(manifest, out, as_json=options.json)
    return 0


def _usual(skill: str) -> Path:
    settings, _ = config.load(Path("/dev/null"), trusted=False)
    return config.data_dir(settings) / "datasets" / skill


async def show_dataset(options: argparse.Namespace) -> int:
    from training.dataset.folder import read_manifest

    folder = options.folder or _usual("annotate")
    _tell(read_manifest(folder), folder, as_json=options.json)
    return 0


def _tell(manifest: Json, folder: Path, *, as_json: bool) -> None:
    """Print what a dataset holds, or its manifest."""
    import json

    from agent.terminal import clean

    if as_json:
        print(json.dumps(manifest, ensure_ascii=False))
        return
    lines = [f"{folder}: {manifest['skill']}, sha256 {manifest['sha256'][:16]}", ""]
    lines.append(f"{'split':<12}{'rows':>7}{'verified':>10}{'documents':>11}")
    for split, file in manifest["files"].items():
        documents = len(manifest["documents"][split])
        lines.append(f"{split:<12}{file['rows']:>7}{manifest['verified'][split]:>10}{documents:>11}")
    lines += ["", "sources    " + (_counted(manifest["sources"]) or "none")]
    for part in ("prompt", "completion") if manifest["tokens"] else ():
        found = manifest["tokens"][part]
        lines.append(f"{part:<11}{found['median']} tokens at the median, p90 {found['p90']}, at most {found['max']}")
    for entry in manifest["dropped"]:
        some = ", ".join(entry["examples"][:3]) + (", …" if entry["count"] > 3 else "")
        lines.append(f"left out   {entry['count']}: {entry['reason']} ({some})")
    print(clean("\n".join(lines)))


def _counted(sources: Json) -> str:
    return ", ".join(f"{source} {sum(counts.values())}" for source, counts in sources.items())


async def review_dataset(options: argparse.Namespace) -> int:
    from training.dataset import folder as folders
    from training.dataset import review
    from training.dataset.reviewing import go_through

    folder = options.folder or _usual("annotate")
    folders.read_manifest(folder)
    rows = folders.rows_of(folder)
    if not rows:
        raise UsageError(f"{folder} holds no row to review")
    tally = await go_through(review.sample(rows, options.share, options.seed), folder / folders.REVIEW)
    print(f"{tally}\n`apprentice train dataset build` with the same options applies it.")
    return 0
