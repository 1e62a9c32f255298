"""Nothing that ran in the finished workflow is missing among what its stages are said to depend on."""

import json
from collections import defaultdict

from urfm.core import code
from working_copy import Repository


def test_what_runs_is_reached(finished: Repository) -> None:
    """Digests must never miss code: each function that any job called is in the digests of that job's stage."""
    ran: dict[str, int] = defaultdict(int)
    for path in (finished.folder / "calls").iterdir():
        record = json.loads(path.read_text())
        command = record["command"]
        entry = command[command.index("-m") + 1]
        settings = json.loads(command[command.index("--settings") + 1])
        reached = code.definitions(entry, settings)
        missed = {name for name in record["reached"] if name.split(":")[0] not in code.INERT} - reached.keys()
        assert not missed, f"{entry} with {settings}"
        assert f"{entry}:main" in record["reached"]
        ran[entry] += 1
    assert len(ran) > 20
    assert ran["urfm.training.pretrain.stage"] == 2
    assert ran["urfm.training.finetune.stage"] == 6
