"""Networks, pictures in memory and single steps of pre-training, for the groups that compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from urfm.config.models import TeacherSettings
from urfm.config.pretraining import PretrainSettings
from urfm.models.clip import MEAN, STD
from urfm.models.mim import MaskedAutoencoder, build_encoder, masked_autoencoder
from urfm.models.teachers.common import Teacher
from urfm.training import optimisation
from urfm.training.distributed import Processes
from urfm.training.pretrain.loop import Objective, Training
from urfm.training.pretrain.samples import Sample, Samples

from tests.benchmarks.suite.pictures import pretraining

CPU = torch.device("cpu")
DIM = 768  # channels of a target, BiomedCLIP's
TINY, BASE = "vit_tiny_patch16_224", "vit_base_patch16_224"
DECODERS = {TINY: {"width": 192, "depth": 4, "heads": 3}}  # the configured one is many times a ViT-Ti
SMALL = {
    "model_args": {"embed_dim": 48, "depth": 2, "num_heads": 2},
    "decoder": {"width": 48, "depth": 1, "heads": 2},
}  # for a quick look


def settings(architecture: str, quick: bool, profile: str = "", **changes: Any) -> PretrainSettings:
    """Of the run `urfm` as configured, with targets from memory, all steps alike and nothing to be kept."""
    told = {"targets": "cached", "views": 1, "view_dtype": "float16", "warmup_epochs": 0, "epochs": 1, **changes}
    if not profile:
        told |= {"architecture": architecture}
        told |= {"decoder": DECODERS[architecture]} if architecture in DECODERS else {}
    return pretraining("urfm", profile, **told | (SMALL if quick else {}))


def network(chosen: PretrainSettings, dim: int = DIM, device: torch.device = CPU) -> MaskedAutoencoder:
    """A run's network as training has it."""
    encoder = build_encoder(chosen.architecture, chosen.model_args, chosen.input_size)
    model = masked_autoencoder(chosen, encoder, dim).to(device).train()
    optimisation.suit(model, device)
    return model


class Tokens(nn.Module):
    """Patch tokens of a vision transformer, (B, h, w, dim)."""

    def __init__(self, architecture: str, **arguments: Any) -> None:
        super().__init__()
        self.vit = timm.create_model(architecture, num_classes=0, **arguments)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.vit.forward_features(images)[:, self.vit.num_prefix_tokens :]
        return tokens.unflatten(1, self.vit.patch_embed.grid_size)


def online_teacher(architecture: str = "vit_base_patch16_224", **arguments: Any) -> Teacher:
    """BiomedCLIP's network with random weights, which take as long."""
    told = TeacherSettings(name="biomedclip", kind="biomedclip")
    return Teacher(told, Tokens(architecture, **arguments), 224, MEAN, STD, "patch tokens", "", stand_in=True)


class Prepared(Samples):
    """As many random samples as one likes, of which a batch lies in memory."""

    def __init__(self, chosen: PretrainSettings, images: int, dim: int = DIM) -> None:
        self.settings, self.images = chosen, images
        self.organs = np.zeros(images, np.uint8)
        draws = torch.Generator().manual_seed(0)
        side, patches = chosen.input_size, grid(chosen)
        self.made: list[Sample] = [
            {
                "student": torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=draws),
                "target": torch.randn(patches, dim, generator=draws).half(),
            }
            for _ in range(min(images, chosen.batch_size))
        ]

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        return self.made[place[1] % len(self.made)]


def grid(chosen: PretrainSettings) -> int:
    """Patches of an image."""
    side = chosen.model_args.get("patch_size", 16)
    return (chosen.input_size // side) ** 2


def batch(chosen: PretrainSettings, dim: int = DIM) -> Sample:
    """One batch with its noise."""
    part: Sample = default_collate(Prepared(chosen, chosen.batch_size, dim).made)
    noise = torch.rand((chosen.batch_size, grid(chosen)), generator=torch.Generator().manual_seed(1))
    return part | {"noise": noise}


def engine_step(
    chosen: PretrainSettings,
    teacher: Teacher | None = None,
    dim: int = DIM,
    device: torch.device = CPU,
    compiler: str = "",
) -> Callable[[], Tensor]:
    """One step of the workflow's engine after another, always on the same batch; compiled by `compiler`, if any."""
    model, part = network(chosen, dim, device), batch(chosen, dim)
    objective = Objective(chosen, model, teacher, Processes(0, 1, device))
    if compiler:
        objective.network = torch.compile(model, backend=compiler)
    training = Training(chosen, model, device)
    optimisation.set_learning_rate(training.optimiser, 1e-4)

    def step() -> Tensor:
        loss = objective.backward([part], training.scaler)
        training.update()
        return loss

    return step
