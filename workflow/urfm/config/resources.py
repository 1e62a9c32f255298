"""What a job may use. No part of any result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from urfm.config.fields import Count, Share, WholeNumber
from urfm.core.cli import Settings


class Job(Settings):
    """What one job of a stage may use."""

    threads: Count = Field(description="CPU cores")
    mem_mb: Count = Field(
        description="memory, megabytes; another attempt gets half as much again, but for pre-training"
    )
    minutes: Count = Field(description="run time of the first attempt; the n-th gets n times as much")


class AcceleratedJob(Job):
    """What one job of a stage with networks may use."""

    gpus: WholeNumber = Field(description="graphics cards; 0 none")


class PretrainJob(AcceleratedJob):
    """What one pre-training run may use."""

    nodes: Count = Field(
        description="computers a job spreads over, each with these gpus, threads and mem_mb; above 1 on Slurm only"
    )
    micro_batch: WholeNumber = Field(
        default=0, description="images a process handles at a time, gradients add up; 0 all"
    )


class Resources(Settings):
    """What a job of each stage may use; no part of any result."""

    gpu_request: Literal["gpus", "gres"] = Field(
        description="the option by which jobs ask Slurm for graphics cards: --gpus, or --gres at sites that reject that"
    )
    gpu_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]*$")] = Field(
        description="the type of graphics card to ask for, as the site names it, e.g. a100; empty: any"
    )
    manifest: Job = Field(description="a job that reads an archive into its manifest")
    images: Job = Field(description="a job that decodes a data set into its image store")
    targets: AcceleratedJob = Field(description="a job that stores a teacher's views of a data set")
    pretrain: PretrainJob = Field(description="a pre-training run")
    finetune: AcceleratedJob = Field(description="a fine-tuning cell: a model on a task with all seeds")
    probe: AcceleratedJob = Field(description="a job that probes frozen encoders on a task, or reconstructs images")
    small: Job = Field(description="any other job")


class Cost(Settings):
    """What `snakemake cost` assumes; no part of any result."""

    gpus: Count = Field(description="graphics cards that work at once, for the time that everything takes")
    utilisation: Share = Field(description="share of a card's bf16 or fp16 peak that training reaches (D100)")
    utilisation_fp32: Share = Field(description="share of its fp32 peak that fp32 reaches (D100)")
