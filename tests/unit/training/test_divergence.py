"""A loss that is not finite ends training in words; what is kept is sound, and a lower rate goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from test_finetune import toy, train  # noqa: F401 (a fixture)
from test_pretrain import CPU, here, settings, stores  # noqa: F401 (a fixture)
from urfm.config.pretraining import LearningRateCut
from urfm.core.errors import UrfmError
from urfm.models.weights import write_file
from urfm.training import optimisation, state
from urfm.training.finetune.images import batches
from urfm.training.pretrain.loop import Objective
from urfm.training.pretrain.samples import Batches, Samples, mask_noise

# The cosine begins at base_lr and rises towards min_lr: the second step is absurd, and the third has no loss.
RISING: dict[str, Any] = {"min_lr": 1e30, "warmup_epochs": 0}


def shown_in(step: int, image: int) -> str:
    """The id of an image of a step."""
    (places,) = Batches(21, 8, CPU, 0, step, step + 1)
    index = places[image][1]
    return f"a/{index:02}" if index < 14 else f"b/{index - 14:02}"


def test_pretraining_keeps_the_last_good_state_and_goes_on_lower(
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = r"The state of step 1 is kept: pretraining\.runs\.test\.lr_cuts: \[\{step: 1, factor: 0\.5\}\] goes on"
    for _ in range(2):  # the same again, not a failure in the first step of what was kept
        with pytest.raises(UrfmError, match=rf"the loss is not finite at step 2, learning rate .*\. {kept}") as caught:
            here(settings(**RISING), stores, tmp_path, checkpoint_minutes=0)
        assert shown_in(2, 0) in str(caught.value)
        (path,) = (tmp_path / "state").glob("*/*/checkpoint.pt")
        saved = state.load(path)
        assert saved is not None
        assert saved["step"] == 1
        assert state.is_finite(saved)
    assert not (tmp_path / "out").exists()

    lower = settings(**RISING, lr_cuts=[{"step": 1, "factor": 1e-33}])
    capsys.readouterr()
    here(lower, stores, tmp_path)
    said = capsys.readouterr().out
    assert "goes on from step 1 of the run without the cut at step 1" in said
    assert "going on at step 1" in said
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "out" / "encoder.safetensors").values())
    # What was gone on with is what would have come from the start.
    here(lower, stores, tmp_path / "whole")
    assert "training starts anew" in capsys.readouterr().out
    encoders = [(folder / "out" / "encoder.safetensors").read_bytes() for folder in (tmp_path, tmp_path / "whole")]
    assert encoders[0] == encoders[1]


def test_only_what_no_cut_has_touched_is_gone_on_with(
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(step: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("urfm.training.pretrain.samples.mask_noise", stop_at(step))
            with pytest.raises(KeyboardInterrupt):
                here(settings(), stores, tmp_path, checkpoint_minutes=0)

    stopped(5)  # checkpoints of steps 3 and 4
    first = [{"step": 4, "factor": 0.5}]
    for cuts, expected in (
        (first, "goes on from step 4 of the run without the cut at step 4"),
        ([{"step": 3, "factor": 0.5}], "goes on from step 3 of the run without the cut at step 3"),
        ([{"step": 2, "factor": 0.5}], "no state from before the first cut"),
        ([*first, {"step": 6, "factor": 0.1}], "goes on from step 4 of the run without the cut at step 4"),
    ):
        capsys.readouterr()
        here(settings(lr_cuts=cuts), stores, tmp_path)
        assert expected in capsys.readouterr().out
    rates = pd.read_csv(tmp_path / "out" / "history.csv")["lr"].tolist()
    here(settings(), stores, tmp_path)
    plain = pd.read_csv(tmp_path / "out" / "history.csv")["lr"].tolist()
    assert [a / b for a, b in zip(rates, plain, strict=True)] == pytest.approx([1, 1, 0.5, 0.05])


def stop_at(step: int) -> Any:
    """A step at which training is killed, in place of its noise."""

    def noise(seed: int, now: int, *arguments: Any) -> torch.Tensor:
        if now == step:
            raise KeyboardInterrupt
        return mask_noise(seed, now, *arguments)

    return noise


def test_a_cut_multiplies_from_its_step_on() -> None:
    cuts = [LearningRateCut(step=3, factor=0.5), LearningRateCut(step=5, factor=0.1)]
    assert [optimisation.cut(step, cuts) for step in (0, 2, 3, 4, 5, 9)] == pytest.approx([1, 1, 0.5, 0.5, 0.05, 0.05])


def test_the_last_step_counts_too(stores: list[Path], tmp_path: Path) -> None:  # noqa: F811
    """One epoch of one step: no later loss shows what it did."""
    absurd = settings(epochs=1, batch_size=1024, base_lr=1e30, warmup_epochs=0)
    for _ in range(2):
        with pytest.raises(UrfmError, match=r"the loss is not finite at step 0, learning rate .*, images [ab]/\d\d, "):
            here(absurd, stores, tmp_path)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "state").glob("*/*/finished.pt"))


def test_the_image_that_is_to_blame_is_named(
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guilty, target, original = shown_in(3, 5), Objective.target, Samples.__getitem__

    def poisoned(objective: Objective, part: dict[str, torch.Tensor]) -> torch.Tensor:
        return target(objective, part) * torch.where(part["bad"], float("nan"), 1.0).view(-1, 1, 1)

    def marked(samples: Samples, place: tuple[int, int]) -> dict[str, torch.Tensor]:
        turn, index = place
        return original(samples, place) | {"bad": torch.tensor(samples.image_id(index) == guilty and turn == 1)}

    monkeypatch.setattr(Samples, "__getitem__", marked)
    monkeypatch.setattr(Objective, "target", poisoned)
    with pytest.raises(UrfmError, match=rf"not finite at step 3, learning rate \S+, images {guilty}\. "):
        here(settings(), stores, tmp_path)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    good = {"a": torch.ones(3), "count": torch.tensor(3)}
    write_file(tmp_path / "good.safetensors", good)
    assert load_file(tmp_path / "good.safetensors")["count"] == 3
    for value in (float("nan"), float("inf")):
        with pytest.raises(UrfmError, match=r"bad\.safetensors: 1 of 3 tensors hold values that are not finite \(b\)"):
            write_file(tmp_path / "bad.safetensors", good | {"b": torch.tensor([0.0, value])})
    assert [path.name for path in tmp_path.iterdir()] == ["good.safetensors"]


def test_fine_tuning_keeps_the_last_good_state(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """44 images in batches of 8, five steps an epoch: the second is absurd, the third has no loss."""
    ids = sorted(f"toy/train-{label}-{number:03d}" for label in ("across", "down") for number in range(22))
    (keys,) = batches(44, 8, 0, 2, 3)
    named = ", ".join(ids[index] for _, index in keys)
    message = rf"tiny on stripes, seed 0: the loss is not finite at step 2, learning rate \S+, images {named}\. "
    for _ in range(2):
        with pytest.raises(UrfmError, match=message + r"The state of step 1 is kept\. Lower finetuning\.base_lr"):
            train(toy, monkeypatch, "out", "--save-seconds", "0", **RISING)
    (path,) = toy.glob("state-out/*/*/seed-0/checkpoint.pt")
    saved = state.load(path)
    assert saved is not None
    assert saved["step"] == 1
    assert state.is_finite(saved)
    assert not (toy / "out").exists()


def test_fine_tuning_that_saves_nothing_meanwhile_names_the_step(
    toy: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UrfmError, match=r"the loss is not finite at step 2, learning rate \S+, images toy/.*\. Lower"):
        train(toy, monkeypatch, **RISING)
