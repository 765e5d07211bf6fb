"""Many replies to many prompts at once: what a model would say now, for its own training and for its evaluation.

The samples of one prompt share its keys and values, and what has been said so far has a fixed place, so that one step
of all of them is one CUDA graph. It works for every decoder of transformers whose attention is plain (no sliding
window in use), with or without an adapter; on a CPU the same steps run one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from agent.errors import InputError

NAME = "sampled"
BUCKET = 64
"""Prompts and what has been said are attended to in lengths of so many tokens: a matrix whose rows begin at odd places
is slow to multiply. Each length of what has been said has a graph of its own."""
PREFILL = 64
"""Prompts that are read at once."""
LOOK = 32
"""Steps between looks at whether all have ended: each look waits for the GPU."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A reply: its tokens, with the closing one if it was closed, and not cut by the limit."""

    tokens: list[int]
    closed: bool


class Sampler:
    """Samples from a model whose weights may change between calls, not while one goes on.

    Args:
        model: a causal language model of transformers, perhaps with peft's adapter in it, in evaluation mode.
        prompts: how many prompts one call takes at most.
        samples: how many replies each gets.
        longest: the most tokens of a prompt.
        most: the most tokens of a reply.
        end: the token that closes a reply.
        graphs: whether steps become CUDA graphs; kernels of 4-bit weights may not allow it.
    """

    def __init__(
        self, model: Any, *, prompts: int, samples: int, longest: int, most: int, end: int, graphs: bool = True
    ) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(NAME, attend)
        config = model.config.get_text_config()
        window: int | None = getattr(config, "sliding_window", None)
        if window and longest + most > window:
            raise InputError(f"texts of {longest + most} tokens are longer than the model's sliding window of {window}")
        longest, room = (-(-length // BUCKET) * BUCKET for length in (longest, most))
        heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.model, self.end, self.samples, self.most = model, end, samples, most
        self.device, layers = model.device, config.num_hidden_layers
        options: dict[str, Any] = {"device": self.device, "dtype": model.dtype}
        self.prompt_keys = torch.zeros(layers, prompts, heads, longest, width, **options)
        self.prompt_values = torch.zeros_like(self.prompt_keys)
        self.said = _Said(torch.zeros(layers, prompts * samples, heads, room, width, **options))
        self.lengths = torch.ones(prompts, dtype=torch.long, device=self.device)
        self.tokens = torch.zeros(prompts * samples, dtype=torch.long, device=self.device)
        self.temperature = torch.ones((), device=self.device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] | None = {} if graphs and self.device.type == "cuda" else None

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Sequence[int]], temperature: float) -> list[Sampled]:
        """Reply to some prompts.

        Args:
            prompts: their tokens; as many as the sampler takes, or fewer.
            temperature: 0 is greedy.

        Returns:
            The samples of the first prompt, of the second, and so on.
        """
        before = self.model.config._attn_implementation
        self.temperature.fill_(temperature)
        try:
            self.model.set_attn_implementation("sdpa")
            self._read(prompts)
            self.model.set_attn_implementation(NAME)
            written = self._write()
        finally:
            self.model.set_attn_implementation(before)
        rows = written[: len(prompts) * self.samples].tolist()
        return [_cut(row, self.end) for row in rows]

    def _read(self, prompts: Sequence[Sequence[int]]) -> None:
        """Fill the prompts' keys and values, and draw the first token of each reply."""
        from transformers import DynamicCache

        self.lengths.fill_(1)
        self.lengths[: len(prompts)] = torch.tensor([len(prompt) for prompt in prompts])
        drawn = torch.full((len(self.lengths),), self.end, device=self.device).repeat_interleave(self.samples)
        for start in range(0, len(prompts), PREFILL):
            some = prompts[start : start + PREFILL]
            width = max(map(len, some))
            padded = torch.tensor([[*prompt, *[self.end] * (width - len(prompt))] for prompt in some])
            cache = DynamicCache(config=self.model.config)
            hidden = self.model.base_model(
                input_ids=padded.to(self.device), past_key_values=cache, use_cache=True
            ).last_hidden_state
            rows = slice(start, start + len(some))
            layers: Any = cache.layers
            for number, layer in enumerate(layers):
                self.prompt_keys[number, rows, :, :width] = layer.keys
                self.prompt_values[number, rows, :, :width] = layer.values
            last = hidden[torch.arange(len(some), device=self.device), self.lengths[rows] - 1]
            first = self._draw(last.repeat_interleave(self.samples, 0))
            drawn[start * self.samples : (start + len(some)) * self.samples] = first
        self.tokens.copy_(drawn)

    def _write(self) -> torch.Tensor:
        """All replies, a row each, filled up with the closing token; shape (replies, most)."""
        written = torch.full((len(self.tokens), self.most), self.end, device=self.device)
        written[:, 0] = self.tokens
        self.said.place.zero_()
        for step in range(1, self.most):
            self._step(-(-step // BUCKET) * BUCKET)
            written[:, step] = self.tokens
            if step % LOOK == 0 and bool((self.tokens == self.end).all()):
                break
        return written

    def _step(self, length: int) -> None:
        """One token of every reply; `length` says how much of what was said can be looked at."""
        if self.graphs is None:
            self._advance(length)
            return
        if length not in self.graphs:
            self.graphs[length] = self._captured(length)
        self.graphs[length].replay()

    def _captured(self, length: int) -> torch.cuda.CUDAGraph:
        """A step as a graph. It is run once before, as CUDA wants it, and what that changed is put back."""
        tokens, place = self.tokens.clone(), self.said.place.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._advance(length)
        torch.cuda.current_stream().wait_stream(stream)
        self.tokens.copy_(tokens)
        self.said.place.copy_(place)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._advance(length)
        self.tokens.copy_(tokens)
        self.said.place.copy_(place)
        return graph

    def _advance(self, length: int) -> None:
        self.said.length = length
        positions = self.lengths.repeat_interleave(self.samples) + self.said.place
        hidden = self.model.base_model(
            input_ids=self.tokens[:, None],
            position_ids=positions[:, None],
            attention_mask=self._bias(length),
            past_key_values=self.said,
            use_cache=True,
            prompts=(self.prompt_keys, self.prompt_values),
        ).last_hidden_state[:, -1]
        drawn = self._draw(hidden)
        self.tokens.copy_(torch.where(self.tokens == self.end, self.tokens, drawn))
        self.said.place.add_(1)

    def _bias(self, length: int) -> torch.Tensor:
        """0 where a reply may look, -inf elsewhere: its prompt, then what was said; shape (replies, 1, 1, all)."""
        places = torch.arange(self.prompt_keys.shape[3], device=self.device)
        prompt = (places < self.lengths[:, None]).repeat_interleave(self.samples, 0)
        said = (torch.arange(length, device=self.device) <= self.said.place).expand(len(prompt), length)
        seen = torch.cat([prompt, said], 1)[:, None, None]
        return torch.zeros(seen.shape, device=self.device).masked_fill_(~seen, -torch.inf)

    def _draw(self, hidden: torch.Tensor) -> torch.Tensor:
        """The next token of each reply. Gumbel's trick: the largest of logits / temperature + noise is a sample."""
        logits = (hidden @ self.model.get_output_embeddings().weight.T).float()
        noise = torch.empty_like(logits).exponential_().clamp_min_(1e-20).log_()
        drawn: torch.Tensor = (logits - self.temperature * noise).argmax(-1)
        return drawn


class _Said:
    """The keys and values of what was said, as a cache of transformers: every layer's have a fixed place."""

    def __init__(self, keys: torch.Tensor) -> None:
        self.keys, self.values = keys, torch.zeros_like(keys)
        self.place = torch.zeros(1, dtype=torch.long, device=keys.device)
        self.length = 0

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a token's keys and values, shape (replies, heads, 1, width); returns those of all tokens so far."""
        self.keys[layer].index_copy_(2, self.place, keys)
        self.values[layer].index_copy_(2, self.place, values)
        return self.keys[layer][:, :, : self.length], self.values[layer][:, :, : self.length]


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    *,
    prompts: tuple[torch.Tensor, torch.Tensor],
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """One token of every reply looks at its prompt and at what was said; an attention as transformers calls it.

    A prompt's samples are rows of one product, so that its keys and values are read once for all of them.

    Args:
        module: the layer.
        query: shape (replies, heads, 1, d).
        key: of what was said, shape (replies, key heads, length, d).
        value: as `key`.
        attention_mask: what is added to the scores; see `Sampler._bias`.
        scaling: of the scores.
        prompts: keys and values of all layers, each of shape (layers, prompts, key heads, longest, d).

    Returns:
        Shape (replies, 1, heads, d), and None for the weights.
    """
    prompt_key, prompt_value = (part[module.layer_idx] for part in prompts)
    (count, heads, longest, width), replies = prompt_key.shape, len(query)
    samples, group = replies // count, query.shape[1] // heads

    def shared(rows: torch.Tensor) -> torch.Tensor:
        """(replies, key heads, group, x) as (prompts, key heads, samples * group, x)."""
        return rows.view(count, samples, heads, group, -1).transpose(1, 2).reshape(count, heads, samples * group, -1)

    def apart(rows: torch.Tensor) -> torch.Tensor:
        """The way back."""
        return rows.view(count, heads, samples, group, -1).transpose(1, 2).reshape(replies, heads, group, -1)

    grouped = (query * scaling).reshape(replies, heads, group, width)
    scores = torch.cat([apart(shared(grouped) @ prompt_key.mT), grouped @ key.mT], -1)
    weights = (scores + attention_mask).softmax(-1).to(query.dtype)  # the mask is f32, and so is the sum
    of_prompt = apart(shared(weights[..., :longest]) @ prompt_value)
    out = of_prompt + weights[..., longest:] @ value
    return out.reshape(replies, 1, heads * group, width), None


def _cut(row: list[int], end: int) -> Sampled:
    return Sampled(row[: row.index(end) + 1], closed=True) if end in row else Sampled(row, closed=False)
