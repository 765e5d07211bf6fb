"""`apprentice train average` and `train export`: the mean of runs; an adapter as GGUF, alone or merged, and checked."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent import config
from agent.errors import InputError, ModelUnavailable, OutputError

FORMS = ("adapter", "F32", "F16", "Q8_0", "Q4_K_M")


def add_actions(actions: Any) -> None:
    """Add `average` and `export` to the actions of `train`."""
    mean = actions.add_parser("average", help="one adapter from runs that differ by their seed")
    mean.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a finished run's folder")
    mean.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new run's folder")
    mean.set_defaults(run=average_runs)
    export = actions.add_parser("export", help="a run's adapter as GGUF, alone or merged into its base")
    export.add_argument("adapter", type=Path, metavar="RUN", help="a run's folder, or an adapter's folder of peft")
    export.add_argument("out", type=Path, metavar="FILE", help="the GGUF file to write")
    export.add_argument("--as", dest="form", choices=FORMS, default="adapter", help="adapter, or merged in this type")
    export.add_argument("--base", type=Path, metavar="PATH", help="a GGUF file or a model's folder (default: embedded)")
    export.add_argument("--dtype", choices=("f16", "f32", "q8_0"), default="f16", help="of an adapter's matrices")
    export.add_argument("--check", action="store_true", help="compare llama.cpp with transformers, token by token")
    export.add_argument("--texts", type=Path, metavar="FILE", help="--check: the texts; a line is one")
    export.add_argument("--tokens", type=int, default=2000, metavar="N", help="--check: how many next tokens")
    export.set_defaults(run=export_run)


async def average_runs(options: argparse.Namespace) -> int:
    from training.average import average

    made = average(options.runs, options.out)
    print(f"{made.folder}: the mean of {len(options.runs)} runs; its rank holds {1 - made.lost:.2%} of it")
    return 0


async def export_run(options: argparse.Namespace) -> int:
    from agent.models import embedded

    try:
        from training.export import adapter_gguf, model_gguf
    except ModuleNotFoundError as error:
        raise ModelUnavailable(f"{error.name} is not installed", "Run `scripts/setup train`.") from None
    settings, _ = config.load(Path(os.devnull), trusted=False)
    base = options.base or embedded.find(settings)
    adapter = options.adapter / "adapter" if (options.adapter / "adapter").is_dir() else options.adapter
    if options.form == "adapter":
        adapter_gguf(adapter, base, options.out, dtype=options.dtype)
        print(f"wrote {options.out}")
    else:
        made = model_gguf(base, adapter, options.out, options.form, tell=lambda text: print(text, file=sys.stderr))
        print(f"wrote {made.path} as {made.quantisation}" + (f" ({made.note})" if made.note else ""))
    return _check(options, base, adapter) if options.check else 0


def _check(options: argparse.Namespace, base: Path, adapter: Path) -> int:
    """Print how far llama.cpp agrees with transformers. Raises OutputError if the export is not faithful."""
    import tempfile

    from training import agreement
    from training.base import dequantised
    from training.export import model_gguf

    texts = _texts(options.texts)
    folder = base if base.is_dir() else dequantised(base, config.cache_dir() / "bases")
    config.cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="check-", dir=config.cache_dir()) as scratch:
        if options.form == "adapter":  # the base in F16: what is served may be coarser, and then measures that
            model = model_gguf(base, None, Path(scratch) / "base.gguf", "F16").path
            found = agreement.compare(model, options.out, folder, adapter, texts, options.tokens)
        else:
            found = agreement.compare(options.out, None, folder, adapter, texts, options.tokens)
    print(found)
    exact = options.form in ("adapter", "F16", "F32") and options.dtype != "q8_0"
    if exact and not found.holds:
        raise OutputError(f"{options.out} is not what {adapter} says: {found}", "Do not use it, and report this.")
    return 0


def _texts(path: Path | None) -> Sequence[str]:
    """The texts of --check: lines of a file (of a JSON object, `abstract`, `text` or messages), else our abstracts."""
    from evals.annotate import CASES

    path = path or CASES
    try:
        lines = [line for line in path.read_text("utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "Give a text or JSONL file.") from None
    if not lines:
        raise InputError(f"{path} holds no text", "Give a text or JSONL file.")
    return [_text_of(line) for line in lines]


def _text_of(line: str) -> str:
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if isinstance(found, dict) and "messages" in found:
        return "\n".join(str(message.get("content", "")) for message in found["messages"])
    return str(found.get("abstract") or found.get("text") or line) if isinstance(found, dict) else line
