"""`python -m evals.bench`: what the agent costs beside its model, then what its decoding costs beside llama.cpp's."""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    for name in ("overhead", "decode"):
        sys.argv = [name]
        runpy.run_module(f"evals.bench.{name}", run_name="__main__")
