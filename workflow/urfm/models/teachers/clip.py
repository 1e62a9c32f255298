"""Teachers from CLIP models, `biomedclip` and `clip`: patch tokens of the vision tower, from a file or from the hub."""

from __future__ import annotations

from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from urfm.config.models import TeacherSettings
from urfm.core.errors import UrfmError
from urfm.core.files import stand_in_mark
from urfm.models.classifier import build
from urfm.models.clip import MEAN, STD, TOWERS, Tower, vision_tower
from urfm.models.teachers.common import Student, Teacher, check_input_size
from urfm.models.weights import check_sha256, load_strictly, read_file, tensors_in


class _PatchTokens(nn.Module):
    """Patch tokens of a vision transformer, (B, h, w, dim)."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.vit.forward_features(x)[:, self.vit.num_prefix_tokens :]
        return tokens.unflatten(1, self.vit.patch_embed.grid_size)


def load(settings: TeacherSettings, checkpoint_root: Path, student: Student) -> Teacher:
    """The vision tower of a CLIP model; its position embedding is resampled where images are not of 224 pixels."""
    check_input_size(settings, student.input_size)
    tower = TOWERS[settings.kind]
    path = _weight_file(settings, tower, checkpoint_root)
    digest = check_sha256(path, settings.sha256)
    with torch.device("meta"):  # no values are drawn that the file's would replace
        vit = build(tower.architecture, settings.model_args, None)
    assert isinstance(vit, VisionTransformer)
    load_strictly(vit, vision_tower(tensors_in(read_file(path), path)).tensors, path, assign=True)
    vit.set_input_size(img_size=(student.input_size, student.input_size))
    layer = "patch tokens after the final LayerNorm"
    if not settings.normalise_tokens:
        vit.norm = nn.Identity()
        layer = "patch tokens of the last block, before the final LayerNorm"
    tokens, stand_in = _PatchTokens(vit), stand_in_mark(path).is_file()
    return Teacher(settings, tokens, student.input_size, MEAN, STD, layer, digest, stand_in)


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
