"""The storage of cached targets, by hand and from the networks themselves."""

import pytest
from urfm.config.models import TeacherSettings
from urfm.models.classifier import build
from urfm.models.clip import TOWERS
from urfm.models.teachers import load_teacher
from urfm.targets.size import bytes_needed, token_shape


def test_the_papers_setting() -> None:
    """docs/benchmarks.md: 4.83 TB of 16 views as float16, 2.42 TB as int8."""
    assert token_shape({"kind": "biomedclip"}, 224) == token_shape({"kind": "clip"}, 224) == (196, 768)
    for views, dtype, printed in ((16, "float16", "4.83e+12"), (16, "int8", "2.42e+12"), (1, "float16", "3.02e+11")):
        assert f"{bytes_needed(1_003_465, views, 196, 768, dtype):.3g}" == printed
    assert bytes_needed(3, 2, 4, 5, "int8") == 3 * 2 * 4 * (5 + 2)
    assert bytes_needed(3, 2, 4, 5, "float16") == 3 * 2 * 4 * 5 * 2


@pytest.mark.parametrize("block", range(16))
def test_efficientnet_is_what_the_network_says(block: int, tmp_path: object) -> None:
    settings = TeacherSettings(name="x", kind="efficientnet_lite0", block=block)
    for size in (96, 112):
        teacher = load_teacher(settings, tmp_path, size)  # type: ignore[arg-type]
        assert token_shape(settings.model_dump(), size) == (teacher.grid[0] * teacher.grid[1], teacher.dim)
        own = settings.model_copy(update={"input_size": size})
        assert token_shape(own.model_dump(), 64) == token_shape(settings.model_dump(), size)


@pytest.mark.parametrize("arguments", [{}, {"embed_dim": 64, "depth": 1, "num_heads": 4, "patch_size": 32}])
def test_vision_towers_are_what_timm_builds(arguments: dict[str, int]) -> None:
    for kind, tower in TOWERS.items():
        vit = build(tower.architecture, {"depth": 1, **arguments}, None)
        shape = (vit.patch_embed.num_patches, vit.embed_dim)
        assert token_shape({"kind": kind, "model_args": arguments}, 224) == shape
