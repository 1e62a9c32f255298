"""Baselines and frozen encoders, against scikit-learn fitted by hand on the same images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import save_file
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_finetune import make_encoder, make_task, write_summary
from urfm import load
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.data.images.store import ImageStore
from urfm.data.splits.shares import take_share
from urfm.models import classifier
from urfm.statistics.predictions import read_cell, read_subset
from urfm.training.frozen import stage
from urfm.training.frozen.probes import knn_probabilities, linear_probe

CELL = {"model": "m", "task": "stripes", "share": 100, "classes": ["across", "down", "flat"], "seeds": [0, 1]}
COUNTS = {"across": (22, 8, 10), "down": (14, 8, 10), "flat": (9, 8, 10)}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    make_task(tmp_path, COUNTS)
    return tmp_path


def fit(folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, *more: str, **settings: Any) -> pd.DataFrame:
    """Run the stage; the predictions of the cell, which the statistics accept."""
    words = ["--settings", json.dumps({**CELL, "method": method, **settings}), "--images", str(folder / "images")]
    words += [] if "--split" in more else ["--split", str(folder / "split.json")]
    monkeypatch.setattr(sys, "argv", ["frozen", *words, "--output", str(folder / "out"), *more])
    stage.main()
    return read_cell(folder / "out" / "cell.json").predictions


def encoder_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Arguments of an encoder whose weights are in a file."""
    make_encoder(folder, monkeypatch)
    network = classifier.load_classifier(folder / "encoder.json", 3, "cls", 0.0, seed=3)
    weights = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("head")}
    save_file(weights, folder / "weights.safetensors")
    record = json.loads((folder / "encoder.json").read_text())
    make_encoder(
        folder,
        monkeypatch,
        format="timm",
        architecture=record["architecture"],
        model_args=record["model_args"],
        file=str(folder / "weights.safetensors"),
    )
    return "--encoder", str(folder / "encoder.json")


def rows(folder: Path, subset: str, file: str = "split") -> pd.DataFrame:
    split = pd.read_parquet(folder / f"{file}.parquet").sort_values("image_id", ignore_index=True)
    return split[split["subset"] == subset].reset_index(drop=True)


def probabilities(predictions: pd.DataFrame, subset: str, seed: int = 0) -> np.ndarray:
    part = predictions.query("subset == @subset and seed == @seed").sort_values("image_id")
    return part[[f"p_{name}" for name in CELL["classes"]]].to_numpy()


def small(folder: Path, table: pd.DataFrame) -> np.ndarray:
    store = ImageStore(folder / "images")
    images = [
        Image.fromarray(store.read(name)).convert("L").resize((32, 32), Image.BICUBIC) for name in table["image_id"]
    ]
    return np.stack([np.asarray(image, float).ravel() for image in images])


def embedded(folder: Path, table: pd.DataFrame) -> np.ndarray:
    encoder, store = load(folder / "encoder.json"), ImageStore(folder / "images")
    return np.stack([encoder.embed(store.read(name)) for name in table["image_id"]]).astype(float)


def by_hand(features: Any, folder: Path, strength: float, file: str = "split") -> np.ndarray:
    train = rows(folder, "train", file)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=10_000, tol=1e-8))
    return model.fit(features(folder, train), train["label"]).predict_proba(
        features(folder, rows(folder, "test", file))
    )


def strength(folder: Path, seed: int = 0) -> float:
    return float(pd.read_csv(folder / "out" / "history.csv").set_index("seed").loc[seed, "c"])


def test_majority_is_the_prior(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = fit(toy, monkeypatch, "majority")
    train = rows(toy, "train")
    prior = DummyClassifier(strategy="prior").fit(np.zeros((len(train), 1)), train["label"])
    for subset, count in (("val", 24), ("test", 30)):
        expected = prior.predict_proba(np.zeros((count, 1)))
        for seed in CELL["seeds"]:
            assert probabilities(predictions, subset, seed) == pytest.approx(expected)
    record = json.loads((toy / "out" / "cell.json").read_text())
    assert record["deterministic"]
    assert record["images"] == {"train": 45, "val": 24, "test": 30}
    assert read_cell(toy / "out" / "cell.json").deterministic


def test_a_share_of_the_training_part(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = fit(toy, monkeypatch, "majority", share=40)
    labels = take_share(rows(toy, "train"), 40)["label"]
    expected = labels.value_counts(normalize=True)[CELL["classes"]].to_numpy()
    assert len(labels) < 20
    assert probabilities(predictions, "test")[0] == pytest.approx(expected)


def test_thumbnails_are_logistic_regression(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = fit(toy, monkeypatch, "thumbnails")
    assert probabilities(predictions, "test") == pytest.approx(by_hand(small, toy, strength(toy)), abs=5e-3)
    history = pd.read_csv(toy / "out" / "history.csv")
    assert history["seed"].tolist() == CELL["seeds"]
    assert {"epoch", "val_f1_macro", "seconds"} <= set(history.columns)  # what figure 8 reads


def test_a_class_that_validation_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The penalty is scikit-learn's choice among the images that are there; F1 is of the classes that have any."""
    make_task(tmp_path, COUNTS | {"flat": (9, 0, 10)})
    predictions = fit(tmp_path, monkeypatch, "thumbnails")
    train, validation = rows(tmp_path, "train"), rows(tmp_path, "val")
    losses = {}
    for c in (10.0**power for power in range(-4, 3)):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=10_000, tol=1e-8))
        guess = model.fit(small(tmp_path, train), train["label"]).predict_proba(small(tmp_path, validation))
        losses[c] = log_loss(validation["label"], guess, labels=CELL["classes"])
    assert losses[strength(tmp_path)] == pytest.approx(min(losses.values()), abs=1e-3)
    chosen = np.array(CELL["classes"])[probabilities(predictions, "val").argmax(axis=1)]
    f1 = f1_score(validation["label"], chosen, labels=["across", "down"], average="macro")
    assert pd.read_csv(tmp_path / "out" / "history.csv")["val_f1_macro"].tolist() == pytest.approx([f1, f1])


def test_linear_probe_and_knn_are_on_the_features_of_embed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_in_a_file(toy, monkeypatch)
    predictions = fit(toy, monkeypatch, "linear_probe", *encoder)
    parts = {subset: rows(toy, subset) for subset in ("train", "val", "test")}
    known = [
        item
        for subset in ("train", "val")
        for item in (embedded(toy, parts[subset]), parts[subset]["label"].map(CELL["classes"].index).to_numpy())
    ]
    expected = linear_probe(*known, 3).probabilities(embedded(toy, parts["test"]))
    assert probabilities(predictions, "test") == pytest.approx(expected, abs=1e-5)
    # A weak penalty leaves the solver far from the optimum, so that scikit-learn by hand is near, not equal.
    assert probabilities(predictions, "test") == pytest.approx(by_hand(embedded, toy, strength(toy)), abs=0.05)
    assert np.array_equal(probabilities(predictions, "test", 0), probabilities(predictions, "test", 1))
    predictions = fit(toy, monkeypatch, "knn", *encoder, neighbours=5, temperature=0.1)
    expected = knn_probabilities(*known[:2], embedded(toy, parts["test"]), 3, 5, 0.1)
    assert probabilities(predictions, "test") == pytest.approx(expected, abs=1e-4)


def test_a_random_encoder_is_drawn_for_every_seed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_encoder(toy, monkeypatch)
    predictions = fit(toy, monkeypatch, "linear_probe", "--encoder", str(toy / "encoder.json"))
    assert not np.allclose(probabilities(predictions, "test", 0), probabilities(predictions, "test", 1))
    assert not json.loads((toy / "out" / "cell.json").read_text())["deterministic"]


def test_every_seeds_own_split_is_fitted(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = pd.read_parquet(toy / "split.parquet")
    files = []
    for seed in CELL["seeds"]:
        drawn = np.random.default_rng(seed)
        own = split.assign(subset=drawn.permutation(split["subset"].to_numpy()))
        own.to_parquet(toy / f"seed-{seed}.parquet", index=False)
        write_summary(toy, f"seed-{seed}", f"seed-{seed}")
        files.append(str(toy / f"seed-{seed}.json"))
    predictions = fit(toy, monkeypatch, "thumbnails", "--split", *files, split="per_seed")
    for seed in CELL["seeds"]:
        expected = by_hand(small, toy, strength(toy, seed), f"seed-{seed}")
        assert probabilities(predictions, "test", seed) == pytest.approx(expected, abs=5e-3)
    cell = read_cell(toy / "out" / "cell.json")
    assert cell.resplit
    assert not cell.deterministic


def test_another_set_is_predicted_unchanged(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    make_task(other, {"across": (3, 1, 2), "down": (3, 1, 2), "flat": (2, 2, 2)})
    summary = read_json(other / "split.json")
    (other / "split.json").write_text(json.dumps(summary | {"task": "elsewhere"}))
    more = ("--external-images", str(other / "images"), "--external-split", str(other / "split.json"))
    fit(toy, monkeypatch, "thumbnails", *more)
    part = read_subset(read_cell(toy / "out" / "cell.json", "external"), "external")
    train = rows(toy, "train")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength(toy), max_iter=10_000, tol=1e-8))
    model.fit(small(toy, train), train["label"])
    table = pd.read_parquet(other / "split.parquet").sort_values("image_id")
    assert part.image_ids == table["image_id"].tolist()
    assert part.ensemble == pytest.approx(model.predict_proba(small(other, table)), abs=5e-3)
    assert json.loads((toy / "out" / "cell.json").read_text())["external"]["task"] == "elsewhere"


def test_one_class_cannot_be_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_task(tmp_path, {"across": (9, 2, 2), "down": (0, 2, 2)})
    with pytest.raises(UrfmError, match="one class; nothing to fit"):
        fit(tmp_path, monkeypatch, "thumbnails", classes=["across", "down"])
    fit(tmp_path, monkeypatch, "majority", classes=["across", "down"])
