"""Ratios of things that are measured in turns, as JSON and as tables: what the suite is made of.

A machine that others use is faster at one moment than at the next. So nothing is measured by itself: the sides of a
comparison take turns, back and forth, and each round gives a ratio of its own. What is reported is the median of these
ratios, and the lowest and the highest.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

Side = Callable[[], object]
Amounts = dict[str, list[float]]  # what each round took, by side

BEGIN, END = "<!-- made by sh envs/run bench --write; do not edit -->", "<!-- end of what bench made -->"


def cpu_seconds() -> float:
    """Of this process and of its children that have ended: other work on the machine disturbs them least."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def timed(side: Side, clock: Callable[[], float] = cpu_seconds) -> float:
    """What one call takes."""
    start = clock()
    side()
    return clock() - start


def take_turns(
    sides: Mapping[str, Any], rounds: int, warm_up: int = 1, measure: Callable[[Any], float] = timed
) -> Amounts:
    """What each side takes in each round, the first `warm_up` rounds left out; every other round goes backwards.

    Backwards, because a machine that becomes slower and slower would favour whoever comes first.
    """
    amounts: Amounts = {name: [] for name in sides}
    for turn in range(warm_up + rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            amount = measure(sides[name])
            if turn >= warm_up:
                amounts[name].append(amount)
    return amounts


@dataclass(frozen=True)
class Result:
    """A comparison of ours, the first of the sides, with each of the others.

    Attributes
    ----------
    what
        What is compared.
    on
        Which images or which size.
    unit
        Of what is shown of each side: `images/s` (a rate of `size` a round), or what is measured itself.
    amounts
        What each side took in each round.
    size
        How much of `unit` a round of each side handles, for rates; 0: what is shown is the amount itself.
    bars
        By side, the ratio to reach: at least for rates, at most for amounts.
    """

    what: str
    on: str
    unit: str
    amounts: Amounts
    size: float = 0
    bars: dict[str, float] = field(default_factory=dict)

    @property
    def others(self) -> list[str]:
        """The sides that ours is compared with."""
        return list(self.amounts)[1:]

    def ratios(self, other: str) -> list[float]:
        """Of each round: how many times the rate of the other, or the amount, ours is."""
        ours = next(iter(self.amounts.values()))
        pairs = zip(ours, self.amounts[other], strict=True)
        return [theirs / own if self.size else own / theirs for own, theirs in pairs]

    def ratio(self, other: str) -> tuple[float, float, float]:
        """Median, lowest and highest."""
        ratios = self.ratios(other)
        return median(ratios), min(ratios), max(ratios)

    def shown(self, side: str) -> float:
        """The rate, or the amount, of a side."""
        amount = median(self.amounts[side])
        return self.size / amount if self.size else amount

    def met(self, other: str) -> bool | None:
        """Whether the bar is reached; None where there is none."""
        if (bar := self.bars.get(other)) is None:
            return None
        found = self.ratio(other)[0]
        return found >= bar if self.size else found <= bar


def from_json(content: dict[str, Any]) -> dict[str, list[Result]]:
    """The results of a file, by group."""
    return {name: [Result(**row) for row in rows] for name, rows in content["groups"].items()}


def to_json(machine: dict[str, str], groups: Mapping[str, Iterable[Result]]) -> dict[str, Any]:
    """What a file holds: what was measured, of which everything else is calculated."""
    return {"machine": machine, "groups": {name: [asdict(row) for row in rows] for name, rows in groups.items()}}


def number(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Iterable[Result]) -> str:
    """Markdown, a line for each side that ours is compared with."""
    lines = ["| | on | unit | ours | beside | its | ratio | bar |", "|---|---|---|---:|---|---:|---:|---:|"]
    for row in rows:
        ours = next(iter(row.amounts))
        for other in row.others:
            middle, low, high = (f"{value:.2f}" for value in row.ratio(other))
            bar = row.bars.get(other)
            reached = (
                "" if bar is None else f"{'≥' if row.size else '≤'} {bar:g}, {'' if row.met(other) else 'not '}met"
            )
            cells = [row.what, row.on, row.unit, number(row.shown(ours)), other, number(row.shown(other))]
            lines.append(f"| {' | '.join(cells)} | {middle} ({low}–{high}) | {reached} |")
    return "\n".join(lines)


def block(content: dict[str, Any], titles: Mapping[str, str]) -> str:
    """What stands in docs/benchmarks.md between BEGIN and END."""
    groups, machine = from_json(content), content["machine"]
    if not groups:
        return f"{BEGIN}\n\nNothing has been measured yet.\n\n{END}"
    told = ", ".join(f"{name} {value}" for name, value in machine.items())
    sections = [f"**{titles.get(name, name)}**\n\n{table(rows)}" for name, rows in groups.items()]
    return "\n\n".join([BEGIN, f"Machine: {told}.", *sections, END])


def put_block(page: str, made: str) -> str:
    """A page with another block in the place of its own."""
    before, _, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not ended:
        raise ValueError(f"the page has no {BEGIN!r} with {END!r} after it")
    return before + made + after


def disagreements(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Ratios of two files whose ranges do not meet, a line each."""
    known = {(name, row.what, row.on): row for name, rows in from_json(first).items() for row in rows}
    found = []
    for name, rows in from_json(second).items():
        for row in rows:
            before = known.get((name, row.what, row.on))
            for other in row.others if before else ():
                (_, low, high), (_, least, most) = before.ratio(other), row.ratio(other)
                if high < least or most < low:
                    ranges = f"{low:.2f} to {high:.2f}, then {least:.2f} to {most:.2f}"
                    found.append(f"{name}: {row.what}, {row.on}, beside {other}: {ranges}")
    return found


def machine() -> dict[str, str]:
    """What was measured on, and with what."""
    import os
    import platform
    from importlib.metadata import version

    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.partition(":")[2].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    packages = {name: version(name) for name in ("torch", "torchvision", "timm", "pillow", "snakemake")}
    return {"processor": cpu, "cores": str(os.cpu_count()), "Python": platform.python_version(), **packages}
