# Checks of the configuration, and the helpers that rules share. Nothing here is slow to import: no torch, no pandas.
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

HOME = Path(workflow.basedir)
sys.path.insert(0, str(HOME / "workflow"))

from urfm import availability, configuration, grid, provenance, settings
from urfm.errors import UrfmError

# The library of this checkout, whatever is installed; one thread a process is fastest and keeps results bit-exact.
shell.prefix(f"export PYTHONPATH={HOME / 'workflow'}:$PYTHONPATH OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONUNBUFFERED=1; ")

try:
    configuration.check(config, HOME / "workflow" / "schemas" / "config.schema.yaml")
except UrfmError as error:
    raise WorkflowError(str(error))

if workflow.is_main_process:
    for line in grid.summary(config):
        print(line, file=sys.stderr)


onstart:
    try:
        availability.require_data_root(config)
    except UrfmError as error:
        raise WorkflowError(str(error))


# Training state survives kills and requeues because Snakemake does not know of it.
STATE = workflow.pathvars.apply("<results>/state")


wildcard_constraints:
    dataset=configuration.one_of(config["datasets"]),
    folder=configuration.one_of(config["datasets"][name]["folder"] for name in config["simulation"]),
    task=configuration.one_of(config["tasks"]),
    teacher=configuration.one_of(config["teachers"]),
    run=configuration.one_of(config["pretraining"]["runs"]),
    model=configuration.one_of(config["models"]),
    figure=configuration.one_of(config["figures"]),
    share=r"\d+",
    split=r"[a-z]+(-\d+)?",


def code(module):
    """Params that change when code which the module imports changes."""
    return provenance.code_digests(module)


def reads(section):
    """The one other param: all settings a rule reads, as canonical JSON. `section` gets the wildcards."""
    return lambda wildcards: provenance.canonical_json(section(wildcards))


def need(stage, what):
    """A resource of a stage: gpus, threads, mem_mb or minutes (`resources:` in the configuration)."""
    return config["resources"][stage].get(what, 0)


def minutes(stage):
    """Run time of a stage; a repeated attempt gets as much again, since training resumes where it stopped."""
    return lambda wildcards, attempt: need(stage, "minutes") * attempt
