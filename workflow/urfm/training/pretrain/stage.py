"""Masked image modelling (paper, "URFM pre-training", Equations 1 and 2; Table 4), on one CPU, one GPU or many.

The stage opens images, teacher or stored targets, finds the state folder that belongs to them, trains (`loop`) unless
that is done, and writes the results (`export`).

All randomness is a function of what it is for (see `urfm.data.streams.Stream`): the order of images of (seed,
epoch), a crop of (seed, turn, image), the masks of (seed, step) for the whole batch. So the data do not depend on
the number of workers or processes, and to go on after an interruption the step is all that must be known.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from urfm.config.pretraining import LearningRateCut, PretrainSettings
from urfm.core.cli import parse_settings, run
from urfm.core.code import definitions
from urfm.core.errors import UrfmError
from urfm.core.lock import lock
from urfm.core.progress import say, warn
from urfm.core.provenance import fingerprint
from urfm.data.images.store import ImageStore
from urfm.metrics import LEARNT
from urfm.models.mim import build_encoder, masked_autoencoder
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import Teacher
from urfm.targets.store import TargetStore
from urfm.training import lineage, optimisation, state
from urfm.training.distributed import Processes, processes
from urfm.training.pretrain.export import export, export_snapshots
from urfm.training.pretrain.loop import restore, train
from urfm.training.pretrain.samples import Samples, open_blurred, open_data, open_pretrain_set
from urfm.training.pretrain.survey import colours

CHOICES = {"TEACHERS": "teacher.kind"}  # of urfm.core.code


def pretrain(
    settings: PretrainSettings,
    job: Processes,
    *,
    pretrain_set: Path,
    images: list[Path],
    blurred_images: Sequence[Path] = (),
    targets: list[Path],
    checkpoint_root: Path,
    state_root: Path,
    output: Path,
    workers: int = 0,
    micro_batch: int | None = None,
    checkpoint_minutes: float = 10,
    code: dict[str, str],
    keep_state: bool = False,
) -> None:
    """Train, or go on training; writes encoder.safetensors, decoder.safetensors, encoder.json, history.csv to `output`.

    Parameters
    ----------
    pretrain_set
        Parquet file of the images to train on, its record beside it as json.
    images, targets
        Folders of image stores, each with the name of its data set, and of their stored targets, if targets are cached.
    blurred_images
        Folders of their blurred stores, for a run that deblurs.
    checkpoint_root
        Where a teacher's weights lie.
    state_root
        What survives an interruption lies below, see `urfm.training.lineage`.
    workers
        Data-loading processes of each training process.
    micro_batch
        Images that a process handles at a time; all of its share of a batch if not given.
    code
        Digests of all definitions that training reaches: a state made with others is not continued,
    keep_state
        unless the user says that it is as good.
    """
    precision = optimisation.choose_precision(settings.precision, job.device)
    settings = settings.model_copy(update={"precision": precision})
    chosen, table = open_pretrain_set(pretrain_set)
    stores, caches = open_data(settings, set(table["dataset"]), images, targets, verify=job.is_main)
    blurred = open_blurred(settings, stores, blurred_images, verify=job.is_main)
    samples = Samples(settings, table, stores, caches, blurred)
    configured = settings.normalisation
    if configured == "teacher" and settings.teacher.kind == "pixels":
        raise UrfmError(
            f"{settings.run}: pixels are not normalised by a teacher; set normalisation to data or imagenet"
        )
    if configured == "data":
        settings = settings.normalised_with(*colours(samples, settings.seed))
    torch.manual_seed(settings.seed)
    encoder = build_encoder(settings.architecture, settings.model_args, settings.input_size)
    teacher = None if caches else open_teacher(settings, encoder, checkpoint_root)
    target = teacher.record() if teacher else caches[0].record["teacher"]
    if configured == "teacher":
        settings = settings.normalised_with(target["mean"], target["std"])
    check_grid(settings, encoder, target)

    def folder_with(cuts: list[LearningRateCut]) -> Path:
        own = settings.model_copy(update={"lr_cuts": cuts})
        return lineage.folder_of(
            state_root, fingerprint(*identity(own, target, chosen, [*stores, *blurred], caches)), code
        )

    folder = folder_with(settings.lr_cuts)
    if job.is_main:
        lineage.prepare(folder, code, keep_state)
    job.barrier()

    with lock(folder) if job.is_main else nullcontext():
        if job.is_main and settings.lr_cuts:
            take_over(folder, [folder_with(settings.lr_cuts[:kept]) for kept in range(len(settings.lr_cuts))], settings)
        job.barrier()
        finished = restore(folder / "finished.pt", job)
        if finished is None:
            model = masked_autoencoder(settings, encoder, target["dim"])
            finished = train(
                settings, job, model, teacher, samples, folder,
                workers=workers, micro_batch=micro_batch, checkpoint_minutes=checkpoint_minutes,
            )  # fmt: skip
            if job.is_main:
                state.save(folder / "finished.pt", finished)
                state.remove(folder / "checkpoint.pt")
        elif job.is_main:
            say(f"{settings.run}: already trained ({folder}), exporting again")
        if job.is_main:
            provenance = {
                "settings": settings.model_dump(mode="json"),
                "normalisation": configured,
                "fingerprint": folder.parent.name,
                "code": code,
                "accepted_code_changes": lineage.accepted_changes(folder),
                "pretrain_set": chosen,
                "stores": {store.folder.name: store.record["sha256"] for store in stores},
                **(
                    {"blurred_stores": {store.folder.name: store.record["sha256"] for store in blurred}}
                    if blurred
                    else {}
                ),
                "teacher": target,
                "versions": {"torch": torch.__version__, "timm": timm.__version__},
            }
            simulated = any(store.record["simulated"] for store in stores)
            export(settings, finished, len(samples), provenance, simulated, output)
            export_snapshots(settings, folder, target, simulated, output)
            lineage.forget_others(folder)
            say(f"{settings.run}: encoder and history in {output}")
            if (r2 := finished["history"][-1]["r2"]) < LEARNT:
                warn(
                    f"{settings.run} has learnt nothing beyond the mean target of each position (R² {r2:.3f}); train "
                    "longer, with a lower mask ratio or with the loss on all patches (docs/pretraining.md)"
                )
    job.barrier()


def take_over(folder: Path, earlier: list[Path], settings: PretrainSettings) -> None:
    """Begin a run that got lower learning rates with the newest checkpoint that has seen none of them.

    `earlier` are the states of the same run with the first 0, 1, … of its cuts.
    """
    if any((folder / name).exists() for name in ("finished.pt", "checkpoint.pt")):
        return
    for kept, other in reversed(list(enumerate(earlier))):
        step = min(cut.step for cut in settings.lr_cuts[kept:])
        for path in (other / "checkpoint.pt", state.previous(other / "checkpoint.pt")):
            saved = state.load(path)
            if saved is not None and saved["step"] <= step:
                say(f"{settings.run}: goes on from step {saved['step']:,} of the run without the cut at step {step:,}")
                for snapshot in other.glob("snapshot-*.pt"):
                    shutil.copyfile(snapshot, folder / snapshot.name)
                state.save(folder / "checkpoint.pt", saved)
                return
    say(f"{settings.run}: no state from before the first cut of the learning rate is left; training starts anew")


def open_teacher(settings: PretrainSettings, encoder: VisionTransformer, checkpoint_root: Path) -> Teacher:
    """The network that looks on while the encoder learns."""
    patch_size = settings.input_size // encoder.patch_embed.grid_size[0]
    form: dict[str, Any] = {"patch_size": patch_size}
    if settings.teacher.kind == "pixels":  # its targets are what the student sees
        form["mean"], form["std"] = settings.colours
    return load_teacher(settings.teacher, checkpoint_root, settings.input_size, **form)


def check_grid(settings: PretrainSettings, encoder: VisionTransformer, target: dict[str, Any]) -> None:
    """Raise an UrfmError unless there is a target token for every patch of the encoder."""
    if tuple(target["grid"]) != tuple(encoder.patch_embed.grid_size):
        raise UrfmError(
            f"teacher {settings.teacher.name} has {target['grid']} tokens, the student {settings.architecture} "
            f"{list(encoder.patch_embed.grid_size)} patches; they must agree: choose input_size, patch size or block so"
        )


def identity(
    settings: PretrainSettings,
    target: dict[str, Any],
    chosen: dict[str, Any],
    stores: list[ImageStore],
    caches: list[TargetStore],
) -> list[Any]:
    """What the result depends on, the code apart; `target` and `chosen` are the teacher's and the images' records,
    `stores` all that are read."""
    return [
        settings.model_dump(mode="json", exclude={"run", "teacher"} | ({"lr_cuts"} if not settings.lr_cuts else set())),
        target,
        chosen["images_sha256"],
        chosen["organs_sha256"] if settings.sampling == "organ_balanced" else None,
        # Images are sorted by their id: the order of the data sets is of no consequence.
        sorted([store.record["sha256"], store.record["index_sha256"]] for store in stores),
        sorted(cache.record["key"] for cache in caches),
    ]


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Pre-train an encoder by masked image modelling.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(PretrainSettings.model_fields))
    parser.add_argument("--pretrain-set", type=Path, required=True, help="parquet file of the images to train on")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image stores, a folder a data set")
    parser.add_argument(
        "--blurred-images", type=Path, nargs="*", default=[], help="for blur_sigma: their second stores"
    )
    parser.add_argument("--targets", type=Path, nargs="*", default=[], help="stored targets, one folder a store")
    parser.add_argument("--checkpoint-root", type=Path, default=Path("checkpoints"), help="where weight files lie")
    parser.add_argument("--state", type=Path, required=True, help="folder for what survives an interruption")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--keep-state", action="store_true", help="go on from the state of other code: it is as good")
    parser.add_argument("--workers", type=int, default=0, help="data-loading processes of each training process")
    parser.add_argument("--micro-batch", type=int, help="images at a time; gradients add up to the whole batch")
    parser.add_argument("--checkpoint-minutes", type=float, default=10)
    arguments = parser.parse_args()
    settings = parse_settings(PretrainSettings, arguments.settings)
    with processes() as job:
        if job.device.type == "cpu":
            torch.set_num_threads(1)  # two are slower than two processes, and another number gives other last bits
        pretrain(
            settings,
            job,
            pretrain_set=arguments.pretrain_set,
            images=arguments.images,
            blurred_images=arguments.blurred_images,
            targets=arguments.targets,
            checkpoint_root=arguments.checkpoint_root,
            state_root=arguments.state,
            output=arguments.output,
            workers=arguments.workers,
            micro_batch=arguments.micro_batch,
            checkpoint_minutes=arguments.checkpoint_minutes,
            code=definitions("urfm.training.pretrain.stage", settings.model_dump()),
            keep_state=arguments.keep_state,
        )


if __name__ == "__main__":
    run(main)
