"""Small encoders of every family, in the one form of `urfm.models.encoders`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import upstream_files as upstream
from safetensors.torch import save_file
from upstream_files import SMALL_RESNET, SMALL_VIT, fill
from urfm.config.models import CheckpointSettings
from urfm.core.files import sha256
from urfm.models.encoders import from_checkpoint

VIT_ARGS = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}
RESNET_ARGS = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
RESNETV2_ARGS = {"layers": [1, 1, 1, 1], "channels": [32, 32, 32, 32]}
ARGUMENTS: dict[str, Any] = {"simclr": RESNET_ARGS, "simclr_v2": RESNETV2_ARGS}
CONVOLUTIONAL = set(ARGUMENTS)


def small_files() -> dict[str, Any]:
    """The content of a small file of every format."""
    vit = fill(upstream.vit(SMALL_VIT))
    decoder = fill(upstream.mae_decoder(16, 12, SMALL_VIT, depth=1))
    trunk = fill(upstream.torchvision_resnet(SMALL_RESNET))
    model = {"trunk": {f"_feature_blocks.{name}": tensor for name, tensor in trunk.items()}, "heads": {}}
    return {
        "urfm": {"model": "mae_vit_small", "ema_state_dict": vit | decoder, "state_dict": vit | decoder},
        "mae": {"model": vit | decoder},
        "moco_v3": {"state_dict": {f"module.base_encoder.{name}": tensor for name, tensor in vit.items()}},
        "dino": vit,
        "simclr": {"classy_state_dict": {"base_model": {"model": model}}},
        "simclr_v2": {"resnet": fill(upstream.simclr_v2(SMALL_RESNET)), "head": {}},
        "usfm": fill(upstream.usfm(SMALL_VIT)),
        "clip": fill(upstream.openai_clip(SMALL_VIT)),
        "biomedclip": fill(upstream.biomedclip(SMALL_VIT)),
    }


FORMS = sorted(small_files())


def settings_of(form: str) -> dict[str, Any]:
    return {"model_args": ARGUMENTS.get(form, VIT_ARGS)} | ({"input_size": 64} if form in CONVOLUTIONAL else {})


def write_encoder(folder: Path, form: str, **record: Any) -> Path:
    """A small encoder as the stage writes it; the path of its json."""
    torch.save(small_files()[form], folder / "upstream.pth")
    settings = CheckpointSettings.model_validate({"format": form, "file": "upstream.pth", **settings_of(form)})
    tensors, found = from_checkpoint(settings, folder)
    save_file(tensors, folder / "encoder.safetensors", metadata={"format": "pt"})
    (folder / "upstream.pth").unlink()
    found |= {"model": "mine", "sha256": sha256(folder / "encoder.safetensors"), "simulated": False, **record}
    (folder / "encoder.json").write_text(json.dumps(found))
    return folder / "encoder.json"
