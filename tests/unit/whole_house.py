"""What the parts of the workflow make of a metric, as JSON: run by test_metrics.py on a copy of the library.

Usage: python whole_house.py <metric> <folder>.
"""

import json
import sys
from pathlib import Path

import pandas as pd
from matplotlib.text import Text
from synthetic_figures import figure_settings, make_statistics
from urfm.config.finetuning import FinetuneSettings
from urfm.figures import critical_difference, figure_2
from urfm.figures.read import read_numbers
from urfm.figures.summary import SummarySettings
from urfm.metrics import METRICS
from urfm.report.gather import leaders, read_scores
from urfm.statistics.stored import read_statistics
from urfm.tables import claims, comparison_with_paper

METRIC, FOLDER = sys.argv[1], Path(sys.argv[2])
TASKS, MODELS = ["breast_tumor", "liver_mass", "fetal_plane"], ["usfm", "urfm"]
folder = make_statistics(FOLDER, MODELS, TASKS, patients=40, resamples=40)
seen = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("seeds", "scores", "differences", "ranks")}
settings = figure_2.Figure2Settings.model_validate(figure_settings(MODELS, TASKS))
numbers = read_numbers(folder, settings)
seen["figure 2"] = figure_2.drawn_numbers(numbers, settings)
written = [text.get_text() for text in figure_2.draw(numbers, settings).findobj(Text)]
titles = [[name, name] for name in MODELS], [[name, name] for name in TASKS]
ranks = SummarySettings(models=titles[0], tasks=titles[1], dpi=72)
picture = critical_difference.draw(*critical_difference.read_ranks(folder / "statistics.json", ranks), ranks)
written += [text.get_text() for text in picture.findobj(Text)]

stored = read_statistics(folder / "statistics.json", comparison_with_paper.TABLES)
wins = [{"better": "urfm", "worse": "strongest"}]
claim = claims.Claim(comparison="figure_2", says="x", place="y", metrics=[METRIC], level=0.05, wins=wins)
seen["claims"] = claims.comparisons(claim, stored)
statement = {"comparison": "figure_2", "task": "liver_mass", "model": "urfm", "metric": METRIC}
statement |= {"value": 80, "says": "x"}
names = {name: name for name in [*MODELS, *TASKS]}
paper = comparison_with_paper.ComparisonSettings(paper=[statement], titles=names, tasks={"figure_2": 3}, seeds=3)
row = comparison_with_paper.comparison(paper, {"figure_2": stored}).rows[0]
config = {"models": {name: {"title": name} for name in MODELS}}
print(
    json.dumps(
        {
            "rows": {name: int((table["metric"] == METRIC).sum()) for name, table in seen.items()},
            "drawn": sorted(
                {text for text in written if METRICS[METRIC].short in text and "radar" not in text.lower()}
            ),
            "selects": METRIC in FinetuneSettings.model_json_schema()["properties"]["selection_metric"]["enum"],
            "paper": row,
            "report": str(leaders(config, read_scores(folder), {"models": MODELS})),
        }
    )
)
