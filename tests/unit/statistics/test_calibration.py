"""Calibration against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from urfm.statistics.calibration import brier, calibration_error, reliability


def sample(classes: int = 3, images: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(classes, size=images), generator.dirichlet(np.ones(classes), images)


def test_reliability_curve_equals_scikit_learns():
    labels, probabilities = sample(2)
    curve = reliability(labels, probabilities, 8)
    right = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=8)
    assert curve["accuracy"].tolist() == pytest.approx(accuracy)
    assert curve["confidence"].tolist() == pytest.approx(confidence)
    assert curve["predictions"].sum() == 300


def test_calibration_error_by_hand():
    """Two images at 0.9 of which one is right, two at 0.6 both right: (0.4 + 0.4) / 2."""
    labels = np.array([0, 1, 0, 0])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert calibration_error(reliability(labels, probabilities, 10)) == pytest.approx(0.4)


def test_calibrated_predictions_have_almost_no_error_and_overconfident_ones_have():
    generator = np.random.default_rng(0)
    p = generator.uniform(0.5, 1, 40_000)
    labels = (generator.random(40_000) > p).astype(int)
    honest = np.stack([p, 1 - p], axis=1)
    assert calibration_error(reliability(labels, honest, 10)) < 0.01
    bold = np.stack([(1 + p) / 2, (1 - p) / 2], axis=1)
    assert calibration_error(reliability(labels, bold, 10)) == pytest.approx(((1 - p) / 2).mean(), abs=0.01)


@pytest.mark.parametrize("classes", [2, 5])
def test_brier_equals_scikit_learns(classes):
    labels, probabilities = sample(classes)
    assert brier(labels, probabilities) == pytest.approx(
        sk.brier_score_loss(np.eye(classes)[labels], probabilities, scale_by_half=True)
        if classes > 2
        else sk.brier_score_loss(labels, probabilities[:, 1])
    )
