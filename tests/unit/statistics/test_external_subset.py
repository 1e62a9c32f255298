"""Another set's images, predicted unchanged: the same statistics as of a test part, with that set's patients."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from synthetic_cells import sha256, write_cells
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.statistics.predictions import read_cell
from urfm.statistics.stage import StatisticsSettings, compute

MODELS = {"urfm": 1.6, "usfm": 1.2}


def statistics(paths: list[Path], subset: str) -> dict[str, pd.DataFrame]:
    settings = StatisticsSettings.model_validate(
        {
            "comparison": "figure_3b",
            "reference": "urfm",
            "subset": subset,
            "confidence": 0.95,
            "t_test": "welch",
            "bootstrap_resamples": 100,
            "permutations": 100,
            "bootstrap_seed": 0,
            "margin": 0.02,
            "threshold": "youden",
            "specificity": 0.9,
            "calibration_bins": 10,
        }
    )
    return compute([read_cell(path, subset) for path in paths], settings)


def test_external_images_are_scored_as_a_test_part_is(tmp_path: Path) -> None:
    paths = write_cells(tmp_path, MODELS, {"breast_tumor": 2}, patients=40)
    expected = statistics(paths, "test")
    with pytest.raises(UrfmError, match=r"predicted no external set; set tasks\.breast_tumor\.external"):
        statistics(paths, "external")

    # The same predictions as rows `external`; those of the test part become worthless.
    for path in paths:
        file = path.with_name("predictions.parquet")
        table = pd.read_parquet(file)
        test = table[table["subset"] == "test"]
        worthless = test.assign(p_class_0=0.5, p_class_1=0.5)
        other = test.assign(subset="external")
        pd.concat([table[table["subset"] == "val"], worthless, other]).to_parquet(file, index=False)
        external = {"task": "breast_lesion", "patients_known": False, "simulated": True}
        record = {**read_json(path), "external": external, "sha256": sha256(file)}
        path.write_text(json.dumps(record))
    found = statistics(paths, "external")
    same = expected["scores"].columns.drop(["patients", "simulated"])
    pd.testing.assert_frame_equal(found["scores"][same], expected["scores"][same])
    assert found["scores"]["patients"].isna().all()
    assert found["scores"]["simulated"].all()
    pd.testing.assert_frame_equal(
        found["differences"].drop(columns="simulated"), expected["differences"].drop(columns="simulated")
    )
    assert (statistics(paths, "test")["scores"].query("metric == 'auroc'")["mean"] == 0.5).all()
