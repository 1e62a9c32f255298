"""Python imports this when it starts, if it lies beside the library: notes which of the library's functions run.

Every process leaves a file in the folder URFM_CALLS: its command, and `module:definition` of each top-level definition
whose code ran. The tests hold it against what `urfm.core.code` says can be reached.
"""

import atexit
import json
import os
import sys
import threading
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

codes: set[CodeType] = set()


def note(frame: FrameType, event: str, argument: Any) -> None:
    if event == "call" and frame.f_code.co_flags & CO_OPTIMIZED:  # a function, not the body of a class or module
        codes.add(frame.f_code)


def write() -> None:
    sys.setprofile(None)
    library = Path(__file__).resolve().parent
    names = set()
    for code in codes:
        path = Path(code.co_filename)
        # Of a method or a closure the outermost name; a lambda at the top has none.
        name = code.co_qualname.split(".")[0]
        if path.is_relative_to(library / "urfm") and not name.startswith("<"):
            parts = path.relative_to(library).with_suffix("").parts
            names.add(f"{'.'.join(parts).removesuffix('.__init__')}:{name}")
    record = {"command": sys.orig_argv, "reached": sorted(names)}
    Path(os.environ["URFM_CALLS"], f"{os.getpid()}.json").write_text(json.dumps(record))


if "URFM_CALLS" in os.environ and "urfm" in " ".join(sys.orig_argv):
    sys.setprofile(note)
    threading.setprofile(note)
    atexit.register(write)
