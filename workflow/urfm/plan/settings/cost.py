"""What the estimate of the cost reads: nearly everything that says how much there is to do."""

from __future__ import annotations

from urfm.plan.availability import Config
from urfm.plan.settings.data import doctor

SECTIONS = (
    "images", "finetuning", "seeds", "probes", "reconstructions", "resources", "figures", "splits", "cost",
)  # fmt: skip


def cost(config: Config) -> Config:
    return doctor(config) | {key: config[key] for key in SECTIONS}
