# SPDX-License-Identifier: Apache-2.0
"""When a policy is published, and from which step it acts in lockstep."""

from __future__ import annotations

from dataclasses import dataclass

from hilserl_core.step import Step


@dataclass(frozen=True)
class Publication:
    """One version. Steps are sequence numbers of the run."""

    version: int
    trained_through: int
    effective_from: int
    next_effective_from: int


class PublicationSchedule:
    """Version 1 is the policy training begins with; then one every `every` steps, each acting `lag` steps later.

    A version is a function of the step it was trained through, so a learner that resumes repeats the versions it repeats.
    """

    def __init__(self, every: int, lag: int, demonstrations: int) -> None:
        self.every, self.lag = every, lag
        self._demonstrations = demonstrations
        self._run_id: str | None = None
        self.origin = 0  # the step after which training begins

    def see(self, step: Step) -> None:
        """Every step, in order, before it is trained on. A new run of the actor begins in training, at its first step.

        Imported steps have no run_id: they count as demonstrations, but their numbers are not the run's.
        """
        if step.run_id:
            if self._run_id not in (None, step.run_id):
                self.origin = self._demonstrations = 0
            self._run_id = step.run_id
        if self._demonstrations and step.completes_demonstration:
            self._demonstrations -= 1
            if not self._demonstrations and step.run_id:
                self.origin = step.sequence

    def publication(self, sequence: int) -> Publication:
        """The version trained through `sequence`, or through the newest step before it at which one was due."""
        count = max(0, sequence - self.origin) // self.every
        due = self.origin + count * self.every
        return Publication(
            version=1 + count,
            trained_through=sequence,
            effective_from=due + self.lag if count else self.origin + 1,
            next_effective_from=due + self.every + self.lag,
        )
