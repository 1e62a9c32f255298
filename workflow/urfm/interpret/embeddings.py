"""Embeddings of images and their t-SNE (stage `embeddings`), for figure 7.

Of an encoder: images of several data sets, grouped by data set. Of a fine-tuned network (`--cell`): validation images
of its task, grouped by class. The embedding is what the linear layer sees. t-SNE (van der Maaten and Hinton 2008)
starts from the first 50 principal components; the numbers are of the embeddings themselves, because distances in a
t-SNE mean little: the silhouette, and how many of an image's nearest neighbours are of its group, both among other
patients' images, because two images of one patient are always near.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from urfm.config.fields import Pooling, Resize
from urfm.config.paper import Embedding
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, verify_sha256, write_parquet, write_record
from urfm.core.progress import progress, say
from urfm.data.images.store import ImageStore
from urfm.data.splits.shares import hash_order
from urfm.interpret.finetuned import load_finetuned
from urfm.models.classifier import load_classifier
from urfm.models.device import own_device
from urfm.training.finetune.images import EVALUATION_BATCH, evaluation_transform, normalise, open_image

Array = npt.NDArray[np.float64]

NEIGHBOURS = 10
COMPONENTS = 50


class EmbeddingsSettings(Embedding):
    """Settings of the stage: what `figures.figure_7` says, and how the network looks at an image."""

    pooling: Pooling
    evaluation_resize: Resize


def choose(split: pd.DataFrame, subset: str, images: int, seed: int) -> pd.DataFrame:
    """At most `images` rows of a split, or of one of its parts, the same on every machine; sorted by image_id."""
    rows = split[split["subset"] == subset] if subset else split
    taken = hash_order(rows["image_id"], seed, "embeddings").sort_values().index[:images]
    return rows.loc[taken].sort_values("image_id", ignore_index=True)


def embed(
    model: Any, record: dict[str, Any], store: ImageStore, image_ids: list[str], resize: str, device: torch.device
) -> Array:
    """What the network's linear layer sees of each image, (images, dim)."""
    transform = evaluation_transform(record["input_size"], resize)
    vectors = []
    for first in progress(range(0, len(image_ids), EVALUATION_BATCH), f"embeddings of {store.folder.name}"):
        names = image_ids[first : first + EVALUATION_BATCH]
        pixels = torch.stack([transform(open_image(store, name, record)) for name in names])
        with torch.inference_mode():
            features = model.forward_features(normalise(pixels, record, device))
            vectors.append(model.forward_head(features, pre_logits=True).double().cpu().numpy())
    return np.concatenate(vectors)


def project(vectors: Array, perplexity: float, seed: int) -> Array:
    """t-SNE (images, 2) of embeddings; fewer than four images lie on a line."""
    if len(vectors) < 4:
        return np.column_stack([np.arange(len(vectors), dtype=float), np.zeros(len(vectors))])
    components = PCA(min(COMPONENTS, *vectors.shape), svd_solver="full").fit_transform(vectors)
    perplexity = min(perplexity, (len(vectors) - 1) / 3)
    places: Array = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(components)
    return places.astype(np.float64)


def purity(vectors: Array, groups: npt.NDArray[Any], patients: npt.NDArray[Any]) -> tuple[float, float]:
    """The share of an image's nearest neighbours that are of its group, and what chance would give; means over images.

    The NEIGHBOURS nearest by Euclidean distance among other patients' images, whose groups chance would draw from.
    """
    distances = cdist(vectors, vectors)
    distances[patients[:, None] == patients] = np.inf
    count = min(NEIGHBOURS, int(np.isfinite(distances).sum(axis=1).min()))
    if count == 0:
        return float("nan"), float("nan")
    same = groups[:, None] == groups
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :count]
    others = np.isfinite(distances)
    chance = (same & others).sum(axis=1) / others.sum(axis=1)
    return float(np.take_along_axis(same, nearest, axis=1).mean()), float(chance.mean())


def silhouette(vectors: Array, groups: npt.NDArray[Any], patients: npt.NDArray[Any]) -> float:
    """Mean silhouette (Rousseeuw 1987) in [-1, 1], of each image among other patients' images only.

    0 for an image without such an image of its own group, as for a group of one; without such an image of another group
    it does not count. NaN where all images are of the one kind or of the other.
    """
    names, numbers = np.unique(groups, return_inverse=True)
    others, members = patients[:, None] != patients, np.eye(len(names))[numbers]
    with np.errstate(invalid="ignore"):  # NaN where there is no image to be near to
        means = np.where(others, cdist(vectors, vectors), 0) @ members / (others @ members)
    own = means[np.arange(len(numbers)), numbers]
    nearest = np.fmin.reduce(np.where(members, np.nan, means), axis=1)
    if np.isnan(own).all() or np.isnan(nearest).all():
        return float("nan")
    farther = np.maximum(own, nearest)
    values = np.divide(nearest - own, farther, out=np.zeros_like(own), where=farther != 0)
    values[np.isnan(own) & ~np.isnan(nearest)] = 0
    return float(np.nanmean(values))


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Embeddings of images and their t-SNE.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(EmbeddingsSettings.model_fields))
    parser.add_argument("--encoder", type=Path, required=True, help="json file, the safetensors beside it")
    parser.add_argument(
        "--cell", type=Path, help="cell.json of a fine-tuning with weights, which began from the encoder"
    )
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image stores")
    parser.add_argument("--splits", type=Path, nargs="+", required=True, help="json of a split of each, in this order")
    parser.add_argument("--output", type=Path, required=True, help="path without suffix: .parquet and .json")
    arguments = parser.parse_args()
    settings = parse_settings(EmbeddingsSettings, arguments.settings)
    if len(arguments.images) != len(arguments.splits):
        raise UrfmError(f"--images: {len(arguments.images)} stores for {len(arguments.splits)} splits; give as many")

    torch.set_num_threads(1)
    device = own_device()
    record, resize, subset = read_json(arguments.encoder), settings.evaluation_resize, ""
    cell: dict[str, Any] = {}
    simulated = [bool(record["simulated"])]
    if arguments.cell:
        model, cell = load_finetuned(arguments.cell, arguments.encoder)
        resize, subset = cell["weights"]["evaluation_resize"], "val"
    else:
        model = load_classifier(arguments.encoder, 1, settings.pooling, drop_path=0.0, seed=settings.seed).eval()
    model = model.to(device)
    tables, vectors = [], []
    for folder, path in zip(arguments.images, arguments.splits, strict=True):
        summary, store = read_json(path), ImageStore(folder, verify=True)
        verify_sha256(path.with_suffix(".parquet"), summary["sha256"])
        rows = choose(pd.read_parquet(path.with_suffix(".parquet")), subset, settings.images, settings.seed)
        vectors.append(embed(model, record, store, rows["image_id"].tolist(), resize, device))
        tables.append(rows.assign(group=rows["label"] if arguments.cell else summary["task"]))
        simulated.append(bool(summary["simulated"]))
    table, points = pd.concat(tables, ignore_index=True), np.concatenate(vectors)
    groups, patients = table["group"].to_numpy(), table["patient_id"].to_numpy()
    places = project(points, settings.perplexity, settings.seed)
    near, chance = purity(points, groups, patients)
    measured = {"silhouette": silhouette(points, groups, patients), "purity": near, "chance": chance}
    output = arguments.output.with_name(f"{arguments.output.name}.parquet")
    write_parquet(output, table[["image_id", "patient_id", "group"]].assign(x=places[:, 0], y=places[:, 1]))
    write_record(
        output.with_suffix(".json"),
        {
            "model": record["model"],
            "task": cell.get("task"),
            "source": record["source"],
            "images": len(table),
            **{name: None if np.isnan(value) else value for name, value in measured.items()},
            "simulated": any(simulated),
            "sha256": sha256(output),
        },
    )
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
    say(f"{record['model']}: {len(table)} images of {len(set(groups))} groups, {numbers}; in {output}")


if __name__ == "__main__":
    run(main)
