"""Optimisation as in MAE (facebookresearch/mae), shared by pre-training and fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from urfm.config.fields import Precision
from urfm.config.pretraining import LearningRateCut
from urfm.core.errors import UrfmError

_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def peak_learning_rate(base: float, batch_size: int, reference_batch: int = 256) -> float:
    """MAE's linear scaling: `base` is given for 256 images, `batch_size` counts all processes and accumulation."""
    return base * batch_size / reference_batch


def learning_rate(
    step: int, steps_per_epoch: int, *, peak: float, minimum: float, warmup_epochs: float, epochs: float
) -> float:
    """Learning rate of optimiser step `step` (from 0): linear warm-up from 0, then half a cosine down to `minimum`.

    Per iteration with fractional epochs, as MAE's util/lr_sched.py: the last step is one step short of `minimum`.
    """
    epoch = step / steps_per_epoch
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    done = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return minimum + (peak - minimum) * 0.5 * (1 + math.cos(math.pi * done))


def cut(step: int, cuts: Iterable[LearningRateCut]) -> float:
    """What the schedule's learning rate is multiplied with in a step."""
    return math.prod(cut.factor for cut in cuts if step >= cut.step)


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Give every parameter group `value`, times its `lr_scale` where layer-wise decay set one."""
    for group in optimiser.param_groups:
        group["lr"] = value * group.get("lr_scale", 1.0)


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of MAE's pre-training: no decay for biases and other vectors, frozen parameters left out.

    The class and mask tokens have three dimensions and are decayed, as in MAE (timm 0.3.2's add_weight_decay).
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (others if parameter.ndim <= 1 or name.endswith(".bias") else decayed).append(parameter)
    return [{"params": others, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]


def adamw(
    groups: Iterable[dict[str, Any]], betas: tuple[float, float], device: torch.device, lr: float = 0.0
) -> torch.optim.AdamW:
    """AdamW in one fused kernel; the schedule sets the learning rate before every step."""
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=device.type in ("cuda", "cpu") or None)


def seed_torch(seed: int) -> None:
    """Seed what layers draw from, on the CPU and on GPUs in use.

    `torch.manual_seed` does the same, but keeps a traceback for every kind of device that is not in use: 2.5 ms a call.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the GPU or the processor has instructions for bf16; what has none is many times slower with it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


def choose_products(precision: Precision, device: torch.device) -> None:
    """Let products of fp32 matrices be TF32's on a card, unless `precision` is fp32: in all that is evaluated.

    In fp32 that would take more than half of fine-tuning on an A100. TF32 keeps 10 of 23 bits of what is multiplied,
    more than the bf16 of training, and all 23 of the sums, so that logits which differ do not become equal.
    """
    exact = precision == "fp32" or device.type != "cuda"
    torch.set_float32_matmul_precision("highest" if exact else "high")


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """What `auto` stands for on this device: bf16 if it computes in it, else fp32. All others stay.

    bf16 where a GPU has none (V100 would emulate it slowly or fail) is refused.
    """
    if precision == "auto":
        return "bf16" if computes_in_bf16(device) else "fp32"
    if precision == "bf16" and device.type == "cuda" and not computes_in_bf16(device):
        raise UrfmError(
            f"precision: bf16 is not supported by {torch.cuda.get_device_name(device)}; "
            "set precision to fp16, fp32 or auto, in the sections pretraining and finetuning"
        )
    return precision


def suit(model: nn.Module, device: torch.device) -> None:
    """Choose timm's kernels for the device: on CPUs the fused attention's backward pass takes a third of a step."""
    for module in model.modules():
        if hasattr(module, "fused_attn") and device.type == "cpu":
            module.__dict__["fused_attn"] = False


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Context of the forward pass and the loss; does nothing for fp32."""
    return torch.autocast(device.type, dtype=_DTYPE[precision], enabled=precision != "fp32")


def grad_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Loss scaling for fp16; passes everything through for bf16 and fp32."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
