"""Labels as people write them: upper and lower case, blanks and Unicode forms make no other label."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def plain(text: str) -> str:
    """A text by which two spellings are compared: small letters, single blanks, one Unicode form."""
    return unicodedata.normalize("NFC", " ".join(text.split()).casefold())


def as_classes(labels: Iterable[str], classes: list[str]) -> dict[str, str]:
    """The class that each label means which is none by its letters, where its plain form is that of one class only."""
    meant = {plain(name): name for name in classes if sum(plain(name) == plain(other) for other in classes) == 1}
    return {label: meant[plain(label)] for label in labels if label not in classes and plain(label) in meant}
