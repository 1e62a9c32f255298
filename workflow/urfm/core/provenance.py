"""What a result depends on besides code, as short strings: canonical settings, and fingerprints of anything."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(content: Any) -> str:
    """JSON with sorted keys and no white space: equal content gives equal text, whatever its order."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(*parts: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of the parts as canonical JSON: key order and tuple or list do not matter."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()
