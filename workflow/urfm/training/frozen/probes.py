"""How good frozen features are: weighted k-NN and logistic regression (no torch: arrays in, probabilities out).

Both are standard measures of self-supervised encoders: nothing of the encoder is trained, so they are cheap enough
for every few epochs of pre-training, and tell of the features rather than of a fine-tuning recipe.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from urfm.metrics import FloatArray, IntArray

STRENGTHS = tuple(10.0**power for power in range(-4, 3))  # C of the linear probe, from the strongest penalty on


def knn_probabilities(
    train: FloatArray, labels: IntArray, features: FloatArray, classes: int, neighbours: int, temperature: float
) -> FloatArray:
    """DINO's and MoCo's weighted k-NN: the `neighbours` nearest by cosine vote with weight exp(similarity / T).

    Parameters
    ----------
    train, labels
        (n, dim) features of the training images, and their classes (n,), numbers below `classes`.
    features
        (m, dim) features to classify.
    neighbours
        k; all training images if there are fewer.

    Returns
    -------
    (m, classes), rows sum to 1.
    """
    nearest = KNeighborsClassifier(
        min(neighbours, len(train)),
        metric="cosine",
        weights=lambda distance: np.exp(-distance / temperature),  # the factor exp(1 / T) cancels out
    )
    nearest.fit(train, labels)
    return _all_classes(nearest.predict_proba(features), nearest.classes_, classes)


def linear_probabilities(
    train: FloatArray,
    labels: IntArray,
    validation: FloatArray,
    validation_labels: IntArray,
    features: FloatArray,
    classes: int,
) -> tuple[FloatArray, float]:
    """Multinomial logistic regression on standardised features, its penalty chosen on the validation part.

    Chosen is the C of STRENGTHS with the smallest log loss on the validation part, the smallest of equal ones.
    Arguments as of `knn_probabilities`; returns (m, classes) and C.
    """
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(max_iter=2000, warm_start=True)
    best, result, chosen = np.inf, np.empty(0), STRENGTHS[0]
    for strength in STRENGTHS:
        model.set_params(C=strength).fit(scaler.transform(train), labels)
        guess = _all_classes(model.predict_proba(scaler.transform(validation)), model.classes_, classes)
        loss = float(log_loss(validation_labels, guess, labels=range(classes)))
        if loss < best:
            best, chosen = loss, strength
            result = _all_classes(model.predict_proba(scaler.transform(features)), model.classes_, classes)
    return result, chosen


def _all_classes(probabilities: FloatArray, present: IntArray, classes: int) -> FloatArray:
    """Columns for all classes; one that no training image has gets 0."""
    whole = np.zeros((len(probabilities), classes))
    whole[:, present] = probabilities
    return whole
