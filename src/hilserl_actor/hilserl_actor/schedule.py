# SPDX-License-Identifier: Apache-2.0
"""Which episode comes next: its mode, its world seed, and the counters that survive a restart."""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from hilserl_core.step import Mode

_RECORD_BYTES = 1024
_SEED_BASE = {Mode.DEMONSTRATION: 0, Mode.TRAINING: 1_000_000, Mode.EVALUATION: 2_000_000}


def world_seed(seed: int, mode: Mode, number: int) -> int:
    """The seed of the `number`-th episode of a mode: never the same for two modes or run seeds below four billion."""
    return (seed & 0xFFFFFFFF) * 10_000_000 + _SEED_BASE[mode] + number


@dataclass(frozen=True)
class Plan:
    """Plan of a run: demonstrations, then training steps; or evaluation episodes only."""

    demonstrations: int
    training_steps: int
    evaluation_episodes: int
    seed: int


@dataclass(frozen=True)
class Counters:
    """Counts of a run so far. Counts per mode are of finished episodes and of actions."""

    run_id: str
    sequence: int = 0
    episode: int = 0  # number of the next episode
    demonstrations: int = 0
    demonstration_attempts: int = 0
    demonstration_steps: int = 0
    training_episodes: int = 0
    training_successes: int = 0
    training_steps: int = 0
    interventions: int = 0
    evaluation_episodes: int = 0
    evaluation_successes: int = 0
    evaluation_steps: int = 0
    evaluation_unjudged: int = 0  # evaluation episodes that nobody judged; they are no failures

    def next_mode(self, plan: Plan) -> Mode | None:
        """The mode of the next episode, None when the plan is fulfilled."""
        if plan.evaluation_episodes:
            return Mode.EVALUATION if self.evaluation_episodes < plan.evaluation_episodes else None
        if self.demonstrations < plan.demonstrations:
            return Mode.DEMONSTRATION
        return Mode.TRAINING if self.training_steps < plan.training_steps else None

    def next_seed(self, plan: Plan, mode: Mode) -> int:
        """The world seed of the next episode of a mode."""
        number = {
            Mode.DEMONSTRATION: self.demonstration_attempts,
            Mode.TRAINING: self.training_episodes,
            Mode.EVALUATION: self.evaluation_episodes,
        }[mode]
        return world_seed(plan.seed, mode, number)

    def after_step(self, sequence: int, mode: Mode, acted: bool, intervention: bool) -> Counters:
        """The counters after one more step."""
        values = {"sequence": sequence}
        if acted:
            name = {
                Mode.DEMONSTRATION: "demonstration_steps",
                Mode.TRAINING: "training_steps",
                Mode.EVALUATION: "evaluation_steps",
            }[mode]
            values[name] = getattr(self, name) + 1
            if mode is Mode.TRAINING and intervention:
                values["interventions"] = self.interventions + 1
        return replace(self, **values)

    def summary(self, plan: Plan) -> str:
        """Sentence for the person at the end of the plan."""
        text = "everything asked for has been done"
        if plan.evaluation_episodes and self.evaluation_unjudged:
            text += f"; {self.evaluation_unjudged} of {self.evaluation_episodes} episodes were judged by nobody"
        return text

    def after_episode(self, mode: Mode, success: bool, counts: bool = True, judged: bool = True) -> Counters:
        """Counted on with a finished episode. A demonstration counts only when it succeeded.

        counts: False for one that is to be repeated; an evaluation repeats its world. judged: False when nobody has judged.
        """
        values = {"episode": self.episode + 1}
        if mode is Mode.EVALUATION and not counts:
            return replace(self, **values)
        if mode is Mode.EVALUATION:
            values["evaluation_unjudged"] = self.evaluation_unjudged + (not judged)
        if mode is Mode.DEMONSTRATION:
            values["demonstration_attempts"] = self.demonstration_attempts + 1
            values["demonstrations"] = self.demonstrations + (success and counts)
        else:
            name = "training" if mode is Mode.TRAINING else "evaluation"
            values[f"{name}_episodes"] = getattr(self, f"{name}_episodes") + 1
            values[f"{name}_successes"] = getattr(self, f"{name}_successes") + success
        return replace(self, **values)


class Spooled(NamedTuple):
    """What the counters need of a step in the spool."""

    sequence: int
    mode: Mode
    acted: bool
    intervention: bool
    is_last: bool
    success: bool


class CounterFile:
    """The counters on disk: one record, rewritten in place with a single write for every step."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def load(self) -> Counters | None:
        """What was saved, None for a new or damaged file."""
        record = os.pread(self._file, _RECORD_BYTES, 0).rstrip(b" \n")
        text, _, check = record.rpartition(b" ")
        if not text or check != b"%08x" % zlib.crc32(text):
            return None
        values = json.loads(text)
        return Counters(**{item.name: values[item.name] for item in fields(Counters) if item.name in values})

    def save(self, counters: Counters) -> None:
        """Durable against a killed process once it returns."""
        text = json.dumps(asdict(counters)).encode()
        os.pwrite(self._file, (text + b" %08x" % zlib.crc32(text)).ljust(_RECORD_BYTES), 0)

    def close(self) -> None:
        """Force onto the disk and close."""
        os.fsync(self._file)
        os.close(self._file)


def new_run_id(seed: int) -> str:
    """A name for a run that no other run has."""
    return f"seed{seed}-{uuid.uuid4().hex[:12]}"


def after_restart(counters: Counters, spooled: Iterable[Spooled]) -> Counters:
    """Counters to go on with, never reusing a number and never continuing a broken episode.

    Steps in the spool that the counters do not know were spooled just before the process was killed.
    """
    whole = True
    for step in spooled:
        if step.sequence > counters.sequence:
            counters = counters.after_step(step.sequence, step.mode, step.acted, step.intervention)
            if step.is_last:
                counters = counters.after_episode(step.mode, step.success)
        whole = step.is_last
    return counters if whole else replace(counters, episode=counters.episode + 1)
