"""Tables 4 and 5: the paper's training settings beside those in force (stage `settings_table`).

The paper's values are literals copied from its Tables 4 and 5 (Kang et al., iScience 2025). A setting
in force that differs is marked; one that the paper's table does not list follows below, marked so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.tables.render import Table, arguments, write_table

COLUMNS = ["setting", "paper", "used", "note"]
DIFFERS = "differs from the paper"


@dataclass(frozen=True)
class Row:
    """A row of the paper's table.

    `keys` are the settings it speaks of, `show` makes the text of their values, `value` are the paper's
    own values. A row without keys is a property of the code and cannot differ.
    """

    name: str
    paper: str
    keys: tuple[str, ...] = ()
    value: tuple[Any, ...] = ()
    show: Callable[..., str] = lambda value: number(value)


def number(value: Any) -> str:
    """0.05, 5e-4, 1024, 0.9, 0.95; words as they are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {number(item)}" for key, item in value.items()) or "none"
    if isinstance(value, int | float) and 0 < abs(value) < 0.01:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None or value == "" else str(value)


def randaugment(text: Any) -> str:
    """ "rand-m9-mstd0.5-inc1" (timm's notation) as the paper writes it: RandAug (9, 0.5)."""
    found = re.fullmatch(r"rand-m([\d.]+)-mstd([\d.]+).*", str(text))
    return f"RandAug ({found[1]}, {found[2]})" if found else number(text)


def crop_and_flip(crop: Any, flip: Any) -> str:
    return f"RandomResizedCrop{', horizontal flip' if flip else ''}"


TABLE_4 = (
    Row("Masking ratio", "75%", ("mask_ratio",), (0.75,), lambda share: f"{100 * share:g}%"),
    Row("Input size", "224 × 224", ("input_size",), (224,), lambda size: f"{size} × {size}"),
    Row("Optimizer", "AdamW"),
    Row("Base learning rate", "1.5e-4", ("base_lr",), (1.5e-4,)),
    Row("Weight decay", "0.05", ("weight_decay",), (0.05,)),
    Row("Optimizer momentum", "β1, β2 = 0.9, 0.95", ("betas",), ([0.9, 0.95],), lambda b: f"β1, β2 = {number(b)}"),
    Row("Batch size", "1024", ("batch_size",), (1024,)),
    Row("Learning rate schedule", "cosine decay"),
    Row("Layer-wise learning rate decay", "1.0"),
    Row("Warmup epochs", "40", ("warmup_epochs",), (40,)),
    Row("Total pre-training epochs", "400", ("epochs",), (400,)),
    Row("Augmentation", "RandomResizedCrop", ("crop_scale", "flip"), ([0.2, 1.0], False), crop_and_flip),
    Row(
        "Encoder",
        "ViT-B/16",
        ("architecture", "model_args"),
        ("vit_base_patch16_224", {}),
        lambda name, more: "ViT-B/16" if (name, more) == ("vit_base_patch16_224", {}) else f"{name} {number(more)}"
        if more else str(name),
    ),
)  # fmt: skip

TABLE_5 = (
    Row("Optimizer", "AdamW"),
    Row("Base learning rate", "5e-4", ("base_lr",), (5e-4,)),
    Row("Weight decay", "0.05", ("weight_decay",), (0.05,)),
    Row("Optimizer momentum", "β1, β2 = 0.9, 0.999", ("betas",), ([0.9, 0.999],), lambda b: f"β1, β2 = {number(b)}"),
    Row("Batch size", "16", ("batch_size",), (16,)),
    Row("Learning rate schedule", "cosine decay"),
    Row("Layer-wise learning rate decay", "0.75", ("layer_decay",), (0.75,)),
    Row("Warmup epochs", "5", ("warmup_epochs",), (5,)),
    Row("Augmentation", "RandAug (9, 0.5)", ("randaugment",), ("rand-m9-mstd0.5-inc1",), randaugment),
    Row("Label smoothing", "0.1", ("label_smoothing",), (0.1,)),
    Row("Mixup", "0.8", ("mixup",), (0.8,)),
    Row("Cutmix", "1.0", ("cutmix",), (1.0,), lambda value: f"{float(value):.1f}"),
    Row("Drop path", "0.1", ("drop_path",), (0.1,)),
)

TABLES = {
    "table_4": ("Table 4", "URFM pre-training settings", TABLE_4),
    "table_5": ("Table 5", "URFM downstream fine-tuning settings", TABLE_5),
}


class SettingsTableSettings(Settings):
    """Settings of the stage."""

    table: Literal["table_4", "table_5"]
    values: dict[str, Any] = Field(description="the section of the configuration in force")


def same(used: Any, paper: Any) -> bool:
    """Equal values; 1 equals 1.0, lists item by item."""
    if isinstance(used, list | tuple) and isinstance(paper, list | tuple):
        return len(used) == len(paper) and all(map(same, used, paper))
    if isinstance(used, int | float) and isinstance(paper, int | float) and not isinstance(paper, bool):
        return math.isclose(used, paper)
    return bool(used == paper)


def settings_table(name: str, title: str, rows: tuple[Row, ...], values: Mapping[str, Any]) -> Table:
    """The paper's rows first, then every other setting in force; UrfmError when a setting is missing."""
    cells = []
    for row in rows:
        missing = [key for key in row.keys if key not in values]
        if missing:
            raise UrfmError(f"--settings: values lack {missing[0]}, which {name} of the paper lists")
        used = [values[key] for key in row.keys]
        # The crop's scale is not in the paper's table, so only what the text shows can differ.
        shown = row.show(*used) if used else row.paper
        expected = row.show(*row.value) if used else row.paper
        equal = shown == expected if len(used) > 1 else all(map(same, used, row.value))
        cells.append([row.name, row.paper, row.paper if equal else shown, "" if equal else DIFFERS])
    listed = {key for row in rows for key in row.keys} - {"crop_scale"}
    cells.extend(
        [key.replace("_", " "), "not listed", number(value), f"not in {name}"]
        for key, value in sorted(values.items())
        if key not in listed
    )
    notes = ['"paper" is what the paper\'s table prints (Kang et al., iScience 2025), "used" what this run was set to.']
    return Table(name=name, title=title, columns=COLUMNS, rows=cells, notes=notes)


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Write Table 4 or 5: the paper's settings beside those in force.")
    options = parser.parse_args()
    settings = parse_settings(SettingsTableSettings, options.settings)
    table = settings_table(*TABLES[settings.table], settings.values)
    write_table(options.output, table)
    differing = [row[0] for row in table.rows if row[3] == DIFFERS]
    say(
        f"{settings.table.replace('_', ' ')}: {', '.join(differing) or 'nothing'} differs from the paper; "
        f"written to {options.output}.csv, .md and .tex"
    )


if __name__ == "__main__":
    run(main)
