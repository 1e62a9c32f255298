"""One finished run of the smallest workflow, shared by the tests."""

import shutil
from pathlib import Path

import pytest
from working_copy import Repository

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The workflow, run to its end at the smallest size: two tasks, three models, two seeds."""
    folder = tmp_path_factory.mktemp("repository") / "My scans & Größe's $(touch executed)"
    folder.mkdir()
    repository = Repository(folder)
    (repository.folder / "tiny.yaml").write_text((HERE / "tiny.yaml").read_text())
    # Which functions run, for test_reached.py.
    shutil.copy(HERE / "watched" / "sitecustomize.py", repository.folder / "workflow")
    calls = repository.folder / "calls"
    calls.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("URFM_CALLS", str(calls))
        repository.run()
    assert not list(folder.rglob("executed"))
    return repository
