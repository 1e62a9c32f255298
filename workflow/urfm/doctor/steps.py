"""How to get what is missing, and in which order it is worth the trouble."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from urfm.doctor.entries import Entry
from urfm.doctor.lines import GLUE
from urfm.doctor.stock import Stock, gain
from urfm.plan.availability import Config

WAYS = {"open": "free to fetch", "web": "by hand", "form": "through a form", "request": "on request"}  # easiest first


def how_to_get(config: Config, entry: Entry) -> str:
    """The command that fetches it, or the page and what to do there."""
    if not entry.origin:
        return "no origin is configured; put it there"
    if _is_fetched(entry):
        first = "" if entry.state.word == "absent" or not entry.path.exists() else "move it away, then "
        return f"{first}{download_command(config, entry.key)}"
    way = WAYS[entry.origin["access"]]
    return f"{entry.origin['where']} ({way}). {entry.origin.get('steps', '')}".strip()


def _is_fetched(entry: Entry) -> bool:
    return bool(entry.origin.get("access") == "open")


def download_command(config: Config, name: str = "") -> str:
    """What to type to fetch one data set or weight file, or all that are open."""
    chosen = [f"'download=[{name}]'"] if name else []
    defaults = {"data_root": "data", "checkpoint_root": "checkpoints"}
    places = [f"{key}={shlex.quote(config[key])}" for key, value in defaults.items() if config[key] != value]
    words = ["snakemake --cores 1 download", *(["--config", *chosen, *places] if chosen or places else [])]
    return " ".join(words).replace(" ", GLUE)


def next_steps(config: Config, found: list[Entry], stock: Stock) -> Iterator[str]:
    """What to get: what one command fetches, what completes, and then one by one what adds most models and tasks."""
    missing = [entry for entry in found if not entry.state.usable]
    fetchable = [entry.name for entry in missing if not entry.path.exists() and _is_fetched(entry)]
    if fetchable:
        adds = gain(config, stock, fetchable)
        yield f"{download_command(config)}: fetches {', '.join(fetchable)}{_adds(adds)}"
        stock = stock.union(fetchable)
    for entry in found:
        if entry.state.word == "partial" and entry.state.usable:
            yield f"complete {entry.name}: {entry.state.facts[0]}"
    missing = [entry for entry in missing if entry.name not in fetchable]
    easiest = list(WAYS)
    while missing:
        gains = [gain(config, stock, [entry.name]) for entry in missing]
        efforts = [easiest.index(entry.origin.get("access", "request")) for entry in missing]
        best = max(range(len(missing)), key=lambda number: (len(gains[number]), -efforts[number]))
        if not gains[best]:
            break
        entry = missing.pop(best)
        stock = stock.union([entry.name])
        yield f"{entry.name} from {entry.origin.get('where', 'where you know')}{_adds(gains[best])}"
    rest = [entry.name for entry in missing if "pre-training" in entry.use]
    if rest:
        yield f"more images for pre-training: {', '.join(rest)}"


def _adds(gained: list[tuple[str, str]]) -> str:
    phrases = []
    for kind in ("models", "tasks"):
        titles = [title for of_kind, title in gained if of_kind == kind]
        if titles:
            phrases.append(f"{kind if len(titles) > 1 else kind[:-1]} {', '.join(titles)}")
    return f"; adds {' and '.join(phrases)}" if phrases else ""
