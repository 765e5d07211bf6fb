"""What a run is trained on: a dataset's folder as examples, and the order in which an epoch shows them."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InputError
from training.learning.encode import Encoder, Example
from training.recipe import Recipe
from training.rows import SPLITS, Row, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Data:
    """A dataset as one recipe sees it.

    Args:
        own: the examples of the task.
        rehearsal: those of the base model's own answers.
        validation: for the held-out loss.
        asked: validation rows whose answers are generated, with their prompts' tokens.
        taught: the rows of the training split that are used, by id.
        too_long: the rows that were left out.
        sha256: of the dataset, as its manifest says.
        encoder: for what else has to be put in tokens.
    """

    own: list[Example]
    rehearsal: list[Example]
    validation: list[Example]
    asked: list[tuple[Row, list[int]]]
    taught: dict[str, Row]
    too_long: list[str]
    sha256: str
    encoder: Encoder

    @property
    def rows(self) -> int:
        return len(self.taught)

    def epoch(self, number: int, recipe: Recipe) -> list[list[Example]]:
        """The batches of one epoch; the same for the same seed, so that a resumed run goes on where it was."""
        order = random.Random(f"{recipe.seed}/{number}")
        count = self.rehearsed(recipe)
        again = [*self.rehearsal * (count // max(1, len(self.rehearsal)))]
        shown = [*self.own, *again, *order.sample(self.rehearsal, count - len(again))]
        order.shuffle(shown)
        return [shown[start : start + recipe.batch] for start in range(0, len(shown), recipe.batch)]

    def rehearsed(self, recipe: Recipe) -> int:
        """How many rehearsal examples an epoch shows."""
        return round(len(self.own) * recipe.rehearsal / (1 - recipe.rehearsal))

    def steps_per_epoch(self, recipe: Recipe) -> int:
        return math.ceil((len(self.own) + self.rehearsed(recipe)) / recipe.batch)


def load(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Data:
    """Read and encode the dataset of a recipe.

    Raises:
        InputError: there is none, it holds no row of use, or a row cannot be shown to this model.
    """
    if not recipe.dataset:
        raise InputError("the recipe names no dataset", "Add dataset=DIR, a folder that `train dataset build` wrote.")
    folder = Path(recipe.dataset).expanduser()
    encoder = Encoder(tokenizer, recipe.protocol)
    rows = list(read_rows(folder / "train.jsonl"))
    own = encoder.encode((row for row in rows if row.source != "rehearsal"), recipe.max_length)
    rehearsal = encoder.encode(_rehearsal(rows, recipe), recipe.max_length)
    held_out = list(read_rows(folder / "validation.jsonl"))
    validation = encoder.encode(held_out, recipe.max_length)
    if not own.examples:
        raise InputError(f"{folder} holds no row of at most {recipe.max_length} tokens to train on")
    asked = _asked(held_out, set(validation.too_long), recipe, encoder)
    too_long = [*own.too_long, *rehearsal.too_long, *validation.too_long]
    used = {example.row for example in own.examples}
    taught = {row.id: row for row in rows if row.id in used}
    sha256 = dataset_sha256(folder)
    return Data(own.examples, rehearsal.examples, validation.examples, asked, taught, too_long, sha256, encoder)


def dataset_sha256(folder: Path) -> str:
    """The dataset's hash: what its manifest says, else that of its four files in order."""
    try:
        return str(json.loads((folder / "manifest.json").read_text("utf-8"))["sha256"])
    except FileNotFoundError:
        digest = hashlib.sha256()
        for split in SPLITS:
            path = folder / f"{split}.jsonl"
            digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder / 'manifest.json'} is damaged", "Build the dataset again.") from None


def _rehearsal(rows: list[Row], recipe: Recipe) -> Iterator[Row]:
    """The rows against forgetting, if the recipe wants a share of them."""
    if recipe.rehearsal == 0:
        return
    found = [row for row in rows if row.source == "rehearsal"]
    if not found:
        raise InputError(
            f"the recipe wants {recipe.rehearsal:.0%} rehearsal and {recipe.dataset} holds no such row",
            "Set rehearsal=0, or build the dataset with rehearsal rows.",
        )
    yield from found


def _asked(rows: list[Row], left_out: set[str], recipe: Recipe, encoder: Encoder) -> list[tuple[Row, list[int]]]:
    """Rows spread over the validation split, with the prompts that their answers are generated for."""
    wanted = [row for row in rows if row.id not in left_out and row.source != "rehearsal"]
    if recipe.metric != "f1" or not wanted:
        return []
    step = max(1, len(wanted) / recipe.eval_rows)
    chosen = [wanted[int(place * step)] for place in range(min(recipe.eval_rows, len(wanted)))]
    return [(row, encoder.prompt(encoder.shown(row)[:-1], row.tools)) for row in chosen]
