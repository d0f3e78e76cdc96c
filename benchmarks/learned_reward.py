# SPDX-License-Identifier: Apache-2.0
"""Training on the classifier's reward against training on the simulator's: whole demos, judged on the same fresh worlds.

python -m benchmarks.learned_reward --seeds 0 1 2 --episodes 200; a demo that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from reach_grasp.report.numbers import wilson

REWARDS = ("simulation", "classifier")


def main() -> int:
    """Run what is missing, print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=200, help="Of evaluation, for each demo.")
    parser.add_argument("--output", type=Path, default=Path("outputs/learned_reward"), help="Folder of the demos.")
    options = parser.parse_args()
    reports: dict[str, list[dict[str, Any]]] = {reward: [] for reward in REWARDS}
    for seed in options.seeds:
        for reward in REWARDS:
            reports[reward].append(report_of(options.output / f"{reward}-{seed}", seed, reward, options.episodes))
    found = compare(reports)
    (options.output / "learned_reward.json").write_text(json.dumps(found, indent=1) + "\n")
    print(text(found))
    return 0


def report_of(folder: Path, seed: int, reward: str, episodes: int) -> dict[str, Any]:
    """report.json of the demo in a folder, which is run or gone on with first where there is none."""
    file = folder / "report.json"
    if not file.is_file():
        words = ["--seed", seed, "--reward", reward, "--eval-episodes", episodes, "--output", folder]
        subprocess.run([sys.executable, "-m", "reach_grasp.command", "demo", *map(str, words)], check=True)
    report = json.loads(file.read_text())
    wanted = {"seed": seed, "reward": reward, "eval_episodes": episodes}
    if {name: report["settings"][name] for name in wanted} != wanted:
        raise SystemExit(f"{folder} holds a demo of other settings: name another --output")
    return report


def compare(reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The difference in success over the same worlds, and the classifier's errors in training, over all seeds."""
    pairs = [
        (theirs["success"], ours["success"])
        for simulation, classifier in zip(*(reports[reward] for reward in REWARDS), strict=True)
        for theirs, ours in zip(*(report["evaluation"]["final"] for report in (simulation, classifier)), strict=True)
    ]
    low, difference, high = paired_interval(pairs)
    judged = [report["classifier"] for report in reports["classifier"]]
    episodes, false = (sum(item[name] for item in judged) for name in ("judged_episodes", "false_successes"))
    missed = sum(item["missed_successes"] for item in judged)
    columns = ("success_rate", "wall_minutes", "ticks_ratio")
    return {
        "demos": {
            reward: [{name: report[name] for name in ("seed", *columns)} for report in reports[reward]] for reward in REWARDS
        },
        "episodes": len(pairs),
        "successes": {reward: sum(pair[index] for pair in pairs) for index, reward in enumerate(REWARDS)},
        "difference": difference,
        "difference_interval": [low, high],
        "classifier": judged,
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
    for reward in REWARDS:
        rates = ", ".join(f"seed {demo['seed']} {100 * demo['success_rate']:.1f} %" for demo in found["demos"][reward])
        lines.append(f"{reward:<11}{found['successes'][reward]} of {found['episodes']} ({rates})")
    low, high = (100 * value for value in found["difference_interval"])
    lines.append(f"difference {100 * found['difference']:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}")
    low, high = (100 * value for value in found["false_success_interval"])
    lines.append(
        f"false success in {found['false_successes']} of {found['training_episodes']} training episodes = "
        f"{100 * found['false_success_rate']:.2f} % ({low:.2f} to {high:.2f}), missed {found['missed_successes']}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
