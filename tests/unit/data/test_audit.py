"""The leakage audit on small sets with planted duplicates, from manifests on disk to the contact sheet."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from near_copies import COPIES, brightened, cropped, picture, to_image
from PIL import Image
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256
from urfm.data.images.decode import decode
from urfm.data.images.pixels import pixel_sha256
from urfm.data.leakage import audit, duplicates
from urfm.data.leakage.perceptual import perceptual_hash
from urfm.data.leakage.seen import COUNTS
from urfm.data.manifest import write_manifest
from urfm.data.records import ManifestSettings
from urfm.figures import duplicates_sheet
from urfm.simulation.archive import SimulateSettings
from urfm.simulation.simulate import simulate


class World:
    """A data root with data sets, their manifests, splits and pre-training sets, as the stages before write them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "data"
        self.results = folder / "results"
        self.output = self.results / "audit"
        self.rows: dict[str, list[dict[str, object]]] = {}

    def add(self, image_id: str, pixels: np.ndarray, suffix: str = "png", **columns: object) -> None:
        path = self.root / f"{image_id}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        to_image(pixels).save(path)
        self.describe(image_id, path, **columns)

    def describe(self, image_id: str, path: Path, frame: str = "", **columns: object) -> None:
        decoded = decode(path, frame)
        dataset = image_id.split("/")[0]
        row = {
            "image_id": image_id,
            "path": path.relative_to(self.root).as_posix(),
            "sha256": sha256(path),
            "pixel_sha256": pixel_sha256(decoded),
            "phash": perceptual_hash(decoded),
            "patient_id": image_id,
            "patient_source": "none",
            "label": "",
            "frame": frame,
            "official_split": "",
            "excluded_reason": "",
        }
        if "patient" in columns:
            row |= {"patient_id": f"{dataset}/{columns.pop('patient')}", "patient_source": "metadata"}
        self.rows.setdefault(dataset, []).append(row | columns)

    def write(self, kind: str, name: str, table: pd.DataFrame, **record: object) -> Path:
        path = self.results / kind / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)
        path.with_suffix(".json").write_text(json.dumps({**record, "sha256": sha256(path)}))
        return path.with_suffix(".json")

    def run(
        self,
        monkeypatch: pytest.MonkeyPatch,
        splits: dict[str, dict[str, str]] | None = None,
        pretraining: list[str] | dict[str, list[str]] | None = None,
        simulated: tuple[str, ...] = (),
    ) -> pd.DataFrame:
        """Run the stage; splits are image ids and their subsets by task, and the ids say the data set.

        What pre-training sees is a list, of the run urfm, or a list for each run.
        """
        manifests = [
            self.write("manifests", name, pd.DataFrame(rows), dataset=name, simulated=name in simulated)
            for name, rows in self.rows.items()
        ]
        tasks = [
            self.write(
                "splits", task, pd.DataFrame(subsets.items(), columns=["image_id", "subset"]),
                task=task, dataset=next(iter(subsets)).split("/")[0],
            )
            for task, subsets in (splits or {}).items()
        ]  # fmt: skip
        runs = pretraining if isinstance(pretraining, dict) else {"urfm": pretraining or []}
        selections = [
            self.write("pretrain_sets", run, pd.DataFrame({"image_id": ids}, dtype=str), run=run)
            for run, ids in runs.items()
        ]
        arguments = [
            "--settings",
            '{"distance": 36}',
            "--output",
            self.output,
            "--manifests",
            *manifests,
            "--splits",
            *tasks,
        ]
        monkeypatch.setattr("sys.argv", ["audit", *map(str, [*arguments, "--selections", *selections])])
        audit.main()
        return pd.read_parquet(self.output / "pairs.parquet")

    def sheet(self, monkeypatch: pytest.MonkeyPatch) -> Path:
        arguments = ["--settings", '{"pairs": 6, "dpi": 100}', "--root", self.root, "--audit", self.output]
        monkeypatch.setattr("sys.argv", ["sheet", *map(str, [*arguments, "--output", self.output / "pairs"])])
        duplicates_sheet.main()
        return self.output / "pairs.png"

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.output / f"{name}.csv", keep_default_na=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def by_ids(pairs: pd.DataFrame) -> dict[frozenset[str], tuple[str, str]]:
    ids = [frozenset(pair) for pair in zip(pairs["image_id_a"], pairs["image_id_b"], strict=True)]
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, zip(pairs["kind"], pairs["finding"], strict=True), strict=True))


def test_every_planted_duplicate_is_found_and_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test images of a task in a pre-training set: as a file, as pixels, and as each kind of near copy."""
    expected = {}
    for number, name in enumerate(["file", "pixels", *COPIES]):
        original = picture(number)
        world.add(f"task/{number}", original, patient=f"p{number}", label="benign")
        if name == "file":
            world.add(f"pre/{number}", original)
        elif name == "pixels":
            world.add(f"pre/{number}", original, "bmp")
        else:
            world.add(f"pre/{number}", COPIES[name](original))
        expected[frozenset((f"task/{number}", f"pre/{number}"))] = (
            name if name in ("file", "pixels") else "near",
            "test image seen in pre-training",
        )
    for number in range(100, 110):
        world.add(f"task/{number}", picture(number), patient=f"p{number}", label="benign")
        world.add(f"pre/{number}", picture(number + 100))
    ids = [str(row["image_id"]) for row in world.rows["task"]]
    split = {"tumour": {name: "test" if int(name[5:]) < 105 else "val" for name in ids}}
    pairs = world.run(monkeypatch, split, [str(row["image_id"]) for row in world.rows["pre"]])
    assert by_ids(pairs) == expected

    tasks = world.table("tasks").set_index("subset")
    assert tasks.loc["test", ["images", "image", "file", "pixels", "near", "patient", "seen"]].tolist() == [
        len(COPIES) + 7, 0, 1, 1, len(COPIES), 0, len(COPIES) + 2,
    ]  # fmt: skip
    assert tasks.loc["test", "seen_percent"] == round(100 * (len(COPIES) + 2) / (len(COPIES) + 7), 2)
    assert tasks.loc["test", "seen_in"] == f"pre {len(COPIES) + 2}"
    assert tasks.loc["val", ["images", "seen"]].tolist() == [5, 0]
    # The one run has seen what all runs have.
    runs = world.table("runs").set_index("run")
    assert runs.index.tolist() == ["urfm"]
    assert runs.loc["urfm", COUNTS].tolist() == tasks.loc["test", COUNTS].tolist()
    record = read_json(world.output / "audit.json")
    assert record["kinds"] == {"file": 1, "pixels": 1, "near": len(COPIES)}
    assert record["manifests"]["pre"] == sha256(world.results / "manifests" / "pre.parquet")
    assert record["simulated"] == []


def test_what_pre_training_does_not_choose_is_not_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("task/1", picture(1), label="a")
    world.add("pre/1", picture(1))
    world.add("pre/2", cropped(picture(1), 0.02, 0.03, 0.02, 0.03))
    split = {"tumour": {"task/1": "test"}}
    pairs = world.run(monkeypatch, split, [])
    assert set(pairs["finding"]) == {"between data sets", "within a data set"}
    assert world.table("tasks")["seen"].tolist() == [0, 0, 0]
    world.run(monkeypatch, split, ["pre/2"])
    assert world.table("tasks").set_index("subset").loc["test", ["pixels", "near", "seen"]].tolist() == [0, 1, 1]


def test_a_set_that_is_task_and_pre_training_shares_images_and_patients(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        world.add(f"fetal/{number}", picture(number), patient=f"p{number // 2}", label="brain")
    split = {"plane": {f"fetal/{number}": "test" if number < 6 else "train" for number in range(8)}}
    world.run(monkeypatch, split, ["fetal/0", "fetal/1", "fetal/2"])
    tasks = world.table("tasks").set_index("subset")
    # 0 to 2 are used themselves, 3 is of the patient of 2; of patients 4/5 and 6/7 nothing is used.
    assert tasks.loc["test", ["images", "image", "patient", "seen"]].tolist() == [6, 3, 1, 4]
    assert tasks.loc["train", "seen"] == 0


def test_each_run_has_seen_what_it_chose(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set of a task is also one for pre-training; `clean` leaves out whoever is tested, and takes another set."""
    for number in range(8):
        world.add(f"fetal/{number}", picture(number), patient=f"p{number // 2}", label="brain")
    for number in range(10, 14):
        world.add(f"task/{number}", picture(number), patient=f"p{number}", label="x")
    world.add("pre/10", picture(10))
    world.add("pre/11", picture(11), "bmp")
    world.add("pre/12", brightened(picture(12), 4))  # the nearest one to task/12
    world.add("pre/13", cropped(picture(12), 0.03, 0.03, 0.02, 0.02))  # less near to it, in the same place otherwise
    split = {
        "tumour": {f"task/{number}": "test" for number in range(10, 14)},
        "plane": {f"fetal/{number}": "test" if number < 4 else "train" for number in range(8)},
    }
    chosen = {
        "urfm": [f"fetal/{number}" for number in (0, 1, 2, 5)] + ["pre/10", "pre/12"],
        "other": ["pre/13", "pre/11"],
        "clean": [f"fetal/{number}" for number in range(4, 8)],
        "plane": [],  # a run may be called as a task is
    }
    pairs = world.run(monkeypatch, split, chosen, simulated=("pre",))
    runs = world.table("runs").set_index(["task", "run"])
    assert runs.index.tolist() == [(task, run) for task in ("plane", "tumour") for run in chosen]
    columns = ["images", "image", "file", "pixels", "near", "patient", "seen", "seen_percent", "seen_in", "simulated"]
    none = [4, 0, 0, 0, 0, 0, 0, 0, "", False]
    assert {index: row.tolist() for index, row in runs[columns].iterrows()} == {
        ("plane", "urfm"): [4, 3, 0, 0, 0, 1, 4, 100, "fetal 4", True],
        ("plane", "other"): [*none[:-1], True],
        ("plane", "clean"): none,
        ("plane", "plane"): none,
        ("tumour", "urfm"): [4, 0, 1, 0, 1, 0, 2, 50, "pre 2", True],
        ("tumour", "other"): [4, 0, 0, 1, 1, 0, 2, 50, "pre 2", True],
        ("tumour", "clean"): none,
        ("tumour", "plane"): none,
    }
    assert world.table("runs").equals(pd.read_parquet(world.output / "runs.parquet"))

    # Which run has chosen an image changes neither the pooled table nor the pairs that are listed.
    pooled = world.table("tasks")
    assert pooled.set_index(["task", "subset"]).loc[("tumour", "test"), ["file", "pixels", "near"]].tolist() == [
        1,
        1,
        1,
    ]
    together = world.run(monkeypatch, split, sorted(set().union(*chosen.values())), simulated=("pre",))
    assert world.table("tasks").equals(pooled)
    assert together.equals(pairs)


def test_labels_that_contradict_each_other_are_listed_also_when_excluded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "the same picture occurs under another label"
    world.add("buv/1", picture(1), patient="a", label="benign", excluded_reason=reason)
    world.add("buv/2", picture(1), patient="b", label="malignant", excluded_reason=reason)
    world.add("buv/3", picture(3), patient="c", label="benign")
    world.add("buv/4", brightened(picture(3), 20), patient="d", label="malignant")
    world.add("buv/5", picture(5), patient="e", label="benign")
    world.add("buv/6", picture(5), patient="e", label="malignant")  # one patient, but the labels contradict
    world.add("buv/mask", picture(3), patient="c", excluded_reason="a mask")  # without a label: no image of anyone
    pairs = by_ids(world.run(monkeypatch))
    assert pairs == {
        frozenset(("buv/1", "buv/2")): ("file", "across labels"),
        frozenset(("buv/3", "buv/4")): ("near", "across labels"),
        frozenset(("buv/5", "buv/6")): ("file", "across labels"),
    }
    table = world.table("datasets").set_index("dataset").loc["buv"]
    assert table[["images", "excluded", "across_labels"]].tolist() == [4, 2, 6]


def test_frames_of_one_patient_are_counted_not_listed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video: all frames near one another; two of them equal; a frame of it is another patient's too."""
    for number in range(6):
        world.add(f"video/{number}", brightened(picture(1), 3 * number), patient="a", label="benign")
    world.add("video/6", brightened(picture(1), 15), patient="a", label="benign")
    pairs = world.run(monkeypatch)
    assert len(pairs) == 0
    assert world.table("datasets").loc[0, ["near_pairs", "one_patient_pairs"]].tolist() == [0, 15]
    world.add("video/7", brightened(picture(1), -5), patient="b", label="benign")
    pairs = world.run(monkeypatch)
    # Six different pictures of patient a are near it. Each has it as its nearest one, it has one of them.
    assert len(pairs) == 6
    assert set(pairs["image_id_b"]) == {"video/7"}
    assert world.table("datasets").loc[0, "near_pairs"] == 6


def test_one_file_may_hold_many_frames(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's hash alone says nothing: only equal pictures of equal files are one file twice."""
    frames = np.stack([picture(number, 80, 100)[..., 0].T for number in range(3)], axis=2)
    for name, content in (("one", frames), ("two", frames)):
        path = world.root / "camus" / f"{name}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.nifti1.Nifti1Image(content, np.eye(4)), path)
        for frame in ("0", "1", "2"):
            world.describe(f"camus/{name}-{frame}", path, frame, patient=name)
    pairs = by_ids(world.run(monkeypatch))
    assert pairs == {
        frozenset((f"camus/one-{frame}", f"camus/two-{frame}")): ("file", "within a data set") for frame in range(3)
    }


def test_a_published_split_leaks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        world.add(f"ovary/{number}", picture(number), official_split="train", patient=f"p{number}")
    world.add("ovary/10", cropped(picture(0), 0.03, 0.02, 0.03, 0.02), official_split="val", patient="p10")
    world.add("ovary/11", picture(1), official_split="test", patient="p11")
    world.add("ovary/12", picture(12), official_split="test", patient="p2")  # a patient in two parts
    world.add("ovary/13", brightened(picture(3), 20), official_split="train", patient="p13")  # does not cross
    pairs = by_ids(world.run(monkeypatch))
    assert pairs == {
        frozenset(("ovary/0", "ovary/10")): ("near", "across the published split"),
        frozenset(("ovary/1", "ovary/11")): ("file", "across the published split"),
        frozenset(("ovary/3", "ovary/13")): ("near", "within a data set"),
    }
    table = world.table("datasets").loc[0]
    assert table[["split_pairs", "split_images", "split_patients"]].tolist() == [2, 4, 1]


def test_proxy_patients_do_not_hide_what_they_were_made_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = {"patient_id": "ovary/0", "patient_source": "near_duplicates"}
    world.add("ovary/0", picture(0), official_split="train", **proxy)
    world.add("ovary/1", cropped(picture(0), 0.03, 0.02, 0.03, 0.02), official_split="val", **proxy)
    assert by_ids(world.run(monkeypatch)) == {frozenset(("ovary/0", "ovary/1")): ("near", "across the published split")}


def test_duplicates_across_the_tasks_own_split(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("task/1", picture(1), patient="a", label="x")
    world.add("task/2", picture(1), patient="b", label="x")
    world.add("task/3", brightened(picture(1), 15), patient="c", label="x")
    world.add("task/4", picture(4), patient="d", label="x")
    split = {"tumour": {"task/1": "train", "task/2": "test", "task/3": "val", "task/4": "test"}}
    pairs = by_ids(world.run(monkeypatch, split))
    assert pairs[frozenset(("task/1", "task/2"))] == ("file", "test image in the training part")
    assert pairs[frozenset(("task/1", "task/3"))] == ("near", "across subsets of a task")
    tasks = world.table("tasks").set_index("subset")["in_train"]
    assert tasks.to_dict() == {"train": 0, "val": 1, "test": 1}


def test_equal_pictures_in_one_place_are_all_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal pictures one stands for all in the search; what is found for it holds for the others."""
    for number in range(5):
        world.add(f"task/{number}", picture(1), patient=f"p{number}", label="x")
    world.add("pre/1", cropped(picture(1), 0.03, 0.03, 0.02, 0.02))
    world.run(monkeypatch, {"tumour": {f"task/{number}": "test" for number in range(5)}}, ["pre/1"])
    tasks = world.table("tasks").set_index("subset").loc["test"]
    assert tasks[["near", "seen", "seen_percent"]].tolist() == [5, 5, 100]


def test_a_large_cluster_is_listed_once_an_image(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    images = duplicates.Images(
        rows=pd.DataFrame({"pixels": range(500), "patient": range(500), "known": False, "source": 0, "place": 0}),
        hashes=np.full((500, 4, 3), 0xABCDEF, np.uint64),
        places=pd.DataFrame(),
    )
    monkeypatch.setattr(duplicates, "WAITING", 1000)
    pairs, across, _ = duplicates.near_pairs(images, 36)
    assert across.total() == 500 * 499 // 2
    assert len(pairs) == 499
    assert set(pairs["first"]) | set(pairs["second"]) == set(range(500))


def test_results_do_not_depend_on_the_order_of_manifests_and_say_simulated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        world.add(f"task/{number}", picture(number), patient=f"p{number}", label="x")
        world.add(f"pre/{number}", brightened(picture(number), 10))
    split = {"tumour": {f"task/{number}": "test" for number in range(3)}}
    seen = ["pre/0", "pre/1", "pre/2"]
    world.run(monkeypatch, split, seen, simulated=("pre",))
    first = {path.name: path.read_bytes() for path in world.output.iterdir()}
    world.rows = dict(reversed(world.rows.items()))
    world.run(monkeypatch, split, seen, simulated=("pre",))
    assert {path.name: path.read_bytes() for path in world.output.iterdir()} == first
    for name in ("pairs", "tasks"):
        assert set(world.table(name)["simulated"]) == {True}
    assert world.table("datasets").set_index("dataset")["simulated"].to_dict() == {"pre": True, "task": False}
    assert read_json(world.output / "audit.json")["simulated"] == ["pre"]


def test_the_sheet_shows_pictures_and_says_what_it_cannot_show(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        world.add(f"task/{number}", picture(number), patient=f"p{number}", label="x")
        world.add(f"pre/a-long-name-without-any-end-{number:040}/{number}", brightened(picture(number), 10))
    world.run(monkeypatch, simulated=("pre",))
    marked = Image.open(world.sheet(monkeypatch)).convert("RGB")
    assert (np.asarray(marked) == (176, 0, 0)).all(axis=2).any()  # the red band
    world.run(monkeypatch)
    (world.root / "task" / "0.png").unlink()
    plain = Image.open(world.sheet(monkeypatch)).convert("RGB")
    assert not (np.asarray(plain) == (176, 0, 0)).all(axis=2).any()
    assert plain.height < marked.height
    assert plain.width == round(174 / 25.4 * 100)

    (world.output / "pairs.csv").write_text("finding\n")
    with pytest.raises(UrfmError, match="its content changed"):
        world.sheet(monkeypatch)


def test_the_sheet_takes_turns_among_findings() -> None:
    rows = [("near", "a")] * 10 + [("file", "a")] * 2 + [("near", "b")] * 3
    pairs = pd.DataFrame(rows, columns=["kind", "dataset_a"]).assign(finding="f", dataset_b="z")
    pairs["number"] = range(len(pairs))
    assert duplicates_sheet.choose(pairs, 5)["number"].tolist() == [0, 1, 10, 11, 12]


def test_nothing_found_is_a_result_and_no_data_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("task/1", picture(1), label="x")
    assert len(world.run(monkeypatch)) == 0
    assert world.sheet(monkeypatch).stat().st_size > 0
    monkeypatch.setattr("sys.argv", ["audit", "--settings", '{"distance": 36}', "--output", str(world.output)])
    with pytest.raises(UrfmError, match="none to audit"):
        audit.main()


PLANTED = {  # data set: reader, folder, patients, seed
    "lepset": ("lepset", "LEPset", 12, 16),
    "lepset_unlabelled": ("lepset_unlabelled", "LEPset", 0, 0),
    "uf1990": ("uf1990", "UF1990", 14, 8),
    "mmotu": ("mmotu", "MMOTU", 24, 9),
    "ultrasoundcases": ("ultrasoundcases", "ultrasoundcases", 4, 13),
    "buid": ("buid", "BUID", 12, 10),
    "own": ("generic", "Own", 12, 3),
    "own_scans": ("generic", "Own-scans", 12, 4),
}


def test_what_the_simulator_planted_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every copy, exact or altered, in the set it lies in or in another, unless both are of one known patient."""
    root, results = tmp_path / "data", tmp_path / "results"
    for dataset, (reader, folder, patients, seed) in PLANTED.items():
        if patients:
            own = {"organ": "thyroid", "labels": {"benign": 2, "malignant": 1}} if dataset == "own" else {}
            own |= {"organ": "thyroid"} if dataset == "own_scans" else {}
            settings = SimulateSettings(dataset=dataset, layout=reader, patients=patients, seed=seed, **own)
            simulate(settings, root / folder)
        described = ManifestSettings(dataset=dataset, reader=reader, folder=folder, organ="x", source="y")
        write_manifest(root, described, 2, *(results / f"{dataset}{end}" for end in (".parquet", ".csv")))
        summary = {"dataset": dataset, "simulated": True, "sha256": sha256(results / f"{dataset}.parquet")}
        (results / f"{dataset}.json").write_text(json.dumps(summary))
    manifests = [str(results / f"{dataset}.json") for dataset in PLANTED]
    monkeypatch.setattr(
        "sys.argv",
        ["audit", "--settings", '{"distance": 36}', "--manifests", *manifests, "--output", str(results / "audit")],
    )
    audit.main()
    pairs = pd.read_parquet(results / "audit" / "pairs.parquet")

    images = pd.concat([pd.read_parquet(results / f"{dataset}.parquet") for dataset in PLANTED])
    patient = images[images["patient_source"] == "path"].set_index("path")["patient_id"]
    group = {path: {path} for path in images["path"]}  # pictures that a chain of pairs connects
    for one, other in pairs[["path_a", "path_b"]].itertuples(index=False):
        together = group[one] | group[other]
        group.update(dict.fromkeys(together, together))

    shared: dict[str, list[str]] = {}
    kinds = set()
    for folder in {folder for _, folder, _, _ in PLANTED.values()}:
        for kind, original, copy in read_json(root / folder / "SIMULATED.json")["planted"]:
            if original.startswith("shared/"):
                shared.setdefault(original, []).append(f"{folder}/{copy}")
            else:
                first, second = f"{folder}/{original}", f"{folder}/{copy}"
                one_patient = first in patient and patient[first] == patient.get(second)
                assert second in group[first] or one_patient, (kind, first, second)
                kinds.add(kind)
    assert kinds >= {"exact", "resized", "quality 60", "cropped", "brighter"}
    assert sum(len(copies) > 1 for copies in shared.values()) == 2  # a thyroid and a breast
    for copies in shared.values():
        assert group[copies[0]] >= set(copies)
