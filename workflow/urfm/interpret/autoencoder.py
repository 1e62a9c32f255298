"""The masked autoencoder of a finished pre-training run, with its decoder: for looking at what it reconstructs."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch

from urfm.core.files import read_json, verify_sha256
from urfm.models.mim import MaskedAutoencoder, build_encoder, load_mae
from urfm.models.weights import Tensors


def load_autoencoder(run: Path) -> MaskedAutoencoder:
    """The autoencoder, in evaluation mode, of a folder that the stage `pretrain` wrote; all hashes are checked."""
    record = read_json(run / "encoder.json")
    settings, target = record["provenance"]["settings"], record["provenance"]["teacher"]
    tensors: Tensors = {}
    for name, digest in (("encoder", record["sha256"]), ("decoder", record["decoder_sha256"])):
        path = run / f"{name}.safetensors"
        verify_sha256(path, digest)
        tensors |= safetensors.torch.load_file(path)
    model = MaskedAutoencoder(
        build_encoder(settings["architecture"], settings["model_args"], settings["input_size"]),
        target["dim"],
        **settings["decoder"],
        mask_ratio=settings["mask_ratio"],
        target_norm=settings["target_norm"],
        loss_on=settings["loss_on"],
    )
    load_mae(model, tensors, run)
    return model.eval()
