"""What every command line of the library shares: settings as JSON, and errors as sentences."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from urfm.core.errors import UrfmError


class Settings(BaseModel):
    """Base of a stage's settings: immutable, unknown keys refused, every key documented by its class."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnySettings = TypeVar("AnySettings", bound=Settings)


def _pairs(items: Any) -> Any:
    return dict(items) if isinstance(items, list) else items


Value = TypeVar("Value")
Ordered = Annotated[dict[str, Value], BeforeValidator(_pairs)]
"""A dictionary whose order counts: given as [key, value] pairs, since canonical JSON sorts the keys of an object."""


def parse_settings(kind: type[AnySettings], text: str) -> AnySettings:
    """Read settings from JSON text (`--settings`); a wrong or unknown key is an UrfmError that names it."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise UrfmError(f"--settings of {kind.__module__}: {problems}") from error


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def run(main: Callable[[], None]) -> None:
    """Call `main`; an UrfmError ends the program with its message and exit code 1, without a traceback.

    SIGTERM ends it as an error does: temporary files and child processes go.
    """
    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except UrfmError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from error
