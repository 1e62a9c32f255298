# The URFM workflow: every table and figure of the paper is a target. `snakemake --list-target-rules` is the menu.
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.19")

# The folder of this file, from whichever folder it is run and whichever workflow uses it as a module.
HOME = Path(workflow.current_basedir)
# The library of this clone, whatever is installed.
sys.path.insert(0, str(HOME / "workflow"))

from urfm.config import parts

# The catalogue, and over it config.yaml; over both what --configfile and --config say, or the `config:` of a module.
for part in parts.PARTS:

    configfile: str(HOME / part)


pathvars:
    results="results",
    logs="<results>/logs",


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/probes.smk"
include: "workflow/rules/encoders.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/interpret.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/collect.smk"


rule all:
    default_target: workflow.modifier.is_main_snakefile()
    input:
        *PRODUCTS,
        rules.report.output,
    localrule: True


# After all other rules: no comparison may have the name of one.
include: "workflow/rules/comparisons.smk"
