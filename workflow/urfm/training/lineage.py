"""Which state a run goes on from: that of its own code or, if the user vouches for the change, that of older code.

State lies in `<root>/<identity>/<code>/`: the identity is a fingerprint of settings and inputs, `code` one of all
definitions that training reaches (`urfm.core.code`). Beside the state, code.json lists these definitions, so that what
changed can be named. State of other code is never deleted before the run of today's code has finished.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from urfm.core.code import changes
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, write_json
from urfm.core.lock import lock
from urfm.core.progress import say
from urfm.core.provenance import fingerprint

RECORD = "code.json"
SHOWN = 12  # names of changed definitions in a message


def folder_of(root: Path, identity: str, code: dict[str, str]) -> Path:
    """Where state lies: below `root`, by a fingerprint of settings and inputs and by the digests of code."""
    return root / identity / fingerprint(code)[:12]


def prepare(folder: Path, code: dict[str, str], keep: bool = False) -> None:
    """Make a state's folder if it is not there; where other code has left state, say what has changed since.

    Parameters
    ----------
    folder, code
        Of `folder_of`.
    keep
        Go on from the newest state of other code, which gets the name of today's: the user says that the change alters
        no number. The record keeps what was accepted.
    """
    record: dict[str, object] = {"code": code, "accepted": []}
    if older := others(folder):
        newest = older[-1]
        found = read_json(newest / RECORD)
        changed = changes(found["code"], code)
        names = ", ".join(changed[:SHOWN]) + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")
        if keep:
            say(f"goes on from the state of other code as if it were today's; changed since: {names}")
            with lock(folder), lock(newest):
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(newest, folder)
            (folder / RECORD).unlink()
            record["accepted"] = sorted({*found["accepted"], *changed})
        elif not (folder / RECORD).exists():
            say(
                f"code that can alter the result has changed since the state in {newest} was made: {names}. Training "
                "starts anew; that state is kept until it is done. If you know that the change alters no number, stop "
                "and run again with --config keep_training_state=true"
            )
    if not (folder / RECORD).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, record)


def others(folder: Path) -> list[Path]:
    """The states of the same run that other code has left, the newest last."""
    records = [path for path in folder.parent.glob(f"*/{RECORD}") if path.parent != folder]
    return [path.parent for path in sorted(records, key=lambda path: (path.stat().st_mtime, path))]


def accepted_changes(folder: Path) -> list[str]:
    """Changes of code, `module:definition` each, over which the user let this state live on; for provenance."""
    names: list[str] = read_json(folder / RECORD)["accepted"]
    return names


def forget_others(folder: Path) -> None:
    """Delete the states of other code once today's run has finished; one that a process is at work on stays."""
    for other in others(folder):
        try:
            with lock(other):
                shutil.rmtree(other)
        except UrfmError:
            say(f"{other}: left alone, another process is at work on it")
