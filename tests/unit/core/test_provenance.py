"""Canonical settings and fingerprints."""

from urfm.core import provenance


def test_canonical_json_is_canonical() -> None:
    assert provenance.canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'
    swapped = provenance.canonical_json({"lr": 0.1, "wd": 0.2}), provenance.canonical_json({"lr": 0.2, "wd": 0.1})
    assert swapped[0] != swapped[1]


def test_fingerprint_ignores_key_order_and_sees_every_value() -> None:
    assert provenance.fingerprint({"a": 1, "b": (2, 3)}, "x") == provenance.fingerprint({"b": [2, 3], "a": 1}, "x")
    assert provenance.fingerprint({"a": 1}) != provenance.fingerprint({"a": 2})
    assert provenance.fingerprint("ab", "c") != provenance.fingerprint("a", "bc")
