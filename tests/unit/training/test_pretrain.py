"""Pre-training as a program: killed and resumed, in two processes, in micro-batches, with stored targets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from urfm.config.models import TeacherSettings
from urfm.config.pretraining import PretrainSettings, TargetSettings
from urfm.core.cli import parse_settings
from urfm.core.code import definitions
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, write_json, write_parquet
from urfm.data.images.blur import blur
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import decode
from urfm.data.images.pixels import pixel_sha256
from urfm.data.images.store import ImageStore
from urfm.data.pretrain_set import column_sha256
from urfm.data.views import take_view
from urfm.interpret.autoencoder import load_autoencoder
from urfm.models.mim import MaskedAutoencoder, build_encoder
from urfm.models.stand_ins import StandInSettings, write_stand_in
from urfm.models.teachers import load_teacher
from urfm.targets.build import build, verify
from urfm.targets.store import TargetStore
from urfm.training import state
from urfm.training.distributed import Processes
from urfm.training.pretrain.samples import Batches, Samples, list_images, mask_noise
from urfm.training.pretrain.stage import identity, pretrain
from urfm.training.sampling import epoch_order

LIBRARY = Path(state.__file__).parents[2]
CPU = Processes(0, 1, torch.device("cpu"))
TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores, of 14 and 7 small images; beside them those of the same images, blurred (`blurred`)."""
    folders = []
    rng = np.random.default_rng(0)
    for name, count in (("a", 14), ("b", 7)):
        folder = tmp_path_factory.mktemp("stores")
        entries = []
        for number in range(count):
            path = folder / f"{number}.png"
            noise = (rng.integers(0, 64, (6, 8)) + 24 * np.arange(8)).astype(np.uint8)  # brighter to the right
            Image.fromarray(noise).resize((60 + number, 50)).save(path)
            digest = pixel_sha256(decode(path))
            entries.append(Entry(f"{name}/{number:02}", path, digest))
        origin = {"manifest_sha256": "", "simulated": name == "b"}
        write_store(entries, folder / name, 512, 1, origin)
        soft = origin | {"blur_sigma": 1.1}
        write_store(entries, folder / "blurred" / name, 512, 1, soft, through=partial(blur, sigma=1.1))
        folders.append(folder / name)
    return folders


def blurred(stores: list[Path]) -> list[Path]:
    return [store.parent / "blurred" / store.name for store in stores]


def settings(**changes: Any) -> PretrainSettings:
    default = {
        "run": "test",
        "architecture": "vit_tiny_patch16_224",
        "model_args": TINY,
        "input_size": 32,
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "teacher": {"name": "pixels", "kind": "pixels"},
        "targets": "online",
        "views": 2,
        "view_dtype": "float16",
        "target_norm": "none",
        "loss_on": "masked",
        "blur_sigma": 0,
        "mask_ratio": 0.5,
        "epochs": 4,
        "warmup_epochs": 1,
        "batch_size": 8,
        "base_lr": 0.1,
        "min_lr": 0,
        "weight_decay": 0.05,
        "betas": [0.9, 0.95],
        "crop_scale": [0.2, 1.0],
        "flip": True,
        "normalisation": "imagenet",
        "precision": "fp32",
        "ema_decay": 0,
        "sampling": "natural",
        "seed": 0,
    }
    return PretrainSettings.model_validate_json(json.dumps({**default, **changes}))


def images_of(stores: list[Path], ids: list[str] | None = None) -> pd.DataFrame:
    """All images of the stores, or those of `ids`, as `urfm.data.pretrain_set` writes them; an organ a store."""
    rows = [(image_id, store.name) for store in stores for image_id in ImageStore(store).image_ids]
    table = pd.DataFrame(rows, columns=["image_id", "dataset"]).sort_values("image_id", ignore_index=True)
    table = table.assign(organ="organ " + table["dataset"], source="somewhere")
    return table if ids is None else table[table["image_id"].isin(ids)].reset_index(drop=True)


def write_pretrain_set(folder: Path, table: pd.DataFrame) -> Path:
    path = folder / "pretrain_set.parquet"
    write_parquet(path, table)
    record = {
        "run": "test",
        "images": len(table),
        "images_sha256": column_sha256(table["image_id"]),
        "organs_sha256": column_sha256(table["organ"]),
        "sha256": sha256(path),
    }
    write_json(path.with_suffix(".json"), record)
    return path


def here(chosen: PretrainSettings, stores: list[Path], folder: Path, **options: Any) -> pd.DataFrame:
    """Train in this process, on one thread; returns the history."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pretrain(
            chosen,
            CPU,
            pretrain_set=write_pretrain_set(folder, options.pop("pretrain_set", images_of(stores))),
            images=stores,
            targets=options.pop("targets", []),
            checkpoint_root=folder,
            state_root=folder / "state",
            output=folder / "out",
            **{"code": definitions("urfm.training.pretrain.stage", chosen.model_dump())} | options,
        )
    finally:
        torch.set_num_threads(threads)
    return pd.read_csv(folder / "out" / "history.csv")


def command(
    chosen: PretrainSettings, stores: list[Path], folder: Path, *options: str, ids: list[str] | None = None
) -> list[str]:
    return [
        *("-m", "urfm.training.pretrain.stage", "--settings", chosen.model_dump_json()),
        *("--pretrain-set", str(write_pretrain_set(folder, images_of(stores, ids)))),
        *("--images", *map(str, stores), "--state", str(folder / "state"), "--output", str(folder / "out"), *options),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("targets", ["online", "cached"])
def test_a_run_that_a_stand_in_taught_is_marked(stores: list[Path], tmp_path: Path, targets: str) -> None:
    """Its encoder says so, whether the teacher looked on or its targets were stored."""
    network = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    file = {"format": "clip", "file": "clip.safetensors", "model_args": network}
    write_stand_in(StandInSettings.model_validate({"checkpoint": file, "seed": 0}), tmp_path)
    teacher = {"name": "clip", "kind": "clip", "file": "clip.safetensors", "model_args": network}
    chosen = settings(teacher=teacher, targets=targets, epochs=1, warmup_epochs=0)
    folders = []
    if targets == "cached":
        made = load_teacher(TeacherSettings.model_validate(teacher), tmp_path, 32)
        keys = ("views", "view_dtype", "crop_scale", "flip", "seed", "input_size")
        stored = TargetSettings.model_validate({"teacher": teacher, **{key: getattr(chosen, key) for key in keys}})
        folders = [tmp_path / "targets" / store.name for store in stores]
        for store, folder in zip(stores, folders, strict=True):
            build(ImageStore(store), stored, made, folder, torch.device("cpu"))
    here(chosen, stores, tmp_path, targets=folders)
    assert read_json(tmp_path / "out" / "encoder.json")["stand_in"] is True


def test_whole_run(stores: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = here(settings(epochs=30), stores, tmp_path)
    columns = ["epoch", "step", "images_seen", "loss", "position_mean_loss", "r2", "lr", "seconds"]
    assert list(history.columns) == columns
    np.testing.assert_allclose(history["r2"], 1 - history["loss"] / history["position_mean_loss"])
    assert history["epoch"].tolist() == list(range(1, 31))
    assert history["step"].tolist() == [2 * epoch for epoch in range(1, 31)]  # 21 images, batches of 8, rest dropped
    assert history["images_seen"].iloc[-1] == 480
    assert history["loss"].iloc[-5:].mean() < 0.9 * history["loss"].iloc[0]
    lines = [line for line in capsys.readouterr().out.splitlines() if ": epoch " in line]
    assert [line.split(",")[0] for line in lines] == ["test: epoch 1/30", "test: epoch 30/30"]  # within a minute
    assert lines[0].endswith(" left")

    record = read_json(tmp_path / "out" / "encoder.json")
    weights = load_file(tmp_path / "out" / "encoder.safetensors")
    encoder = timm.create_model(record["architecture"], num_classes=0, **record["model_args"])
    encoder.load_state_dict(weights, strict=True)
    assert record["parameters"] == sum(parameter.numel() for parameter in encoder.parameters())
    assert record["sha256"] == sha256(tmp_path / "out" / "encoder.safetensors")
    assert record["simulated"] is True  # one of the two stores is
    assert record["stand_in"] is False
    assert [record["position_mean_loss"], record["r2"]] == history[["position_mean_loss", "r2"]].iloc[-1].tolist()
    assert (record["model"], record["weights"], record["input_size"]) == ("test", "file", 32)
    assert record["mean"] == [0.485, 0.456, 0.406]
    assert record["provenance"]["pretrain_set"]["images"] == 21
    assert set(record["provenance"]["stores"]) == {"a", "b"}

    # Encoder and decoder together predict what they were trained to.
    chosen = settings()
    crops = [Samples(chosen, images_of(stores), [ImageStore(store) for store in stores], [])[99, i] for i in range(21)]
    pixels = torch.stack([crop["student"] for crop in crops]).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in chosen.colours)
    target = load_teacher(chosen.teacher, tmp_path, 32, mean=chosen.colours[0], std=chosen.colours[1]).tokens(pixels)
    noise = mask_noise(0, 0, 21, 4, CPU)
    model = load_autoencoder(tmp_path / "out")
    with torch.inference_mode():
        trained = float(model((pixels - mean) / std, target, noise))
        torch.manual_seed(0)
        model._initialise()
        assert trained < 0.95 * float(model((pixels - mean) / std, target, noise))
    (tmp_path / "out" / "decoder.safetensors").write_bytes(b"another")
    with pytest.raises(UrfmError, match=r"decoder\.safetensors: its content changed"):
        load_autoencoder(tmp_path / "out")


def test_a_finished_run_is_exported_again_at_once(stores: list[Path], tmp_path: Path) -> None:
    here(settings(), stores, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    assert [path.name for path in (tmp_path / "state").glob("*/*/*.pt*")] == ["finished.pt"]
    here(settings(), stores, tmp_path)
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after["encoder.safetensors"] == before["encoder.safetensors"]
    assert after["history.csv"] == before["history.csv"]

    # Anything the result depends on starts a state of its own.
    here(settings(), stores[::-1], tmp_path)  # the order of the data sets is nothing
    (identity,) = [path.name for path in (tmp_path / "state").iterdir()]
    here(settings(seed=1), stores, tmp_path)
    here(settings(), stores[:1], tmp_path)
    assert len(list((tmp_path / "state").glob("*/*"))) == 3
    # Code too; what the old one left is deleted when the new one is done.
    (old,) = [path for path in (tmp_path / "state").glob("*/*") if path.parent.name == identity]
    here(settings(), stores, tmp_path, code={"urfm.models.mim:MaskedAutoencoder": "another version"})
    assert not old.exists()
    assert len(list((tmp_path / "state").glob("*/*"))) == 3
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after["encoder.safetensors"] == before["encoder.safetensors"]


@pytest.fixture(scope="module")
def uninterrupted(stores: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[PretrainSettings, bytes, str]:
    """A run with moving average and drop path, on one thread, never interrupted."""
    chosen = settings(
        epochs=200, ema_decay=0.9, model_args={**TINY, "drop_path_rate": 0.2}, teacher={"name": "p", "kind": "pixels"}
    )
    folder = tmp_path_factory.mktemp("uninterrupted")
    here(chosen, stores, folder)
    losses = pd.read_csv(folder / "out" / "history.csv").drop(columns="seconds").to_csv()
    return chosen, (folder / "out" / "encoder.safetensors").read_bytes(), losses


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_killed_at_any_step_goes_on_to_the_same_bits(
    stores: list[Path], tmp_path: Path, uninterrupted: tuple[PretrainSettings, bytes, str], number: signal.Signals
) -> None:
    chosen, weights, losses = uninterrupted
    # Checkpoints at every step for the signal that gives no time to write one.
    minutes = "0" if number == signal.SIGKILL else "10"
    program = [sys.executable, *command(chosen, stores, tmp_path, "--checkpoint-minutes", minutes, "--workers", "1")]
    process = subprocess.Popen(program, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 1/200" in line:
            break
    if number == signal.SIGKILL:
        while not list((tmp_path / "state").glob("*/*/checkpoint.pt.previous")):
            time.sleep(0.01)
    process.send_signal(number)
    output = process.communicate(timeout=600)[0]
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number, output
        assert f"stopped by {number.name}" in output
    checkpoint = next((tmp_path / "state").glob("*/*/")) / "checkpoint.pt"
    if number == signal.SIGKILL and checkpoint.exists():  # and the newest is damaged as well, if it had its name yet
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    saved = state.load(checkpoint)
    assert saved is not None
    assert 0 <= saved["step"] < 400
    assert not (tmp_path / "out" / "encoder.safetensors").exists()

    history = here(chosen, stores, tmp_path)
    assert (tmp_path / "out" / "encoder.safetensors").read_bytes() == weights
    assert history.drop(columns="seconds").to_csv() == losses
    assert history["seconds"].is_monotonic_increasing, "the time before the interruption counts"


@pytest.mark.parametrize(("stopped_in", "every", "saved_in"), [(0, 1, 0), (3, 1, 3), (6, 1, 6), (3, 5, 4), (5, 5, 5)])
def test_resume_with_scaler_and_average_at_a_given_step(
    stores: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_in: int, every: int, saved_in: int
) -> None:
    """GPUs are asked every few steps, and at the end of an epoch: neither changes a bit."""
    chosen = settings(precision="fp16", ema_decay=0.5)
    history = here(chosen, stores, tmp_path / "whole", micro_batch=3)
    monkeypatch.setattr("urfm.training.pretrain.loop.LOOK_EVERY", {"cpu": every})

    def noise(seed: int, step: int, *arguments: Any) -> torch.Tensor:
        if step == stopped_in:
            os.kill(os.getpid(), signal.SIGTERM)
        return mask_noise(seed, step, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("urfm.training.pretrain.samples.mask_noise", noise)
        with pytest.raises(SystemExit, match="143"):
            here(chosen, stores, tmp_path / "parts", micro_batch=3)
    saved = state.load(next((tmp_path / "parts" / "state").glob("*/*/checkpoint.pt")))
    assert saved is not None
    assert saved["step"] == saved_in  # its loss has shown that the network is sound
    assert saved["scaler"]["scale"] > 1
    again = here(chosen, stores, tmp_path / "parts", micro_batch=3)
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in (history, again)), check_exact=True)
    whole, parts = (tmp_path / name / "out" / "encoder.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_the_exported_average(stores: list[Path], tmp_path: Path) -> None:
    def weights(decay: float, epochs: int = 4) -> dict[str, torch.Tensor]:
        folder = tmp_path / f"{decay}-{epochs}"
        here(settings(ema_decay=decay, epochs=epochs, warmup_epochs=0), stores[:1], folder)
        return load_file(folder / "out" / "encoder.safetensors")

    # 14 images in batches of 8: one step an epoch, at the peak learning rate in the first.
    last, short, slow = weights(0), weights(1e-9), weights(1 - 1e-9)
    torch.manual_seed(0)
    chosen = settings()
    model = MaskedAutoencoder(
        build_encoder(chosen.architecture, chosen.model_args, 32), 768, **chosen.decoder.model_dump()
    )
    for name, start in model.encoder.state_dict().items():
        assert torch.allclose(short[name], last[name], atol=1e-6), name
        assert torch.allclose(slow[name], start, atol=1e-6), name
    first, half = weights(0, epochs=1), weights(0.5, epochs=1)
    for name, start in model.encoder.state_dict().items():
        assert torch.allclose(half[name], (start + first[name]) / 2, atol=1e-6), name
    assert not torch.allclose(first["blocks.0.attn.qkv.weight"], last["blocks.0.attn.qkv.weight"], atol=1e-4)


def test_two_processes_give_the_losses_of_one(stores: list[Path], tmp_path: Path) -> None:
    chosen = settings()
    one = here(chosen, stores, tmp_path / "one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = [*torchrun, *command(chosen, stores, tmp_path / "two", "--micro-batch", "3")]
    done = subprocess.run(program, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 x cpu" in done.stdout
    two = pd.read_csv(tmp_path / "two" / "out" / "history.csv")
    assert two["loss"].to_numpy() == pytest.approx(one["loss"].to_numpy(), abs=1e-5)
    assert (two["lr"] == one["lr"]).all()
    a, b = (load_file(tmp_path / name / "out" / "encoder.safetensors") for name in ("one", "two"))
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-3), name


def test_two_nodes_give_the_losses_of_one_process(stores: list[Path], tmp_path: Path) -> None:
    """A launcher on each node, as workflow/launch.sh starts them by srun; they meet at an address of the first one."""
    one = here(settings(), stores, tmp_path / "one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-id", "19", "--rdzv-endpoint", f"localhost:{port}"]
    program = [*torchrun, *command(settings(), stores, tmp_path / "two")]
    nodes = [
        subprocess.Popen(program, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [node.communicate(timeout=600)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert sum("on 2 x cpu" in output for output in outputs) == 1
    two = pd.read_csv(tmp_path / "two" / "out" / "history.csv")
    assert two["loss"].to_numpy() == pytest.approx(one["loss"].to_numpy(), abs=1e-5)
    assert (two["lr"] == one["lr"]).all()


def test_a_pretrain_set_is_trained_on_as_if_there_were_nothing_else(stores: list[Path], tmp_path: Path) -> None:
    """The images of one store chosen from two give the bits of a run that has this store alone."""
    chosen = settings(ema_decay=0.9, model_args={**TINY, "drop_path_rate": 0.2})
    alone = here(chosen, stores[:1], tmp_path / "alone")
    among = here(chosen, stores, tmp_path / "among", pretrain_set=images_of(stores[:1]))
    a, b = (tmp_path / name / "out" / "encoder.safetensors" for name in ("alone", "among"))
    assert a.read_bytes() == b.read_bytes()
    assert alone["loss"].equals(among["loss"])
    record = read_json(tmp_path / "among" / "out" / "encoder.json")
    assert record["simulated"] is False  # the other store is, but none of its images is seen
    assert list(record["provenance"]["stores"]) == ["a"]

    # Other images, other state; another source, or an organ that natural sampling does not read, goes on with the same.
    here(
        chosen,
        stores,
        tmp_path / "among",
        pretrain_set=images_of(stores[:1]).assign(source="elsewhere", organ="heart"),
    )
    assert len(list((tmp_path / "among" / "state").iterdir())) == 1
    here(chosen, stores, tmp_path / "among", pretrain_set=images_of(stores[:1]).iloc[1:])
    assert len(list((tmp_path / "among" / "state").iterdir())) == 2

    with pytest.raises(UrfmError, match="--images: no store of b, whose images are selected"):
        here(chosen, stores[:1], tmp_path / "wrong", pretrain_set=images_of(stores))
    path = write_pretrain_set(tmp_path, images_of(stores))
    write_parquet(path, images_of(stores).iloc[1:])
    with pytest.raises(UrfmError, match="its content changed after it was made"):
        pretrain(
            chosen, CPU, pretrain_set=path, images=stores, targets=[], checkpoint_root=tmp_path, state_root=tmp_path,
            output=tmp_path, code={},
        )  # fmt: skip


def test_balanced_organs_and_two_processes(stores: list[Path], tmp_path: Path) -> None:
    """12 images of organ a and 2 of b are shown equally often, however many processes there are."""
    chosen = settings(sampling="organ_balanced", batch_size=14)
    ids = [f"a/{number:02}" for number in range(12)] + ["b/01", "b/03"]
    one = here(chosen, stores, tmp_path / "one", pretrain_set=images_of(stores, ids))
    natural = here(settings(batch_size=14), stores, tmp_path / "natural", pretrain_set=images_of(stores, ids))
    assert natural["images_seen"].equals(one["images_seen"])
    assert not np.isclose(natural["loss"], one["loss"], rtol=1e-4).any()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = [*torchrun, *command(chosen, stores, tmp_path / "two", ids=ids)]
    done = subprocess.run(program, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    two = pd.read_csv(tmp_path / "two" / "out" / "history.csv")
    assert two["loss"].to_numpy() == pytest.approx(one["loss"].to_numpy(), abs=1e-5)


def test_a_signal_that_comes_while_processes_agree_is_not_lost(
    stores: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They agree on a signal after every step, and with small models spend much of their time so."""
    calls = []

    def maximum(job: Processes, value: int) -> int:
        calls.append(value)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGUSR1)
        return value  # of before

    with monkeypatch.context() as patch:
        patch.setattr(Processes, "maximum", maximum)
        with pytest.raises(SystemExit, match="138"):
            here(settings(), stores, tmp_path)
    assert calls == [0, 0, 0, signal.SIGUSR1]
    saved = state.load(next((tmp_path / "state").glob("*/*/checkpoint.pt")))
    assert saved is not None
    assert saved["step"] == 3


def test_two_processes_stopped_by_slurm_go_on_to_the_same_bits(stores: list[Path], tmp_path: Path) -> None:
    """As the workflow starts them; the launcher is sent the signal and passes it on, before the run can end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1", "--nproc-per-node", "2"]

    def start(folder: Path, program: list[str]) -> subprocess.Popen[str]:
        program = [*launcher, *program, *command(settings(), stores, folder)[2:]]
        return subprocess.Popen(program, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    waiting = start(tmp_path / "parts", [str(Path(__file__).with_name("waits_for_a_signal.py"))])
    assert waiting.stdout is not None
    for line in waiting.stdout:
        if "waiting for a signal in step 3" in line:
            break
    waiting.send_signal(signal.SIGUSR1)
    output = waiting.communicate(timeout=600)[0]
    assert waiting.returncode != 0
    assert "stopped by SIGUSR1" in output, output
    saved = state.load(next((tmp_path / "parts" / "state").glob("*/*/checkpoint.pt")))
    assert saved is not None
    assert saved["step"] == 3  # of 8: the one that was under way is taken again

    for name in ("parts", "whole"):
        process = start(tmp_path / name, ["-m", "urfm.training.pretrain.stage"])
        output = process.communicate(timeout=600)[0]
        assert process.returncode == 0, output
        assert ("going on at step 3" in output) == (name == "parts")
    whole, parts = (tmp_path / name / "out" for name in ("whole", "parts"))
    assert (whole / "encoder.safetensors").read_bytes() == (parts / "encoder.safetensors").read_bytes()
    histories = [pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (whole, parts)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)


def test_micro_batches_add_up(stores: list[Path], tmp_path: Path) -> None:
    whole = here(settings(), stores, tmp_path / "whole")
    parts = here(settings(), stores, tmp_path / "parts", micro_batch=3)
    assert parts["loss"].to_numpy() == pytest.approx(whole["loss"].to_numpy(), abs=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_follows_fp32(stores: list[Path], tmp_path: Path, precision: str) -> None:
    exact = here(settings(), stores, tmp_path / "fp32")
    rough = here(settings(precision=precision), stores, tmp_path / precision)
    assert rough["loss"].to_numpy() == pytest.approx(exact["loss"].to_numpy(), rel=0.02)


def test_order_and_masks_do_not_depend_on_processes_or_the_start() -> None:
    def places(world: int, start: int) -> list[list[tuple[int, int]]]:
        jobs = [Processes(rank, world, torch.device("cpu")) for rank in range(world)]
        parts = [list(Batches(21, 8, job, 3, start, 6)) for job in jobs]
        return [[place for part in step for place in part] for step in zip(*parts, strict=True)]

    assert places(1, 0) == places(2, 0) == places(4, 0)
    assert places(1, 0)[3:] == places(1, 3)
    first = places(1, 0)
    for epoch in range(3):
        seen = [place for step in first[2 * epoch : 2 * epoch + 2] for place in step]
        assert {place[0] for place in seen} == {epoch}
        assert len({place[1] for place in seen}) == 16
    assert not np.array_equal(epoch_order(3, 0, 21), epoch_order(3, 1, 21))

    noise = mask_noise(3, 5, 8, 4, CPU)
    halves = [mask_noise(3, 5, 8, 4, Processes(rank, 2, torch.device("cpu"))) for rank in range(2)]
    assert torch.equal(noise, torch.cat(halves))
    assert not torch.equal(noise, mask_noise(3, 6, 8, 4, CPU))
    with pytest.raises(UrfmError, match="cannot be shared evenly by 3"):
        mask_noise(3, 5, 8, 4, Processes(0, 3, torch.device("cpu")))


def test_selected_images_are_found_in_their_stores() -> None:
    parts = {"b": ["b/1", "b/10", "b/2"], "a-b": ["a-b/1", "a-b/\u00e9", "a-b/\U0001f600"], "empty": []}
    stores: list[Any] = [
        SimpleNamespace(ids=pa.array(ids, pa.string()), folder=Path("stores") / name) for name, ids in parts.items()
    ]
    wanted = ["a-b/1", "a-b/\U0001f600", "b/2", "b/1"]
    pretrain_set = pd.DataFrame({"image_id": wanted, "dataset": [name.split("/")[0] for name in wanted]})
    numbers, rows = list_images(pretrain_set, stores)
    names = list(parts)
    assert [parts[names[number]][row] for number, row in zip(numbers, rows, strict=True)] == wanted
    with pytest.raises(UrfmError, match=r"stores/b: no image 'b/3', which is selected; rebuild the store"):
        list_images(pretrain_set.replace({"image_id": {"b/2": "b/3"}}), stores)


def test_teacher_and_stored_targets(stores: list[Path], tmp_path: Path) -> None:
    teacher = {"name": "lite", "kind": "efficientnet_lite0", "block": 5}
    online = here(settings(teacher=teacher), stores, tmp_path / "online")
    assert np.isfinite(online["loss"]).all()

    cached = settings(teacher=teacher, targets="cached")
    network = load_teacher(TeacherSettings.model_validate(teacher), tmp_path, 32)
    own = cached.model_dump(include=set(TargetSettings.model_fields))
    folders = [tmp_path / "targets" / folder.name for folder in stores]
    for folder, target_folder in zip(stores, folders, strict=True):
        build(ImageStore(folder), TargetSettings.model_validate(own), network, target_folder, torch.device("cpu"))
    history = here(cached, stores, tmp_path / "cached", targets=folders)
    assert history["loss"].iloc[0] == pytest.approx(online["loss"].iloc[0], rel=0.5)
    rough = here(cached.model_copy(update={"precision": "bf16"}), stores, tmp_path / "bf16", targets=folders)
    assert rough["loss"].to_numpy() == pytest.approx(history["loss"].to_numpy(), rel=0.02)

    with pytest.raises(UrfmError, match="one --targets folder for each of 2"):
        here(cached, stores, tmp_path / "wrong", targets=folders[:1])
    with pytest.raises(UrfmError, match="made from other images"):
        here(cached, stores, tmp_path / "wrong", targets=folders[::-1])
    other = settings(teacher=teacher, targets="cached", crop_scale=[0.5, 1.0])
    with pytest.raises(UrfmError, match=r"other settings \(crop_scale\)"):
        here(other, stores, tmp_path / "wrong", targets=folders)
    for changed in ({"block": 6}, {"kind": "clip"}, {"sha256": "0" * 64}, {"input_size": 64}):
        other = settings(teacher=teacher | changed, targets="cached")
        with pytest.raises(UrfmError, match=r"other settings \(teacher\)"):
            here(other, stores, tmp_path / "wrong", targets=folders)
    tokens = folders[1] / "tokens.bin"
    good = tokens.read_bytes()
    tokens.write_bytes(good[: len(good) // 2] + bytes(len(good) - len(good) // 2))
    with pytest.raises(UrfmError, match=r"b/tokens\.bin: view \d of b/\d\d is not what was stored"):
        here(cached, stores, tmp_path / "changed", targets=folders)
    assert not (tmp_path / "changed" / "out").exists()
    tokens.write_bytes(good)
    named = settings(teacher=teacher | {"sha256": network.weights_sha256}, targets="cached")
    here(named, stores[::-1], tmp_path / "cached", targets=folders[::-1])  # the order of the data sets is nothing
    assert len(list((tmp_path / "cached" / "state").iterdir())) == 1


def test_teacher_of_larger_pictures(stores: list[Path], tmp_path: Path) -> None:
    """It sees the student's box at its own side, stored or online, and sharp where the student's picture is blurred."""
    teacher = {"name": "lite", "kind": "efficientnet_lite0", "block": 11, "input_size": 64}
    opened = [ImageStore(folder) for folder in stores]
    at_64 = Samples(settings(input_size=64), images_of(stores), opened, [])[2, 5]["student"]
    at_32 = Samples(settings(), images_of(stores), opened, [])[2, 5]["student"]
    for blur_sigma in (0.0, 1.1):
        chosen = settings(teacher=teacher, blur_sigma=blur_sigma)
        soft = [ImageStore(folder) for folder in blurred(stores)] if blur_sigma else []
        sample = Samples(chosen, images_of(stores), opened, [], soft)[2, 5]
        assert torch.equal(sample["teacher"], at_64)
        assert torch.equal(sample["student"], at_32) == (blur_sigma == 0)
    assert np.isfinite(here(settings(teacher=teacher), stores, tmp_path / "online")["loss"]).all()

    cached = settings(teacher=teacher, targets="cached")
    own = TargetSettings.model_validate(cached.model_dump(include=set(TargetSettings.model_fields)))
    network = load_teacher(own.teacher, tmp_path, 32)
    folders = [tmp_path / "targets" / folder.name for folder in stores]
    for store, folder in zip(opened, folders, strict=True):
        build(store, own, network, folder, torch.device("cpu"))
        tokens = TargetStore(folder)
        pixels = take_view(store.read_row(0), tokens.view(0, 0), 64)
        assert torch.allclose(tokens.tokens(0, 0).float(), network.tokens(pixels[None])[0], rtol=0.01, atol=0.01)
        assert verify(folder, store, network, np.random.default_rng(0)) < 0.01
    assert np.isfinite(here(cached, stores, tmp_path / "cached", targets=folders)["loss"]).all()


def test_samples_show_both_networks_the_same_box(stores: list[Path], tmp_path: Path) -> None:
    opened, soft = ([ImageStore(folder) for folder in folders] for folders in (stores, blurred(stores)))
    sharp = Samples(settings(), images_of(stores), opened, [])
    chosen = settings(blur_sigma=1.1)
    deblurring = Samples(chosen, images_of(stores), opened, [], soft)
    a, b = sharp[2, 5], deblurring[2, 5]
    assert set(a) == {"student"}
    assert set(b) == {"student", "teacher"}
    assert torch.equal(b["teacher"], a["student"])
    # The very box that is cut out of the sharp image, out of the blurred one: as if the latter were all there is.
    assert torch.equal(b["student"], Samples(settings(), images_of(stores), soft, [])[2, 5]["student"])
    roughness = [pixels.float().diff(dim=-1).abs().mean() for pixels in (b["student"], b["teacher"])]
    assert roughness[0] < roughness[1]
    with pytest.raises(ValueError, match="go together"):
        Samples(chosen, images_of(stores), opened, [])
    assert torch.equal(sharp[2, 5]["student"], a["student"])
    assert not torch.equal(sharp[3, 5]["student"], a["student"])
    with pytest.raises(UrfmError, match="no image 'a/14', which is selected"):
        Samples(settings(), images_of(stores).replace({"image_id": {"a/13": "a/14"}}), opened, [])
    with pytest.raises(UrfmError, match="two folders have the same name"):
        here(settings(), [stores[0], *stores], tmp_path)


def test_deblurring_trains_on_all_patches(stores: list[Path], tmp_path: Path) -> None:
    chosen = settings(blur_sigma=1.1, loss_on="all", mask_ratio=0.75)
    history = here(chosen, stores, tmp_path, blurred_images=blurred(stores)[::-1])  # found by their names
    assert np.isfinite(history["loss"]).all()
    record = read_json(tmp_path / "out" / "encoder.json")
    assert record["blur_sigma"] == 1.1
    assert set(record["provenance"]["blurred_stores"]) == set(record["provenance"]["stores"]) == {"a", "b"}

    with pytest.raises(UrfmError, match=r"--blurred-images: no store of b; blur_sigma needs one for each"):
        here(chosen, stores, tmp_path / "wrong", blurred_images=blurred(stores)[:1])
    with pytest.raises(UrfmError, match=r"a: its images were blurred by 0 pixels, expected 1\.1"):
        here(chosen, stores, tmp_path / "wrong", blurred_images=stores)
    pixels = blurred(stores)[0] / "pixels.bin"
    whole = pixels.read_bytes()
    pixels.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(UrfmError, match=r"blurred/a/pixels\.bin: its content changed"):
        here(chosen, stores, tmp_path / "wrong", blurred_images=blurred(stores))
    pixels.write_bytes(whole)


def test_blurred_images_are_part_of_what_a_state_is_for(stores: list[Path]) -> None:
    """Other blurred pixels are another run; a run that sees none of them has the state that it always had."""
    opened, soft = ([ImageStore(folder) for folder in folders] for folders in (stores, blurred(stores)))
    chosen = {"images_sha256": "", "organs_sha256": ""}
    sharp = identity(settings(), {}, chosen, opened, [])
    assert sharp[4] == sorted([store.record["sha256"], store.record["index_sha256"]] for store in opened)
    one = identity(settings(blur_sigma=1.1), {}, chosen, [*opened, *soft], [])
    soft[0].record["sha256"] = "another"
    assert identity(settings(blur_sigma=1.1), {}, chosen, [*opened, *soft], []) != one


def test_small_data_sets_and_mistakes(stores: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = here(settings(batch_size=1024), stores, tmp_path)
    assert "21 images are fewer than batch_size 1024: one batch of 21" in capsys.readouterr().out
    assert history["images_seen"].tolist() == [21, 42, 63, 84]

    with pytest.raises(UrfmError, match=r"the loss is not finite at step \d+, learning rate .*Lower base_lr"):
        here(settings(base_lr=1e30, warmup_epochs=0), stores, tmp_path)
    with pytest.raises(UrfmError, match="they must agree"):
        here(settings(teacher={"name": "lite", "kind": "efficientnet_lite0", "block": 15}), stores, tmp_path)
    text = json.dumps({**settings().model_dump(), "warmup_epochs": 9})
    with pytest.raises(UrfmError, match="warmup_epochs"):
        parse_settings(PretrainSettings, text)
