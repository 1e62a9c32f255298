"""What must hold on a graphics card: sh envs/run test tests/gpu. Not seen on one yet; see docs/benchmarks.md.

Without a card this is one skip. URFM_GPU_TESTS=cpu runs it on the CPU instead (NCCL as Gloo), to see that it works.
The reference is the same network with the same weights in fp32 on the CPU.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

if not torch.cuda.is_available() and os.environ.get("URFM_GPU_TESTS") != "cpu":
    pytest.skip("no graphics card that torch can use", allow_module_level=True)

import timm
import torch.distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from urfm.config.fields import Precision
from urfm.config.pretraining import PretrainSettings
from urfm.models.mim import MaskedAutoencoder, build_encoder, masked_autoencoder
from urfm.training import optimisation
from urfm.training.distributed import Processes
from urfm.training.pretrain.loop import Objective, Training
from urfm.training.pretrain.samples import Sample

CPU = torch.device("cpu")
CARD = torch.device("cuda", 0) if torch.cuda.is_available() else CPU
BATCH, SIDE, DIM = 8, 64, 48
# Largest relative error of a loss, by precision: fp32 keeps 23 bits, fp16 10, bf16 7.
BOUNDS: dict[Precision, float] = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 3e-2}


def settings(**changes: Any) -> PretrainSettings:
    told = {
        "run": "card", "architecture": "vit_tiny_patch16_224", "input_size": SIDE,
        "model_args": {"embed_dim": 64, "depth": 3, "num_heads": 4},
        "decoder": {"width": 64, "depth": 2, "heads": 4},
        "teacher": {"name": "pixels", "kind": "pixels"}, "targets": "cached", "views": 1, "view_dtype": "float16",
        "target_norm": "layernorm", "loss_on": "masked", "blur_sigma": 0, "mask_ratio": 0.5, "epochs": 4,
        "warmup_epochs": 0, "batch_size": BATCH, "base_lr": 0.01, "min_lr": 0, "weight_decay": 0.05,
        "betas": [0.9, 0.95],
        "crop_scale": [0.2, 1.0], "flip": True, "normalisation": "imagenet", "precision": "fp32", "ema_decay": 0,
        "sampling": "natural", "seed": 0,
    }  # fmt: skip
    return PretrainSettings.model_validate(told | changes)


@pytest.fixture
def network() -> MaskedAutoencoder:
    torch.manual_seed(0)
    chosen = settings()
    return masked_autoencoder(chosen, build_encoder(chosen.architecture, chosen.model_args, SIDE), DIM).train()


@pytest.fixture
def part() -> Sample:
    draws = torch.Generator().manual_seed(1)
    patches = (SIDE // 16) ** 2
    return {
        "student": torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws),
        "target": torch.randn(BATCH, patches, DIM, generator=draws).half(),
        "noise": torch.rand(BATCH, patches, generator=draws),
    }


def losses(
    network: MaskedAutoencoder,
    part: Sample,
    device: torch.device,
    precision: Precision,
    steps: int = 6,
    micro: int = BATCH,
) -> list[float]:
    """Of each step of training on one batch, in micro-batches."""
    chosen = settings(precision=precision)
    model = copy.deepcopy(network).to(device)
    optimisation.suit(model, device)
    objective, training = Objective(chosen, model, None, Processes(0, 1, device)), Training(chosen, model, device)
    optimisation.set_learning_rate(training.optimiser, 1e-3)
    parts = [
        dict(zip(part, rows, strict=True))
        for rows in zip(*(values.split(micro) for values in part.values()), strict=True)
    ]
    found = []
    for _ in range(steps):
        found.append(objective.backward(parts, training.scaler).item())
        training.update()
    assert training.step == steps
    return found


@pytest.mark.parametrize("precision", BOUNDS)
def test_losses_of_training_are_those_of_the_cpu(
    network: MaskedAutoencoder, part: Sample, precision: Precision
) -> None:
    if precision == "bf16" and CARD.type == "cuda" and not optimisation.computes_in_bf16(CARD):
        pytest.skip(f"{torch.cuda.get_device_name(CARD)} has no bf16")
    expected, found = losses(network, part, CPU, "fp32"), losses(network, part, CARD, precision)
    assert expected[-1] < 0.99 * expected[0]  # it learns, so that equal losses say something
    assert found == pytest.approx(expected, rel=BOUNDS[precision])


def test_micro_batches_are_the_whole_batch(network: MaskedAutoencoder, part: Sample) -> None:
    whole, parts = losses(network, part, CARD, "fp32"), losses(network, part, CARD, "fp32", micro=2)
    assert parts == pytest.approx(whole, rel=1e-4)


def test_the_scaler_of_fp16_skips_an_overflow_and_goes_on(network: MaskedAutoencoder, part: Sample) -> None:
    """The first scale is too large on purpose: the weights stay, the scale falls, later steps change them."""
    model = copy.deepcopy(network).to(CARD)
    chosen = settings(precision="fp16")
    objective, training = Objective(chosen, model, None, Processes(0, 1, CARD)), Training(chosen, model, CARD)
    optimisation.set_learning_rate(training.optimiser, 1e-3)
    training.scaler = torch.amp.GradScaler(CARD.type, init_scale=2.0**40)
    before = copy.deepcopy(model.state_dict())
    objective.backward([part], training.scaler)
    training.update()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert training.scaler.get_scale() == 2.0**39
    for _ in range(40):
        objective.backward([part], training.scaler)
        training.update()
    assert not torch.equal(before["decoder_pred.weight"], model.state_dict()["decoder_pred.weight"])
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_attention_is_attention(dtype: torch.dtype) -> None:
    """timm's attention, which stays fused on cards, beside the formula in float64."""
    if dtype == torch.bfloat16 and CARD.type == "cuda" and not optimisation.computes_in_bf16(CARD):
        pytest.skip("this card has no bf16")
    draws = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(4, 12, 197, 64, generator=draws).to(dtype) for _ in range(3))
    expected = ((query.double() @ key.double().mT) / 8).softmax(-1) @ value.double()
    found = functional.scaled_dot_product_attention(query.to(CARD), key.to(CARD), value.to(CARD)).cpu().double()
    assert (found - expected).abs().max() < (1e-4 if dtype == torch.float32 else 2e-2)
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    optimisation.suit(model, CARD)
    assert model.blocks[0].attn.fused_attn == (CARD.type == "cuda")


@pytest.fixture
def one_process(tmp_path: Any) -> Iterator[None]:
    backend = "nccl" if CARD.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=0, world_size=1, store=dist.FileStore(str(tmp_path / "store"), 1))
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_nccl_with_one_process_changes_nothing(network: MaskedAutoencoder, part: Sample) -> None:
    """Gradients through DistributedDataParallel, micro-batches without and with the exchange, and a sum over all."""
    gradients = []
    for wrapped in (False, True):
        model = copy.deepcopy(network).to(CARD)
        objective = Objective(settings(), model, None, Processes(0, 1, CARD))
        if wrapped:
            objective.network = DistributedDataParallel(model, device_ids=[0] if CARD.type == "cuda" else None)
        halves = [{name: values[rows] for name, values in part.items()} for rows in (slice(0, 4), slice(4, 8))]
        objective.backward(halves, optimisation.grad_scaler("fp32", CARD))
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)
    summed = torch.arange(4.0, device=CARD)
    dist.all_reduce(summed)
    assert summed.tolist() == [0, 1, 2, 3]


def test_a_compiled_network_has_the_same_loss_and_gradients(network: MaskedAutoencoder, part: Sample) -> None:
    found = []
    for compiled in (False, True):
        model = copy.deepcopy(network).to(CARD)
        objective = Objective(settings(), model, None, Processes(0, 1, CARD))
        if compiled:
            objective.network = torch.compile(model)
        loss = objective.backward([part], optimisation.grad_scaler("fp32", CARD)).item()
        found.append((loss, model.encoder.blocks[0].attn.qkv.weight.grad.norm().item()))
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_tf32_of_evaluation_chooses_the_same_classes() -> None:
    """Fine-tuning's logits: those of float64 within TF32's ten bits, and no two that differed become equal."""
    torch.manual_seed(3)
    model = timm.create_model("vit_tiny_patch16_224", depth=4, num_classes=8, img_size=SIDE).eval()
    images = torch.randn(64, 3, SIDE, SIDE)
    with torch.inference_mode():
        expected = copy.deepcopy(model).double()(images.double())
        torch.set_float32_matmul_precision("high")
        try:
            found = model.to(CARD)(images.to(CARD)).cpu()
        finally:
            torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-3 * expected.abs().max().item())
    near = expected.topk(2).values.diff(dim=1).abs()[:, 0] < 1e-2 * expected.abs().max()
    assert torch.equal(found.argmax(1)[~near], expected.argmax(1)[~near])
    assert len(found.flatten().unique()) == found.numel()
