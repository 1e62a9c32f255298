"""The loop of fine-tuning: one seed, from the encoder to the predictions of its best epoch.

`train_seed` runs the steps that are left. What a step changes is one object, `Training`, whose `state_dict` is the
checkpoint. Every epoch the validation part is scored; the predictions of the best epoch (strictly better, the first
wins) are the result. The other parts are predicted at these epochs only and take no part in any choice.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.data.mixup import Mixup
from timm.optim._param_groups import param_groups_layer_decay
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from urfm.config.finetuning import FinetuneSettings
from urfm.core.children import loader_processes
from urfm.core.errors import UrfmError
from urfm.core.progress import progress, say
from urfm.data.images.store import ImageStore
from urfm.metrics import SELECTION, validation_f1
from urfm.models.classifier import load_classifier
from urfm.training import optimisation, state
from urfm.training.finetune.head import probe_head
from urfm.training.finetune.images import (
    EVALUATION_BATCH,
    STEP,
    Part,
    TrainingImages,
    batch_size_for,
    batches,
    normalise,
    seed_everything,
)

SHOWN = 8  # images in a message


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


class Training:
    """What training a seed changes: all that a checkpoint holds.

    `best` is of the best epoch so far: its number (from 1; 0: none yet), its validation score, the logits of all parts
    but `train`, and the network's weights if they are kept.
    """

    def __init__(self, cell: Cell, seed: int) -> None:
        settings, device = cell.settings, cell.device
        model = load_classifier(cell.encoder, len(settings.classes), settings.pooling, settings.drop_path, seed)
        if settings.head == "linear_probe":
            images = TrainingImages(settings, cell.store, cell.parts["train"], cell.record, seed)
            probe_head(model, images, cell.record, len(settings.classes), device)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        optimisation.suit(self.model, device)
        groups = parameter_groups(self.model, settings.weight_decay, settings.layer_decay)
        self.optimiser = optimisation.adamw(groups, settings.betas, device)
        self.scaler = optimisation.grad_scaler(settings.precision, device)
        self.step = 0  # steps that are done
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # over the steps of the present epoch
        self.recent: dict[int, Tensor] = {}  # losses of steps that nobody has looked at: waiting for each takes time
        self.history: list[dict[str, float]] = []  # a row an epoch
        self.best: dict[str, Any] = {"epoch": 0, "score": -1.0}
        self.begun = time.monotonic()  # the present epoch; earlier, if time was spent on it before an interruption

    def update(self, loss: Tensor) -> None:
        """Take a step down this loss."""
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        self.loss_sum += loss.detach()

    def first_not_finite(self) -> int | None:
        """The first step since the last look whose loss is not finite."""
        losses, self.recent = self.recent, {}
        return next((step for step, loss in losses.items() if not loss.isfinite()), None)

    def end_epoch(self, row: dict[str, float]) -> None:
        """Note an epoch and the time that it took."""
        self.history.append({**row, "seconds": time.monotonic() - self.begun})
        self.begun = time.monotonic()
        self.loss_sum.zero_()

    def state_dict(self) -> dict[str, Any]:
        """The content of a checkpoint."""
        return {
            "step": self.step,
            "seconds": time.monotonic() - self.begun,
            "history": self.history,
            "best": self.best,
            "loss_sum": self.loss_sum,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.scaler.load_state_dict(saved["scaler"])
        self.step, self.history, self.best = saved["step"], saved["history"], saved["best"]
        self.loss_sum.copy_(saved["loss_sum"])
        self.begun = time.monotonic() - saved["seconds"]


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
    """Train one seed, or go on where it stopped; returns and keeps its record: history, best (see `Training`), seconds.

    `folder` is the seed's own; a state without the weights of its best epoch is of no use where they are wanted.
    """
    settings, images = cell.settings, len(cell.parts["train"].rows)
    if (finished := state.load(folder / "finished.pt")) and _suffices(finished["best"], settings.keeps(seed)):
        return finished

    batch_size = batch_size_for(images, settings)
    steps_per_epoch = images // batch_size
    steps = settings.epochs * steps_per_epoch
    rate = partial(
        optimisation.learning_rate,
        steps_per_epoch=steps_per_epoch,
        peak=optimisation.peak_learning_rate(settings.base_lr, settings.batch_size, settings.lr_reference_batch),
        minimum=settings.min_lr,
        warmup_epochs=settings.warmup_epochs,
        epochs=settings.epochs,
    )
    training = Training(cell, seed)
    if (saved := state.load(folder / "checkpoint.pt")) and _suffices(saved["best"], settings.keeps(seed)):
        training.load_state_dict(saved)
        say(f"seed {seed}: goes on in epoch {training.step // steps_per_epoch + 1} of {settings.epochs}")
    mixup = Mixup(
        settings.mixup, settings.cutmix, label_smoothing=settings.label_smoothing, num_classes=len(settings.classes)
    )
    loader = DataLoader(
        TrainingImages(settings, cell.store, cell.parts["train"], cell.record, seed),
        batch_sampler=batches(images, batch_size, seed, training.step, steps),
        num_workers=cell.workers,
        worker_init_fn=state.ignore_stop_signals,
        pin_memory=cell.device.type == "cuda",
    )

    saved_at = time.monotonic()
    label = f"{settings.model} on {settings.task}, seed {seed}: steps"
    left = progress(range(training.step, steps), label, every=60)
    saved_step = training.step

    def check(step: int, sound: bool) -> None:
        """End unless all losses up to `step` are finite, and what has come of them is."""
        found = training.first_not_finite()
        if found is not None or not sound:
            bad = step if found is None else found
            (keys,) = batches(images, batch_size, seed, bad, bad + 1)
            names = [cell.parts["train"].rows["image_id"].iloc[index] for _, index in keys[:SHOWN]]
            raise diverged(settings, seed, bad, rate(bad), names, saved_step)

    with state.stop_signals() as stop, loader_processes():
        for step, (pixels, labels) in zip(left, loader, strict=True):
            lr = rate(step)
            optimisation.set_learning_rate(training.optimiser, lr)
            seed_everything(STEP, seed, step)
            due = bool(stop) or time.monotonic() - saved_at >= cell.save_seconds
            # Batch norm counts a batch when it sees it: what is saved has not seen this one.
            unseen = {name: buffer.clone() for name, buffer in training.model.named_buffers()} if due else {}
            loss = loss_of(training.model, pixels, labels, mixup, cell)
            training.recent[step] = loss.detach()
            if due:  # now that it is known that the last step left a network with a loss
                content = training.state_dict()
                weights = content["model"]
                weights.update((name, buffer) for name, buffer in unseen.items() if name in weights)
                check(step, state.is_finite({**content, "best": {}}))
                state.save(folder / "checkpoint.pt", content)
                saved_at, saved_step = time.monotonic(), step
                if stop:
                    stop.leave()
            training.update(loss)

            if training.step % steps_per_epoch == 0:
                epoch = training.step // steps_per_epoch
                train_loss = float(training.loss_sum) / steps_per_epoch
                validation = validate(cell, training, epoch, seed)
                check(step, math.isfinite(train_loss) and math.isfinite(validation["val_loss"]))
                training.end_epoch({"epoch": epoch, "train_loss": train_loss, "lr": lr, **validation})
                if settings.early_stop and epoch - training.best["epoch"] >= settings.early_stop:
                    break

        seconds = sum(row["seconds"] for row in training.history)
        finished = {"history": training.history, "best": training.best, "seconds": seconds}
        state.save(folder / "finished.pt", finished)
        state.remove(folder / "checkpoint.pt")
        if stop:  # after an early stop: the other seeds wait for the next start
            stop.leave()
    return finished


def diverged(settings: FinetuneSettings, seed: int, step: int, lr: float, images: list[str], saved: int) -> UrfmError:
    """What to say of a loss that is not finite, where the last state that was saved is of step `saved`."""
    kept = f" The state of step {saved} is kept." if saved else ""
    return UrfmError(
        f"{settings.model} on {settings.task}, seed {seed}: the loss is not finite at step {step}, learning rate "
        f"{lr:.3g}, images {', '.join(images)}.{kept} Lower finetuning.base_lr (of this model alone: "
        f"models.{settings.model}.finetuning.base_lr), or set precision to fp32; the cell then trains anew"
    )


def _suffices(best: dict[str, Any], keeps: bool) -> bool:
    """Whether a state has the weights of its best epoch, should they be wanted."""
    return not keeps or "weights" in best or best["epoch"] == 0


def loss_of(model: nn.Module, pixels: Tensor, labels: Tensor, mixup: Mixup, cell: Cell) -> Tensor:
    """Cross entropy of a batch in training: mixed in pairs if wanted, labels smoothed."""
    settings = cell.settings
    images, target = normalise(pixels, cell.record, cell.device), labels.to(cell.device)
    if settings.mixes:
        images, target = mixup(images, target)  # smooths the labels too
    model.train()
    with optimisation.autocast(settings.precision, cell.device):
        logits = model(images)
    smoothing = 0.0 if settings.mixes else settings.label_smoothing
    return functional.cross_entropy(logits.float(), target, label_smoothing=smoothing)


def predict(model: nn.Module, part: Part, cell: Cell) -> Tensor:
    """Logits (images, classes) of a part, on the CPU; computed in float32, because many of bfloat16 would be equal."""
    model.eval()
    logits = []
    with torch.inference_mode():
        for pixels in part.pixels.split(EVALUATION_BATCH):
            logits.append(model(normalise(pixels, cell.record, cell.device)).cpu())
    return torch.cat(logits)


def validate(cell: Cell, training: Training, epoch: int, seed: int) -> dict[str, float]:
    """Score the validation part; where it is strictly better than the best epoch, put this one in its place.

    Where the network has diverged, the loss is not finite and there are no scores.
    """
    part, model = cell.parts["val"], training.model
    logits = predict(model, part, cell)
    loss = functional.cross_entropy(logits, torch.from_numpy(part.labels)).item()
    if not logits.isfinite().all():
        return {"val_loss": float("nan")}
    metric, probabilities = cell.settings.selection_metric, logits.double().softmax(1).numpy()
    score = SELECTION[metric](part.labels, probabilities)
    if score > training.best["score"]:
        others = {
            name: predict(model, other, cell) for name, other in cell.parts.items() if name not in ("train", "val")
        }
        training.best = {"epoch": epoch, "score": score, "val": logits, **others}
        if cell.settings.keeps(seed):
            whole = torch.contiguous_format  # as files want it
            state_dict = model.state_dict().items()
            training.best["weights"] = {name: tensor.clone(memory_format=whole).cpu() for name, tensor in state_dict}
    # Figure 8 draws F1, whatever selects.
    return {"val_loss": loss, "val_f1_macro": validation_f1(part.labels, probabilities), f"val_{metric}": score}
