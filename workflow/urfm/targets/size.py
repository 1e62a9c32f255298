"""How much stored targets take on disk, from settings alone: no weights are read and no torch imported."""

from __future__ import annotations

from typing import Any

PATCH_SIZE = 16  # of the vision towers
VIT_WIDTH = 768  # theirs, unless model_args has another
# EfficientNet-Lite0: (channels, stride in all) of the output of each of its blocks (B0's table, Tan and Le 2019).
EFFICIENTNET = [(16, 2), *[(24, 4)] * 2, *[(40, 8)] * 2, *[(80, 16)] * 3, *[(112, 16)] * 3, *[(192, 32)] * 4, (320, 32)]


def token_shape(teacher: dict[str, Any], input_size: int) -> tuple[int, int]:
    """(tokens, channels) of a view, for an entry of `teachers` that is no `pixels`."""
    if teacher["kind"] == "efficientnet_lite0":
        dim, stride = EFFICIENTNET[teacher.get("block", 10)]
    else:
        arguments = teacher.get("model_args", {})
        dim, stride = arguments.get("embed_dim", VIT_WIDTH), arguments.get("patch_size", PATCH_SIZE)
    return (input_size // stride) ** 2, dim


def bytes_needed(images: int, views: int, tokens: int, dim: int, view_dtype: str) -> int:
    """What the tokens of all views take: two bytes a channel, or as int8 one, and two a token for its scale."""
    return images * views * tokens * (dim + 2 if view_dtype == "int8" else 2 * dim)
