"""What the masked autoencoders of a run predict for hidden patches, epoch by epoch (stage `reconstruct`).

Pixels are shown as pixels. Teacher tokens have hundreds of channels: three are shown as red, green and blue, the first
principal components of the target tokens of all pictures, onto which the predictions are projected too.

Output: an npz with `images` (n, S, S, 3) as the student sees them, `mask` (n, h, w), True where a patch is hidden,
`target` (n, H, W, 3), `predictions` (snapshots, n, H, W, 3), all pictures uint8, H x W pixels or tokens, and `errors`
(snapshots, n), the run's loss for each picture; a json beside it says where it comes from.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from urfm.config.pretraining import PretrainSettings
from urfm.config.statistics import PictureCount
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import atomic_path, sha256, write_record
from urfm.core.progress import progress, say
from urfm.data.images.store import ImageStore
from urfm.data.views import View, take_view
from urfm.interpret.snapshots import Snapshots, read_snapshots
from urfm.models.mim import MaskedAutoencoder
from urfm.models.normalisation import normalise
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import Teacher, patchify
from urfm.training.pretrain.samples import list_images, open_blurred, open_pretrain_set

Pictures = npt.NDArray[np.uint8]


class ReconstructSettings(PictureCount):
    """Settings of the stage."""


def choose(pretrain_set: pd.DataFrame, number: int) -> pd.DataFrame:
    """Images of the run's set at random, but always the same, one of every organ before the second of any."""
    shuffled = pretrain_set.sample(frac=1, random_state=0)
    turn = shuffled.groupby("organ").cumcount().sort_values(kind="stable")
    return shuffled.loc[turn.index[:number]].reset_index(drop=True)


def whole_images(
    chosen: pd.DataFrame, stores: list[ImageStore], blurred: list[ImageStore], settings: PretrainSettings
) -> tuple[Tensor, Tensor]:
    """uint8 (n, 3, S, S) twice, squashed to a square: as the student sees them, which may be blurred, and as the
    teacher does, sharp and of its own size."""
    student, sharp = [], []
    for number, row in zip(*list_images(chosen, stores), strict=True):
        image = stores[number].read_row(int(row))
        view = View(0, 0, image.shape[0], image.shape[1], flip=False)
        sharp.append(take_view(image, view, settings.teacher.sees(settings.input_size)))
        seen = (blurred or stores)[number].read_row(int(row))
        student.append(take_view(seen, view, settings.input_size))
    return torch.stack(student), torch.stack(sharp)


def unpatchify(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(n, h * w, patch_size² * 3) to images (n, H, W, 3), the inverse of `patchify`."""
    count, (h, w) = len(tokens), grid
    size = round((tokens.shape[2] / 3) ** 0.5)
    parts = tokens.reshape(count, h, w, size, size, 3)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(count, h * size, w * size, 3)


def as_pixels(
    tokens: Tensor, teacher: Teacher, sharp: Tensor, settings: PretrainSettings, grid: tuple[int, int]
) -> Pictures:
    """Pixel tokens as pictures. Where patches are standardised, they get mean and contrast of the true patch (MAE)."""
    mean, std = torch.tensor(teacher.mean), torch.tensor(teacher.std)
    true = (sharp.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    patches = patchify(true, sharp.shape[2] // grid[0])
    if settings.teacher.norm_pix or settings.target_norm == "layernorm":
        tokens = tokens * patches.std(-1, keepdim=True) + patches.mean(-1, keepdim=True)
    pixels = unpatchify(tokens, grid) * std + mean
    return to_uint8(pixels.numpy())


def to_uint8(colours: npt.NDArray[Any]) -> Pictures:
    """Colours in [0, 1], cut to it, as bytes."""
    pixels: Pictures = np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8)
    return pixels


class Components:
    """Tokens as colours: the first three principal components of the target tokens, 1st to 99th percentile each."""

    def __init__(self, target: npt.NDArray[np.float32], grid: tuple[int, int]) -> None:
        self.grid = grid
        self.pca = PCA(3, svd_solver="full").fit(target.reshape(-1, target.shape[-1]))
        shown = self.pca.transform(target.reshape(-1, target.shape[-1]))
        self.low, self.high = np.percentile(shown, [1, 99], axis=0)

    def colours(self, tokens: npt.NDArray[np.float32]) -> Pictures:
        """(n, h * w, dim) to (n, h, w, 3)."""
        shown = self.pca.transform(tokens.reshape(-1, tokens.shape[-1]))
        scaled = (shown - self.low) / np.maximum(self.high - self.low, 1e-12)
        return to_uint8(scaled.reshape(len(tokens), *self.grid, 3))


def predict(
    network: MaskedAutoencoder, student: Tensor, target: Tensor, noise: Tensor, settings: PretrainSettings
) -> tuple[Tensor, Tensor, npt.NDArray[np.float64]]:
    """Predictions (n, h * w, dim), mask (n, h * w), and the loss of each image (n,)."""
    with torch.inference_mode():
        prediction, mask = network.predict(normalise(student, *settings.colours), noise)
        losses = [
            float(network.loss(prediction[place : place + 1], target[place : place + 1], mask[place : place + 1]))
            for place in range(len(student))
        ]
    return prediction, mask, np.array(losses)


def reconstruct(snapshots: Snapshots, student: Tensor, sharp: Tensor, teacher: Teacher) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the output."""
    settings = snapshots.settings
    grid = (teacher.grid[0], teacher.grid[1])
    target = teacher.tokens(sharp)
    shown_target = snapshots.network(snapshots.epochs[-1]).standardise(target)
    noise = torch.from_numpy(np.random.default_rng(0).random((len(student), grid[0] * grid[1]), dtype=np.float32))
    if teacher.kind == "pixels":

        def draw(tokens: Tensor) -> Pictures:
            return as_pixels(tokens, teacher, sharp, settings, grid)
    else:
        components = Components(shown_target.numpy(), grid)

        def draw(tokens: Tensor) -> Pictures:
            return components.colours(tokens.numpy())

    predictions, errors = [], []
    for epoch in progress(snapshots.epochs, f"{settings.run}: reconstructions"):
        prediction, mask, losses = predict(snapshots.network(epoch), student, target, noise, settings)
        predictions.append(draw(prediction))
        errors.append(losses)
    return {
        "images": student.permute(0, 2, 3, 1).numpy(),
        "mask": mask.reshape(-1, *grid).numpy().astype(bool),
        "target": draw(shown_target),
        "predictions": np.stack(predictions),
        "errors": np.stack(errors),
    }


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Predictions of a run's masked autoencoders for hidden patches.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(ReconstructSettings.model_fields))
    parser.add_argument("--snapshots", type=Path, required=True, help="snapshots.json of the run")
    parser.add_argument("--pretrain-set", type=Path, required=True, help="parquet file of the run's images")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image stores, a folder a data set")
    parser.add_argument(
        "--blurred-images", type=Path, nargs="*", default=[], help="of a run that deblurs: second stores"
    )
    parser.add_argument("--checkpoint-root", type=Path, default=Path("checkpoints"), help="where weight files lie")
    parser.add_argument("--output", type=Path, required=True, help="npz file to write, with a json beside it")
    arguments = parser.parse_args()
    settings = parse_settings(ReconstructSettings, arguments.settings)
    torch.set_num_threads(1)
    snapshots = read_snapshots(arguments.snapshots)
    trained = snapshots.settings
    _, pretrain_set = open_pretrain_set(arguments.pretrain_set)
    chosen = choose(pretrain_set, settings.images)
    stores = [ImageStore(folder, verify=True) for folder in arguments.images if folder.name in set(chosen["dataset"])]
    blurred = open_blurred(trained, stores, arguments.blurred_images, verify=True)
    student, sharp = whole_images(chosen, stores, blurred, trained)
    patch_size = trained.input_size // snapshots.target["grid"][0]
    mean, std = trained.colours
    teacher = load_teacher(
        trained.teacher,
        arguments.checkpoint_root,
        trained.input_size,
        patch_size=patch_size,
        mean=mean,
        std=std,
    )
    if teacher.record() != snapshots.target:
        raise UrfmError(f"teacher {teacher.name}: not the one that {trained.run} was trained with; put its file back")
    arrays = reconstruct(snapshots, student, sharp, teacher)
    with atomic_path(arguments.output) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    write_record(
        arguments.output.with_suffix(".json"),
        {
            "run": trained.run,
            "epochs": snapshots.epochs,
            "pixels": teacher.kind == "pixels",
            "restored": teacher.kind == "pixels" and (trained.teacher.norm_pix or trained.target_norm == "layernorm"),
            "loss_on": trained.loss_on,
            "mask_ratio": trained.mask_ratio,
            "teacher": f"{teacher.name}, {teacher.layer}",
            "image_ids": chosen["image_id"].tolist(),
            "organs": chosen["organ"].tolist(),
            "simulated": snapshots.simulated,
            "stand_in": teacher.stand_in,
            "sha256": sha256(arguments.output),
        },
    )
    say(f"{trained.run}: {len(chosen)} images at {len(snapshots.epochs)} epochs in {arguments.output}")


if __name__ == "__main__":
    run(main)
