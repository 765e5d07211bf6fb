"""The three places where a training step spends what it need not, as autograd functions of our own.

- `low_rank`: an adapter's branch in six matrix products, nothing kept but the inputs and the r-wide middle.
- `cross_entropy`: the loss at the trained positions only, in chunks; logits never exist as a whole.
- `F.rms_norm`: one kernel instead of six (see `speed_up`).
"""

from __future__ import annotations

import types
from typing import Any

import torch
import torch.nn.functional as F

from training.planning.memory import CHUNK_BYTES


class _LowRank(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, base: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        down, up = a.to(x.dtype), b.to(x.dtype)
        middle = rows @ down.T
        ctx.save_for_backward(rows, middle, a, b)
        ctx.scale = scale
        return torch.addmm(base.reshape(-1, base.shape[-1]), middle, up.T, alpha=scale).view(base.shape)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad = grads[0]
        rows, middle, a, b = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        inner = flat @ b.to(flat.dtype) * ctx.scale
        grad_x = (inner @ a.to(flat.dtype)).view(*grad.shape[:-1], -1) if ctx.needs_input_grad[1] else None
        grad_a = (inner.T @ rows).to(a.dtype)
        grad_b = (flat.T @ middle).to(b.dtype) * ctx.scale
        return grad, grad_x, grad_a, grad_b, None


def low_rank(base: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """base + scale * x A^T B^T, in the precision of x; A and B may be f32.

    Args:
        base: what the frozen layer made of the input; shape (..., out).
        x: the input, after dropout; shape (..., in).
        a: shape (r, in).
        b: shape (out, r).
        scale: alpha / r.
    """
    result: torch.Tensor = _LowRank.apply(base, x, a, b, scale)  # type: ignore[no-untyped-call]
    return result


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        smoothing: float,
        weights: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        needed = ctx.needs_input_grad[0]
        grad = torch.empty_like(hidden) if needed else None
        total = hidden.new_zeros((), dtype=torch.float32)
        plain = torch.zeros_like(total)
        chunk = max(1, CHUNK_BYTES // (4 * head.shape[0]))
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            logits = (hidden[part] @ head.T).float()
            wanted = targets[part, None]
            sums = logits.logsumexp(-1, keepdim=True)
            counts = 1.0 if weights is None else weights[part, None]
            nll = ((sums - logits.gather(-1, wanted)) * counts).sum()
            plain += nll
            total += nll * (1 - smoothing)
            if smoothing:
                total += smoothing * ((sums - logits.mean(-1, keepdim=True)) * counts).sum()
            if grad is not None:
                slope = logits.sub_(sums).exp_()  # the softmax, in place
                if smoothing:
                    slope -= smoothing / head.shape[0]
                slope.scatter_add_(-1, wanted, slope.new_full(wanted.shape, smoothing - 1))
                if weights is not None:
                    slope *= counts
                torch.mm(slope.to(head.dtype), head, out=grad[part])
        ctx.grad = grad
        ctx.mark_non_differentiable(plain)
        return total, plain

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.grad * grads[0], None, None, None, None


def cross_entropy(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed cross-entropy of a frozen output layer, in nats, f32.

    The gradient is made together with the loss, chunk by chunk (as Liger Kernel does, Hsu et al. 2024,
    arXiv:2410.10989), so that backward only scales it.

    Args:
        hidden: the states that predict a target; shape (N, hidden).
        head: the output layer's weights; shape (vocabulary, hidden).
        targets: shape (N,).
        smoothing: the share of the probability that is spread over the vocabulary.
        weights: how much each target counts, shape (N,); below 0 it is to become less likely. None is 1 each.

    Returns:
        The loss to differentiate, and the same without smoothing, to be told.
    """
    total, plain = _CrossEntropy.apply(hidden, head, targets, smoothing, weights)  # type: ignore[no-untyped-call]
    return total, plain


def speed_up(model: torch.nn.Module) -> None:
    """Let the adapters of a model, and its RMS norms on CUDA, run through the functions above."""
    from peft.tuners.lora.layer import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer) and len(layer.lora_A) == 1 and not layer.lora_variant:
            layer.forward = types.MethodType(_adapted, layer)
        elif type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon"):
            layer.forward = types.MethodType(_normed, layer)


def _adapted(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """The forward of a layer with one plain LoRA adapter."""
    base: torch.Tensor = layer.base_layer(x)
    (name,) = layer.lora_A
    if layer.disable_adapters:
        return base
    inputs = layer.lora_dropout[name](x)
    return low_rank(base, inputs, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name])


def _normed(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, layer.weight.shape, layer.weight, layer.variance_epsilon)
