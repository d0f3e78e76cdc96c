# SPDX-License-Identifier: Apache-2.0
"""Whole demos that differ in one setting, judged on the same fresh worlds: the classifier's reward or the simulator's, the
real arm's driver on an emulated bus or none.

python -m benchmarks.paired --compare driver --seeds 0 1 2 --episodes 200; a demo that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from reach_grasp.demo.settings import DemoSettings
from reach_grasp.report.numbers import wilson

COMPARISONS = {"reward": ("simulation", "classifier"), "driver": ("none", "bus")}
"""The setting that differs, and its two values: the difference is the second's less the first's."""


def main() -> int:
    """Run what is missing, print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", choices=COMPARISONS, default="reward", help="Setting of the demo that differs.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=200, help="Of evaluation, for each demo.")
    parser.add_argument("--output", type=Path, help="Folder of the demos <value>-<seed>; default outputs/paired_<setting>.")
    options = parser.parse_args()
    output = options.output or Path(f"outputs/paired_{options.compare}")
    values = COMPARISONS[options.compare]
    reports: dict[str, list[dict[str, Any]]] = {value: [] for value in values}
    for seed in options.seeds:
        for value in values:
            settings = DemoSettings(seed=seed, eval_episodes=options.episodes, **{options.compare: value})
            reports[value].append(report_of(output / f"{value}-{seed}", settings))
    found = compare(reports)
    (output / f"paired_{options.compare}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(text(found))
    return 0


def report_of(folder: Path, settings: DemoSettings) -> dict[str, Any]:
    """report.json of the demo in a folder, which is run or gone on with first where there is none.

    Raises SystemExit when the demo there has other settings.
    """
    file, wanted = folder / "report.json", settings.as_dict()
    if not file.is_file():
        words = [word for name, value in wanted.items() if value != "" for word in (f"--{name.replace('_', '-')}", str(value))]
        subprocess.run([sys.executable, "-m", "reach_grasp.command", "demo", *words, "--output", str(folder)], check=True)
    report = json.loads(file.read_text())
    if report["settings"] != wanted:
        raise SystemExit(f"{folder} holds a demo of other settings: name another --output")
    return report


def compare(reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The difference in success over the same worlds, and the classifiers' errors in training, over all seeds.

    reports: of both values of the setting, the one to compare with first, seed by seed.
    """
    pairs = [
        (first["success"], second["success"])
        for two in zip(*reports.values(), strict=True)
        for first, second in zip(*(report["evaluation"]["final"] for report in two), strict=True)
    ]
    low, difference, high = paired_interval(pairs)
    columns = ("seed", "success_rate", "wall_minutes", "ticks_ratio")
    return {
        "demos": {value: [{name: report[name] for name in columns} for report in own] for value, own in reports.items()},
        "episodes": len(pairs),
        "successes": {value: sum(pair[index] for pair in pairs) for index, value in enumerate(reports)},
        "difference": difference,
        "difference_interval": [low, high],
        "classifiers": {value: judged for value, own in reports.items() if (judged := classifiers(own))},
    }


def classifiers(reports: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The errors in training of the classifiers of some demos; None where these had none."""
    judged = [report["classifier"] for report in reports if report["classifier"]]
    if not judged:
        return None
    episodes, false, missed = (
        sum(item[name] for item in judged) for name in ("judged_episodes", "false_successes", "missed_successes")
    )
    return {
        "demos": judged,
        "training_episodes": episodes,
        "false_successes": false,
        "false_success_rate": false / episodes if episodes else 0.0,
        "false_success_interval": wilson(false, episodes),
        "missed_successes": missed,
    }


def paired_interval(pairs: list[tuple[bool, bool]], z: float = 1.959964) -> tuple[float, float, float]:
    """Lower bound, difference (second less first) and upper bound of the 95 % interval for paired proportions.

    Wald's interval with half a pair added to each of the four cells (Agresti and Min 2005).
    """
    lost, won = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    count = len(pairs) + 2
    middle = (won - lost) / count
    half = z * math.sqrt(max(0.0, (won + lost + 1) - (won - lost) ** 2 / count)) / count
    return middle - half, (won - lost) / len(pairs) if pairs else 0.0, middle + half


def text(found: dict[str, Any]) -> str:
    """For people."""
    lines = []
    for value, demos in found["demos"].items():
        rates = ", ".join(f"seed {demo['seed']} {100 * demo['success_rate']:.1f} %" for demo in demos)
        lines.append(f"{value:<11}{found['successes'][value]} of {found['episodes']} ({rates})")
    low, high = (100 * bound for bound in found["difference_interval"])
    lines.append(f"difference {100 * found['difference']:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}")
    for value, judged in found["classifiers"].items():
        low, high = (100 * bound for bound in judged["false_success_interval"])
        lines.append(
            f"{value:<11}false success in {judged['false_successes']} of {judged['training_episodes']} training episodes = "
            f"{100 * judged['false_success_rate']:.2f} % ({low:.2f} to {high:.2f}), missed {judged['missed_successes']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
