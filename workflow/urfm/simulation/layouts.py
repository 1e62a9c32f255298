"""The layouts of published archives by name: `layout(settings, random)` yields the files, pictures as they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from urfm.simulation import downstream, pretraining
from urfm.simulation.archive import File, SimulateSettings
from urfm.simulation.scanner import Random

LAYOUTS: dict[str, Callable[[SimulateSettings, Random], Iterator[File]]] = {
    "aul": downstream.aul,
    "buid": downstream.buid,
    "busbra": downstream.busbra,
    "buv": pretraining.buv,
    "camus": pretraining.camus,
    "fetal_planes": downstream.fetal_planes,
    "generic": downstream.generic,
    "lepset": downstream.lepset,
    "mmotu": downstream.mmotu,
    "radimagenet": pretraining.radimagenet,
    "uf1990": downstream.uf1990,
    "ultrasoundcases": pretraining.ultrasoundcases,
}
