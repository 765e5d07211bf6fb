"""A model learns from its own replies: what was better than the prompt's other replies becomes likelier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.errors import ConfigError
from tests.training import tiny
from training import base, sft
from training.learning import model, packing, policy, score
from training.learning.encode import Encoder, Example
from training.learning.sampling import Sampled
from training.recipe import Policy, load
from training.rows import Row

CPU = torch.device("cpu")
ROWS = [tiny.annotated(number) for number in range(4)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny.tokenizer())


def built(folder: Path) -> Any:
    return model.build(tiny.recipe(folder, folder), base.find(str(folder)), CPU)


def rollouts(folder: Path, encoder: Encoder, replies: list[list[int]], **keys: Any) -> policy.Rollouts:
    """Rollouts of the tiny base that hear these replies, as if the model had said them."""
    made = policy.Rollouts(
        built(folder), encoder, {row.id: row for row in ROWS}, Policy(**keys), prompts=4, longest=400
    )
    made.sampler = lambda prompts, temperature: [Sampled(reply, reply[-1] == made.end) for reply in replies]  # type: ignore
    return made


def completion(encoder: Encoder, row: Any, **moves: str) -> list[int]:
    """The tokens of a row's annotation with some moves changed."""
    said = json.dumps(json.loads(row.completion) | moves, ensure_ascii=False)
    changed = row.model_copy(update={"messages": (*row.messages[:-1], {"role": "assistant", "content": said})})
    (example,) = encoder.examples(changed)
    return example.tokens[example.trained.index(True) :]


def test_each_move_gets_its_own_advantage_over_the_other_replies(folder: Path, encoder: Encoder) -> None:
    right, wrong = completion(encoder, ROWS[0]), completion(encoder, ROWS[0], evidence="Nothing of the kind is here.")
    made = rollouts(folder, encoder, [right, wrong], samples=2, supervised=0.0)
    good, bad = made(encoder.examples(ROWS[0]))
    spans = made.spoken(Sampled(right, True))
    assert spans is not None
    assert [span.text for span in spans] == list(json.loads(ROWS[0].completion).values())
    for span, move in zip(spans, tiny.KEYS, strict=True):
        weights = set(good.weights[span.start : span.end])
        assert len(weights) == 1
        assert (weights.pop() > 0) == (move == "evidence")
    assert sum(weight < 0 for weight in bad.weights) > 0
    assert max(bad.weights) <= 0


def test_the_forced_keys_are_never_pushed(folder: Path, encoder: Encoder) -> None:
    right, wrong = completion(encoder, ROWS[0]), completion(encoder, ROWS[0], claim="Else.", method="Other.")
    good, _ = rollouts(folder, encoder, [right, wrong], samples=2, supervised=0.0)(encoder.examples(ROWS[0]))
    opening = encoder.plain('{"claim": "')
    assert right[: len(opening)] == opening
    assert good.weights[: len(opening)] == [0.0] * len(opening)


@pytest.mark.parametrize("broken", ["cut", "a key is missing", "no text"])
def test_a_broken_reply_counts_as_nothing_and_is_pushed_down_whole(folder: Path, encoder: Encoder, broken: str) -> None:
    right = completion(encoder, ROWS[0])
    bad = {
        "cut": right[:-4],
        "a key is missing": [*encoder.plain('{"claim": "x", "method": "y"}'), right[-1]],
        "no text": [*encoder.plain('{"claim": "a", "evidence": "b", "method": "c'), right[-1]],
    }[broken]
    made = rollouts(folder, encoder, [right, bad], samples=2, supervised=0.0)
    good, found = made(encoder.examples(ROWS[0]))
    assert made.reward == pytest.approx(0.5)
    assert max(found.weights) < 0 < max(good.weights)


def test_replies_that_are_all_alike_teach_nothing(folder: Path, encoder: Encoder) -> None:
    right = completion(encoder, ROWS[0])
    made = rollouts(folder, encoder, [right, right], samples=2, supervised=0.0)
    assert made(encoder.examples(ROWS[0])) == []
    assert made.reward == 1.0


def test_stating_where_the_annotation_states_something_can_be_worth_more() -> None:
    assert policy.reward("A net helps.", "A net helps.", 0.25) == 1.25
    assert policy.reward("Not stated.", "A net helps.", 0.25) == 0.0
    assert policy.reward("A net helps.", "Not stated.", 0.25) == 0.0
    assert policy.reward("Not stated.", "Not stated.", 0.25) == 1.0


def test_the_annotations_themselves_keep_their_share(folder: Path, encoder: Encoder) -> None:
    right = completion(encoder, ROWS[0])
    (own,) = rollouts(folder, encoder, [right, right], samples=2, supervised=0.5)(encoder.examples(ROWS[0]))
    assert sum(own.weights) == pytest.approx(0.5)


def test_rehearsal_is_learned_as_it_is(folder: Path, encoder: Encoder) -> None:
    row = tiny.rehearsed(1)
    (example,) = encoder.examples(row)
    right, wrong = completion(encoder, ROWS[0]), completion(encoder, ROWS[0], evidence="Nothing of the kind is here.")
    made = rollouts(folder, encoder, [right, wrong], samples=2, supervised=0.0)
    *_, kept = made([*encoder.examples(ROWS[0]), example])
    assert kept.row == row.id
    assert sum(kept.weights) == pytest.approx(1.0)
    assert [found.row for found in made([example])] == [row.id], "no reply is asked for where nothing is annotated"


def test_advantages_leave_the_reply_itself_out() -> None:
    (first, *_), *_ = policy.advantages([[1.0], [0.4], [0.2]])
    assert first == pytest.approx(1.0 - 0.3)


def test_weights_scale_each_targets_loss_and_gradient(folder: Path, encoder: Encoder) -> None:
    made = built(folder)
    (example,) = encoder.examples(ROWS[0])
    weights = [0.5 - number % 3 for number in range(example.targets)]
    weighed = Example(example.row, example.tokens, example.trained, weights)
    with score.attending(made, packing.NAME):
        loss, _ = score.summed_loss(made, packing.pack([weighed], CPU))
    logits = made(input_ids=torch.tensor([example.tokens])).logits[0, :-1]
    targets = torch.tensor(example.tokens[1:])
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")[torch.tensor(example.trained[1:])]
    wanted = (each * torch.tensor(weights)).sum()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    adapter = [weight for weight in made.parameters() if weight.requires_grad]
    ours = torch.autograd.grad(loss, adapter)
    for mine, theirs in zip(ours, torch.autograd.grad(wanted, adapter), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


def wavering_base(folder: Path, rows: list[Row], encoder: Encoder) -> Path:
    """A tiny base that knows the form, and says as often the first two moves of these rows the wrong way round."""
    from transformers import LlamaForCausalLM

    examples = [example for row in rows for kind in (row, turned(row)) for example in encoder.examples(kind)]
    longest = max(len(example.tokens) for example in examples)
    tokens = torch.tensor([example.tokens + [0] * (longest - len(example.tokens)) for example in examples])
    said = torch.tensor([example.trained + [False] * (longest - len(example.tokens)) for example in examples])
    tiny.write_base(folder, hidden=96)
    made: Any = LlamaForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        made(input_ids=tokens, labels=tokens.masked_fill(~said, -100)).loss.backward()
        optimizer.step()
    made.save_pretrained(folder)
    return folder


def turned(row: Row) -> Row:
    moves = json.loads(row.completion)
    moves["claim"], moves["evidence"] = moves["evidence"], moves["claim"]
    said = {"role": "assistant", "content": json.dumps(moves)}
    return row.model_copy(update={"messages": (*row.messages[:-1], said)})


def test_a_run_on_its_own_replies_raises_their_reward(tmp_path: Path, encoder: Encoder) -> None:
    subjects = [("wood", "ice"), ("sand", "rain"), ("iron", "fog"), ("clay", "sun")]
    texts = [f"We sort {first}. It works on {second}." for first, second in subjects]
    rows = [tiny.annotated(number, abstract=text) for number, text in enumerate(texts)]
    base_folder = wavering_base(tmp_path / "base", rows, encoder)
    data = tiny.write_dataset(tmp_path / "data", rows)
    told: list[dict[str, Any]] = []
    own = {"samples": 16, "max_tokens": 80}
    changes: dict[str, Any] = {"policy": own, "epochs": 8, "lora": {"r": 8, "alpha": 16.0}, "optim": {"lr": 0.001}}
    summary = sft.train(tiny.recipe(base_folder, data, **changes), tmp_path / "run", tell=told.append)
    rewards = [event["reward"] for event in told if event["event"] == "step"]
    assert summary.finished
    assert len(rewards) == 8
    assert sum(rewards[-3:]) / 3 > rewards[0] + 0.15


def test_one_reply_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(ConfigError, match=r"policy\.samples = 1"):
        load("annotator", ["policy.samples=1"])
