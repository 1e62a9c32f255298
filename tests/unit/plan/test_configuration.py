"""The configuration: its schema, its names, and which runs it asks for."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from configurations import HOME, PAPER, overlaid
from configurations import profile as overlay
from urfm.config.mistakes import mistakes
from urfm.core import provenance
from urfm.core.code import definitions
from urfm.core.errors import UrfmError
from urfm.download.download import DownloadSettings
from urfm.interpret.attention import AttentionSettings
from urfm.models.stand_ins import StandInSettings
from urfm.plan import availability, configuration, grid, settings
from urfm.simulation.archive import SimulateSettings


@pytest.mark.parametrize("content", [PAPER, overlay("demo"), overlay("pocket")], ids=["paper", "demo", "pocket"])
def test_configurations_are_valid(content: dict[str, Any]) -> None:
    configuration.check(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("finetuning", "layer_decy"), 0.7, r"unknown key finetuning\.layer_decy; did you mean layer_decay\?"),
        (("finetunning",), {}, r"unknown key finetunning; did you mean finetuning\?"),
        (("finetuning", "batch_size"), 15, r"finetuning\.batch_size: 15 is odd; mixup and cutmix"),
        (("finetuning", "pooling"), "max", r"finetuning\.pooling: 'max' is not one of mean, cls"),
        (("tasks", "breast_tumor", "dataset"), "busbar", r"no busbar under datasets; did you mean busbra\?"),
        (("models", "urfm", "pretraining"), "urfn", r"models\.urfm\.pretraining: no run urfn; did you mean urfm\?"),
        (("comparisons", "figure_2", "models"), ["urfm", "usfn"], r"no usfn under models; did you mean usfm\?"),
        (
            ("comparisons", "figure_2", "reference"),
            "urfm_clip",
            r"urfm_clip is not among .*figure_2\.models; did you mean urfm\?",
        ),
        (("comparisons", "figure_2", "against"), ["usfn"], r"usfn is not another model .*; did you mean usfm\?"),
        (
            ("comparisons", "figure_2", "metric"),
            "f1_makro",
            r"metric: 'f1_makro' is not one of .*; did you mean f1_macro\?",
        ),
        (("comparisons", "figure_2", "subset"), "externl", r"subset: 'externl' is not .*; did you mean external\?"),
        (("comparisons", "figure_2", "tasks"), ["liver"], r"no liver under tasks; did you mean liver_m"),
        (("comparisons", "figure_2", "shares"), [0], r"shares\.0: 0 is not a whole number of at least 1"),
        (("pretraining", "runs", "urfm", "teacher"), "clipp", r"no clipp under teachers; did you mean clip\?"),
        (("pretraining", "runs", "urfm_liver", "organs"), ["livr"], r"no livr under organs; did you mean liver\?"),
        (
            ("pretraining", "defaults", "share"),
            0,
            r"pretraining\.defaults\.share: 0 is not a whole number of at least 1 and at most 100",
        ),
        (
            ("datasets", "radimagenet", "organ"),
            ["mixed"],
            r"datasets\.radimagenet\.organ: no mixed under organs; known:",
        ),
        (("datasets", "busbra", "organ"), "breasts", r"no breasts under organs; did you mean breast\?"),
        (("tables", "table_1", "run"), "urfn", r"tables\.table_1\.run: no run urfn; did you mean urfm\?"),
        (
            ("tables", "table_3", "paper"),
            {"urfm_livers": 3},
            r"table_3\.paper: no run urfm_livers; did you mean urfm_liver",
        ),
        (("tables", "table_2", "notes"), {"breast": "why"}, r"tables\.table_2\.notes: no breast under tasks"),
        (("seeds",), [0, 0], r"seeds: 0 stands there twice"),
        (("figures", "model"), "majority", r"figures\.model: majority is a baseline, which has no network to look at"),
        (("models", "urfm_released", "decoder"), "urfn", r"urfm_released\.decoder: no run urfn; did you mean urfm\?"),
        (("models", "usfm", "decoder"), "urfm", r"models\.usfm: decoder: only a checkpoint of format urfm has one"),
        (("figures", "figure_7", "before"), "mim", r"figures\.figure_7\.before: no mim under models"),
        (("figures", "figure_1", "comparison"), "figure_9", r"no figure_9 under comparisons; did you"),
        (("tasks", "breast_tumor", "external"), "liver_mass", r"external: liver_mass has the classes benign, mal"),
        (
            ("tasks", "liver_mvi", "positive"),
            "nonmvi",
            r"liver_mvi\.positive: 'nonmvi' is not among .*\.classes; did you mean non_mvi\?",
        ),
        (("tasks", "liver_mass", "positive"), "malignant", r"liver_mass\.positive: liver_mass has 3 classes, each of"),
        (("probes", "runs"), [["urfm"], ["urfn"]], r"probes\.runs: no run urfn; did you mean urfm\?"),
        (("probes", "runs"), [["urfm_clip"]], r"probes\.runs: urfm_clip keeps no snapshots; set pretraining\.runs"),
        (("reconstructions", "runs"), ["urfn"], r"reconstructions\.runs: no run urfn; did you mean urfm\?"),
        (("stand_ins", "models"), ["usfn"], r"stand_ins\.models: no usfn under models; did you mean usfm\?"),
        (("stand_ins", "models"), ["urfm"], r"stand_ins\.models: urfm is loaded from no file"),
        (("stand_ins", "teachers"), ["pixels"], r"stand_ins\.teachers: pixels is loaded from no file"),
        (
            ("stand_ins", "models"),
            ["usfm"],
            r"where published files may lie; .* below the results, e\.g\. --config checkpoint_root=results/checkpoints",
        ),
        (("download",), ["busbar"], r"download: no busbar under datasets, teachers or models; did you mean busbra\?"),
        (("download",), ["usfm"], r"download: usfm is not free to fetch; `snakemake .*doctor` says how"),
        (
            ("models", "usfm", "checkpoint", "origin", "access"),
            "open",
            r"models\.usfm: `access: open` needs `file`, and one entry of `origin\.files`",
        ),
        (("download",), "busbra", r"download: 'busbra' is not a list of names .*'download=\[busbra\]'"),
        (("download",), ["radimagenet"], r"download: radimagenet is not free to fetch; `snakemake .*doctor` says how"),
        (
            ("datasets", "lepset", "origin"),
            {"licence": "x", "access": "open", "where": "https://a"},
            r"needs `files`, or",
        ),
    ],
)
def test_mistakes_are_named(config: dict[str, Any], path: tuple[str, ...], value: Any, message: str) -> None:
    section = config
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(UrfmError, match=message):
        configuration.check(config)


# Key with dots, value, and what is said of it. The value and what would be right stand in every sentence.
OUT_OF_BOUNDS = [
    ("finetuning.drop_path", 1.0, "1.0 is not a number of at least 0 and below 1 (probability to skip"),
    ("finetuning.label_smoothing", 1.0, "1.0 is not a number of at least 0 and below 1"),
    ("finetuning.layer_decay", 0, "0 is not a number above 0 and at most 1"),
    ("finetuning.crop_scale", [1.0, 0.2], "[1, 0.2] is in the wrong order; the lower number comes first"),
    (
        "finetuning.selection_metric",
        "f1_marco",
        "'f1_marco' is not one of accuracy, f1_macro, auroc; did you mean f1_mac",
    ),
    ("finetuning.warmup_epochs", 101, "101 is more than epochs, 100"),
    ("finetuning.base_lr", "1e-3", "'1e-3' is not a number above 0; it is text: numbers have no quotes, and 1e-3 is"),
    ("finetuning.early_stop", 1.5, "1.5 is not a whole number of at least 0"),
    ("finetuning.flip", 1, "1 is not true or false"),
    ("finetuning.betas", [0.9, 1.0], "betas.1: 1.0 is not a number of at least 0 and below 1 (AdamW's decay"),
    ("finetuning.precision", None, "null is not one of auto, bf16, fp16, fp32"),
    ("pretraining.defaults.mask_ratio", 1.0, "1.0 is not a number of at least 0 and below 1"),
    ("pretraining.defaults.batch_size", 0, "0 is not a whole number of at least 1"),
    ("pretraining.defaults.normalisation", [0.2, 0], "normalisation: [0.2, 0] is not one of imagenet"),
    ("pretraining.defaults.ema_decay", 1, "1 is not a number of at least 0 and below 1"),
    ("pretraining.runs.urfm_data10.share", 0, "0 is not a whole number of at least 1 and at most 100"),
    ("pretraining.runs.urfm.epochs", 20, "warmup_epochs: 40 is more than epochs, 20"),  # of the defaults
    (
        "models.simclr_imagenet.finetuning",
        {"batch_size": 3},
        "batch_size: 3 is odd; mixup and cutmix mix images in pai",
    ),
    ("models.dino_imagenet.checkpoint.normalisation", "data", "'data' is not one of imagenet, image"),
    ("statistics.bootstrap_resamples", 1, "1 is not a whole number of at least 40"),
    ("statistics.confidence", 95, "95 is not a number above 0 and below 1"),
    ("seeds", [0, -1], "seeds.1: -1 is not a whole number of at least 0"),
    ("splits.ratio", [3, 1], "splits.ratio: [3, 1] is not a list of 3 whole numbers of at least 1"),
    ("datasets.busbra.reader", "busbar", "did you mean busbra?"),
    ("datasets.aul.folders", {"a": "b"}, "aul takes no `folders`; radimagenet and uf1990 do"),
    ("models.own", {"title": "Own"}, "needs exactly one of `pretraining`, `checkpoint` and `baseline`"),
    (
        "models.majority",
        {"title": "Majority", "baseline": "majority", "mode": "knn"},
        "has no encoder; leave out `mode`",
    ),
    ("models.usfm.baseline", "majority", "needs exactly one of `pretraining`, `checkpoint` and `baseline`"),
    ("models.thumbnails.baseline", "thumbnail", "did you mean thumbnails?"),
    ("models.urfm.mode", "linear", "'linear' is not one of finetune, linear_probe, knn"),
    ("models.Own", {}, "'Own' is no name"),
    (
        "tables.claims",
        [{"wins": [{"better": "urfm", "worse": "all"}]}],
        "'all' is not a list of names (at least one) or str",
    ),
    ("resources.small.gpu", 1, "unknown key resources.small.gpu; known: mem_mb, minutes, threads"),
]


def change(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        config = config[parent]
    config[last] = value


@pytest.mark.parametrize(("key", "value", "said"), OUT_OF_BOUNDS, ids=[key for key, *_ in OUT_OF_BOUNDS])
def test_wrong_values_are_refused(config: dict[str, Any], key: str, value: Any, said: str) -> None:
    change(config, key, value)
    found = [sentence for sentence in mistakes(config) if said in sentence]
    assert len(found) == 1
    assert key in found[0] or key.rpartition(".")[0] in found[0]


def test_all_wrong_values_are_named_at_once(config: dict[str, Any]) -> None:
    for key, value, _ in OUT_OF_BOUNDS:
        change(config, key, value)
    with pytest.raises(UrfmError) as refused:
        configuration.check(config)
    assert [said for _, _, said in OUT_OF_BOUNDS if said not in str(refused.value)] == []


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("{0: Benign, 1: Malignant}", ["the key 0 is a number to YAML", "the key 1 is a number to YAML"]),
        ("{no: Benign, yes: Malignant}", ["the key no, off or false is false", "the key yes, on or true is true"]),
        ("{1.5: Benign, 2024-01-01: Malignant}", ["the key 1.5 is a number", "the key 2024-01-01 is a date"]),
        ("{benign: Benign, malignant: 2024-01-01}", ["classes.malignant: 2024-01-01 is a date to YAML"]),
        ("{benign: Benign, malignant: no}", ["classes.malignant: false is not text; put it in quotes"]),
        ("{benign: Benign, malignant: 1}", ["classes.malignant: 1 is not text; put it in quotes"]),
    ],
)
def test_what_yaml_takes_for_something_else_is_refused_at_once(classes: str, said: list[str]) -> None:
    content = overlaid(f"tasks: {{mine: {{title: Mine, dataset: busbra, group: other, classes: {classes}}}}}")
    with pytest.raises(UrfmError) as refused:
        configuration.check(content)
    sentences = str(refused.value).splitlines()[1:]
    assert len(sentences) == len(said)
    for sentence, words in zip(sentences, said, strict=True):
        assert "tasks.mine.classes" in sentence
        assert words in sentence
        assert "put it in quotes" in sentence


def test_expected_labels_are_words_too() -> None:
    content = overlaid("datasets: {busbra: {expected: {labels: {0: 10}}}}")
    with pytest.raises(
        UrfmError, match=r"datasets\.busbra\.expected\.labels: the key 0 is a number to YAML; put it in"
    ):
        configuration.check(content)


def test_null_is_a_value_of_model_args_alone(config: dict[str, Any]) -> None:
    config["pretraining"]["defaults"]["model_args"] = {"global_pool": None}
    configuration.check(config)
    config["tasks"]["breast_tumor"]["external"] = None
    with pytest.raises(UrfmError, match=r"tasks\.breast_tumor\.external: null is not a name"):
        configuration.check(config)


def test_every_key_of_the_paper_is_required() -> None:
    """Removing a leaf is an error, so no code needs a hidden default."""
    for section, key in [
        *((("pretraining", "defaults"), key) for key in PAPER["pretraining"]["defaults"]),
        *(
            ((name,), key)
            for name in ("finetuning", "statistics", "splits", "images", "audit", "probes")
            for key in PAPER[name]
        ),
    ]:
        content = copy.deepcopy(PAPER)
        place = content
        for part in section:
            place = place[part]
        del place[key]
        with pytest.raises(UrfmError, match=rf"{key} is missing"):
            configuration.check(content)


def test_a_run_is_a_model() -> None:
    """By itself, under its own name and title; what a model says of itself stands."""
    runs = PAPER["pretraining"]["runs"]
    assert {name: PAPER["models"][name] for name in runs} == {
        name: {"title": run["title"], "pretraining": name} for name, run in runs.items()
    }
    own = overlaid("""
        pretraining: {runs: {half: {share: 50}, urfm_clean: {seed: 1}}}
        models:
          urfm_clean: {title: Clean, finetuning: {epochs: 20}}
          urfm_balanced: {checkpoint: {format: mae, file: a}}
    """)
    configuration.check(own)
    assert own["models"]["half"] == {"title": "half", "pretraining": "half"}
    assert own["models"]["urfm_clean"] == {
        "title": "Clean", "pretraining": "urfm_clean", "finetuning": {"epochs": 20},
    }  # fmt: skip
    assert "pretraining" not in own["models"]["urfm_balanced"]


def test_lists_of_tasks_have_names() -> None:
    ten = PAPER["task_lists"]["all_ten"]
    assert PAPER["comparisons"]["figure_2"]["tasks"] == ten
    assert PAPER["tables"]["table_2"]["tasks"] == [*ten, "breast_lesion"]
    own = overlaid("""
        task_lists: {mine: [liver_mass, breast_tumor]}
        comparisons: {figure_2: {tasks: [breast_tumor, mine]}, figure_5: {tasks: mine}}
        probes: {tasks: mine}
    """)
    configuration.check(own)
    assert own["comparisons"]["figure_2"]["tasks"] == ["breast_tumor", "liver_mass"]
    assert own["comparisons"]["figure_5"]["tasks"] == own["probes"]["tasks"] == ["liver_mass", "breast_tumor"]
    for mistaken, said in [
        ("comparisons: {figure_2: {tasks: al_ten}}", "no al_ten under tasks; did you mean all_ten"),
        ("task_lists: {mine: [liver_mas]}", "task_lists.mine: no liver_mas under tasks; did you mean liver_mass"),
        ("task_lists: {liver_mass: [breast_tumor]}", "task_lists.liver_mass: a task has this name"),
        ("probes: {tasks: [breast_tumor, breast_tumor]}", "probes.tasks: breast_tumor stands there twice"),
    ]:
        with pytest.raises(UrfmError, match=re.escape(said)):
            configuration.check(overlaid(mistaken))


def test_grid_of_the_paper_without_data_root(config: dict[str, Any], tmp_path: Path) -> None:
    """Figure 2 is six models on ten tasks (600 runs with ten seeds); three of the six are pre-trained here."""
    config["data_root"] = str(tmp_path / "nowhere")
    assert len(grid.cells(config, "figure_2")) == 60
    assert len(grid.cells(config, "figure_2")) * len(config["seeds"]) == 600
    organs = [f"urfm_{organ}" for organ in ("thyroid", "breast", "liver", "gallbladder", "pancreas", "ovary")]
    assert set(grid.runs(config)) == {
        "mim_us", "deblur_mim", "urfm", "urfm_clip", *organs,
        "urfm_data10", "urfm_data20", "urfm_data50", "urfm_large", "urfm_huge", "urfm_balanced",
    }  # fmt: skip
    assert sorted(set(grid.trainable_runs(config)) - set(grid.runs(config))) == ["urfm_clean"]
    # Figure 3 adds six cells; 4 adds three models and CLIP on ten tasks; 5 six organ models on seven; 8 three parts of
    # the images on four tasks, two sizes on six, and three smaller shares of six models on four; balanced sampling one
    # model on ten.
    assert len(grid.all_cells(config)) == 60 + 6 + 40 + 42 + 12 + 12 + 72 + 10
    assert grid.drawn(config, "figure_4") == ["figure_4a", "figure_4b"]
    assert grid.unavailable(config, config["comparisons"]["figure_2"]["models"], list(config["tasks"])) == []
    with pytest.raises(UrfmError, match=r"data_root: .*nowhere is not a folder"):
        availability.require_data_root(config)


def test_external_images_need_their_data_set(config: dict[str, Any]) -> None:
    """Figure 3B scores the breast models on BUID: with BUS-BRA alone there is nothing to predict, and it is said."""
    config["simulation"] = {"busbra": {"patients": 20, "seed": 0}}
    assert grid.external_task(config, "breast_tumor") is None
    (entry,) = settings.figures.figure(config, "figure_3b")["unavailable"][:1]
    assert (entry["name"], entry["reason"]) == ("breast_tumor", "data set not in the data folder")
    config["simulation"]["buid"] = {"patients": 20, "seed": 0}
    assert grid.external_task(config, "breast_tumor") == "breast_lesion"
    assert grid.external_task(config, "liver_mass") is None
    assert settings.models.statistics(config, "figure_3b")["subset"] == "external"
    assert "subset" not in settings.models.statistics(config, "figure_2")


def test_weights_are_kept_for_the_pictures_alone(config: dict[str, Any]) -> None:
    assert set(grid.kept_tasks(config)) == set(config["figures"]["figure_6"]["tasks"])
    assert "keep_weights" not in settings.models.finetuning(config, "urfm", "breast_tumor", 100)
    assert settings.models.finetuning(config, "urfm", "breast_tumor", 100, keep_weights=True)["keep_weights"] is True
    assert grid.pictured_tasks(config, "figure_6") == []  # no teacher and no data here


def test_simulated_data_need_no_data_root(config: dict[str, Any], tmp_path: Path) -> None:
    """Before its first run the demo has no data root, and yet only what is simulated is there."""
    config["data_root"] = str(tmp_path / "nowhere")
    config["simulation"] = {"busbra": {"patients": 20, "seed": 0}}
    availability.require_data_root(config)
    assert grid.available_tasks(config, config["comparisons"]["figure_2"]) == ["breast_tumor"]
    assert availability.missing_model(config, "mim_imagenet") is not None


def test_data_sets_of_one_archive_are_simulated_together(config: dict[str, Any]) -> None:
    config["simulation"] = {"lepset": {"patients": 20, "seed": 0}}
    simulated = [name for name in config["datasets"] if availability.is_simulated(config, name)]
    assert simulated == ["lepset", "lepset_unlabelled"]
    assert availability.available_datasets(config, "urfm") == ["lepset_unlabelled"]
    assert availability.missing_task(config, "pancreatic_cancer") is None
    config["strict_counts"] = True
    strict = [name for name in config["datasets"] if settings.data.manifest(config, name)["strict_counts"]]
    assert set(config["datasets"]) - set(strict) == set(simulated)


def test_the_demo_simulates_every_data_set() -> None:
    demo = overlay("demo")
    assert all(availability.is_simulated(demo, name) for name in demo["datasets"])
    folders = [demo["datasets"][name]["folder"] for name in demo["simulation"]]
    assert len(set(folders)) == len(folders)
    for name in demo["simulation"]:
        own = SimulateSettings(**settings.data.simulate(demo, name))
        assert (own.layout == "generic") == bool(own.organ)
        if own.layout == "generic":
            assert own.labels == PAPER["datasets"][name]["expected"].get("labels", {})
    assert settings.data.simulate(demo, "liver_mvi")["images_per_patient"] == pytest.approx(1515 / 408)
    assert "images_per_patient" not in settings.data.simulate(demo, "private_thyroid")


def test_of_a_figure_that_is_left_out_nothing_is_missing(config: dict[str, Any]) -> None:
    (Path(config["data_root"]) / "BUSBRA").mkdir()
    assert settings.figures.comparison(config, "figure_4a")["unavailable"]
    config["comparisons"]["figure_4a"]["tasks"] = []
    assert settings.figures.comparison(config, "figure_4a")["unavailable"] == []


def test_grid_draws_what_is_there(config: dict[str, Any]) -> None:
    (Path(config["data_root"]) / "BUSBRA").mkdir()
    figure = config["comparisons"]["figure_2"]
    assert grid.available_tasks(config, figure) == ["breast_tumor"]
    # No pre-training source and no checkpoint is there.
    assert grid.available_models(config, "figure_2") == []
    missing = {item["name"]: item["reason"] for item in grid.unavailable(config, figure["models"], figure["tasks"])}
    assert len(missing) == 9 + 6
    assert missing["liver_mass"] == "data set not in the data folder"
    assert missing["mim_imagenet"] == "checkpoint not in the checkpoint folder"
    assert "mae_pretrain_vit_base.pth" in "\n".join(grid.summary(config))

    (Path(config["data_root"]) / "CAMUS").mkdir()
    assert grid.available_models(config, "figure_2") == ["mim_us", "deblur_mim"]  # urfm lacks its teacher
    teacher = Path(config["checkpoint_root"]) / "biomedclip" / "open_clip_pytorch_model.bin"
    teacher.parent.mkdir(parents=True)
    teacher.touch()
    assert grid.available_models(config, "figure_2") == ["mim_us", "deblur_mim", "urfm"]
    assert grid.datasets(config) == ["busbra", "camus"]
    assert [cell.model for cell in grid.cells(config, "figure_2")] == ["mim_us", "deblur_mim", "urfm"]
    notes = settings.figures.figure(config, "figure_2")["notes"]
    assert notes[-1] == "URFM: pre-trained on 1 of 10 data sets (CAMUS)."
    assert "URFM: pre-trained on 1 of 10 data sets (CAMUS)." in grid.summary(config)


def test_organ_runs_read_the_data_sets_that_may_hold_their_organ(config: dict[str, Any]) -> None:
    """Also where another data set of the run is there: it would add nothing."""
    assert availability.wanted_datasets(config, "urfm_liver") == ["radimagenet"]
    assert availability.wanted_datasets(config, "urfm_breast") == ["buv", "ultrasoundcases", "private_breast"]
    assert availability.wanted_datasets(config, "urfm_data10") == config["pretraining"]["defaults"]["datasets"]
    for folder in ("CAMUS", "BUV"):
        (Path(config["data_root"]) / folder).mkdir()
    missing = availability.missing_images(config, "urfm_liver")
    assert missing is not None
    assert missing.detail == f"none of RadImageNet in {config['data_root']}"
    assert grid.table_runs(config, "table_1") == ["urfm"]
    assert grid.table_runs(config, "table_3") == ["urfm_breast"]
    assert settings.pretraining.pretrain_set(config, "urfm")["dataset_organs"] == {
        "buv": ["breast"],
        "camus": ["heart"],
    }
    rows = {row["run"]: row for row in settings.tables.table_3(config)["runs"]}
    assert rows["urfm_breast"]["missing"] == ["ultrasoundcases", "private_breast"]
    assert rows["urfm_liver"]["reason"] == missing.reason
    config["pretraining"]["defaults"]["datasets"] = ["camus"]
    found = availability.missing_images(config, "urfm_ovary")
    assert found is not None
    assert found.detail == "urfm_ovary: none of its data sets holds ovary"


def test_held_out_patients_need_the_tasks_that_are_here(config: dict[str, Any]) -> None:
    (Path(config["data_root"]) / "BUSBRA").mkdir()
    assert settings.pretraining.pretrain_set(config, "urfm")["tasks_not_here"] == []
    absent = settings.pretraining.pretrain_set(config, "urfm_clean")["tasks_not_here"]
    assert set(config["tasks"]) - set(absent) == {"breast_tumor"}


def test_stored_views_are_shared(config: dict[str, Any]) -> None:
    config["pretraining"]["runs"]["urfm"]["targets"] = "cached"
    assert settings.pretraining.uses_cache(config, "urfm")
    settings.pretraining.pretraining(config, "urfm")
    config["pretraining"]["runs"]["urfm"]["crop_scale"] = [0.5, 1.0]
    with pytest.raises(UrfmError, match=r"pretraining\.runs\.urfm\.crop_scale"):
        settings.pretraining.pretraining(config, "urfm")
    config["pretraining"]["defaults"]["targets"] = "cached"
    assert not settings.pretraining.uses_cache(config, "mim_us")  # pixels need no cache
    assert "views" not in settings.pretraining.pretraining(
        config, "mim_us"
    )  # and do not start again for another number


def test_figures_look_at_a_released_model(config: dict[str, Any], tmp_path: Path) -> None:
    """Figure 7 needs an encoder alone; figures 1B and 6 the file's decoder and the teacher it is of."""
    config["data_root"] = str(tmp_path / "nowhere")  # a plan for all data
    config["figures"]["model"] = "urfm_released"
    configuration.check(config)
    tasks = config["figures"]["figure_6"]["tasks"]
    assert grid.pictured_tasks(config, "figure_6") == tasks
    found = settings.models.attention(config, "breast_tumor")
    assert found["teacher"]["name"] == "biomedclip"
    assert found["released"]["file"] == "urfm/mae_vit_base_patch16_dec768d8b_all_biomedclip_1199.pth"
    assert found["released"]["decoder"] == {"width": 768, "depth": 8, "heads": 16}
    AttentionSettings.model_validate(found)
    assert settings.figures.figure_6(config)["unavailable"] == []
    del config["models"]["urfm_released"]["decoder"]
    configuration.check(config)
    assert grid.pictured_tasks(config, "figure_6") == []
    assert grid.pictured_tasks(config, "figure_7") == config["figures"]["figure_7"]["tasks"]
    for figure in (settings.figures.figure_1, settings.figures.figure_6):
        assert [entry["reason"] for entry in figure(config)["unavailable"]] == ["no decoder to look at"]
    assert settings.figures.figure_7(config)["unavailable"] == []


def test_the_disease_is_positive(config: dict[str, Any], tmp_path: Path) -> None:
    """In curves, and nowhere else: networks keep the order of their outputs, and nothing is trained again."""
    config["data_root"] = str(tmp_path / "nowhere")  # a plan for all data
    positive = settings.models.statistics(config, "figure_2")["positive"]
    assert positive == {
        "thyroid_nodule": "malignant",
        "breast_tumor": "malignant",
        "liver_mvi": "mvi",
        "gallbladder_polyp": "malignant",
        "pancreatic_cancer": "cancer",
        "kidney_tumor": "malignant",
        "uterine_fibroid": "fibroid",
    }
    assert settings.models.statistics(config, "figure_3")["positive"] == {"breast_lesion": "malignant"}
    trained = settings.models.finetuning(config, "urfm", "liver_mvi", 100)
    assert trained["classes"] == ["mvi", "non_mvi"]
    del config["tasks"]["liver_mvi"]["positive"]
    assert settings.models.finetuning(config, "urfm", "liver_mvi", 100) == trained
    assert "liver_mvi" not in settings.models.statistics(config, "figure_2")["positive"]
    names = settings.figures.figure(config, "figure_2")["classes"]
    assert names["liver_mvi"] == {"mvi": "MVI", "non_mvi": "Non-MVI"}


def test_titles_and_resources_are_no_settings(config: dict[str, Any]) -> None:
    """What cannot change a number must not restart the work that makes it."""

    def everything(content: dict[str, Any]) -> list[str]:
        return [
            provenance.canonical_json(part)
            for part in [
                settings.pretraining.pretraining(content, "urfm"),
                settings.models.encoder(content, "urfm"),
                settings.models.finetuning(content, "urfm", "breast_tumor", 100),
                settings.models.statistics(content, "figure_2"),
                settings.data.split(content, "breast_tumor", "paper"),
                settings.pretraining.pretrain_set(content, "urfm_clean"),
            ]
        ]

    before = everything(config)
    config["models"]["urfm"]["title"] = "Another name"
    config["pretraining"]["runs"]["urfm"]["title"] = "Another name"
    config["tasks"]["breast_tumor"]["title"] = "Another name"
    config["tasks"]["breast_tumor"]["classes"]["benign"] = "Another name"
    config["resources"]["pretrain"]["gpus"] = 1
    config["figures"]["dpi"] = 600
    assert everything(config) == before


def test_where_something_comes_from_is_no_setting(config: dict[str, Any]) -> None:
    """A corrected address restarts nothing."""

    def everything() -> list[str]:
        return [
            provenance.canonical_json(part)
            for part in [
                settings.data.manifest(config, "busbra"),
                settings.pretraining.targets(config, "biomedclip"),
                settings.pretraining.pretraining(config, "urfm"),
                settings.models.encoder(config, "usfm"),
            ]
        ]

    before = everything()
    for record in (
        config["datasets"]["busbra"],
        config["teachers"]["biomedclip"],
        config["models"]["usfm"]["checkpoint"],
    ):
        record["origin"]["where"] = "https://example.org"
    assert everything() == before


def test_what_is_fetched(config: dict[str, Any]) -> None:
    """All that is open, each folder once; or what is asked for; never what is simulated."""
    every = settings.data.download(config)["archives"]
    assert {archive["dataset"] for archive in every} >= {"busbra", "aul", "fetal_planes", "lepset", "uf1990"}
    assert len({archive["folder"] for archive in every}) == len(every)
    assert all(DownloadSettings.model_validate({"archives": every}).archives)
    config["download"] = ["aul"]
    (archive,) = settings.data.download(config)["archives"]
    assert [file["name"] for file in archive["files"]] == ["Benign.zip", "Malignant.zip", "Normal.zip"]
    config["simulation"] = {"aul": {"patients": 20, "seed": 0}}
    assert settings.data.download(config)["archives"] == []


def test_everything_says_where_it_comes_from() -> None:
    files = [*PAPER["teachers"].values(), *(model.get("checkpoint", {}) for model in PAPER["models"].values())]
    for record in [*PAPER["datasets"].values(), *(record for record in files if "file" in record)]:
        origin = record["origin"]
        assert origin["access"] == "open" or origin["steps"]


def test_every_setting_is_read_by_some_rule(config: dict[str, Any]) -> None:
    """No dead option: each leaf of the training and statistics sections changes some rule's settings."""
    read = [
        settings.pretraining.pretraining(config, "urfm"),
        settings.pretraining.targets(config, "biomedclip"),
        settings.models.finetuning(config, "urfm", "breast_tumor", 100),
        settings.models.statistics(config, "figure_2"),
        settings.data.images(config, "busbra"),
        settings.data.split(config, "breast_tumor", "paper"),
        settings.pretraining.pretrain_set(config, "urfm"),
    ]
    config["pretraining"]["runs"]["urfm"]["targets"] = "cached"
    keys = set().union(*read, settings.pretraining.pretraining(config, "urfm"))
    elsewhere = {"datasets", "split"}  # carried by the rules' inputs
    for section in (
        config["pretraining"]["defaults"],
        config["finetuning"],
        config["statistics"],
        config["images"],
        config["splits"],
    ):
        assert set(section) - elsewhere <= keys


def test_no_simulation_outside_the_demo() -> None:
    assert PAPER["simulation"] == {}
    assert overlay("pocket")["simulation"] == {}


def test_folders_and_tables_of_every_archive_are_watched(tmp_path: Path) -> None:
    for name in ("train_cls.txt", "US/liver/1.png", "A/segmentation/mass/1.json", "A/B/c.csv"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [
        path.relative_to(tmp_path / "set").as_posix() for path in availability.folders_and_tables(tmp_path / "set")
    ]
    folders = [".", "A", "A/B", "A/segmentation", "A/segmentation/mass", "US", "US/liver"]
    assert found == sorted([*folders, "A/B/c.csv", "train_cls.txt"], key=Path)
    assert availability.folders_and_tables(tmp_path / "absent") == []


@pytest.mark.parametrize(
    "folders", [["rawframes/benign/x1", "rawframes/malignant/x2"], ["labeled/PC/7", "labeled/NPC/8", "unlabeled"]]
)
def test_a_folder_around_an_archive_hides_nothing_of_it(tmp_path: Path, folders: list[str]) -> None:
    """BUV's videos and LEPset's patients, unpacked into a folder of their own."""
    for name in folders:
        (tmp_path / "set" / "unpacked" / name).mkdir(parents=True)
    (tmp_path / "set" / "README.md").touch()
    found = availability.folders_and_tables(tmp_path / "set")
    assert {tmp_path / "set" / "unpacked" / name for name in folders} <= set(found)


def test_re_splits_have_seeds_of_their_own_and_the_paper_keeps_its(config: dict[str, Any]) -> None:
    paper = settings.data.split(config, "liver_mass", "paper")
    assert paper["seed"] == 0
    assert settings.data.split(config, "liver_mass", "seed-12") == paper | {"split": "seed-12", "seed": 12}
    assert settings.data.split(config, "liver_mass", "published") == paper | {"split": "published"}
    where = config["tasks"]["liver_mass"]["ultrabench"]
    assert settings.data.split(config, "liver_mass", "ultrabench") == paper | {
        "split": "ultrabench",
        "ultrabench": where,
    }


def test_names_of_splits(config: dict[str, Any]) -> None:
    for split in ("paper", "seed-0", "seed-12", "per_seed", "published", "ultrabench"):
        config["finetuning"]["split"] = split
        configuration.check(config)
    for split in ("seed", "seed-01", "seed-1x", "official", "Paper"):
        config["finetuning"]["split"] = split
        with pytest.raises(UrfmError, match=r"finetuning\.split: .* is not text like"):
            configuration.check(config)


def test_tasks_without_the_chosen_split_are_said(config: dict[str, Any]) -> None:
    """Drawn without them, as without a data set, and named with the reason."""
    root = Path(config["data_root"])
    for dataset in ("busbra", "aul", "mmotu"):
        (root / config["datasets"][dataset]["folder"]).mkdir()
    figure = config["comparisons"]["figure_2"]
    assert grid.available_tasks(config, figure) == ["breast_tumor", "liver_mass", "ovarian_tumor"]
    config["finetuning"]["split"] = "seed-4"
    assert grid.available_tasks(config, figure) == ["breast_tumor", "liver_mass", "ovarian_tumor"]
    assert grid.splits(config) == ["seed-4"]
    config["finetuning"]["split"] = "per_seed"
    assert grid.available_tasks(config, figure) == ["breast_tumor", "liver_mass", "ovarian_tumor"]
    config["seeds"] = [0, 7]
    assert grid.splits(config) == ["seed-0", "seed-7"]
    assert grid.shown_split(config) == "paper"
    assert grid.split_note(config) == ["Each seed trained and tested on a split of its own, not on the paper's one."]
    config["finetuning"]["split"] = "published"
    assert grid.available_tasks(config, figure) == ["breast_tumor", "ovarian_tumor"]
    said = {entry["name"]: entry["reason"] for entry in grid.unavailable(config, [], figure["tasks"])}
    assert said["liver_mass"] == "no published split"
    own = root / "Thyroid4K"
    for header in ("image,patient_id,label", "image,patient_id,label,official_split"):
        own.mkdir(exist_ok=True)
        (own / "metadata.csv").write_text(f"{header}\n")
        assert ("thyroid_nodule" in grid.available_tasks(config, figure)) == ("official_split" in header)
    config["finetuning"]["split"] = "ultrabench"
    assert grid.available_tasks(config, figure) == []
    lists = root / config["tasks"]["liver_mass"]["ultrabench"]
    lists.mkdir(parents=True)
    (lists / "test.json").touch()
    assert grid.available_tasks(config, figure) == ["liver_mass"]
    reasons = {name: availability.missing_task(config, name) for name in ("breast_tumor", "ovarian_tumor")}
    assert reasons["breast_tumor"] == ("no split of UltraBench's", "tasks.breast_tumor.ultrabench is not set")
    assert "UltraBench" in str(reasons["ovarian_tumor"])
    assert str(root) in str(reasons["ovarian_tumor"])
    assert "Trained and tested on the split 'ultrabench', not on the paper's." in "\n".join(grid.summary(config))
    assert settings.figures.figure(config, "figure_2")["notes"][0].startswith(
        "Trained and tested on the split 'ultrabench'"
    )


def test_no_section_is_an_alias_of_another() -> None:
    """Snakemake merges overlays in place: an overlay on one section would change its alias too."""

    def sections(content: Any) -> Iterator[Any]:
        if isinstance(content, dict | list):
            yield content
            for item in content.values() if isinstance(content, dict) else content:
                yield from sections(item)

    found = list(sections(PAPER))
    assert len({id(section) for section in found}) == len(found)


def test_stand_ins_have_the_sizes_of_the_demo() -> None:
    """Each is described as what reads it, without the published file's hash, and counts as there."""
    demo = overlay("demo")
    files = availability.stand_ins(demo)
    assert len(files) == len(demo["stand_ins"]["models"]) + len(demo["stand_ins"]["teachers"])
    for file in files:
        stage = StandInSettings.model_validate(settings.models.stand_in(demo, file))
        assert stage.checkpoint.file == file
        assert stage.checkpoint.sha256 == ""
        assert availability.missing_file(demo, file) is None
    for figure, item in demo["comparisons"].items():
        if item["tasks"]:
            assert grid.available_models(demo, figure) == item["models"]
    demo["teachers"]["clip"]["sha256"] = "0" * 64
    assert "sha256" not in settings.pretraining.teacher(demo, "clip")
    assert "sha256" in settings.pretraining.teacher(PAPER, "biomedclip")


def test_comparisons_of_ones_own(config: dict[str, Any]) -> None:
    """Those that no figure draws; every one is a target, but for those with the name of a figure."""
    assert grid.own_comparisons(config) == ["balanced_sampling"]
    config["comparisons"]["balanced_sampling"]["tasks"] = []
    assert grid.own_comparisons(config) == []
    entry = {"models": ["urfm", "usfm"], "reference": "urfm", "tasks": ["breast_tumor"], "shares": [10, 100]}
    config["comparisons"] |= {"my_benchmark": entry, "left_out": entry | {"tasks": []}}
    assert grid.own_comparisons(config) == ["my_benchmark"]
    assert {"my_benchmark", "left_out", "figure_3b"} <= set(grid.targets(config))
    assert "figure_2" not in grid.targets(config)
    assert grid.title_of(config, "my_benchmark") == "My benchmark"
    # Once the paper's figure names it, it is no longer one's own; what the figure no longer draws is drawn nowhere.
    config["figures"]["figure_2"]["comparison"] = "my_benchmark"
    assert grid.own_comparisons(config) == []
    config["figures"]["figure_4"]["methods"] = "my_benchmark"
    assert grid.own_comparisons(config) == ["figure_4a"]


def test_comparisons_of_the_claims_alone_train_nothing(config: dict[str, Any]) -> None:
    """They score cells that other comparisons train, where the reference and another model are among these."""
    config["data_root"] = "nowhere"
    names = [name for name, item in config["comparisons"].items() if item.get("claims_only")]
    cells = {name: grid.cells(config, name) for name in names}
    assert {name: len(found) for name, found in cells.items()} == {
        "claim_sl_imagenet": 50, "claim_mim_imagenet": 50, "claim_usfm": 5, "claim_clip": 20, "claim_organs": 49,
        "claim_data10": 24, "claim_data20": 24, "claim_data50": 24, "claim_large": 8,
    }  # fmt: skip
    assert set(names) <= set(grid.stated(config, "claims"))
    assert not set(names) & {*grid.targets(config), *grid.own_comparisons(config)}
    without = config | {
        "comparisons": {name: item for name, item in config["comparisons"].items() if name not in names}
    }
    for wanted in (grid.all_cells, grid.models, grid.runs, grid.tasks, grid.summary, settings.figures.loss_curves):
        assert wanted(config) == wanted(without), wanted.__name__
    config["comparisons"]["figure_8a"]["tasks"] = ["kidney_tumor"]
    assert {cell.task for cell in grid.cells(config, "claim_data10")} == {"kidney_tumor"}
    config["comparisons"]["figure_8a"]["tasks"] = []
    assert grid.cells(config, "claim_data10") == []  # the other models' cells are there, the reference's are not
    assert "urfm_data10" not in grid.models(config)


def test_the_claim_of_faster_convergence_reads_the_histories_of_panel_d(config: dict[str, Any]) -> None:
    config["data_root"] = "nowhere"
    drawn = [cell for cell in grid.cells(config, "figure_8c") if cell.share == 100]
    assert grid.converging_cells(config) == drawn
    assert len(drawn) == 6 * 4


def test_what_a_comparison_of_ones_own_prints(config: dict[str, Any]) -> None:
    before = {name: settings.figures.figure(config, name) for name in ("figure_2", "figure_3b")}
    others = settings.tables.comparison_with_paper(config)
    config["models"]["mine"] = config["models"]["usfm"] | {"title": "Mine"}
    config["comparisons"]["my_benchmark"] = {
        "models": ["urfm", "mine"], "reference": "mine", "against": ["urfm"], "tasks": ["breast_tumor"],
        "shares": [10, 100], "metric": "auroc", "title": "A benchmark",
    }  # fmt: skip
    assert {name: settings.figures.figure(config, name) for name in before} == before
    assert settings.tables.comparison_with_paper(config) == others
    drawn = settings.figures.own_figure(config, "my_benchmark")
    assert (drawn["own"], drawn["metric"], drawn["against"], drawn["reference"]) == (True, "auroc", ["urfm"], "mine")
    assert "Models trained on 100 % of the training part; the table also has 10 %." in drawn["notes"]
    table = settings.tables.comparison(config, "my_benchmark")
    assert (table["title"], table["metric"], table["against"]) == ("A benchmark", "auroc", ["urfm"])
    assert [note.startswith("Not available: ") for note in table["notes"]] == [True] * 3


def test_a_comparison_on_external_images_says_so(config: dict[str, Any]) -> None:
    for name in ("busbra", "buid"):
        (Path(config["data_root"]) / config["datasets"][name]["folder"]).mkdir()
    config["comparisons"]["mine"] = config["comparisons"]["figure_3b"] | {"shares": [20]}
    notes = settings.figures.own_figure(config, "mine")["notes"]
    said = "Scored are images of other data sets, predicted unchanged: Breast lesion (external) by the models of "
    assert said + "Breast tumor." in notes
    assert "Models trained on 20 % of the training part." in notes


def test_a_frozen_cell_reads_what_its_method_needs(config: dict[str, Any]) -> None:
    config["models"] |= {
        "probed": {"title": "Probed", "pretraining": "urfm", "mode": "linear_probe", "finetuning": {"pooling": "cls"}},
        "nearest": {"title": "Nearest", "pretraining": "urfm", "mode": "knn"},
    }
    configuration.check(config)
    cell = {"model", "task", "share", "split", "classes", "seeds", "method"}
    read = {
        model: settings.models.frozen(config, model, "breast_tumor", 100)
        for model in ("majority", "thumbnails", "probed", "nearest")
    }
    assert set(read["majority"]) == set(read["thumbnails"]) == cell
    assert set(read["probed"]) == cell | {"pooling", "evaluation_resize"}
    assert set(read["nearest"]) == cell | {"pooling", "evaluation_resize", "neighbours", "temperature"}
    assert read["probed"]["pooling"] == "cls"
    code = {model: definitions("urfm.training.frozen.stage", read[model]) for model in read}
    modules = {model: {name.split(":")[0] for name in found} for model, found in code.items()}
    assert "urfm.training.frozen.features" in modules["nearest"] - modules["thumbnails"]
    assert "urfm.training.frozen.probes:linear_probe" in code["probed"].keys() - code["nearest"].keys()


def test_baselines_have_no_encoder_to_look_at() -> None:
    for mistaken, said in [
        ("probes: {models: [majority]}", "probes.models: majority is a baseline, which has no encoder"),
        ("figures: {figure_7: {before: thumbnails}}", "figures.figure_7.before: thumbnails is a baseline"),
        ("models: {urfm: {mode: knn}}", "figures.model: urfm is not fine-tuned"),
        ("comparisons: {figure_8b: {models: [urfm_huge, majority]}}", "comparisons.figure_8b.models: majority is a"),
        ("comparisons: {figure_2: {lines: [urfm]}}", "lines: urfm is among comparisons.figure_2.models already"),
        ("comparisons: {figure_2: {lines: [thumbnail]}}", "no thumbnail under models; did you mean thumbnails"),
    ]:
        with pytest.raises(UrfmError, match=re.escape(said)):
            configuration.check(overlaid(mistaken))


def test_baselines_are_lines_of_demo_and_pocket_alone() -> None:
    assert "lines" not in PAPER["comparisons"]["figure_2"]
    for name in ("demo", "pocket"):
        own = overlay(name)
        own["data_root"] = "nowhere"
        lines = settings.figures.figure(own, "figure_2")["lines"]
        assert lines == [["majority", "Majority class"], ["thumbnails", "Thumbnails"]]
        assert not {"majority", "thumbnails"} & {*grid.encoders(own), *grid.available_models(own, "figure_2")}


def test_the_narrow_decoder_of_d79_is_one_key() -> None:
    """The line that docs/decisions.md prints for MAE's decoder; other runs keep theirs."""
    section = (HOME / "docs" / "decisions.md").read_text().split("### D79\n")[1].split("\n## ")[0]
    line = re.search(r"`(pretraining: .+)`", section)
    assert line
    config = overlaid(line[1])
    configuration.check(config)
    assert settings.pretraining.pretraining(config, "mim_us")["decoder"] == {"width": 512, "depth": 8, "heads": 16}
    assert {settings.pretraining.pretraining(config, run)["decoder"]["width"] for run in ("urfm", "deblur_mim")} == {
        768
    }
