"""Stored targets: K random views of an image with what the teacher says of each, to pre-train without the teacher.

`urfm.targets.store` describes the files and reads them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from urfm.config.pretraining import TargetSettings
from urfm.core.children import end_with_parent, loader_processes
from urfm.core.cli import parse_settings, run
from urfm.core.code import code_digests
from urfm.core.errors import UrfmError
from urfm.core.files import MAKE_ROOM, atomic_path, parquet_rows, read_json, room, sha256, write_json, write_record
from urfm.core.lock import lock
from urfm.core.progress import human_bytes, progress, say
from urfm.core.provenance import fingerprint
from urfm.data.images.store import ImageStore
from urfm.data.streams import Stream, generator
from urfm.data.views import View, draw_view, take_view
from urfm.models.device import own_device
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import Teacher
from urfm.targets.size import bytes_needed
from urfm.targets.store import VIEWS, TargetStore, checksum

CHOICES = {"TEACHERS": "teacher.kind"}  # of urfm.core.code

CHECKS = "checks"  # while they are made; then a column of views.parquet
BATCH = 64  # views shown to the teacher at a time
SAMPLE = 32  # views recomputed by the verifier
SAVE_SECONDS = 60.0  # of work that a kill may lose
TOLERANCE = 0.01  # of a view's root mean square, beyond rounding to int8: devices differ less, other weights more


def cache_key(teacher: dict[str, Any], settings: TargetSettings, store: dict[str, Any]) -> str:
    """Hash of all that stored targets depend on: weights, layer and normalisation, boxes, type, images."""
    own = settings.model_dump(exclude={"teacher"})
    return fingerprint(teacher, own, store["sha256"], store["index_sha256"])


def stored_views(store: ImageStore, settings: TargetSettings, row: int) -> list[View]:
    """The boxes of an image's K views."""
    height, width = store.read_row(row).shape[:2]
    randoms = (generator(Stream.STORED_VIEW, settings.seed, view, row) for view in range(settings.views))
    return [draw_view(random, height, width, settings.crop_scale, settings.flip) for random in randoms]


class _Pixels(Dataset[Tensor]):
    """The stored views of each image, (K, 3, S, S)."""

    def __init__(self, store: ImageStore, settings: TargetSettings) -> None:
        self.store, self.settings = store, settings
        self.side = settings.teacher.sees(settings.input_size)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Tensor:
        image = self.store.read_row(index)
        views = stored_views(self.store, self.settings, index)
        return torch.stack([take_view(image, view, self.side) for view in views])


def quantise(tokens: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """(…, dim) to whole numbers -127 to 127 and one scale a token, (…): tokens = numbers x scale, to half a scale."""
    # Rounded up to float16, so that the largest value still fits.
    scale = np.nextafter((np.abs(tokens).max(axis=-1) / 127).astype(np.float16), np.float16(np.inf))
    numbers = np.rint(tokens / scale.astype(np.float32)[..., None])
    return numbers.astype(np.int8), scale


def build(
    store: ImageStore,
    settings: TargetSettings,
    teacher: Teacher,
    folder: Path,
    device: torch.device,
    workers: int = 0,
    code: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the targets of all images of a store; returns the content of targets.json.

    An interrupted build leaves no targets.json; the next one goes on where it was, to the same bits, if it has the
    same settings, teacher, images and `code` (digests of all that the stage imports).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        return _build(store, settings, teacher, folder, device, workers, code)


def _build(
    store: ImageStore,
    settings: TargetSettings,
    teacher: Teacher,
    folder: Path,
    device: torch.device,
    workers: int,
    code: Sequence[str],
) -> dict[str, Any]:
    (folder / "targets.json").unlink(missing_ok=True)
    key = cache_key(teacher.record(), settings, store.record)
    partial = folder / f".partial-{fingerprint(key, list(code))}"
    for other in folder.glob(".partial-*"):
        if other != partial:
            shutil.rmtree(other)
    tokens = teacher.grid[0] * teacher.grid[1]
    names = ["tokens.bin"] + ["scales.bin"] * (settings.view_dtype == "int8")
    there = sum(path.stat().st_size for path in partial.glob("*.bin"))
    needed = bytes_needed(len(store), settings.views, tokens, teacher.dim, settings.view_dtype)
    say(
        f"{len(store):,} images x {settings.views} views x {tokens} tokens x {teacher.dim} channels as "
        f"{settings.view_dtype}: {human_bytes(needed)}, {human_bytes(there)} of them there, "
        f"{human_bytes(shutil.disk_usage(folder).free)} free"
    )
    advice = "lower `views`, use `view_dtype: int8` (half the size), or `targets: online` (none)"
    with room(folder / "tokens.bin", needed - there, partial / "tokens.bin", f"{advice}; or {MAKE_ROOM}"):
        partial.mkdir(exist_ok=True)
        _write_tokens(store, settings, teacher, [partial / name for name in names], device, workers)

    checks = np.fromfile(partial / CHECKS, np.uint32).reshape(len(store), settings.views)
    with atomic_path(folder / "views.parquet") as path, parquet_rows(path, VIEWS) as append:
        for row in range(len(store)):
            for view, box in enumerate(stored_views(store, settings, row)):
                check = int(checks[row, view])
                append({"image_id": store.ids[row].as_py(), "view": view, **box._asdict(), "crc32": check})
    record = {
        "key": key,
        "teacher": teacher.record(),
        "settings": settings.model_dump(),
        "views": settings.views,
        "dtype": settings.view_dtype,
        "images": len(store),
        "tokens": tokens,
        "dim": teacher.dim,
        "sha256": {"views.parquet": sha256(folder / "views.parquet")},
        "store_sha256": store.record["sha256"],
        "simulated": store.record["simulated"],
    }
    # What is left to do takes no time: a kill before it loses none of the tokens.
    (folder / "scales.bin").unlink(missing_ok=True)
    for name in names:
        (partial / name).replace(folder / name)
    write_record(folder / "targets.json", record)
    shutil.rmtree(partial)
    return record


def _write_tokens(
    store: ImageStore, settings: TargetSettings, teacher: Teacher, paths: list[Path], device: torch.device, workers: int
) -> None:
    """Write tokens, and scales if there is a second path, or go on with the images that are not on disk for sure.

    How many are is in done.json, written when the files were flushed; what lies behind them is cut off. Each view's
    CRC-32 is written beside them.
    """
    teacher.to(device)
    progress_file = paths[0].with_name("done.json")
    paths = [*paths, paths[0].with_name(CHECKS)]
    begun = all(path.exists() for path in [progress_file, *paths])
    done: int = read_json(progress_file)["images"] if begun else 0
    if done:
        say(f"going on at image {done:,}")
    # In whole batches, whose sizes can change the last bits of what the teacher says.
    size = max(1, BATCH // settings.views)
    batches = [list(range(first, min(first + size, len(store)))) for first in range(done, len(store), size)]
    loader = DataLoader(
        _Pixels(store, settings),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=torch.cat,
        worker_init_fn=end_with_parent,
        multiprocessing_context="fork" if workers else None,
    )
    view_tokens = teacher.grid[0] * teacher.grid[1]
    token_bytes = [teacher.dim, 2] if settings.view_dtype == "int8" else [2 * teacher.dim]
    widths = [*(view_tokens * width for width in token_bytes), 4]  # bytes of a view
    with ExitStack() as files, loader_processes():
        outputs = [files.enter_context(open(path, "r+b" if done else "wb")) for path in paths]
        for output, width in zip(outputs, widths, strict=True):
            output.truncate(done * settings.views * width)
            output.seek(0, os.SEEK_END)
        saved_at = time.monotonic()
        for batch, pixels in zip(batches, progress(loader, f"targets of {teacher.name}"), strict=True):
            for part in pixels.split(BATCH):
                values = teacher.tokens(part.to(device)).float().cpu().numpy()
                int8 = settings.view_dtype == "int8"
                arrays: list[npt.NDArray[Any]] = [*quantise(values)] if int8 else [values.astype(np.float16)]
                if not np.isfinite(arrays[-1]).all():
                    raise UrfmError(f"teacher {teacher.name} gave values that float16 cannot hold; check its weights")
                checks = np.array([checksum(*view) for view in zip(*arrays, strict=True)])
                for output, array in zip(outputs, [*arrays, checks], strict=True):
                    output.write(array.tobytes())
            done = batch[-1] + 1
            if done == len(store) or time.monotonic() - saved_at >= SAVE_SECONDS:
                for output in outputs:
                    output.flush()
                    os.fsync(output.fileno())
                write_json(progress_file, {"images": done})
                saved_at = time.monotonic()


def verify(folder: Path, store: ImageStore, teacher: Teacher, random: np.random.Generator) -> float:
    """Recompute a random sample of views; returns the largest relative error, an UrfmError if it is too large."""
    targets = TargetStore(folder)
    targets.check_store(store)
    for row in progress(range(len(store)), f"{folder}: checksums"):
        for view in range(targets.record["views"]):
            targets.tokens(row, view)
    settings = TargetSettings.model_validate(targets.record["settings"])
    if cache_key(teacher.record(), settings, store.record) != targets.record["key"]:
        raise UrfmError(f"{folder}: made with another version of teacher {teacher.name}; delete it and rebuild it")
    worst = 0.0
    for row, view in _sample(targets, random):
        pixels = take_view(store.read_row(row), targets.view(row, view), teacher.input_size)
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
    device = own_device() if arguments.output else torch.device("cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    teacher = load_teacher(settings.teacher, arguments.checkpoint_root, settings.input_size)
    if arguments.verify:
        worst = verify(arguments.verify, store, teacher, np.random.default_rng())
        say(f"{arguments.verify}: checksums agree, recomputed views differ by at most {worst:.2g} (relative)")
        return
    code = code_digests("urfm.targets.build", settings.model_dump())
    record = build(store, settings, teacher, arguments.output, device, arguments.workers, code)
    say(f"targets of {record['images']:,} images in {arguments.output}")


if __name__ == "__main__":
    run(main)
