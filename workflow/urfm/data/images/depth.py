"""How many bits the values of a 16-bit picture use: what is white of it, if nobody says (D90)."""

from __future__ import annotations

from typing import NamedTuple

from urfm.core.errors import UnusableImage

DEPTHS = (8, 12, 16)  # bits of 16 that scanners, and programs that export DICOM, use


class Depth(NamedTuple):
    """How a picture of 16-bit grey values was read; of all others nothing is said: 0, 0."""

    bits: int = 0
    highest: int = 0  # value that occurs


UNSAID = Depth()


def depth(highest: int, bits: int | None) -> Depth:
    """How many bits 16-bit values use whose highest is given: those that `bits` says, or the fewest of DEPTHS.

    White is the highest value of so many bits, so pictures of one depth stay comparable, whatever is in them.
    """
    used = bits or next(known for known in DEPTHS if highest < 2**known)
    if highest >= 2**used:
        raise UnusableImage("unsupported", f"a value of {highest:,} is more than {used} bits hold; correct `bits`")
    return Depth(used, highest)
