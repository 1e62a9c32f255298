"""Fixtures of the unit tests."""

import copy
from pathlib import Path
from typing import Any

import pytest
from configurations import PAPER


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """The paper's configuration, with an empty data root."""
    content = copy.deepcopy(PAPER)
    content["data_root"] = str(tmp_path / "data")
    content["checkpoint_root"] = str(tmp_path / "checkpoints")
    (tmp_path / "data").mkdir()
    return content
