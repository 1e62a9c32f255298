"""The folder for others: timm loads it by itself to the same features, and the card says what must be known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_encoders import FORMS, write_encoder
from timm.data import create_transform, resolve_model_data_config
from urfm import load
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256
from urfm.models import export


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path, *more: str, title: str = "Mine", licence: str = ""
) -> str:
    """Run the stage on an encoder; the model card."""
    settings = json.dumps({"title": title, "licence": licence})
    words = ["--settings", settings, "--encoder", str(encoder), "--output", str(folder / "out"), *more]
    monkeypatch.setattr(sys, "argv", ["export", *words])
    export.main()
    return (folder / "out" / "README.md").read_text()


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize("form", FORMS)
def test_timm_loads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    path = write_encoder(tmp_path, form)
    run(tmp_path, monkeypatch, path)
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    tensors = load_file(path.with_suffix(".safetensors"))
    assert model.state_dict().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())

    # The preprocessing that timm reads is that of urfm, and urfm reads the folder too.
    encoder = load(tmp_path / "out")
    pixels = create_transform(**resolve_model_data_config(model), is_training=False)(picture())
    torch.testing.assert_close(pixels, encoder.prepare(picture()), rtol=0, atol=1e-6)
    assert np.array_equal(encoder.embed(picture()), load(path).embed(picture()))
    with torch.inference_mode():
        assert model(pixels[None]).shape == (1, model.num_features)


def test_resampled_positions_and_averaging_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input size that is not the architecture's, and a network whose norm comes after pooling."""
    arguments = {"embed_dim": 24, "depth": 1, "num_heads": 2, "patch_size": 8, "img_size": 32, "global_pool": "avg"}
    model = timm.create_model("vit_base_patch16_224", num_classes=0, **arguments)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    record = {"model": "mine", "architecture": "vit_base_patch16_224", "input_size": 32, "simulated": False}
    record |= {"model_args": {key: arguments[key] for key in arguments if key not in ("img_size", "global_pool")}}
    record |= {"mean": [0.5] * 3, "std": [0.5] * 3, "weights": "file", "source": "here", "parameters": 1}
    record |= {"sha256": sha256(tmp_path / "mine.safetensors"), "provenance": {"format": "timm"}}
    (tmp_path / "mine.json").write_text(json.dumps(record))
    run(tmp_path, monkeypatch, tmp_path / "mine.json")
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(images), model.eval()(images))


def statistics(folder: Path, name: str, rows: list[tuple[Any, ...]]) -> str:
    """What the statistics stage writes, as far as a card reads it."""
    columns = ["model", "task", "share", "metric", "seeds", "mean", "sd", "images", "simulated"]
    place = folder / name
    place.mkdir()
    pd.DataFrame(rows, columns=columns).to_parquet(place / "scores.parquet")
    (place / "statistics.json").write_text(json.dumps({"sha256": {"scores.parquet": sha256(place / "scores.parquet")}}))
    return str(place / "statistics.json")


def scores(model: str, task: str, mean: float, simulated: bool = False) -> list[tuple[Any, ...]]:
    return [
        (model, task, 100, metric, 10, mean + i / 100, 0.012, 214, simulated)
        for i, metric in enumerate(("accuracy", "auroc", "f1_macro"))
    ]


def test_card_of_a_pretraining_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provenance = {
        "settings": {"run": "urfm", "epochs": 400, "betas": [0.9, 0.95], "teacher": {"name": "biomedclip"}},
        "pretrain_set": {"counts": [{"dataset": "camus", "organ": "heart", "source": "CAMUS", "images": 18887}]},
        "teacher": {"name": "biomedclip", "layer": "patch tokens after the final LayerNorm"},
    }
    path = write_encoder(tmp_path, "mae", simulated=True, provenance=provenance, r2=0.4237)
    first = statistics(tmp_path, "figure_2", scores("mine", "breast_tumor", 0.8, True) + scores("other", "x", 0.1))
    second = statistics(tmp_path, "figure_4", scores("mine", "breast_tumor", 0.8, True) + scores("mine", "liver", 0.7))
    card = run(tmp_path, monkeypatch, path, "--statistics", first, second, title="URFM")
    assert card.startswith("---\nlibrary_name: timm\n")
    assert "# URFM\n" in card
    assert "**Simulated:" in card
    assert "simulated]" in card.split("---")[1]
    assert "| camus | heart | 18,887 |" in card
    assert "| epochs | 400 |" in card
    assert "| betas | 0.9, 0.95 |" in card
    assert "| teacher | biomedclip, patch tokens after the final LayerNorm |" in card
    assert "R² of the last epoch: 0.424 (" in card
    assert "To be stated by whoever publishes" in card
    assert card.count(r"| breast\_tumor |") == 1
    row = r"| breast\_tumor | 100 % | 0.800 ± 0.012 | 0.820 ± 0.012 | 0.810 ± 0.012 | 214 (simulated) | 10 |"
    assert row in card  # accuracy, macro F1, AUROC
    assert "| liver | 100 % | 0.700 ± 0.012 | 0.720 ± 0.012 | 0.710 ± 0.012 | 214 | 10 |" in card
    assert "| x |" not in card

    Path(first).with_name("scores.parquet").write_bytes(b"other")
    with pytest.raises(UrfmError, match=r"scores\.parquet: its content changed"):
        run(tmp_path, monkeypatch, path, "--statistics", first)


def test_card_of_an_upstream_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_encoder(tmp_path, "mae")
    digest = json.loads(path.read_text())["provenance"]["file_sha256"]
    card = run(tmp_path, monkeypatch, path, licence="CC BY-NC 4.0")
    assert "The publisher's: CC BY-NC 4.0." in card
    assert f"| file sha256 | {digest} |" in card
    assert "imulated" not in card
    assert "## Results" not in card


def test_words_of_others_are_text_on_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_encoder(tmp_path, "mae")
    title, licence = "<script>x</script>\n\n# [Big](http://evil)", "*free* | <b>all</b>"
    card = run(tmp_path, monkeypatch, path, title=title, licence=licence)
    assert "\n# \\<script>x\\</script> # [Big]\\(http://evil)\n" in card
    assert "The publisher's: \\*free\\* \\| \\<b>all\\</b>." in card


def test_random_and_changed_encoders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_encoder(tmp_path, "mae")
    path.with_suffix(".safetensors").write_bytes(b"other")
    with pytest.raises(UrfmError, match="its content changed"):
        run(tmp_path, monkeypatch, path)
    record = {**read_json(path), "weights": "random"}
    path.write_text(json.dumps(record))
    with pytest.raises(UrfmError, match="no weights to export"):
        run(tmp_path, monkeypatch, path)
    assert not (tmp_path / "out").exists()
