"""An encoder for others: a folder that timm and urfm load, with a model card, as a Hugging Face repository has it.

`timm.create_model("local-dir:<folder>", pretrained=True)` reads config.json and model.safetensors; uploaded, the same
folder is `hf-hub:<owner>/<name>`. `urfm.load` reads model.json, the encoder's own record. README.md says what a reader
must know before using the weights: data, recipe, licence, measured results.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import atomic_path, read_json, verify_sha256, write_json, write_record, write_text
from urfm.core.progress import say
from urfm.core.text import markdown
from urfm.metrics import METRICS
from urfm.models.classifier import timm_config


class ExportSettings(Settings):
    """Settings of the stage."""

    title: str  # what figures print
    licence: str = ""  # the publisher's, of an upstream file


def config_json(record: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """timm's description of the network, whose tensors have these `names`, and of its preprocessing."""
    known = timm_config(record["architecture"])
    size, arguments = record["input_size"], dict(record["model_args"])
    if known.fixed_input_size:
        arguments["img_size"] = size
    if "cls_token" in names:
        arguments["global_pool"] = "avg" if "fc_norm.weight" in names else "token"
    return {
        "architecture": record["architecture"].partition(".")[0],  # without a tag of timm's own weights
        "num_classes": 0,
        "model_args": arguments,
        "pretrained_cfg": {
            "tag": "urfm",
            "custom_load": False,
            "input_size": [3, size, size],
            "fixed_input_size": known.fixed_input_size,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash",  # the whole image, as in urfm.embed and in fine-tuning's evaluation
            # timm has no word for each image's own: pixels stay in [0, 1], and the card says the rest.
            "mean": record["mean"] or [0.0, 0.0, 0.0],
            "std": record["std"] or [1.0, 1.0, 1.0],
            "num_classes": 0,
            "pool_size": None,
            "first_conv": known.first_conv,
            "classifier": known.classifier,
        },
    }


def model_card(record: dict[str, Any], settings: ExportSettings, scores: pd.DataFrame) -> str:
    """README.md, with the header that Hugging Face reads."""
    size, provenance = record["input_size"], record["provenance"]
    tags = ["ultrasound", "urfm"] + ["simulated"] * record["simulated"] + ["stand-in"] * record.get("stand_in", False)
    lines = ["---", "library_name: timm", "pipeline_tag: image-feature-extraction", f"tags: [{', '.join(tags)}]", "---"]
    lines += ["", f"# {markdown(settings.title)}", ""]
    if record["simulated"]:
        lines += ["**Simulated: trained on drawn images, for demonstration. These weights know no ultrasound.**", ""]
    if record.get("stand_in", False):
        lines += [
            "**Stand-in: random weights, or taught by a teacher of random weights. Not the published model.**",
            "",
        ]
    lines += [
        f"An image encoder, {markdown(record['architecture'])} with {record['parameters'] / 1e6:.1f} M parameters, for "
        f"{size} x {size} pixels. Weights: {markdown(record['source'])}.",
        "",
        "```python",
        "import timm",
        'model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True)',
        "",
        "from urfm import load",
        'features = load("THIS_FOLDER").embed(image)',
        "```",
        "",
        f"Input: RGB from 0 to 1, {_blurred(record)}the whole image squashed to {size} x {size} (bicubic), then "
        "normalised with "
        + (
            f"mean {_numbers(record['mean'])} and standard deviation {_numbers(record['std'])}."
            if record["mean"]
            else "its own mean and standard deviation, over all pixels and colours; `urfm.load` does it, timm does not."
        ),
        "",
        *_origin(record),
        "## Licence",
        "",
        _licence(settings, "settings" in provenance),
        "",
        *_results(scores),
        f"SHA-256 of model.safetensors: `{record['sha256']}`. Everything that is recorded of it: model.json.",
        "",
    ]
    return "\n".join(lines)


def _origin(record: dict[str, Any]) -> list[str]:
    """Data and recipe of a pre-training run here, or the upstream file."""
    provenance = record["provenance"]
    if "settings" not in provenance:
        rows = [(name.replace("_", " "), value) for name, value in provenance.items() if name != "dropped"]
        return ["## Origin", "", *_table(["", ""], rows), ""]
    data = [(row["dataset"], row["organ"], f"{row['images']:,}") for row in provenance["pretrain_set"]["counts"]]
    teacher = provenance["teacher"]
    recipe = {**provenance["settings"], "teacher": f"{teacher['name']}, {teacher['layer']}"}
    return [
        "## Data",
        "",
        *_table(["data set", "organ", "images"], data),
        "",
        "## Recipe",
        "",
        "Masked image modelling (Kang et al., iScience 2025, doi 10.1016/j.isci.2025.112917).",
        "",
        *_table(["setting", "value"], [(name, _text(value)) for name, value in recipe.items() if name != "run"]),
        "",
        f"R² of the last epoch: {record['r2']:.3f} (training; 0 is a guess of the mean target of each position).",
        "",
    ]


def _licence(settings: ExportSettings, pretrained_here: bool) -> str:
    if settings.licence:
        return f"The publisher's: {markdown(settings.licence)}."
    if pretrained_here:
        return "To be stated by whoever publishes these weights. Those of the data and of the teacher bind them too."
    return "Not recorded; that of the publisher holds."


def _results(scores: pd.DataFrame) -> list[str]:
    """Test scores after fine-tuning, one row a task; nothing if none were measured."""
    if scores.empty:
        return []
    rows = []
    for (task, share), group in scores.groupby(["task", "share"]):
        scored = {row["metric"]: row for row in group.to_dict("records")}
        cells = [_spread(scored[name]["mean"], scored[name]["sd"]) for name in METRICS]
        first = next(iter(scored.values()))
        images = f"{first['images']:,}" + (" (simulated)" if first["simulated"] else "")
        rows.append((task, f"{share} %", *cells, images, first["seeds"]))
    header = [
        "task",
        "share of the training part",
        *(metric.title for metric in METRICS.values()),
        "test images",
        "seeds",
    ]
    note = "Fine-tuned with this workflow, on the test part: mean ± standard deviation over seeds."
    return ["## Results", "", note, "", *_table(header, rows), ""]


def _blurred(record: dict[str, Any]) -> str:
    sigma = record.get("blur_sigma", 0.0)
    return (
        f"blurred by a Gaussian of {sigma:g} pixels of the file (`urfm.load` does it, timm does not), " if sigma else ""
    )


def _spread(mean: float, sd: float) -> str:
    return f"{mean:.3f} ± {sd:.3f}" if sd == sd else f"{mean:.3f}"  # one seed has no standard deviation


def _table(header: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    cells = [[markdown(str(cell)) for cell in row] for row in (header, *rows)]
    return [f"| {' | '.join(row)} |" for row in (cells[0], ["---"] * len(header), *cells[1:])]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items()) or "none"
    return _numbers(value) if isinstance(value, list | tuple) else str(value)


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Write an encoder as a folder for timm and Hugging Face.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(ExportSettings.model_fields))
    parser.add_argument("--encoder", type=Path, required=True, help="json file, the safetensors beside it")
    parser.add_argument("--statistics", type=Path, nargs="*", default=[], help="statistics.json files, for the results")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    settings = parse_settings(ExportSettings, arguments.settings)
    record = read_json(arguments.encoder)
    if record["weights"] == "random":
        raise UrfmError(f"{arguments.encoder}: a random initialisation has no weights to export")
    weights = arguments.encoder.with_suffix(".safetensors")
    verify_sha256(weights, record["sha256"])
    with safetensors.safe_open(weights, "pt") as file:
        names = set(file.keys())

    output = arguments.output
    with atomic_path(output / "model.safetensors") as temporary:
        shutil.copyfile(weights, temporary)
    write_record(output / "model.json", record)
    write_json(output / "config.json", config_json(record, names))
    write_text(output / "README.md", model_card(record, settings, read_scores(arguments.statistics, record["model"])))
    say(f"{record['model']}: timm, Hugging Face and urfm.load read {output}")


def read_scores(statistics: list[Path], model: str) -> pd.DataFrame:
    """The scores of a model in the statistics of several figures, each cell once."""
    tables = [pd.DataFrame(columns=["model", "task", "share", "metric"])]
    for summary in statistics:
        path = summary.with_name("scores.parquet")
        verify_sha256(path, read_json(summary)["sha256"][path.name])
        tables.append(pd.read_parquet(path))
    scores = pd.concat([table for table in tables if len(table)] or tables)
    return scores[scores["model"] == model].drop_duplicates(["task", "share", "metric"])


if __name__ == "__main__":
    run(main)
