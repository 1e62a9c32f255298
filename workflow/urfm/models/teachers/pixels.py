"""The teacher `pixels`: no network but the student's own patches, as in MAE."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from urfm.config.models import TeacherSettings
from urfm.models.teachers.common import Student, Teacher, patchify


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


def load(settings: TeacherSettings, checkpoint_root: Path, student: Student) -> Teacher:
    """The student's normalised pixels, or pixels in [0, 1] if each image is normalised by itself; there is no file."""
    layer = "pixels of the student's patches" + (", standardised per patch" if settings.norm_pix else "")
    tokens = _PixelTokens(student.patch_size, settings.norm_pix)
    mean, std = student.mean or (0.0,) * 3, student.std or (1.0,) * 3
    return Teacher(settings, tokens, student.input_size, mean, std, layer, "")
