"""A recipe: everything that decides what a training run makes of a dataset, as one TOML file.

The shipped ones lie in `recipes/`; `key=value` on the command line changes single keys (`lora.r=32`). An unknown key,
or a value that does not fit, is an error that names the key and the nearest one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import ConfigError, UsageError

SHIPPED = Path(__file__).parent / "recipes"
Precision = Literal["f32", "bf16", "nf4"]
Optimizer = Literal["adamw", "adamw8bit", "paged_adamw8bit"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Lora(Section):
    """The adapter. Hu et al. 2021, arXiv:2106.09685: W x + (alpha / r) B A x."""

    r: int = Field(default=16, ge=1, le=1024)
    """The rank of the two factors."""
    alpha: float = Field(default=32, gt=0)
    """alpha / r scales what the adapter adds."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of the adapter's inputs that is left out at each step."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """The layers that get one: all linear ones but the output layer, or names such as q_proj."""


class Optim(Section):
    """How the weights move. Loshchilov and Hutter 2017, arXiv:1711.05101 (AdamW)."""

    name: Optimizer = "adamw"
    """adamw8bit keeps its state in 8 bits; paged also moves it out of the card when that is full."""
    lr: float = Field(default=2e-4, gt=0)
    """The highest learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls to 0 after the warm-up, or that it does not."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """The share of the steps in which the rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = Field(default=1.0, gt=0)
    """The longest gradient; a longer one is scaled down to it."""


class Policy(Section):
    """Training on what the model says itself, judged against the annotations; see training/learning/policy.py."""

    samples: int = Field(default=0, ge=0)
    """Replies to each prompt; 0: the model learns from the annotations alone."""
    temperature: float = Field(default=1.0, gt=0)
    """At which they are drawn."""
    max_tokens: int = Field(default=320, ge=1)
    """The most tokens of a reply."""
    supervised: float = Field(default=0.1, ge=0)
    """How much the annotations' own loss counts beside the replies'."""
    stated: float = Field(default=0.0, ge=0)
    """Added to a move's reward where both the reply and the annotation state something: against leaving moves out."""


class Recipe(Section):
    """One training run.

    Batches are counted in examples and packed without padding; no example sees another one.
    """

    name: str = ""
    skill: str = "annotate"
    """What is taught; decides the task's own metric."""
    base: str = "embedded"
    """embedded, a GGUF file, a folder in the form of transformers, or a model's name on the hub."""
    dataset: str = ""
    """The folder that `train dataset build` wrote."""
    start: str = ""
    """A folder with an adapter to go on from, e.g. the incumbent's; empty: a new one."""
    protocol: Literal["json", "text", "native"] = "json"
    """How thoughts and tool calls are written: as the agent's protocol of that name shows them to a model."""
    precision: Precision = "bf16"
    """Of the frozen base: f32, bf16, or nf4 (4 bits, with its constants quantised too). The adapter is always f32."""
    lora: Lora = Lora()
    optim: Optim = Optim()
    policy: Policy = Policy()
    epochs: int = Field(default=3, ge=1)
    max_steps: int = Field(default=0, ge=0)
    """Stop after so many steps; 0: after the epochs."""
    batch: int = Field(default=16, ge=1)
    """Examples of one step of the optimiser, over all processes."""
    micro_tokens: int = Field(default=8192, ge=16)
    """Tokens that go through the model at once. Less needs less memory and changes nothing else."""
    max_length: int = Field(default=4096, ge=16)
    """An example of more tokens is left out and counted, never cut."""
    checkpointing: bool = False
    """Compute each layer twice instead of keeping its activations."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    rehearsal: float = Field(default=0.0, ge=0, lt=1)
    """The share of the examples that is the base model's own answers, against forgetting."""
    average: int = Field(default=0, ge=0)
    """At the end, try the mean of so many epochs' last adapters; it is kept if it is better. 0: do not."""
    metric: Literal["f1", "loss"] = "loss"
    """What decides which epoch is the best: the task's token F1, or the held-out loss."""
    eval_rows: int = Field(default=64, ge=0)
    """Validation rows for which answers are generated after each epoch."""
    eval_tokens: int = Field(default=512, ge=1)
    """The most tokens of such an answer."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many epochs without a better one; 0: never."""
    save_steps: int = Field(default=100, ge=1)
    """Steps between checkpoints; each epoch ends with one too."""
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    report_to: tuple[str, ...] = ()
    """Trackers that accelerate knows: tensorboard, wandb, mlflow, ..."""


def load(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path_or_name: a TOML file, or the name of a shipped recipe, e.g. `annotator`.
        overrides: `key=value`, the key dotted; the value as TOML, or a text without quotes.

    Raises:
        UsageError: there is no such recipe, or an override is not `key=value`.
        ConfigError: a key or a value does not fit; the sentence names it, the hint the nearest.
    """
    path = _find(str(path_or_name))
    try:
        content: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"the recipe {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {path} is not valid TOML: {error}", "Correct that line.") from None
    content.setdefault("name", path.stem)
    for override in overrides:
        _override(content, override)
    return checked(content, str(path))


def checked(content: dict[str, Any], source: str) -> Recipe:
    """A recipe from its keys. Raises ConfigError, naming the source, the key and the nearest one."""
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise _told(error, source) from None
    if recipe.metric == "f1" and (recipe.skill != "annotate" or not recipe.eval_rows):
        raise ConfigError(
            f"{source}: metric = 'f1' needs the skill annotate and eval_rows above 0", "Set metric = 'loss'."
        )
    if recipe.policy.samples == 1 or (recipe.policy.samples and recipe.skill != "annotate"):
        raise ConfigError(
            f"{source}: policy.samples = {recipe.policy.samples} needs the skill annotate and at least 2 replies",
            "Set policy.samples = 8, or 0.",
        )
    return recipe


def as_toml(recipe: Recipe) -> str:
    """The recipe with every key, as a file that `load` reads."""
    tables = {key: value for key, value in recipe.model_dump().items() if isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in recipe.model_dump().items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def shipped() -> list[str]:
    """The names of the recipes that come with the program."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def _find(given: str) -> Path:
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if given in shipped():
        return SHIPPED / f"{given}.toml"
    near = difflib.get_close_matches(given, shipped(), n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"there is no recipe {given!r}", f"{meant}Give a TOML file, or one of {', '.join(shipped())}.")


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{override!r} changes no key of the recipe", "Write key=value, e.g. lora.r=32.")
    *parents, leaf = key.strip().split(".")
    node = content
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{override!r}: {parent} is no section of the recipe", _nearest(key))
    node[leaf] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _told(error: ValidationError, source: str) -> ConfigError:
    errors = error.errors()
    first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and "[" not in part)
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{source}: there is no key {key!r}", _nearest(key))
    return ConfigError(f"{source}: {key} = {first['input']!r} does not fit: {first['msg']}", "Correct that value.")


def _nearest(key: str) -> str:
    keys = [*Recipe.model_fields]
    for name, section in (("lora", Lora), ("optim", Optim), ("policy", Policy)):
        keys += [f"{name}.{field}" for field in section.model_fields]
    leaf = key.rpartition(".")[2]
    near = [full for full in keys if full.rpartition(".")[2] == leaf] or difflib.get_close_matches(key, keys, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Keys: {', '.join(keys)}."


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(_escaped(char) for char in value) + '"'
    return repr(value)


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04X}" if char in '"\\' or ord(char) < 0x20 or ord(char) == 0x7F else char
