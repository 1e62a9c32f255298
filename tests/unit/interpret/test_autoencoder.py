"""A masked autoencoder out of a file in URFM's released form, against the network that the file was written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from urfm.config.models import CheckpointSettings
from urfm.core.errors import UrfmError
from urfm.interpret.autoencoder import Released, load_released
from urfm.models.encoders import from_checkpoint
from urfm.models.mim import MaskedAutoencoder, build_encoder, mae_tensors

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8}
DECODER = {"width": 16, "depth": 2, "heads": 2}


def autoencoder(seed: int) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    encoder = build_encoder("vit_tiny_patch16_224", TINY, 32)
    return MaskedAutoencoder(encoder, 12, **DECODER, mask_ratio=0.75).eval()


def publish(folder: Path, last: MaskedAutoencoder, average: MaskedAutoencoder, decoder: bool = True) -> None:
    """`model` is a string; weights of the last step behind `module.`, and their moving average."""
    tensors = [
        {name: tensor for name, tensor in mae_tensors(model).items() if decoder or "decoder" not in name}
        for model in (last, average)
    ]
    content = {
        "epoch": 1199,
        "model": "mae_vit_tiny_patch8_dec16d2b",
        "state_dict": {f"module.{name}": tensor for name, tensor in tensors[0].items()},
        "ema_state_dict": tensors[1],
    }
    torch.save(content, folder / "urfm.pth")


def convert(folder: Path, ema: bool = True) -> tuple[Released, dict[str, Any]]:
    checkpoint = CheckpointSettings(
        format="urfm", file="urfm.pth", architecture="vit_tiny_patch16_224", model_args=TINY, ema=ema
    )
    record = from_checkpoint(checkpoint, folder)[1] | {"model": "urfm_released"}
    settings = {"file": "urfm.pth", "ema": ema, "decoder": DECODER, "mask_ratio": 0.75, "target_norm": "none"}
    return Released.model_validate(settings), record


@pytest.mark.parametrize("ema", [True, False])
def test_it_reconstructs_as_the_network_that_was_released(tmp_path: Path, ema: bool) -> None:
    last, average = autoencoder(0), autoencoder(1)
    publish(tmp_path, last, average)
    found = load_released(tmp_path, *convert(tmp_path, ema))
    images, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    with torch.inference_mode():
        expected, other = (model.predict(images, noise)[0] for model in ((average, last) if ema else (last, average)))
        prediction, mask = found.predict(images, noise)
    assert torch.equal(prediction, expected)
    assert not torch.allclose(prediction, other)
    assert mask.sum(dim=1).tolist() == [12, 12]
    assert not found.training


def test_a_file_without_decoder_with_another_one_or_changed_since_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, autoencoder(0), autoencoder(1))
    released, record = convert(tmp_path)
    deeper = released.model_copy(update={"decoder": released.decoder.model_copy(update={"depth": 3})})
    with pytest.raises(UrfmError, match=r"urfm\.pth: does not fit .*missing: decoder_blocks\.2"):
        load_released(tmp_path, deeper, record)
    publish(tmp_path, autoencoder(0), autoencoder(2))
    with pytest.raises(UrfmError, match=r"urfm\.pth: sha256 is"):
        load_released(tmp_path, released, record)
    publish(tmp_path, autoencoder(0), autoencoder(1), decoder=False)
    with pytest.raises(UrfmError, match=r"holds no decoder, .* leave out models\.urfm_released\.decoder"):
        load_released(tmp_path, *convert(tmp_path))
