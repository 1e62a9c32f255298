"""Fine-tuning an encoder on a task: Table 5 of the paper, on MAE's recipe (facebookresearch/mae, main_finetune.py).

A cell (model, task, share of the training part) is one job with all its seeds. A seed fixes everything: the new
layers, the order of the images, their augmentation, mixing and drop path are functions of (seed, epoch, image) or
(seed, step) and of nothing that ran before. So a seed that was killed goes on from its last checkpoint, in the
middle of an epoch too, to the same predictions, bit for bit on one CPU thread, whatever the number of workers.

Every epoch the validation part is scored; the predictions of the best epoch (strictly better, the first wins) are
the result. The test part is predicted at these epochs only and takes no part in any choice.

With `keep_weights` the first seed's network of that epoch is a result too. Images of another set (`external`) are
predicted at the same epochs as the test part.

State: `<state>/<fingerprint>/seed-<n>/`, the fingerprint without the list of seeds: `finished.pt` of a seed that is
done stays, so that another seed trains alone. Where each seed has its own split, each has its own fingerprint. Where
weights are wanted and a seed has none, it trains again.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data.auto_augment import RandAugment
from timm.data.mixup import Mixup
from timm.data.transforms_factory import create_transform
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from urfm.config.finetuning import FinetuneSettings
from urfm.core.cli import parse_settings, run
from urfm.core.code import code_digests
from urfm.core.errors import UrfmError
from urfm.core.files import atomic_path, read_json, sha256, verify_sha256, write_csv, write_json, write_parquet
from urfm.core.progress import progress, say
from urfm.core.provenance import fingerprint
from urfm.data.images.store import ImageStore
from urfm.data.splits.shares import take_share
from urfm.metrics import METRICS
from urfm.models.classifier import load_encoder
from urfm.training import optimisation, state

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Part:
    """Images of one part of a split, or of another set (`external`), in the order of image_id."""

    rows: pd.DataFrame  # image_id, patient_id, label
    labels: npt.NDArray[np.int64]  # index into the classes
    pixels: torch.Tensor  # uint8 (images, 3, size, size), prepared for evaluation; empty for the training part


@dataclass(frozen=True)
class Cell:
    """What all seeds of a cell share."""

    settings: FinetuneSettings
    store: ImageStore
    encoder: Path
    record: dict[str, Any]  # of the encoder
    parts: dict[str, Part]
    device: torch.device
    workers: int
    save_seconds: float


def seed_everything(*numbers: int) -> None:
    """Set the generators of Python, NumPy and torch from the numbers; timm draws from the global ones."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    optimisation.seed_torch(seed)


# First number of every seed, so that streams never meet.
ORDER, AUGMENTATION, STEP = range(3)


def keep_a_bit(bits: Callable[..., tuple[int]], *level: Any) -> tuple[int]:
    """At least one bit for timm's posterising: at full strength it asks for none, a black image; Pillow refuses."""
    return (max(1, *bits(*level)),)


class TrainingImages(Dataset[tuple[torch.Tensor, int]]):
    """Augmented images: item (epoch, index) is uint8 (3, size, size) and its label, the same whenever it is asked for.

    RandomResizedCrop (bicubic), flip and RandAugment are timm's, as in MAE; RandAugment fills with the mean colour.
    The store is memory-mapped: the page cache keeps a set that fits in RAM there, decoded, for all processes.
    """

    def __init__(self, cell: Cell, seed: int) -> None:
        settings = cell.settings
        self.store = cell.store
        self.image_ids = cell.parts["train"].rows["image_id"].tolist()
        self.labels = cell.parts["train"].labels.tolist()
        self.seed = seed
        self.transform = create_transform(
            cell.record["input_size"],
            is_training=True,
            scale=settings.crop_scale,
            hflip=0.5 if settings.flip else 0.0,
            color_jitter=0.0,
            auto_augment=settings.randaugment or None,
            interpolation="bicubic",
            mean=cell.record["mean"],
            use_prefetcher=True,  # leaves uint8: the whole batch is normalised at once, on its device
        )
        for step in self.transform.transforms:
            for operation in step.ops if isinstance(step, RandAugment) else ():
                if operation.name.startswith("Posterize"):
                    operation.level_fn = partial(keep_a_bit, operation.level_fn)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = key
        seed_everything(AUGMENTATION, self.seed, epoch, index)
        image = Image.fromarray(self.store.read(self.image_ids[index]))
        return self.transform(image), self.labels[index]


def batches(images: int, batch: int, seed: int, first: int, last: int) -> Iterator[list[tuple[int, int]]]:
    """Keys (epoch, index) of the batches of steps `first` to `last` - 1; every epoch is shuffled, the rest dropped."""
    steps = images // batch
    for epoch in range(first // steps, -(-last // steps)):
        order = np.random.default_rng([ORDER, seed, epoch]).permutation(images).tolist()
        for step in range(steps):
            if first <= epoch * steps + step < last:
                yield [(epoch, index) for index in order[step * batch : (step + 1) * batch]]


def batch_size_for(images: int, settings: FinetuneSettings) -> int:
    """Images a step: the configured number, fewer if there are fewer, even where images are mixed in pairs."""
    batch = min(settings.batch_size, images)
    batch -= batch % 2 if settings.mixes else 0
    if batch == 0:
        raise UrfmError(
            f"{settings.task}: {images} training images and batch_size {settings.batch_size} leave no pair to mix; "
            "use at least 2 of both, or set mixup and cutmix to 0"
        )
    return batch


def evaluation_transform(size: int, resize: str) -> transforms.Compose:
    """`squash`: the whole scan, its borders kept, whatever its aspect; `crop`: MAE's, the centre 224 of 256."""
    bicubic = transforms.InterpolationMode.BICUBIC
    if resize == "squash":
        return transforms.Compose([transforms.Resize((size, size), bicubic), transforms.PILToTensor()])
    return transforms.Compose(
        [
            transforms.Resize(size * 256 // 224, bicubic),
            transforms.CenterCrop(size),
            transforms.PILToTensor(),
        ]
    )


def normalise(pixels: torch.Tensor, record: dict[str, Any], device: torch.device) -> torch.Tensor:
    """uint8 (B, 3, size, size) as the encoder expects it: float, normalised, channels last (faster convolutions)."""
    images = pixels.to(device, non_blocking=True).float().div_(255)
    mean, std = (torch.tensor(record[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
    return images.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def predict(model: nn.Module, part: Part, cell: Cell) -> torch.Tensor:
    """Logits (images, classes) of a part, on the CPU; computed in float32, because many of bfloat16 would be equal."""
    model.eval()
    logits = []
    with torch.inference_mode():
        for pixels in part.pixels.split(EVALUATION_BATCH):
            logits.append(model(normalise(pixels, cell.record, cell.device)).cpu())
    return torch.cat(logits)


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """timm's groups for layer-wise decay of the learning rate, with the model's own list without weight decay.

    For a ViT of depth d with mean pooling the scales are MAE's: layer_decay^(d + 1) for the embeddings, then block by
    block to layer_decay^1, and 1 for fc_norm and head. For BEiT the relative position bias belongs to the embeddings.
    In convolutional networks timm counts every residual block as a layer, and the stem as one.
    """
    excluded: set[str] = getattr(model, "no_weight_decay", set)()
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        model, weight_decay=weight_decay, layer_decay=layer_decay, no_weight_decay_list=excluded
    )
    return groups


def train_seed(cell: Cell, seed: int, folder: Path) -> dict[str, Any]:
    """Train one seed, or go on where it stopped; returns and keeps its record {history, best, seconds}.

    `best` holds the epoch (from 1), its validation score, the logits of all parts but `train` at that epoch, and the
    network's weights if they are kept.
    """
    settings, train, device = cell.settings, cell.parts["train"], cell.device
    if (finished := state.load(folder / "finished.pt")) and _suffices(finished["best"], settings.keeps(seed)):
        return finished
    checkpoint = folder / "checkpoint.pt"

    batch = batch_size_for(len(train.rows), settings)
    steps = len(train.rows) // batch
    peak = optimisation.peak_learning_rate(settings.base_lr, settings.batch_size, settings.lr_reference_batch)
    model = load_encoder(cell.encoder, len(settings.classes), settings.pooling, settings.drop_path, seed)
    model = model.to(device).to(memory_format=torch.channels_last)
    groups = parameter_groups(model, settings.weight_decay, settings.layer_decay)
    optimiser = optimisation.adamw(groups, settings.betas, device)
    scaler = optimisation.grad_scaler(settings.precision, device)
    mixup = Mixup(
        settings.mixup, settings.cutmix, label_smoothing=settings.label_smoothing, num_classes=len(settings.classes)
    )

    first = 0
    running = torch.zeros((), dtype=torch.float64, device=device)  # sum of the epoch's losses so far
    seconds = 0.0  # of the epoch so far
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"epoch": 0, "score": -1.0}
    if (saved := state.load(checkpoint)) and _suffices(saved["best"], settings.keeps(seed)):
        first, seconds, history, best = (saved[key] for key in ("step", "seconds", "history", "best"))
        running = saved["running"].to(device)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        scaler.load_state_dict(saved["scaler"])
        say(f"seed {seed}: goes on in epoch {first // steps + 1} of {settings.epochs}")

    last = settings.epochs * steps
    loader = DataLoader(
        TrainingImages(cell, seed),
        batch_sampler=batches(len(train.rows), batch, seed, first, last),
        num_workers=cell.workers,
        worker_init_fn=state.ignore_stop_signals,
        pin_memory=device.type == "cuda",
    )
    label = f"{settings.model} on {settings.task}, seed {seed}: steps"
    started = time.monotonic() - seconds
    saved_at = time.monotonic()
    with state.stop_signals() as stop:
        for step, (pixels, labels) in zip(progress(range(first, last), label, every=60), loader, strict=True):
            lr = optimisation.learning_rate(
                step,
                steps,
                peak=peak,
                minimum=settings.min_lr,
                warmup_epochs=settings.warmup_epochs,
                epochs=settings.epochs,
            )
            optimisation.set_learning_rate(optimiser, lr)
            seed_everything(STEP, seed, step)
            images, target = normalise(pixels, cell.record, device), labels.to(device)
            if settings.mixes:
                images, target = mixup(images, target)  # smooths the labels too
            model.train()
            with optimisation.autocast(settings.precision, device):
                logits = model(images)
            smoothing = 0.0 if settings.mixes else settings.label_smoothing
            loss = functional.cross_entropy(logits.float(), target, label_smoothing=smoothing)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            running += loss.detach()

            epoch, ends = (step + 1) // steps, (step + 1) % steps == 0
            if ends:
                mean_loss = float(running) / steps
                row = {"epoch": epoch, "train_loss": mean_loss, "lr": lr, **_validate(cell, model, best, epoch, seed)}
                if not np.isfinite([mean_loss, row["val_loss"]]).all():
                    raise UrfmError(
                        f"{settings.model} on {settings.task}, seed {seed}: the loss of epoch {epoch} is not finite; "
                        "lower finetuning.base_lr or set precision to fp32"
                    )
                history.append({**row, "seconds": time.monotonic() - started})
                started = time.monotonic()
                running.zero_()
                if settings.early_stop and epoch - best["epoch"] >= settings.early_stop:
                    break
            if stop or time.monotonic() - saved_at >= cell.save_seconds:
                content = {
                    "step": step + 1,
                    "seconds": time.monotonic() - started,
                    "history": history,
                    "best": best,
                    "running": running,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "scaler": scaler.state_dict(),
                }
                state.save(checkpoint, content)
                saved_at = time.monotonic()
                if stop:
                    stop.leave()
        finished = {"history": history, "best": best, "seconds": sum(row["seconds"] for row in history)}
        state.save(folder / "finished.pt", finished)
        state.remove(checkpoint)
        if stop:  # after an early stop: the other seeds wait for the next start
            stop.leave()
    return finished


def _suffices(best: dict[str, Any], keeps: bool) -> bool:
    """Whether a state has the weights of its best epoch, should they be wanted."""
    return not keeps or "weights" in best or best["epoch"] == 0


def _validate(cell: Cell, model: nn.Module, best: dict[str, Any], epoch: int, seed: int) -> dict[str, float]:
    """Score the validation part; where it is strictly better than `best`, put this epoch in its place.

    Where the network has diverged, the loss is not finite and there are no scores.
    """
    part = cell.parts["val"]
    logits = predict(model, part, cell)
    loss = functional.cross_entropy(logits, torch.from_numpy(part.labels)).item()
    if not logits.isfinite().all():
        return {"val_loss": float("nan")}
    probabilities = logits.double().softmax(1).numpy()
    scores = {name: metric.validate(part.labels, probabilities) for name, metric in METRICS.items()}
    score = scores[cell.settings.selection_metric]
    if score > best["score"]:
        others = {
            name: predict(model, other, cell) for name, other in cell.parts.items() if name not in ("train", "val")
        }
        best.clear()
        best.update(epoch=epoch, score=score, val=logits, **others)
        if cell.settings.keeps(seed):
            whole = torch.contiguous_format  # as files want it
            state_dict = model.state_dict().items()
            best["weights"] = {name: tensor.clone(memory_format=whole).cpu() for name, tensor in state_dict}
    return {"val_loss": loss, **{f"val_{name}": value for name, value in scores.items()}}


def read_parts(split: pd.DataFrame, store: ImageStore, settings: FinetuneSettings, input_size: int) -> dict[str, Part]:
    """The three parts of a split, the training part cut to the share, with everything checked before training."""
    parts = {}
    for subset in ("train", "val", "test"):
        rows = split[split["subset"] == subset]
        if subset == "train":
            rows = take_share(rows, settings.share)
        if rows.empty:
            raise UrfmError(f"{settings.task}: the split has no {subset} images; nothing can be trained or scored")
        parts[subset] = read_part(rows, store, settings, input_size, prepare=subset != "train")
    if settings.selection_metric == "auroc" and len(np.unique(parts["val"].labels)) < 2:
        raise UrfmError(
            f"{settings.task}: the validation part holds one class only, so there is no AUROC to select by; "
            "set finetuning.selection_metric to accuracy"
        )
    return parts


def read_split(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Summary (.json) and table of a split, whose hash the summary holds."""
    summary: dict[str, Any] = read_json(path.with_suffix(".json"))
    verify_sha256(path.with_suffix(".parquet"), summary["sha256"])
    return summary, pd.read_parquet(path.with_suffix(".parquet"))


def read_splits(paths: list[Path], settings: FinetuneSettings) -> list[tuple[dict[str, Any], pd.DataFrame, list[int]]]:
    """Summary and table of each split and the seeds that it is for: one for all or, with `per_seed`, one each."""
    per_seed = settings.split == "per_seed"
    wanted = {f"seed-{seed}": [seed] for seed in settings.seeds} if per_seed else {settings.split: settings.seeds}
    splits = [read_split(path) for path in paths]
    if (found := [summary["split"] for summary, _ in splits]) != list(wanted):
        raise UrfmError(f"--split: {', '.join(found)}; with split {settings.split} expected {', '.join(wanted)}")
    return [(summary, table, seeds) for (summary, table), seeds in zip(splits, wanted.values(), strict=True)]


def read_part(
    rows: pd.DataFrame, store: ImageStore, settings: FinetuneSettings, input_size: int, *, prepare: bool
) -> Part:
    """The images of some rows of a split; an UrfmError where one has another label or is not in the store."""
    unknown = rows[~rows["label"].isin(settings.classes)]
    if len(unknown):
        row = unknown.iloc[0]
        raise UrfmError(
            f"{settings.task}: image {row['image_id']!r} has the label {row['label']!r}, not one of "
            f"{', '.join(settings.classes)}; rebuild the split from the task's present classes"
        )
    if absent := [name for name in rows["image_id"] if name not in store]:
        raise UrfmError(
            f"{store.folder}: {len(absent)} images of {settings.task} are not in the store, {absent[0]!r} among them; "
            "delete the store and the split and run the workflow again"
        )
    rows = rows.sort_values("image_id", ignore_index=True)
    labels = rows["label"].map(settings.classes.index).to_numpy(np.int64, copy=True)
    transform = evaluation_transform(input_size, settings.evaluation_resize)
    prepared = [transform(Image.fromarray(store.read(name))) for name in rows["image_id"] if prepare]
    pixels = torch.stack(prepared) if prepared else torch.empty(0)
    return Part(rows[["image_id", "patient_id", "label"]], labels, pixels)


def predictions(cell: Cell, records: dict[int, dict[str, Any]]) -> pd.DataFrame:
    """One row a seed and image of all parts but train: identity, label, and p_<class>, the softmax in float64."""
    tables = []
    for seed, record in records.items():
        for subset in [name for name in cell.parts if name != "train"]:
            table = cell.parts[subset].rows.assign(seed=seed, subset=subset)
            probabilities = record["best"][subset].double().softmax(1).numpy()
            for index, name in enumerate(cell.settings.classes):
                table[f"p_{name}"] = probabilities[:, index]
            tables.append(table)
    columns = ["seed", "image_id", "patient_id", "subset", "label", *(f"p_{name}" for name in cell.settings.classes)]
    return pd.concat(tables, ignore_index=True)[columns]


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Fine-tune an encoder on a task with all its seeds.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(FinetuneSettings.model_fields))
    parser.add_argument("--images", type=Path, required=True, help="folder of the image store")
    parser.add_argument(
        "--split", type=Path, nargs="+", required=True, help="summary (.json) beside its table; per_seed: each seed's"
    )
    parser.add_argument(
        "--external-images", type=Path, help="image store of another set, all of which is predicted too"
    )
    parser.add_argument("--external-split", type=Path, help="a split of that set (.json); its parts do not count")
    parser.add_argument("--encoder", type=Path, required=True, help="json file, the safetensors beside it")
    parser.add_argument("--state", type=Path, required=True, help="folder that survives kills and repeats")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--workers", type=int, default=0, help="processes that augment; 0: none beside this one")
    parser.add_argument("--save-seconds", type=float, default=60, help="least time between two checkpoints")
    arguments = parser.parse_args()
    settings = parse_settings(FinetuneSettings, arguments.settings)

    torch.set_num_threads(1)  # two threads are slower than two processes, and their number changes bits
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    optimisation.check_precision(settings.precision, device)
    store = ImageStore(arguments.images, verify=True)
    record = read_json(arguments.encoder)
    other = ImageStore(arguments.external_images, verify=True) if arguments.external_images else None
    other_summary, other_rows = read_split(arguments.external_split) if other else ({}, pd.DataFrame())
    # A random encoder has no weights to hash: what it is stands in its record.
    encoder = {
        key: record[key] for key in ("architecture", "model_args", "input_size", "mean", "std", "weights", "sha256")
    }
    code = code_digests("urfm.training.finetune", settings.model_dump())
    splits = read_splits(arguments.split, settings)
    records: dict[int, dict[str, Any]] = {}
    tables, counts = [], []
    for summary, split, seeds in splits:
        parts = read_parts(split, store, settings, record["input_size"])
        if other:
            parts["external"] = read_part(other_rows, other, settings, record["input_size"], prepare=True)
        cell = Cell(
            settings, store, arguments.encoder, record, parts, device, arguments.workers, arguments.save_seconds
        )
        counts.append({subset: len(part.rows) for subset, part in parts.items()})
        say(
            f"{settings.model} on {settings.task} ({settings.share} %), split {summary['split']}: {counts[-1]}, "
            f"{len(seeds)} seeds, {device}"
        )
        origins = [(summary, store.record), *([(other_summary, other.record)] if other else [])]
        images = [[made["sha256"], stored["sha256"], stored["index_sha256"]] for made, stored in origins]
        own = settings.model_dump(exclude={"seeds", "split", "keep_weights"})
        folder = arguments.state / fingerprint(own, images, encoder, code)
        with state.lock(folder):
            for seed in seeds:
                records[seed] = done = train_seed(cell, seed, folder / f"seed-{seed}")
                say(
                    f"seed {seed}: best of {len(done['history'])} epochs is {done['best']['epoch']}, validation "
                    f"{settings.selection_metric} {done['best']['score']:.3f}, {done['seconds']:.0f} s"
                )
        tables.append(predictions(cell, {seed: records[seed] for seed in seeds}))

    table = pd.concat(tables, ignore_index=True)
    write_parquet(arguments.output / "predictions.parquet", table)
    history = pd.DataFrame([{"seed": seed, **row} for seed, done in records.items() for row in done["history"]])
    write_csv(arguments.output / "history.csv", history)
    more: dict[str, Any] = {}
    if settings.keep_weights:
        best = records[settings.seeds[0]]["best"]
        path = arguments.output / "weights.safetensors"
        with atomic_path(path) as temporary:
            save_file(best["weights"], temporary, metadata={"format": "pt"})
        form = settings.model_dump(include={"pooling", "evaluation_resize"})
        more["weights"] = {"seed": settings.seeds[0], "epoch": best["epoch"], "sha256": sha256(path), **form}
    summaries = [summary for summary, _, _ in splits]
    trained = [*summaries, store.record, record]
    if other:
        more["external"] = {
            "task": other_summary["task"],
            "patients_known": other_summary["patients"] is not None,
            "simulated": any(origin["simulated"] for origin in (*trained, other.record)),
        }
    write_json(
        arguments.output / "cell.json",
        {
            **more,
            "model": settings.model,
            "task": settings.task,
            "share": settings.share,
            "classes": settings.classes,
            "seeds": settings.seeds,
            "split": settings.split,
            "images": counts[0],  # of the first seed, where each has its own split
            "patients_known": all(summary["patients"] is not None for summary in summaries),
            "selected_epochs": {str(seed): done["best"]["epoch"] for seed, done in records.items()},
            "simulated": any(origin["simulated"] for origin in trained),
            "stand_in": record.get("stand_in", False),
            "sha256": sha256(arguments.output / "predictions.parquet"),
            "seconds": sum(done["seconds"] for done in records.values()),
        },
    )
    say(f"predictions in {arguments.output / 'predictions.parquet'}")


if __name__ == "__main__":
    run(main)
