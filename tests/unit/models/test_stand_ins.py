"""Stand-ins: the publishers' names and shapes, read by the same readers, and never without their mark."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import upstream_files as upstream
from urfm.config.models import CheckpointSettings, TeacherSettings
from urfm.core.errors import UrfmError
from urfm.models.classifier import build
from urfm.models.encoders import EncoderSettings, from_checkpoint
from urfm.models.encoders import main as encoder_main
from urfm.models.export import ExportSettings, model_card
from urfm.models.stand_ins import STAND_INS, StandInSettings, main, write_stand_in
from urfm.models.teachers import load_teacher
from urfm.models.weights import read_file

VIT = {"embed_dim": 96, "depth": 2, "num_heads": 4}
SMALL = upstream.Vit(width=96, depth=2, heads=4)
RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
RESNETV2 = {"layers": [1, 1, 1, 1], "channels": [32, 32, 32, 32]}


def settings(form: str, file: str = "folder/model.pth", seed: int = 0, **more: Any) -> StandInSettings:
    own = {"simclr": RESNET, "simclr_v2": RESNETV2}.get(form, VIT)
    architecture = {"architecture": "vit_tiny_patch16_224"} if form == "timm" else {}
    checkpoint = {"format": form, "file": file, "model_args": own, **architecture, **more}
    return StandInSettings.model_validate({"checkpoint": checkpoint, "seed": seed})


def shapes(tensors: dict[str, torch.Tensor]) -> upstream.Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def prefixed(prefix: str, tensors: upstream.Shapes) -> upstream.Shapes:
    return {f"{prefix}{name}": shape for name, shape in tensors.items()}


def vision(tensors: upstream.Shapes) -> upstream.Shapes:
    """The vision tower's part without the projection into the space of both towers."""
    return {name: shape for name, shape in tensors.items() if name.startswith("visual.") and name[7:] != "proj"}


@pytest.mark.parametrize(
    ("form", "keys", "expected"),
    [
        ("timm", (), upstream.vit(SMALL) | {"head.weight": (1000, 96), "head.bias": (1000,)}),
        ("mae", ("model",), upstream.vit(SMALL)),
        ("urfm", ("ema_state_dict",), upstream.vit(SMALL)),
        ("urfm", ("state_dict",), prefixed("module.", upstream.vit(SMALL))),
        ("moco_v3", ("state_dict",), prefixed("module.base_encoder.", upstream.vit(SMALL))),
        ("dino", (), upstream.vit(SMALL)),
        (
            "simclr",
            ("classy_state_dict", "base_model", "model", "trunk"),
            prefixed("_feature_blocks.", upstream.torchvision_resnet(upstream.SMALL_RESNET)),
        ),
        ("simclr_v2", ("resnet",), upstream.simclr_v2(upstream.SMALL_RESNET)),
        ("usfm", (), upstream.usfm(SMALL)),
        ("clip", (), vision(upstream.openai_clip(SMALL))),
        ("biomedclip", (), prefixed("visual.trunk.", upstream.vit(SMALL))),
    ],
)
def test_names_and_shapes_are_the_publishers(
    tmp_path: Path, form: str, keys: tuple[str, ...], expected: upstream.Shapes
) -> None:
    found = read_file(write_stand_in(settings(form), tmp_path))
    for key in keys:
        found = found[key]
    assert shapes(found) == expected


@pytest.mark.parametrize("form", STAND_INS)
def test_every_format_is_read_back(tmp_path: Path, form: str) -> None:
    """Under the names of a network of timm, with its values, resampled to the size that is asked for, and marked."""
    own = settings(form)
    path = write_stand_in(own, tmp_path)
    size = 224 if form.startswith("simclr") else 96
    checkpoint = own.checkpoint.model_copy(update={"input_size": size})
    tensors, record = from_checkpoint(checkpoint, tmp_path)
    assert record["stand_in"] is True
    assert record["source"].startswith("stand-in with random weights for: ")
    assert record["provenance"]["native_input_size"] == 224
    model = build(record["architecture"], record["model_args"], size)
    assert set(tensors) == set(model.state_dict()) or form == "usfm"  # which keeps its norm, timm's default has fc_norm
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    drawn = [tensor for name, tensor in tensors.items() if name.endswith(("qkv.weight", "conv2.weight"))]
    assert drawn
    assert all(0 < tensor.std() < 1 for tensor in drawn)
    assert path.read_bytes() == write_stand_in(own, tmp_path / "again").read_bytes()
    other = write_stand_in(settings(form, seed=1), tmp_path / "other")
    assert path.read_bytes() != other.read_bytes()


def test_a_teacher_of_any_size(tmp_path: Path) -> None:
    file = "clip/vit.safetensors"
    write_stand_in(settings("clip", file), tmp_path)
    teacher = load_teacher(TeacherSettings(name="clip", kind="clip", file=file, model_args=VIT), tmp_path, 96)
    assert (teacher.grid, teacher.dim, teacher.stand_in) == ((6, 6), 96, True)
    assert teacher.record()["stand_in"] is True
    assert teacher.tokens(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)).isfinite().all()
    with pytest.raises(UrfmError, match="does not fit"):
        load_teacher(TeacherSettings(name="clip", kind="clip", file=file), tmp_path, 96)  # the published size


def test_somebodys_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "model.pth"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(UrfmError, match="is no stand-in, and is left alone"):
        write_stand_in(settings("mae"), tmp_path)
    assert [file.name for file in path.parent.iterdir()] == ["model.pth"]
    assert path.read_bytes() == b"mine"


def test_formats_without_a_file() -> None:
    own = CheckpointSettings(format="random", architecture="vit_tiny_patch16_224")
    with pytest.raises(UrfmError, match="format random needs no file"):
        write_stand_in(StandInSettings(checkpoint=own, seed=0), Path("nowhere"))


def test_the_mark_reaches_the_encoder_and_the_model_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command lines; an encoder of an unmarked file has no such words."""
    own = settings("mae", seed=3)
    monkeypatch.setattr(sys, "argv", ["x", "--settings", own.model_dump_json(), "--root", str(tmp_path)])
    main()
    encoder = EncoderSettings(model="mim", checkpoint=own.checkpoint).model_dump_json()
    arguments = ["x", "--settings", encoder, "--checkpoint-root", str(tmp_path), "--output", str(tmp_path / "mim")]
    monkeypatch.setattr(sys, "argv", arguments)
    cards = []
    for _ in range(2):
        encoder_main()
        record = json.loads((tmp_path / "mim.json").read_text())
        scores = pd.DataFrame(columns=["model", "task", "share", "metric"])
        cards.append(model_card(record, ExportSettings(title="MIM"), scores))
        (tmp_path / "folder" / "model.pth.stand_in.json").unlink(missing_ok=True)
    assert "**Stand-in: random weights" in cards[0]
    assert "tags: [ultrasound, urfm, stand-in]" in cards[0]
    assert "tand-in" not in cards[1]
