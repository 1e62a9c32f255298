"""The benchmark suite's own sums, on work that is counted instead of timed; nothing here depends on the machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.benchmarks.suite import __main__ as command
from tests.benchmarks.suite import harness
from tests.benchmarks.suite.harness import Result, take_turns, timed

HOME = Path(__file__).resolve().parents[2]


class Counter:
    """A clock that goes on by what work says it costs, and remembers who worked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def work(self, name: str, cost: float) -> None:
        self.now += cost
        self.calls.append(name)

    @property
    def measure(self) -> Callable[[Callable[[], object]], float]:
        return partial(timed, clock=lambda: self.now)


def test_twice_the_work_is_a_ratio_of_two() -> None:
    """On a machine that becomes slower all the time, once and twice the same function."""
    counter = Counter()

    def once() -> None:
        counter.work("once", 1 + 0.01 * len(counter.calls))

    def twice() -> None:
        once()
        once()

    amounts = take_turns({"urfm": once, "other": twice}, rounds=10, measure=counter.measure)
    result = Result("work", "nothing", "calls/s", amounts, size=1)
    middle, low, high = result.ratio("other")
    assert low <= 2 <= high
    assert middle == pytest.approx(2, rel=0.02)
    assert Result("work", "nothing", "s", amounts).ratio("other")[0] == pytest.approx(1 / 2, rel=0.02)


def test_sides_take_turns_back_and_forth_and_warming_up_does_not_count() -> None:
    counter = Counter()
    sides = {name: partial(counter.work, name, cost) for name, cost in (("a", 1), ("b", 2), ("c", 3))}
    amounts = take_turns(sides, rounds=3, warm_up=1, measure=counter.measure)
    assert "".join(counter.calls) == "abc" + "cba" + "abc" + "cba"
    assert amounts == {"a": [1] * 3, "b": [2] * 3, "c": [3] * 3}


RATES = Result("crops", "set", "images/s", {"urfm": [1, 2, 4], "a": [3, 4, 16], "b": [1, 1, 1]}, 8, {"a": 3, "b": 2})
SECONDS = Result("plan", "jobs", "s", {"urfm": [2.0, 2.6], "bare": [2.0, 2.0]}, bars={"bare": 1.2})


def test_ratios_are_of_rounds_and_bars_of_their_median() -> None:
    """By hand: 3, 2 and 4 times as fast as a; 1, 1/2 and 1/4 of b. Seconds are better when there are fewer."""
    assert RATES.ratio("a") == (3, 2, 4)
    assert RATES.ratio("b") == (0.5, 0.25, 1)
    assert (RATES.shown("urfm"), RATES.shown("a")) == (4, 2)
    assert (RATES.met("a"), RATES.met("b")) == (True, False)
    assert SECONDS.ratio("bare") == pytest.approx((1.15, 1, 1.3))
    assert SECONDS.met("bare")
    assert Result("plan", "jobs", "s", SECONDS.amounts, bars={"bare": 1.1}).met("bare") is False


def test_a_file_holds_what_was_measured_and_the_page_what_follows() -> None:
    content = json.loads(json.dumps(harness.to_json({"processor": "P"}, {"loader": [RATES], "plan": [SECONDS]})))
    assert harness.from_json(content) == {"loader": [RATES], "plan": [SECONDS]}
    made = harness.block(content, command.TITLES)
    assert "| crops | set | images/s | 4 | a | 2 | 3.00 (2.00–4.00) | ≥ 3, met |" in made
    assert "| crops | set | images/s | 4 | b | 8 | 0.50 (0.25–1.00) | ≥ 2, not met |" in made
    assert "| plan | jobs | s | 2.3 | bare | 2 | 1.15 (1.00–1.30) | ≤ 1.2, met |" in made
    page = f"before\n{harness.BEGIN}\nold\n{harness.END}\nafter\n"
    assert harness.put_block(page, made) == f"before\n{made}\nafter\n"
    with pytest.raises(ValueError, match="the page has no"):
        harness.put_block("before", made)


def test_two_runs_disagree_where_their_ranges_do_not_meet() -> None:
    first = harness.to_json({}, {"loader": [RATES]})
    near, far = (Result("crops", "set", "images/s", {"urfm": [1.0], "a": [times]}, 8) for times in (3.9, 4.1))
    assert harness.disagreements(first, harness.to_json({}, {"loader": [near]})) == []
    (found,) = harness.disagreements(first, harness.to_json({}, {"loader": [far]}))
    assert "beside a: 2.00 to 4.00, then 4.10 to 4.10" in found


def test_the_page_shows_what_the_file_says() -> None:
    """docs/benchmarks.md between its marks is made from docs/benchmarks.json and nothing else."""
    content = json.loads((HOME / "docs" / "benchmarks.json").read_text())
    page = (HOME / "docs" / "benchmarks.md").read_text()
    assert harness.block(content, command.TITLES) in page
    assert page.count(harness.BEGIN) == page.count(harness.END) == 1


def test_writing_replaces_the_groups_that_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Page\n\n{harness.BEGIN}\n{harness.END}\n")
    before = harness.to_json({"processor": "P"}, {"plan": [SECONDS], "loader": [SECONDS]})
    page.with_suffix(".json").write_text(json.dumps(before))
    monkeypatch.setattr(command, "DOCS", page)
    command.write_docs(harness.to_json({"processor": "P"}, {"loader": [RATES]}))
    content = json.loads(page.with_suffix(".json").read_text())
    assert harness.from_json(content) == {"loader": [RATES], "plan": [SECONDS]}
    assert page.read_text() == f"# Page\n\n{harness.block(content, command.TITLES)}\n"
    command.write_docs(harness.to_json({"processor": "Q"}, {"store": [RATES]}))  # what P took says nothing of Q
    assert harness.from_json(json.loads(page.with_suffix(".json").read_text())) == {"store": [RATES]}


def test_every_group_is_there() -> None:
    folder = HOME / "tests" / "benchmarks" / "suite"
    assert all("def results(bench: Bench)" in (folder / f"{name}.py").read_text() for name in command.TITLES)


def test_the_command_runs_what_is_named_or_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[list[str], bool]] = []

    def run(groups: list[str], quick: bool) -> tuple[dict[str, list[Result]], list[str]]:
        asked.append((groups, quick))
        return {"loader": [RATES]}, ["plan"] if quick else []

    def bench(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["bench", *arguments, "--output", str(tmp_path / "out.json")])
        command.main()

    monkeypatch.setattr(command, "run", run)
    bench()
    bench("loader", "store", "--against", str(tmp_path / "out.json"))
    assert "All ratios agree" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="failed: plan"):
        bench("--quick")
    assert asked == [(list(command.TITLES), False), (["loader", "store"], False), (list(command.TITLES), True)]
    assert harness.from_json(json.loads((tmp_path / "out.json").read_text())) == {"loader": [RATES]}
    for wrong in (["loaders"], ["--quick", "--write"]):
        with pytest.raises(SystemExit, match="2"):
            bench(*wrong)
    assert "no group loaders; there are store, loader" in capsys.readouterr().err
