"""Time and memory of jobs, stage by stage, as Snakemake's `benchmark:` measured them; those that are there will do."""

from __future__ import annotations

from pathlib import Path

from urfm.core.errors import UrfmError
from urfm.core.progress import human_bytes
from urfm.report.contents import Table, make_table
from urfm.report.gather import duration

# Folder below <results>/benchmarks -> what its jobs do, in the order of the workflow.
STAGES = {
    "simulate": "simulation",
    "stand_in": "stand-ins",
    "manifest": "manifests",
    "images": "image stores",
    "images_blurred": "stores of blurred images",
    "split": "splits",
    "pretrain_set": "lists of images",
    "targets": "stored targets",
    "pretrain": "pre-training",
    "encoder": "encoders",
    "finetune": "fine-tuning",
    "probes": "probes",
    "reconstructions": "reconstructions",
    "attention": "attention",
    "embeddings": "embeddings",
    "statistics": "statistics",
    "export": "export",
}
# MB. Python with our imports holds more: of such a job only what started it was seen. So it is with jobs of the demo's
# server (urfm.core.warm), with those that srun started, and with those that ended before Snakemake looked twice.
UNSEEN = 40


def jobs(results: Path) -> Table:
    """A row a stage: jobs, time of all and of the longest, most memory of one and which that was."""
    rows = []
    for folder, title in STAGES.items():
        place = results / "benchmarks" / folder
        measured = [(str(path.relative_to(place).with_suffix("")), read(path)) for path in sorted(place.rglob("*.tsv"))]
        if measured:
            seconds = [job["s"] for _, job in measured]
            most, where = max(((memory(job), name) for name, job in measured), key=lambda entry: entry[0])
            size = human_bytes(most * 2**20) if most else "–"
            times = duration(sum(seconds)), duration(max(seconds))
            rows.append([title, f"{len(measured):,}", *times, size, where if most else ""])
    return make_table(["Stage", "Jobs", "Time of all", "Longest", "Most memory", "Of"], rows)


def memory(job: dict[str, float]) -> float:
    """MB that a job's processes held at most, what they share counted once where the system says so; 0: not seen."""
    return 0.0 if job["max_rss"] < UNSEEN else job["max_pss"] or job["max_rss"]


def read(path: Path) -> dict[str, float]:
    """Numbers of a job; 0 where there is none."""
    try:
        header, *rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
        job = dict(zip(header, rows[-1], strict=True))
        return {name: 0.0 if job[name] in ("NA", "-") else float(job[name]) for name in ("s", "max_rss", "max_pss")}
    except (ValueError, LookupError) as error:
        raise UrfmError(f"{path}: is no benchmark of Snakemake's ({error}); delete it") from error
