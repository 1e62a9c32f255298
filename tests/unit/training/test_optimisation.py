"""The schedule against its closed form, the decay groups against MAE's, precision on the CPU."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
from torch import nn
from urfm.config.fields import Precision
from urfm.training import optimisation


def test_schedule_of_table_4() -> None:
    peak = optimisation.peak_learning_rate(1.5e-4, 1024)
    assert peak == pytest.approx(6e-4)
    steps = 979  # 1,003,465 images in batches of 1024, the last one dropped

    def rate(step: int) -> float:
        return optimisation.learning_rate(step, steps, peak=peak, minimum=0, warmup_epochs=40, epochs=400)

    assert rate(0) == 0
    assert rate(20 * steps) == pytest.approx(3e-4)
    assert rate(40 * steps) == pytest.approx(6e-4)
    assert rate(220 * steps) == pytest.approx(3e-4)  # half way down the cosine
    assert rate(130 * steps) == pytest.approx(6e-4 * math.cos(math.pi / 8) ** 2)  # (1 + cos a) / 2 = cos(a/2)^2
    assert 0 < rate(400 * steps - 1) < 1e-13
    rates = np.array([rate(step) for step in range(0, 400 * steps, 97)])
    top = rates.argmax()
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_whole_curve_is_maes(accumulation: int) -> None:
    """util/lr_sched.py, called by engine_pretrain.py at the first of the iterations that one optimiser step gathers."""
    epochs, warmup, steps, peak, minimum = 7, 2.5, 6, 6e-4, 1e-6
    iterations = steps * accumulation
    step = 0
    for epoch in range(epochs):
        for iteration in range(iterations):
            if iteration % accumulation:
                continue
            fraction = iteration / iterations + epoch
            if fraction < warmup:
                expected = peak * fraction / warmup
            else:
                cosine = math.cos(math.pi * (fraction - warmup) / (epochs - warmup))
                expected = minimum + (peak - minimum) * 0.5 * (1.0 + cosine)
            found = optimisation.learning_rate(
                step, steps, peak=peak, minimum=minimum, warmup_epochs=warmup, epochs=epochs
            )
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-18)
            step += 1
    assert step == epochs * steps


def test_schedule_without_warmup_and_with_a_floor() -> None:
    rates = [optimisation.learning_rate(s, 2, peak=1.0, minimum=0.1, warmup_epochs=0, epochs=2) for s in range(4)]
    assert rates == pytest.approx([1.0, 0.55 + 0.45 * math.cos(math.pi / 4), 0.55, 0.55 - 0.45 * math.cos(math.pi / 4)])


def test_layer_scales_multiply_the_rate() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimiser = torch.optim.AdamW([{"params": [a], "lr_scale": 0.75**13}, {"params": [b]}])
    optimisation.set_learning_rate(optimiser, 2e-3)
    assert [group["lr"] for group in optimiser.param_groups] == [2e-3 * 0.75**13, 2e-3]


def test_weight_decay_groups_follow_mae() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
            self.pos_embed = nn.Parameter(torch.zeros(1, 3, 4), requires_grad=False)
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 2)

    net = Net()
    others, decayed = optimisation.weight_decay_groups(net, 0.05)
    assert others["weight_decay"] == 0
    assert decayed["weight_decay"] == 0.05
    assert {id(p) for p in others["params"]} == {id(net.norm.weight), id(net.norm.bias), id(net.head.bias)}
    assert {id(p) for p in decayed["params"]} == {id(net.cls_token), id(net.head.weight)}


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_precision_of_the_forward_pass(precision: Precision, dtype: torch.dtype) -> None:
    device = torch.device("cpu")
    assert optimisation.choose_precision(precision, device) == precision
    with optimisation.autocast(precision, device):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert optimisation.grad_scaler(precision, device).is_enabled() == (precision == "fp16")


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "fp32")],
)
def test_auto_is_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, **capabilities})
    assert optimisation.choose_precision("auto", torch.device("cpu")) == chosen


def test_kernels_for_a_cpu_compute_the_same_attention() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=32, num_classes=2).eval()
    images = torch.randn(2, 3, 32, 32)
    before = model(images)
    optimisation.suit(model, torch.device("cuda"))
    assert all(block.attn.fused_attn for block in model.blocks)
    optimisation.suit(model, torch.device("cpu"))
    assert not any(block.attn.fused_attn for block in model.blocks)
    torch.testing.assert_close(model(images), before)
