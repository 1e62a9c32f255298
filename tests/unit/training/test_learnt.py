"""What the best constant guess costs in fine-tuning, against the loop's own loss, and when a seed is warned of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from test_finetune import PAPER, toy, train  # noqa: F401 (a fixture)
from timm.data.mixup import Mixup
from torch import Tensor, nn
from urfm.config.finetuning import FinetuneSettings
from urfm.training.finetune import stage
from urfm.training.finetune.images import STEP, seed_everything
from urfm.training.finetune.learnt import prior_loss, warnings
from urfm.training.finetune.loop import loss_of

MILD = {"randaugment": "", "mixup": 0, "cutmix": 0, "crop_scale": [0.5, 1.0], "drop_path": 0.0}
LABELS = np.repeat([0, 1, 2], [9, 5, 2])


def settings(**changes: Any) -> FinetuneSettings:
    return FinetuneSettings.model_validate_json(json.dumps({**PAPER, "classes": ["a", "b", "c"], **changes}))


class Constant(nn.Module):
    """The same logits for every image."""

    def __init__(self, probabilities: np.ndarray) -> None:
        super().__init__()
        self.logits = torch.from_numpy(np.log(probabilities)).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def test_prior_loss_by_hand() -> None:
    frequencies = np.array([9, 5, 2]) / 16
    assert prior_loss(LABELS, settings(label_smoothing=0)) == pytest.approx(-(frequencies * np.log(frequencies)).sum())
    expected = entropy([0.9 * 9 / 16 + 0.1 / 3, 0.9 * 5 / 16 + 0.1 / 3, 0.9 * 2 / 16 + 0.1 / 3])
    assert prior_loss(LABELS, settings(label_smoothing=0.1)) == pytest.approx(expected)
    assert prior_loss(np.array([0, 1]), settings(classes=["a", "b"])) == pytest.approx(np.log(2))
    assert prior_loss(np.array([0, 0]), settings(classes=["a", "b"], label_smoothing=0)) == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("mixup", "cutmix"), [(0, 0), (0.8, 0), (0.8, 1.0)])
def test_it_is_the_loops_loss_of_the_best_constant_guess(smoothing: float, mixup: float, cutmix: float) -> None:
    """Of every batch with the whole part's frequencies, whatever is mixed; another guess costs more."""
    chosen = settings(label_smoothing=smoothing, mixup=mixup, cutmix=cutmix)
    record = {"mean": [0.5] * 3, "std": [0.5] * 3}
    cell: Any = SimpleNamespace(settings=chosen, record=record, device=torch.device("cpu"))
    mixing = Mixup(mixup, cutmix, label_smoothing=smoothing, num_classes=3)
    best = (1 - smoothing) * np.bincount(LABELS) / 16 + smoothing / 3
    seed_everything(STEP, 0)
    for repeat in range(5):
        labels = torch.from_numpy(np.random.default_rng(repeat).permutation(LABELS))
        pixels = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
        losses = [
            loss_of(Constant(guess), pixels, labels, mixing, cell).item()
            for guess in (best, np.array([0.5, 0.3, 0.2]), np.full(3, 1 / 3))
        ]
        assert losses[0] == pytest.approx(prior_loss(LABELS, chosen), rel=1e-6)
        assert min(losses[1:]) > losses[0]


def test_when_a_seed_is_warned_of() -> None:
    cell: Any = SimpleNamespace(settings=settings(), parts={"train": SimpleNamespace(labels=LABELS)})
    prior = prior_loss(LABELS, settings())

    def said(share: float, predicted: list[int]) -> list[str]:
        history = [{"train_loss": 9.0}, {"train_loss": share * prior}]  # the last epoch counts
        return warnings(cell, {"history": history, "best": {"test": torch.eye(3)[predicted], "val": torch.eye(3)}})

    assert said(0.97, [0, 1, 1]) == []
    assert said(0.97, [1, 1, 1]) == ["predicts only b"]
    stuck = f"training loss {0.99 * prior:.3f} has not left the class prior {prior:.3f}"
    assert said(0.99, [0, 2, 0]) == [stuck]
    assert said(0.99, [2, 2]) == [stuck, "predicts only c"]


def test_a_network_that_cannot_learn_is_warned_of(
    toy: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictions = train(toy, monkeypatch, seeds=[0, 2], base_lr=1e-12, min_lr=0)
    cell = json.loads((toy / "out/cell.json").read_text())
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert list(cell["warnings"]) == ["0", "2"]
    assert said == [f"warning: tiny on stripes, seed {n}: {'; '.join(cell['warnings'][n])}" for n in ("0", "2")]
    for seed, words in cell["warnings"].items():
        assert words[0].startswith("training loss 0.69")
        assert words[0].endswith(" has not left the class prior 0.693")
        test = predictions[(predictions["seed"] == int(seed)) & (predictions["subset"] == "test")]
        chosen = test.filter(like="p_").idxmax(axis=1).str.removeprefix("p_").unique()
        assert words[1:] == ([f"predicts only {chosen[0]}"] if len(chosen) == 1 else [])

    # From the finished state it is the same again.
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], str(toy / "again")])
    stage.main()
    assert json.loads((toy / "again/cell.json").read_text())["warnings"] == cell["warnings"]


def test_one_that_learns_is_not(
    toy: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(toy, monkeypatch, epochs=12, base_lr=0.1, layer_decay=1.0, **MILD)
    assert json.loads((toy / "out/cell.json").read_text())["warnings"] == {}
    assert "warning" not in capsys.readouterr().err
