"""Teachers: frozen networks whose tokens, one for each patch of the student, are the targets of pre-training.

Each teacher takes plain pixels and normalises for itself, because BiomedCLIP and CLIP were trained with other
means than the student: one tensor for both would be a silent mismatch. A new kind is one more module with a
`load(settings, checkpoint_root, student)`, and one more line in TEACHERS; its token shape is a line in
urfm.targets.size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from urfm.config.fields import Colour
from urfm.config.models import TeacherSettings
from urfm.models.teachers import clip, efficientnet_lite0, pixels
from urfm.models.teachers.common import PATCH_SIZE, Student, Teacher

TEACHERS: dict[str, Callable[[TeacherSettings, Path, Student], Teacher]] = {
    "biomedclip": clip.load,
    "clip": clip.load,
    "efficientnet_lite0": efficientnet_lite0.load,
    "pixels": pixels.load,
}


def load_teacher(
    settings: TeacherSettings,
    checkpoint_root: Path,
    input_size: int,
    *,
    patch_size: int = PATCH_SIZE,
    mean: Colour | None = IMAGENET_DEFAULT_MEAN,
    std: Colour | None = IMAGENET_DEFAULT_STD,
) -> Teacher:
    """Build a teacher for a student of square images of `input_size` pixels.

    Parameters
    ----------
    settings
        Which teacher.
    checkpoint_root
        Where its weight file lies, unless it comes from the hub or a package. Files are read as data only and loaded
        strictly.
    input_size
        Pixels of a side.
    patch_size, mean, std
        The student's: pixels of a patch's side, what its input in [0, 1] is normalised with; None: each image's own.
    """
    student = Student(settings.sees(input_size), patch_size, mean, std)
    return TEACHERS[settings.kind](settings, checkpoint_root, student)
