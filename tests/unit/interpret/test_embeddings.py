"""Neighbours and silhouettes of embeddings against scikit-learn and closed forms; the choice of images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_samples, silhouette_score
from sklearn.neighbors import NearestNeighbors
from urfm.interpret import embeddings


def clouds(distance: float, each: int = 30, groups: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    names = np.repeat([f"group {number}" for number in range(groups)], each).astype(object)
    centres = distance * np.eye(groups, 8)
    return random.normal(size=(each * groups, 8)) + np.repeat(centres, each, axis=0), names


def test_purity_is_scikit_learns_neighbours() -> None:
    vectors, groups = clouds(2.0)
    patients = np.arange(len(groups))
    found, chance = embeddings.purity(vectors, groups, patients)
    near = NearestNeighbors(n_neighbors=11).fit(vectors).kneighbors(vectors, return_distance=False)[:, 1:]
    assert found == pytest.approx((groups[near] == groups[:, None]).mean())
    assert chance == pytest.approx(29 / 89)
    assert embeddings.purity(clouds(100.0)[0], groups, patients)[0] == 1


def test_images_of_the_same_patient_are_no_neighbours() -> None:
    """Every patient has two nearly equal images; without this rule each would find itself first."""
    random = np.random.default_rng(0)
    vectors = np.repeat(random.normal(size=(40, 4)), 2, axis=0) + random.normal(0, 1e-6, (80, 4))
    groups = np.repeat(np.array([0, 1], dtype=object)[random.integers(0, 2, 40)], 2)
    found, chance = embeddings.purity(vectors, groups, np.repeat(np.arange(40), 2))
    assert found == pytest.approx(chance, abs=0.1)
    assert np.isnan(embeddings.purity(vectors[:2], groups[:2], np.zeros(2))[0])


@pytest.mark.parametrize("images", [1, 3])
def test_silhouette_is_scikit_learns_of_one_image_a_patient(images: int) -> None:
    """Copies of a patient's image change nothing; scikit-learn's own, of all images, takes them for neighbours."""
    vectors, groups = clouds(2.0)
    truth = silhouette_score(vectors, groups)
    copies, labels = np.repeat(vectors, images, axis=0), np.repeat(groups, images)
    found = embeddings.silhouette(copies, labels, np.repeat(np.arange(len(groups)), images))
    assert found == pytest.approx(truth)
    assert (silhouette_score(copies, labels) > truth + 0.005) == (images > 1)


def test_silhouette_of_patients_with_images_of_several_groups_is_counted_by_hand() -> None:
    """Images at 0, 1, 4 and 6 on a line; the first and the third are of one patient.

    At 0: own group 1 away, other group 6. At 1: own 1, other (3 + 5) / 2. At 4: own 2, other 3. At 6: own 2, other
    (6 + 5) / 2.
    """
    places, groups = np.array([[0.0], [1], [4], [6]]), np.array(["a", "a", "b", "b"], dtype=object)
    expected = np.mean([5 / 6, 3 / 4, 1 / 3, 3.5 / 5.5])
    assert embeddings.silhouette(places, groups, np.array(["x", "y", "x", "z"])) == pytest.approx(expected)


def test_silhouette_without_other_patients() -> None:
    """Of the images of a group that has one patient, 0, as scikit-learn says of a group of one image."""
    vectors, groups = clouds(50.0)
    apart = np.arange(len(groups))
    assert embeddings.silhouette(vectors, groups, apart) > 0.9
    assert np.isnan(embeddings.silhouette(vectors, np.zeros(len(vectors)), apart))
    assert np.isnan(embeddings.silhouette(vectors[:2], np.array([0, 1]), apart[:2]))
    assert np.isnan(embeddings.silhouette(vectors, groups, np.repeat(np.arange(3), 30)))
    one = np.where(np.arange(len(groups)) < 30, -1, apart)
    expected = silhouette_samples(vectors, groups)[30:].sum() / 90
    assert embeddings.silhouette(vectors, groups, one) == pytest.approx(expected)


def test_projection_keeps_clusters_and_repeats() -> None:
    vectors, groups = clouds(30.0)
    places = embeddings.project(vectors, 10, seed=0)
    assert places.shape == (90, 2)
    assert embeddings.silhouette(places, groups, np.arange(90)) > 0.8
    assert np.array_equal(places, embeddings.project(vectors, 10, seed=0))
    assert embeddings.project(vectors[:6], 30, seed=0).shape == (6, 2)  # perplexity is cut
    assert embeddings.project(vectors[:3], 30, seed=0).shape == (3, 2)


def test_images_are_chosen_whatever_the_order() -> None:
    split = pd.DataFrame({"image_id": [f"{n:03}" for n in range(50)], "subset": ["val", "test"] * 25})
    chosen = embeddings.choose(split, "val", 10, seed=0)
    assert len(chosen) == 10
    assert set(chosen["subset"]) == {"val"}
    again = embeddings.choose(split.sample(frac=1, random_state=1), "val", 10, seed=0)
    pd.testing.assert_frame_equal(chosen, again)
    assert len(embeddings.choose(split, "", 100, seed=0)) == 50
    assert embeddings.choose(split, "", 10, seed=1)["image_id"].tolist() != chosen["image_id"].tolist()
