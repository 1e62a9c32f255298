"""When fine-tuning has converged, on curves whose answer is known."""

import json

import numpy as np
import pandas as pd
import pytest
from urfm.core.errors import UrfmError
from urfm.statistics.convergence import converged_epochs, read_converged


def test_an_exponential_curve_converges_where_its_formula_says():
    """1 - exp(-e / r) reaches 99 % of its value at epoch 200, as good as 1, after r ln 100 epochs."""
    rates = {0: 2.0, 1: 5.0, 2: 12.5}
    history = pd.DataFrame([
        {"seed": seed, "epoch": epoch, "val_f1_macro": 0.7 * (1 - np.exp(-epoch / rate))}
        for seed, rate in rates.items()
        for epoch in range(1, 201)
    ])  # fmt: skip
    found = converged_epochs(history.sample(frac=1, random_state=0))
    assert found.to_dict() == {seed: int(np.ceil(rate * np.log(100))) for seed, rate in rates.items()}


def test_each_seed_is_held_against_its_own_best_and_later_falls_do_not_count():
    history = pd.DataFrame(
        {
            "seed": [0] * 4 + [1] * 4 + [2] * 4,
            "epoch": [1, 2, 3, 4] * 3,
            "val_f1_macro": [0.5, 0.9, 0.6, 0.905, 0.3, 0.31, 0.39, 0.4, *[np.nan] * 4],
        }
    )
    assert converged_epochs(history).to_dict() == {0: 2, 1: 4}  # 0.9 / 0.905 is above 0.99, 0.39 / 0.4 below; no score


def test_a_history_without_scores_is_named(tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps({"model": "m", "task": "t", "share": 100, "simulated": True}))
    pd.DataFrame({"seed": [0], "epoch": [1], "val_f1_macro": [0.5]}).to_csv(tmp_path / "history.csv", index=False)
    assert read_converged([path]).iloc[0].to_dict() == {
        "model": "m", "task": "t", "share": 100, "seed": 0, "epoch": 1, "simulated": True,
    }  # fmt: skip
    pd.DataFrame({"seed": [0], "epoch": [1]}).to_csv(tmp_path / "history.csv", index=False)
    with pytest.raises(UrfmError, match=r"history\.csv: no column val_f1_macro; fine-tune this cell again"):
        read_converged([path])
    assert read_converged([]).empty
