"""The masked autoencoder of a finished pre-training run, with its decoder: for looking at what it reconstructs."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch

from urfm.config.pretraining import PretrainSettings
from urfm.core.files import read_json, verify_sha256
from urfm.models.mim import MaskedAutoencoder, build_encoder, load_mae, masked_autoencoder
from urfm.models.weights import Tensors


def load_autoencoder(run: Path) -> MaskedAutoencoder:
    """The autoencoder, in evaluation mode, of a folder that the stage `pretrain` wrote; all hashes are checked."""
    record = read_json(run / "encoder.json")
    settings = PretrainSettings.model_validate(record["provenance"]["settings"])
    tensors: Tensors = {}
    for name, digest in (("encoder", record["sha256"]), ("decoder", record["decoder_sha256"])):
        path = run / f"{name}.safetensors"
        verify_sha256(path, digest)
        tensors |= safetensors.torch.load_file(path)
    encoder = build_encoder(settings.architecture, settings.model_args, settings.input_size)
    model = masked_autoencoder(settings, encoder, record["provenance"]["teacher"]["dim"])
    load_mae(model, tensors, run)
    return model.eval()
