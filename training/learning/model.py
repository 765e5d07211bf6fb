"""A base with its adapter, ready to be trained: f32, bf16, or 4 bits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import InputError, ModelUnavailable
from training.base import Base
from training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Keys of configurations by which a model changes its logits after the output layer: our loss does not."""


def choose_device(wanted: str) -> torch.device:
    """cpu or cuda; for `auto` the GPU, if torch sees one. Raises ModelUnavailable if CUDA is wanted and not there."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailable("torch sees no GPU on this machine", "Set device=cpu, or install torch for CUDA.")
    return torch.device("cpu" if wanted == "cpu" or not torch.cuda.is_available() else "cuda")


def build(recipe: Recipe, base: Base, device: torch.device) -> PeftModel:
    """Load a base and put the recipe's adapter on it: a new one, or the one that it starts from.

    Args:
        recipe: precision, adapter, start, checkpointing.
        base: what to load.
        device: where it goes.

    Returns:
        The model on its device, in training mode. Only the adapter's weights, in f32, have gradients.

    Raises:
        ModelUnavailable: the base does not load.
        InputError: its output is of a kind that we do not train, or the adapter to start from does not fit.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at import that it has no kernels for a CPU
    model = load_base(recipe, base, device)
    changed = [key for key in LOGIT_CHANGES if getattr(model.config, key, None)]
    if changed:
        raise InputError(f"{base.name} changes its logits ({changed[0]}), which the loss here does not know")
    return prepare(model, recipe)


def prepare(model: Any, recipe: Recipe) -> PeftModel:
    """Put the recipe's adapter on a loaded base and make both ready to be trained; see `build`."""
    from training.learning import functions, packing

    packing.register()
    keep_gradients(model)
    if recipe.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    adapted = _adapt(model, recipe)
    functions.speed_up(adapted)
    adapted.train()
    return adapted


def save_adapter(model: PeftModel) -> tuple[bytes, bytes]:
    """The bytes of an adapter's two files as peft has them: adapter_model.safetensors and adapter_config.json."""
    import json

    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = save({key: value.detach().cpu().contiguous() for key, value in state.items()}, metadata={"format": "pt"})
    settings = model.peft_config["default"].to_dict() | {"inference_mode": True, "base_model_name_or_path": None}
    listed = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    return weights, json.dumps(listed, indent=2, sort_keys=True, default=str).encode()


def load_adapter(model: PeftModel, folder: Path) -> None:
    """Give the model the weights of an adapter's folder. Raises InputError unless they fit exactly."""
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "adapter_model.safetensors"
    try:
        state = load_file(path)
        wrong: Any = set_peft_model_state_dict(model, state)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"the adapter {path} cannot be used: {reason}", "It has to be of this base and rank."
        ) from None
    missing = [key for key in wrong.missing_keys if "lora_" in key]
    if wrong.unexpected_keys or missing:
        raise InputError(
            f"the adapter {path} is of another shape, e.g. {(wrong.unexpected_keys or missing)[0]}",
            "Give the recipe the same lora.targets, or another `start`.",
        )


def load_base(recipe: Recipe, base: Base, device: torch.device) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": torch.float32 if recipe.precision == "f32" else torch.bfloat16}
    if recipe.precision == "nf4":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        options["device_map"] = {"": device}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            base.source, attn_implementation="sdpa", use_safetensors=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelUnavailable(
            f"the base {base.source} cannot be loaded: {reason}", "Check the recipe's `base`."
        ) from None
    return model if recipe.precision == "nf4" else model.to(device)


def keep_gradients(model: torch.nn.Module) -> None:
    """Forbid the repacking of 4-bit weights on CPUs with AVX512-BF16.

    bitsandbytes repacks them in any forward without gradients, after which a backward gives None without an error.
    """
    layers: list[Any] = list(model.modules())
    for layer in layers:
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _adapt(model: Any, recipe: Recipe) -> PeftModel:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(recipe.seed)  # the first factor is drawn by chance
    targets = recipe.lora.targets
    alpha: Any = recipe.lora.alpha
    settings = LoraConfig(
        r=recipe.lora.r,
        lora_alpha=alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        adapted: PeftModel = get_peft_model(model, settings)  # its weights are f32 whatever the base's are
    except ValueError as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"lora.targets do not fit this base: {reason}", "Name its layers, or all-linear.") from None
    if recipe.start:
        start = Path(recipe.start).expanduser()
        _check_scale(start, recipe)
        load_adapter(adapted, start)
    return adapted


def _check_scale(start: Path, recipe: Recipe) -> None:
    """Raise InputError unless an adapter was made with the recipe's rank and alpha: its weights alone do not say so."""
    import json

    path = start / "adapter_config.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", "`start` is a folder that peft wrote.") from None
    theirs = {"lora.r": settings.get("r"), "lora.alpha": settings.get("lora_alpha")}
    for key, ours in (("lora.r", recipe.lora.r), ("lora.alpha", recipe.lora.alpha)):
        if theirs[key] != ours:
            raise InputError(
                f"{start} was made with {key} = {theirs[key]}, the recipe has {ours}", f"Set {key} so too."
            )
