"""Fine-tuning: the recipe against MAE's own rules, and a cell that is killed, resumed and extended."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from lock_holder import held
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.data.transforms_factory import create_transform
from urfm.config.finetuning import FinetuneSettings
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.data.images.blur import blur
from urfm.data.images.store import ImageStore
from urfm.interpret.finetuned import load_finetuned
from urfm.models import classifier, encoders
from urfm.training import state
from urfm.training.finetune import images, loop, stage
from urfm.training.finetune.head import STRENGTH, VIEWS
from urfm.training.finetune.images import batch_size_for, batches
from urfm.training.finetune.loop import parameter_groups

WORKFLOW = Path(state.__file__).parents[2]
TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8}
PAPER: dict[str, Any] = {
    "model": "tiny",
    "task": "stripes",
    "share": 100,
    "classes": ["across", "down"],
    "seeds": [0],
    "epochs": 2,
    "early_stop": 0,
    "batch_size": 8,
    "base_lr": 5e-4,
    "lr_reference_batch": 256,
    "min_lr": 1e-6,
    "weight_decay": 0.05,
    "betas": [0.9, 0.999],
    "layer_decay": 0.75,
    "warmup_epochs": 1,
    "randaugment": "rand-m9-mstd0.5-inc1",
    "label_smoothing": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
    "drop_path": 0.1,
    "crop_scale": [0.08, 1.0],
    "flip": True,
    "head": "new",
    "pooling": "mean",
    "evaluation_resize": "squash",
    "selection_metric": "accuracy",
    "precision": "fp32",
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_task(folder: Path, counts: dict[str, tuple[int, int, int]], size: int = 32) -> None:
    """A store and a split by their contract: grey stripes, across or down (a third class: flat), noise on top."""
    generator = np.random.default_rng(0)
    wave = 80 * np.sin(np.arange(size) * 2 * np.pi / 8)
    pictures = {
        "across": wave[:, None] + np.zeros(size),
        "down": wave + np.zeros((size, 1)),
        "flat": np.zeros((size, size)),
    }
    rows, index, content = [], [], b""
    for label, numbers in counts.items():
        for subset, number in zip(("train", "val", "test"), numbers, strict=True):
            for i in range(number):
                noisy = 128 + pictures[label] + generator.normal(0, 25, (size, size))
                name = f"toy/{subset}-{label}-{i:03d}"
                rows.append((name, name, label, subset))
                index.append((name, len(content), size, size, 1))
                content += noisy.clip(0, 255).astype(np.uint8).tobytes()
    (folder / "images").mkdir(parents=True)
    (folder / "images/pixels.bin").write_bytes(content)
    table = pd.DataFrame(index, columns=["image_id", "offset", "height", "width", "channels"])
    table.sort_values("image_id").to_parquet(folder / "images/index.parquet", index=False)
    record = {"images": len(index), "bytes": len(content), "long_side": size, "simulated": False}
    hashes = {"sha256": hashlib.sha256(content).hexdigest(), "index_sha256": digest(folder / "images/index.parquet")}
    (folder / "images/store.json").write_text(json.dumps({**record, **hashes, "manifest_sha256": ""}))
    split = pd.DataFrame(rows, columns=["image_id", "patient_id", "label", "subset"]).sort_values("image_id")
    split.to_parquet(folder / "split.parquet", index=False)
    write_summary(folder, "split", "paper")


def write_summary(folder: Path, file: str, split: str) -> None:
    table = folder / f"{file}.parquet"
    summary = {"split": split, "sha256": digest(table), "patients": len(pd.read_parquet(table)), "simulated": True}
    (folder / f"{file}.json").write_text(json.dumps(summary))


def make_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch, size: int = 32, **checkpoint: Any) -> None:
    checkpoint = checkpoint or {"format": "random", "architecture": "vit_tiny_patch16_224", "model_args": TINY}
    settings = json.dumps({"model": "tiny", "checkpoint": {**checkpoint, "input_size": size}})
    monkeypatch.setattr(sys, "argv", ["encoders", "--settings", settings, "--output", str(folder / "encoder")])
    encoders.main()


def arguments(folder: Path, output: str, settings: dict[str, Any], *more: str) -> list[str]:
    return [
        *("--settings", json.dumps({**PAPER, **settings}), "--images", str(folder / "images")),
        *("--split", str(folder / "split.json"), "--encoder", str(folder / "encoder.json")),
        *("--state", str(folder / f"state-{output}"), "--output", str(folder / output), *more),
    ]


def train(
    folder: Path, monkeypatch: pytest.MonkeyPatch, output: str = "out", *more: str, **settings: Any
) -> pd.DataFrame:
    monkeypatch.setattr(sys, "argv", ["finetune", *arguments(folder, output, settings, *more)])
    stage.main()
    return pd.read_parquet(folder / output / "predictions.parquet")


def accuracy(predictions: pd.DataFrame, subset: str) -> float:
    part = predictions[predictions["subset"] == subset]
    chosen = part.filter(like="p_").idxmax(axis=1).str.removeprefix("p_")
    return float((chosen == part["label"]).mean())


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_task(tmp_path, {"across": (22, 8, 10), "down": (22, 8, 10)})
    make_encoder(tmp_path, monkeypatch)
    return tmp_path


# The recipe -----------------------------------------------------------------------------------------------------------


def test_layer_decay_is_maes_table() -> None:
    """util/lr_decay.py of MAE: layer 0 the embeddings, i + 1 block i, 13 the rest; no decay of vectors and tokens."""
    model = timm.create_model("vit_base_patch16_224", global_pool="avg", num_classes=3, embed_dim=24, num_heads=2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(model, 0.05, 0.75)
        for parameter in group["params"]
    }

    def expected(name: str, parameter: torch.Tensor) -> tuple[float, float]:
        if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
            layer = 0
        elif name.startswith("blocks"):
            layer = int(name.split(".")[1]) + 1
        else:
            layer = 13
        return 0.75 ** (13 - layer), 0.0 if parameter.ndim == 1 or name in ("pos_embed", "cls_token") else 0.05

    assert found == {name: pytest.approx(expected(name, value)) for name, value in model.named_parameters()}
    assert found["patch_embed.proj.weight"][0] == pytest.approx(0.023757, rel=1e-4)


def test_beit_positions_are_the_first_layer_and_undecayed() -> None:
    model = timm.create_model(
        "beit_base_patch16_224",
        num_classes=2,
        use_shared_rel_pos_bias=True,
        use_rel_pos_bias=False,
        embed_dim=24,
        num_heads=2,
    )
    groups = parameter_groups(model, 0.05, 0.75)
    table = model.rel_pos_bias.relative_position_bias_table
    (group,) = [group for group in groups if any(table is parameter for parameter in group["params"])]
    assert (group["lr_scale"], group["weight_decay"]) == (pytest.approx(0.75**13), 0.0)
    (group,) = [group for group in groups if any(model.blocks[3].gamma_1 is parameter for parameter in group["params"])]
    assert (group["lr_scale"], group["weight_decay"]) == (pytest.approx(0.75**9), 0.0)


@pytest.mark.parametrize(
    ("architecture", "arguments", "block"),
    [
        ("resnet101", {}, r"layer([1-4])\.(\d+)\."),
        ("resnetv2_101", {"preact": False, "stem_type": "same"}, r"stages\.([0-3])\.blocks\.(\d+)\."),
    ],
)
def test_every_block_of_a_resnet_is_a_layer(architecture: str, arguments: dict[str, Any], block: str) -> None:
    """Stem 0, the 33 blocks 1 to 33, head 34; 0.896 gives the stem what 0.75 gives a ViT-B's embeddings (0.024)."""
    with torch.device("meta"):
        model = timm.create_model(architecture, num_classes=2, **arguments)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    first = 1 if architecture == "resnet101" else 0
    for group in parameter_groups(model, 0.05, 0.896):
        for parameter in group["params"]:
            name = names[id(parameter)]
            match = re.match(block, name)
            if match:
                layer = 1 + (0, 3, 7, 30)[int(match[1]) - first] + int(match[2])
            else:
                layer = 34 if name.startswith(("fc.", "head.")) else 0
            assert group["lr_scale"] == pytest.approx(0.896 ** (34 - layer)), name
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0), name
    assert pytest.approx(0.75**13, rel=0.02) == 0.896**34


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_convolutional_networks_decay_towards_the_stem(name: str) -> None:
    model: Any = timm.create_model(name, num_classes=2)
    scales = {id(p): group["lr_scale"] for group in parameter_groups(model, 0.05, 0.5) for p in group["params"]}
    assert len(scales) == len(list(model.parameters()))
    assert scales[id(model.get_classifier().weight)] == 1
    stem = next(model.parameters())
    assert scales[id(stem)] == min(scales.values()) < 0.01


def test_learning_rate_in_the_history_is_maes(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lr = 5e-4 * 8 / 256 after warm-up, then half a cosine, at the last of 5 steps of each epoch."""
    train(toy, monkeypatch, epochs=4)
    history = pd.read_csv(toy / "out/history.csv")
    peak = 5e-4 * 8 / 256
    cosine = [1e-6 + (peak - 1e-6) * 0.5 * (1 + np.cos(np.pi * (epoch + 4 / 5 - 1) / 3)) for epoch in (1, 2, 3)]
    assert history["lr"].tolist() == pytest.approx([peak * 4 / 5, *cosine])
    columns = "seed,epoch,train_loss,lr,val_loss,val_f1_macro,val_accuracy,seconds"
    assert list(history.columns) == columns.split(",")


def test_every_epoch_is_a_new_order_and_a_resumed_one_the_same() -> None:
    steps = 44 // 16
    whole = list(batches(44, 16, 3, 0, 5 * steps))
    assert len(whole) == 10
    for epoch in range(5):
        seen = [key for batch in whole[epoch * steps : (epoch + 1) * steps] for key in batch]
        assert {key[0] for key in seen} == {epoch}
        assert len({key[1] for key in seen}) == 32  # no image twice
    assert [key[1] for key in whole[0]] != [key[1] for key in whole[2]]
    assert list(batches(44, 16, 3, 7, 10)) == whole[7:]
    assert next(batches(44, 16, 4, 0, 10)) != whole[0]


@pytest.mark.parametrize(
    ("images", "batch", "mixup", "expected"),
    [(638, 16, 0.8, 16), (44, 16, 0.8, 16), (11, 16, 0.8, 10), (5, 7, 0, 5)],
)
def test_batches_are_even_when_mixed(images: int, batch: int, mixup: float, expected: int) -> None:
    settings = FinetuneSettings.model_validate({**PAPER, "batch_size": batch, "mixup": mixup, "cutmix": 0})
    assert batch_size_for(images, settings) == expected


def training_images(
    folder: Path, seed: int, settings: FinetuneSettings | None = None, store: str = "images", **of_encoder: object
) -> images.TrainingImages:
    settings = settings or FinetuneSettings.model_validate(PAPER)
    record = json.loads((folder / "encoder.json").read_text()) | of_encoder
    opened = ImageStore(folder / store)
    parts = images.read_parts(pd.read_parquet(folder / "split.parquet"), opened, settings, record)
    return images.TrainingImages(settings, opened, parts["train"], record, seed)


def soften(folder: Path, sigma: float) -> None:
    """The second store, `blurred`, of a toy task's images."""
    shutil.copytree(folder / "images", folder / "blurred")
    pixels = np.fromfile(folder / "images/pixels.bin", np.uint8).reshape(-1, 32, 32, 1)
    content = b"".join(blur(image, sigma).tobytes() for image in pixels)
    (folder / "blurred/pixels.bin").write_bytes(content)
    record = json.loads((folder / "images/store.json").read_text())
    record |= {"sha256": hashlib.sha256(content).hexdigest(), "blur_sigma": sigma}
    (folder / "blurred/store.json").write_text(json.dumps(record))


def test_an_encoder_that_deblurs_sees_blurred_images(toy: Path) -> None:
    """Deblur-MIM's authors demand it in training and evaluation: stripes of eight pixels lose contrast."""
    soften(toy, 2.5)
    settings = FinetuneSettings.model_validate({**PAPER, "randaugment": "", "crop_scale": [0.9, 1.0]})
    contrasts = []
    for name, sigma in (("images", 0.0), ("blurred", 2.5)):
        data = training_images(toy, seed=0, settings=settings, store=name, blur_sigma=sigma)
        contrasts.append(np.mean([float(data[(0, index)][0].float().std()) for index in range(8)]))
    assert contrasts[1] < 0.7 * contrasts[0]
    record = json.loads((toy / "encoder.json").read_text())
    deblurring = record | {"blur_sigma": 2.5}
    split, sharp, soft = pd.read_parquet(toy / "split.parquet"), ImageStore(toy / "images"), ImageStore(toy / "blurred")
    first = split[split["subset"] == "val"].sort_values("image_id")["image_id"].iloc[0]
    part = images.read_parts(split, soft, settings, deblurring)["val"]
    assert torch.equal(part.pixels[0], torch.from_numpy(blur(sharp.read(first), 2.5)).permute(2, 0, 1))
    for store, encoder, expected in ((sharp, deblurring, "by 0 pixels, expected 2.5"), (soft, record, "by 2.5 pixels")):
        with pytest.raises(UrfmError, match=f"its images were blurred {expected}"):
            images.read_parts(split, store, settings, encoder)
    # Weights are the same, results are not: another state. Without a blur it is the one that it always was.
    seen = [stage.identity(settings, encoder, [({"sha256": ""}, store)]) for encoder, store in
            ((record, sharp), (deblurring, soft), (record | {"blur_sigma": 0.0}, sharp))]  # fmt: skip
    assert seen[0] != seen[1]
    assert seen[0] == seen[2]
    assert len(seen[0]) == 3


def test_a_cell_on_blurred_images(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the whole stage, and of the set that is predicted unchanged: both stores must be as the encoder wants them."""
    soften(toy, 2.5)
    sharp = train(toy, monkeypatch, epochs=2)
    record = read_json(toy / "encoder.json")
    (toy / "encoder.json").write_text(json.dumps(record | {"blur_sigma": 2.5}))
    for more in ([], ["--images", "blurred", "--external-images", "images", "--external-split", "split.json"]):
        wrong = [part if part.startswith("--") else str(toy / part) for part in more]
        with pytest.raises(UrfmError, match=r"images: its images were blurred by 0 pixels, expected 2\.5"):
            train(toy, monkeypatch, "wrong", *wrong, epochs=2)
    soft = train(toy, monkeypatch, "soft", "--images", str(toy / "blurred"), epochs=2)
    assert soft["image_id"].tolist() == sharp["image_id"].tolist()
    assert not np.allclose(soft.filter(like="p_"), sharp.filter(like="p_"))


def test_augmentation_depends_on_seed_epoch_and_image_only(toy: Path) -> None:
    data = training_images(toy, seed=0)
    first, label = data[(1, 5)]
    assert (first.shape, first.dtype) == ((3, 32, 32), torch.uint8)
    data[(0, 3)]
    random.seed(99)
    again, _ = training_images(toy, seed=0)[(1, 5)]
    assert torch.equal(first, again)
    assert PAPER["classes"][label] in data.image_ids[5]
    others = [data[(2, 5)], data[(1, 6)], training_images(toy, seed=1)[(1, 5)]]
    assert not any(torch.equal(first, other) for other, _ in others)


def test_randaugment_is_timms(toy: Path) -> None:
    """With the operations, magnitudes and fill colours of the transform that MAE's fine-tuning makes of the name."""
    ours = training_images(toy, seed=0).randaugment
    assert ours is not None
    record = json.loads((toy / "encoder.json").read_text())
    whole = create_transform(
        record["input_size"],
        is_training=True,
        auto_augment=PAPER["randaugment"],
        interpolation="bicubic",
        mean=record["mean"],
        std=record["std"],
    )
    (timms,) = [step for step in whole.transforms if type(step).__name__ == "RandAugment"]
    assert ours.num_layers == timms.num_layers
    described = [[(op.name, op.prob, op.magnitude, op.magnitude_std, op.kwargs) for op in x.ops] for x in (ours, timms)]
    assert described[0] == described[1]


def test_posterising_at_full_strength_keeps_one_bit(toy: Path) -> None:
    """MAE's rand-m9-mstd0.5 reaches magnitude 10 for one draw in 44, where timm asks Pillow for 0 bits."""
    data = training_images(toy, seed=0)
    (posterise,) = [operation for operation in data.randaugment.ops if operation.name == "PosterizeIncreasing"]
    posterise.magnitude, posterise.magnitude_std, posterise.prob = 10, 0, 1.0
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    assert np.unique(np.asarray(posterise(ramp))).tolist() == [0, 128]
    posterise.magnitude = 5
    assert len(np.unique(np.asarray(posterise(ramp)))) == 4


def test_evaluation_keeps_the_border_or_cuts_it() -> None:
    picture = Image.fromarray(np.pad(np.zeros((216, 376, 3), np.uint8), ((4, 4), (4, 4), (0, 0)), constant_values=255))
    squashed = images.evaluation_transform(224, "squash")(picture)
    cropped = images.evaluation_transform(224, "crop")(picture)
    assert squashed.shape == cropped.shape == (3, 224, 224)
    assert squashed[:, 0, :].min() > 200
    assert squashed[:, :, 0].min() > 200
    assert cropped.max() == 0


# The stage ------------------------------------------------------------------------------------------------------------


def test_weights_are_those_of_the_predictions(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept for the first seed alone; a seed that was trained without is trained again, to the same predictions."""
    plain = train(toy, monkeypatch, seeds=[3, 1])
    assert not (toy / "out/weights.safetensors").exists()
    finished = {path.parent.name: path.stat().st_mtime_ns for path in toy.glob("state-out/*/*/*/finished.pt")}
    kept = train(toy, monkeypatch, seeds=[3, 1], keep_weights=True)
    pd.testing.assert_frame_equal(kept, plain)
    after = {path.parent.name: path.stat().st_mtime_ns for path in toy.glob("state-out/*/*/*/finished.pt")}
    assert after["seed-1"] == finished["seed-1"]
    assert after["seed-3"] != finished["seed-3"]

    model, record = load_finetuned(toy / "out/cell.json", toy / "encoder.json")
    assert record["weights"]["epoch"] == record["selected_epochs"]["3"]
    encoder = json.loads((toy / "encoder.json").read_text())
    rows = kept[(kept["seed"] == 3) & (kept["subset"] == "test")]
    store = ImageStore(toy / "images")
    transform = images.evaluation_transform(32, record["weights"]["evaluation_resize"])
    pixels = torch.stack([transform(Image.fromarray(store.read(name))) for name in rows["image_id"]])
    with torch.inference_mode():
        logits = model(images.normalise(pixels, encoder, torch.device("cpu")))
    found = logits.double().softmax(1).numpy()
    assert np.allclose(found, rows[["p_across", "p_down"]], atol=1e-6)

    (toy / "out/weights.safetensors").write_bytes(b"another")
    with pytest.raises(UrfmError, match="its content changed"):
        load_finetuned(toy / "out/cell.json", toy / "encoder.json")
    train(toy, monkeypatch, seeds=[3, 1])
    again = {path.parent.name: path.stat().st_mtime_ns for path in toy.glob("state-out/*/*/*/finished.pt")}
    assert again == after  # weights in the state do no harm where none are wanted
    with pytest.raises(UrfmError, match="kept no weights"):
        load_finetuned(toy / "out/cell.json", toy / "encoder.json")


@pytest.mark.parametrize("kept_before", [False, True])
def test_weights_survive_an_interruption(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kept_before: bool
) -> None:
    """A checkpoint that lacks the best epoch's weights is of no use to a run that wants them; one that has them is."""
    whole = train(toy, monkeypatch, "whole", keep_weights=True)
    save, saved = state.save, []

    def killed_in_the_second_epoch(path: Path, content: dict[str, Any]) -> None:
        save(path, content)
        saved.append(content["step"])
        if content["step"] == 7:  # an epoch has five
            raise KeyboardInterrupt

    monkeypatch.setattr(state, "save", killed_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(toy, monkeypatch, "out", "--save-seconds", "0", keep_weights=kept_before)
    monkeypatch.setattr(state, "save", save)
    capsys.readouterr()
    resumed = train(toy, monkeypatch, "out", keep_weights=True)
    assert ("goes on in epoch 2" in capsys.readouterr().out) == kept_before
    pd.testing.assert_frame_equal(resumed, whole)
    assert digest(toy / "out/weights.safetensors") == digest(toy / "whole/weights.safetensors")


def test_another_set_is_predicted_unchanged(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its images, whatever their part; here it is the task's own set, so that the predictions must agree."""
    alone = train(toy, monkeypatch, "alone", seeds=[0, 1])
    summary = read_json(toy / "split.json")
    shutil.copy(toy / "split.parquet", toy / "other.parquet")
    (toy / "other.json").write_text(json.dumps({**summary, "task": "elsewhere", "patients": None}))
    more = ("--external-images", str(toy / "images"), "--external-split", str(toy / "other.json"))
    both = train(toy, monkeypatch, "out", *more, seeds=[0, 1])
    pd.testing.assert_frame_equal(both[both["subset"] != "external"].reset_index(drop=True), alone)
    external = both[both["subset"] == "external"]
    assert len(external) == 2 * (44 + 16 + 20)
    joined = external.merge(alone, on=["seed", "image_id", "label"], suffixes=("", "_alone"))
    assert len(joined) == len(alone)
    assert np.allclose(joined["p_down"], joined["p_down_alone"], atol=1e-6)  # in other batches
    record = json.loads((toy / "out/cell.json").read_text())
    assert record["external"] == {"task": "elsewhere", "patients_known": False, "simulated": True}
    assert record["images"] == {"train": 44, "val": 16, "test": 20, "external": 80}
    assert record["patients_known"] is True

    pd.read_parquet(toy / "other.parquet").assign(label="flat").to_parquet(toy / "other.parquet")
    (toy / "other.json").write_text(json.dumps({**summary, "sha256": digest(toy / "other.parquet")}))
    with pytest.raises(UrfmError, match=r"'toy/.*' has the label 'flat', not one of across, down"):
        train(toy, monkeypatch, "out", *more)


def test_outputs_follow_the_contract(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = train(toy, monkeypatch, seeds=[3, 1])
    names = ["seed", "image_id", "patient_id", "subset", "label", "p_across", "p_down"]
    assert list(predictions.columns) == names
    assert len(predictions) == 2 * (16 + 20)
    assert predictions["p_across"].add(predictions["p_down"]).sub(1).abs().max() < 1e-12
    cell = json.loads((toy / "out/cell.json").read_text())
    assert cell["images"] == {"train": 44, "val": 16, "test": 20}
    assert cell["patients_known"] is True
    assert cell["split"] == "paper"
    assert cell["simulated"] is True
    assert cell["sha256"] == digest(toy / "out/predictions.parquet")
    history = pd.read_csv(toy / "out/history.csv")
    for seed, epoch in cell["selected_epochs"].items():
        scores = history[history["seed"] == int(seed)].set_index("epoch")["val_accuracy"]
        assert epoch == scores.idxmax()  # the first of the best
        of_seed = predictions[predictions["seed"] == int(seed)]
        assert accuracy(of_seed, "val") == pytest.approx(scores[epoch])

    summary = read_json(toy / "split.json")
    (toy / "split.json").write_text(json.dumps({**summary, "patients": None}))
    train(toy, monkeypatch, seeds=[3, 1])
    assert json.loads((toy / "out/cell.json").read_text())["patients_known"] is False


def test_separable_problem_is_learnt(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mild = {"randaugment": "", "mixup": 0, "cutmix": 0, "crop_scale": [0.5, 1.0], "drop_path": 0.0}
    predictions = train(toy, monkeypatch, epochs=12, base_lr=0.1, layer_decay=1.0, **mild)
    assert accuracy(predictions, "test") >= 0.95


PLAIN = {"crop_scale": [1.0, 1.0], "flip": False, "randaugment": "", "mixup": 0, "cutmix": 0, "drop_path": 0}


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "resnetv2_50x1_bit"])
def test_the_head_begins_as_logistic_regression(architecture: str, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a learning rate of almost nothing the predictions are scikit-learn's on the features of timm's network."""
    if architecture != "vit_tiny_patch16_224":
        make_encoder(toy, monkeypatch, format="random", architecture=architecture, model_args={})
    predictions = train(toy, monkeypatch, "probed", head="linear_probe", base_lr=1e-12, min_lr=0, **PLAIN)
    record = json.loads((toy / "encoder.json").read_text())
    network = classifier.load_classifier(toy / "encoder.json", 2, "mean", 0, seed=0).eval()
    store, split = ImageStore(toy / "images"), pd.read_parquet(toy / "split.parquet").sort_values("image_id")
    features, labels = {}, {}
    for subset, rows in split.groupby("subset"):
        pixels = torch.from_numpy(np.stack([store.read(name) for name in rows["image_id"]])).movedim(-1, 1) / 255
        mean, std = (torch.tensor(record[key]).view(3, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            embedded = network.forward_head(network.forward_features((pixels - mean) / std), pre_logits=True)
        features[subset] = embedded.double().numpy()
        labels[subset] = (rows["label"] == "down").to_numpy(int)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=VIEWS * STRENGTH))  # VIEWS equal images of each
    expected.fit(features["train"], labels["train"])
    tested = predictions[predictions["subset"] == "test"].sort_values("image_id")
    assert tested["p_down"].to_numpy() == pytest.approx(expected.predict_proba(features["test"])[:, 1], abs=1e-3)
    assert tested["p_down"].std() > 0.05  # it has an opinion; a new head has none


def test_the_head_of_one_class_stays_near_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_task(tmp_path, {"across": (8, 2, 2), "down": (0, 2, 2)})
    make_encoder(tmp_path, monkeypatch)
    predictions = train(tmp_path, monkeypatch, "one", head="linear_probe", base_lr=1e-12, min_lr=0, **PLAIN)
    assert predictions["p_down"].to_numpy() == pytest.approx(0.5, abs=1e-3)


def saved_step(toy: Path) -> int:
    """Step of the checkpoint of the only seed; 0 where there is none."""
    for checkpoint in toy.glob("state-cut/*/*/seed-0/checkpoint.pt"):
        return int(torch.load(checkpoint, weights_only=True)["step"])
    return 0


def test_killed_twice_it_ends_in_the_same_predictions(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(toy, monkeypatch, "whole", epochs=30)
    words = arguments(toy, "cut", {"epochs": 30}, "--save-seconds", "0")
    reached = 0
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        process = subprocess.Popen(
            [sys.executable, "-m", "urfm.training.finetune.stage", *words],
            env={**os.environ, "PYTHONPATH": str(WORKFLOW)},
        )
        limit = time.monotonic() + 60
        while saved_step(toy) <= reached:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(timeout=600) == code
        assert not list(toy.glob("state-cut/*/*/seed-0/finished.pt"))
        reached = saved_step(toy)
    assert 1 < reached < 150
    resumed = train(toy, monkeypatch, "cut", epochs=30)
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    histories = [pd.read_csv(toy / name / "history.csv").drop(columns="seconds") for name in ("cut", "whole")]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    cells = [json.loads((toy / name / "cell.json").read_text()) for name in ("cut", "whole")]
    assert cells[0]["warnings"] == cells[1]["warnings"]
    assert not list(toy.glob("state-cut/*/*/seed-0/checkpoint.pt*"))


def test_two_processes_do_not_train_one_state(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(toy, monkeypatch)
    (folder,) = (toy / "state-out").glob("*/*")
    with held(folder), pytest.raises(UrfmError, match="another process is at work"):
        train(toy, monkeypatch, seeds=[0, 1])


def test_changed_pixels_are_noticed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = toy / "images/pixels.bin"
    pixels.write_bytes(pixels.read_bytes()[:-1] + b"\0")
    with pytest.raises(UrfmError, match=r"pixels\.bin"):
        train(toy, monkeypatch)


def test_evaluation_is_float32_whatever_the_training(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(toy, monkeypatch, precision="bf16")
    (finished,) = toy.glob("state-out/*/*/seed-0/finished.pt")
    logits = torch.load(finished, weights_only=True)["best"]["test"]
    assert not torch.equal(logits, logits.bfloat16().float())


def test_worker_processes_change_nothing(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = train(toy, monkeypatch, "alone")
    helped = train(toy, monkeypatch, "helped", "--workers", "2")
    pd.testing.assert_frame_equal(alone, helped, check_exact=True)


def test_one_more_seed_trains_alone(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(toy, monkeypatch, seeds=[0])
    (finished,) = toy.glob("state-out/*/*/seed-0/finished.pt")
    before = finished.stat()
    loaded: list[int] = []

    def watched(*words: Any) -> torch.nn.Module:
        loaded.append(words[-1])
        return classifier.load_classifier(*words)

    monkeypatch.setattr(loop, "load_classifier", watched)
    both = train(toy, monkeypatch, seeds=[0, 1])
    assert loaded == [1]
    assert (finished.stat().st_mtime_ns, finished.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    of_first = both[both["seed"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_first, first, check_exact=True)
    assert not both[both["seed"] == 1]["p_down"].reset_index(drop=True).equals(first["p_down"])
    train(toy, monkeypatch, seeds=[1])
    assert loaded == [1]
    train(toy, monkeypatch, seeds=[0], base_lr=1e-3)  # another recipe is another state
    assert loaded == [1, 0]


def test_each_seed_has_its_own_split(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as a run a split, whose finished seeds it takes over; splits of other seeds are refused."""
    split = pd.read_parquet(toy / "split.parquet")
    summaries = []
    for seed in (0, 1):
        drawn = np.random.default_rng(seed).permutation(split["subset"])
        split.assign(subset=drawn).to_parquet(toy / f"seed-{seed}.parquet", index=False)
        write_summary(toy, f"seed-{seed}", f"seed-{seed}")
        summaries.append(str(toy / f"seed-{seed}.json"))
    alone = train(toy, monkeypatch, "out", "--split", summaries[1], seeds=[1], split="seed-1")
    (finished,) = toy.glob("state-out/*/*/seed-1/finished.pt")
    before = finished.stat().st_mtime_ns
    both = train(toy, monkeypatch, "out", "--split", *summaries, seeds=[0, 1], split="per_seed")
    assert finished.stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(both[both["seed"] == 1].reset_index(drop=True), alone, check_exact=True)
    for seed in (0, 1):
        table = pd.read_parquet(toy / f"seed-{seed}.parquet")
        for subset in ("val", "test"):
            own = both[(both["seed"] == seed) & (both["subset"] == subset)]
            assert list(own["image_id"]) == sorted(table.loc[table["subset"] == subset, "image_id"])
    assert json.loads((toy / "out/cell.json").read_text())["split"] == "per_seed"
    with pytest.raises(UrfmError, match="seed-0, seed-1; with split per_seed expected seed-1, seed-0"):
        train(toy, monkeypatch, "out", "--split", *summaries, seeds=[1, 0], split="per_seed")


@pytest.mark.parametrize("train_images", [(10, 8, 5), (3, 2, 2)])
def test_class_missing_in_validation_and_few_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_images: tuple[int, int, int]
) -> None:
    a, b, c = train_images
    make_task(tmp_path, {"across": (a, 3, 3), "down": (b, 3, 3), "flat": (c, 0, 2)})
    make_encoder(tmp_path, monkeypatch)
    classes = ["across", "down", "flat"]
    for metric in ("auroc", "f1_macro"):
        predictions = train(tmp_path, monkeypatch, classes=classes, selection_metric=metric, batch_size=16, share=100)
        assert np.isfinite(predictions.filter(like="p_").to_numpy()).all()
        assert pd.read_csv(tmp_path / "out/history.csv")[f"val_{metric}"].between(0, 1).all()


def test_ten_percent_share_takes_whole_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_task(tmp_path, {"across": (40, 2, 2), "down": (29, 2, 2)})
    make_encoder(tmp_path, monkeypatch)
    train(tmp_path, monkeypatch, share=10)
    assert json.loads((tmp_path / "out/cell.json").read_text())["images"]["train"] == 4 + 2


def test_early_stop(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(toy, monkeypatch, epochs=40, early_stop=3, base_lr=1e-9)
    history = pd.read_csv(toy / "out/history.csv")
    (best,) = json.loads((toy / "out/cell.json").read_text())["selected_epochs"].values()
    assert len(history) == best + 3 < 40


def test_convolutional_network_and_class_token(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(train(toy, monkeypatch, "cls", pooling="cls", evaluation_resize="crop")) == 36
    make_encoder(toy, monkeypatch, format="efficientnet_lite0")
    assert len(train(toy, monkeypatch, "lite0", epochs=1)) == 36


def test_bf16_runs_close_to_fp32(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [train(toy, monkeypatch, precision, precision=precision, epochs=1) for precision in ("bf16", "fp32")]
    different = (tables[0]["p_down"] - tables[1]["p_down"]).abs()
    assert 0 < different.max() < 0.02


def test_mistakes_are_named(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UrfmError, match=r"label 'down', not one of across, sideways"):
        train(toy, monkeypatch, classes=["across", "sideways"])
    with pytest.raises(UrfmError, match="epochs"):
        train(toy, monkeypatch, epochs=0)
    with pytest.raises(UrfmError, match=r"seeds: .*1 stands there twice"):
        train(toy, monkeypatch, seeds=[1, 1])
    with pytest.raises(UrfmError, match="the loss is not finite at step 1, learning rate"):
        train(toy, monkeypatch, base_lr=1e30, warmup_epochs=0)
    split = pd.read_parquet(toy / "split.parquet")
    split.loc[0, "image_id"] = "toy/gone"
    split.to_parquet(toy / "split.parquet", index=False)
    with pytest.raises(UrfmError, match="its content changed"):
        train(toy, monkeypatch)
    write_summary(toy, "split", "paper")
    with pytest.raises(UrfmError, match=r"1 images of stripes are not in the store, 'toy/gone'"):
        train(toy, monkeypatch)


def test_one_class_in_validation_has_no_auroc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_task(tmp_path, {"across": (8, 4, 3), "down": (8, 0, 3)})
    make_encoder(tmp_path, monkeypatch)
    assert len(train(tmp_path, monkeypatch)) == 10
    with pytest.raises(UrfmError, match="one class only"):
        train(tmp_path, monkeypatch, selection_metric="auroc")
