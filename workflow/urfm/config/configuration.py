"""The whole configuration: config.yaml, the catalogue beside it, and overlays, merged (`urfm.config.parts`)."""

from __future__ import annotations

from pydantic import Field

from urfm.config.data import Audit, Check, Dataset, Images, Simulated, Splits, Task
from urfm.config.entries import Model, Pretraining
from urfm.config.fields import AnyNames, Folder, Name, Names, Seeds, Text
from urfm.config.finetuning import Finetuning
from urfm.config.models import StandIns, Teacher
from urfm.config.paper import Comparison, Figures, Tables
from urfm.config.resources import Cost, Resources
from urfm.config.statistics import Probes, Reconstructions, Statistics
from urfm.core.cli import Settings


class Pathvars(Settings):
    """Where results and logs go."""

    results: Folder = Field(
        default="results", description="folder of everything made but logs; relative to the working directory"
    )
    logs: Folder = Field(
        default="<results>/logs", description="folder of the jobs' output; relative to the working directory"
    )


class Configuration(Settings):
    """Every key of config.yaml and the catalogue. Unknown keys are refused."""

    data_root: Folder = Field(description="folder of the raw archives; relative to the working directory")
    checkpoint_root: Folder = Field(description="folder of upstream checkpoints; relative to the working directory")
    pathvars: Pathvars = Field(default=Pathvars(), description="where results and logs go")
    strict_counts: bool = Field(description="true: counts that differ from `expected` are an error")
    keep_training_state: bool = Field(
        description="true: training goes on from the state of other code, which you know to be as good"
    )
    download: AnyNames = Field(
        description="data sets, models and teachers that `snakemake download` fetches, e.g. --config "
        "'download=[busbra]'; empty: all that are open"
    )
    check_data: Check = Field(
        description="what `snakemake check_data` compares with the manifests: sizes and times of all files, and the "
        "content where they differ; or contents, of all"
    )
    simulation: dict[Name, Simulated] = Field(
        description="data sets to simulate, for demonstration only; one that shares its folder with such a set comes "
        "with it"
    )
    stand_ins: StandIns = Field(
        description="random weights written in the form of upstream files, at the size that the model or teacher has "
        "here; for demonstration only, and marked in every result; checkpoint_root must lie below the results"
    )
    images: Images = Field(description="the uint8 image store")
    splits: Splits = Field(description="how each task's images are divided; patients are never shared between parts")
    audit: Audit = Field(description="duplicates within data sets, and between pre-training and tasks")
    pretraining: Pretraining = Field(description="masked-image-modelling runs (Table 4)")
    finetuning: Finetuning = Field(description="the supervised recipe of all models (Table 5)")
    seeds: Seeds = Field(description="one fine-tuning run each")
    statistics: Statistics = Field(description="intervals and tests")
    probes: Probes = Field(description="simple classifiers on frozen features, over the epochs of pre-training")
    reconstructions: Reconstructions = Field(description="pictures of what masked autoencoders predict")
    resources: Resources = Field(description="what a job of each stage may use; no part of any result")
    cost: Cost = Field(description="what `snakemake cost` assumes; no part of any result")
    organs: dict[Name, Text] = Field(
        description="what is scanned: key and the name tables print, in the order of Table 1"
    )
    datasets: dict[Name, Dataset] = Field(description="one entry an archive")
    tasks: dict[Name, Task] = Field(description="downstream tasks")
    task_lists: dict[Name, Names] = Field(
        default={},
        description="lists of tasks by name; where names of tasks are asked for, such a name stands for its list",
    )
    teachers: dict[Name, Teacher] = Field(description="networks whose patch representations are targets")
    models: dict[Name, Model] = Field(
        description="encoders that are fine-tuned; every pre-training run is one by itself, under its own name"
    )
    comparisons: dict[Name, Comparison] = Field(
        description="models on tasks: those that the paper's figures draw, and any of your own, each a target that "
        "builds its statistics, figure, table and section of the report"
    )
    figures: Figures = Field(
        description="the paper's figures; figures 2, 3, 4, 5 and 8 name the comparison that each panel draws"
    )
    tables: Tables = Field(description="what each table shows")
