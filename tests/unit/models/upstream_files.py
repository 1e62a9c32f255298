"""Weight files as their publishers write them: names and shapes from the public repositories, random values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
_POOL = 0.05 * torch.randn(18_000_000, generator=torch.Generator().manual_seed(0))


def fill(shapes: Shapes) -> dict[str, Tensor]:
    """Random tensors, each from another place of one pool of numbers; scales near 1, variances positive."""
    tensors: dict[str, Tensor] = {}
    place = 0
    for name, shape in shapes.items():
        count = torch.Size(shape).numel()
        place = (place + 1009) % (len(_POOL) - count)
        tensor = _POOL[place : place + count].reshape(shape).clone()
        if name.endswith("num_batches_tracked"):
            tensor = torch.tensor(1000)
        elif name.endswith("running_var"):
            tensor = 0.5 + tensor.abs()
        elif name.endswith(".weight") and len(shape) == 1:
            tensor = 1 + tensor
        elif name.endswith(".weight") and len(shape) == 4:
            tensor *= 20 * (2 / tensor[0].numel()) ** 0.5  # a deep network without normalised kernels would overflow
        tensors[name] = tensor
    return tensors


class Vit(NamedTuple):
    """Size of a vision transformer; a small one for tests that need no more."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 16
    grid: int = 14

    @property
    def tokens(self) -> int:
        return self.grid**2 + 1


VIT_B = Vit()
SMALL_VIT = Vit(width=24, depth=2, heads=2, patch=8, grid=4)


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def block(name: str, width: int) -> Shapes:
    """A transformer's block, as timm and MAE name it."""
    return {
        **_norm(f"{name}.norm1", width),
        **_linear(f"{name}.attn.qkv", width, 3 * width),
        **_linear(f"{name}.attn.proj", width, width),
        **_norm(f"{name}.norm2", width),
        **_linear(f"{name}.mlp.fc1", width, 4 * width),
        **_linear(f"{name}.mlp.fc2", 4 * width, width),
    }


def vit(size: Vit = VIT_B) -> Shapes:
    """The encoder of facebookresearch/mae's models_mae.py, of MoCo-v3 and of DINO: timm's VisionTransformer."""
    shapes: Shapes = {
        "cls_token": (1, 1, size.width),
        "pos_embed": (1, size.tokens, size.width),
        "patch_embed.proj.weight": (size.width, 3, size.patch, size.patch),
        "patch_embed.proj.bias": (size.width,),
    }
    for i in range(size.depth):
        shapes |= block(f"blocks.{i}", size.width)
    return shapes | _norm("norm", size.width)


def mae_decoder(width: int, target: int, size: Vit = VIT_B, depth: int = 8) -> Shapes:
    """What models_mae.py has beside the encoder."""
    shapes: Shapes = {
        "mask_token": (1, 1, width),
        "decoder_pos_embed": (1, size.tokens, width),
        **_linear("decoder_embed", size.width, width),
    }
    for i in range(depth):
        shapes |= block(f"decoder_blocks.{i}", width)
    return shapes | _norm("decoder_norm", width) | _linear("decoder_pred", width, target)


def usfm(size: Vit = VIT_B) -> Shapes:
    """openmedlab/USFM: BEiT with one relative position bias (732 x 12), without an absolute one."""
    shapes = {name: shape for name, shape in vit(size).items() if name != "pos_embed"}
    for i in range(size.depth):
        del shapes[f"blocks.{i}.attn.qkv.bias"]
        names = ("attn.q_bias", "attn.v_bias", "gamma_1", "gamma_2")
        shapes |= {f"blocks.{i}.{name}": (size.width,) for name in names}
    table = ((2 * size.grid - 1) ** 2 + 3, size.heads)
    return shapes | {"mask_token": (1, 1, size.width), "rel_pos_bias.relative_position_bias_table": table}


def openai_clip(size: Vit = VIT_B) -> Shapes:
    """open_clip's names of OpenAI's vision tower, with projection, and a part of the text tower."""
    d = size.width
    shapes: Shapes = {
        "positional_embedding": (77, 512),
        "text_projection": (512, 512),
        "logit_scale": (),
        "token_embedding.weight": (1000, 512),
        **_norm("ln_final", 512),
        **_norm("transformer.resblocks.0.ln_1", 512),
        "visual.class_embedding": (d,),
        "visual.positional_embedding": (size.tokens, d),
        "visual.proj": (d, 512),
        "visual.conv1.weight": (d, 3, size.patch, size.patch),
        **_norm("visual.ln_pre", d),
        **_norm("visual.ln_post", d),
    }
    for i in range(size.depth):
        name = f"visual.transformer.resblocks.{i}"
        shapes |= _norm(f"{name}.ln_1", d) | _norm(f"{name}.ln_2", d)
        shapes |= {f"{name}.attn.in_proj_weight": (3 * d, d), f"{name}.attn.in_proj_bias": (3 * d,)}
        shapes |= _linear(f"{name}.attn.out_proj", d, d)
        shapes |= _linear(f"{name}.mlp.c_fc", d, 4 * d) | _linear(f"{name}.mlp.c_proj", 4 * d, d)
    return shapes


def biomedclip(size: Vit = VIT_B) -> Shapes:
    """open_clip around timm: the trunk's own names, its projection, and a part of the text tower."""
    return {f"visual.trunk.{name}": shape for name, shape in vit(size).items()} | {
        "logit_scale": (),
        "visual.head.proj.weight": (512, size.width),
        "text.transformer.embeddings.LayerNorm.weight": (768,),
        "text.proj.0.weight": (640, 768),
    }


class Resnet(NamedTuple):
    """Size of a residual network with bottlenecks: blocks of the stages, channels inside their blocks, of the stem."""

    layers: tuple[int, ...] = (3, 4, 23, 3)
    channels: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64


RESNET_101 = Resnet()
SMALL_RESNET = Resnet((1, 1, 1, 1), (8, 8, 8, 8))


def batch_norm(name: str, width: int) -> Shapes:
    """A batch norm with its statistics."""
    shapes: Shapes = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes | {f"{name}.num_batches_tracked": ()}


def bottlenecks(size: Resnet) -> Iterator[tuple[int, int, int, int]]:
    """Stage, block, channels that come in and channels inside, block by block."""
    incoming = size.stem
    for stage, (blocks, inside) in enumerate(zip(size.layers, size.channels, strict=True)):
        for number in range(blocks):
            yield stage, number, incoming, inside
            incoming = 4 * inside


def torchvision_resnet(size: Resnet = RESNET_101) -> Shapes:
    """torchvision's names, which VISSL keeps behind `_feature_blocks.`."""
    shapes: Shapes = {"conv1.weight": (size.stem, 3, 7, 7), **batch_norm("bn1", size.stem)}
    for stage, number, incoming, inside in bottlenecks(size):
        name = f"layer{stage + 1}.{number}"
        for i, shape in enumerate(((inside, incoming, 1, 1), (inside, inside, 3, 3), (4 * inside, inside, 1, 1)), 1):
            shapes |= {f"{name}.conv{i}.weight": shape, **batch_norm(f"{name}.bn{i}", shape[0])}
        if number == 0:
            shapes |= {f"{name}.downsample.0.weight": (4 * inside, incoming, 1, 1)}
            shapes |= batch_norm(f"{name}.downsample.1", 4 * inside)
    return shapes


def simclr_v2(size: Resnet = RESNET_101) -> Shapes:
    """Separius/SimCLRv2-Pytorch's resnet.py without selective kernels; the supervised layer `fc` is part of it."""
    shapes: Shapes = {"net.0.0.weight": (size.stem, 3, 7, 7), **batch_norm("net.0.1.0", size.stem)}
    for stage, number, incoming, inside in bottlenecks(size):
        name = f"net.{stage + 1}.blocks.{number}"
        if number == 0:
            shapes |= {f"{name}.projection.shortcut.weight": (4 * inside, incoming, 1, 1)}
            shapes |= batch_norm(f"{name}.projection.bn.0", 4 * inside)
        for i, shape in enumerate(((inside, incoming, 1, 1), (inside, inside, 3, 3), (4 * inside, inside, 1, 1))):
            shapes |= {f"{name}.net.{2 * i}.weight": shape, **batch_norm(f"{name}.net.{2 * i + 1}.0", shape[0])}
    return shapes | _linear("fc", 4 * size.channels[-1], 1000)
