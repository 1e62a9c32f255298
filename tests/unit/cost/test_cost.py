"""What a configuration costs: sums, where numbers of images come from, limits, storage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from configurations import PAPER, overlaid, profile
from urfm.core.cli import parse_settings
from urfm.core.provenance import canonical_json
from urfm.cost import images, report, training
from urfm.cost.cards import CARDS, Card, Work, hours, wanted
from urfm.cost.report import CostSettings, Estimate, amount, estimate, notes, tables
from urfm.cost.storage import storage
from urfm.plan import settings
from urfm.training import optimisation
from urfm.training.finetune import loop
from urfm.training.finetune.images import Part

NOWHERE = Path("nowhere")
VIT_B = 35_126_120_448  # FLOP of a forward pass; tests/unit/cost/test_flops.py has the closed form


def as_told(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as the stage gets it."""
    return parse_settings(CostSettings, canonical_json(settings.cost.cost(config))).model_dump()


@pytest.fixture(scope="module")
def paper() -> Estimate:
    return estimate(as_told(PAPER), NOWHERE)


def as_assumed_by_others(work: Work, card: str = "a100") -> float:
    return hours(work, CARDS[card], {"cost": {"utilisation": 0.45, "utilisation_fp32": 0.9}})


def test_the_papers_pretraining(paper: Estimate) -> None:
    """Another estimate, of the paper's figures: 4.4e20 FLOP, 878 hours of A100 at 45 %, ViT-H 30 h on eight."""
    runs = {run.name: run for run in paper.runs}
    assert len(runs) == 16
    assert runs["urfm"].images == 1_003_465
    assert runs["urfm_breast"].images == 84_663  # Table 3
    steps = 1_003_465 // 1024 * 400
    assert runs["urfm"].work == {"bf16": steps * 1024 * (96_883_236_864 + VIT_B)}
    of_figures = sum((run.work for name, run in runs.items() if name != "urfm_balanced"), Work())
    assert of_figures.total() == pytest.approx(4.4e20, rel=0.01)
    assert as_assumed_by_others(of_figures) == pytest.approx(878, rel=0.01)
    assert as_assumed_by_others(runs["urfm_huge"].work) / 8 == pytest.approx(30, rel=0.03)


def test_the_papers_finetuning(paper: Estimate) -> None:
    """The same: 2,440 networks, some 210 hours of A100, 118 of them validation in fp32; the test part left out."""
    assert len(paper.cells) == 254
    trained = sum((cell.training for cell in paper.cells), Work())
    predicted = sum((cell.evaluation for cell in paper.cells), Work())
    assert as_assumed_by_others(trained) == pytest.approx(210 - 118, rel=0.07)
    assert as_assumed_by_others(Work({"fp32": predicted["tf32"]})) / 1.1 == pytest.approx(118, rel=0.07)
    (cell,) = [item for item in paper.cells if item.cell == ("urfm", "liver_mass", 10)]
    steps = 441 * 10 // 100 // 16
    assert cell.training["bf16"] == 100 * 10 * steps * 16 * (3 * VIT_B - 2 * 196 * 768 * 768)
    assert cell.evaluation == {"tf32": 10 * (100 * 147 + 10 * 147) * VIT_B}


def test_prediction_is_computed_in_the_precision_that_is_counted() -> None:
    """Whoever changes one changes the other."""
    seen = []

    class Network(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append("fp32" if not torch.is_autocast_enabled("cpu") and pixels.dtype == torch.float32 else "other")
            return torch.zeros(len(pixels), 2)

    record = {"mean": [0.5] * 3, "std": [0.5] * 3}
    cell = loop.Cell(None, None, NOWHERE, record, {}, torch.device("cpu"), 0, 0)  # type: ignore[arg-type]
    part = Part(None, None, torch.zeros(3, 3, 8, 8, dtype=torch.uint8))  # type: ignore[arg-type]
    loop.predict(Network(), part, cell)
    assert seen == ["fp32"]  # and its products:
    try:
        for precision, device, products in (
            ("bf16", "cuda", "high"),
            ("fp32", "cuda", "highest"),
            ("bf16", "cpu", "highest"),
        ):
            optimisation.choose_products(precision, torch.device(device))  # type: ignore[arg-type]
            assert torch.get_float32_matmul_precision() == products
    finally:
        torch.set_float32_matmul_precision("highest")
    assert training.EVALUATION == "tf32"


def test_hours_of_a_card() -> None:
    config = {"cost": {"utilisation": 0.5, "utilisation_fp32": 0.8}}
    card = Card("Card", 100e12, 50e12, 10e12, bf16=False)
    assert hours(Work({"bf16": int(180e15)}), card, config) == pytest.approx(1)  # 180e15 / (50e12 x 3600)
    assert hours(Work({"fp16": int(180e15), "fp32": int(28.8e15)}), card, config) == pytest.approx(2)
    assert hours(Work({"tf32": int(180e15)}), card, config) == pytest.approx(2)
    assert card.peak("auto") == 10e12
    assert card._replace(bf16=True).peak("auto") == 100e12
    kinds = {"": "A100", "NVIDIA_H100_80GB": "H100", "v100s": "V100", "rtx4090": "RTX 4090"}
    assert {kind: wanted({"resources": {"gpu_type": kind}}).title for kind in kinds} == kinds


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_what_is_there_counts_for_what_is_expected(tmp_path: Path) -> None:
    config = as_told(PAPER)
    assert images.of_dataset(config, tmp_path, "busbra") == 1875
    assert images.of_task(config, tmp_path, "liver_mass") == {"train": 441, "val": 147, "test": 147}
    assert images.of_task(config, tmp_path, "breast_tumor") == {"train": 638, "val": 212, "test": 214, "external": 232}
    write(tmp_path / "manifests" / "busbra.json", {"images": 7})
    subsets = {"train": {"images": 5}, "val": {"images": 1}, "test": {"images": 3}}
    write(tmp_path / "splits" / "liver_mass" / "paper.json", {"subsets": subsets})
    write(tmp_path / "pretrain_sets" / "urfm.json", {"images": 11})
    assert images.of_dataset(config, tmp_path, "busbra") == 7
    assert images.of_task(config, tmp_path, "liver_mass") == {"train": 5, "val": 1, "test": 3}
    assert images.of_run(config, tmp_path, "urfm") == 11
    write(tmp_path / "manifests" / "private_breast.json", {"images": 6})
    assert images.of_run(config, tmp_path, "urfm_breast") == 26052 + 2255 + 6
    assert images.made(config, tmp_path) == ["busbra", "private_breast"]


def test_what_nobody_knows_is_named_and_not_counted(tmp_path: Path) -> None:
    """The demo before its archives are made; the tables are whole all the same."""
    found = estimate(as_told(overlaid("datasets: {private_breast: {expected: {images: null}}}")), tmp_path)
    assert {run.name for run in found.runs if run.images is None} >= {"urfm", "urfm_breast"}
    assert "private_breast." in next(note for note in notes(found) if note.startswith("Nobody states"))
    row = next(row for row in tables(found)["pretraining"].rows if row[0] == "urfm")
    assert row[1:3] == ["unknown", "–"]
    small = estimate(as_told(profile("demo")), tmp_path)  # simulated: what is expected of an archive says nothing
    assert {run.images for run in small.runs} == {None}
    assert sum((cell.work for cell in small.cells), Work()).total() == 0
    assert all(table.rows for table in tables(small).values())
    write(
        tmp_path / "splits" / "liver_mass" / "paper.json",
        {"subsets": {part: {"images": 9} for part in ("train", "val")}},
    )
    made = estimate(as_told(profile("demo")), tmp_path)
    assert {cell.cell.task for cell in made.cells if cell.work.total()} == {"liver_mass"}


def test_limits_that_are_too_short_are_named(paper: Estimate) -> None:
    def said(overlay: str) -> list[str]:
        changed = Estimate(as_told(overlaid(overlay)), NOWHERE, paper.runs, paper.cells, paper.targets)
        return [note for note in notes(changed) if note.startswith("Time limit")]

    assert said("resources: {finetune: {minutes: 6000}}") == []
    (of_cells,) = said("resources: {gpu_type: a100}")
    assert (
        "of 254 fine-tuning cells 1 take longer on A100 than resources.finetune.minutes, 12 h: up to 16 h" in of_cells
    )
    assert "with retries 1 all end" in of_cells  # 12 + 24 h
    runs, _ = said("resources: {gpu_type: v100}")
    assert "of 16 pre-training runs 2 take longer on V100 than resources.pretrain.minutes, 48 h: up to 83 h" in runs


def test_days_on_some_cards(paper: Estimate) -> None:
    """All work over all cards, but never less than the longest job."""
    spread = report.clock(paper, CARDS["a100"])
    assert spread == pytest.approx(float(tables(paper)["total"].rows[-2][4].replace(",", "")) / 8, rel=0.001)
    many = as_told(overlaid("cost: {gpus: 10000}"))
    crowded = Estimate(many, NOWHERE, paper.runs, paper.cells, paper.targets)
    huge = next(run for run in paper.runs if run.name == "urfm_huge")
    assert report.clock(crowded, CARDS["a100"]) == pytest.approx(hours(huge.work, CARDS["a100"], many) / 8)


def test_storage(tmp_path: Path) -> None:
    """Targets as docs/benchmarks.md has them; a checkpoint of a ViT-B and its decoder twice over."""
    cached = (
        "pretraining: {defaults: {targets: cached}, runs: {urfm: {snapshot_every: 0}, mim_us: {snapshot_every: 0}}}"
    )
    cached += "\ncomparisons: {figure_8b: {models: [urfm]}}"
    found = estimate(as_told(overlaid(cached)), tmp_path)
    sizes = {
        what: size for what, size, _ in storage(found.config, tmp_path, found.runs, found.cells, list(found.targets))
    }
    assert sizes["targets of biomedclip"] == 1_003_465 * 16 * 196 * 768 * 2  # 4.83 TB
    assert sizes["while a run trains, at most"] == 2 * 12 * 143_836_416
    assert sizes["image stores"] == pytest.approx(201e9, rel=0.01)
    assert "their snapshots" not in sizes
    alone = {run.name: run.work["bf16"] for run in found.runs}
    assert alone["urfm"] == alone["mim_us"]  # the teacher is no part of a step any more


def test_numbers_as_they_are_printed() -> None:
    assert [amount(number) for number in (0, 0.01, 0.44, 9.94, 9.96, 1101.4)] == [
        "0",
        "<0.1",
        "0.4",
        "9.9",
        "10",
        "1,101",
    ]
