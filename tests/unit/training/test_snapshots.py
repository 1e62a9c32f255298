"""Snapshots of a run: they change no training, survive interruptions, and are what probes and reconstructions read."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from test_pretrain import TINY, blurred, here, images_of, settings, stores, write_pretrain_set  # noqa: F401 (a fixture)
from urfm import load
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, write_json, write_parquet
from urfm.data.images.store import ImageStore
from urfm.data.views import View, take_view
from urfm.interpret import probe_encoder, reconstruct
from urfm.interpret.snapshots import feature_network, read_snapshots
from urfm.models.mim import MaskedAutoencoder, build_encoder
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import patchify
from urfm.training.pretrain.samples import mask_noise


@pytest.fixture(scope="module")
def run(stores: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A run of four epochs with a snapshot every third."""
    folder = tmp_path_factory.mktemp("run")
    here(settings(snapshot_every=3), stores, folder)
    return folder


def test_they_change_no_training(run: Path, stores: list[Path], tmp_path: Path) -> None:  # noqa: F811
    here(settings(), stores, tmp_path)
    assert (run / "out" / "encoder.safetensors").read_bytes() == (tmp_path / "out" / "encoder.safetensors").read_bytes()
    assert read_json(tmp_path / "out" / "snapshots.json")["epochs"] == []
    with pytest.raises(UrfmError, match=r"test kept no snapshots; set pretraining\.runs\.test\.snapshot_every"):
        read_snapshots(tmp_path / "out" / "snapshots.json")


def test_they_are_the_networks_of_their_epochs(run: Path, stores: list[Path], tmp_path: Path) -> None:  # noqa: F811
    assert settings(snapshot_every=1).snapshots == [0, 1, 2, 3, 4]
    assert settings(snapshot_every=9).snapshots == [0, 4]
    found = read_snapshots(run / "out" / "snapshots.json")
    assert found.epochs == [0, 3, 4]
    tensors = load_file(run / "out" / "snapshots.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}

    for name, tensor in load_file(run / "out" / "encoder.safetensors").items():
        assert torch.equal(tensors[f"4/encoder.{name}"], tensor.half()), name
    chosen = settings()
    torch.manual_seed(0)
    start = MaskedAutoencoder(
        build_encoder(chosen.architecture, chosen.model_args, 32), 768, **chosen.decoder.model_dump()
    ).state_dict()
    assert {name.removeprefix("0/") for name in tensors if name.startswith("0/")} == set(start)
    for name, tensor in start.items():
        assert torch.equal(tensors[f"0/{name}"], tensor.half()), name
        assert torch.equal(found.network(0).state_dict()[name], tensor.half().float()), name
        assert torch.equal(found.untrained(0).state_dict()[name], tensor), name
    weight = "decoder_pred.weight"
    assert not torch.equal(found.untrained(1).state_dict()[weight], found.untrained(0).state_dict()[weight])

    # With a moving average, the average is kept: here the start, as good as never moved.
    here(settings(snapshot_every=4, ema_decay=1 - 1e-9), stores, tmp_path)
    averaged = load_file(tmp_path / "out" / "snapshots.safetensors")
    for name, tensor in start.items():
        assert torch.allclose(averaged[f"4/{name}"].float(), tensor, atol=1e-3), name


@pytest.mark.parametrize(("step", "dies"), [(5, False), (6, False), (7, True)])
def test_an_interruption_changes_none(
    run: Path,
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    dies: bool,
) -> None:
    """Stopped in the step that ends in a snapshot (two steps an epoch), in the next, or dead without a checkpoint."""

    def noise(seed: int, now: int, *arguments: Any) -> torch.Tensor:
        if now == step:
            if dies:
                raise MemoryError
            os.kill(os.getpid(), signal.SIGTERM)
        return mask_noise(seed, now, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("urfm.training.pretrain.samples.mask_noise", noise)
        with pytest.raises(MemoryError if dies else SystemExit):
            here(settings(snapshot_every=3), stores, tmp_path)
    kept = {path.name for path in (tmp_path / "state").glob("*/*/snapshot-*")}
    assert kept == ({"snapshot-0.pt"} if step == 5 else {"snapshot-0.pt", "snapshot-3.pt"})
    here(settings(snapshot_every=3), stores, tmp_path)
    for name in ("snapshots.safetensors", "snapshots.json"):
        assert (tmp_path / "out" / name).read_bytes() == (run / "out" / name).read_bytes()
    for path in (tmp_path / "out").iterdir():  # a repeat writes them again
        path.unlink()
    here(settings(snapshot_every=3), stores, tmp_path)
    assert (tmp_path / "out" / "snapshots.json").read_bytes() == (run / "out" / "snapshots.json").read_bytes()
    next((tmp_path / "state").glob("*/*/snapshot-3.pt")).unlink()
    with pytest.raises(UrfmError, match="the snapshot of epoch 3 is gone; delete this folder and train again"):
        here(settings(snapshot_every=3), stores, tmp_path)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_are_those_that_fine_tuning_starts_from(
    run: Path,
    stores: list[Path],  # noqa: F811
    pooling: Any,
) -> None:
    found = read_snapshots(run / "out" / "snapshots.json")
    model = feature_network(found.network(4), found.settings, pooling)
    image_ids = ["a/00", "a/07"]
    store = ImageStore(stores[0])
    record = dict(zip(("mean", "std"), found.settings.colours, strict=True)) | {"input_size": 32}
    features = probe_encoder.embed(model, probe_encoder.squares(store, image_ids, record), record, torch.device("cpu"))
    (run / "one").mkdir(exist_ok=True)  # the encoder alone: `load` wants one in a folder
    for suffix in (".json", ".safetensors"):
        (run / "one" / f"encoder{suffix}").write_bytes((run / "out" / f"encoder{suffix}").read_bytes())
    encoder = load(run / "one", pooling)
    expected = np.stack([encoder.embed(store.read(image_id)) for image_id in image_ids])
    assert features == pytest.approx(expected, abs=2e-2)  # float16 weights
    assert np.abs(features[0] - features[1]).max() > 0.05


def write_split(folder: Path, store: ImageStore) -> Path:
    """A split of the first store: 8 training, 3 validation and 3 test images, two labels in turn."""
    ids = store.image_ids
    subsets = ["train"] * 8 + ["val"] * 3 + ["test"] * 3
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "label": ["x", "y"] * 7, "subset": subsets})
    write_parquet(folder / "split.parquet", table)
    sidecar = {"sha256": sha256(folder / "split.parquet"), "patients": None, "simulated": False}
    write_json(folder / "split.json", sidecar)
    return folder / "split.parquet"


def probe(folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, *source: str, **changes: Any) -> pd.DataFrame:
    chosen = {"name": "test", "task": "t", "classes": ["x", "y"], "pooling": "mean", "neighbours": 3}
    chosen |= {"temperature": 0.07, "random_seeds": [], **changes}
    split = write_split(folder, ImageStore(store))
    arguments = ["", "--settings", json.dumps(chosen), *source, "--images", str(store), "--split", str(split)]
    monkeypatch.setattr("sys.argv", [*arguments, "--output", str(folder / "p.parquet")])
    probe_encoder.main()
    assert read_json(folder / "p.json")["sha256"] == sha256(folder / "p.parquet")
    return pd.read_parquet(folder / "p.parquet")


def test_probe_stage(
    run: Path,
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, path = stores[0], run / "out" / "snapshots.json"
    table = probe(tmp_path, store, monkeypatch, "--snapshots", str(path), random_seeds=[0, 5])
    found = table.groupby(["encoder", "seed", "epoch", "probe"]).size()
    assert found.to_dict() == {
        (name, seed, epoch, kind): 3
        for name, seed, epoch in [("test", 0, 0), ("test", 0, 3), ("test", 0, 4), ("random", 0, 0), ("random", 5, 0)]
        for kind in ("knn", "linear")
    }
    assert table[["p_x", "p_y"]].sum(axis=1).to_numpy() == pytest.approx(1)
    record = read_json(tmp_path / "p.json")
    assert (record["images"], record["simulated"]) == ({"train": 8, "val": 3, "test": 3}, True)  # store b was seen

    # Independently, from the encoder itself: scikit-learn's k-NN weighted by exp(cosine / T).
    table = probe(tmp_path, store, monkeypatch, "--encoder", str(run / "out" / "encoder.json"))
    assert set(table["epoch"]) == {-1}
    (tmp_path / "one").mkdir()
    for suffix in (".json", ".safetensors"):
        (tmp_path / "one" / f"e{suffix}").write_bytes((run / "out" / f"encoder{suffix}").read_bytes())
    encoder, images = load(tmp_path / "one"), ImageStore(store)
    features = np.stack([encoder.embed(images.read(name)) for name in images.image_ids]).astype(float)
    nearest = KNeighborsClassifier(3, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    nearest.fit(features[:8], ["x", "y"] * 4)
    got = table[table["probe"] == "knn"].sort_values("image_id")[["p_x", "p_y"]].to_numpy()
    assert got == pytest.approx(nearest.predict_proba(features[11:]), abs=1e-3)

    with pytest.raises(UrfmError, match="label 'y' is not one of x, z"):
        probe(tmp_path, store, monkeypatch, "--snapshots", str(path), classes=["x", "z"])
    split = write_split(tmp_path, images)
    chosen = probe_encoder.ProbeSettings(
        name="n", task="t", classes=["x", "y"], pooling="mean", neighbours=1, temperature=1
    )
    with pytest.raises(UrfmError, match="no image 'a/00', which is in"):
        probe_encoder.read_split(split, ImageStore(stores[1]), chosen)


def reconstructed(
    run: Path, folders: list[Path], output: Path, monkeypatch: pytest.MonkeyPatch, *more: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    table = write_pretrain_set(output, images_of(folders))
    arguments = ["", "--settings", '{"images": 3}', "--snapshots", str(run / "out" / "snapshots.json")]
    arguments += [
        "--pretrain-set",
        str(table),
        "--images",
        *map(str, folders),
        "--output",
        str(output / "r.npz"),
        *more,
    ]
    monkeypatch.setattr("sys.argv", arguments)
    reconstruct.main()
    with np.load(output / "r.npz", allow_pickle=False) as content:
        return dict(content), read_json(output / "r.json")


def test_pixels_are_reconstructed(
    run: Path,
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrays, record = reconstructed(run, stores, tmp_path, monkeypatch)
    assert sorted(record["organs"][:2]) == ["organ a", "organ b"]  # one of each before the second of any
    assert record["epochs"] == [0, 3, 4]
    assert arrays["predictions"].shape == (3, 3, 32, 32, 3)
    assert np.abs(arrays["target"].astype(int) - arrays["images"]).max() <= 1  # pixels are their own target
    assert (arrays["mask"].sum(axis=(1, 2)) == 2).all()  # half of 2 x 2

    # The loss of an image, from the network's own forward pass with the mask that the picture shows.
    found = read_snapshots(run / "out" / "snapshots.json")
    images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(colour).view(3, 1, 1) for colour in found.settings.colours)
    pixels = (images - mean) / std
    noise = torch.from_numpy(arrays["mask"].reshape(3, 4).astype(np.float32))
    with torch.inference_mode():
        for number, epoch in enumerate(record["epochs"]):
            network = found.network(epoch)
            for place in range(3):
                part = slice(place, place + 1)
                loss = network(pixels[part], patchify(pixels[part], 16), noise[part]).item()
                assert arrays["errors"][number, place] == pytest.approx(loss, rel=1e-4)


def test_what_a_deblurring_run_sees_and_predicts(
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blurred images are shown, the targets are the sharp ones."""
    here(settings(blur_sigma=1.1, snapshot_every=4), stores, tmp_path, blurred_images=blurred(stores))
    folders = ["--blurred-images", *map(str, blurred(stores))]
    arrays, record = reconstructed(tmp_path, stores, tmp_path, monkeypatch, *folders)
    for place, image_id in enumerate(record["image_ids"]):
        number = "ab".index(image_id[0])
        for shown, folder in ((arrays["images"], blurred(stores)[number]), (arrays["target"], stores[number])):
            image = ImageStore(folder).read(image_id)
            whole = take_view(image, View(0, 0, *image.shape[:2], flip=False), 32).permute(1, 2, 0).numpy()
            assert np.abs(shown[place].astype(int) - whole).max() <= 1
    with pytest.raises(UrfmError, match="--blurred-images: no store of a, b"):
        reconstructed(tmp_path, stores, tmp_path, monkeypatch)


def test_teacher_tokens_are_reconstructed_as_components(
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lite = {"name": "lite", "kind": "efficientnet_lite0", "block": 5}
    chosen = settings(teacher=lite, target_norm="layernorm", snapshot_every=4, input_size=64, model_args=TINY)
    here(chosen, stores, tmp_path)
    arrays, record = reconstructed(tmp_path, stores, tmp_path, monkeypatch)
    assert arrays["predictions"].shape == (2, 3, 4, 4, 3)
    assert not record["pixels"]

    sharp = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2)
    tokens = load_teacher(chosen.teacher, tmp_path, 64).tokens(sharp).numpy().astype(float)
    tokens = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
    expected = PCA(3, svd_solver="full").fit_transform(tokens.reshape(48, -1))
    shown = arrays["target"].reshape(48, 3)
    for component in range(3):
        low, high = np.percentile(expected[:, component], [1, 99])
        colour = 255 * np.clip((expected[:, component] - low) / (high - low), 0, 1)
        same, turned = (np.abs(shown[:, component] - other).max() for other in (colour, 255 - colour))
        assert min(same, turned) < 3  # the sign of a component is free


def test_standardised_patches_are_shown_with_the_true_mean_and_contrast() -> None:
    """The target itself, standardised as MAE does, comes out as the image."""
    sharp = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8))
    chosen = settings(teacher={"name": "p", "kind": "pixels", "norm_pix": True})
    teacher = load_teacher(chosen.teacher, Path("nowhere"), 32, mean=chosen.colours[0], std=chosen.colours[1])
    shown = reconstruct.as_pixels(teacher.tokens(sharp), teacher, sharp, chosen, (2, 2))
    assert np.abs(shown.astype(int) - sharp.permute(0, 2, 3, 1).numpy()).max() <= 1
