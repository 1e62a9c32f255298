"""One HTML page that opens offline (stage `report`): pictures and style are inside, PDF and CSV files linked beside it.

Text comes from workflow/report: the template, contents.yaml (which figures and tables, in which order), the captions
(.rst, shared with Snakemake's own report) and checklists.yaml, whose answers are filled from the configuration.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml
from pydantic import Field

from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, write_text
from urfm.core.progress import human_bytes, say
from urfm.doctor.report import DoctorSettings
from urfm.report import benchmarks, gather
from urfm.report.contents import Item, make_table, read_contents

SECTIONS = {
    "summary": "Summary",
    "results": "Results",
    "comparisons": "Comparisons of your own",
    "paper": "Comparison with the paper",
    "statistics": "Statistics",
    "data": "Data",
    "leakage": "Leakage audit",
    "methods": "Methods and settings",
    "cost": "Run time and cost",
    "provenance": "Software and provenance",
    "checklists": "Reporting checklists",
    "further": "Further results",
}


class ReportSettings(DoctorSettings):
    """Settings of the stage: the configuration in force, but what no result depends on."""

    images: dict[str, Any]
    splits: dict[str, Any]
    audit: dict[str, Any]
    finetuning: dict[str, Any]
    seeds: list[int]
    statistics: dict[str, Any]
    left_out: dict[str, str] = Field(default={}, description="why a figure, or a comparison of one's own, is not built")


def context(settings: dict[str, Any], results: Path, pages: Path, output: Path) -> dict[str, Any]:
    """Everything that the template prints."""
    config = {name: section for name, section in settings.items() if name != "left_out"}
    audit = results / "audit" / "audit.json"
    table, hours = gather.cost(results)
    return {
        "config": config,
        "items": read_contents(pages, results, output, gather.own_titles(config)),
        "status": gather.status(config, results),
        "key": gather.key_numbers(config, results),
        "comparisons": gather.comparisons(config, results),
        "left_out": settings.get("left_out", {}),
        "unavailable": gather.unavailable(config),
        "inventory": gather.inventory(config),
        "audit": read_json(audit) if audit.is_file() else None,
        "cost": table,
        "hours": hours,
        "jobs": benchmarks.jobs(results),
        "versions": list(gather.versions()),
        "commit": gather.commit(pages),
        "settings": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100),
        "built": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def render(pages: Path, values: dict[str, Any]) -> str:
    """The page; a name that the template uses and nobody gives is an UrfmError."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pages),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.2f}"
    environment.filters["duration"] = gather.duration
    try:
        checklists = fill(yaml.safe_load((pages / "checklists.yaml").read_text(encoding="utf-8")), environment, values)
        shown = {name: title for name, title in SECTIONS.items() if values["items"].get(name, "always there")}
        page = environment.get_template("report.html.j2").render(values, checklists=checklists, sections=shown)
    except (OSError, yaml.YAMLError, jinja2.TemplateError) as error:
        raise UrfmError(f"{pages}: the report's template or checklists do not work: {error}") from error
    return page.lstrip()


def fill(checklists: list[dict[str, Any]], environment: jinja2.Environment, values: dict[str, Any]) -> list[Any]:
    """The checklists as tables: number, what is asked, the paper's answer, and ours, filled from `values`."""
    columns = ["Item", "Asks for", "In the paper", "In this run"]
    filled = []
    for checklist in checklists:
        rows = []
        for number, item in enumerate(checklist["items"], 1):
            # The page escapes all cells once, so nothing is escaped here.
            answer = environment.overlay(autoescape=False).from_string(item["here"]).render(values)
            rows.append([str(number), item["asks"], item.get("paper", "not stated in the paper"), answer])
        filled.append({**checklist, "table": make_table(columns, rows)})
    return filled


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="One HTML page of all results, which opens offline.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(ReportSettings.model_fields))
    parser.add_argument("--results", type=Path, required=True, help="folder of the results; any part of them will do")
    parser.add_argument("--pages", type=Path, required=True, help="folder of the template, captions and checklists")
    parser.add_argument("--output", type=Path, required=True, help="report.html to write")
    options = parser.parse_args()
    settings = parse_settings(ReportSettings, options.settings)
    values = context(settings.model_dump(), options.results, options.pages, options.output)
    page = render(options.pages, values)
    write_text(options.output, page)
    items: list[Item] = [item for items in values["items"].values() for item in items]
    missing = [item.title for item in items if not item.found]
    say(f"report: {len(items) - len(missing)} figures and tables; not built: {', '.join(missing) or 'none'}")
    say(f"{options.output}: {human_bytes(len(page.encode()))}; open it in a browser")


if __name__ == "__main__":
    run(main)
