"""Kill everything at random and see whether anything is lost: `python -m tests.faults --kills 200 --output table.json`.

The smallest workflow runs once undisturbed. Then jobs of all stages are killed with SIGKILL, the process group or the
main process alone, at random times and just before random file operations (hashing and writing as often as others),
and Snakemake itself, alone or with all that it has started. Each is started again, and must end with the same bits,
nothing left behind and no process alive. The exit code is 1 if anything is not so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.jobs import House
from tests.faults.processes import import_libraries
from tests.faults.trials import MAIN, SNAKEMAKE, SNAKEMAKE_GROUP, WHOLE, Bench, Trial


def table(trials: list[Trial]) -> str:
    """A line a rule: how often what was killed, and how often something was wrong."""
    columns = [WHOLE, MAIN, SNAKEMAKE, SNAKEMAKE_GROUP]
    head = ["rule", "kills", *columns, "hashing", "writing", "longest until all had ended", "faults"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    groups = {rule: [trial for trial in trials if trial.rule == rule] for rule in dict.fromkeys(t.rule for t in trials)}
    for rule, own in [*groups.items(), ("all", trials)]:
        killed, moments = Counter(t.killed for t in own), Counter(t.moment for t in own)
        longest = max((t.orphans_seconds for t in own), default=0)
        cells = [rule, len(own), *(killed[c] for c in columns), moments["hashing"], moments["writing"]]
        cells += [f"{longest:.1f} s", sum(bool(t.faults) for t in own)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    parser.add_argument("--snakemake", type=float, default=0.15, help="share of the kills that hit Snakemake itself")
    parser.add_argument("--targets", nargs="*", default=[], help="files of the smallest workflow; everything if none")
    parser.add_argument("--rules", nargs="*", help="rules whose jobs are killed; all if not given")
    parser.add_argument("--output", type=Path, help="JSON file of all kills, written after each")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the runs")
    arguments = parser.parse_args()

    place = Path(tempfile.mkdtemp(prefix="urfm-faults-"))
    import_libraries()
    house = House(place / "house")
    bench = Bench(house, house.jobs(*arguments.targets), arguments.seed)
    rules = list(dict.fromkeys(job.rule for job in bench.jobs))
    if arguments.rules:
        rules = [rule for rule in rules if rule in arguments.rules]
    print(f"{len(bench.jobs)} jobs of {len(rules)} rules in {sum(bench.times.values()):.0f} s undisturbed", flush=True)

    trials: list[Trial] = []
    of_snakemake = round(arguments.kills * arguments.snakemake)
    while len(trials) < arguments.kills:
        number = bench.choose(rules, len(trials))
        if len(trials) < arguments.kills - of_snakemake:
            trial = bench.stage_trial(number, (WHOLE, MAIN)[len(trials) // len(rules) % 2])
        else:
            trial = bench.snakemake_trial(number, bench.random.choice([SNAKEMAKE, SNAKEMAKE_GROUP]))
        if trial is None:  # it had ended before the moment
            continue
        trials.append(trial)
        faults = "; ".join(trial.faults) or "well"
        print(f"{len(trials)}/{arguments.kills} {trial.rule}, {trial.killed}, {trial.place}: {faults}", flush=True)
        if arguments.output:
            arguments.output.write_text(json.dumps([dataclasses.asdict(trial) for trial in trials], indent=1))
    print(table(trials))
    if arguments.keep:
        print(f"kept: {place}")
    else:
        shutil.rmtree(place)
    sys.exit(any(trial.faults for trial in trials))


if __name__ == "__main__":
    main()
