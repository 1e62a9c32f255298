"""Probe curves, loss curves and reconstructions as drawn, from made-up results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from layout import clipped, overlaps, texts
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from urfm.core.errors import UrfmError
from urfm.core.files import sha256, write_csv, write_json, write_parquet
from urfm.figures import loss_curves, probe_curves, reconstructions, style
from urfm.figures.loss_curves import LossCurvesSettings
from urfm.figures.probe_curves import ProbeCurvesSettings


def texts_on_the_page(figure: Figure) -> list[str]:
    """All texts, none of which leaves the page or lies on another."""
    assert clipped(figure) == []
    assert overlaps(figure) == []
    return [text for text, _ in texts(figure)]


def write_probes(
    folder: Path, name: str, seed: int, epochs: list[int], random: int = 0, skill: float = 1.0, **record: Any
) -> Path:
    """What the stage writes for a run: better with every epoch. Two classes, 40 patients of two images."""
    rng = np.random.default_rng([seed, len(name)])
    labels = np.repeat(np.arange(40) % 2, 2)
    keys = [(name, seed, epoch) for epoch in epochs] + [("random", number, 0) for number in range(random)]
    tables = []
    for encoder, number, epoch in keys:
        for probe in ("knn", "linear"):
            p = 1 / (1 + np.exp(-rng.normal(size=80) - (2 * labels - 1) * skill * max(epoch, 0) / 10))
            table = pd.DataFrame({"image_id": [f"i{place:02}" for place in range(80)], "label": labels.astype(str)})
            table = table.assign(patient_id=[f"p{place // 2:02}" for place in range(80)], p_0=1 - p, p_1=p)
            tables.append(table.assign(encoder=encoder, seed=number, epoch=epoch, probe=probe))
    path = folder / f"{name}.json"
    write_parquet(path.with_suffix(".parquet"), pd.concat(tables).sample(frac=1, random_state=0))
    sidecar = {"name": name, "task": "t", "classes": ["0", "1"], "patients_known": True, "simulated": False}
    sidecar |= {"stand_in": False}
    write_json(path, sidecar | {"sha256": sha256(path.with_suffix(".parquet"))} | record)
    return path


def probe_settings(**changes: Any) -> ProbeCurvesSettings:
    default: dict[str, Any] = {
        "series": [{"title": "URFM", "runs": ["urfm", "urfm_b"]}, {"title": "MIM-US", "runs": ["mim_us"]}],
        "models": [("mim_imagenet", "MIM-ImageNet")],
        "tasks": [("t", "Breast tumor"), ("elsewhere", "Liver mass")],
        "notes": ["Not available: X."],
    }
    default |= {"neighbours": 20, "confidence": 0.9, "resamples": 200, "bootstrap_seed": 0, "dpi": 80}
    return ProbeCurvesSettings.model_validate(default | changes)


def test_probe_curves(tmp_path: Path) -> None:
    files = [
        write_probes(tmp_path, "urfm", 0, [0, 10, 20], random=3, skill=0.6),
        write_probes(tmp_path, "urfm_b", 1, [0, 10, 20], skill=0.5),
        write_probes(tmp_path, "mim_us", 0, [0, 10, 20], skill=0.2, simulated=True),
        write_probes(tmp_path, "mim_imagenet", 0, [-1], stand_in=True),
    ]
    settings = probe_settings()
    predictions = probe_curves.read_predictions(files)
    assert (predictions["t"].images, predictions["t"].patients, predictions["t"].simulated) == (80, 40, True)
    table = probe_curves.numbers(predictions, settings)
    assert list(table.columns) == probe_curves.COLUMNS
    seeds = []
    for name in ("urfm", "urfm_b"):
        part = pd.read_parquet(tmp_path / f"{name}.parquet").query("probe == 'linear' and epoch == 20")
        seeds.append(roc_auc_score(part["label"].astype(int), part["p_1"]))
    own = table.query("series == 'URFM' and probe == 'linear' and epoch == 20").set_index("encoder")
    assert own.loc["urfm", "auroc"] == pytest.approx(seeds[0])
    assert own.loc["mean", "auroc"] == pytest.approx(np.mean(seeds))
    assert own.loc["mean", "low"] < own.loc["mean", "auroc"] < own.loc["mean", "high"]
    assert table.query("epoch == 10")["low"].isna().all()  # an interval for the last epoch only
    assert sorted(table.query("encoder == 'random' and probe == 'knn'")["seed"]) == [0, 1, 2]

    shown = " ".join(texts_on_the_page(probe_curves.draw(table, predictions, settings)))
    for part in (
        "SIMULATED",
        "Breast tumor (n = 80, 40 patients)",
        "MIM-ImageNet",
        "number of seeds: URFM 2; MIM-US 1",
    ):
        assert part in shown.replace("\n", " ")
    assert "MIM-ImageNet (stand-in)" in shown
    assert "not the published model: MIM-ImageNet." in shown.replace("\n", " ")
    assert "90 % interval" in shown.replace("\n", " ")


def test_probe_curves_of_nothing_and_of_disagreeing_files(tmp_path: Path) -> None:
    settings = probe_settings(series=[], models=[])
    table = probe_curves.numbers({}, settings)
    assert "Nothing can be drawn here." in texts_on_the_page(probe_curves.draw(table, {}, settings))[-1]
    files = [write_probes(tmp_path, "urfm", 0, [0]), write_probes(tmp_path, "mim_us", 0, [0])]
    other = pd.read_parquet(tmp_path / "mim_us.parquet")
    write_parquet(tmp_path / "mim_us.parquet", other[other["image_id"] != "i03"])
    with pytest.raises(UrfmError, match=r"mim_us\.parquet: its content changed"):
        probe_curves.read_predictions(files)
    write_json(
        files[1],
        {"name": "mim_us", "task": "t", "classes": ["0", "1"], "patients_known": True, "simulated": False}
        | {"stand_in": False}
        | {"sha256": sha256(tmp_path / "mim_us.parquet")},
    )
    with pytest.raises(UrfmError, match="other test images"):
        probe_curves.read_predictions(files)


def write_history(path: Path, epoch: np.ndarray, loss: np.ndarray, guess: float) -> None:
    columns = {"epoch": epoch, "step": epoch, "loss": loss, "position_mean_loss": guess, "r2": 1 - loss / guess}
    write_csv(path, pd.DataFrame({**columns, "lr": 1e-4 * epoch}))


def test_loss_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [
        "Targets: tokens of biomedclip",
        "Targets: pixels",
        "Targets: pixels, all patches, blur 1.1",
        "Targets: clip",
    ]
    runs, files = [], []
    for number in range(9):
        kind = kinds[min(number, 3)] if number < 4 else kinds[0]
        runs.append(
            {
                "name": f"run_{number}",
                "title": f"A run with the number {number}",
                "targets": kind,
                "stand_in": number == 3,
            }
        )
        epoch = np.arange(1, 2 if number == 5 else 41)
        files.append(tmp_path / f"{number}.csv")
        write_history(files[-1], epoch, 1 / epoch + number, number + 0.02)
    settings = LossCurvesSettings.model_validate(
        {"runs": runs, "simulated": True, "notes": ["Not available: Y."], "dpi": 80}
    )
    table = loss_curves.numbers(settings, files)
    assert table.query("run == 'run_3' and epoch == 2")["loss"].tolist() == [3.5]
    shown = texts_on_the_page(loss_curves.draw(table, settings))
    assert sum("Learning rate" in text for text in shown) == 4  # a panel a kind of target
    r2 = {number: 1 - (number + 1 / (1 if number == 5 else 40)) / (number + 0.02) for number in range(9)}
    labels = {f"A run with the number {number}, R² {r2[number]:.2f}" for number in (4, 6, 7, 8)}
    assert {label.replace("-0.00", "0.00") for label in labels} <= set(shown)
    assert "A run with the number 5, R² −0.20" in shown
    assert "A run with the number 3 (stand-in), R² 0.00" in shown
    assert any("Not available: Y." in text for text in shown)

    arguments = ["", "--settings", settings.model_dump_json(), "--histories", *map(str, files)]
    monkeypatch.setattr("sys.argv", [*arguments, "--output", str(tmp_path / "figures" / "loss_curves")])
    loss_curves.main()
    assert pd.read_csv(tmp_path / "figures" / "loss_curves.csv")["run"].nunique() == 9
    monkeypatch.setattr("sys.argv", [*arguments[:-1], "--output", str(tmp_path / "loss_curves")])
    with pytest.raises(UrfmError, match="8 files for 9 runs"):
        loss_curves.main()
    write_csv(files[0], pd.DataFrame({"epoch": [1]}))
    with pytest.raises(UrfmError, match="column loss is missing"):
        loss_curves.read_history(files[0])


def test_loss_curves_show_the_guess_and_who_learnt_nothing(tmp_path: Path) -> None:
    epoch = np.arange(1, 31)
    ends = {"usfm": (0.5, 0.8), "urfm": (0.795, 0.8), "a": (0.6, 0.803), "b": (0.4, 0.7)}  # last loss, and the guess
    files = [tmp_path / f"{name}.csv" for name in ends]
    for path, (end, guess) in zip(files, ends.values(), strict=True):
        write_history(path, epoch, end + np.exp(-epoch.astype(float)), guess)
    runs = [{"name": name, "title": name.upper(), "targets": "Tokens"} for name in ends]
    settings = LossCurvesSettings.model_validate({"runs": runs, "simulated": False, "notes": [], "dpi": 80})
    table = loss_curves.numbers(settings, files)
    assert list(table.columns[-5:]) == loss_curves.COLUMNS
    figure = loss_curves.draw(table, settings)
    loss, r2, _ = figure.axes
    looks = style.appearances(list(ends))
    lines = {round(line.get_ydata()[0], 6): line.get_color() for line in loss.lines if line.get_linestyle() == ":"}
    assert lines == {0.7: looks["b"].color, 0.801: style.GREY}  # three agree to 1 %
    assert [line.get_ydata()[0] for line in r2.lines if line.get_color() == style.GREY] == [0]
    shown = texts_on_the_page(figure)
    assert shown.count(loss_curves.GUESS) == 1
    assert {"USFM, R² 0.37", "URFM, R² 0.01", "A, R² 0.25", "B, R² 0.43"} <= set(shown)
    assert "URFM has learnt nothing beyond the mean target of each position." in shown[-1].split("\n")
    assert loss_curves.nothing_learnt(["A", "B"])[0].startswith("A, B have learnt nothing")

    write_csv(files[0], pd.read_csv(files[0]).drop(columns=["position_mean_loss", "r2"]))  # of an older version
    with pytest.raises(UrfmError, match="column position_mean_loss is missing; delete the run's folder"):
        loss_curves.read_history(files[0])


def test_loss_curves_of_nothing() -> None:
    settings = LossCurvesSettings(runs=[], simulated=False, notes=["Not available: Z (no data)."], dpi=80)
    shown = texts_on_the_page(loss_curves.draw(loss_curves.numbers(settings, []), settings))
    assert "Z (no data)" in shown[-1]


def test_reconstructions() -> None:
    assert reconstructions.spread(9, 5) == [0, 2, 4, 6, 8]
    assert reconstructions.spread(3, 5) == [0, 1, 2]
    rng = np.random.default_rng(0)
    mask = np.array([[[True, False], [False, True]]] * 2)
    arrays = {
        "images": rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        "mask": mask,
        "target": np.full((2, 2, 2, 3), 10, np.uint8),
        "predictions": np.full((9, 2, 2, 2, 3), 200, np.uint8),
        "errors": np.arange(18.0).reshape(9, 2) / 7,
    }
    drawn = reconstructions.shown_predictions(arrays, "masked")
    assert (drawn[:, mask] == 200).all()
    assert (drawn[:, ~mask] == 10).all()
    assert (reconstructions.shown_predictions(arrays, "all") == 200).all()
    seen = reconstructions.masked(arrays)
    assert (seen[:, :16, :16] == reconstructions.HIDDEN).all()
    assert (seen[:, :16, 16:] == arrays["images"][:, :16, 16:]).all()

    record = {
        "epochs": list(range(0, 90, 10)), "image_ids": ["a", "b"], "organs": ["liver", "heart"], "pixels": False,
        "restored": False, "loss_on": "masked", "mask_ratio": 0.5, "teacher": "lite, block 5", "simulated": True,
        "stand_in": True,
    }  # fmt: skip
    settings = reconstructions.ReconstructionsSettings(title="URFM", organs={"liver": "Liver"}, dpi=80)
    shown = texts_on_the_page(reconstructions.draw(arrays, record, settings))
    assert {"Liver", "heart", "epoch 80", f"{17 / 7:.3f}"} <= set(shown)
    assert any("tokens of the teacher (lite, block 5)" in text.replace("\n", " ") for text in shown)
    assert any("The teacher is a stand-in" in text.replace("\n", " ") for text in shown)
    table = reconstructions.numbers(arrays, record)
    assert table.query("image_id == 'b' and epoch == 80")["loss"].tolist() == [pytest.approx(17 / 7)]
