# SPDX-License-Identifier: Apache-2.0
"""report.json and report.html: one self-contained page."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reach_grasp.report.numbers import collect
from reach_grasp.report.plots import learner_plots, training_plots
from reach_grasp.running.folder import read_history, replace_text

PHASE_TITLES = {
    "station": "Looking over the station, calibration",
    "demonstrations": "Demonstrations, recorded as bags",
    "dataset": "Dataset and labels",
    "classifier": "Reward classifier",
    "imitation": "Imitation, encoder and critic warm-up",
    "training": "Training with interventions",
    "evaluation": "Evaluation of both policies",
}


def write_report(folder: Path) -> Path:
    """Write report.json and report.html into a demo's folder; the path of the page. Raises CommandError."""
    return write_page(folder, collect(folder))


def write_page(folder: Path, report: dict[str, Any]) -> Path:
    """Write a report as report.json and report.html into the folder of its run; the path of the page."""
    replace_text(folder / "report.json", json.dumps(report, indent=1))
    page = folder / "report.html"
    replace_text(page, render(report, folder))
    return page


def render(report: dict[str, Any], folder: Path) -> str:
    """The page as text. folder: where histories and films are."""
    environment = Environment(
        loader=PackageLoader("reach_grasp", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "percent": lambda value: percent(value).replace(" ", "\u00a0"),
        "number": number,
        "duration": duration,
    }
    films = {name: _film(folder / f"film_{name}.mp4") for name in ("imitation", "final")}
    return environment.get_template("report.html.j2").render(
        report=report,
        films=films,
        training=training_plots(read_history(folder, "episodes"), report["bc_only"], report["final"]),
        learner=learner_plots(read_history(folder, "learner")),
        classifier=report["classifier"],
        station=report.get("station"),
        dataset=report["dataset"],
        phases=[(PHASE_TITLES.get(name, name), minutes) for name, minutes in report["phase_minutes"].items()],
        failures=[episode for episode in report["evaluation"]["final"] if episode["judged"] and not episode["success"]],
        bc_success={episode["number"]: episode["success"] for episode in report["evaluation"]["imitation"]},
    )


def summary(path: Path) -> str:
    """What the command prints of a report.json."""
    report = json.loads(path.read_text())
    low, high = report["success_interval"]
    bc = report["bc_only"]
    lines = [
        f"success   {report['final']['successes']} of {report['final']['judged']} fresh episodes"
        f" = {percent(report['success_rate'])} (95 %: {percent(low)} to {percent(high)})",
        f"before    {bc['successes']} of {bc['judged']} with imitation only = {percent(bc['success_rate'])}"
        f" (95 %: {percent(bc['success_low'])} to {percent(bc['success_high'])})",
    ]
    if unjudged := report["final"]["unjudged"] + bc["unjudged"]:
        lines.append(f"unjudged  {unjudged} episodes of both evaluations, which count neither way")
    if (judged := report["classifier"]) is not None:
        lines.append(
            f"reward    by a classifier, right in {percent(judged['heldout_accuracy'])} of {judged['heldout_frames']} held-out "
            f"frames; in training {judged['false_successes']} false and {judged['missed_successes']} missed successes in "
            f"{judged['judged_episodes']} episodes"
        )
    if report["ticks_ratio"] is not None:
        lines.append(
            f"ticks     {report['success_ticks']:.1f} per success, {report['bc_success_ticks']:.1f} with imitation only:"
            f" {report['ticks_ratio']:.2f} x"
        )
    lines.append(
        f"time      {report['robot_minutes']:.1f} robot minutes of training, {report['wall_minutes']:.1f} minutes in all"
    )
    return "\n".join(lines)


def percent(value: float) -> str:
    """A rate with as many digits as a hundred episodes carry."""
    return f"{100 * value:.0f} %" if abs(100 * value - round(100 * value)) < 0.05 else f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 0) -> str:
    """With thin spaces between thousands; a dash for what is not known."""
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def duration(minutes: float) -> str:
    """Minutes and seconds."""
    seconds = round(minutes * 60)
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def _film(path: Path) -> str | None:
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else None
