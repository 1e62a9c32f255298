"""What is left out where there is one task, one model, or nothing; and that it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from configurations import PAPER, overlaid, profile
from urfm.plan import grid, products
from urfm.plan.settings import figures, tables

# One's own data set, and two encoders that need no file.
ALONE = """
datasets:
  my_set: {reader: generic, folder: MySet, organ: breast, source: My hospital}
tasks:
  my_task: {title: My task, dataset: my_set, group: superficial, classes: {benign: Benign, malignant: Malignant}}
models:
  fresh: {title: Fresh, checkpoint: {format: random, architecture: vit_tiny_patch16_224}}
  other: {title: Other, checkpoint: {format: random, architecture: vit_tiny_patch16_224}}
comparisons:
  figure_2: {models: [fresh, other], lines: [], reference: fresh, tasks: [my_task]}
"""


def alone(folder: Path, **changes: Any) -> dict[str, Any]:
    """The configuration beside a data root that holds MySet and nothing else; changes are of comparisons."""
    (folder / "MySet").mkdir(exist_ok=True)
    config = overlaid(ALONE)
    config["data_root"], config["checkpoint_root"] = str(folder), str(folder / "checkpoints")
    for name, change in changes.items():
        config["comparisons"][name] |= change
    return config


def test_nothing_is_left_out_of_the_paper_and_the_demo() -> None:
    assert products.left_out(PAPER) == {}
    assert products.left_out(profile("demo")) == {}


def test_one_task_and_two_models(tmp_path: Path) -> None:
    config = alone(tmp_path)
    there = [name for name in products.NEEDS if products.missing(config, name) is None]
    of_two_classes = ["decision_curves", "operating_points"]
    assert there == ["figure_1", "figure_2", "calibration", *of_two_classes, "audit", "duplicates_sheet"]
    assert "left out: critical_difference: needs two models and two tasks (here: 2 models, 1 task)" in products.summary(
        config
    )
    assert tables.report(config)["left_out"]["critical_difference"] == "needs two models and two tasks"
    said = "\n".join(products.summary(config))
    assert all(name in said for name in products.NEEDS if name not in there)


def test_ranks_need_two_of_each(tmp_path: Path) -> None:
    tasks = {"tasks": ["my_task", "breast_tumor"]}
    one_model = alone(tmp_path, figure_2={"models": ["fresh"], **tasks})
    assert products.missing(one_model, "critical_difference")
    assert products.missing(one_model, "figure_2") is None
    assert products.missing(alone(tmp_path, figure_2=tasks), "critical_difference")  # the other's data are not here
    (tmp_path / "BUSBRA").mkdir()
    assert products.missing(alone(tmp_path, figure_2=tasks), "critical_difference") is None
    gap = products.missing(alone(tmp_path, figure_2={"models": ["fresh"], **tasks}), "critical_difference")
    assert gap is not None
    assert gap.detail == "here: 1 model, 2 tasks"


def test_without_data_the_tables_are_left(tmp_path: Path) -> None:
    config = alone(tmp_path)
    (tmp_path / "MySet").rmdir()
    assert set(products.left_out(config)) == {*products.NEEDS, *grid.own_comparisons(config)}


def test_a_size_needs_another_to_compare_with(tmp_path: Path) -> None:
    """Panels A and B of figure 8; C draws one model."""
    one = {"models": ["fresh"], "reference": "fresh", "tasks": ["my_task"]}
    config = alone(tmp_path, figure_8a=one, figure_8b=one)
    gap = products.missing(config, "figure_8")
    assert gap is not None
    assert gap.reason == "needs two models that differ in size"
    config = alone(tmp_path, figure_8a=one, figure_8b=one | {"models": ["fresh", "other"]}, figure_8c=one)
    assert products.missing(config, "figure_8") is None
    assert grid.drawn(config, "figure_8") == ["figure_8b", "figure_8c"]


@pytest.mark.parametrize(
    ("models", "tasks", "drawn"),
    [
        (["mim_imagenet", "urfm_breast"], ["breast_tumor"], True),
        (["mim_imagenet", "urfm_breast"], ["liver_mass"], True),  # B and C: another organ's model
        (["mim_imagenet"], ["breast_tumor"], False),
        (["urfm_breast"], ["breast_tumor"], True),  # A, without the reference
        (["urfm_breast"], ["liver_mass"], False),
    ],
)
def test_figure_5_needs_a_model_of_an_organ(models: list[str], tasks: list[str], drawn: bool) -> None:
    config = profile("demo")
    config["comparisons"]["figure_5"] |= {"models": models, "reference": "mim_imagenet", "tasks": tasks}
    assert (products.missing(config, "figure_5") is None) == drawn


def test_figure_7_tells_two_data_sets_apart_or_classes(tmp_path: Path) -> None:
    config = alone(tmp_path)
    config["figures"]["figure_7"] |= {"before": "fresh", "tasks": ["my_task"]}
    assert grid.embedded_models(config) == {}
    assert products.missing(config, "figure_7")  # one data set, and nothing that is pre-trained here
    (tmp_path / "BUSBRA").mkdir()
    config["figures"]["figure_7"]["tasks"] += ["breast_tumor"]
    assert grid.embedded_models(config) == {"before": "fresh"}
    assert products.missing(config, "figure_7") is None


def test_probes_need_a_run(tmp_path: Path) -> None:
    """A published encoder alone has no epochs to draw."""
    (tmp_path / "BUSBRA").mkdir()
    config = alone(tmp_path)
    config["probes"]["models"] = ["fresh"]
    assert (grid.probed_models(config), grid.probed_runs(config)) == (["fresh"], [])
    assert products.missing(config, "probe_curves")


def test_what_an_overlay_takes_out_is_not_announced() -> None:
    config = profile("demo")
    for item in config["comparisons"].values():
        item["tasks"] = []
    config["figures"]["figure_6"]["tasks"] = config["figures"]["figure_7"]["tasks"] = []
    config["probes"]["runs"] = []
    left_out = products.left_out(config)
    assert {"figure_2", "figure_6", "figure_7", "figure_8", "critical_difference", "probe_curves"} <= left_out.keys()
    assert {gap.reason for name, gap in left_out.items() if name.startswith("figure")} == {products.UNWANTED}
    assert products.summary(config) == []


def test_a_comparison_of_ones_own(tmp_path: Path) -> None:
    overlay = yaml.safe_load(ALONE)
    overlay["comparisons"] = {
        "mine": {"models": ["fresh"], "reference": "fresh", "tasks": ["my_task"], "shares": [100]},
        "absent": {"models": ["usfm"], "reference": "usfm", "tasks": ["my_task"], "shares": [100]},
    }
    config = overlaid(yaml.safe_dump(overlay)) | {"data_root": str(tmp_path), "checkpoint_root": str(tmp_path)}
    (tmp_path / "MySet").mkdir()
    left_out = products.left_out(config)
    assert "mine" not in left_out
    assert left_out["absent"].reason == "none of its models and tasks is here"


def test_panels_of_one_model_say_what_they_need(tmp_path: Path) -> None:
    from urfm.figures.read import Comparison, absence

    config = alone(tmp_path, figure_8a={"models": ["fresh"], "reference": "fresh", "tasks": ["my_task"]})
    item = Comparison.model_validate(dict(figures.comparisons(config, "figure_8")["comparisons"])["figure_8a"])
    assert absence(item) == "Needs two models; here is Fresh."
