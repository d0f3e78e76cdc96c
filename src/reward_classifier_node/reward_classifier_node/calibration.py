# SPDX-License-Identifier: Apache-2.0
"""From held-out logits to probabilities that mean what they say, and to a threshold for a precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

# Held-out frames that are told apart perfectly would ask for certainty; few frames cannot prove it.
_LEAST_TEMPERATURE, _GREATEST_TEMPERATURE = 0.5, 20.0


@dataclass(frozen=True)
class Scores:
    """How a classifier does at a threshold. The four counts are frames."""

    frames: int
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    accuracy: float
    precision: float
    recall: float

    def as_dict(self) -> dict[str, float]:
        """All fields."""
        return asdict(self)


def scores(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> Scores:
    """probabilities (N,), labels (N,) bool. Precision of no answer is 1, recall of no success is 1."""
    said = probabilities > threshold
    hit, false = int((said & labels).sum()), int((said & ~labels).sum())
    miss, rest = int((~said & labels).sum()), int((~said & ~labels).sum())
    return Scores(
        len(labels), hit, false, rest, miss,
        accuracy=(hit + rest) / max(1, len(labels)),
        precision=hit / (hit + false) if hit + false else 1.0,
        recall=hit / (hit + miss) if hit + miss else 1.0,
    )  # fmt: skip


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats."""
    return float(np.logaddexp(0.0, np.where(labels, -logits, logits)).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The divisor of logits (N,) with the least cross-entropy (Guo et al. 2017), between 0.5 and 20."""
    found = minimize_scalar(
        lambda log_temperature: cross_entropy(logits.astype(float) / np.exp(log_temperature), labels),
        bounds=(np.log(_LEAST_TEMPERATURE), np.log(_GREATEST_TEMPERATURE)),
        method="bounded",
    )
    return float(np.exp(found.x))


def choose_threshold(
    logits: np.ndarray, labels: np.ndarray, target_precision: float, least_recall: float
) -> tuple[float, bool]:
    """The threshold, a probability, with the greatest recall at the target precision, and whether there is one.

    logits (N,), labels (N,) bool. Lies midway between the logits around it. Where the target can be reached only by missing
    more successes than least_recall allows, or not at all: the one of greatest precision that misses no more. One wrong label
    among a hundred frames would else ask for a certainty that hardly any success has.
    """
    order = np.argsort(-logits, kind="stable")
    ranked, hits = logits[order].astype(float), np.cumsum(labels[order])
    precision = hits / np.arange(1, len(ranked) + 1)
    ends = np.append(np.flatnonzero(ranked[:-1] > ranked[1:]), len(ranked) - 1)  # equal logits go together
    enough = ends[hits[ends] >= least_recall * hits[-1]]
    good = enough[(precision[enough] >= target_precision) & (hits[enough] > 0)]
    reached = len(good) > 0
    # The fewest answers among those of greatest recall.
    last = int(good[np.argmax(hits[good])]) if reached else int(enough[np.argmax(precision[enough])])
    below = ranked[last + 1] if last + 1 < len(ranked) else ranked[last] - 1.0
    return float(expit((ranked[last] + below) / 2)), reached


def least_in_a_row(logits: np.ndarray, episodes: np.ndarray, count: int) -> np.ndarray:
    """The least of the last `count` logits of the same episode, (N,); minus infinity where there are fewer.

    A debounced decision is a threshold on it. logits, episodes: (N,), in the order of time.
    """
    least = logits.astype(float)
    for distance in range(1, count):
        before = np.full(len(logits), -np.inf)
        same = episodes[distance:] == episodes[:-distance]
        before[distance:][same] = logits[:-distance][same]
        least = np.minimum(least, before)
    return least


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """For each tenth that holds frames: mean probability, share of successes, frames."""
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        {
            "probability": float(probabilities[index == bin_].mean()),
            "successes": float(labels[index == bin_].mean()),
            "frames": int((index == bin_).sum()),
        }
        for bin_ in range(bins)
        if (index == bin_).any()
    ]


def precision_recall(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall (N,) when the 1, 2, ... most probable frames are taken for successes."""
    hits = np.cumsum(labels[np.argsort(-probabilities, kind="stable")])
    return hits / np.arange(1, len(labels) + 1), hits / max(1, hits[-1])
