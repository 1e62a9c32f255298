"""Dividing images into parts: as good as the patients allow, compared with every assignment there is."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold
from urfm.core.errors import UrfmError
from urfm.data.splits.division import TOLERANCE, _folds, divide
from urfm.data.splits.stage import make_split

PARTS = {"train": 3, "val": 1, "test": 1}
SHARES = np.array([[0.6], [0.2], [0.2]])


def table(counts: list[list[int]]) -> pd.DataFrame:
    """Images of patients: counts[patient][class]."""
    rows = [
        (f"set/{patient:04}-{label}-{image:03}", f"set/{patient:04}", f"class {label}")
        for patient, images in enumerate(counts)
        for label, number in enumerate(images)
        for image in range(number)
    ]
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "label"])


def held(images: pd.DataFrame, subset: pd.Series) -> np.ndarray:
    """Images of each class in each part, (3, classes)."""
    assert images.assign(subset=subset).groupby("patient_id")["subset"].nunique().max() == 1
    found = pd.crosstab(subset.to_numpy(), images["label"].to_numpy())
    return found.reindex(list(PARTS), fill_value=0).to_numpy()


def assignments(counts: list[list[int]]) -> np.ndarray:
    """`held` of every assignment of the patients to the parts in which each part has every class, (n, 3, classes)."""
    images = np.array(counts)
    images = images[:, images.sum(axis=0) > 0]
    all_of_them = np.array(list(itertools.product(range(3), repeat=len(images))))
    every = np.stack([(all_of_them == part).astype(int) @ images for part in range(3)], axis=1)
    return every[(every > 0).all(axis=(1, 2))]


def worst(found: np.ndarray) -> np.ndarray:
    """The largest deviation from the shares, of one or of many `held`."""
    return np.abs(found / found.sum(axis=-2, keepdims=True) - SHARES).max(axis=(-2, -1))


def several_images(counts: list[list[int]]) -> bool:
    return max(map(sum, counts)) > 1


def patients(least: int, most: int, images: int) -> st.SearchStrategy[list[list[int]]]:
    """Any patients with any images of up to four classes; at least one has several."""
    number = st.integers(0, images)
    few = st.one_of(number, st.just(0), st.just(0))  # many patients without a class tie the classes together
    return st.integers(1, 4).flatmap(
        lambda classes: st.lists(
            st.lists(few, min_size=classes, max_size=classes).filter(any), min_size=least, max_size=most
        ).filter(several_images)
    )


@settings(max_examples=120, deadline=None)
@given(counts=patients(3, 7, 9), seed=st.integers(0, 9))
@example(counts=[[1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 2]], seed=0)
@example(counts=[[5, 0], [5, 5], [0, 5], [5, 5], [5, 5]], seed=0)
@example(counts=[[2], [2], [2]], seed=0)
@example(counts=[[2, 1], [2, 1]], seed=0)
def test_small_sets_are_divided_as_well_as_can_be(counts: list[list[int]], seed: int) -> None:
    """Every class in every part if any assignment has that, and none much further off than in the best one."""
    images = table(counts)
    possible = assignments(counts)
    if not len(possible):
        with pytest.raises(UrfmError, match=r"none is left for (train|val|test)|cannot be divided 3:1:1"):
            make_split(images, seed=seed)
        return
    found = held(images, divide(images, PARTS, seed))
    assert (found > 0).all()
    largest = (np.array(counts).max(axis=0) / np.maximum(np.array(counts).sum(axis=0), 1)).max()
    assert worst(found) <= max(TOLERANCE, worst(possible).min() + largest)


def test_small_sets_are_divided_in_the_best_way_there_is() -> None:
    """In nearly all cases: a search that moves two patients at most may stop before it."""
    random = np.random.default_rng(0)
    missed = []
    while len(missed) < 100:
        counts = random.integers(0, 12, (random.integers(4, 8), random.integers(1, 5)))
        counts = np.where(random.random(counts.shape) < 0.4, 0, counts)
        counts = counts[counts.any(axis=1)].tolist()
        if counts and several_images(counts) and len(possible := assignments(counts)):
            images = table(counts)
            found = held(images, divide(images, PARTS, 0))
            missed.append(worst(found) > max(TOLERANCE, worst(possible).min()) + 1e-9)
    assert sum(missed) <= 2


@settings(max_examples=40, deadline=None)
@given(counts=patients(10, 40, 12), seed=st.integers(0, 9))
def test_larger_sets_are_divided_better_than_by_chance(counts: list[list[int]], seed: int) -> None:
    """Every class in every part, and nearer to its shares, than in the best of 3,000 random assignments."""
    images = np.array(counts)
    images = images[:, images.sum(axis=0) > 0]
    drawn = np.random.default_rng(0).choice(3, p=SHARES[:, 0], size=(3000, len(images)))
    chance = np.stack([(drawn == part).astype(int) @ images for part in range(3)], axis=1)
    chance = chance[(chance > 0).all(axis=(1, 2))]
    rows = table(counts)
    found = held(rows, divide(rows, PARTS, seed))
    if len(chance):
        assert (found > 0).all()
        assert worst(found) <= max(TOLERANCE, worst(chance).min()) + 1e-9


@settings(max_examples=60, deadline=None)
@given(counts=patients(3, 30, 6), seed=st.integers(0, 9), order=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(counts: list[list[int]], seed: int, order: object) -> None:
    images = table(counts)
    rows = list(range(len(images)))
    order.shuffle(rows)  # type: ignore[attr-defined]
    shuffled = images.iloc[rows].set_index(pd.Index(rows[::-1]))
    assert outcome(shuffled, seed) == outcome(images, seed)


def outcome(images: pd.DataFrame, seed: int) -> list[str]:
    """The parts of a split in the order of image_id, or why there is none."""
    try:
        return make_split(images, seed=seed)["subset"].tolist()
    except UrfmError as error:
        return [str(error)]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    ratio=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 9),
)
def test_one_image_each(sizes: list[int], ratio: tuple[int, int, int], seed: int) -> None:
    """Three images of a class are enough for all parts; the shares are kept to one image (train and val) and two."""
    labels = [f"class {label}" for label, size in enumerate(sizes) for _ in range(size)]
    names = [f"set/{number}" for number in range(len(labels))]
    images = pd.DataFrame({"image_id": names, "patient_id": names, "label": labels}).sort_values("image_id")
    images = images.reset_index(drop=True)
    if min(sizes) < 3:
        with pytest.raises(UrfmError, match=f"class 'class {sizes.index(min(sizes))}'|none is left"):
            make_split(images, ratio, seed)
        return
    split = make_split(images, ratio, seed)
    found = held(images, split["subset"])
    assert (found > 0).all()
    wanted = np.array(ratio)[:, None] * found.sum(axis=0) / sum(ratio)
    assert (np.abs(found - wanted) < 2).all()
    plenty = found.sum(axis=0) * min(ratio) >= sum(ratio)  # each part's share is an image or more
    assert (np.abs(found - wanted)[:2, plenty] < 1).all()


def test_a_patient_with_most_of_a_class_trains() -> None:
    """StratifiedGroupKFold alone puts such a patient in any fold, here with less than a quarter left to train."""
    counts = [[300, 0]] + [[2, 0]] * 100 + [[0, 2]] * 100
    for seed in range(5):
        images = table(counts)
        subset = divide(images, PARTS, seed)
        assert set(subset[images["patient_id"] == "set/0000"]) == {"train"}
        assert worst(held(images, subset)) < 0.021


def test_re_splits_test_large_patients_too() -> None:
    """The shuffle of StratifiedGroupKFold leaves them in their folds; by chance 0.8^10, a tenth, are never tested."""
    sizes = range(60, 30, -1)
    images = table([[size, 0] for size in sizes] + [[0, size] for size in sizes] + [[1, 0], [0, 1]] * 200)
    large = images["patient_id"] < "set/0060"
    tested = [set(images["patient_id"][large & (divide(images, PARTS, seed) == "test")]) for seed in range(10)]
    assert len(set.union(*tested)) >= 54  # of 60; without turning the folds' roles 12
    assert max(sum(name in some for some in tested) for name in set.union(*tested)) <= 6


def test_two_parts() -> None:
    images = table([[4, 0]] * 30 + [[0, 3]] * 22)
    subset = divide(images, {"val": 1, "train": 3}, 0)
    found = pd.crosstab(subset, images["label"])
    assert (abs(found.loc["val"] / found.sum() - 0.25) <= 0.03).all()
    single = images.drop_duplicates("patient_id", ignore_index=True)
    found = pd.crosstab(divide(single, {"val": 1, "train": 3}, 0), single["label"])
    assert found.loc["val"].tolist() == [7, 5]
    assert found.loc["train"].tolist() == [23, 17]


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
@settings(max_examples=200, deadline=None)
@given(counts=patients(13, 60, 13), folds=st.integers(2, 13), seed=st.integers(0, 99))
def test_folds_are_those_of_scikit_learn(counts: list[list[int]], folds: int, seed: int) -> None:
    """To the patient. Should a new scikit-learn deal them out otherwise, splits stay, and this test says so."""
    images = table(counts)
    of_each = pd.crosstab(images["patient_id"], images["label"])
    ours = _folds(of_each.to_numpy(), folds, seed)
    scikit_learns = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    try:
        parts = [
            set(images["patient_id"].iloc[rows])
            for _, rows in scikit_learns.split(images, images["label"], images["patient_id"])
        ]
    except ValueError:
        assert ours is None
        return
    assert ours is not None
    assert [set(of_each.index[ours == number]) for number in range(folds)] == parts


@pytest.mark.parametrize("counts", [[[2], [2]], [[1, 0], [0, 1], [1, 0], [0, 1]]])
def test_too_few_patients_or_images_for_folds(counts: list[list[int]]) -> None:
    assert _folds(np.array(counts), 3, 0) is None
