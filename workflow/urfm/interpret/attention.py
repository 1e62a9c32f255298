"""Where networks look: attention and class activation maps of a task's test images (stage `attention`).

Three maps an image (paper, Figure 6), all of the patches that the networks divide it into:
- `teacher`: attention of the [CLS] token in the last layer of the network whose representations are the targets, mean
  over heads. A convolutional teacher has no such token: there it is the length of its output at each place;
- `reconstruction`: the same in the last layer of the decoder, which reconstructs these representations. Every patch is
  visible once: the image is seen through complementary masks of the ratio used in pre-training, and the maps averaged.
  With `attention: encoder` it is that of the pre-trained encoder, which sees the whole image;
- `gradcam`: Grad-CAM (Selvaraju et al. 2017) of the fine-tuned network for the class it predicts, on the tokens after
  the first norm of the last block.

One image is kept to be drawn, with its representations as colours; of all, how much of each map lies in the lesion,
where the archive outlines it, and how alike the maps are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from urfm.config.models import TeacherSettings
from urfm.config.paper import Maps
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import atomic_path, read_json, sha256, verify_sha256, write_parquet, write_record
from urfm.core.progress import progress, say
from urfm.data.images.store import ImageStore
from urfm.data.outlines import lesion_mask
from urfm.data.splits.shares import hash_order
from urfm.interpret.autoencoder import Released, load_autoencoder, load_released
from urfm.interpret.finetuned import load_finetuned
from urfm.models.device import own_device
from urfm.models.mim import MaskedAutoencoder
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import Teacher
from urfm.statistics.predictions import read_cell
from urfm.training.finetune.images import evaluation_transform, normalise, open_image

CHOICES = {"OUTLINES": "reader", "TEACHERS": "teacher.kind"}  # of urfm.core.code

MAPS = ("teacher", "reconstruction", "gradcam")
Array = npt.NDArray[np.float64]


class AttentionSettings(Maps):
    """Settings of the stage."""

    reader: str  # of the task's data set, which knows where its outlines are
    teacher: TeacherSettings
    released: Released | None = None  # instead of a pre-training run's


@dataclass(frozen=True)
class Networks:
    """The three networks that look at an image; `record` is the encoder's, with the normalisation of its input."""

    teacher: Teacher
    autoencoder: MaskedAutoencoder
    classifier: Any
    record: dict[str, Any]
    device: torch.device
    attention: Literal["decoder", "encoder"] = "decoder"


@contextmanager
def watched(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect first input and output of every call of a module."""
    calls: list[tuple[Tensor, Tensor]] = []
    handle = module.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    try:
        yield calls
    finally:
        handle.remove()


def cls_attention(attention: Any, tokens: Tensor, prefix: int) -> Tensor:
    """How much the first token attends to each patch, (B, patches), mean over heads.

    `attention` is timm's self-attention, `tokens` (B, prefix + patches, dim) its input. Weights of a head sum to 1 with
    those of the `prefix` tokens that are no patches.
    """
    batch, count, _ = tokens.shape
    qkv = attention.qkv(tokens).reshape(batch, count, 3, attention.num_heads, attention.head_dim)
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(query), attention.k_norm(key)
    weights = (query[:, :, :1] * attention.scale @ key.transpose(-2, -1)).softmax(dim=-1)
    mean: Tensor = weights[:, :, 0, prefix:].mean(dim=1)
    return mean


def grad_cam(model: Any, layer: nn.Module, prefix: int, images: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM of the predicted classes on the tokens that `layer` puts out.

    Returns the maps (B, patches), relu(sum over channels of activation x mean gradient), and the classes (B,).
    """
    with torch.enable_grad(), watched(layer) as calls:
        logits = model(images)
        ((_, activations),) = calls
        chosen = logits.argmax(dim=1)
        (gradients,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), activations)
    weights = gradients[:, prefix:].mean(dim=1, keepdim=True)
    return (activations[:, prefix:] * weights).sum(dim=-1).relu().detach(), chosen


def complementary_noise(patches: int, keep: int, seed: int) -> Tensor:
    """Noise (masks, patches) for `MaskedAutoencoder.predict`: as few masks as show every patch at least once."""
    order = np.random.default_rng(seed).permutation(patches)
    masks = -(-patches // keep)
    noise = np.empty((masks, patches), np.float32)
    noise[:, order] = (np.arange(patches) - keep * np.arange(masks)[:, None]) % patches
    return torch.from_numpy(noise)


def teacher_map(teacher: Teacher, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's map (B, patches) and its tokens (B, patches, dim) of uint8 images."""
    vit: Any = getattr(teacher.network, "vit", None)
    if vit is None:
        tokens = teacher.tokens(pixels)
        return tokens.norm(dim=-1), tokens
    attention: Any = vit.blocks[-1].attn
    with watched(attention) as calls:
        tokens = teacher.tokens(pixels)
    return cls_attention(attention, calls[0][0], vit.num_prefix_tokens), tokens


def encoder_map(model: MaskedAutoencoder, images: Tensor) -> Tensor:
    """The pre-trained encoder's map (B, patches) of whole images."""
    attention: Any = model.encoder.blocks[-1].attn
    with watched(attention) as calls:
        model.encoder.forward_features(images)
    return cls_attention(attention, calls[0][0], model.prefix)


def reconstruct(model: MaskedAutoencoder, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The decoder's map (B, patches), its predictions (masks, B, patches, dim) and the masks (masks, patches)."""
    maps, predictions, masks = [], [], []
    attention: Any = model.decoder_blocks[-1].attn
    for row in noise:
        with watched(attention) as calls:
            prediction, mask = model.predict(images, row.expand(len(images), -1))
        maps.append(cls_attention(attention, calls[0][0], model.prefix))
        predictions.append(prediction)
        masks.append(mask[0])
    return torch.stack(maps).mean(dim=0), torch.stack(predictions), torch.stack(masks)


def explained(target: Tensor, predictions: Tensor, masks: Tensor) -> Tensor:
    """R² of hidden patches, (B,): 1 - squared error / squared deviation from the image's mean token."""
    hidden = masks[:, None, :, None]
    error = ((predictions - target).square() * hidden).sum(dim=(0, 2, 3))
    deviation = ((target - target.mean(dim=1, keepdim=True)).square() * hidden).sum(dim=(0, 2, 3))
    return 1 - error / deviation


def colours(target: Array, prediction: Array) -> tuple[Array, Array]:
    """Tokens (patches, dim) as colours (patches, 3) in [0, 1]: the target's first three principal components.

    The prediction is projected onto the same components; 2 % of the target's values at either end are cut off.
    """
    centre = target.mean(axis=0)
    _, _, axes = np.linalg.svd(target - centre, full_matrices=False)
    own, other = ((tokens - centre) @ axes[:3].T for tokens in (target, prediction))
    low, high = np.percentile(own, [2, 98], axis=0)
    rgb = [((values - low) / np.maximum(high - low, 1e-12)).clip(0, 1) for values in (own, other)]
    return rgb[0], rgb[1]


def likeness(first: Array, second: Array) -> float:
    """Spearman's correlation of two maps; NaN where one is flat."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def concentration(values: Array, lesion: Array) -> float:
    """How much more of a map lies in the lesion than of the image: 1 is as much; NaN where the map is flat zero.

    `lesion` (h, w) is the share of each patch that is lesion.
    """
    total = values.sum() * lesion.mean()
    return float((values * lesion).sum() / total) if total > 0 else float("nan")


@dataclass(frozen=True)
class Scene:
    """A test image as the networks see it."""

    pixels: Tensor  # uint8 (3, S, S)
    teachers: Tensor  # the same of the teacher's size
    lesion: npt.NDArray[np.bool_] | None  # (S, S), if it is outlined
    aspect: float  # width over height of what was made square


def open_scene(
    image: Image.Image, origin: Mapping[Any, Any], reader: str, root: Path, sizes: tuple[int, int], resize: str
) -> Scene:
    """A stored image and its outline; `origin` is its row of the manifest, `sizes` are the student's, the teacher's."""
    transform, teachers = (evaluation_transform(size, resize) for size in sizes)
    mask = lesion_mask(reader, root / origin["path"], int(origin["width"]), int(origin["height"]))
    lesion = None if mask is None else transform(Image.fromarray(mask).convert("L"))[0].numpy() > 127
    return Scene(
        pixels=transform(image),
        teachers=teachers(image),
        lesion=lesion if lesion is not None and lesion.any() else None,
        aspect=origin["width"] / origin["height"] if resize == "squash" else 1.0,
    )


def look(networks: Networks, scene: Scene) -> dict[str, Array]:
    """All maps and the first mask (h, w) of an image; its predicted class, r2, target, prediction (patches, dim)."""
    model, grid = networks.autoencoder, networks.autoencoder.grid
    pixels = scene.pixels[None].to(networks.device)
    images = normalise(pixels, networks.record, networks.device)
    noise = complementary_noise(model.patches, model.keep, seed=0).to(networks.device)
    vit = networks.classifier
    gradcam, predicted = grad_cam(vit, vit.blocks[-1].norm1, vit.num_prefix_tokens, images)
    with torch.inference_mode():
        teacher, target = teacher_map(networks.teacher, scene.teachers[None].to(networks.device))
        reconstruction, predictions, masks = reconstruct(model, images, noise)
        if networks.attention == "encoder":
            reconstruction = encoder_map(model, images)
        target = model.standardise(target)
        r2 = explained(target, predictions, masks)
    maps = {"teacher": teacher, "reconstruction": reconstruction, "gradcam": gradcam, "mask": masks[:1]}
    rest = {"predicted": predicted, "r2": r2, "target": target, "prediction": predictions[0]}
    return {
        **{name: values[0].cpu().double().numpy().reshape(grid) for name, values in maps.items()},
        **{name: values[0].cpu().double().numpy() for name, values in rest.items()},
    }


def measure(maps: dict[str, Array], lesion: npt.NDArray[np.bool_] | None) -> dict[str, float]:
    """r2; area, the lesion's share of the image; in_<map>, see `concentration`; rho_<map>_<map>, see `likeness`."""
    row = {"r2": float(maps["r2"]), "area": float("nan")} | dict.fromkeys([f"in_{name}" for name in MAPS], float("nan"))
    if lesion is not None:
        grid = maps["teacher"].shape
        share = F.adaptive_avg_pool2d(torch.from_numpy(lesion)[None].double(), grid)[0].numpy()
        row |= {"area": float(share.mean())} | {f"in_{name}": concentration(maps[name], share) for name in MAPS}
    for first, second in (MAPS[:2], MAPS[1:], MAPS[::2]):
        row[f"rho_{first}_{second}"] = likeness(maps[first], maps[second])
    return row


def choose(table: pd.DataFrame) -> int:
    """The row to draw: the first that is right and outlined, or right if none is outlined, or simply the first."""
    right = table["label"] == table["predicted"]
    for wanted in (right & table["area"].notna(), right):
        if wanted.any():
            return int(np.flatnonzero(wanted)[0])
    return 0


def load_networks(
    settings: AttentionSettings, cell: Path, encoder: Path, run_folder: Path | None, checkpoint_root: Path
) -> tuple[Networks, dict[str, Any]]:
    """The networks on their device, and the cell's record; an UrfmError where they divide images differently."""
    classifier, described = load_finetuned(cell, encoder)
    record = read_json(encoder)
    if settings.released:
        autoencoder, source = load_released(checkpoint_root, settings.released, record), settings.released.file
    elif run_folder:
        autoencoder, source = load_autoencoder(run_folder), str(run_folder)
    else:
        raise UrfmError(f"{cell}: give --run, the folder of a pre-training run, or settings.released")
    grid, size = autoencoder.grid, record["input_size"]
    if not hasattr(classifier, "blocks") or tuple(classifier.patch_embed.grid_size) != grid:
        raise UrfmError(f"{cell}: its network does not divide images as that of {source} does; name another model")
    form = {"patch_size": size // grid[0], "mean": record["mean"], "std": record["std"]}
    teacher = load_teacher(settings.teacher, checkpoint_root, size, **form)
    if teacher.grid != grid:
        raise UrfmError(f"teacher {teacher.name}: {teacher.grid} tokens, {source} has {grid}")
    device = own_device()
    on_device = (teacher.to(device), autoencoder.to(device), classifier.to(device))
    return Networks(*on_device, record, device, settings.attention), described


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Attention and class activation maps of a task's test images.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(AttentionSettings.model_fields))
    parser.add_argument("--root", type=Path, required=True, help="the data root, for outlines of lesions")
    parser.add_argument("--checkpoint-root", type=Path, required=True, help="where weight files lie")
    parser.add_argument("--manifest", type=Path, required=True, help="json of the data set, the table beside it")
    parser.add_argument("--images", type=Path, required=True, help="folder of the image store")
    parser.add_argument("--run", type=Path, help="folder of the pre-training run; else settings say which file")
    parser.add_argument("--encoder", type=Path, required=True, help="json of the encoder that was fine-tuned")
    parser.add_argument("--cell", type=Path, required=True, help="cell.json of the fine-tuning, with weights")
    parser.add_argument("--output", type=Path, required=True, help="path without suffix: .npz, .parquet and .json")
    arguments = parser.parse_args()
    settings = parse_settings(AttentionSettings, arguments.settings)

    torch.set_num_threads(1)
    store = ImageStore(arguments.images, verify=True)
    networks, cell = load_networks(
        settings, arguments.cell, arguments.encoder, arguments.run, arguments.checkpoint_root
    )
    summary, table = read_json(arguments.manifest), arguments.manifest.with_suffix(".parquet")
    verify_sha256(table, summary["sha256"])
    manifest = pd.read_parquet(table, columns=["image_id", "path", "width", "height"])
    origins = {str(row["image_id"]): row for row in manifest.to_dict("records")}
    tested = read_cell(arguments.cell).predictions
    tested = tested[(tested["seed"] == cell["weights"]["seed"]) & (tested["subset"] == "test")].set_index("image_id")
    order = hash_order(tested.index.to_series(), 0, "attention").sort_values().index[: settings.images]
    sizes = (networks.record["input_size"], networks.teacher.input_size)
    resize = cell["weights"]["evaluation_resize"]

    def scene(image_id: str) -> Scene:
        image = open_image(store, image_id, networks.record)
        return open_scene(image, origins[image_id], settings.reader, arguments.root, sizes, resize)

    rows: list[dict[str, Any]] = []
    for image_id in progress(order, f"maps of {cell['task']}"):
        viewed = scene(image_id)
        maps = look(networks, viewed)
        predicted = cell["classes"][int(maps["predicted"])]
        row = {"image_id": image_id, "label": tested.loc[image_id, "label"], "predicted": predicted}
        rows.append({**row, **measure(maps, viewed.lesion)})

    measured = pd.DataFrame(rows)
    shown = rows[choose(measured)]
    drawn = scene(shown["image_id"])
    maps = look(networks, drawn)
    target, prediction = colours(maps["target"], maps["prediction"])
    arrays: dict[str, Any] = {name: maps[name].astype(np.float32) for name in (*MAPS, "mask")}
    grid = networks.autoencoder.grid
    arrays |= {"target": target.reshape(*grid, 3), "prediction": prediction.reshape(*grid, 3)}
    arrays["image"] = drawn.pixels.permute(1, 2, 0).numpy()
    arrays["lesion"] = np.zeros((0, 0), bool) if drawn.lesion is None else drawn.lesion
    files = {suffix: arguments.output.with_name(f"{arguments.output.name}.{suffix}") for suffix in ("npz", "parquet")}
    with atomic_path(files["npz"]) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)
    write_parquet(files["parquet"], measured)
    write_record(
        arguments.output.with_name(f"{arguments.output.name}.json"),
        {
            "task": cell["task"],
            "model": cell["model"],
            "attention": settings.attention,
            "teacher": {**networks.teacher.record(), "attends": hasattr(networks.teacher.network, "vit")},
            "shown": {key: shown[key] for key in ("image_id", "label", "predicted")} | {"aspect": drawn.aspect},
            "simulated": bool(cell["simulated"]),
            "sha256": {suffix: sha256(path) for suffix, path in files.items()},
        },
    )
    say(f"{cell['task']}: maps of {len(measured)} test images in {files['npz']} and {files['parquet'].name}")


if __name__ == "__main__":
    run(main)
