"""The HTML report: whole, readable by a machine, safe, and without errors in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from configurations import load
from matplotlib.figure import Figure
from urfm.core import provenance
from urfm.core.errors import UrfmError
from urfm.plan import settings
from urfm.report import benchmarks, gather
from urfm.report.contents import html, make_table, read_contents
from urfm.report.page import ReportSettings, context, render

HOME = Path(__file__).resolve().parents[3]
PAGES = HOME / "workflow" / "report"
HOSTILE = '<script>alert("x")</script> & <b>bold</b>'


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """The paper's configuration with one simulated data set, as the stage gets it."""
    content = load()
    content["simulation"] = {"busbra": {"patients": 40, "seed": 0}}
    content["data_root"] = "nowhere"
    text = provenance.canonical_json(settings.tables.report(content))
    return ReportSettings.model_validate_json(text).model_dump()


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(4, 2))
    figure.subplots().plot([0, 1], [1, 0])
    figure.savefig(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small results folder: two listed figures, two that are not listed, tables, statistics, an audit, two cells."""
    folder = tmp_path_factory.mktemp("results")
    for name in ("figures/figure_1", "figures/figure_2", "figures/figure_4a", "figures/extra/own", "audit/pairs"):
        picture(folder / f"{name}.png")
    write(folder / "figures/figure_2.csv", "model,mean\nurfm,86.35\n")
    write(folder / "figures/figure_2.pdf", "%PDF-1.4")
    write(folder / "tables/table_1.csv", f'Organ,Images,Note\nThyroid,"1,064",{json.dumps(HOSTILE)[1:-1]!r}\n')
    write(folder / "tables/table_1.md", "**Table 1. Images**\n\n| a |\n\n- a \\<note\\> with a \\| in it\n")
    write(folder / "tables/comparison_with_paper.csv", "quantity,paper,ours\nACC,86.35,0.863512345\n")
    rows = [
        {
            "model": model, "task": task, "share": 100, "metric": metric, "seeds": 2, "mean": value, "sd": 0.0,
            "ci_low": value, "ci_high": value, "boot_low": value - 0.1, "boot_high": value + 0.1,
            "images": 40, "patients": 40, "few_patients": False, "resplit": False, "simulated": True,
        }
        for model, base in (("urfm", 0.8), ("mim_us", 0.7))
        for metric in gather.METRICS
        for task, value in (("breast_tumor", base - 0.1), ("liver_mass", base + 0.1), ("average", base))
    ]  # fmt: skip
    write(folder / "statistics/figure_2/scores.csv", pd.DataFrame(rows).to_csv(index=False))
    write(folder / "statistics/figure_2/differences.csv", "model,task,difference\nmim_us,breast_tumor,0.1\n")
    point = "model,task,sensitivity,specificity\nurfm,breast_tumor,0.875,0.9125\n"
    write(folder / "statistics/figure_2/operating_points.csv", point)
    write(
        folder / "audit/audit.json",
        json.dumps({"images": 1662, "kinds": {"file": 9, "near": 31}, "findings": {"within a data set": 15}}),
    )
    write(folder / "manifests/busbra.json", json.dumps({"dataset": "busbra", "simulated": True}))
    write(folder / "encoders/usfm.json", json.dumps({"model": "usfm", "stand_in": True}))
    write(folder / "pretrain/urfm/history.csv", "epoch,seconds\n1,1800\n2,3600\n")
    for task in ("breast_tumor", "liver_mass"):
        record = {"model": "urfm", "task": task, "seeds": [0, 1], "seconds": 5400}
        write(folder / f"finetune/urfm/{task}/100/cell.json", json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def page(config: dict[str, Any], results: Path) -> str:
    text = render(PAGES, context(config, results, PAGES, results / "report.html"))
    write(results / "report.html", text)
    return text


class Tags(HTMLParser):
    """All tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for name, found in self.tags if name == tag and (value := found.get(attribute)) is not None]


def test_nothing_is_loaded_and_every_link_leads_somewhere(page: str, results: Path) -> None:
    tags = Tags(page)
    assert {name for name, _ in tags.tags} & {"script", "iframe", "object", "embed"} == set()
    assert all(source.startswith("data:image/png;base64,") for source in tags.values("img", "src"))
    assert len(tags.values("img", "src")) == 5
    assert all(len(text) > 8 for text in tags.values("img", "alt"))
    assert not re.search(r"url\(|@import", page)
    anchors = [found["id"] for _, found in tags.tags if "id" in found]
    assert len(anchors) == len(set(anchors))
    for link in tags.values("a", "href"):
        assert link[1:] in anchors if link.startswith("#") else (results / link).is_file(), link


def test_what_is_not_listed_is_shown_and_what_is_missing_is_named(results: Path) -> None:
    sections = read_contents(PAGES, results, results / "report.html")
    names = [item.name for item in sections["results"]]
    assert names.index("figure_4a") == names.index("figure_4") + 1
    assert [item.name for item in sections["further"]] == ["extra/own"]
    found = {item.name for items in sections.values() for item in items if item.found}
    assert found == {
        "figure_1",
        "figure_2",
        "figure_4a",
        "extra/own",
        "table_1",
        "comparison_with_paper",
        "audit_sheet",
    }


def test_every_product_with_a_caption_is_listed() -> None:
    listed = yaml.safe_load((PAGES / "contents.yaml").read_text())
    entries = [entry for section in listed.values() for entry in section]
    names = {entry["name"] for entry in entries} | {entry.get("caption") for entry in entries}
    spoken_of_in_the_template = {"comparison", "scores", "differences", "workflow", "audit_pairs"}
    assert {path.stem for path in PAGES.glob("*.rst")} - names <= spoken_of_in_the_template


def test_the_page_says_what_it_is(page: str) -> None:
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "SIMULATED DATA: demonstration only. The images of 1 of 1 data sets" in words
    assert "taught by such: usfm" in words
    assert "Not built here: Figure 3. External validation (none of its models and tasks is here); External" in words
    assert "80.00 70.00 to 90.00" in words  # the average over tasks, with its interval
    assert "Breast tumor 40 40 70.00 (60.00 to 80.00)" in words
    assert "1,662 images compared with one another: 9 pairs by equal files, 31 pairs by near duplicates." in words
    assert "4.0 h of training" in words  # 3,600 s of pre-training, two cells of 5,400 s
    assert "not stated in the paper" in words
    assert "a <note> with a | in it" in page.replace("&lt;", "<").replace("&gt;", ">")


def test_time_and_memory_of_the_stages(tmp_path: Path) -> None:
    """Of each stage the sum and the longest, and the most memory of a job whose processes Snakemake saw."""
    header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss"

    def measured(name: str, seconds: float, *memory: float | str) -> None:
        rss, pss = memory
        write(tmp_path / "benchmarks" / f"{name}.tsv", f"{header}\n{seconds}\t0:00:01\t{rss}\t9\t9\t{pss}\n")

    measured("finetune/urfm/breast_tumor/100", 60.0, 4000.0, 1000.0)  # four processes share what one has
    measured("finetune/urfm/liver_mass/100", 120.0, 2000.0, 900.0)
    measured("finetune/usfm/liver_mass/100", 30.0, 18.7, 7.5)  # the client of the demo's server alone
    measured("stand_in/usfm/USFM_latest.pth", 1.5, 500.0, 0.0)  # a system that knows no shares
    measured("encoder/urfm", 0.2, "NA", "NA")
    table = benchmarks.jobs(tmp_path)
    assert table.rows == [
        ["stand-ins", "1", "2 s", "2 s", "524.3 MB", "usfm/USFM_latest.pth"],
        ["encoders", "1", "0 s", "0 s", "–", ""],
        ["fine-tuning", "3", "3.5 min", "2.0 min", "1.0 GB", "urfm/breast_tumor/100"],
    ]
    assert benchmarks.jobs(tmp_path / "nowhere").rows == []
    write(tmp_path / "benchmarks" / "images" / "busbra.tsv", header)
    with pytest.raises(UrfmError, match=r"busbra\.tsv: is no benchmark of Snakemake's .*; delete it"):
        benchmarks.jobs(tmp_path)


def test_every_stage_that_is_measured_is_shown() -> None:
    text = "".join(path.read_text() for path in (HOME / "workflow" / "rules").glob("*.smk"))
    folders = set(re.findall(r"<results>/benchmarks/(\w+)/", text))
    assert folders == benchmarks.STAGES.keys()


def test_text_of_files_cannot_become_markup(page: str) -> None:
    assert "alert(" in page
    assert "<script" not in page
    assert "<b>bold" not in page
    assert "<script" not in html(".. raw:: html\n\n   <script>alert(1)</script>\n")
    assert "root:" not in html(".. include:: /etc/passwd\n")


def test_without_any_result_all_is_named(config: dict[str, Any], tmp_path: Path) -> None:
    text = render(PAGES, context(config, tmp_path, PAGES, tmp_path / "report.html"))
    assert "No statistics yet" in text
    assert "Nothing has been trained yet" in text
    assert "Time and memory of the stages" not in text
    assert Tags(text).values("img", "src") == []


def test_averages_have_the_interval_that_there_is() -> None:
    """With a split a seed the corrected one; none over tasks that no statistics averaged; none of too few patients."""
    columns = ["task", "metric", "mean", "nb_low", "nb_high", "boot_low", "boot_high", "few_patients", "resplit"]
    nothing = [float("nan")] * 2
    rows = [["a", "auroc", 0.8, 0.7, 0.9, *nothing, False, True], ["b", "auroc", 0.6, 0.5, 0.7, *nothing, False, True]]
    scores = pd.DataFrame(rows, columns=columns)
    assert gather.cell_text(gather.average(scores, "auroc")) == "70.00"
    assert gather.cell_text(gather.average(scores[:1], "auroc")) == "80.00 (70.00 to 90.00)"
    scores[["resplit", "few_patients"]] = False, True
    assert gather.cell_text(gather.average(scores[:1], "auroc")) == "80.00 (too few patients)"
    scores[["boot_low", "boot_high"]] = 0.75, 0.85
    assert gather.cell_text(gather.average(scores[:1], "auroc")) == "80.00 (75.00 to 85.00)"


def test_tables_are_rounded_and_aligned() -> None:
    table = make_table(["name", "value", "count"], [["a", "0.8612345", "1,064"], ["b 2", "1e-5", "–"]] * 200)
    assert table.rows[0] == ["a", "0.8612", "1,064"]
    assert table.numbers == {1, 2}
    assert (len(table.rows), table.length) == (300, 400)


def test_checklists_are_whole() -> None:
    """CLAIM 2024 has 44 items, TRIPOD+AI 27."""
    checklists = yaml.safe_load((PAGES / "checklists.yaml").read_text())
    assert [len(checklist["items"]) for checklist in checklists] == [44, 27]


def test_a_broken_answer_is_named(config: dict[str, Any], results: Path, tmp_path: Path) -> None:
    pages = Path(shutil.copytree(PAGES, tmp_path / "pages"))
    (pages / "checklists.yaml").write_text("[{name: A, source: B, items: [{asks: C, here: '{{ nothing }}'}]}]")
    with pytest.raises(UrfmError, match="'nothing' is undefined"):
        render(pages, context(config, results, pages, results / "report.html"))


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, urfm.report.page; sys.exit('torch' in sys.modules or 'snakemake' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- In a real browser ------------------------------------------------------------------------------------------

LISTEN = """<script>
window.problems = [];
addEventListener("error", event => problems.push(String(event.message || event.target.outerHTML)), true);
addEventListener("securitypolicyviolation", event => problems.push("blocked: " + event.blockedURI));
</script>"""
TELL = """<script>
addEventListener("load", () => {
  document.documentElement.dataset.told = JSON.stringify({
    problems, width: innerWidth, page: document.documentElement.scrollWidth,
    pictures: [...document.images].map(image => image.naturalWidth),
    loaded: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !name.startsWith("data:")),
  });
});
</script>"""


def in_chromium(page: Path, profile: Path, width: int, *more: str) -> subprocess.CompletedProcess[str]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed: apt-get install chromium")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        "--force-device-scale-factor=1", f"--user-data-dir={profile}", f"--window-size={width},900", *more,
        page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_it_without_errors(page: str, results: Path, tmp_path: Path, width: int) -> None:
    """No error, every picture drawn, nothing fetched, and no line wider than the window (500 is Chromium's least)."""
    watched = page.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{TELL}</body>", 1)
    write(results / "watched.html", watched)
    done = in_chromium(results / "watched.html", tmp_path / "profile", width, "--dump-dom")
    told = json.loads(Tags(done.stdout).values("html", "data-told")[0])
    assert told["problems"] == []
    assert told["loaded"] == []
    assert told["pictures"] == [400, 400, 400, 400, 400]
    assert told["page"] <= told["width"]
    assert "CONSOLE" not in done.stderr
