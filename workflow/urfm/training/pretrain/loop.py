"""The loop of masked pre-training, in the manner of facebookresearch/mae's engine_pretrain.py and nanoGPT's train.py.

`train` runs the steps that are left. What a step changes is one object, `Training`, whose `state_dict` is the
checkpoint; `Objective` computes the gradients of a batch, in micro-batches where it is too large to be seen at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from urfm.config.pretraining import PretrainSettings
from urfm.core.children import loader_processes
from urfm.core.errors import UrfmError
from urfm.core.progress import Meter, say
from urfm.data.streams import Stream, generator
from urfm.models.mim import MaskedAutoencoder, mae_tensors
from urfm.models.normalisation import normalise
from urfm.models.teachers.common import Teacher
from urfm.training import optimisation, state
from urfm.training.distributed import Processes
from urfm.training.pretrain.samples import Batches, Sample, Samples, batch_size_for, batches_of, load_steps
from urfm.training.pretrain.survey import survey

LOG_SECONDS = 60  # least time between two lines of progress
LOOK_EVERY = {"cpu": 1, "cuda": 16}  # steps
SHOWN = 8  # images in a message


class Training:
    """What training changes: all that a checkpoint holds."""

    def __init__(
        self, settings: PretrainSettings, model: MaskedAutoencoder, device: torch.device, floor: float = math.nan
    ) -> None:
        self.model, self.floor = model, floor
        groups = optimisation.weight_decay_groups(model, settings.weight_decay)
        self.optimiser = optimisation.adamw(groups, settings.betas, device)
        self.scaler = optimisation.grad_scaler(settings.precision, device)
        self.ema = ModelEmaV3(model, decay=settings.ema_decay) if settings.ema_decay > 0 else None
        self.step = 0  # steps that are done
        self.loss_sum = 0.0  # over the steps of the present epoch
        self.unseen: list[Tensor] = []  # losses on the device that are not in the sum yet
        self.history: list[dict[str, float]] = []  # a row an epoch
        self.begun = time.monotonic()  # earlier, if time was spent before an interruption

    @property
    def seconds(self) -> float:
        """Spent so far, before interruptions too."""
        return time.monotonic() - self.begun

    @property
    def result(self) -> MaskedAutoencoder:
        """The network that is kept: the moving average of the weights, if there is one."""
        network = self.ema.module if self.ema is not None else self.model
        assert isinstance(network, MaskedAutoencoder)
        return network

    def look(self, job: Processes, leave: int) -> int | None:
        """Wait for the device and add up the losses, without the last `leave`; the first step with one not finite."""
        losses = job.mean(torch.stack(self.unseen)).tolist()
        done = len(losses) - leave
        for loss in losses[:done]:
            self.loss_sum += loss
        del self.unseen[:done]
        first = self.step + leave - len(losses)
        return next((first + place for place, loss in enumerate(losses) if not math.isfinite(loss)), None)

    def update(self) -> None:
        """Take a step along the gradients that were computed."""
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model)
        self.step += 1

    def end_epoch(self, steps: int, batch_size: int, lr: float) -> dict[str, float]:
        """Note an epoch of `steps` steps, the last one with learning rate `lr`; its row of the history."""
        row = {
            "epoch": self.step // steps,
            "step": self.step,
            "images_seen": self.step * batch_size,
            "loss": self.loss_sum / steps,
            "position_mean_loss": self.floor,
            "r2": 1 - self.loss_sum / steps / self.floor,
            "lr": lr,
            "seconds": round(self.seconds, 2),
        }
        self.history.append(row)
        self.loss_sum = 0.0
        return row

    def state_dict(self) -> dict[str, Any]:
        """The content of a checkpoint."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "loss_sum": self.loss_sum,
            "history": self.history,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.scaler.load_state_dict(saved["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(saved["ema"])
        self.step, self.loss_sum, self.history = saved["step"], saved["loss_sum"], saved["history"]
        self.begun = time.monotonic() - saved["seconds"]


class Objective:
    """What is minimised: the distance of predicted targets from those that are stored or that the teacher gives."""

    def __init__(
        self, settings: PretrainSettings, model: MaskedAutoencoder, teacher: Teacher | None, job: Processes
    ) -> None:
        self.precision, self.device = settings.precision, job.device
        self.colours = settings.colours
        self.teacher = teacher
        self.model = model
        self.network: nn.Module = model
        if job.world_size > 1:
            own = [job.device.index] if job.device.type == "cuda" else None
            self.network = DistributedDataParallel(model, device_ids=own)

    def target(self, part: Sample) -> Tensor:
        """Targets (B, h * w, dim) of some images, on their device: those stored, or what the teacher says now."""
        if self.teacher is None:
            return part["target"]
        return self.teacher.tokens(part.get("teacher", part["student"]))

    def loss(self, part: Sample, network: nn.Module) -> Tensor:
        """The mean loss of some images, with the `noise` that decides what is hidden of each."""
        part = {name: values.to(self.device, non_blocking=True) for name, values in part.items()}
        with optimisation.autocast(self.precision, self.device):
            pixels = normalise(part["student"], *self.colours)
            loss: Tensor = network(pixels, self.target(part), part["noise"])
        return loss

    def backward(self, parts: list[Sample], scaler: torch.amp.GradScaler) -> Tensor:
        """Add up the gradients of a batch, part by part; returns the mean loss."""
        network, images = self.network, size(parts)
        total = torch.zeros((), device=self.device)
        for part in parts:
            # Gradients travel between processes once a step, with the last part.
            whole = part is parts[-1]
            held = nullcontext() if whole or not isinstance(network, DistributedDataParallel) else network.no_sync()
            with held:
                loss = self.loss(part, network) * (size([part]) / images)
                scaler.scale(loss).backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def mean_loss(self, parts: list[Sample]) -> Tensor:
        """The mean loss of a batch, without gradients."""
        losses = [self.loss(part, self.model) * size([part]) for part in parts]
        return torch.stack(losses).sum() / size(parts)

    @torch.no_grad()
    def not_finite(self, parts: list[Sample]) -> Iterator[int]:
        """The images of a batch whose own loss is not finite."""
        images = (row for part in parts for row in zip(*(values.split(1) for values in part.values()), strict=True))
        for number, rows in enumerate(images):
            if not self.loss(dict(zip(parts[0], rows, strict=True)), self.model).isfinite():
                yield number


def size(parts: list[Sample]) -> int:
    """Images of a batch."""
    return sum(len(part["student"]) for part in parts)


def train(
    settings: PretrainSettings,
    job: Processes,
    model: MaskedAutoencoder,
    teacher: Teacher | None,
    samples: Samples,
    folder: Path,
    *,
    workers: int = 0,
    micro_batch: int | None = None,
    checkpoint_minutes: float = 10,
) -> dict[str, Any]:
    """Run all steps that are left; returns the finished record: weights of encoder and decoder, and history.

    Every `LOOK_EVERY` steps, and at the end of an epoch, the processes wait for their devices and talk: are the losses
    finite, was one of them told to stop, is it time for a checkpoint.
    """
    batch_size = batch_size_for(settings, len(samples), job)
    steps_per_epoch = len(samples) // batch_size
    steps = settings.epochs * steps_per_epoch
    rate = partial(
        optimisation.learning_rate,
        steps_per_epoch=steps_per_epoch,
        peak=optimisation.peak_learning_rate(settings.base_lr, batch_size),
        minimum=settings.min_lr,
        warmup_epochs=settings.warmup_epochs,
        epochs=settings.epochs,
    )
    batches = partial(batches_of, samples, batch_size, job)
    load = partial(load_steps, samples, micro_batch=micro_batch or batch_size, patches=model.patches)

    model.to(job.device).train()
    optimisation.suit(model, job.device)
    if teacher is not None:
        teacher.to(job.device)
    objective = Objective(settings, model, teacher, job)
    floor, concentration = measure_targets(settings, model, objective, samples)
    training = Training(settings, model, job.device, floor)
    if saved := restore(folder / "checkpoint.pt", job):
        training.load_state_dict(saved)
    if job.is_main:
        announce(settings, training, job, len(samples), batch_size, concentration)
        if training.step == 0:
            keep_snapshot(settings, training, folder, 0)

    def lr(step: int) -> float:
        return rate(step) * optimisation.cut(step, settings.lr_cuts)

    def failure(step: int) -> UrfmError:
        batch = batches(step, step + 1)
        names = image_ids(samples, batch, objective, next(load(batch, workers=0)))
        return diverged(settings, step, lr(step), names, saved_step)

    saved_at, saved_step = time.monotonic(), training.step
    # The first epoch that ends is reported, also after an interruption.
    meter = Meter(settings.run, steps, training.step, every=LOG_SECONDS, first=0, shown=job.is_main)
    with state.stop_signals() as stop, meter, loader_processes():
        for parts in load(batches(training.step, steps), workers=workers):
            optimisation.set_learning_rate(training.optimiser, lr(training.step))
            seed_layers(settings.seed, training.step, job)
            training.unseen.append(objective.backward(parts, training.scaler))
            if any((training.step + 1) % span == 0 for span in (LOOK_EVERY[job.device.type], steps_per_epoch)):
                if (bad := training.look(job, leave=1)) is not None:
                    raise failure(bad)
                # Only now is it known that the last step left a network that is worth keeping.
                # Not put back into `stop`: that would wipe out a signal that came while the processes were talking.
                signal_number = job.maximum(stop.number)
                if job.is_main and (signal_number or time.monotonic() - saved_at >= 60 * checkpoint_minutes):
                    content = training.state_dict()
                    if not state.is_finite(content):
                        raise failure(training.step)
                    state.save(folder / "checkpoint.pt", content)
                    saved_at, saved_step = time.monotonic(), training.step
                if signal_number:
                    job.barrier()  # nobody leaves, which would end the others, before the state is saved
                    raise state.StopRequested(signal_number)
            training.update()
            meter.advance()

            if training.step % steps_per_epoch == 0:
                training.look(job, leave=0)
                row = training.end_epoch(steps_per_epoch, batch_size, lr(training.step - 1))
                if job.is_main:
                    # Before the checkpoint of the same step, so that a run which goes on from there has it already.
                    keep_snapshot(settings, training, folder, int(row["epoch"]))
                if meter.due(last=training.step == steps):
                    say(
                        f"{settings.run}: epoch {row['epoch']}/{settings.epochs}, loss {row['loss']:.4f}, "
                        f"R² {row['r2']:.3f}, lr {row['lr']:.2e}, {row['seconds']:,.0f} s{meter.left()}"
                    )

        last = job.mean(objective.mean_loss(parts)).item()
        if not (math.isfinite(last) and state.is_finite(training.result.state_dict())):
            raise failure(steps - 1)

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in mae_tensors(training.result).items()}
    inside = training.result.encoder.state_dict().keys()
    return {
        "encoder": {name: tensor for name, tensor in tensors.items() if name in inside},
        "decoder": {name: tensor for name, tensor in tensors.items() if name not in inside},
        "history": training.history,
    }


def image_ids(samples: Samples, batch: Batches, objective: Objective, parts: list[Sample]) -> list[str]:
    """Some images of this process's part of one step: those whose own loss is not finite, or else the first."""
    (places,) = batch
    found = list(islice(objective.not_finite(parts), SHOWN)) or range(min(SHOWN, len(places)))
    return [samples.image_id(places[number][1]) for number in found]


def diverged(settings: PretrainSettings, step: int, lr: float, images: list[str], saved: int) -> UrfmError:
    """What to say of a loss that is not finite, where the last state that was saved is of step `saved`."""
    cuts = [*(cut.model_dump() for cut in settings.lr_cuts), {"step": saved, "factor": 0.5}]
    written = ", ".join(f"{{step: {cut['step']}, factor: {cut['factor']:g}}}" for cut in cuts)
    lower = (
        f"The state of step {saved} is kept: pretraining.runs.{settings.run}.lr_cuts: [{written}] goes on from there "
        "with half the learning rate"
        if saved
        else "Lower base_lr"
    )
    return UrfmError(
        f"{settings.run}: the loss is not finite at step {step}, learning rate {lr:.3g}, images {', '.join(images)}. "
        f"{lower}; or use precision fp32 or bf16, or a longer warm-up"
    )


def measure_targets(
    settings: PretrainSettings, model: MaskedAutoencoder, objective: Objective, samples: Samples
) -> tuple[float, float]:
    """The loss of guessing the mean target of each position, and what part of the variance 1 % of the channels hold.

    The network learns the scale of its channels, if wanted.

    A loss of this size means that nothing of the images has been learnt yet. It is the same before and after an
    interruption, and the same in every process.
    """

    def raw(batch: Sample) -> Tensor:
        with torch.inference_mode(), optimisation.autocast(settings.precision, objective.device):
            tokens = objective.target({name: values.to(objective.device) for name, values in batch.items()})
            return tokens if settings.target_norm == "channel" else model.standardise(tokens)

    found = survey(samples, settings.seed, raw)
    if settings.target_norm != "channel":
        return found.floor(), found.concentration()
    model.scale_targets(found.channel_mean, found.channel_std)
    return found.floor(found.channel_std), found.concentration()


def announce(
    settings: PretrainSettings,
    training: Training,
    job: Processes,
    images: int,
    batch_size: int,
    concentration: float,
) -> None:
    """Say what is about to be trained, on what, and from where on."""
    peak = optimisation.peak_learning_rate(settings.base_lr, batch_size)
    millions = sum(parameter.numel() for parameter in training.model.parameters()) / 1e6
    say(
        f"{settings.run}: {images:,} images, {settings.epochs} epochs of {images // batch_size:,} steps of "
        f"{batch_size}, {settings.precision} on {job.world_size} x {job.device.type}, peak lr {peak:.3g}; "
        + (f"going on at step {training.step:,}" if training.step else f"{millions:.1f} M parameters")
        + f"; guessing the mean target of each position costs {training.floor:.4f}, R² is above that; "
        f"the strongest 1 % of the targets' channels hold {concentration:.0%} of their variance"
    )


def seed_layers(seed: int, step: int, job: Processes) -> None:
    """Seed what draws inside the network, such as a drop path among model_args."""
    optimisation.seed_torch(int(2**53 * generator(Stream.LAYERS, seed, step, job.rank).random()))


def restore(path: Path, job: Processes) -> dict[str, Any] | None:
    """Load a state in every process: the main one first, which removes what is torn."""
    content = state.load(path) if job.is_main else None
    job.barrier()
    return content if job.is_main else state.load(path)


def snapshot_path(folder: Path, epoch: int) -> Path:
    """Where the state keeps the network as it is after an epoch."""
    return folder / f"snapshot-{epoch}.pt"


def keep_snapshot(settings: PretrainSettings, training: Training, folder: Path, epoch: int) -> None:
    """Keep the network after an epoch, in float16, if the run wants it."""
    if epoch in settings.snapshots:
        path = snapshot_path(folder, epoch)
        state.remove(path)  # of an attempt that was killed after it: this one's is the same, or the better one
        state.save(path, {name: tensor.half().cpu() for name, tensor in training.result.state_dict().items()})
