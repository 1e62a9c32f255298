"""One finished run of the smallest workflow, shared by the tests."""

from pathlib import Path

import pytest
from working_copy import Repository


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The workflow, run to its end at the smallest size: two tasks, three models, two seeds."""
    repository = Repository(tmp_path_factory.mktemp("repository"))
    (repository.folder / "tiny.yaml").write_text((Path(__file__).parent / "tiny.yaml").read_text())
    repository.run()
    return repository
