"""The doctor's report: right on no data, on the real ones, on simulated ones, and on what is damaged."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_trees import TREES
from configurations import HOME, PAPER
from PIL import Image
from urfm.doctor import inventory
from urfm.doctor.entries import Entry, entries
from urfm.doctor.report import DoctorSettings, report
from urfm.doctor.steps import download_command, next_steps
from urfm.doctor.stock import ready
from urfm.doctor.storage import loaders
from urfm.plan import grid, settings
from urfm.simulation import simulate

BIOMEDCLIP = "biomedclip/open_clip_pytorch_model.bin"


def busbra(config: dict[str, Any], images: int) -> Path:
    """BUS-BRA's layout with two listed images, of which `images` have a file."""
    folder = Path(config["data_root"]) / "BUSBRA"
    (folder / "Images").mkdir(parents=True)
    names = ["bus_0001-l", "bus_0001-r"]
    rows = [f"{name},1,benign,GE,10,10,left" for name in names]
    (folder / "bus_data.csv").write_text("\n".join(["ID,Case,Pathology,Device,Width,Height,Side", *rows]) + "\n")
    for name in names[:images]:
        (folder / "Images" / f"{name}.png").touch()
    return folder


def private(config: dict[str, Any], name: str) -> None:
    """A set in the generic format, one image."""
    folder = Path(config["data_root"]) / config["datasets"][name]["folder"]
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "1.png").touch()
    (folder / "metadata.csv").write_text("image,patient_id,label\n1.png,1,\n")


def checkpoint(config: dict[str, Any], name: str, content: bytes = b"weights") -> Path:
    path = Path(config["checkpoint_root"]) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def look(config: dict[str, Any]) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries(config)}


def lines(config: dict[str, Any], width: int = 100) -> list[str]:
    """The report, through the same JSON as the command line gets."""
    text = json.dumps(settings.data.doctor(config))
    results = Path(config["data_root"]).parent / "results"
    return list(report(DoctorSettings.model_validate_json(text).model_dump(), results, width))


def block(output: list[str], beginning: str) -> str:
    """An entry of the report, as one line."""
    start = next(number for number, line in enumerate(output) if line.startswith(beginning))
    end = next(number for number, line in enumerate(output) if number > start and not line.startswith(" "))
    return " ".join(" ".join(output[start:end]).split())


@pytest.mark.parametrize("there", [True, False])
def test_no_data(config: dict[str, Any], there: bool) -> None:
    if not there:
        Path(config["data_root"]).rmdir()
    found = look(config)
    assert set(PAPER["datasets"]) < set(found)
    assert {entry.state.word for entry in found.values()} == {"absent"}
    output = lines(config)
    text = "\n".join(output)
    assert "figure_2: nothing yet; 0 of 6 models; 0 of 10 tasks" in text
    described = block(output, "- absent     radimagenet")
    models = "URFM (figures 2, 3, 4, 8, balanced_sampling), MIM-US (figures 2, 3, 4, 8), Deblur-MIM (figures 2, 3, 8), "
    assert f"389,746 images expected for pre-training of {models}" in described
    assert described.endswith(
        "images in table_1, table_3 licence: as agreed in the form get it: "
        "https://www.radimagenet.com (through a form). Fill in the request form. Unpack so that the folder holds "
        "radiology_ai/US/."
    )
    places = f"data_root={config['data_root']} checkpoint_root={config['checkpoint_root']}"
    assert f"snakemake --cores 1 download --config 'download=[busbra]' {places}" in text
    assert f"snakemake --cores 1 download --config 'download=[mim_imagenet]' {places}" in text
    first = output[output.index("What to get next") + 1]
    assert first.startswith(f"  1. snakemake --cores 1 download --config {places}:")
    config |= {"data_root": "data", "checkpoint_root": "checkpoints"}  # the defaults need no mention
    assert download_command(config).replace("\u00a0", " ") == "snakemake --cores 1 download"
    # Private sets say it once.
    assert text.count("Ask the paper's lead") == 1
    assert len(re.findall(r"get it: as \w+", text)) == 7


@pytest.mark.data
def test_real_data(config: dict[str, Any], real_data: Path) -> None:
    """BUS-BRA is whole, the liver set a part, and of the fetal planes there is only the table."""
    config["data_root"] = str(real_data)
    found = look(config)
    assert found["busbra"].state[:3] == ("present", True, ["1,875 images, 1,064 patients, as expected"])
    assert found["aul"].state.word == "partial"
    assert found["aul"].state.facts == [
        "190 images (735 expected), 190 patients (735 expected), 60 benign (200 expected), "
        "90 malignant (435 expected), 40 normal (100 expected)"
    ]
    assert found["fetal_planes"].state.word == "absent"
    output = lines(config)
    assert "move it away, then snakemake" in block(output, "~ partial    aul")
    assert "  table_2: 2 of 11 tasks (Breast tumor, Liver mass)" in output
    assert any(line.startswith("  2. complete aul: 190 images (735 expected)") for line in output)

    config["datasets"]["fetal_planes"]["folder"] = "fetal_planes"
    state = inventory.look_at_dataset(config, "fetal_planes")
    assert (state.word, state.usable) == ("partial", False)
    assert state.facts[0].startswith("0 images (12,400 expected)")
    assert state.facts[1] == "no file for 12,400 of the listed images"
    assert "the workflow stops at it" in state.facts[2]
    assert "  table_2: 2 of 11 tasks (Breast tumor, Liver mass)" in lines(config)


def test_simulated_data(config: dict[str, Any]) -> None:
    """Before the demo's first run, and on what it makes: the folders say what they are; no real counts expected."""
    names = {"busbra": "Breast tumor", "aul": "Liver mass", "lepset": "Pancreatic cancer"}
    config["simulation"] = {name: {"patients": 10, "seed": 0} for name in names}
    found = look(config)
    assert {name for name in found if found[name].state.word == "simulated"} == {*names, "lepset_unlabelled"}
    assert found["aul"].state[:3] == ("simulated", True, ["not made yet; the workflow makes it when it is needed"])
    made = {}
    for name in names:
        stage = simulate.SimulateSettings.model_validate(settings.data.simulate(config, name))
        made[name] = simulate.simulate(stage, Path(config["data_root"]) / config["datasets"][name]["folder"])
    for simulation in (config["simulation"], {}):
        config["simulation"] = simulation
        found = look(config)
        counts = {name: int(found[name].state.facts[0].split()[0]) for name in (*names, "lepset_unlabelled")}
        counts["lepset"] += counts.pop("lepset_unlabelled")  # one archive
        assert counts == made
        output = lines(config)
        assert f"  table_2: 3 of 11 tasks ({', '.join(names.values())})" in output
        assert block(output, "* simulated  busbra").endswith("licence: CC BY 4.0")  # nothing to get
        assert "(735 expected)" not in "".join(output)


def test_some_images_are_absent(config: dict[str, Any]) -> None:
    config["datasets"]["busbra"]["expected"] = {"images": 2, "patients": 1, "labels": {"benign": 2}}
    folder = busbra(config, 1)
    state = inventory.look_at_dataset(config, "busbra")
    assert state.word == "partial"
    assert state.facts == [
        "1 images (2 expected), 1 patients, 1 benign (2 expected)",
        "no file for 1 of the listed images",
    ]
    (folder / "Images" / "bus_0001-r.png").touch()
    assert inventory.look_at_dataset(config, "busbra")[:3] == ("present", True, ["2 images, 1 patients, as expected"])
    del config["datasets"]["busbra"]["expected"]
    assert inventory.look_at_dataset(config, "busbra")[:3] == ("present", True, ["2 images, 1 patients"])


@pytest.mark.parametrize(
    ("name", "counts", "others"),
    [
        ("busbra", "2 images, 2 patients", ["1 left out (not listed in bus_data.csv)", "no file for 1 of"]),
        ("aul", "3 images, 3 patients", []),
        ("lepset", "5 images", []),  # of one the patient is not known
        ("lepset_unlabelled", "2 images", []),
        ("uf1990", "6 images", []),
        ("mmotu", "3 images", ["1 left out (its label in train_cls.txt, 8", "1 left out (listed 2 times",
                               "1 left out (not listed in", "no file for 1 of"]),
        ("buid", "5 images, 5 patients", []),
        ("radimagenet", "8 images", []),
        ("buv", "8 images, 3 patients", ["2 left out ("]),
        ("camus", "1 images, 1 patients", ["no file for 1 of the listed images"]),
        ("ultrasoundcases", "4 images", []),
        ("thyroid4k", "2 images", ["1 left out (not listed in metadata.csv)", "no file for 1 of"]),
    ],
)  # fmt: skip
def test_every_reader(config: dict[str, Any], name: str, counts: str, others: list[str]) -> None:
    """What the small trees hold, by hand."""
    record = config["datasets"][name]
    del record["expected"], record["origin"]
    TREES[record["reader"]](Path(config["data_root"]) / record["folder"])
    facts = inventory.look_at_dataset(config, name).facts
    assert facts[0] == counts
    assert len(facts) == 1 + len(others)
    for fact, beginning in zip(facts[1:], others, strict=True):
        assert fact.startswith(beginning)


def test_more_are_published_than_the_paper_counts(config: dict[str, Any]) -> None:
    """BUV: 25,272 frames are all there are, whatever the paper says."""
    config["datasets"]["busbra"] |= {"expected": {"images": 5}, "origin": {"images": 2}}
    busbra(config, 2)
    assert inventory.look_at_dataset(config, "busbra").word == "present"


def test_what_a_reader_refuses(config: dict[str, Any]) -> None:
    """Its sentence is shown, and nothing is said to be drawable from it."""
    folder = Path(config["data_root"]) / "BUSBRA"
    folder.mkdir()
    output = lines(config)
    text = block(output, "~ partial    busbra")
    assert f"cannot be read: {folder}: neither it nor a folder in it holds bus_data.csv" in text
    assert "the workflow stops at it: complete it, or move the folder away to go on without busbra" in text
    assert "  table_2: nothing yet; 0 of 11 tasks" in output


def test_dicom_is_refused_as_the_manifest_does(config: dict[str, Any]) -> None:
    config["datasets"]["mine"] = {"reader": "generic", "folder": "Mine", "organ": "breast", "source": "Me"}
    folder = Path(config["data_root"]) / "Mine"
    (folder / "images").mkdir(parents=True)
    for name in ("1.dcm", "2.dcm"):
        (folder / "images" / name).write_bytes(bytes(128) + b"DICM" + bytes(100))
    (folder / "metadata.csv").write_text("image,patient_id,label\n1.dcm,1,benign\n2.dcm,2,benign\n")
    state = inventory.look_at_dataset(config, "mine")
    assert (state.word, state.usable) == ("partial", False)
    assert "2 left out (DICOM files, which are not read; export them as PNG)" in state.facts
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(folder / "images" / "3.png")
    with open(folder / "metadata.csv", "a") as stream:
        stream.write("3.png,3,benign\n")
    assert inventory.look_at_dataset(config, "mine")[1:2] == (True,)


def test_checkpoints(config: dict[str, Any]) -> None:
    path = checkpoint(config, BIOMEDCLIP)
    state = look(config)[BIOMEDCLIP].state
    assert (state.word, state.usable) == ("partial", False)
    assert "another version or incomplete: sha256 is" in state.facts[0]
    config["teachers"]["biomedclip"]["sha256"] = inventory.sha256(path)
    assert look(config)[BIOMEDCLIP].state[:3] == ("present", True, ["7 bytes, sha256 as expected"])
    checkpoint(config, "mae/mae_pretrain_vit_base.pth.part")
    assert look(config)["mae/mae_pretrain_vit_base.pth"].state[:3] == ("partial", False, ["half fetched"])
    config["teachers"]["clip"]["hub"] = "timm/vit_base_patch16_clip_224.openai"  # fetched when it is used
    assert config["teachers"]["clip"]["file"] not in look(config)


def test_stand_ins(config: dict[str, Any]) -> None:
    """Before and after the workflow made them, even when the configuration no longer asks for them."""
    file = config["models"]["mim_imagenet"]["checkpoint"]["file"]
    config["stand_ins"]["models"] = ["mim_imagenet"]
    assert look(config)[file].state[:3] == (
        "stand-in", True, ["not made yet; the workflow makes it when it is needed"],
    )  # fmt: skip
    assert "MIM-ImageNet" in next(line for line in lines(config) if line.startswith("  figure_2: nothing yet; 1 of 6"))
    checkpoint(config, file)
    assert look(config)[file].state.word == "present"
    checkpoint(config, f"{file}.stand_in.json", b"{}")
    config["stand_ins"]["models"] = []
    assert look(config)[file].state[:3] == ("stand-in", True, ["random weights, for demonstration only"])
    assert block(lines(config), "* stand-in").endswith("licence: CC BY-NC 4.0")  # nothing to get


def test_what_is_drawn_is_what_the_workflow_plans(config: dict[str, Any]) -> None:
    """The report and the grid of runs agree, for every combination of a task's data, pre-training data and teacher."""
    busbra(config, 2)
    config["teachers"]["biomedclip"].pop("sha256")
    figure = config["comparisons"]["figure_2"]
    seen = set()
    for step in (None, "private_breast", BIOMEDCLIP, "mae/mae_pretrain_vit_base.pth"):
        if step and "/" in step:
            checkpoint(config, step)
        elif step:
            private(config, step)
        models = [config["models"][name]["title"] for name in grid.available_models(config, "figure_2")]
        tasks = [config["tasks"][name]["title"] for name in grid.available_tasks(config, figure)]
        stock = frozenset(entry.name for entry in entries(config) if entry.state.usable)
        assert ready(config, figure, stock) == {"models": models, "tasks": tasks}
        seen.add(len(models))
    assert seen == {0, 2, 3, 4}


def test_next_steps_go_by_what_they_add(config: dict[str, Any]) -> None:
    """One command for what is free; then what adds most; a teacher only when there is something to train on."""
    found = list(entries(config))
    steps = list(next_steps(config, found, frozenset()))
    assert f"lepset_unlabelled, {BIOMEDCLIP}, " in steps[0]
    assert "adds models DINO, Deblur-MIM, MIM-ImageNet, MIM-US, MoCo-v3, SL-ImageNet, URFM, URFM (10 %" in steps[0]
    assert "and tasks Breast tumor, Fetal plane" in steps[0]
    assert any(step.startswith("usfm/USFM_latest.pth from https://github.com/openmedlab/USFM") for step in steps[1:])
    assert any(step.startswith("radimagenet from") and "URFM (liver), URFM (ovary), URFM" in step for step in steps)
    assert steps[-1].startswith("more images for pre-training: ")
    # With nothing free to fetch, a data set with images for pre-training comes first, then the teacher.
    for record in config["datasets"].values():
        record["origin"] = {"licence": "x", "access": "request", "where": "https://example.org"}
    for record in inventory.checkpoint_files(config).values():
        record["origin"]["access"] = "web"
    steps = list(next_steps(config, list(entries(config)), frozenset()))
    assert steps[0] == ("fetal_planes from https://example.org; adds models Deblur-MIM, MIM-US and task Fetal plane")
    where = PAPER["teachers"]["biomedclip"]["origin"]["where"]
    assert steps[1].startswith(f"{BIOMEDCLIP} from {where}; adds models URFM, URFM (10 % of the images), ")


@pytest.mark.parametrize("width", [60, 80, 100])
def test_lines_fit_and_are_plain(config: dict[str, Any], width: int) -> None:
    """Only addresses, paths and commands are longer than the terminal is wide, and none of them is broken."""
    busbra(config, 1)
    output = lines(config, width)
    assert "\x1b" not in "".join(output)
    for line in output:
        whole = line.startswith(("+ ", "~ ", "- ", "* ", "Data sets in", "Checkpoints in")) or "snakemake" in line
        assert len(line) <= width or whole or len(re.sub(r"^ *\d\. ", "", line).split()) == 1
    assert re.search(r"https://github\.com/openmedlab/USFM\b", "\n".join(output))


def test_storage_of_cached_targets(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's images as expected, one set as found; nothing is said where no targets are stored."""
    assert "Cached targets" not in "\n".join(lines(config))
    usage = shutil.disk_usage(config["data_root"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(4e12)))
    config["pretraining"]["defaults"] |= {"targets": "cached", "views": 16}
    wanted = config["pretraining"]["defaults"]["datasets"]
    images = sum(expected_images(config, name) for name in wanted)
    for dtype, token in (("float16", 2 * 768), ("int8", 768 + 2)):
        config["pretraining"]["defaults"]["view_dtype"] = dtype
        text = block(lines(config, 200), "Cached targets")
        needed = images * 16 * 196 * token / 1e12
        said = f"{images:,} images x 16 views x 196 tokens x 768 channels as {dtype}: {needed:.1f} TB, 0 bytes of"
        assert text.count(f"biomedclip: {said}") == text.count(f" clip: {said}") == 1
        assert "as expected, because not here: all of them" in text
        assert "4.0 TB free" in text
        assert f"too little is free: {2 * needed:.1f} TB more are needed" in text
    for run in config["pretraining"]["runs"].keys() - {"urfm", "mim_us"}:
        config["pretraining"]["runs"][run]["targets"] = "online"
    config["pretraining"]["defaults"]["datasets"] = ["busbra", "aul"]
    config["simulation"] = {"aul": {"patients": 10, "seed": 0}}
    busbra(config, 2)
    stored = Path(config["data_root"]).parent / "results" / "targets" / "biomedclip" / "busbra" / "tokens.bin"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"x" * 1000)
    text = block(lines(config, 200), "Cached targets")
    size = 2 * 16 * 196 * (768 + 2) / 1e6
    assert f"biomedclip: 2 images x 16 views x 196 tokens x 768 channels as int8: {size:.1f} MB, 1.0 kB of" in text
    assert text.endswith("of them there; not counted, because not made yet: aul")


def test_memory_of_loaders(config: dict[str, Any]) -> None:
    """Crops as bytes, and tokens as they were stored, two parts for each loader."""
    resources = config["resources"]["pretrain"]
    resources |= {"nodes": 1, "gpus": 8, "threads": 64, "micro_batch": 128}
    config["pretraining"]["runs"] = {name: config["pretraining"]["runs"][name] for name in ("urfm", "mim_us")}
    config["pretraining"]["defaults"] |= {"targets": "online", "batch_size": 2048}
    crops = 56 * 2 * 128 * 3 * 224**2
    text = " ".join(loaders(config, 300))
    assert f"56 on each computer hold up to {crops / 1e9:.1f} GB ahead (urfm)" in text
    config["pretraining"]["defaults"] |= {"targets": "cached", "view_dtype": "float16"}
    resources |= {"nodes": 2, "micro_batch": 0}
    stored = 56 * 2 * 128 * (3 * 224**2 + 2 * 196 * 768)
    assert f"up to {stored / 1e9:.1f} GB ahead" in " ".join(loaders(config, 300))
    resources["threads"] = 8
    assert list(loaders(config, 300)) == []


def expected_images(config: dict[str, Any], name: str) -> int:
    record = config["datasets"][name]
    return int(record.get("origin", {}).get("images", record.get("expected", {}).get("images")))


def test_it_needs_neither_torch_nor_network() -> None:
    code = (
        "import sys, urfm.doctor.report; print([name for name in ('torch', 'requests', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME / "workflow", capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_command_line(config: dict[str, Any], tmp_path: Path) -> None:
    """Exit code 0 whatever is missing, and nothing is written."""
    arguments = [sys.executable, "-m", "urfm.doctor.report", "--settings", json.dumps(settings.data.doctor(config))]
    done = subprocess.run(arguments, cwd=HOME / "workflow", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == lines(config)
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_the_chosen_split_counts(config: dict[str, Any]) -> None:
    """A task whose data are here but not the split of finetuning.split is said, and counts as not to be drawn."""
    busbra(config, images=2)
    (Path(config["data_root"]) / "AUL").mkdir()
    assert "table_2: 1 of 11 tasks (Breast tumor)" in "\n".join(lines(config))
    for split, said in (
        ("published", None),
        ("per_seed", None),
        ("ultrabench", "UltraBench's (tasks.breast_tumor.ultrabench is not set)"),
    ):
        config["finetuning"]["split"] = split
        text = " ".join(" ".join(lines(config)).split())
        assert ("table_2: 1 of 11 tasks" in text) == (said is None)
        assert f"left out, because finetuning.split is {split}" in text if said else "left out, because" not in text
        assert said is None or said in text
