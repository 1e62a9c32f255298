"""How much stored targets take on disk, from settings alone: no weights are read and no torch imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PATCH_SIZE = 16  # of the vision towers
VIT_WIDTH = 768  # theirs, unless model_args has another
# EfficientNet-Lite0: (channels, stride in all) of the output of each of its blocks (B0's table, Tan and Le 2019).
EFFICIENTNET = [(16, 2), *[(24, 4)] * 2, *[(40, 8)] * 2, *[(80, 16)] * 3, *[(112, 16)] * 3, *[(192, 32)] * 4, (320, 32)]


def token_shape(teacher: dict[str, Any], input_size: int) -> tuple[int, int]:
    """(tokens, channels) of a view, for an entry of `teachers` whose targets can be stored."""
    return TOKEN_SHAPES[teacher["kind"]](teacher, teacher.get("input_size") or input_size)


def vision_tower(teacher: dict[str, Any], input_size: int) -> tuple[int, int]:
    """Of a CLIP model's vision tower; `model_args` may make it smaller."""
    arguments = teacher.get("model_args", {})
    stride = arguments.get("patch_size", PATCH_SIZE)
    return (input_size // stride) ** 2, arguments.get("embed_dim", VIT_WIDTH)


def efficientnet_lite0(teacher: dict[str, Any], input_size: int) -> tuple[int, int]:
    """Of a block's output."""
    dim, stride = EFFICIENTNET[teacher.get("block", 10)]
    return (input_size // stride) ** 2, dim


TOKEN_SHAPES: dict[str, Callable[[dict[str, Any], int], tuple[int, int]]] = {
    "biomedclip": vision_tower,
    "clip": vision_tower,
    "efficientnet_lite0": efficientnet_lite0,
}


def bytes_needed(images: int, views: int, tokens: int, dim: int, view_dtype: str) -> int:
    """What the tokens of all views take: two bytes per channel, or as int8 one, and two per token for its scale."""
    return images * views * tokens * (dim + 2 if view_dtype == "int8" else 2 * dim)
