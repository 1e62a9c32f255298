"""Stored targets: K random views an image with what the teacher says about each, for pre-training without the teacher.

`urfm.data.target_store` describes the files and reads them.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from urfm.cli import parse_settings, run
from urfm.data.augmentation import Stream, View, draw_view, generator, take_view
from urfm.data.images import ImageStore
from urfm.data.target_store import VIEWS, TargetSettings, TargetStore
from urfm.errors import UrfmError
from urfm.files import atomic_path, parquet_rows, read_json, sha256, write_json
from urfm.models.teachers import Teacher, load_teacher
from urfm.progress import progress, say
from urfm.provenance import fingerprint

BATCH = 64  # views shown to the teacher at a time
SAMPLE = 32  # views recomputed by the verifier
TOLERANCE = 0.01  # of a view's root mean square, beyond rounding to int8: devices differ less, other weights more


def cache_key(teacher: dict[str, Any], settings: TargetSettings, store: dict[str, Any]) -> str:
    """Hash of all that stored targets depend on: weights, layer and normalisation, boxes, type, images."""
    own = settings.model_dump(exclude={"teacher"})
    return fingerprint(teacher, own, store["sha256"], store["index_sha256"])


class _Views(Dataset[tuple[Tensor, list[View]]]):
    """The stored views of each image: pixels (K, 3, S, S) and boxes."""

    def __init__(self, store: ImageStore, settings: TargetSettings) -> None:
        self.store, self.settings = store, settings

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> tuple[Tensor, list[View]]:
        settings = self.settings
        image = self.store.read_row(index)
        height, width = image.shape[:2]
        views = [
            draw_view(
                generator(Stream.STORED_VIEW, settings.seed, view, index),
                height,
                width,
                settings.crop_scale,
                settings.flip,
            )
            for view in range(settings.views)
        ]
        return torch.stack([take_view(image, view, settings.input_size) for view in views]), views


def quantise(tokens: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """(…, dim) to whole numbers -127 to 127 and one scale a token, (…): tokens = numbers x scale, to half a scale."""
    # Rounded up to float16, so that the largest value still fits.
    scale = np.nextafter((np.abs(tokens).max(axis=-1) / 127).astype(np.float16), np.float16(np.inf))
    numbers = np.rint(tokens / scale.astype(np.float32)[..., None])
    return numbers.astype(np.int8), scale


def build(
    store: ImageStore, settings: TargetSettings, teacher: Teacher, folder: Path, device: torch.device, workers: int = 0
) -> dict[str, Any]:
    """Write the targets of all images of a store; returns the content of targets.json.

    An interrupted build leaves no targets.json and starts again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "targets.json").unlink(missing_ok=True)
    for left_over in folder.glob(".*.tmp"):
        left_over.unlink()
    tokens = teacher.grid[0] * teacher.grid[1]
    quantised = settings.view_dtype == "int8"
    views = len(store) * settings.views
    needed = views * tokens * (teacher.dim + 2 if quantised else 2 * teacher.dim)
    free = shutil.disk_usage(folder).free
    say(
        f"{len(store):,} images x {settings.views} views x {tokens} tokens x {teacher.dim} channels as "
        f"{settings.view_dtype}: {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB free"
    )
    if needed > 0.99 * free:
        raise UrfmError(
            f"{folder}: {needed / 1e9:.4g} GB are needed and {free / 1e9:.4g} GB are free; lower `views`, use "
            "`view_dtype: int8` (half the size), or `targets: online` (none)"
        )

    def flat(batch: list[tuple[Tensor, list[View]]]) -> tuple[Tensor, list[View]]:
        return torch.cat([pixels for pixels, _ in batch]), [view for _, boxes in batch for view in boxes]

    loader = DataLoader(
        _Views(store, settings),
        batch_size=max(1, BATCH // settings.views),
        num_workers=workers,
        collate_fn=flat,
        multiprocessing_context="fork" if workers else None,
    )
    teacher.to(device)
    done = 0
    with ExitStack() as files:
        append = files.enter_context(parquet_rows(files.enter_context(atomic_path(folder / "views.parquet")), VIEWS))
        outputs = [
            files.enter_context(open(files.enter_context(atomic_path(folder / name)), "wb"))
            for name in ("tokens.bin", "scales.bin")[: 1 + quantised]
        ]
        for pixels, boxes in progress(loader, f"targets of {teacher.name}"):
            for box in boxes:
                row, view = divmod(done, settings.views)
                append({"image_id": store.ids[row].as_py(), "view": view, **box._asdict()})
                done += 1
            for part in pixels.split(BATCH):
                values = teacher.tokens(part.to(device)).float().cpu().numpy()
                arrays: tuple[npt.NDArray[Any], ...] = quantise(values) if quantised else (values.astype(np.float16),)
                if not np.isfinite(arrays[-1]).all():
                    raise UrfmError(f"teacher {teacher.name} gave values that float16 cannot hold; check its weights")
                for output, array in zip(outputs, arrays, strict=True):
                    output.write(array.tobytes())
    if not quantised:
        (folder / "scales.bin").unlink(missing_ok=True)

    names = ["views.parquet", "tokens.bin"] + ["scales.bin"] * quantised
    record = {
        "key": cache_key(teacher.record(), settings, store.record),
        "teacher": teacher.record(),
        "settings": settings.model_dump(),
        "views": settings.views,
        "dtype": settings.view_dtype,
        "images": len(store),
        "tokens": tokens,
        "dim": teacher.dim,
        "sha256": {name: sha256(folder / name) for name in names},
        "store_sha256": store.record["sha256"],
        "simulated": store.record["simulated"],
    }
    write_json(folder / "targets.json", record)
    return record


def verify(folder: Path, store: ImageStore, teacher: Teacher, random: np.random.Generator) -> float:
    """Recompute a random sample of views; returns the largest relative error, an UrfmError if it is too large."""
    targets = TargetStore(folder, verify=True)
    targets.check_store(store)
    settings = TargetSettings.model_validate(targets.record["settings"])
    if cache_key(teacher.record(), settings, store.record) != targets.record["key"]:
        raise UrfmError(f"{folder}: made with another version of teacher {teacher.name}; delete it and rebuild it")
    worst = 0.0
    for row, view in _sample(targets, random):
        pixels = take_view(store.read_row(row), targets.view(row, view), settings.input_size)
        expected = teacher.tokens(pixels[None])[0].float().numpy()
        difference = np.abs(targets.tokens(row, view).float().numpy() - expected)
        beyond = np.maximum(difference - targets.scale(row, view)[:, None] / 2, 0)
        error = float(np.sqrt((beyond**2).mean() / (expected**2).mean()))
        worst = max(worst, error)
        if not error < TOLERANCE:
            raise UrfmError(
                f"{folder}: view {view} of {store.ids[row]} differs from what the teacher says now by {error:.1%} "
                f"(allowed {TOLERANCE:.0%}); delete the folder and rebuild it"
            )
    return worst


def _sample(targets: TargetStore, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    count = targets.record["images"] * targets.record["views"]
    for number in random.choice(count, min(SAMPLE, count), replace=False).tolist():
        yield divmod(number, targets.record["views"])


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Store what a teacher says about K random views of every image.")
    parser.add_argument("--images", type=Path, required=True, help="an image store")
    parser.add_argument("--checkpoint-root", type=Path, default=Path("checkpoints"), help="where weight files lie")
    parser.add_argument("--settings", help="JSON: " + ", ".join(TargetSettings.model_fields))
    parser.add_argument("--workers", type=int, default=0, help="processes that cut and resize")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, help="folder to write")
    what.add_argument("--verify", type=Path, metavar="FOLDER", help="recompute a random sample of stored targets")
    arguments = parser.parse_args()
    if arguments.output and not arguments.settings:
        parser.error("--output needs --settings")

    store = ImageStore(arguments.images, verify=True)
    if arguments.verify:
        settings = TargetSettings.model_validate(read_json(arguments.verify / "targets.json")["settings"])
    else:
        settings = parse_settings(TargetSettings, arguments.settings)
        if settings.teacher.kind == "pixels":
            raise UrfmError("pixels are their own target, there is nothing to store; use `targets: online`")
    device = torch.device("cuda" if torch.cuda.is_available() and arguments.output else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    teacher = load_teacher(settings.teacher, arguments.checkpoint_root, settings.input_size)
    if arguments.verify:
        worst = verify(arguments.verify, store, teacher, np.random.default_rng())
        say(f"{arguments.verify}: hashes agree, recomputed views differ by at most {worst:.2g} (relative)")
        return
    record = build(store, settings, teacher, arguments.output, device, arguments.workers)
    say(f"targets of {record['images']:,} images in {arguments.output}")


if __name__ == "__main__":
    run(main)
