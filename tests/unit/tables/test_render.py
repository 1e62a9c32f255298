"""Tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import pandas as pd
from urfm.tables.render import Table, latex, markdown, write_table

TABLE = Table(
    name="Table 9",
    title="Shares & sizes",
    columns=["setting", "n_images"],
    rows=[["50% of a|b_c", "1,064"], ["β1 < 224 × 224 ~{x}^2 \\ #1$", ""]],
    notes=["a * b"],
    numbers=["n_images"],
)


def test_markdown():
    assert markdown(TABLE) == (
        "**Table 9. Shares & sizes**\n\n"
        "| setting | n\\_images |\n| --- | ---: |\n"
        "| 50% of a\\|b\\_c | 1,064 |\n"
        "| β1 \\< 224 × 224 ~{x}^2 \\\\ #1\\$ |  |\n\n"
        "- a \\* b\n"
    )


def test_latex():
    assert latex(TABLE).splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{Shares \& sizes}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"setting & n\_images \\",
        r"\midrule",
        r"50\% of a\textbar{}b\_c & 1,064 \\",
        r"$\beta$1 \textless{} 224 $\times$ 224 \textasciitilde{}\{x\}\textasciicircum{}2 \textbackslash{} \#1\$ &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\footnotesize a * b",
        r"\end{table}",
    ]


def test_three_files_with_the_same_cells(tmp_path):
    write_table(tmp_path / "table_9", TABLE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table_9.csv", "table_9.md", "table_9.tex"]
    read = pd.read_csv(tmp_path / "table_9.csv", dtype=str, keep_default_na=False)
    assert read.columns.tolist() == TABLE.columns
    assert read.to_numpy().tolist() == TABLE.rows
