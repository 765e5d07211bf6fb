"""Recipes: shipped ones load, changes are checked, mistakes are told with the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import ConfigError, UsageError
from training import recipe


@pytest.mark.parametrize("name", recipe.shipped())
def test_every_shipped_recipe_loads_and_survives_being_written(name: str, tmp_path: Path) -> None:
    loaded = recipe.load(name, ["dataset=a folder with spaces"])
    path = tmp_path / "again.toml"
    path.write_text(recipe.as_toml(loaded))
    assert recipe.load(path) == loaded
    assert loaded.name == name


def test_the_recipes_are_those_of_their_sources() -> None:
    small, large, agent, huge = (recipe.load(name) for name in ("annotator", "annotator-7b", "agent-8b", "agent-70b"))
    assert (small.base, small.lora.r, small.lora.targets, small.optim.lr, small.epochs, small.batch) == (
        "embedded",
        16,
        "all-linear",
        1e-3,
        6,
        16,
    )
    assert (large.precision, large.lora.r, large.lora.alpha, large.lora.targets) == (
        "nf4",
        16,
        32,
        ("q_proj", "v_proj"),
    )
    assert (large.optim.lr, large.optim.schedule, large.epochs, large.batch) == (2e-4, "cosine", 3, 16)
    assert (agent.base, agent.lora.r) == ("Qwen/Qwen3-8B", 32)
    assert (huge.lora.r, huge.lora.alpha, huge.optim.warmup, huge.batch) == (64, 128, 0.03, 32)
    assert isinstance(huge.lora.targets, tuple)
    assert len(huge.lora.targets) == 7


def test_values_are_changed_by_dotted_keys() -> None:
    changed = recipe.load("annotator", ["lora.r=32", "optim.lr=5e-4", "dataset=data/x", 'lora.targets=["q_proj"]'])
    assert (changed.lora.r, changed.optim.lr, changed.dataset, changed.lora.targets) == (
        32,
        5e-4,
        "data/x",
        ("q_proj",),
    )
    assert changed.lora.alpha == 32


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("lora.rr=3", "'lora.r'"),
        ("lr=3", "'optim.lr'"),
        ("epoch=3", "'epochs'"),
        ("lora=3", "lora"),
        ("lora.r=many", "lora.r = 'many'"),
        ("optim.lr=nan", "optim.lr"),
        ("batch=0", "batch = 0"),
        ("batch.size=0", "batch"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_was_meant(override: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe.load("annotator", [override])
    assert named in caught.value.in_one_line


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(UsageError, match="'epochs' changes no key"):
        recipe.load("annotator", ["epochs"])


def test_an_unknown_recipe_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UsageError) as caught:
        recipe.load("anotator")
    assert "Did you mean 'annotator'?" in caught.value.hint


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = ")
    with pytest.raises(ConfigError, match=r"mine.toml is not valid TOML"):
        recipe.load(path)


def test_the_f1_of_answers_needs_a_skill_that_has_one() -> None:
    with pytest.raises(ConfigError, match="metric = 'f1' needs"):
        recipe.load("agent", ["metric=f1"])
    with pytest.raises(ConfigError, match="metric = 'f1' needs"):
        recipe.load("annotator", ["eval_rows=0"])
