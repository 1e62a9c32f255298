"""k-NN and linear probes against the formulas of DINO and against scikit-learn fitted from scratch."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from urfm.training.frozen.probes import STRENGTHS, knn_probabilities, linear_probe


def blobs(count: int, spread: float, seed: int, classes: int = 3):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, 8))
    return centres[labels] + spread * rng.normal(size=(count, 8)), labels


def test_knn_is_dinos():
    """facebookresearch/dino, eval_knn.py: normalised features, top k, exp(similarity / T), summed by class."""
    train, labels = blobs(60, 1.0, 0)
    test, _ = blobs(20, 1.0, 1)
    a, b = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in (train, test))
    similarity = b @ a.T
    expected = np.zeros((20, 3))
    for row in range(20):
        for neighbour in np.argsort(-similarity[row])[:7]:
            expected[row, labels[neighbour]] += np.exp(similarity[row, neighbour] / 0.1)
    expected /= expected.sum(axis=1, keepdims=True)
    assert knn_probabilities(train, labels, test, 3, 7, 0.1) == pytest.approx(expected, abs=1e-9)


def test_knn_of_few_images_and_of_a_class_without_any():
    train, labels = blobs(6, 0.1, 0, classes=2)
    got = knn_probabilities(train, 2 * labels, train, 3, 20, 1e6)  # k > n, all weights equal: the prior
    assert got == pytest.approx(np.tile([0.5, 0, 0.5], (6, 1)), abs=1e-4)


def test_linear_probe_is_the_best_of_its_penalties():
    (train, labels), (val, val_labels), (test, _) = blobs(45, 1.5, 0), blobs(45, 1.5, 1), blobs(15, 1.5, 2)
    probe = linear_probe(train, labels, val, val_labels, 3)
    got = probe.probabilities(test)
    losses = {}
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=10_000, tol=1e-8))
        model.fit(train, labels)
        losses[strength] = log_loss(val_labels, model.predict_proba(val))
        if strength == probe.strength:
            assert got == pytest.approx(model.predict_proba(test), abs=5e-3)
    assert probe.strength == min(losses, key=losses.__getitem__)
    assert STRENGTHS[0] < probe.strength < STRENGTHS[-1]  # a choice was needed
    same = linear_probe(1000 * train, labels, 1000 * val, val_labels, 3)
    scaled = same.probabilities(1000 * test)
    assert same.strength == probe.strength
    assert scaled == pytest.approx(got, abs=1e-6)


def test_linear_probe_of_noise_is_the_prior():
    rng = np.random.default_rng(0)
    train, val, test = (rng.normal(size=(60, 30)) for _ in range(3))
    labels = np.arange(60) % 2
    probe = linear_probe(train, labels, val, rng.permutation(labels), 2)
    got = probe.probabilities(test)
    assert probe.strength == STRENGTHS[0]
    assert got == pytest.approx(np.full((60, 2), 0.5), abs=0.05)


def test_linear_probe_without_a_class_in_training():
    train, labels = blobs(20, 0.5, 0, classes=2)
    probe = linear_probe(train, 2 * labels, train, 2 * labels, 3)
    got = probe.probabilities(train)
    assert (got[:, 1] == 0).all()
    assert (got.argmax(axis=1) == 2 * labels).all()
