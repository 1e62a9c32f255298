"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that want it are skipped, and say so, where it is not."""
    folder = Path(os.environ.get("URFM_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}; set URFM_TEST_DATA to a folder with BUSBRA, AUL and fetal_planes")
    return folder
