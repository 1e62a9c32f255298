"""Masked image modelling (paper, "URFM pre-training", Equations 1 and 2; Table 4), on one CPU, one GPU or many.

All randomness is a function of what it is for (see `urfm.data.streams.Stream`): the order of images of (seed,
epoch), a crop of (seed, turn, image), the masks of (seed, step) for the whole batch. So the data do not depend on
the number of workers or processes, and to go on after an interruption the step is all that must be known.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from urfm.config.models import TeacherSettings
from urfm.config.pretraining import PretrainSettings, TargetSettings
from urfm.core.cli import parse_settings, run
from urfm.core.code import code_digests
from urfm.core.errors import UrfmError
from urfm.core.files import atomic_path, read_json, sha256, verify_sha256, write_csv, write_json
from urfm.core.progress import say, time_left
from urfm.core.provenance import fingerprint
from urfm.data.images.store import ImageStore
from urfm.data.streams import Stream, generator
from urfm.data.views import blur, draw_view, take_view
from urfm.models.mim import MaskedAutoencoder, build_encoder, encoder_arguments, mae_tensors
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import Teacher
from urfm.targets.store import TargetStore
from urfm.training import optimisation, state
from urfm.training.distributed import Processes, processes
from urfm.training.sampling import Codes, Place, epoch_places

CHOICES = {"TEACHERS": "teacher.kind"}  # of urfm.core.code

Sample = dict[str, Tensor]

LOG_SECONDS = 60  # least time between two lines of progress


def list_images(
    selection: pd.DataFrame, stores: list[ImageStore]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Where each selected image lies, in the selection's order: the number of its store, and its row there."""
    number_of = {store.folder.name: number for number, store in enumerate(stores)}
    numbers = selection["dataset"].map(number_of).to_numpy().astype(np.int32)
    rows = np.empty(len(selection), np.int64)
    for number, store in enumerate(stores):
        own = numbers == number
        ids = pa.array(selection.loc[own, "image_id"], pa.string())
        found = pc.index_in(ids, store.ids)
        if found.null_count:
            missing = ids.filter(pc.is_null(found))[0]
            raise UrfmError(f"{store.folder}: no image {str(missing)!r}, which is selected; rebuild the store")
        rows[own] = found
    return numbers, rows


class Samples(Dataset[Sample]):
    """Crops of the selected images: `samples[turn, index]`, index in the order of the selection, sorted by image id.

    A sample holds `student` (3, S, S) uint8 and, beside it, `target` (h * w, dim) if targets are stored, or `teacher`
    (3, S, S) uint8 if the teacher sees another picture than the student: the sharp one. `organs` numbers the organ of
    each image in the order of their names.
    """

    def __init__(
        self, settings: PretrainSettings, selection: pd.DataFrame, stores: list[ImageStore], targets: list[TargetStore]
    ) -> None:
        self.settings, self.stores, self.targets = settings, stores, targets
        self.numbers, self.rows = list_images(selection, stores)
        self.organs: Codes = pd.factorize(selection["organ"], sort=True)[0].astype(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Place) -> Sample:
        settings, (turn, index) = self.settings, place
        number, row = int(self.numbers[index]), int(self.rows[index])
        image = self.stores[number].read_row(row)
        random = generator(Stream.CROP, settings.seed, turn, index)
        sample: Sample = {}
        if self.targets:
            stored = int(random.random() * settings.views)
            view = self.targets[number].view(row, stored)
            sample["target"] = self.targets[number].tokens(row, stored)
        else:
            view = draw_view(random, image.shape[0], image.shape[1], settings.crop_scale, settings.flip)
        if settings.blur_sigma > 0:
            if not self.targets:
                sample["teacher"] = take_view(image, view, settings.input_size)
            image = blur(image, settings.blur_sigma)  # before cropping: sigma is in pixels of the stored image
        sample["student"] = take_view(image, view, settings.input_size)
        return sample


class Batches(Sampler[list[Place]]):
    """The places this process handles in each step from `start` on; what does not fill a batch is dropped.

    With the `organs` of the images, every organ is drawn equally often.
    """

    def __init__(
        self, images: int, batch_size: int, job: Processes, seed: int, start: int, end: int, organs: Codes | None = None
    ) -> None:
        self.images, self.batch_size, self.job, self.organs = images, batch_size, job, organs
        self.seed, self.start, self.end = seed, start, end

    def __iter__(self) -> Iterator[list[Place]]:
        share = self.job.share(self.batch_size)
        steps = self.images // self.batch_size
        epoch, places = -1, np.empty((0, 2), dtype=np.int64)
        for step in range(self.start, self.end):
            if step // steps != epoch:
                epoch = step // steps
                places = epoch_places(self.seed, epoch, self.images, self.organs)
            first = step % steps * self.batch_size + self.job.rank * share
            yield [(turn, index) for turn, index in places[first : first + share].tolist()]


def mask_noise(seed: int, step: int, batch_size: int, patches: int, job: Processes) -> Tensor:
    """This process's rows of the noise (batch_size, patches) that decides which patches are hidden in a step."""
    noise = generator(Stream.MASK, seed, step).random((batch_size, patches), dtype=np.float32)
    share = job.share(batch_size)
    return torch.from_numpy(noise[job.rank * share : (job.rank + 1) * share])


def open_selection(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The record of a run's images, and image_id, dataset and organ of each, sorted by image_id."""
    record: dict[str, Any] = read_json(path.with_suffix(".json"))
    verify_sha256(path, record["sha256"])
    return record, pd.read_parquet(path, columns=["image_id", "dataset", "organ"])


def open_data(
    settings: PretrainSettings, datasets: set[str], images: list[Path], targets: list[Path], verify: bool
) -> tuple[list[ImageStore], list[TargetStore]]:
    """Open the stores of `datasets` and, for cached targets, check that they belong to the images and to the settings.

    A store's folder has the name of its data set. With `verify` all pixels are hashed too.
    """
    names = [folder.name for folder in images]
    if len(set(names)) < len(names):
        raise UrfmError(f"--images: two folders have the same name, among {', '.join(sorted(names))}; give each once")
    if absent := sorted(datasets - set(names)):
        raise UrfmError(f"--images: no store of {', '.join(absent)}, whose images are selected; name its folder too")
    if settings.cached and len(targets) != len(images):
        raise UrfmError(f"targets: cached needs one --targets folder for each of {len(images)} --images folders")
    stores = [ImageStore(folder, verify) for folder in images if folder.name in datasets]
    if not settings.cached:
        return stores, []
    caches = [TargetStore(folder) for name, folder in zip(names, targets, strict=True) if name in datasets]
    wanted = settings.model_dump(include={"input_size", "views", "view_dtype", "crop_scale", "flip"})
    for store, cache in zip(stores, caches, strict=True):
        cache.check_store(store)
        made = TargetSettings.model_validate(cache.record["settings"])
        differing = [key for key, value in made.model_dump(include=set(wanted)).items() if wanted[key] != value]
        found = cache.record["teacher"]
        if not _same_teacher(settings.teacher, made.teacher, found) or found != caches[0].record["teacher"]:
            differing.append("teacher")
        if differing:
            keys = ", ".join(differing)
            raise UrfmError(f"{cache.folder}: made with other settings ({keys}); delete it and rebuild it")
    return stores, caches


def _same_teacher(wanted: TeacherSettings, made: TeacherSettings, found: dict[str, Any]) -> bool:
    """Whether targets made by `made`, whose record is `found`, are those of `wanted`; weights as far as it says."""
    same = {"kind", "block", "normalise_tokens"}
    weights_agree = wanted.sha256 in (None, found["weights_sha256"])
    return weights_agree and wanted.model_dump(include=same) == made.model_dump(include=same)


def masked_autoencoder(settings: PretrainSettings, encoder: VisionTransformer, dim: int) -> MaskedAutoencoder:
    """The network that is trained: the encoder, initialised anew, and a decoder to targets of `dim` channels."""
    return MaskedAutoencoder(
        encoder,
        dim,
        **settings.decoder.model_dump(),
        mask_ratio=settings.mask_ratio,
        target_norm=settings.target_norm,
        loss_on=settings.loss_on,
    )


def snapshot_path(folder: Path, epoch: int) -> Path:
    """Where the state keeps the network as it is after an epoch."""
    return folder / f"snapshot-{epoch}.pt"


def pretrain(
    settings: PretrainSettings,
    job: Processes,
    *,
    selection: Path,
    images: list[Path],
    targets: list[Path],
    checkpoint_root: Path,
    state_folder: Path,
    output: Path,
    workers: int = 0,
    micro_batch: int | None = None,
    checkpoint_minutes: float = 10,
    code: list[str],
) -> None:
    """Train, or go on training; writes encoder.safetensors, decoder.safetensors, encoder.json, history.csv to `output`.

    A state made with other `code` (digests of all that training imports) is not continued.
    """
    optimisation.check_precision(settings.precision, job.device)
    selected, chosen = open_selection(selection)
    stores, caches = open_data(settings, set(chosen["dataset"]), images, targets, verify=job.is_main)
    samples = Samples(settings, chosen, stores, caches)
    torch.manual_seed(settings.seed)
    encoder = build_encoder(settings.architecture, settings.model_args, settings.input_size)
    teacher: Teacher | None = None
    if not caches:
        patch_size = settings.input_size // encoder.patch_embed.grid_size[0]
        teacher = load_teacher(
            settings.teacher,
            checkpoint_root,
            settings.input_size,
            patch_size=patch_size,
            mean=settings.mean,
            std=settings.std,
        )
    target = teacher.record() if teacher else caches[0].record["teacher"]
    if tuple(target["grid"]) != tuple(encoder.patch_embed.grid_size):
        raise UrfmError(
            f"teacher {settings.teacher.name} has {target['grid']} tokens, the student {settings.architecture} "
            f"{list(encoder.patch_embed.grid_size)} patches; they must agree: choose input_size, patch size or block so"
        )
    identity = fingerprint(
        settings.model_dump(mode="json", exclude={"run", "teacher"}),
        target,
        selected["images_sha256"],
        selected["organs_sha256"] if settings.sampling == "organ_balanced" else None,
        # Images are sorted by their id: the order of the data sets is of no consequence.
        sorted([store.record["sha256"], store.record["index_sha256"]] for store in stores),
        sorted(cache.record["key"] for cache in caches),
        code,
    )
    folder = state_folder / identity

    with state.lock(folder) if job.is_main else nullcontext():
        finished = _restore(folder / "finished.pt", job)
        if finished is None:
            model = masked_autoencoder(settings, encoder, target["dim"])
            finished = train(settings, job, model, teacher, samples, folder, workers, micro_batch, checkpoint_minutes)
            if job.is_main:
                state.save(folder / "finished.pt", finished)
                state.remove(folder / "checkpoint.pt")
        elif job.is_main:
            say(f"{settings.run}: already trained ({folder}), exporting again")
        if job.is_main:
            provenance = {
                "settings": settings.model_dump(mode="json"),
                "fingerprint": identity,
                "code": code,
                "selection": selected,
                "stores": {store.folder.name: store.record["sha256"] for store in stores},
                "teacher": target,
                "versions": {"torch": torch.__version__, "timm": timm.__version__},
            }
            simulated = any(store.record["simulated"] for store in stores)
            export(settings, finished, len(samples), provenance, simulated, output)
            export_snapshots(settings, folder, target, simulated, output)
            say(f"{settings.run}: encoder and history in {output}")
    job.barrier()


def train(
    settings: PretrainSettings,
    job: Processes,
    model: MaskedAutoencoder,
    teacher: Teacher | None,
    samples: Samples,
    folder: Path,
    workers: int,
    micro_batch: int | None,
    checkpoint_minutes: float,
) -> dict[str, Any]:
    """Run all steps that are left; returns the finished record: weights of encoder and decoder, and history."""
    device = job.device
    batch_size = settings.batch_size
    if len(samples) < batch_size:
        batch_size = len(samples) // job.world_size * job.world_size
        if batch_size == 0:
            raise UrfmError(f"{len(samples)} images are too few for {job.world_size} processes")
        if job.is_main:
            say(f"{len(samples)} images are fewer than batch_size {settings.batch_size}: one batch of {batch_size}")
    share = job.share(batch_size)
    steps_per_epoch = len(samples) // batch_size
    steps = settings.epochs * steps_per_epoch
    peak = optimisation.peak_learning_rate(settings.base_lr, batch_size)

    model.to(device).train()
    if teacher is not None:
        teacher.to(device)
    optimiser = optimisation.adamw(
        optimisation.weight_decay_groups(model, settings.weight_decay), settings.betas, device
    )
    scaler = optimisation.grad_scaler(settings.precision, device)
    ema = ModelEmaV3(model, decay=settings.ema_decay) if settings.ema_decay > 0 else None
    step, seconds, loss_sum = 0, 0.0, 0.0
    history: list[dict[str, float]] = []
    if saved := _restore(folder / "checkpoint.pt", job):
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        scaler.load_state_dict(saved["scaler"])
        if ema is not None:
            ema.module.load_state_dict(saved["ema"])
        step, seconds, loss_sum, history = saved["step"], saved["seconds"], saved["loss_sum"], saved["history"]
    if job.is_main:
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        say(
            f"{settings.run}: {len(samples):,} images, {settings.epochs} epochs of {steps_per_epoch:,} steps of "
            f"{batch_size}, {settings.precision} on {job.world_size} x {device.type}, peak lr {peak:.3g}; "
            + (f"going on at step {step:,}" if step else f"{millions:.1f} M parameters")
        )

    whole: torch.nn.Module = model
    if job.world_size > 1:
        whole = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    organs = samples.organs if settings.sampling == "organ_balanced" else None
    loader = DataLoader(
        samples,
        batch_sampler=Batches(len(samples), batch_size, job, settings.seed, step, steps, organs),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=state.ignore_stop_signals,
        multiprocessing_context="fork" if workers else None,  # stores are memory-mapped: nothing is copied
    )
    mean = torch.tensor(settings.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(settings.std, device=device).view(1, 3, 1, 1)
    first_step, started = step, time.monotonic()
    begun = started - seconds
    saved_at = started
    reported_at = -math.inf  # the first epoch that ends is reported, also after an interruption

    def save() -> None:
        content = {
            "step": step,
            "seconds": time.monotonic() - begun,
            "loss_sum": loss_sum,
            "history": history,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "scaler": scaler.state_dict(),
            "ema": ema.module.state_dict() if ema is not None else None,
        }
        state.save(folder / "checkpoint.pt", content)

    def keep_snapshot(epoch: int) -> None:
        """Before the checkpoint of the same step, so that a run which goes on from there has it already."""
        if job.is_main and epoch in settings.snapshots:
            network = ema.module if ema is not None else model
            path = snapshot_path(folder, epoch)
            state.remove(path)  # of an attempt that was killed after it: this one's is the same, or the better one
            state.save(path, {name: tensor.half().cpu() for name, tensor in network.state_dict().items()})

    def micro_batches(batch: Sample, noise: Tensor) -> Iterator[Sample]:
        size = micro_batch or share
        for first in range(0, share, size):
            part = {name: values[first : first + size] for name, values in (batch | {"noise": noise}).items()}
            yield {name: values.to(device, non_blocking=True) for name, values in part.items()}

    if step == 0:
        keep_snapshot(0)
    # A bar on a terminal, lines in a log.
    bar = tqdm(total=steps, initial=step, desc=settings.run, disable=not (job.is_main and sys.stderr.isatty()))
    reports = job.is_main and bar.disable
    with state.stop_signals() as stop, bar:
        for batch in loader:
            lr = optimisation.learning_rate(
                step,
                steps_per_epoch,
                peak=peak,
                minimum=settings.min_lr,
                warmup_epochs=settings.warmup_epochs,
                epochs=settings.epochs,
            )
            optimisation.set_learning_rate(optimiser, lr)
            # For what draws inside the network, such as a drop path among model_args.
            optimisation.seed_torch(int(2**53 * generator(Stream.LAYERS, settings.seed, step, job.rank).random()))
            noise = mask_noise(settings.seed, step, batch_size, model.patches, job)
            loss = torch.zeros((), device=device)
            done = 0
            for part in micro_batches(batch, noise):
                count = len(part["student"])
                done += count
                # Gradients travel between processes once a step, with the last part.
                held = whole.no_sync() if isinstance(whole, DistributedDataParallel) and done < share else nullcontext()
                with held:
                    with optimisation.autocast(settings.precision, device):
                        if teacher is None:
                            target = part["target"]
                        else:
                            target = teacher.tokens(part.get("teacher", part["student"]))
                        pixels = (part["student"].float() / 255 - mean) / std
                        part_loss = whole(pixels, target, part["noise"]) * (count / share)
                    scaler.scale(part_loss).backward()
                loss += part_loss.detach()
            value = job.mean(loss).item()
            if not math.isfinite(value):
                raise UrfmError(
                    f"{settings.run}: the loss is {value} at step {step} (epoch {step // steps_per_epoch}), learning "
                    f"rate {lr:.3g}; lower base_lr, or use precision fp32 or bf16"
                )
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad(set_to_none=True)
            if ema is not None:
                ema.update(model)

            step += 1
            loss_sum += value
            bar.update()
            if step % steps_per_epoch == 0:
                epoch = step // steps_per_epoch
                row = {
                    "epoch": epoch,
                    "step": step,
                    "images_seen": step * batch_size,
                    "loss": loss_sum / steps_per_epoch,
                    "lr": lr,
                    "seconds": round(time.monotonic() - begun, 2),
                }
                history.append(row)
                loss_sum = 0.0
                keep_snapshot(epoch)
                now = time.monotonic()
                if reports and (now - reported_at >= LOG_SECONDS or step == steps):
                    reported_at = now
                    left = (
                        f", {time_left(now - started, step - first_step, steps - first_step)}" if step < steps else ""
                    )
                    say(
                        f"{settings.run}: epoch {epoch}/{settings.epochs}, loss {row['loss']:.4f}, lr {lr:.2e}, "
                        f"{row['seconds']:,.0f} s{left}"
                    )
            # Not put back into `stop`: that would wipe out a signal that came while the processes were talking.
            signal_number = job.maximum(stop.number)
            due = time.monotonic() - saved_at >= 60 * checkpoint_minutes
            if job.is_main and step < steps and (signal_number or due):
                save()
                saved_at = time.monotonic()
            if signal_number and step < steps:
                job.barrier()  # nobody leaves, which would end the others, before the state is saved
                raise state.StopRequested(signal_number)

    trained = ema.module if ema is not None else model
    assert isinstance(trained, MaskedAutoencoder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in mae_tensors(trained).items()}
    inside = trained.encoder.state_dict().keys()
    return {
        "encoder": {name: tensor for name, tensor in tensors.items() if name in inside},
        "decoder": {name: tensor for name, tensor in tensors.items() if name not in inside},
        "history": history,
    }


def export(
    settings: PretrainSettings,
    finished: dict[str, Any],
    images: int,
    provenance: dict[str, Any],
    simulated: bool,
    output: Path,
) -> None:
    """Write encoder and decoder under timm's and MAE's parameter names, what describes them, and the history."""
    weights, decoder = output / "encoder.safetensors", output / "decoder.safetensors"
    for path in (weights, decoder):
        with atomic_path(path) as temporary:
            save_file(finished[path.stem], temporary, metadata={"format": "pt"})
    write_csv(output / "history.csv", pd.DataFrame(finished["history"]))
    record = {
        "model": settings.run,
        "architecture": settings.architecture,
        "model_args": encoder_arguments(settings.model_args, settings.input_size),
        "input_size": settings.input_size,
        "mean": list(settings.mean),
        "std": list(settings.std),
        "weights": "file",
        "source": f"masked image modelling with targets of {settings.teacher.name} on {images:,} ultrasound images, "
        f"{settings.epochs} epochs" + (", exponential moving average of the weights" if settings.ema_decay else ""),
        "parameters": sum(tensor.numel() for tensor in finished["encoder"].values()),
        "sha256": sha256(weights),
        "decoder_sha256": sha256(decoder),
        "simulated": simulated,
        "stand_in": provenance["teacher"]["stand_in"],  # taught by random weights, it is worth no more than they are
        "provenance": provenance,
    }
    write_json(output / "encoder.json", record)


def export_snapshots(
    settings: PretrainSettings, folder: Path, target: dict[str, Any], simulated: bool, output: Path
) -> None:
    """Write the kept networks to one file, as float16 tensors `<epoch>/<name>`, and what rebuilds them."""
    tensors: dict[str, Tensor] = {}
    for epoch in settings.snapshots:
        kept = state.load(snapshot_path(folder, epoch))
        if kept is None:
            raise UrfmError(f"{folder}: the snapshot of epoch {epoch} is gone; delete this folder and train again")
        tensors |= {f"{epoch}/{name}": tensor for name, tensor in kept.items()}
    weights = output / "snapshots.safetensors"
    with atomic_path(weights) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    record = {
        "settings": settings.model_dump(mode="json"),
        "epochs": settings.snapshots,
        "target": target,
        "simulated": simulated,
        "sha256": sha256(weights),
    }
    write_json(output / "snapshots.json", record)


def _restore(path: Path, job: Processes) -> dict[str, Any] | None:
    """Load a state in every process: the main one first, which removes what is torn."""
    content = state.load(path) if job.is_main else None
    job.barrier()
    return content if job.is_main else state.load(path)


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Pre-train an encoder by masked image modelling.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(PretrainSettings.model_fields))
    parser.add_argument("--selection", type=Path, required=True, help="parquet file of the images to train on")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image stores, a folder a data set")
    parser.add_argument("--targets", type=Path, nargs="*", default=[], help="stored targets, one folder a store")
    parser.add_argument("--checkpoint-root", type=Path, default=Path("checkpoints"), help="where weight files lie")
    parser.add_argument("--state", type=Path, required=True, help="folder for what survives an interruption")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
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
            selection=arguments.selection,
            images=arguments.images,
            targets=arguments.targets,
            checkpoint_root=arguments.checkpoint_root,
            state_folder=arguments.state,
            output=arguments.output,
            workers=arguments.workers,
            micro_batch=arguments.micro_batch,
            checkpoint_minutes=arguments.checkpoint_minutes,
            code=code_digests("urfm.training.pretrain", settings.model_dump()),
        )


if __name__ == "__main__":
    run(main)
