"""What pre-training sees: crops of a run's images with their targets, in batches, and what is hidden of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from urfm.config.models import TeacherSettings
from urfm.config.pretraining import PretrainSettings, TargetSettings
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.core.progress import say
from urfm.data.images.store import ImageStore
from urfm.data.streams import Stream, generator
from urfm.data.views import draw_view, take_view
from urfm.targets.store import TargetStore
from urfm.training import state
from urfm.training.distributed import Processes
from urfm.training.sampling import Codes, Place, epoch_places

Sample = dict[str, Tensor]


def open_pretrain_set(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The record of a run's images, and image_id, dataset and organ of each, sorted by image_id."""
    record: dict[str, Any] = read_json(path.with_suffix(".json"))
    verify_sha256(path, record["sha256"])
    return record, pd.read_parquet(path, columns=["image_id", "dataset", "organ"])


def open_data(
    settings: PretrainSettings, datasets: set[str], images: list[Path], targets: list[Path], verify: bool
) -> tuple[list[ImageStore], list[TargetStore]]:
    """Open the stores of `datasets` and, for cached targets, check that they belong to the images and to the settings.

    A store's folder has the name of its data set. With `verify` all pixels are hashed too, and some targets read; all
    targets are compared with their checksums when they are used.
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
        if verify:
            cache.check_sample()
        made = TargetSettings.model_validate(cache.record["settings"])
        differing = [key for key, value in made.model_dump(include=set(wanted)).items() if wanted[key] != value]
        found = cache.record["teacher"]
        if not _same_teacher(settings.teacher, made.teacher, found) or found != caches[0].record["teacher"]:
            differing.append("teacher")
        if differing:
            keys = ", ".join(differing)
            raise UrfmError(f"{cache.folder}: made with other settings ({keys}); delete it and rebuild it")
    return stores, caches


def open_blurred(
    settings: PretrainSettings, stores: list[ImageStore], folders: Sequence[Path], verify: bool
) -> list[ImageStore]:
    """What the student of a deblurring run sees: the second stores of the same images, in the order of `stores`.

    None for another run. `folders` have the names of their data sets, too.
    """
    if settings.blur_sigma == 0:
        return []
    named = {folder.name: folder for folder in folders}
    if absent := sorted({store.folder.name for store in stores} - named.keys()):
        raise UrfmError(f"--blurred-images: no store of {', '.join(absent)}; blur_sigma needs one for each of --images")
    blurred = [ImageStore(named[store.folder.name], verify) for store in stores]
    for sharp, soft in zip(stores, blurred, strict=True):
        soft.check_blur(settings.blur_sigma)
        sharp.check_twin(soft)
    return blurred


def _same_teacher(wanted: TeacherSettings, made: TeacherSettings, found: dict[str, Any]) -> bool:
    """Whether targets made by `made`, whose record is `found`, are those of `wanted`; weights as far as it says."""
    same = {"kind", "block", "normalise_tokens", "input_size"}
    weights_agree = wanted.sha256 in (None, found["weights_sha256"])
    return weights_agree and wanted.model_dump(include=same) == made.model_dump(include=same)


def list_images(
    pretrain_set: pd.DataFrame, stores: list[ImageStore]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Where each image of the set lies, in the set's order: the number of its store, and its row there."""
    number_of = {store.folder.name: number for number, store in enumerate(stores)}
    numbers = pretrain_set["dataset"].map(number_of).to_numpy().astype(np.int32)
    rows = np.empty(len(pretrain_set), np.int64)
    for number, store in enumerate(stores):
        own = numbers == number
        ids = pa.array(pretrain_set.loc[own, "image_id"], pa.string())
        found = pc.index_in(ids, store.ids)
        if found.null_count:
            missing = ids.filter(pc.is_null(found))[0]
            raise UrfmError(f"{store.folder}: no image {str(missing)!r}, which is selected; rebuild the store")
        rows[own] = found
    return numbers, rows


class Samples(Dataset[Sample]):
    """Crops of the images: `samples[turn, index]`, index in the order of the pre-training set, sorted by image id.

    A sample holds `student` (3, S, S) uint8 and, beside it, `target` (h * w, dim) if targets are stored, or `teacher`
    (3, T, T) uint8 if the teacher sees another picture than the student: the sharp one, where the student sees those of
    `blurred`, or one of its own size.
    `organs` numbers the organ of each image in the order of their names.
    """

    def __init__(
        self,
        settings: PretrainSettings,
        pretrain_set: pd.DataFrame,
        stores: list[ImageStore],
        targets: list[TargetStore],
        blurred: Sequence[ImageStore] = (),
    ) -> None:
        self.settings, self.stores, self.targets, self.blurred = settings, stores, targets, blurred
        if bool(self.blurred) != (settings.blur_sigma > 0):
            raise ValueError("blurred stores and blur_sigma go together")
        self.teacher_side = settings.teacher.sees(settings.input_size)
        self.numbers, self.rows = list_images(pretrain_set, stores)
        self.organs: Codes = pd.factorize(pretrain_set["organ"], sort=True)[0].astype(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def image_id(self, index: int) -> str:
        """The id of an image."""
        return str(self.stores[self.numbers[index]].ids[int(self.rows[index])])

    def __getitem__(self, place: Place) -> Sample:
        settings, (turn, index) = self.settings, place
        number, row = int(self.numbers[index]), int(self.rows[index])
        image = (self.blurred or self.stores)[number].read_row(row)
        random = generator(Stream.CROP, settings.seed, turn, index)
        sample: Sample = {}
        if self.targets:
            stored = int(random.random() * settings.views)
            view = self.targets[number].view(row, stored)
            sample["target"] = self.targets[number].tokens(row, stored)
        else:
            view = draw_view(random, image.shape[0], image.shape[1], settings.crop_scale, settings.flip)
            if self.teacher_side != settings.input_size or self.blurred:
                sharp = self.stores[number].read_row(row) if self.blurred else image
                sample["teacher"] = take_view(sharp, view, self.teacher_side)
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


def batch_size_for(settings: PretrainSettings, images: int, job: Processes) -> int:
    """Images a step, of all processes together: the configured number, or all there are if these are fewer."""
    batch_size = settings.batch_size
    if images < batch_size:
        batch_size = images // job.world_size * job.world_size
        if batch_size == 0:
            raise UrfmError(f"{images} images are too few for {job.world_size} processes")
        if job.is_main:
            say(f"{images} images are fewer than batch_size {settings.batch_size}: one batch of {batch_size}")
    job.share(batch_size)  # an UrfmError if it cannot be shared
    return batch_size


def batches_of(samples: Samples, batch_size: int, job: Processes, start: int, end: int) -> Batches:
    """The places of this process's part of the batches of steps `start` to `end` - 1."""
    settings = samples.settings
    organs = samples.organs if settings.sampling == "organ_balanced" else None
    return Batches(len(samples), batch_size, job, settings.seed, start, end, organs)


class Parts(Sampler[list[Place]]):
    """The places of `batches`, at most `size` at a time."""

    def __init__(self, batches: Batches, size: int) -> None:
        self.batches, self.size = batches, size

    def __iter__(self) -> Iterator[list[Place]]:
        for batch in self.batches:
            for first in range(0, len(batch), self.size):
                yield batch[first : first + self.size]


def load_steps(
    samples: Samples, batches: Batches, micro_batch: int, patches: int, workers: int
) -> Iterator[list[Sample]]:
    """The images of each step of `batches`, with the noise that masks them.

    A step is a list of parts of `micro_batch` images: what is computed at once, and what each of `workers` processes
    makes ahead. Without any, this one makes them.
    """
    job = batches.job
    loader = DataLoader(
        samples,
        batch_sampler=Parts(batches, micro_batch),
        num_workers=workers,
        pin_memory=job.device.type == "cuda",
        worker_init_fn=state.ignore_stop_signals,
        multiprocessing_context="fork" if workers else None,  # stores are memory-mapped: nothing is copied
    )
    parts = iter(loader)
    for step in range(batches.start, batches.end):
        noise = mask_noise(batches.seed, step, batches.batch_size, patches, job).split(micro_batch)
        yield [next(parts) | {"noise": values} for values in noise]


def mask_noise(seed: int, step: int, batch_size: int, patches: int, job: Processes) -> Tensor:
    """This process's rows of the noise (batch_size, patches) that decides which patches are hidden in a step."""
    noise = generator(Stream.MASK, seed, step).random((batch_size, patches), dtype=np.float32)
    share = job.share(batch_size)
    return torch.from_numpy(noise[job.rank * share : (job.rank + 1) * share])
