"""How fast cards compute, by their data sheets."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

Work = Counter[str]  # precision -> FLOP


class Card(NamedTuple):
    """Peaks in FLOP/s of dense matrices: bf16 or fp16 with sums in fp32; TF32; fp32 without it.

    `tf32` is `single` where a card has none.
    """

    title: str
    half: float
    tf32: float
    single: float
    bf16: bool = True

    def peak(self, precision: str) -> float:
        """Of a precision as configured, or tf32; `auto` is fp32 where there is no bf16, which counts as fp16 there."""
        if precision == "tf32":
            return self.tf32
        return self.single if precision == "fp32" or (precision == "auto" and not self.bf16) else self.half


# NVIDIA's data sheets of V100 SXM2, A100 SXM and H100 SXM, and its white paper of the Ada architecture (RTX 4090).
CARDS = {
    "v100": Card("V100", 125e12, 15.7e12, 15.7e12, bf16=False),
    "4090": Card("RTX 4090", 165.2e12, 82.6e12, 82.6e12),
    "a100": Card("A100", 312e12, 156e12, 19.5e12),
    "h100": Card("H100", 989e12, 494.5e12, 67e12),
}


def hours(work: Work, card: Card, config: dict[str, Any]) -> float:
    """Hours of one card at the shares of its peaks that `cost` states."""
    seconds = 0.0
    for precision, flop in work.items():
        peak = card.peak(precision)
        share: float = config["cost"]["utilisation_fp32" if peak == card.single else "utilisation"]
        seconds += flop / peak / share
    return seconds / 3600


def wanted(config: dict[str, Any]) -> Card:
    """The card that jobs ask for (`resources.gpu_type`); an A100 where they ask for none of these."""
    asked = config["resources"]["gpu_type"].lower()
    return next((card for name, card in CARDS.items() if name in asked), CARDS["a100"])
