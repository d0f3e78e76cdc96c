# SPDX-License-Identifier: Apache-2.0
"""How far the demo is and how long it will still take."""

from __future__ import annotations

from reach_grasp.demo.settings import DemoSettings

PHASES = ("demonstrations", "dataset", "classifier", "imitation", "training", "evaluation", "report")
# Seconds on two cores; only their ratios matter once something was measured.
_PER_DEMONSTRATION, _PER_STEP, _PER_EVALUATION = 3.0, 0.05, 0.7
_DATASET, _CLASSIFIER, _IMITATION, _REPORT = 15.0, 90.0, 45.0, 8.0


class TimeLeft:
    """Scales what each phase usually takes with how fast this machine was so far."""

    def __init__(self, settings: DemoSettings) -> None:
        self.usual = {
            "demonstrations": settings.demonstrations * _PER_DEMONSTRATION,
            "dataset": _DATASET,
            "classifier": _CLASSIFIER if settings.learned_reward else 0.0,
            "imitation": _IMITATION,
            "training": settings.steps * _PER_STEP,
            "evaluation": settings.eval_episodes * _PER_EVALUATION,
            "report": _REPORT,
        }

    def seconds(self, phase: str, progress: float, spent: dict[str, float]) -> float:
        """Left when `phase` is done to a fraction `progress`. spent: seconds per phase so far."""
        at = PHASES.index(phase)
        done = sum(self.usual[name] for name in PHASES[:at]) + self.usual[phase] * progress
        # The usual times count as a minute of measurement, so that the first guesses do not jump.
        factor = (sum(spent.values()) + 60.0) / (done + 60.0)
        here = self.usual[phase] * (1.0 - progress) * factor
        if progress > 0.1 and spent.get(phase, 0.0) > 5.0:
            here = spent[phase] / progress * (1.0 - progress)
        return here + factor * sum(self.usual[name] for name in PHASES[at + 1 :])
