"""How good frozen features are: weighted k-NN and logistic regression (no torch: arrays in, probabilities out).

Both are standard measures of self-supervised encoders: nothing of the encoder is trained, so they are cheap enough
for every few epochs of pre-training, and tell of the features rather than of a fine-tuning recipe.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import softmax
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


class LinearProbe(NamedTuple):
    """A linear classifier of features that are not standardised."""

    weight: FloatArray  # (classes, dim)
    bias: FloatArray  # (classes,); -inf for a class that no training image has
    strength: float  # C

    def probabilities(self, features: FloatArray) -> FloatArray:
        """(m, classes) of (m, dim), rows sum to 1."""
        result: FloatArray = softmax(features @ self.weight.T + self.bias, axis=1)
        return result


def fit_probe(train: FloatArray, labels: IntArray, classes: int, strength: float) -> LinearProbe:
    """Multinomial logistic regression on standardised features, as a classifier of features that are not.

    Arguments as of `knn_probabilities`; at least two classes must be among `labels`. `strength` is C.
    """
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(C=strength, max_iter=2000).fit(scaler.transform(train), labels)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # scikit-learn's form of two classes: the logit of the second
        coefficients, intercepts = np.concatenate([-coefficients, coefficients]) / 2, np.array([-1, 1]) * intercepts / 2
    weight, bias = np.zeros((classes, coefficients.shape[1])), np.full(classes, -np.inf)
    weight[model.classes_] = coefficients / scaler.scale_
    bias[model.classes_] = intercepts - weight[model.classes_] @ scaler.mean_
    return LinearProbe(weight, bias, strength)


def linear_probe(
    train: FloatArray, labels: IntArray, validation: FloatArray, validation_labels: IntArray, classes: int
) -> LinearProbe:
    """Multinomial logistic regression on standardised features, its penalty chosen on the validation part.

    Chosen is the C of STRENGTHS with the smallest log loss on the validation part, the smallest of equal ones.
    Arguments as of `fit_probe`.
    """
    best, chosen = np.inf, None
    for strength in STRENGTHS:
        probe = fit_probe(train, labels, classes, strength)
        loss = float(log_loss(validation_labels, probe.probabilities(validation), labels=range(classes)))
        if loss < best:
            best, chosen = loss, probe
    assert chosen is not None
    return chosen


def _all_classes(probabilities: FloatArray, present: IntArray, classes: int) -> FloatArray:
    """Columns for all classes; one that no training image has gets 0."""
    whole = np.zeros((len(probabilities), classes))
    whole[:, present] = probabilities
    return whole
