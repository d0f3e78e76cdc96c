# SPDX-License-Identifier: Apache-2.0
"""report.json and report.html of a rehearsal: the demo's numbers, with the twin's truth for success, and the station's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reach_grasp.errors import CommandError
from reach_grasp.rehearsal.lag import motion_lag_s
from reach_grasp.rehearsal.settings import RehearsalSettings
from reach_grasp.rehearsal.stages import Plan
from reach_grasp.rehearsal.truth import truth_numbers
from reach_grasp.report.numbers import run_numbers
from reach_grasp.report.page import percent, write_page
from reach_grasp.running.folder import read_history, read_state

LEAST_REAL_TIME_FACTOR = 0.98


def write_report(folder: Path) -> Path:
    """Write report.json and report.html into a rehearsal's folder; the path of the page. Raises CommandError."""
    return write_page(folder, collect(folder))


def collect(folder: Path) -> dict[str, Any]:
    """report.json of a rehearsal, as a dictionary. Raises CommandError when its evaluation is not finished."""
    state = read_state(folder, RehearsalSettings.kind)
    if state is None or "evaluation" not in state.get("done", []):
        raise CommandError(f"{folder} holds no finished rehearsal; run reach-grasp rehearse again and it goes on")
    settings = RehearsalSettings(**state["settings"])
    truths = read_history(folder, "truths")
    numbers = run_numbers(folder, _with_dataset(state, Plan(folder, settings)), settings)
    classifier = _classifier(Plan(folder, settings).classifier)
    trained, evaluated = (_of(truths, stage) for stage in ("training", "evaluation"))
    station = _station(state, folder, settings)
    return numbers | {
        "driver": "station",
        "classifier": classifier | truth_numbers(trained),
        "evaluation_verdicts": truth_numbers(evaluated),
        "station": station | {"figures": _figures(station, truth_numbers(evaluated))},
    }


def _of(truths: Sequence[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    kept = [{key: value for key, value in record.items() if key != "stage"} for record in truths if record["stage"] == stage]
    return kept


def _with_dataset(state: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """The state with what the labelled dataset holds."""
    from dataset_recorder.dataset import column, open_dataset

    dataset = open_dataset(plan.folder / "labelled")
    rewards = [column(dataset.rows(episode), "next.reward").reshape(-1) for episode in dataset.episodes]
    frames = int(sum(len(found) for found in rewards))
    seconds = next((c["seconds"] for c in read_history(plan.folder, "commands") if " convert " in c["command"]), None)
    return state | {
        "dataset": {
            "episodes": len(dataset.episodes),
            "frames": frames,
            "positive": int(sum((found > 0.5).sum() for found in rewards)),
            "convert_frames_per_second": frames / seconds if seconds else None,
        }
    }


def _classifier(folder: Path) -> dict[str, Any]:
    """Scores of the classifier on held-out episodes. Raises CommandError when its folder cannot be read."""
    try:
        facts = json.loads((folder / "classifier.json").read_text())
        ours, head, names = facts["metrics"], facts["head_only"], ("accuracy", "precision", "recall")
        return {
            **{f"heldout_{name}": ours[name] for name in names},
            "heldout_frames": ours["frames"],
            "threshold": ours["threshold"],
            "target_reached": ours["target_reached"],
            "head_only": {name: head[name] for name in (*names, "threshold")},
            "train_seconds": ours.get("train_seconds"),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{folder} holds no classifier's figures: {error}") from error


def _station(state: Mapping[str, Any], folder: Path, settings: RehearsalSettings) -> dict[str, Any]:
    """Figures of the twin's time, and of what its cameras and the product's nodes lost."""
    stages = state.get("twin", {})
    last = list(stages.values())[-1] if stages else {}
    cameras = {
        name: {
            "pictures": sum(found["cameras"][name]["pictures"] for found in stages.values()),
            "late": sum(found["cameras"][name]["late"] for found in stages.values()),
        }
        for name in last.get("cameras", {})
    }
    metrics = [record["metrics"] for record in read_history(folder, "learner")]
    given_up = max((found.get("updates_given_up", 0.0) for found in metrics), default=0.0)
    lag = motion_lag_s(Plan(folder, settings).bags)
    return {
        "real_time_factor": min((found["real_time_factor"] for found in stages.values()), default=None),
        "late_steps": sum(found["late_steps"] for found in stages.values()),
        "steps": sum(found["steps"] for found in stages.values()),
        "cameras": cameras,
        "updates_given_up": given_up,
        "lag_s": lag,
        "diagnostics": state.get("diagnostics", {}),
        "imperfections": _flat(last.get("settings", {})),
    }


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names; the simulated world's own are left out."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.") if name != "world" else {}
        else:
            found[before + name] = value
    return found


def _figures(station: Mapping[str, Any], verdicts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Title and value of each figure, for the page."""
    lag = station["lag_s"]
    figures = [
        ("Real-time factor, worst stage", f"{station['real_time_factor']:.3f}" if station["real_time_factor"] else "–"),
        ("Steps of the world that began late", f"{station['late_steps']} of {station['steps']}"),
        ("Motion behind its command", f"{1000 * lag:.0f} ms" if lag is not None else "–"),
        ("Updates given up", f"{station['updates_given_up']:.0f}"),
        ("False success in evaluation", f"{verdicts['false_successes']} of {verdicts['judged_episodes']}"),
        ("Missed success in evaluation", f"{verdicts['missed_successes']} = {percent(verdicts['missed_success_rate'])}"),
    ]
    for name, found in station["cameras"].items():
        figures.append((f"Pictures of the {name} camera, late ones", f"{found['pictures']}, {found['late']}"))
    return figures
