"""What a dry run plans: the paper on Slurm, named targets, and clear words when something is wrong."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from working_copy import Repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A fresh clone: no data, no results."""
    return Repository(tmp_path_factory.mktemp("fresh"))


def jobs(output: str) -> Counter[str]:
    return Counter(re.findall(r"^\s*(?:local)?rule (\w+):", output, flags=re.MULTILINE))


def test_slurm_plans_the_paper(repository: Repository) -> None:
    """Exactly `snakemake --profile slurm figure_2`, as a dry run: the whole of figure 2 and its resources."""
    output = repository.snakemake("--profile", "slurm", "figure_2", "--dry-run")
    assert jobs(output) == Counter(
        manifest=20, images=20, blurred_images=20, split=11, pretrain_set=3, pretrain=3, encoder_from_run=3,
        encoder_from_checkpoint=3, finetune=50, finetune_with_weights=10, comparison_statistics=1, figure_2=1,
    )  # fmt: skip
    blocks = re.split(r"\n(?=(?:local)?rule )", output)
    pretraining = [block for block in blocks if block.startswith("rule pretrain:")]
    cells = [block for block in blocks if block.startswith("rule finetune")]
    wanted = ("gpu=8", "processes=8", "mem_mb=256000", "runtime=2880")
    assert len(pretraining) == 3
    assert all(resource in block for block in pretraining for resource in wanted)
    assert all("gpu=1" in block and "runtime=720" in block for block in cells)


def test_baselines_add_their_own_cells_alone(repository: Repository) -> None:
    """As lines of figure 2, and a frozen encoder as a model: no other job is planned or reads other settings."""
    without = repository.snakemake("figure_2", "--dry-run", "--printshellcmds")
    overlay = "models: {urfm_frozen: {title: URFM (frozen), pretraining: urfm, mode: linear_probe}}\n"
    overlay += "comparisons: {figure_2: {lines: [majority, thumbnails, urfm_frozen]}}"
    (repository.folder / "lines.yaml").write_text(overlay)
    output = repository.snakemake("figure_2", "--dry-run", "--printshellcmds", "--configfile", "lines.yaml")
    assert jobs(output) - jobs(without) == Counter(baseline=20, frozen=10, encoder_from_run=1)
    assert not jobs(without) - jobs(output)
    trained = [re.findall(r"--settings '\{.*\"base_lr\".*", text) for text in (without, output)]
    assert sorted(trained[0]) == sorted(trained[1]) != []
    blocks = [block for block in re.split(r"\n(?=(?:local)?rule )", output) if block.startswith("rule baseline:")]
    assert not any("gpu=" in block or "encoders/" in block for block in blocks)


class Resources(dict[str, Any]):
    """Those of a job, as Snakemake hands them to the Slurm executor."""

    __getattr__ = dict.__getitem__


def submission(block: str) -> str:
    """The line by which the Slurm executor would submit a job of a dry run."""
    listed = re.search(r"^    resources: (.*)$", block, flags=re.MULTILINE)
    threads = re.search(r"^    threads: (\d+)$", block, flags=re.MULTILINE)
    assert listed
    pairs = [item.split("=", 1) for item in listed[1].split(", ")]
    resources = Resources({name: int(text) if text.isdigit() else text for name, text in pairs})
    job = SimpleNamespace(resources=resources, threads=int(threads[1]) if threads else 1)
    names = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    return get_submit_command(job, dict.fromkeys(names, "")) + set_gres_string(job)


CARDS = {"targets": 1, "pretrain": 8, "finetune": 1, "probe": 1}  # of config.yaml
STAGE = {
    "cache_targets": "targets",
    "pretrain": "pretrain",
    "probe_run": "probe",
    "probe_model": "probe",
    "frozen": "probe",
    "attention": "finetune",
    "embeddings": "finetune",
    "finetuned_embeddings": "finetune",
    "finetune": "finetune",
    "finetune_with_weights": "finetune",
}
REQUESTS = {
    "": "--gpus={count}",
    "gpu_type: a100": "--gpus=a100:{count}",
    "gpu_request: gres": "--gres=gpu:{count}",
    "gpu_request: gres, gpu_type: nvidia_a100_2g.20gb": "--gres=gpu:nvidia_a100_2g.20gb:{count}",
}


@pytest.mark.parametrize(("setting", "option"), REQUESTS.items())
def test_every_job_asks_for_its_gpus_as_the_site_wants(repository: Repository, setting: str, option: str) -> None:
    """The submission line of every job of everything; the number of processes does not depend on it."""
    overlay = f"resources: {{{setting}}}\nmodels: {{linear: {{title: L, pretraining: urfm, mode: linear_probe}}}}\n"
    overlay += "pretraining: {runs: {urfm: {targets: cached}}}\ncomparisons: {figure_2: {lines: [majority, linear]}}"
    (repository.folder / "site.yaml").write_text(overlay)
    arguments = ("--profile", "slurm", "--dry-run", "--printshellcmds", "--configfile", "site.yaml")
    blocks = re.findall(
        r"^rule .*\n(?: {4}.*\n)+", repository.snakemake("all", "pretraining", *arguments), re.MULTILINE
    )
    asked: dict[str, set[str]] = {}
    for block in blocks:
        options = re.findall(r"--(?:gpus|gres)=\S+", submission(block))
        asked.setdefault(block[5 : block.index(":")], set()).add(" ".join(options))
    assert asked.keys() >= STAGE.keys()
    assert {rule: options for rule, options in asked.items() if options != {""}} == {
        rule: {option.format(count=CARDS[stage])} for rule, stage in STAGE.items()
    }
    launched = [block for block in blocks if re.search("processes=8(,|$)", block, re.MULTILINE)]
    assert len(launched) == jobs("".join(blocks))["pretrain"] >= 17


def test_a_wrong_way_to_ask_for_gpus_is_refused(repository: Repository) -> None:
    wrong = "resources={gpu_request: gre, gpu_type: 'a100; rm'}"
    output = repository.snakemake("--dry-run", "--config", wrong, check=False)
    assert "resources.gpu_request: 'gre' is not one of gpus, gres; did you mean gres?" in output
    assert "resources.gpu_type: 'a100; rm' is not text like" in output


def test_pretraining_on_several_nodes(repository: Repository) -> None:
    """One Slurm job, one task a node; the number of nodes is no reason to train again."""
    (repository.folder / "nodes.yaml").write_text("resources: {pretrain: {nodes: 2}}")
    two = ("--dry-run", "--printshellcmds", "--configfile", "nodes.yaml")
    output = repository.snakemake("pretraining", "--profile", "slurm", *two)
    runs = jobs(output)["pretrain"]
    assert runs == len(re.findall(r'sh "\$URFM_LAUNCH" 2 8 \d+ urfm.training.pretrain.stage', output)) >= 3
    for resource in ("gpu=16", "nodes=2", "tasks=2", "mpi=srun", "processes=8", "mem_mb=256000"):
        assert output.count(resource) >= runs, resource
    (repository.folder / "nodes.yaml").write_text("resources: {gpu_request: gres, pretrain: {nodes: 2}}")
    output = repository.snakemake("pretraining", "--profile", "slurm", *two)
    for resource in ("gres=gpu:8", "nodes=2", "tasks=2", "processes=8"):  # of each node
        assert output.count(resource) >= runs, resource


def test_numbers_on_the_command_line_are_numbers(repository: Repository) -> None:
    """Those within braces and brackets too, which Snakemake takes for words; README's examples."""
    overrides = (
        "--config", "finetuning={epochs: 50}", "seeds=[0, 3]", "resources={finetune: {minutes: 55}}",
        "keep_training_state=true",
    )  # fmt: skip
    output = repository.snakemake("figure_2", "--profile", "slurm", "--dry-run", "--printshellcmds", *overrides)
    assert output.count('"epochs":50,') == output.count('"seeds":[0,3],') == 60
    assert output.count("runtime=55") == 60


def test_partition_and_account_come_from_the_environment(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "a100")
    monkeypatch.setenv("SBATCH_ACCOUNT", "ultrasound")
    output = repository.snakemake("--profile", "slurm", "table_4", "--dry-run")
    assert "slurm_partition=a100" in output
    assert "slurm_account=ultrasound" in output


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        ("table_4", Counter(table_4=1)),
        ("table_5", Counter(table_5=1)),
        ("table_1", Counter(manifest=10, pretrain_set=1, table_1=1)),
        ("table_3", Counter(manifest=6, pretrain_set=6, table_3=1)),
        ("pretrain_sets", Counter(manifest=10, pretrain_set=16, pretrain_sets=1)),
        # All seventeen runs, one of which leaves out the patients of eleven tasks, and one sees blurred images.
        (
            "pretraining",
            Counter(manifest=20, images=10, blurred_images=10, split=11, pretrain_set=17, pretrain=17, pretraining=1),
        ),
        ("results/pretrain/urfm_liver/encoder.json", Counter(manifest=1, images=1, pretrain_set=1, pretrain=1)),
        ("results/pretrain/urfm_data10/encoder.json", Counter(manifest=10, images=10, pretrain_set=1, pretrain=1)),
        ("results/pretrain/urfm_balanced/encoder.json", Counter(manifest=10, images=10, pretrain_set=1, pretrain=1)),
        # Eleven tasks, all of whose data sets but one are not trained on.
        (
            "results/pretrain/urfm_clean/encoder.json",
            Counter(manifest=20, images=10, split=11, pretrain_set=1, pretrain=1),
        ),
        ("splits", Counter(manifest=11, split=11, splits=1)),
        ("resplits", Counter(manifest=11, split=110, resplits=1)),
        # Maps of one task: its own cell, with weights, and the pre-training.
        (
            "results/attention/liver_mvi.json",
            Counter(
                manifest=11,
                images=11,
                pretrain_set=1,
                pretrain=1,
                split=1,
                encoder_from_run=1,
                finetune_with_weights=1,
                attention=1,
            ),
        ),
        ("results/splits/breast_tumor/seed-3.json", Counter(manifest=1, split=1)),
        ("manifests", Counter(manifest=20, manifests=1)),
        (
            "leakage_audit",
            Counter(manifest=20, split=11, pretrain_set=16, audit=1, duplicates_sheet=1, leakage_audit=1),
        ),
    ],
)
def test_named_targets(repository: Repository, target: str, rules: Counter[str]) -> None:
    assert jobs(repository.snakemake(target, "--dry-run")) == rules


def test_targets_are_a_menu(repository: Repository) -> None:
    menu = repository.snakemake("--list-target-rules").split()
    wanted = "all figure_2 table_1 table_2 table_3 table_4 table_5 manifests splits resplits pretrain_sets targets"
    wanted += " figure_4a figure_8c probe_curves loss_curves reconstructions"
    wanted += " pretraining encoders finetuning statistics leakage_audit download doctor check_data cost"
    assert set(wanted.split()) <= set(menu)


def test_fine_tuning_takes_another_split(repository: Repository) -> None:
    """Each with its own seed; the tasks that have no such split are named."""
    cell = "results/finetune/urfm/breast_tumor/100/cell.json"
    for split, own in (("seed-3", '"seed":3'), ("published", '"split":"published"')):
        chosen = ("--config", f"finetuning={{split: {split}}}")
        output = repository.snakemake(cell, "--dry-run", "--printshellcmds", *chosen)
        assert f"results/splits/breast_tumor/{split}.json" in output
        assert own in output
    every = ("--dry-run", "--config", "finetuning={split: per_seed}")
    output = repository.snakemake(cell, "--printshellcmds", *every)
    paths = [f"results/splits/breast_tumor/seed-{seed}.json" for seed in range(10)]
    assert f"--split {' '.join(paths)}" in output
    assert jobs(repository.snakemake("table_2", *every)) == Counter(manifest=11, split=11, table_2=1)
    assert jobs(repository.snakemake("splits", *every)) == Counter(manifest=11, split=110, splits=1)
    output = repository.snakemake("table_2", "--dry-run", "--config", "finetuning={split: ultrabench}")
    assert jobs(output) == Counter(manifest=2, split=2, table_2=1)
    assert "task breast_tumor: no split of UltraBench's (tasks.breast_tumor.ultrabench is not set)" in output
    output = repository.snakemake("--dry-run", "--config", "finetuning={split: seed-03}", check=False)
    assert "finetuning.split: 'seed-03' is not text like `^(paper|" in output


def test_download_runs_where_snakemake_runs(repository: Repository) -> None:
    """On a cluster too: compute nodes are often offline. No other target fetches anything (see the plans above)."""
    output = repository.snakemake("download", "--profile", "slurm", "--dry-run", "--printshellcmds")
    assert jobs(output) == Counter(download=1)
    assert output.count("https://zenodo.org/records/") == 4
    output = repository.snakemake("download", "--dry-run", "--printshellcmds", "--config", "download=[busbra]")
    assert output.count("https://zenodo.org/records/") == 1
    assert "BUSBRA.zip" in output


def test_download_leaves_what_is_there(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "BUSBRA").mkdir()
    (tmp_path / "BUSBRA" / "bus_data.csv").write_text("mine")
    arguments = ["download", "--cores", "1", "--config", "download=[busbra]", f"data_root={tmp_path}"]
    output = repository.snakemake(*arguments)
    assert "localrule download:" in output
    assert f"busbra: {tmp_path}/BUSBRA holds files that were not fetched here, and is left alone" in output
    assert [path.name for path in tmp_path.rglob("*")] == ["BUSBRA", "bus_data.csv"]


def test_check_data_before_anything_is_made(repository: Repository, tmp_path: Path) -> None:
    output = repository.snakemake("check_data", "--cores", "1", "--config", f"data_root={tmp_path}")
    assert "busbra: no manifest yet" in output
    assert not (repository.folder / "results" / "manifests").exists()


def test_doctor_without_data(repository: Repository, tmp_path: Path) -> None:
    output = repository.snakemake("doctor", "--cores", "1", "--config", f"data_root={tmp_path}/nowhere")
    assert f"- absent     busbra: {tmp_path}/nowhere/BUSBRA" in output
    assert "figure_2: nothing yet; 0 of 6 models; 0 of 10 tasks" in output
    assert not (tmp_path / "nowhere").exists()
    assert not (repository.folder / "results" / "doctor").exists()


def test_unknown_key_is_refused_with_the_nearest(repository: Repository) -> None:
    output = repository.snakemake("--dry-run", "--config", "finetuning={layer_decy: 0.5}", check=False)
    assert "unknown key finetuning.layer_decy; did you mean layer_decay?" in output
    assert "Traceback" not in output


# Of every kind: beyond a bound, of a wrong type, not among the choices, against another key, of no known name.
WRONG = {
    "finetuning": "{drop_path: 1.0, label_smoothing: 1.0, layer_decay: 0, batch_size: 15, crop_scale: [1.0, 0.2]}",
    "pretraining": "{defaults: {mask_ratio: 1.0, batch_size: 0, normalisation: imagnet, betas: [0.9, 1.0]}, "
    "runs: {urfm: {share: 0}}}",
    "statistics": "{bootstrap_resamples: 1, t_test: welsh}",
    "seeds": "[0, -1]",
    "resorces": "{}",
}
SAID = [
    "finetuning.drop_path: 1.0 is not a number of at least 0 and below 1 (probability to skip the last block",
    "finetuning.label_smoothing: 1.0 is not a number of at least 0 and below 1",
    "finetuning.layer_decay: 0 is not a number above 0 and at most 1",
    "finetuning.batch_size: 15 is odd; mixup and cutmix mix images in pairs",
    "finetuning.crop_scale: [1, 0.2] is in the wrong order",
    "pretraining.defaults.mask_ratio: 1.0 is not a number of at least 0 and below 1",
    "pretraining.defaults.batch_size: 0 is not a whole number of at least 1",
    "pretraining.defaults.normalisation: 'imagnet' is not",
    "pretraining.defaults.betas.1: 1.0 is not a number of at least 0 and below 1",
    "pretraining.runs.urfm.share: 0 is not a whole number of at least 1 and at most 100",
    "statistics.bootstrap_resamples: 1 is not a whole number of at least 40",
    "statistics.t_test: 'welsh' is not one of welch, paired; did you mean welch?",
    "seeds.1: -1 is not a whole number of at least 0",
    "unknown key resorces; did you mean resources?",
]


def test_wrong_values_are_refused_before_the_first_job(repository: Repository) -> None:
    """All of them at once, each with its key, its value and what would be right."""
    output = repository.snakemake(
        "--dry-run", "--config", *(f"{key}={text}" for key, text in WRONG.items()), check=False
    )
    assert [said for said in SAID if said not in output] == []
    assert jobs(output) == Counter()
    assert "Traceback" not in output


def test_an_overlay_extends_the_catalogue(repository: Repository) -> None:
    """A run is a model by itself, and a named list of tasks stands for them."""
    (repository.folder / "mine.yaml").write_text("""
        pretraining: {runs: {half: {title: Half of the images, share: 50}}}
        task_lists: {two: [breast_tumor, liver_mass]}
        comparisons: {figure_2: {models: [half, urfm], tasks: two}}
    """)
    output = repository.snakemake("figure_2", "--dry-run", "--configfile", "mine.yaml")
    assert "figure_2: 2 of 2 models on 2 of 2 tasks" in output
    assert "results/finetune/half/liver_mass/100/cell.json" in output


def test_missing_data_root_stops_a_real_run_at_once(repository: Repository) -> None:
    output = repository.snakemake("--cores", "1", "--config", "data_root=nowhere", check=False)
    assert "data_root: nowhere is not a folder" in output
    assert "--config data_root=" in output
    assert not (repository.folder / "results" / "manifests").exists()


def test_new_raw_data_are_noticed(repository: Repository, tmp_path: Path) -> None:
    """An edited table or a new image reruns the manifest; nothing else in the folder does."""
    folder = tmp_path / "data" / "Thyroid4K"
    (folder / "images").mkdir(parents=True)
    table = folder / "metadata.csv"
    table.write_text("image,patient_id,label\n")
    suffixes = (".parquet", ".rejected.csv", ".json", ".files.parquet", ".images.json")
    outputs = [f"{tmp_path}/results/manifests/thyroid4k{suffix}" for suffix in suffixes]
    arguments = [outputs[0], "--config", f"data_root={tmp_path}/data", f"pathvars={{results: {tmp_path}/results}}"]

    def wanted() -> Counter[str]:
        return jobs(repository.snakemake(*arguments, "--dry-run"))

    assert wanted() == Counter(manifest=1)
    for output in outputs:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        Path(output).touch()
    repository.snakemake(*arguments, "--cores", "1", "--touch", "--forceall")
    assert wanted() == Counter()
    (folder / "images" / "new.png").touch()
    assert wanted() == Counter(manifest=1)
    repository.snakemake(*arguments, "--cores", "1", "--touch")
    table.write_text("image,patient_id,label\nnew.png,1,benign\n")
    assert wanted() == Counter(manifest=1)


def test_a_run_without_images_says_so(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "BUV").mkdir()
    target = "results/pretrain/urfm_liver/encoder.json"
    output = repository.snakemake(target, "--dry-run", "--config", f"data_root={tmp_path}", check=False)
    assert f"pretraining.runs.urfm_liver: no pre-training data: none of RadImageNet in {tmp_path}" in output


def test_what_is_missing_is_said(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "BUSBRA").mkdir()
    output = repository.snakemake("figure_2", "--dry-run", "--config", f"data_root={tmp_path}", check=False)
    assert "figure_2: 0 of 6 models on 1 of 10 tasks" in output
    assert f"task liver_mass: data set not in the data folder (aul: no folder {tmp_path}/AUL)" in output
    assert re.search(r"model mim_imagenet: checkpoint not .*mae_pretrain_vit_base\.pth\)", output)
