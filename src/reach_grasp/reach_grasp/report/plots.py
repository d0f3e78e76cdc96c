# SPDX-License-Identifier: Apache-2.0
"""The curves of a report as SVG texts."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

BLUE, GREY, ORANGE = "#2563eb", "#64748b", "#d97706"
# What the learner reports, in the order it is shown; what is not listed follows by name.
_TITLES = {
    "critic_loss": "Critic loss",
    "actor_loss": "Actor loss",
    "bc_loss": "Imitation loss",
    "bc_weight": "Weight of imitation",
    "q": "Mean Q",
    "temperature": "Temperature",
    "temperature_loss": "Temperature loss",
    "entropy": "Entropy of the policy",
    "std": "Standard deviation of the policy",
    "resident_mb": "Memory of the learner, MB",
}
_LOG = ("critic_loss", "bc_loss", "temperature")
# Counters, shown as numbers elsewhere, and what belongs to the time before training.
_LEFT_OUT = {
    "steps_taken", "training_steps", "demonstrations", "optimization_steps", "updates", "updates_given_up", "replay_size",
    "online_size", "demonstration_size", "encoder_loss",
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A titled SVG."""

    title: str
    svg: str


def rolling(values: Sequence[float], window: int = 20) -> list[float]:
    """The mean of each value and up to `window` - 1 before it."""
    return [
        sum(values[max(0, i + 1 - window) : i + 1]) / len(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))
    ]


def training_plots(episodes: Sequence[dict[str, Any]], bc: dict[str, Any], final: dict[str, Any]) -> list[Plot]:
    """Curves over the steps of training."""
    training = [episode for episode in episodes if episode["mode"] == "training"]
    if not training:
        return []
    steps = [episode["end_step"] for episode in training]
    judged = [episode for episode in training if episode.get("judged", True)]
    won = [episode for episode in judged if episode["success"]]
    levels = [("imitation only", bc["success_rate"], GREY), ("trained", final["success_rate"], ORANGE)]
    ticks = [("imitation only", bc["success_ticks_mean"], GREY), ("trained", final["success_ticks_mean"], ORANGE)]
    recent = [training[max(0, i - 19) : i + 1] for i in range(len(training))]
    helped = [sum(e["interventions"] for e in part) / max(1, sum(e["ticks"] for e in part)) for part in recent]
    return [
        Plot(
            "Success of the last 20 episodes",
            _draw([e["end_step"] for e in judged], rolling([e["success"] for e in judged]), levels, percent=True),
        ),
        Plot(
            "Ticks of successful episodes, mean of 20",
            _draw([e["end_step"] for e in won], rolling([e["ticks"] for e in won]), ticks, bottom=0.0),
        ),
        Plot("Steps driven by the person, last 20 episodes", _draw(steps, helped, percent=True)),
        Plot("Return of an episode, mean of 20", _draw(steps, rolling([e["reward"] for e in training]), bottom=0.0)),
    ]


def learner_plots(history: Sequence[dict[str, Any]]) -> list[Plot]:
    """One curve per metric the learner reported, over its updates."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in history:
        for name, value in record["metrics"].items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                found.setdefault(name, []).append((record["optimization_step"], value))
    order = [name for name in _TITLES if name in found] + sorted(set(found) - set(_TITLES) - _LEFT_OUT)
    plots = []
    for name in order:
        points = found[name]
        if len({x for x, _ in points}) > 1 and len({y for _, y in points}) > 1:
            log = name in _LOG and all(y > 0 for _, y in points)
            title = _TITLES.get(name, name.replace("_", " ").replace("/", " ").capitalize())
            plots.append(Plot(title, _draw([x for x, _ in points], [y for _, y in points], label="updates", log=log)))
    return plots


def _draw(
    x: Sequence[float],
    y: Sequence[float],
    levels: Sequence[tuple[str, float | None, str]] = (),
    label: str = "steps of training",
    percent: bool = False,
    bottom: float | None = None,
    log: bool = False,
) -> str:
    """A line with horizontal levels, as an <svg> element."""
    settings = {"font.family": "sans-serif", "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "reach-grasp"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(4.8, 2.5), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.plot(x, y, color=BLUE, linewidth=1.6, label="training" if levels else None)
        for name, level, colour in levels:
            if level is not None:
                axes.axhline(level, color=colour, linewidth=1.2, linestyle="--", label=f"{name}, evaluated")
        if percent:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
        elif log:
            axes.set_yscale("log")
        elif bottom is not None:
            axes.set_ylim(bottom=bottom)
        axes.set_xlabel(label, color=GREY)
        axes.grid(color="#e2e8f0", linewidth=0.7)
        axes.tick_params(which="both", colors="#475569", length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        if levels:
            axes.legend(frameon=False, fontsize=8, labelcolor="#475569")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
