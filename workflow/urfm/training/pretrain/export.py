"""What a pre-training run writes: encoder and decoder with what describes them, the history, and the kept networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from urfm.config.pretraining import PretrainSettings
from urfm.core.errors import UrfmError
from urfm.core.files import sha256, write_csv, write_json
from urfm.models.mim import encoder_arguments
from urfm.models.weights import write_file
from urfm.training import state
from urfm.training.pretrain.loop import snapshot_path


def export(
    settings: PretrainSettings,
    finished: dict[str, Any],
    images: int,
    provenance: dict[str, Any],
    simulated: bool,
    output: Path,
) -> None:
    """Write encoder and decoder under timm's and MAE's parameter names, what describes them, and the history."""
    weights, decoder = output / "encoder.safetensors", output / "decoder.safetensors"
    for path in (weights, decoder):
        write_file(path, finished[path.stem])
    write_csv(output / "history.csv", pd.DataFrame(finished["history"]))
    mean, std = settings.colours
    last = finished["history"][-1]
    record = {
        "model": settings.run,
        "architecture": settings.architecture,
        "model_args": encoder_arguments(settings.model_args, settings.input_size),
        "input_size": settings.input_size,
        "mean": mean and list(mean),
        "std": std and list(std),
        "blur_sigma": settings.blur_sigma,  # its authors demand that downstream images are blurred as well
        "weights": "file",
        "source": f"masked image modelling with targets of {settings.teacher.name} on {images:,} ultrasound images, "
        f"{settings.epochs} epochs" + (", exponential moving average of the weights" if settings.ema_decay else ""),
        "parameters": sum(tensor.numel() for tensor in finished["encoder"].values()),
        "sha256": sha256(weights),
        "decoder_sha256": sha256(decoder),
        "position_mean_loss": last["position_mean_loss"],
        "r2": last["r2"],
        "simulated": simulated,
        "stand_in": provenance["teacher"]["stand_in"],  # taught by random weights, it is worth no more than they are
        "provenance": provenance,
    }
    write_json(output / "encoder.json", record)


def export_snapshots(
    settings: PretrainSettings, folder: Path, target: dict[str, Any], simulated: bool, output: Path
) -> None:
    """Write the kept networks to one file, as float16 tensors `<epoch>/<name>`, and what rebuilds them."""
    tensors: dict[str, Tensor] = {}
    for epoch in settings.snapshots:
        kept = state.load(snapshot_path(folder, epoch))
        if kept is None:
            raise UrfmError(f"{folder}: the snapshot of epoch {epoch} is gone; delete this folder and train again")
        tensors |= {f"{epoch}/{name}": tensor for name, tensor in kept.items()}
    weights = output / "snapshots.safetensors"
    write_file(weights, tensors)
    record = {
        "settings": settings.model_dump(mode="json"),
        "epochs": settings.snapshots,
        "target": target,
        "simulated": simulated,
        "sha256": sha256(weights),
    }
    write_json(output / "snapshots.json", record)
