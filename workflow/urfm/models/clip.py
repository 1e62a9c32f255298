"""Vision towers of CLIP models, alone and under timm's names: as teachers and as encoders.

Straight into timm, because open_clip would ask a hub for BiomedCLIP's text tower.
"""

from __future__ import annotations

from typing import NamedTuple

from timm.data import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from urfm.models.weights import Checkpoint, Tensors, without

MEAN, STD = OPENAI_CLIP_MEAN, OPENAI_CLIP_STD  # of both; BiomedCLIP's open_clip_config.json, preprocess_cfg


class Tower(NamedTuple):
    """A vision transformer of timm, and where its weights are published on Hugging Face."""

    architecture: str
    filename: str
    repository: str


TOWERS: dict[str, Tower] = {
    "biomedclip": Tower(
        "vit_base_patch16_224",
        "open_clip_pytorch_model.bin",
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    ),
    "clip": Tower(
        "vit_base_patch16_clip_quickgelu_224",  # OpenAI trained with QuickGELU
        "open_clip_model.safetensors",
        "timm/vit_base_patch16_clip_224.openai",
    ),
}


# OpenAI's names in timm's.
_NAMES = (
    ("class_embedding", "cls_token"),
    ("positional_embedding", "pos_embed"),
    ("conv1.", "patch_embed.proj."),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
    ("transformer.resblocks.", "blocks."),
    (".ln_", ".norm"),
    (".in_proj_", ".qkv."),
    (".out_proj.", ".proj."),
    (".c_fc.", ".fc1."),
    (".c_proj.", ".fc2."),
)


def openai_names(tower: Tensors) -> Tensors:
    """A vision tower under timm's names, named and shaped as in OpenAI's file: what `vision_tower` undoes."""
    renamed = {}
    for name, tensor in tower.items():
        tensor = {"cls_token": tensor.flatten(), "pos_embed": tensor.squeeze(0)}.get(name, tensor)
        for theirs, ours in _NAMES:
            name = name.replace(ours, theirs)
        renamed[f"visual.{name}"] = tensor.contiguous()
    return renamed


def vision_tower(tensors: Tensors) -> Checkpoint:
    """The vision tower of a CLIP model whose file holds `tensors`.

    The file's names are those of open_clip around timm (`visual.trunk.`), OpenAI's (`visual.`) or timm's. Left out
    are the text tower and the projections into the space of both.
    """
    trunk = any(name.startswith("visual.trunk.") for name in tensors)
    whole = any(name.startswith("visual.") for name in tensors)
    left_out = r"(?!visual\.)|visual\.(head\.|proj$)" if whole else r"head\."
    kept, dropped = without(tensors, left_out)
    tower = {}
    for name, tensor in kept.items():
        name = name.removeprefix("visual.").removeprefix("trunk.")
        if whole and not trunk:
            for theirs, ours in _NAMES:
                name = name.replace(theirs, ours)
            tensor = {"cls_token": tensor[None, None], "pos_embed": tensor[None]}.get(name, tensor)
        tower[name] = tensor
    return Checkpoint(tower, dropped)
