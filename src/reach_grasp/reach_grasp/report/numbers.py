# SPDX-License-Identifier: Apache-2.0
"""The numbers of a demo, from what it left in its folder."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from hilserl_core.task import TaskSpec
from reach_grasp.demo.settings import DemoSettings
from reach_grasp.errors import CommandError
from reach_grasp.running.folder import read_history, read_state
from reach_grasp.running.verdicts import verdict_numbers

PACKAGES = ("reach-grasp", "lerobot", "torch", "mujoco", "mink", "numpy", "ros-rclpy", "ros-rmw-fastrtps-cpp", "numba")


class RunSettings(Protocol):
    """The settings that a demo and a rehearsal have in common."""

    seed: int
    demonstrations: int

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % confidence interval of a success rate (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At 0 and at all successes the exact bound is 0 and 1; rounding must not leave it.
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == trials else middle + half)


def evaluation_numbers(episodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Success of the judged episodes with its interval, and ticks of the successful ones (None when there are none).

    success_rate is None when nobody judged any episode: then nothing is known.
    """
    judged = [episode for episode in episodes if episode.get("judged", True)]
    won = [episode["ticks"] for episode in judged if episode["success"]]
    low, high = wilson(len(won), len(judged))
    return {
        "episodes": len(episodes),
        "judged": len(judged),
        "unjudged": len(episodes) - len(judged),
        "successes": len(won),
        "success_rate": len(won) / len(judged) if judged else None,
        "success_low": low,
        "success_high": high,
        "success_ticks_mean": sum(won) / len(won) if won else None,
        "success_ticks_median": float(sorted(won)[len(won) // 2]) if won else None,
    }


def versions() -> dict[str, str]:
    """Of everything that matters for a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What the run had to work with."""
    names = [
        line.split(":", 1)[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else ())
        if line.startswith("model name")
    ]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": names[0] if names else platform.machine(), "cores": usable, "system": platform.system()}


def collect(folder: Path) -> dict[str, Any]:
    """report.json of a demo folder, as a dictionary. Raises CommandError when its evaluation is not finished."""
    state = read_state(folder)
    if state is None:
        raise CommandError(f"{folder} holds no demo; run reach-grasp demo first or name its folder")
    if "evaluation" not in state.get("done", []):
        raise CommandError(f"the demo in {folder} is not finished; run it again with the same settings and it goes on")
    settings = DemoSettings(**state["settings"])
    return run_numbers(folder, state, settings) | {
        "driver": settings.driver,
        "classifier": classifier_numbers(state, read_history(folder, "verdicts")),
    }


def run_numbers(folder: Path, state: dict[str, Any], settings: RunSettings) -> dict[str, Any]:
    """Numbers of a run in a folder that are the same for a demo and a rehearsal, as JSON types. state: of that folder."""
    runs = {name: read_history(folder, f"evaluation_{name}") for name in ("imitation", "final")}
    final, imitation = evaluation_numbers(runs["final"]), evaluation_numbers(runs["imitation"])
    actor, history = state.get("actor", {}), read_history(folder, "learner")
    learner = history[-1] if history else {}
    episodes = read_history(folder, "episodes")
    training = [episode for episode in episodes if episode["mode"] == "training"]
    taken = [episode for episode in episodes if episode["mode"] == "demonstration"]
    phases, steps = state["phases"], int(actor.get("steps", 0))
    updates = int(learner.get("optimization_step", 0))
    seconds = phases.get("training", 0.0)
    ratio = None
    if final["success_ticks_mean"] and imitation["success_ticks_mean"]:
        ratio = final["success_ticks_mean"] / imitation["success_ticks_mean"]
    return {
        "seed": settings.seed,
        "success_rate": final["success_rate"],
        "success_interval": [final["success_low"], final["success_high"]],
        "eval_episodes": final["episodes"],
        "eval_unjudged": final["unjudged"],
        "robot_minutes": steps / TaskSpec().fps / 60.0,
        "wall_minutes": sum(phases.values()) / 60.0,
        "env_steps": steps,
        "episodes": int(actor.get("episodes_done", len(training))),
        "demonstrations": settings.demonstrations,
        "demonstration_attempts": max(len(taken), settings.demonstrations),
        "demonstration_steps": sum(episode["ticks"] for episode in taken),
        "interventions": int(actor.get("interventions", 0)),
        "intervention_rate": int(actor.get("interventions", 0)) / steps if steps else 0.0,
        "updates": updates,
        "updates_per_second": updates / seconds if seconds else 0.0,
        "ticks_per_second": steps / seconds if seconds else 0.0,
        "steps_sent": int(actor.get("sequence", 0)),
        "steps_resent": int(actor.get("resent", 0)),
        "steps_received": int(learner.get("steps_received", 0)),
        "steps_duplicated": int(learner.get("steps_duplicated", 0)),
        "policy_versions_published": int(learner.get("policy_version", 0)),
        "policy_versions_applied": int(actor.get("policy_versions_applied", 0)),
        "learner_rss_mb": round(state.get("learner_rss_mb", 0.0), 1),
        "replay_transitions": int(learner.get("replay_size", 0)),
        "bc_only": imitation,
        "final": final,
        "success_ticks": final["success_ticks_mean"],
        "bc_success_ticks": imitation["success_ticks_mean"],
        "ticks_ratio": ratio,
        "dataset": state.get("dataset", {}),
        "phase_minutes": {name: value / 60.0 for name, value in phases.items()},
        "sittings": state.get("sittings", 1),
        "settings": settings.as_dict(),
        "run_id": actor.get("run_id", ""),
        "machine": machine(),
        "versions": versions(),
        "evaluation": {name: [_short(episode) for episode in found] for name, found in runs.items()},
    }


def classifier_numbers(state: dict[str, Any], verdicts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """How good the reward classifier was on held-out episodes, and in training; None without one."""
    return {**state["classifier"], **verdict_numbers(verdicts)} if "classifier" in state else None


def _short(episode: dict[str, Any]) -> dict[str, Any]:
    return {name: episode[name] for name in ("number", "seed", "success", "ticks")} | {"judged": episode.get("judged", True)}
