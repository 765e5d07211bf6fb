"""Policy gradient on the task's own metric: replies that the model writes now, weighted by how good each move is.

Every prompt gets several replies. The tokens of a move are made likelier or less likely by how far the move's token F1
against the row's annotation lies above the mean of the prompt's other replies: REINFORCE with a leave-one-out baseline
(Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. 2024, arXiv:2402.14740), with
credit by move. What judges a reply is the row's verified annotation, never the model or a validator.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.learning.encode import Encoder, Example, annotation_pieces
from training.learning.score import ABSENT, merged, move_f1, resting
from training.recipe import Policy
from training.rows import Row

if TYPE_CHECKING:
    from training.learning.sampling import Sampled

SMALLEST = 1e-6
"""A reply whose weights are all smaller teaches nothing and is left out."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A move as it was said: where its tokens begin and end in the reply, and its text."""

    start: int
    end: int
    text: str


class Rollouts:
    """Makes weighted examples of a batch: what the model says to its prompts, and the batch itself.

    Args:
        model: a causal language model with peft's adapter.
        encoder: of the dataset.
        rows: the training rows, by id.
        policy: how many replies, and how much the annotations themselves count beside them.
        prompts: the most prompts of a batch.
        longest: the most tokens of a prompt.
        graphs: see `Sampler`.
    """

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        rows: Mapping[str, Row],
        policy: Policy,
        *,
        prompts: int,
        longest: int,
        graphs: bool = True,
    ) -> None:
        from training.learning.sampling import Sampler

        self.model, self.policy, self.encoder, self.rows = model, policy, encoder, rows
        self.reward = 0.0
        """The mean reward of the last replies' moves; without `stated` their token F1, 0 to 1."""
        some = next(iter(rows.values()))
        self.openings = [encoder.plain(piece) for piece in annotation_pieces(some)[::2]]
        self.keys = list(json.loads(some.completion))
        self.end = encoder.examples(some)[0].end
        self.sampler = Sampler(
            model.get_base_model(),
            prompts=prompts,
            samples=policy.samples,
            longest=longest,
            most=policy.max_tokens,
            end=self.end,
            graphs=graphs,
        )

    def __call__(self, batch: Sequence[Example]) -> list[Example]:
        """Sample, judge, weigh: examples of annotations become examples whose weighted losses sum up to a step's.

        Examples of other rows, as rehearsal has them, are learned from as they are.
        """
        others = [example for example in batch if example.row not in self.rows]
        asked = [example for example in batch if example.row in self.rows]
        taught = [*_supervised(others, 1.0), *_supervised(asked, self.policy.supervised)]
        return [*self._judged(asked), *taught] if asked else taught

    def _judged(self, batch: Sequence[Example]) -> list[Example]:
        """What the model says to these prompts now, each move weighted by its advantage."""
        prompts = [example.tokens[: example.trained.index(True)] for example in batch]
        with resting(self.model), merged(self.model):
            replies = self.sampler(prompts, self.policy.temperature)
        count, found, rewards = self.policy.samples, [], []
        for number, (example, prompt) in enumerate(zip(batch, prompts, strict=True)):
            group = replies[number * count : (number + 1) * count]
            gold = json.loads(self.rows[example.row].completion)
            moves = [self.spoken(reply) for reply in group]
            scores = [self._scores(said, gold) for said in moves]
            rewards += [sum(score) / len(score) for score in scores]
            for reply, said, gain in zip(group, moves, advantages(scores), strict=True):
                found.append(_weighted(example.row, prompt, reply, said, gain))
        self.reward = sum(rewards) / len(rewards)
        return _scaled(found)

    def spoken(self, reply: Sampled) -> list[Spoken] | None:
        """The moves of a reply, cut where the product forces the keys; None if it is not of that form."""
        if not reply.closed:
            return None
        tokens, place, starts = reply.tokens, 0, []
        for opening in self.openings:
            place = _find(tokens, opening, place)
            if place < 0:
                return None
            starts.append((place, place + len(opening)))
            place += len(opening)
        ends = [*(before for before, _ in starts[1:]), len(tokens)]
        found = [Spoken(start, end, "") for (_, start), end in zip(starts, ends, strict=True)]
        texts = [str(self.encoder.tokenizer.decode(tokens[move.start : move.end])) for move in found]
        try:
            return [Spoken(m.start, m.end, _unquoted(text)) for m, text in zip(found, texts, strict=True)]
        except ValueError:
            return None

    def _scores(self, said: Sequence[Spoken] | None, gold: Mapping[str, str]) -> list[float]:
        if said is None:
            return [0.0] * len(self.keys)
        return [reward(move.text, gold[key], self.policy.stated) for move, key in zip(said, self.keys, strict=True)]


def _supervised(batch: Sequence[Example], much: float) -> list[Example]:
    """The examples themselves, each token with the same weight, so that the model keeps to the way people write."""
    if not batch or not much:
        return []
    weight = much / sum(example.targets for example in batch)
    return [Example(example.row, example.tokens, example.trained, [weight] * example.targets) for example in batch]


def reward(said: str, gold: str, stated: float) -> float:
    """What a move is worth: its token F1, and `stated` if both sides state something."""
    return move_f1(said, gold) + stated * (ABSENT not in (said, gold))


def advantages(scores: Sequence[Sequence[float]]) -> list[list[float]]:
    """How far each score lies above the mean of the other replies' scores of the same move.

    Args:
        scores: a list for each reply, one score a move.
    """
    count = len(scores)
    means = [sum(column) / count for column in zip(*scores, strict=True)]
    factor = count / (count - 1)
    return [[(score - mean) * factor for score, mean in zip(row, means, strict=True)] for row in scores]


def _weighted(
    row: str, prompt: list[int], reply: Sampled, said: Sequence[Spoken] | None, gain: Sequence[float]
) -> Example:
    """A reply as an example: a move's tokens have its advantage, keys none, and a broken reply's all the mean."""
    if said is None:
        weights = [sum(gain) / len(gain)] * len(reply.tokens)
    else:
        weights = [0.0] * len(reply.tokens)
        for move, value in zip(said, gain, strict=True):
            weights[move.start : move.end] = [value] * (move.end - move.start)
    trained = [False] * len(prompt) + [True] * len(reply.tokens)
    return Example(row, [*prompt, *reply.tokens], trained, weights)


def _scaled(examples: Sequence[Example]) -> list[Example]:
    """The examples with weights of mean square 1, divided by the number of tokens, as a loss a token is."""
    weights = [weight for example in examples for weight in example.weights]
    size = math.sqrt(sum(weight * weight for weight in weights) / len(weights)) * len(weights)
    return [
        Example(example.row, example.tokens, example.trained, [weight / size for weight in example.weights])
        for example in examples
        if max(map(abs, example.weights)) > SMALLEST
    ]


def _find(tokens: Sequence[int], wanted: Sequence[int], start: int) -> int:
    """Where a run of tokens begins, from `start` on; -1 if it does not occur."""
    last = len(tokens) - len(wanted)
    return next((p for p in range(start, last + 1) if list(tokens[p : p + len(wanted)]) == list(wanted)), -1)


def _unquoted(text: str) -> str:
    """The text of a move from what stands between its opening and the next key. Raises ValueError if it is not one."""
    found, _ = json.JSONDecoder().raw_decode(f'"{text}')
    if not isinstance(found, str):
        raise ValueError(text)
    return found
