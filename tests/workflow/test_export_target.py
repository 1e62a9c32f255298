"""The target `export` on a finished run: what was pre-trained, with its scores, for timm and for urfm.load."""

import json
import re

import timm
import torch
from urfm import load
from working_copy import Repository


def test_encoders_go_out_with_their_scores(finished: Repository) -> None:
    planned, _ = finished.plan("export")
    assert planned == {"export": 1, "export_encoder": 2}  # urfm and mim_us; no random initialisation
    finished.run("export")
    folder = finished.folder / "out" / "export" / "urfm"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 32)
    image = next((finished.folder / "out" / "raw").rglob("*.png"))
    assert load(folder).embed(image).shape == (32,)

    card = (folder / "README.md").read_text()
    assert "**Simulated:" in card
    assert re.search(r"\| breast\\_tumor \| 100 % \| 0\.\d{3} ± 0\.\d{3} \|.* \(simulated\) \| 2 \|", card)
    counts = json.loads((folder / "model.json").read_text())["provenance"]["pretrain_set"]["counts"]
    assert {row["dataset"] for row in counts} == {"busbra", "aul"}
    assert all(f"| {row['dataset']} | {row['organ']} | {row['images']:,} |" in card for row in counts)
    assert finished.plan("export")[0] == {}
