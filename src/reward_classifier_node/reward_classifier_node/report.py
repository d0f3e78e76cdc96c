# SPDX-License-Identifier: Apache-2.0
"""How the training went: metrics.json and one self-contained page, LeRobot's way beside ours."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import expit

from reward_classifier_node.calibration import precision_recall, reliability
from reward_classifier_node.data import LabelledFrames
from reward_classifier_node.training import Trained

WORST = 24
UNMEASURED = (
    "No episode that failed was held out: nothing was measured on failures, and the precision says nothing about them. "
    "Record at least two episodes that fail."
)
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Reward classifier</title>
<style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ccc}th:first-child,td:first-child{text-align:left}
figure{display:inline-block;margin:.3em;font-size:13px}figure img{width:128px;display:block}</style>
<h1>Reward classifier</h1>
<p>{{ facts.frames }} frames of {{ facts.episodes }} episodes, {{ facts.heldout_episodes }} episodes held out;
{{ facts.undecided }} frames around a success left out. Held-out frames also chose when to stop, the temperature and the
threshold, so expect a little less of new episodes.
{% if not ours.target_reached %}<strong>No threshold reaches the target precision on these frames without missing too
many successes: look at the worst frames below, a label may be wrong.</strong>
{% endif %}
{% if not facts.heldout_failures %}<strong>{{ unmeasured }}</strong>
{% endif %}</p>
<table><tr><th>held-out frames</th><th>all above the image model trained</th><th>LeRobot's way: head only</th></tr>
{% for name in rows %}<tr><td>{{ name.replace('_', ' ') }}</td><td>{{ ours[name] }}</td><td>{{ theirs[name] }}</td></tr>
{% endfor %}</table>
{% for title, image in plots %}<h2>{{ title }}</h2><img alt="{{ title }}" src="data:image/png;base64,{{ image }}">{% endfor %}
<h2>Confusion</h2><table><tr><th></th><th>said success</th><th>said no success</th></tr>
<tr><td>success</td><td>{{ ours.true_positive }}</td><td>{{ ours.false_negative }}</td></tr>
<tr><td>no success</td><td>{{ ours.false_positive }}</td><td>{{ ours.true_negative }}</td></tr></table>
<h2>The {{ worst|length }} worst held-out frames</h2>
{% for frame in worst %}<figure><img alt="" src="data:image/png;base64,{{ frame.image }}"><figcaption>
episode {{ frame.episode }}, frame {{ frame.frame }}<br>label {{ frame.label }}, said {{ frame.probability }}</figcaption>
</figure>
{% endfor %}</html>
"""


def metrics_of(trained: Trained, labels: np.ndarray) -> dict[str, Any]:
    """Held-out scores, loss, calibration and threshold as JSON types. labels: (K,) bool of the held-out frames."""
    probabilities = expit(trained.logits)
    return {
        **trained.heldout.as_dict(),
        "loss": trained.heldout_loss,
        "threshold": trained.threshold,
        "target_reached": trained.target_reached,
        "temperature": trained.temperature,
        "train_seconds": trained.seconds,
        "brier": float(np.mean((probabilities - labels) ** 2)),
        "reliability": reliability(probabilities, labels),
    }


def write_report(folder: Path, ours: Trained, theirs: Trained, frames: LabelledFrames, facts: dict[str, Any]) -> dict[str, Any]:
    """Write report.html and metrics.json into an existing folder. facts: numbers about the data. Returns the metrics."""
    labels = frames.labels[ours.rows]
    mine, head_only = metrics_of(ours, labels), metrics_of(theirs, labels)
    metrics = {**facts, "ours": mine, "head_only": head_only, "history": _finite(ours.history + theirs.history)}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    names = [name for name, value in mine.items() if name != "reliability"]
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    text = page.render(
        facts=facts,
        unmeasured=UNMEASURED,
        rows=names,
        ours={name: _number(mine[name]) for name in names},
        theirs={name: _number(head_only[name]) for name in names},
        plots=[
            ("Loss", _png(_losses(ours, theirs))),
            ("Precision and recall", _png(_precision_recall(ours, theirs, labels))),
            ("Reliability", _png(_reliability(mine, head_only))),
        ],
        worst=_worst(ours, frames),
    )
    (folder / "report.html").write_text(text)
    return metrics


def _number(value: float | bool) -> str | bool | int:
    return f"{value:.4f}" if isinstance(value, float) else value


def _finite(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: None if value != value else value for key, value in row.items()} for row in history]


def _losses(ours: Trained, theirs: Trained) -> Figure:
    rows = ours.history + theirs.history
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    figure = Figure(figsize=(4 * len(stages), 3), layout="constrained")
    for place, stage in enumerate(stages, 1):
        axes = figure.add_subplot(1, len(stages), place, title=stage, xlabel="update", yscale="log")
        chosen = [row for row in rows if row["stage"] == stage]
        for name in ("train", "heldout"):
            axes.plot([row["update"] for row in chosen], [row[name] for row in chosen], label=name)
        axes.legend()
    return figure


def _precision_recall(ours: Trained, theirs: Trained, labels: np.ndarray) -> Figure:
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="recall", ylabel="precision")
    for name, trained in (("ours", ours), ("head only", theirs)):
        precision, recall = precision_recall(trained.logits, labels)
        axes.plot(recall, precision, label=name)
    axes.plot([ours.heldout.recall], [ours.heldout.precision], "o", label="threshold")
    axes.legend()
    return figure


def _reliability(ours: dict[str, Any], theirs: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="probability said", ylabel="share of successes")
    axes.plot([0, 1], [0, 1], color="0.8")
    for name, metrics in (("ours", ours), ("head only", theirs)):
        bins = metrics["reliability"]
        axes.plot([bin_["probability"] for bin_ in bins], [bin_["successes"] for bin_ in bins], "o-", label=name)
    axes.legend()
    return figure


def _worst(trained: Trained, frames: LabelledFrames) -> list[dict[str, Any]]:
    """Those whose label was given the least probability, the worst first; all cameras side by side."""
    labels = frames.labels[trained.rows]
    doubt = np.where(labels, -trained.logits, trained.logits)
    found = []
    for place in np.argsort(-doubt, kind="stable")[:WORST]:
        row = int(trained.rows[place])
        first = int(np.flatnonzero(frames.episodes == frames.episodes[row])[0])
        buffer = io.BytesIO()
        Image.fromarray(np.concatenate(list(frames.images[row]), axis=1)).save(buffer, "PNG")
        found.append(
            {
                "image": base64.b64encode(buffer.getvalue()).decode(),
                "episode": int(frames.episodes[row]),
                "frame": row - first,
                "label": int(labels[place]),
                "probability": f"{expit(trained.logits[place]):.3f}",
            }
        )
    return found


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return base64.b64encode(buffer.getvalue()).decode()
