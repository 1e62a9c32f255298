"""After a finished run, one edit at a time: exactly the jobs that it affects, and a reason that names it."""

import re
from collections import Counter

import pytest
import yaml
from working_copy import Repository

# Two tasks, three models that can be had (usfm has no checkpoint here).
CELLS = Counter(finetune=6)
# Pictures of the statistics, and the table of the two-class tasks.
PICTURED = Counter(figure_1=1, figure_2=1, critical_difference=1, calibration=1, decision_curves=1)
SCORED = PICTURED + Counter(operating_points=1)
SUMMARY = Counter(comparison_statistics=1, comparison_with_paper=1, claims=1) + SCORED
LOOKED_AT = Counter(attention=2, figure_6=1, finetuned_embeddings=2, figure_7=1)  # two fine-tuned networks of urfm
AUDIT = Counter(audit=1, duplicates_sheet=1)
# Probes of two runs on a task, a reconstruction of one of them, the losses.
OBSERVED_FIGURES = Counter(probe_curves=1, loss_curves=1, draw_reconstructions=1)
OBSERVED = Counter(probe_run=2, reconstruct=1) + OBSERVED_FIGURES
ONE_OBSERVED = Counter(probe_run=1, probe_curves=1, loss_curves=1)


def sources(repository: Repository) -> list[str]:
    return [str(path.relative_to(repository.folder)) for path in repository.folder.rglob("workflow/urfm/**/*.py")]


def test_everything_was_built(finished: Repository) -> None:
    out = finished.folder / "out"
    for name in ("figures/figure_2.pdf", "figures/figure_2.png", "figures/figure_2.csv"):
        assert (out / name).stat().st_size > 0
    for table in ("table_1", "table_2", "table_3", "table_4", "table_5"):
        assert {path.suffix for path in (out / "tables").glob(f"{table}.*")} == {".csv", ".md", ".tex"}
    assert not list(out.rglob("*.tmp"))


def test_nothing_to_do(finished: Repository) -> None:
    jobs, output = finished.plan()
    assert jobs == Counter()
    assert "rule report:" not in output


def test_measurements_that_are_gone(finished: Repository) -> None:
    """What Snakemake measured of each stage is there, and is a reason for nothing."""
    measured = finished.folder / "out" / "benchmarks"
    stages = "simulate manifest images split pretrain_set targets pretrain encoder finetune probes attention statistics"
    assert {path.name for path in measured.iterdir()} >= set(stages.split())
    assert "Time and memory of the stages" in (finished.folder / "out" / "report.html").read_text()
    elsewhere = measured.rename(finished.folder / "measured")
    try:
        jobs, output = finished.plan()
        assert jobs == Counter()
        assert "rule report:" not in output
    finally:
        elsewhere.rename(measured)


def test_touched_files(finished: Repository) -> None:
    for path in finished.folder.rglob("*"):
        if path.suffix in (".py", ".smk", ".yaml") and "out" not in path.parts:
            path.touch()
    assert finished.plan()[0] == Counter()


def test_comments_and_docstrings(finished: Repository) -> None:
    before = {name: (finished.folder / name).read_text() for name in sources(finished)}
    try:
        for name, text in before.items():
            changed = re.sub(r'"""', '"""Reworded: ', text, count=1) + "\n# A comment.\n"
            (finished.folder / name).write_text(changed)
        assert finished.plan()[0] == Counter()
    finally:
        for name, text in before.items():
            (finished.folder / name).write_text(text)


def test_reordered_configuration(finished: Repository) -> None:
    content = yaml.safe_load((finished.folder / "config.yaml").read_text())
    reverse = dict(reversed(content.items())) | {"finetuning": dict(reversed(content["finetuning"].items()))}
    assert list(reverse) != list(content)
    with finished.edited("config.yaml", yaml.safe_dump(reverse, sort_keys=False)):
        assert finished.plan()[0] == Counter()


def test_resources(finished: Repository) -> None:
    with finished.configured(**{"resources.pretrain.threads": 2, "resources.finetune.mem_mb": 5000}):
        assert finished.plan()[0] == Counter()


def test_plot_setting(finished: Repository) -> None:
    with finished.configured(**{"figures.dpi": 120}):
        jobs, output = finished.plan()
    assert jobs == PICTURED + Counter(figure_6=1, figure_7=1) + OBSERVED_FIGURES
    assert '"dpi":120' in output


NOTHING: Counter[str] = Counter()
# Edits of one definition each: file, what stands there, what it becomes; the jobs, and what the reason names.
TRAINED = Counter(pretrain=2, encoder_from_run=2, finetune=4) + OBSERVED
DRAWN = SUMMARY + LOOKED_AT + Counter(embeddings=1)


def test_an_unused_definition(finished: Repository) -> None:
    """Helpers that nothing reaches, anywhere in the library."""
    names = [name for name in sources(finished) if "__init__" not in name]
    before = {name: (finished.folder / name).read_text() for name in names}
    try:
        for name, text in before.items():
            extra = "EXTRA = 1\n\n\ndef extra(x):\n    return x + EXTRA\n\n\n"
            head, last, tail = text.rpartition("if __name__ == ")
            (finished.folder / name).write_text(head + extra + last + tail if last else text + "\n\n" + extra)
        assert finished.plan()[0] == NOTHING
    finally:
        for name, text in before.items():
            (finished.folder / name).write_text(text)


def test_a_new_reader(finished: Repository) -> None:
    """As docs/extending.md says, a module and a line in READERS: nothing, then the jobs of its own set."""
    readers = "workflow/urfm/data/datasets/__init__.py"
    text = (finished.folder / readers).read_text()
    text = text.replace("    aul,\n", "    aul,\n    fresh,\n", 1)
    text = text.replace('    "generic": Reader', '    "fresh": Reader(fresh.read),\n    "generic": Reader', 1)
    module = finished.folder / "workflow/urfm/data/datasets/fresh.py"
    module.write_text("def read(folder):\n    return iter(())\n")
    try:
        with finished.edited(readers, text):
            assert finished.plan()[0] == NOTHING
    finally:
        module.unlink()


def test_a_readers_change_concerns_its_set(finished: Repository) -> None:
    with finished.replaced("workflow/urfm/data/datasets/busbra.py", 'row["Side"]', 'row["Side"].strip()'):
        jobs, output = finished.plan()
    assert jobs == Counter(manifest=1, images=1, split=1, cache_targets=1, pretrain_set=3) + TRAINED + Counter(
        finetune=1
    ) + DRAWN + AUDIT + Counter(table_1=1, table_2=1, table_3=1, embeddings=1)
    assert "urfm.data.datasets.busbra@" in output
    assert "urfm.data.datasets.aul@" not in output


MESSAGES = [
    ("workflow/urfm/data/images/store.py", "was the store made from this manifest?", "is it from this manifest?"),
    ("workflow/urfm/data/images/decode.py", "pixels have no agreed range", "pixels have no range that is agreed on"),
    ("workflow/urfm/training/pretrain/loop.py", "or use precision fp32 or bf16", "or precision fp32 or bf16"),
    ("workflow/urfm/training/finetune/cell.py", "predictions in {", "predictions are in {"),
]


@pytest.mark.parametrize(("name", "old", "new"), MESSAGES)
def test_a_word_of_a_message(finished: Repository, name: str, old: str, new: str) -> None:
    with finished.replaced(name, old, new):
        assert finished.plan()[0] == NOTHING


def test_the_decoder(finished: Repository) -> None:
    """What reads pixels from files: manifests and stores, and all that is made of them."""
    with finished.replaced("workflow/urfm/data/images/decode.py", "image.load()", "image.load(), image.verify"):
        jobs, output = finished.plan()
    assert {"manifest", "images", "split", "cache_targets", "pretrain", "finetune"} <= jobs.keys()
    assert jobs["manifest"] == 3
    assert "urfm.data.images.decode@" in output


def test_one_teacher(finished: Repository) -> None:
    """EfficientNet-Lite0 teaches urfm, pixels teach mim_us."""
    own = Counter(pretrain=1, encoder_from_run=1, finetune=2)
    with finished.replaced("workflow/urfm/models/teachers/efficientnet_lite0.py", "x.split(8)", "x.split(4)"):
        jobs, output = finished.plan()
    assert jobs["cache_targets"] == 2
    assert jobs["pretrain"] == own["pretrain"]
    assert jobs["finetune"] == own["finetune"]
    assert "urfm.models.teachers.efficientnet_lite0@" in output
    with finished.replaced("workflow/urfm/models/teachers/pixels.py", "1e-6", "1e-5"):
        jobs, output = finished.plan()
    # What reconstructs reads from its snapshots which teacher it wants, so that all teachers count.
    assert jobs == own + SUMMARY + ONE_OBSERVED + Counter(reconstruct=1, draw_reconstructions=1)
    assert "urfm.models.teachers.pixels@" in output


def test_the_mask_sampling(finished: Repository) -> None:
    with finished.replaced("workflow/urfm/training/pretrain/samples.py", "dtype=np.float32", "dtype=np.float64"):
        jobs, output = finished.plan()
    assert jobs == TRAINED + DRAWN
    assert "urfm.training.pretrain.samples@" in output


def test_one_figure(finished: Repository) -> None:
    with finished.replaced("workflow/urfm/figures/figure_2.py", "def draw(", "LIMIT = 1\n\n\ndef draw("):
        assert finished.plan()[0] == NOTHING
    text = (finished.folder / "workflow/urfm/figures/figure_2.py").read_text()
    with finished.edited(
        "workflow/urfm/figures/figure_2.py", text.replace("    run(main)", "    run(main)\n    print()")
    ):
        jobs, output = finished.plan()
    assert jobs == Counter(figure_2=1)
    assert "urfm.figures.figure_2@" in output


def test_plot_style(finished: Repository) -> None:
    with finished.replaced("workflow/urfm/figures/style.py", '"font.family": "DejaVu Sans"', '"font.family": "serif"'):
        jobs, output = finished.plan()
    assert jobs == PICTURED + Counter(figure_6=1, figure_7=1, duplicates_sheet=1) + OBSERVED_FIGURES
    assert "urfm.figures.style@" in output


def test_a_metric(finished: Repository) -> None:
    """Statistics and what is drawn of them; the cells where it selects their epoch (AUROC here, and F1 is drawn)."""
    with finished.replaced("workflow/urfm/metrics.py", "== labels).astype(float) @ weights", "== labels) @ weights"):
        jobs, output = finished.plan()
    assert jobs == SUMMARY + Counter(probe_curves=1)
    assert "urfm.metrics@" in output
    with finished.replaced("workflow/urfm/metrics.py", "== labels).mean())", "== labels).sum() / len(labels))"):
        assert finished.plan()[0] == NOTHING
    with finished.replaced("workflow/urfm/metrics.py", "if len(present) < 2", "if len(present) <= 1"):
        jobs, _ = finished.plan()
    assert jobs == CELLS + SUMMARY + LOOKED_AT


def test_statistics_setting(finished: Repository) -> None:
    with finished.configured(**{"statistics.bootstrap_resamples": 300}):
        jobs, output = finished.plan()
    assert jobs == SUMMARY + Counter(probe_curves=1)
    assert '"bootstrap_resamples":300' in output


def test_finetuning_setting(finished: Repository) -> None:
    with finished.configured(**{"finetuning.label_smoothing": 0.2}):
        jobs, output = finished.plan()
    assert jobs == CELLS + SUMMARY + LOOKED_AT + Counter(table_5=1)  # the table prints the settings in force
    assert '"label_smoothing":0.2' in output


def test_two_settings_swap_values(finished: Repository) -> None:
    """Snakemake compares params as a set of values; ours carry their names."""
    with finished.configured(**{"finetuning.mixup": 1.0, "finetuning.cutmix": 0.8}):
        jobs, _ = finished.plan()
    assert jobs == CELLS + SUMMARY + LOOKED_AT + Counter(table_5=1)


def test_setting_of_one_pretraining_run(finished: Repository) -> None:
    with finished.configured(**{"pretraining.runs.mim_us.mask_ratio": 0.6}):
        jobs, output = finished.plan()
    one_model = Counter(pretrain=1, encoder_from_run=1, finetune=2)
    assert jobs == one_model + SUMMARY + ONE_OBSERVED
    assert '"mask_ratio":0.6' in output


def test_images_of_one_run(finished: Repository) -> None:
    """Other organs concern this run and the table that counts its images."""
    with finished.configured(**{"pretraining.runs.urfm_liver.organs": ["liver", "ovary"]}):
        jobs, output = finished.plan()
    assert jobs == Counter(pretrain_set=1, table_3=1)
    assert '"organs":["liver","ovary"]' in output
    with finished.configured(**{"pretraining.runs.mim_us.share": 50}):
        jobs, output = finished.plan()
    one_model = Counter(pretrain_set=1, pretrain=1, encoder_from_run=1, finetune=2)
    assert jobs == one_model + SUMMARY + AUDIT + ONE_OBSERVED
    assert '"share":50' in output


def test_sampling_of_one_run_leaves_its_images(finished: Repository) -> None:
    with finished.configured(**{"pretraining.runs.mim_us.sampling": "organ_balanced"}):
        jobs, output = finished.plan()
    assert jobs == Counter(pretrain=1, encoder_from_run=1, finetune=2) + SUMMARY + ONE_OBSERVED
    assert '"sampling":"organ_balanced"' in output


def test_code_that_chooses_images(finished: Repository) -> None:
    """Every list is made again. Whether training starts again is for its state to say: not if the list is the same."""
    name = "workflow/urfm/data/pretrain_set.py"
    with finished.replaced(name, "    run(main)", "    run(main)\n    print()"):
        jobs, output = finished.plan()
    lists = Counter(pretrain_set=4, table_1=1, table_3=1)
    assert jobs == lists + AUDIT + TRAINED + DRAWN
    reasons = re.findall(r"rule pretrain:.*?reason: ([^\n]*)", output, flags=re.DOTALL)
    assert len(reasons) == 2
    assert all(reason.startswith("Input files updated by another job") for reason in reasons)


def test_pretraining_code(finished: Repository) -> None:
    with finished.replaced("workflow/urfm/models/mim.py", "eps=1e-6", "eps=1e-5"):
        jobs, output = finished.plan()
    assert jobs == TRAINED + DRAWN
    assert "urfm.models.mim@" in output


def test_one_more_model(finished: Repository) -> None:
    with finished.configured(**{"comparisons.figure_2.models": ["random", "mim_us", "usfm", "urfm", "fresh"]}):
        jobs, _ = finished.plan()
    assert jobs == Counter(encoder_from_checkpoint=1, finetune=2) + SUMMARY


def test_one_more_task(finished: Repository) -> None:
    tasks = ["breast_tumor", "liver_mass", "fetal_plane"]
    with finished.configured(**{"comparisons.figure_2.tasks": tasks, "tables.table_2.tasks": tasks}):
        jobs, _ = finished.plan()
    new = Counter(simulate=1, manifest=1, images=1, split=1, finetune=3)
    assert jobs == new + SUMMARY + Counter(table_2=1) + AUDIT


def test_a_comparison_of_ones_own(finished: Repository) -> None:
    """Its own jobs and no others, since its cells are there; what leads is a matter of figure and table."""
    shown = Counter(comparison_figure=1, comparison_table=1)
    entry = {"models": ["random", "urfm"], "reference": "urfm", "tasks": ["liver_mass"], "shares": [100]}
    with finished.configured(**{"comparisons.mine": entry}):
        assert finished.plan()[0] == Counter(comparison_statistics=1) + shown
        finished.run("mine", "report")
        assert "<h3>Mine</h3>" in (finished.folder / "out" / "report.html").read_text()
        with finished.configured(**{"comparisons.mine.metric": "auroc"}):
            assert finished.plan()[0] == shown
    assert finished.plan()[0] == Counter()


def test_one_more_seed_trains_that_seed_only(finished: Repository) -> None:
    record = finished.folder / "out" / "finetune" / "random" / "breast_tumor" / "100"
    kept = {path: path.stat().st_mtime_ns for path in finished.folder.glob("out/state/finetune/**/seed-[01]/*")}
    assert kept
    with finished.configured(seeds=[0, 1, 2]):
        jobs, _ = finished.plan()
        assert jobs == CELLS + SUMMARY + LOOKED_AT + Counter(table_5=1)
        finished.run(str((record / "cell.json").relative_to(finished.folder)))
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        assert len(list(finished.folder.glob("out/state/finetune/random/breast_tumor/100/*/*/seed-2"))) == 1
    # Back to two seeds: nothing is trained, the kept seeds are written out again.
    output = finished.run()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert "finetune" in output
    assert finished.plan()[0] == Counter()


def test_lint(finished: Repository) -> None:
    assert "good condition" in finished.snakemake("--lint")
