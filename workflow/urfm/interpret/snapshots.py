"""Networks that a pre-training run kept on its way (`snapshot_every`): read them, rebuild them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from urfm.config.fields import Pooling
from urfm.config.pretraining import PretrainSettings
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.models.classifier import build
from urfm.models.mim import MaskedAutoencoder, build_encoder, masked_autoencoder
from urfm.models.weights import load_strictly


@dataclass(frozen=True)
class Snapshots:
    """What snapshots.json says; `path` holds float16 tensors `<epoch>/<name>` of whole masked autoencoders."""

    path: Path
    settings: PretrainSettings
    epochs: list[int]  # ascending; 0 is the untrained network
    target: dict[str, Any]  # the teacher's record
    simulated: bool

    def network(self, epoch: int) -> MaskedAutoencoder:
        """The network after an epoch, in evaluation mode."""
        prefix = f"{epoch}/"
        with safe_open(self.path, "pt") as stream:
            names = [name for name in stream.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
            tensors = {name.removeprefix(prefix): stream.get_tensor(name).float() for name in names}
        network = self.untrained(0)
        load_strictly(network, tensors, self.path)
        return network

    def untrained(self, seed: int) -> MaskedAutoencoder:
        """A network of the same kind as a run with this seed might begin with; torch's generator is left alone."""
        settings = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = build_encoder(settings.architecture, settings.model_args, settings.input_size)
            return masked_autoencoder(settings, encoder, self.target["dim"]).eval()


def read_snapshots(record_path: Path) -> Snapshots:
    """Read snapshots.json and check snapshots.safetensors beside it; an UrfmError if the run kept none."""
    record = read_json(record_path)
    path = record_path.with_name("snapshots.safetensors")
    verify_sha256(path, record["sha256"])
    settings = PretrainSettings.model_validate(record["settings"])
    if not record["epochs"]:
        raise UrfmError(
            f"{record_path}: {settings.run} kept no snapshots; set pretraining.runs.{settings.run}.snapshot_every"
        )
    return Snapshots(path, settings, record["epochs"], record["target"], record["simulated"])


def feature_network(network: MaskedAutoencoder, settings: PretrainSettings, pooling: Pooling) -> Any:
    """The encoder as fine-tuning begins, see `urfm.models.classifier`: images to pooled features (B, dim)."""
    pool = {"mean": "avg", "cls": "token"}[pooling]
    model = build(settings.architecture, settings.model_args, settings.input_size, global_pool=pool)
    mean = pooling == "mean"
    load_strictly(
        model,
        network.encoder.state_dict(),
        settings.run,
        may_be_new=("fc_norm.",) if mean else (),
        may_be_left=("norm.",) if mean else (),
    )
    return model.eval()
