"""A turn of an earlier run is shown to the model and not trained on, from the record to the loss mask."""

from __future__ import annotations

from agent.messages import Message
from tests.training import tiny
from tests.training.dataset.material import tool_run
from training.dataset.candidates import Ledger
from training.dataset.trajectories import collect


def test_what_an_earlier_run_said_is_context_and_has_no_loss() -> None:
    from training.learning.encode import Encoder

    earlier = (Message("user", "hello"), Message("assistant", "Hello, unverified."))
    run = tool_run(earlier=earlier, labels={"verdict": "good"})
    (example,) = Encoder(tiny.tokenizer()).examples(collect([run], "agent", Ledger()).examples[0].row)
    decode = Encoder(tiny.tokenizer()).tokenizer.decode
    trained = decode([token for token, own in zip(example.tokens, example.trained, strict=True) if own])
    assert "unverified" in decode(example.tokens)
    assert "unverified" not in trained
    assert "Two files." in trained
