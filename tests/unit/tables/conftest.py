"""The synthetic cells live beside the tests of the statistics."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
