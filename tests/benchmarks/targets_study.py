"""How far cached targets (K stored views an image) differ from targets that the teacher gives while training.

    sh envs/run snakemake --profile workflow/profiles/pocket --config data_root=FOLDER -- \
        results/pocket/images/busbra/store.json results/pocket/splits/breast_tumor/paper.json
    PYTHONPATH=workflow python tests/benchmarks/targets_study.py --images results/pocket/images/busbra \
        --split results/pocket/splits/breast_tumor/paper.parquet

A small vision transformer learns EfficientNet-Lite0's tokens on the training part of BUS-BRA, by the workflow's own
engine. Then the pre-training loss on views of the other images that all share, with masks that all share, and the AUROC
(benign, malignant) of a linear probe and of k nearest neighbours on frozen features: fitted on the training part,
scored on validation and test part together, of which pre-training saw nothing and by which nothing is chosen. Nothing
is asserted; the table stands in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from urfm.config.models import TeacherSettings
from urfm.config.pretraining import PretrainSettings, TargetSettings
from urfm.data.images.pixels import Pixels
from urfm.data.images.store import ImageStore
from urfm.data.views import View, draw_view, take_view
from urfm.models.mim import MaskedAutoencoder, build_encoder, masked_autoencoder
from urfm.models.teachers import load_teacher
from urfm.targets.build import build
from urfm.targets.store import TargetStore
from urfm.training.distributed import Processes
from urfm.training.pretrain.loop import train
from urfm.training.pretrain.samples import Samples

CPU = torch.device("cpu")
TEACHER = TeacherSettings(name="efficientnet_lite0", kind="efficientnet_lite0")
MEAN, STD = (0.306,) * 3, (0.2,) * 3  # of crops of BUS-BRA
CROP = (0.2, 1.0)
NEIGHBOURS = 20
VIEWS = 2  # of each test image, for the loss


@dataclass(frozen=True)
class Part:
    """Images of one part of the split, with labels 0 and 1."""

    ids: list[str]
    labels: npt.NDArray[np.int64]


class Chosen:
    """Some images of a store, as a store: nothing is stored for the others."""

    def __init__(self, store: ImageStore, image_ids: list[str]) -> None:
        self.store, self.folder, self.record, self.ids = store, store.folder, store.record, pa.array(sorted(image_ids))

    def __len__(self) -> int:
        return len(self.ids)

    def read_row(self, row: int) -> Pixels:
        return self.store.read(self.ids[row].as_py())


def run_settings(arguments: argparse.Namespace, views: int, seed: int) -> PretrainSettings:
    """The pocket profile's recipe at the size asked for; `views` 0: online."""
    return PretrainSettings(
        run=f"{'online' if not views else f'K = {views}'}, seed {seed}",
        architecture="vit_tiny_patch16_224",
        model_args={"depth": arguments.depth},
        input_size=arguments.size,
        decoder={"width": 96, "depth": 2, "heads": 3},
        teacher=TEACHER,
        targets="cached" if views else "online",
        views=views or 1,
        target_norm="layernorm",
        loss_on="all",
        blur_sigma=0,
        mask_ratio=0.5,
        epochs=arguments.epochs,
        warmup_epochs=arguments.epochs / 10,
        batch_size=16,
        base_lr=8e-3,
        min_lr=0,
        weight_decay=0.05,
        betas=(0.9, 0.95),
        crop_scale=CROP,
        flip=True,
        normalisation=(MEAN[0], STD[0]),
        precision="fp32",
        ema_decay=0,
        sampling="natural",
        seed=seed,
    )


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.float() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def held_out_loss(model: MaskedAutoencoder, pixels: torch.Tensor, target: torch.Tensor) -> float:
    """Mean loss over views of images that were not trained on, with masks that depend on their number alone."""
    generator = torch.Generator().manual_seed(0)
    losses = []
    with torch.inference_mode():
        for batch, tokens in zip(pixels.split(64), target.split(64), strict=True):
            noise = torch.rand(len(batch), model.patches, generator=generator)
            losses += [model(normalise(batch), tokens, noise).item()] * len(batch)
    return float(np.mean(losses))


def features(model: MaskedAutoencoder, store: ImageStore, part: Part, size: int) -> npt.NDArray[np.float32]:
    """Mean of the encoder's patch tokens for each whole image."""
    values = []
    with torch.inference_mode():
        for start in range(0, len(part.ids), 64):
            images = [store.read(image_id) for image_id in part.ids[start : start + 64]]
            whole = [take_view(image, View(0, 0, *image.shape[:2], False), size) for image in images]
            values.append(model.encoder.forward_features(normalise(torch.stack(whole)))[:, model.prefix :].mean(1))
    return torch.cat(values).numpy()


def probes(model: MaskedAutoencoder, store: ImageStore, train: Part, test: Part, size: int) -> dict[str, float]:
    """AUROC on the images that pre-training did not see."""
    fitted, scored = (features(model, store, part, size) for part in (train, test))
    heads = {
        "linear probe": make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)),
        "k-NN": KNeighborsClassifier(NEIGHBOURS, metric="cosine", weights="distance"),
    }
    return {
        name: float(roc_auc_score(test.labels, head.fit(fitted, train.labels).predict_proba(scored)[:, 1]))
        for name, head in heads.items()
    }


def test_views(store: ImageStore, part: Part, size: int) -> torch.Tensor:
    random = np.random.default_rng(0)
    images = [store.read(image_id) for image_id in part.ids for _ in range(VIEWS)]
    return torch.stack([take_view(image, draw_view(random, *image.shape[:2], CROP, True), size) for image in images])


def study(arguments: argparse.Namespace, folder: Path) -> pd.DataFrame:
    """One row a way to make targets and a seed."""
    store = ImageStore(arguments.images)
    split = pd.read_parquet(arguments.split)
    parts = (split[(split["subset"] == "train") == shown] for shown in (True, False))
    train_part, test_part = (
        Part(part["image_id"].tolist(), (part["label"] == "malignant").to_numpy().astype(np.int64)) for part in parts
    )
    # Drawn, not the first: neighbouring numbers share a scanner.
    shown = sorted(np.random.default_rng(0).permutation(train_part.ids)[: arguments.images_at_most].tolist())
    pretrain_set = pd.DataFrame({"image_id": shown, "dataset": store.folder.name, "organ": "breast"})
    teacher = load_teacher(TEACHER, folder, arguments.size)
    most = max(arguments.views)
    # The first K views of an image are the same whatever K is.
    view_settings = TargetSettings(
        teacher=TEACHER, input_size=arguments.size, views=most, view_dtype="float16", crop_scale=CROP, flip=True, seed=0
    )
    chosen: Any = Chosen(store, shown)
    build(chosen, view_settings, teacher, folder / "targets", CPU)
    cache = TargetStore(folder / "targets")
    pixels = test_views(store, test_part, arguments.size)
    target = torch.cat([teacher.tokens(batch) for batch in pixels.split(64)])

    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for views in [*arguments.views, 0]:
            settings = run_settings(arguments, views, seed)
            samples = Samples(settings, pretrain_set, [chosen], [cache] if views else [])
            torch.manual_seed(seed)
            encoder = build_encoder(settings.architecture, settings.model_args, settings.input_size)
            model = masked_autoencoder(settings, encoder, teacher.dim)
            if views == arguments.views[0]:
                start = {"loss, last epoch": np.nan, "loss, test": held_out_loss(model, pixels, target)}
                start |= probes(model, store, train_part, test_part, arguments.size)
                rows.append({"targets": "untrained", "seed": seed, **start, "s": 0})
            begun = time.process_time()
            job = Processes(0, 1, CPU)
            state = folder / f"{views}-{seed}"
            finished = train(settings, job, model, None if views else teacher, samples, state, checkpoint_minutes=1e9)
            seconds = time.process_time() - begun
            model.eval()
            row = {"targets": f"K = {views}" if views else "online", "seed": seed}
            row["loss, last epoch"] = finished["history"][-1]["loss"]
            row["loss, test"] = held_out_loss(model, pixels, target)
            rows.append({**row, **probes(model, store, train_part, test_part, arguments.size), "s": round(seconds)})
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="image store of BUS-BRA")
    parser.add_argument("--split", type=Path, required=True, help="split of the task breast_tumor")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--depth", type=int, default=4, help="blocks of the encoder, 192 wide")
    parser.add_argument("--size", type=int, default=96, help="pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--views", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument(
        "--images-at-most", type=int, default=10**9, help="that pre-training sees, of the training part"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        table = study(arguments, Path(folder))
    print(table.to_string(index=False, float_format="{:.4f}".format))
    measures = table.columns.drop(["targets", "seed"])
    print(table.groupby("targets", sort=False)[list(measures)].agg(["mean", "min", "max"]).round(4).to_string())


if __name__ == "__main__":
    main()
