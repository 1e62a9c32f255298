# Checks of the configuration, and the helpers that rules share. Nothing here is slow to import: no torch, no pandas.
import os
import shlex
import signal

import snakemake
import yaml
from packaging.version import Version
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from urfm.core import code, provenance
from urfm.core.errors import UrfmError
from urfm.plan import availability, completion, configuration, grid, products, settings

if workflow.modifier.skip_configfile:  # a module with a `config:` of its own, for which Snakemake reads no files
    overlay, config = config, parts.load(HOME)
    update_config(config, overlay)
else:
    # Snakemake takes numbers within --config 'key={…}' and 'key=[…]', and `true`, for words; here they are what they are
    # in a file.
    for argument in workflow.config_settings.config_args:
        key, value = argument.split("=", 1)
        if value.startswith(("{", "[")) or value in ("true", "false"):
            update_config(config, {key: yaml.safe_load(value)})

if set(str(HOME)) & set("{}:\n"):
    raise WorkflowError(f"{HOME}: the path of this clone holds a brace, a colon or a line break; rename its folder")

# Where `<results>` is for whoever does not ask Snakemake; a module may say so too, and set a prefix.
RESULTS = Path(workflow.pathvars.apply(str(workflow.modifier.modify_path("<results>"))))
update_config(config, {"pathvars": {"results": str(RESULTS)}})

completion.complete(config)
try:
    configuration.check(config)
except UrfmError as error:
    raise WorkflowError(str(error))

# What every job gets without being rerun for it: the library of this checkout, whatever is installed; where raw data,
# checkpoints and training state lie (the state is unknown to Snakemake, so it survives kills and requeues); one thread a
# process, which is fastest and keeps results bit-exact.
ENVIRONMENT = {
    "PYTHONPATH": HOME / "workflow",
    "URFM_DATA": config["data_root"],
    "URFM_CHECKPOINTS": config["checkpoint_root"],
    "URFM_STATE": RESULTS / "state",
    "URFM_KEEP_STATE": "yes" if config["keep_training_state"] else "",
    "URFM_LAUNCH": HOME / "workflow" / "launch.sh",
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "PYTHONUNBUFFERED": 1,
}
exports = "".join(f"export {name}={shlex.quote(str(value))}; " for name, value in ENVIRONMENT.items())
if getattr(workflow, "urfm", exports) != exports:
    raise WorkflowError("two modules of URFM in one workflow must have the same data_root, checkpoint_root and results")
workflow.urfm = exports  # Snakemake starts every command with them, those of all modules
# The demo's jobs are too short to import torch each for itself: see urfm.core.warm, whose server envs/run starts.
client = shlex.quote(str(HOME / "workflow" / "urfm" / "core" / "warm.py"))
start = f'python() ( shift; exec python -I -S {client} "$URFM_WARM" "$@" ); '
shell.prefix(f"set -euo pipefail; {exports}{start if os.environ.get('URFM_WARM') else ''}")

if workflow.is_main_process:
    for line in grid.summary(config) + products.summary(config):
        print(line, file=sys.stderr)


onstart:
    # A closed terminal is taken as SIGTERM is: no new jobs, those that run end by themselves, and nothing stays locked.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, workflow.scheduler.exit_gracefully)
    # Snakemake's limit of submissions, of no use on one machine, wakes the scheduler each second once for every job that
    # has finished, hundreds of times in the end (snakemake issue 2967; tests/workflow/test_limit.py holds it to that version).
    if workflow.local_exec and Version(snakemake.__version__) < Version("9.28"):
        workflow.scheduler.job_rate_limiter = None
    if not workflow.dag_settings.targets or set(workflow.dag_settings.targets) - {"download", "doctor"}:
        try:
            availability.require_data_root(config)
        except UrfmError as error:
            raise WorkflowError(str(error))


wildcard_constraints:
    dataset=configuration.one_of(config["datasets"]),
    folder=configuration.one_of(config["datasets"][name]["folder"] for name in config["simulation"]),
    task=configuration.one_of(config["tasks"]),
    teacher=configuration.one_of(config["teachers"]),
    run=configuration.one_of(config["pretraining"]["runs"]),
    model=configuration.one_of(config["models"]),
    sigma=r"[0-9.e+-]+",
    comparison=configuration.one_of(config["comparisons"]),
    share=r"\d+",
    split=r"paper|seed-(0|[1-9]\d*)|published|ultrabench",


def depends(module, section):
    """All params of a rule: they change when its settings change, or code that can change its result.

    Snakemake compares params as a set of values without names, so there are these two kinds and no other: `module@digest`
    (urfm.core.code), and all settings that the stage reads as canonical JSON. `section` gets the wildcards.
    """
    return {
        "code": lambda wildcards: code.code_digests(module, section(wildcards)),
        "settings": lambda wildcards: provenance.canonical_json(section(wildcards)),
    }


def need(stage, what):
    """A resource of a stage: gpus, nodes, threads, mem_mb or minutes (`resources:` in the configuration)."""
    return config["resources"][stage].get(what, 0)


def minutes(stage):
    """Run time of a stage; a repeated attempt gets as much again, since training resumes where it stopped."""
    return lambda wildcards, attempt: need(stage, "minutes") * attempt


def cards(stage):
    """The graphics cards of a job as the Slurm executor takes them: `gpu` is --gpus, all of the job; `gres` is a node's."""
    count, kind = need(stage, "gpus"), config["resources"]["gpu_type"]
    if not count:
        return {}
    if config["resources"]["gpu_request"] == "gres":
        return {"gres": ":".join(filter(None, ("gpu", kind, str(count))))}
    return {"gpu": count * (need(stage, "nodes") or 1), **({"gpu_model": kind} if kind else {})}


def memory(stage, times=1):
    """Memory of a stage, so many times; a repeated attempt gets half as much again, for what ran out of it."""
    return lambda wildcards, attempt: need(stage, "mem_mb") * times * (attempt + 1) // 2


def needs(stage, **others):
    """The resources of a stage: memory, time and, where it says so, GPUs; and `others`, which stand above them."""
    return {**cards(stage), "mem_mb": memory(stage), "runtime": minutes(stage), **others}


def drawing(name, figure, content, category="Figures", caption=None):
    """What rules that draw give: PDF, PNG and a CSV of the numbers drawn, the latter two shown in the report."""
    path, caption = f"<results>/figures/{name}", f"../report/{caption or name}.rst"
    return {
        "pdf": f"{path}.pdf",
        "png": report(f"{path}.png", caption, category, labels={"figure": figure, "content": content}),
        "numbers": report(f"{path}.csv", caption, category, labels={"figure": figure, "content": "numbers drawn"}),
    }


def tabulating(name, table, content):
    """What rules that write a table give: a CSV, shown in the report, and the same for text and for LaTeX."""
    path, labels = f"<results>/tables/{name}", {"table": table, "content": content}
    return {
        "csv": report(f"{path}.csv", f"../report/{name}.rst", "Tables", labels=labels),
        "text": [f"{path}.md", f"{path}.tex"],
    }


def several(nodes):
    """What the Slurm executor must know of a job on several nodes: one task each, which the job starts by srun."""
    return {"mpi": "srun", "tasks": nodes, "tasks_per_gpu": 0} if nodes > 1 else {}


def raw_files(wildcards):
    """What shows that raw data changed: tables, and folders, whose times change with the files in them.

    A look at every file of an archive would cost more than reading it. The simulator's record if the data set is
    simulated.
    """
    folder = availability.data_root(config) / config["datasets"][wildcards.dataset]["folder"]
    if availability.is_simulated(config, wildcards.dataset):
        return folder / "SIMULATED.json"
    return availability.folders_and_tables(folder)


def ultrabench_files(wildcards):
    """UltraBench's lists, for its split; those that are not there are named by the stage."""
    if wildcards.split != "ultrabench":
        return []
    folder = availability.data_root(config) / config["tasks"][wildcards.task].get("ultrabench", "")
    return [path for name in ("train", "validation", "test") if (path := folder / f"{name}.json").is_file()]


def simulated_dataset(wildcards):
    return next(name for name in config["simulation"] if config["datasets"][name]["folder"] == wildcards.folder)


def run_datasets(run):
    """The data sets of a pre-training run that are there; an error that says why if there are none."""
    if missing := availability.missing_images(config, run):
        raise WorkflowError(f"pretraining.runs.{run}: {missing.reason}: {missing.detail}")
    return availability.available_datasets(config, run)


def left_out_tasks(run):
    """The tasks whose validation and test patients a run may not see."""
    excludes = availability.pretraining_settings(config, run)["exclude_downstream_test"]
    return [task for task in config["tasks"] if excludes and not availability.missing_task(config, task)]


def left_out_splits(suffix):
    """The splits of these tasks; all of them where each seed has its own."""
    return lambda wildcards: [
        f"<results>/splits/{task}/{split}.{suffix}"
        for task in left_out_tasks(wildcards.run)
        for split in grid.splits(config)
    ]


def run_manifests(suffix):
    """The manifests of a run's data sets, and of the tasks whose patients it leaves out."""

    def files(wildcards):
        tasks = [config["tasks"][task]["dataset"] for task in left_out_tasks(wildcards.run)]
        names = dict.fromkeys([*run_datasets(wildcards.run), *tasks])
        return [f"<results>/manifests/{name}.{suffix}" for name in names]

    return files


def run_images(name):
    return lambda wildcards: [f"<results>/images/{dataset}/{name}" for dataset in run_datasets(wildcards.run)]


def run_blurred_images(name):
    """Files of the second stores, which a run's student sees; none of a run that does not deblur."""

    def files(wildcards):
        sigma = availability.blur_of_run(config, wildcards.run)
        return [f"{stores(sigma)}/{dataset}/{name}" for dataset in run_datasets(wildcards.run)] if sigma else []

    return files


def stores(sigma):
    """Where the image stores are, or those of images that were blurred."""
    return f"<results>/images_blurred/{sigma}" if sigma else "<results>/images"


def seen_stores(wildcards):
    """Where the stores are that a rule's run or model sees, or, of a rule without, the model of figures 6 and 7."""
    if run := wildcards.get("run"):
        return stores(availability.blur_of_run(config, run))
    return stores(availability.blur_of_model(config, wildcards.get("model") or config["figures"]["model"]))


def target_files(run, name):
    """Stored teacher targets of a run's data sets; none when the teacher looks on while training."""
    if not settings.pretraining.uses_cache(config, run):
        return []
    teacher = availability.pretraining_settings(config, run)["teacher"]
    return [f"<results>/targets/{teacher}/{dataset}/{name}" for dataset in availability.available_datasets(config, run)]


def upstream_file(record):
    """A checkpoint or teacher file if it is there or made here, so that another file in its place is noticed."""
    file = record.get("file", "")
    path = Path(config["checkpoint_root"]) / file
    return [path] if path.is_file() or file in availability.stand_ins(config) else []


def teacher_file(run):
    """What a teacher that looks on while training is loaded from."""
    return (
        []
        if settings.pretraining.uses_cache(config, run)
        else upstream_file(settings.pretraining.pretraining(config, run)["teacher"])
    )


def measured(wildcards):
    """Statistics with scores of a model, of the comparisons that are drawn already: a model card waits for none."""
    return [
        f"<results>/statistics/{name}/statistics.json"
        for name, item in grid.trained(config).items()
        if wildcards.model in grid.wanted_models(item) and (RESULTS / "statistics" / name / "statistics.json").is_file()
    ]


def task_manifest(suffix):
    return lambda wildcards: f"<results>/manifests/{config['tasks'][wildcards.task]['dataset']}.{suffix}"


def task_images(name):
    return lambda wildcards: f"{seen_stores(wildcards)}/{config['tasks'][wildcards.task]['dataset']}/{name}"


def external_files(pattern):
    """A file of the set that a task's models predict unchanged, by its {dataset} in {stores}, or {task}; none if it is
    not here."""

    def files(wildcards):
        if (other := grid.external_task(config, wildcards.task)) is None:
            return []
        dataset = config["tasks"][other]["dataset"]
        return [pattern.format(task=other, dataset=dataset, stores=seen_stores(wildcards))]

    return files


def comparison_files(name):
    """What a comparison is as a target: its statistics, a figure and a table."""
    figure = [f"<results>/figures/{name}.{suffix}" for suffix in ("pdf", "png", "csv")]
    table = [f"<results>/tables/{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    return [f"<results>/statistics/{name}/statistics.json", *figure, *table]


def taken(name):
    """Whether another rule has the name of a comparison, or writes files of this name."""
    files = [RESULTS / "figures" / f"{name}.png", RESULTS / "tables" / f"{name}.csv"]
    named = workflow.is_rule(workflow.modifier.modify_rulename(name))
    return named or any(other.is_producer(str(file)) for other in workflow.rules for file in files)


def encoder_file(suffix):
    """A file of a model's encoder; none of a baseline, which has no encoder."""

    def files(wildcards):
        return (
            [] if "baseline" in config["models"][wildcards.model] else f"<results>/encoders/{wildcards.model}.{suffix}"
        )

    return files


def cell_files(name):
    def files(wildcards):
        cells = grid.cells(config, wildcards.comparison)
        if not cells:
            raise WorkflowError(
                f"{wildcards.comparison}: nothing to draw; the lines above say which models and tasks are missing"
            )
        return [f"<results>/finetune/{cell.model}/{cell.task}/{cell.share}/{name}" for cell in cells]

    return files


def probe_files(suffix):
    """Predictions of all runs and models that are probed."""
    names = [f"runs/{run}" for run in grid.probed_runs(config)]
    names += [f"models/{model}" for model in grid.probed_models(config)]
    return [f"<results>/probes/{name}/{task}.{suffix}" for name in names for task in grid.probed_tasks(config)]


def task_stores(tasks, name, folder="<results>/images"):
    """A file of the image store of each of these tasks that is here."""
    there = grid.available_tasks(config, {"tasks": tasks})
    return [f"{folder}/{config['tasks'][task]['dataset']}/{name}" for task in there]


def needed(product, files):
    """The input of a figure; an error that says what it needs where that is not here."""

    def checked(wildcards):
        if gap := products.missing(config, product):
            raise WorkflowError(f"{product}: {gap.reason} ({gap.detail})")
        return files

    return checked


def drawn_statistics(figure, *names):
    """Files of the statistics that a figure draws."""
    found = grid.drawn(config, figure)
    return needed(figure, [f"<results>/statistics/{comparison}/{name}" for comparison in found for name in names])


def scaled_models(panel):
    """The models of a panel of figure 8 whose sizes stand on its axis."""
    comparison = config["figures"]["figure_8"][panel]
    return grid.available_models(config, comparison) if comparison in grid.drawn(config, "figure_8") else []


def scaled_runs(panel):
    records = [config["models"][model] for model in scaled_models(panel)]
    return dict.fromkeys(record["pretraining"] for record in records if "pretraining" in record)


def efficiency_cells():
    """Folders of the cells of panels C and D."""
    return folders_of(grid.cells(config, config["figures"]["figure_8"]["labels"]))


def folders_of(cells):
    return [f"<results>/finetune/{cell.model}/{cell.task}/{cell.share}" for cell in cells]
