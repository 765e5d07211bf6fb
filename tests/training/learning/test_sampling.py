"""Many replies at once are the replies that the model would write one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from agent.errors import InputError
from training.learning.sampling import Sampler

END = 1
PROMPTS = [[5, 9, 17, 40, 8], [int(n) for n in torch.arange(2, 42)], [100, 7, 33]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small(kind: str, seed: int = 0) -> Any:
    """A small random model with grouped heads, with an adapter that does something."""
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=300,
        hidden_size=96,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=True,
    )
    made = getattr(transformers, f"{kind}ForCausalLM")(config)
    adapter = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(made, adapter).eval()


def sampler(model: Any, samples: int = 2, most: int = 24, prompts: int = 4) -> Sampler:
    return Sampler(model.get_base_model(), prompts=prompts, samples=samples, longest=40, most=most, end=END)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
def test_greedy_replies_are_those_of_transformers(kind: str) -> None:
    model = small(kind)
    replies = sampler(model)(PROMPTS, 0.0)
    for number, prompt in enumerate(PROMPTS):
        alone = model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=END, pad_token_id=END
        )[0, len(prompt) :].tolist()
        assert [reply.tokens for reply in replies[2 * number : 2 * number + 2]] == [alone, alone]


def test_samples_follow_the_models_own_probabilities() -> None:
    model = small("Llama")
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].div(0.5).softmax(-1)
    torch.manual_seed(1)
    replies = sampler(model, samples=4000, most=1, prompts=1)(PROMPTS[:1], 0.5)
    drawn = torch.bincount(torch.tensor([reply.tokens[0] for reply in replies]), minlength=300) / 4000
    assert (drawn - wanted).abs().sum().item() < 0.25  # by chance alone about 0.15


def test_the_second_token_follows_from_the_first() -> None:
    model = small("Llama")
    torch.manual_seed(2)
    replies = sampler(model, samples=3000, most=2, prompts=1)(PROMPTS[:1], 0.15)
    first, count = Counter(reply.tokens[0] for reply in replies if reply.tokens[0] != END).most_common(1)[0]
    seconds = [reply.tokens[1] for reply in replies if reply.tokens[0] == first]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([[*PROMPTS[0], first]])).logits[0, -1].div(0.15).softmax(-1)
    drawn = torch.bincount(torch.tensor(seconds), minlength=300) / count
    assert count > 200
    assert (drawn - wanted).abs().max().item() < 0.1


def test_a_reply_that_closes_is_told_from_one_that_is_cut() -> None:
    model = small("Llama")
    torch.manual_seed(3)
    replies = sampler(model, samples=64, most=24, prompts=1)(PROMPTS[:1], 3.0)
    closed = [reply for reply in replies if reply.closed]
    assert all(reply.tokens[-1] == END and END not in reply.tokens[:-1] for reply in closed)
    assert all(len(reply.tokens) == 24 and END not in reply.tokens for reply in replies if not reply.closed)
    assert 0 < len(closed) < 64


def test_weights_that_changed_are_seen_by_the_next_call() -> None:
    model = small("Llama")
    ours = sampler(model)
    before = ours(PROMPTS, 0.0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.neg_()
    assert [reply.tokens for reply in ours(PROMPTS, 0.0)] != [reply.tokens for reply in before]


def test_a_model_with_a_window_is_refused_where_it_would_be_felt() -> None:
    model = small("Qwen2")
    model.config.sliding_window = 60
    with pytest.raises(InputError, match="64 tokens are longer than the model's sliding window of 60"):
        sampler(model)


def test_the_models_own_attention_is_put_back() -> None:
    model = small("Llama")
    before = model.config._attn_implementation
    sampler(model)(PROMPTS, 1.0)
    assert model.config._attn_implementation == before
