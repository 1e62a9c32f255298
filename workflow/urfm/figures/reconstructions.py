"""What a run's masked autoencoder predicts for hidden patches, snapshot by snapshot (stage `reconstructions`).

Rows are images; columns the image, what the encoder sees of it, the target, and the predictions. With a loss over
hidden patches alone, visible patches of a prediction are meaningless and show the target (as in MAE's figures).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.files import read_json, verify_sha256
from urfm.core.progress import say
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.style import DOUBLE_COLUMN, LABEL, LINE, SMALL, TITLE

Arrays = dict[str, npt.NDArray[Any]]

SNAPSHOTS = 5  # columns of predictions at most
LEFT, GAP = 9.0, 0.8  # mm
HIDDEN = 128  # grey of a hidden patch


class ReconstructionsSettings(Settings):
    """Settings of the stage."""

    title: str  # of the run
    organs: dict[str, str]  # organ: name to print
    dpi: int = Field(ge=72)


def spread(number: int, most: int) -> list[int]:
    """At most `most` of the indices below `number`, evenly spread, the first and the last among them."""
    return sorted(set(np.rint(np.linspace(0, number - 1, min(number, most))).astype(int).tolist()))


def enlarged(patches: npt.NDArray[Any], height: int) -> npt.NDArray[Any]:
    """(n, h, w, …) repeated to (n, height, width, …), each patch a square of pixels."""
    times = height // patches.shape[1]
    return patches.repeat(times, axis=1).repeat(times, axis=2)


def masked(arrays: Arrays) -> npt.NDArray[np.uint8]:
    """The images with hidden patches in grey."""
    hidden = enlarged(arrays["mask"], arrays["images"].shape[1])[..., None]
    return np.where(hidden, np.uint8(HIDDEN), arrays["images"])


def shown_predictions(arrays: Arrays, loss_on: str) -> npt.NDArray[np.uint8]:
    """Predictions (snapshots, n, H, W, 3); visible patches show the target unless the loss is over all patches."""
    if loss_on == "all":
        return arrays["predictions"]
    hidden = enlarged(arrays["mask"], arrays["target"].shape[1])[..., None]
    return np.where(hidden[None], arrays["predictions"], arrays["target"][None])


def draw(arrays: Arrays, record: dict[str, Any], settings: ReconstructionsSettings) -> Figure:
    """The figure."""
    columns = spread(len(record["epochs"]), SNAPSHOTS)
    predictions = shown_predictions(arrays, record["loss_on"])
    heads = ["image", "seen by\nthe encoder", "target"]
    heads += [
        f"epoch {record['epochs'][number]}" + ("\n(untrained)" if not record["epochs"][number] else "")
        for number in columns
    ]
    side = (DOUBLE_COLUMN - LEFT - 2) / (3 + SNAPSHOTS) - GAP
    count = len(record["image_ids"])
    notes = [line for sentence in sentences(record) for line in style.wrap(sentence, DOUBLE_COLUMN - 4)]
    top = (style.SIMULATED_BAND if record["simulated"] else 1.0) + 6
    figure = style.new_figure(DOUBLE_COLUMN, top + 7 + count * (side + 3.2) + len(notes) * LINE + 4)
    if record["simulated"]:
        style.mark_simulated(figure)
    style.add_text(figure, 2, top - 5, f"{settings.title}: reconstruction of hidden patches", TITLE, weight="bold")
    for place, head in enumerate(heads):
        middle = LEFT + place * (side + GAP) + side / 2
        style.add_text(figure, middle, top + 6.2, head, LABEL, ha="center", va="bottom", linespacing=1.1)
    hidden = masked(arrays)
    for row in range(count):
        upper = top + 7 + row * (side + 3.2)
        organ = settings.organs.get(record["organs"][row], record["organs"][row])
        style.add_text(figure, 4.5, upper + side / 2, organ, LABEL, ha="center", va="center", rotation=90)
        pictures = [arrays["images"][row], hidden[row], arrays["target"][row], *(predictions[n, row] for n in columns)]
        for place, picture in enumerate(pictures):
            left = LEFT + place * (side + GAP)
            show(style.add_axes(figure, left, upper, side, side), picture)
            if place >= 3:
                error = arrays["errors"][columns[place - 3], row]
                style.add_text(figure, left + side / 2, upper + side + 0.3, f"{error:.3f}", SMALL, ha="center")
    style.add_text(figure, 2, top + 7 + count * (side + 3.2) + 1, "\n".join(notes), SMALL, linespacing=1.2)
    return figure


def show(axes: Axes, picture: npt.NDArray[np.uint8]) -> None:
    axes.set_axis_off()
    axes.imshow(picture, interpolation="nearest", aspect="auto")


def sentences(record: dict[str, Any]) -> list[str]:
    """What must be known to read the picture."""
    hidden = f"{100 * record['mask_ratio']:g} % of the patches are hidden, the same at every epoch. "
    if record["pixels"]:
        targets = "Targets are pixels" + (
            "; the network predicts standardised patches, which are shown with the true patch's mean and contrast."
            if record["restored"]
            else "."
        )
    else:
        targets = (
            f"Targets are tokens of the teacher ({record['teacher']}). Red, green and blue are the first three "
            "principal components of the target tokens of these images, onto which predictions are projected."
        )
    if record["stand_in"]:
        targets += " The teacher is a stand-in with random weights, not the published model."
    visible = (
        "Predictions are shown for all patches, which all count in the loss."
        if record["loss_on"] == "all"
        else "Visible patches of a prediction show the target: they do not count in the loss."
    )
    return [
        hidden + targets,
        f"{visible} Numbers: loss of the image (mean squared error in the target's own space). Images are of the run's "
        "training set, whole, squashed to a square: this shows what was learnt, not how it generalises.",
    ]


def numbers(arrays: Arrays, record: dict[str, Any]) -> pd.DataFrame:
    """The loss of every image at every snapshot: image_id, organ, epoch, loss."""
    rows = [
        (image_id, organ, epoch, arrays["errors"][snapshot, place])
        for place, (image_id, organ) in enumerate(zip(record["image_ids"], record["organs"], strict=True))
        for snapshot, epoch in enumerate(record["epochs"])
    ]
    return pd.DataFrame(rows, columns=["image_id", "organ", "epoch", "loss"])


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw what a masked autoencoder predicts for hidden patches.")
    parser.add_argument(
        "--reconstructions", type=Path, required=True, help="json of the stage reconstruct, its npz beside it"
    )
    options = parser.parse_args()
    settings = parse_settings(ReconstructionsSettings, options.settings)
    record = read_json(options.reconstructions)
    file = options.reconstructions.with_suffix(".npz")
    verify_sha256(file, record["sha256"])
    with np.load(file, allow_pickle=False) as content:
        arrays = dict(content)
    save(options.output, draw(arrays, record, settings), settings.dpi, numbers(arrays, record))
    say(f"{record['run']}: {len(record['image_ids'])} images drawn in {options.output}.pdf, .png and .csv")


if __name__ == "__main__":
    run(main)
