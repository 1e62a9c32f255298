"""Masked autoencoders with their decoder, of a run here or as released: for looking at what they reconstruct."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch

from urfm.config.fields import BelowOne, Text
from urfm.config.pretraining import DecoderSettings, PretrainSettings, TargetNorm
from urfm.core.cli import Settings
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.models.checkpoints import urfm_tensors
from urfm.models.mim import MaskedAutoencoder, build_encoder, load_mae, masked_autoencoder
from urfm.models.weights import Tensors, check_sha256


class Released(Settings):
    """A released file, and what it does not say of the masked autoencoder in it."""

    file: Text  # below checkpoint_root
    ema: bool
    decoder: DecoderSettings
    mask_ratio: BelowOne
    target_norm: TargetNorm


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


def load_released(root: Path, released: Released, record: dict[str, Any]) -> MaskedAutoencoder:
    """The autoencoder, in evaluation mode, of a file in URFM's released form.

    Parameters
    ----------
    root
        Where `released.file` starts.
    record
        The json of the encoder that was made of the same file; UrfmError if the file is another one by now, or holds no
        decoder, or one of another shape.
    """
    path = root / released.file
    check_sha256(path, record["provenance"]["file_sha256"])
    tensors = urfm_tensors(path, released.ema)
    if "decoder_pred.weight" not in tensors:
        raise UrfmError(
            f"{path}: holds no decoder, so there is no reconstruction to look at; leave out models.{record['model']}"
            ".decoder, and figures 1B and 6 with it"
        )
    encoder = build_encoder(record["architecture"], record["model_args"], record["input_size"])
    model = MaskedAutoencoder(
        encoder,
        len(tensors["decoder_pred.weight"]),
        **released.decoder.model_dump(),
        mask_ratio=released.mask_ratio,
        target_norm=released.target_norm,
    )
    load_mae(model, tensors, path)
    return model.eval()
