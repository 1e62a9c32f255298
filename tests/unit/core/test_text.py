"""Words of others as text: no formula in a spreadsheet, no mark-up on a page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from urfm.core.files import read_text_csv, write_csv
from urfm.core.text import markdown

FORMULAS = ["=1+1|x", '=HYPERLINK("http://x","y")', "+A1", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "＝1", "-x"]
NUMBERS = ["-0.5", "+1.2", "-1,064", "-1.2 [-3.4, 0.1]", "-3e-05", "-5 %", "+0.1 ± 0.2", "-"]
WORDS = ["a=b", "'quoted'", "x@y.z", "", "–", "−0.5"]


def test_no_text_of_a_table_is_a_formula_and_numbers_stay(tmp_path: Path) -> None:
    texts = FORMULAS + NUMBERS + WORDS
    table = pd.DataFrame({"=text": texts, "n": range(len(texts)), "x": [-1.5] * len(texts)})
    table["kind"] = table["=text"].astype("category")
    before = table.copy()
    write_csv(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(table, before)
    written = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    assert written.columns.tolist() == ["'=text", "n", "x", "kind"]
    assert written["'=text"].tolist() == [f"'{text}" for text in FORMULAS] + NUMBERS + WORDS
    assert written["kind"].tolist() == written["'=text"].tolist()
    assert set(written["x"]) == {"-1.5"}
    assert read_text_csv(tmp_path / "t.csv")["'=text"].tolist() == texts


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", pd.DataFrame(columns=["a", "b"]))
    assert (tmp_path / "t.csv").read_text() == "a,b\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x> & *b* _c_ `d` |", r"\<img src=x> & \*b\* \_c\_ \`d\` \|"),
        ("[click](javascript:alert(1))", r"[click]\(javascript:alert(1))"),
        ("$x$ &lt;b&#62;", r"\$x\$ \&lt;b\&#62;"),
        ("one\n\n# two", "one # two"),
    ],
)
def test_mark_up_is_shown_as_it_is_written(text: str, shown: str) -> None:
    assert markdown(text) == shown
