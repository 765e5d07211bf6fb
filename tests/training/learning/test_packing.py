"""Packed examples compute what each computes by itself, and our functions what torch's and peft's compute."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.training import tiny
from training import base
from training.learning import functions, model, packing, score
from training.learning.encode import Encoder, Example

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return Encoder(tiny.tokenizer()).encode((tiny.annotated(number) for number in range(5)), 512).examples


def built(folder: Path, **changes: Any) -> Any:
    """The tiny base with an adapter whose second factor is not zero, so that it does something."""
    made: Any = model.build(tiny.recipe(folder, folder, **changes), base.find(str(folder)), CPU)
    torch.manual_seed(3)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return made


def loss_by_transformers(made: Any, example: Example) -> torch.Tensor:
    """The summed loss of one example by itself: transformers' own forward, all logits, torch's cross-entropy."""
    labels = [token if counts else -100 for token, counts in zip(example.tokens, example.trained, strict=True)]
    logits = made(input_ids=torch.tensor([example.tokens])).logits[0]
    return F.cross_entropy(logits[:-1], torch.tensor(labels[1:]), reduction="sum")


@pytest.mark.parametrize("changes", [{}, {"checkpointing": True}, {"lora": {"r": 4, "targets": ["q_proj", "v_proj"]}}])
def test_the_packed_loss_and_its_gradients_are_those_of_each_example_alone(
    folder: Path, examples: list[Example], changes: dict[str, Any]
) -> None:
    made = built(folder, **changes)
    alone = sum((loss_by_transformers(made, example) for example in examples), torch.zeros(()))
    alone.backward()  # type: ignore[no-untyped-call]
    weights = [weight for weight in made.parameters() if weight.requires_grad]
    wanted = [weight.grad.clone() for weight in weights]
    made.zero_grad()
    with score.attending(made, packing.NAME):
        loss, told = score.summed_loss(made, packing.pack(examples, CPU))
        loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(alone.item(), rel=1e-5)
    assert told.item() == pytest.approx(alone.item(), rel=1e-5)
    for weight, grad in zip(weights, wanted, strict=True):
        assert float(grad.abs().sum()) > 0
        torch.testing.assert_close(weight.grad, grad, rtol=1e-3, atol=1e-5)


def replies(example: Example) -> list[Example]:
    """Three replies to an example's prompt, of different lengths and weights."""
    opening, size = example.trained.index(True), len(example.tokens)
    cut = [example.tokens[: size - less] for less in (0, 7, 20)]
    return [
        Example(example.row, tokens, example.trained[: len(tokens)], [weight] * (len(tokens) - opening))
        for tokens, weight in zip(cut, (1.0, -0.5, 2.0), strict=True)
    ]


def test_replies_that_share_their_prompt_have_the_losses_and_gradients_of_each_alone(
    folder: Path, examples: list[Example]
) -> None:
    made = built(folder)
    several = [reply for example in examples[:2] for reply in replies(example)]
    weights = [weight for weight in made.parameters() if weight.requires_grad]
    found = []
    with score.attending(made, packing.NAME):
        for packs in ([several], [[one] for one in several]):
            losses = [score.summed_loss(made, packing.pack(pack, CPU))[0] for pack in packs]
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            found.append((sum(loss.item() for loss in losses), [weight.grad.clone() for weight in weights]))
            made.zero_grad()
    (together, ours), (alone, theirs) = found
    assert together == pytest.approx(alone, rel=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_prompt_that_several_share_stands_once() -> None:
    first = Example("a", [10, 11, 12, 13], [False, False, True, True])
    other = Example("b", [20, 21], [False, True])
    second = Example("a", [10, 11, 14], [False, False, True])
    packed = packing.pack([first, other, second], CPU)
    assert packed.tokens.tolist() == [[10, 11, 12, 13, 14, 20, 21]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2, 0, 1]]
    assert packed.bounds.tolist() == [0, 2, 4, 5, 7]
    assert packed.keys is not None
    assert packed.keys.tolist() == [0, 1, *[0, 1, 2, 3], *[0, 1, 4], 5, 6]
    assert packed.key_bounds.tolist() == [0, 2, 6, 9, 11]
    assert (packed.longest, packed.furthest) == (2, 4)
    assert (packed.places.tolist(), packed.targets.tolist()) == ([1, 2, 1, 5], [12, 13, 14, 21])


def test_no_example_sees_another(folder: Path, examples: list[Example]) -> None:
    made = built(folder)
    changed = Example("other", [7] * len(examples[0].tokens), examples[0].trained)
    with score.attending(made, packing.NAME), torch.no_grad():
        states = [
            made.get_base_model().base_model(**packing.pack([first, examples[1]], CPU).inputs()).last_hidden_state[0]
            for first in (examples[0], changed)
        ]
    start = len(examples[0].tokens)
    assert torch.equal(states[0][start:], states[1][start:])
    assert not torch.equal(states[0][:start], states[1][:start])


def test_the_attention_is_causal_inside_an_example() -> None:
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, heads, 7, 8, generator=generator) for heads in (4, 2, 2))
    bounds = torch.tensor([0, 3, 7], dtype=torch.int32)
    alone = {"keys": None, "bounds": bounds, "longest": 4, "key_bounds": bounds, "furthest": 4}
    out, weights = packing.attend(torch.nn.Module(), query, key, value, None, **alone)
    assert weights is None
    for token, start in [(0, 0), (1, 0), (2, 0), (3, 3), (5, 3), (6, 3)]:
        seen = slice(start, token + 1)
        keys, values = (part[:, :, seen].repeat_interleave(2, dim=1) for part in (key, value))
        share = (query[:, :, token : token + 1] @ keys.transpose(2, 3) / 8**0.5).softmax(-1)
        torch.testing.assert_close(out[:, token], (share @ values)[:, :, 0], rtol=1e-4, atol=1e-5)


def test_an_example_longer_than_a_sliding_window_is_refused() -> None:
    module = torch.nn.Module()
    module.sliding_window = 4  # type: ignore[assignment]
    part = torch.zeros(1, 1, 5, 8)
    bounds = torch.tensor([0, 5])
    alone = {"keys": None, "bounds": bounds, "longest": 5, "key_bounds": bounds, "furthest": 5}
    with pytest.raises(ValueError, match="5 tokens is longer than the model's sliding window"):
        packing.attend(module, part, part, part, None, **alone)


def test_a_pack_says_which_state_predicts_which_target() -> None:
    first = Example("a", [10, 11, 12], [False, True, True])
    second = Example("b", [20, 21], [False, True])
    packed = packing.pack([first, second], CPU)
    assert packed.tokens.tolist() == [[10, 11, 12, 20, 21]]
    assert packed.positions.tolist() == [[0, 1, 2, 0, 1]]
    assert packed.bounds.tolist() == packed.key_bounds.tolist() == [0, 3, 5]
    assert packed.keys is None
    assert (packed.places.tolist(), packed.targets.tolist()) == ([0, 1, 3], [11, 12, 21])


def test_micro_batches_hold_every_example_once_and_fill_what_is_left() -> None:
    examples = [Example(str(size), [size] * size, [False] + [True] * (size - 1)) for size in (3, 9, 4, 5, 2, 20)]
    pieces = list(packing.micro_batches(examples, 10))
    sizes = [[len(example.tokens) for example in piece] for piece in pieces]
    assert sorted(itertools.chain(*sizes)) == [2, 3, 4, 5, 9, 20]
    assert sizes == [[20], [9], [5, 4], [3, 2]], "only an example that is longer by itself exceeds the limit"


def test_micro_batches_keep_those_together_that_share_their_prompt() -> None:
    size, mask = 6, [False] * 4 + [True] * 2
    prompts = [[number] * 4 for number in (1, 2, 3)]
    examples = [Example(str(prompt[0]), [*prompt, 8, 9], mask) for _ in range(3) for prompt in prompts]
    pieces = list(packing.micro_batches(examples, 20))
    assert [[example.row for example in piece] for piece in pieces] == [["1"] * 3 + ["2"] * 3, ["3"] * 3]
    tight = list(packing.micro_batches(examples, size + 2))
    assert sorted(len(piece) for piece in tight) == [1, 1, 1, 2, 2, 2], "a group that is too large is cut"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_chunked_loss_is_torchs(monkeypatch: pytest.MonkeyPatch, smoothing: float) -> None:
    monkeypatch.setattr(functions, "CHUNK_BYTES", 4 * 300 * 7)
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(50, 16, generator=generator, requires_grad=True)
    head = torch.randn(300, 16, generator=generator)
    targets = torch.randint(300, (50,), generator=generator)
    loss, plain = functions.cross_entropy(hidden, head, targets, smoothing)
    (0.3 * loss).backward()  # type: ignore[no-untyped-call]
    ours, hidden.grad = hidden.grad, None
    wanted = F.cross_entropy(hidden @ head.T, targets, reduction="sum", label_smoothing=smoothing)
    (0.3 * wanted).backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert plain.item() == pytest.approx(F.cross_entropy(hidden @ head.T, targets, reduction="sum").item(), rel=1e-5)
    assert ours is not None
    torch.testing.assert_close(ours, hidden.grad, rtol=1e-4, atol=1e-5)


def test_the_adapters_branch_is_pefts(folder: Path) -> None:
    made = built(folder)
    layer = made.get_base_model().model.layers[0].mlp.down_proj
    inputs = torch.randn(2, 5, 128, requires_grad=True)
    weights = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    ours = layer(inputs)
    found = torch.autograd.grad(ours.square().sum(), [inputs, *weights])
    theirs = type(layer).forward(layer, inputs)
    wanted = torch.autograd.grad(theirs.square().sum(), [inputs, *weights])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert ours.ne(layer.base_layer(inputs)).any()
    with made.disable_adapter():
        assert torch.equal(layer(inputs), layer.base_layer(inputs))


def test_dropout_leaves_out_inputs_of_the_adapter_only_while_it_is_trained(
    folder: Path, examples: list[Example]
) -> None:
    made = built(folder, lora={"r": 4, "alpha": 8.0, "dropout": 0.5})
    packed = packing.pack(examples[:1], CPU)
    with score.attending(made, packing.NAME), torch.no_grad():
        torch.manual_seed(1)
        first, second = (score.summed_loss(made, packed)[1].item() for _ in range(2))
        torch.manual_seed(1)
        again = score.summed_loss(made, packed)[1].item()
        with score.resting(made):
            still = [score.summed_loss(made, packed)[1].item() for _ in range(2)]
    assert first != second
    assert first == again
    assert still[0] == still[1]


def test_four_bit_weights_still_give_gradients_after_an_evaluation(folder: Path, examples: list[Example]) -> None:
    made = built(folder, precision="nf4")
    packed = packing.pack(examples[:2], CPU)
    layers = [
        layer for layer in made.modules() if type(layer).__name__ == "Linear4bit" and hasattr(layer, "quant_state")
    ]
    assert len(layers) >= 14
    assert layers[0].weight.quant_state.nested, "the constants are quantised too"
    with score.attending(made, packing.NAME):
        with score.resting(made):
            before = score.summed_loss(made, packed)[1].item()
        loss, _ = score.summed_loss(made, packed)
        loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(before, rel=1e-3)
    grads = [weight.grad for weight in made.parameters() if weight.requires_grad]
    assert all(grad is not None and float(grad.abs().sum()) > 0 for grad in grads)
