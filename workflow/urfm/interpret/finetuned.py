"""The classifier of a fine-tuning cell that kept its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch

from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.models.classifier import load_classifier
from urfm.models.weights import load_strictly


def load_finetuned(cell: Path, encoder: Path) -> tuple[Any, dict[str, Any]]:
    """The network, in evaluation mode, of a cell.json, and its record; `encoder` is the json that it began from."""
    record: dict[str, Any] = read_json(cell)
    if "weights" not in record:
        raise UrfmError(
            f"{cell}: this cell kept no weights; name its model and task under `figures` and fine-tune again"
        )
    path, weights = cell.with_name("weights.safetensors"), record["weights"]
    verify_sha256(path, weights["sha256"])
    model = load_classifier(encoder, len(record["classes"]), weights["pooling"], drop_path=0.0, seed=0)
    load_strictly(model, safetensors.torch.load_file(path), path)
    return model.eval(), record
