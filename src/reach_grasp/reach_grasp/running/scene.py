# SPDX-License-Identifier: Apache-2.0
"""Turns what a monitor heard into what the display shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hilserl_interfaces.msg import EpisodeStatus, LearnerStatus
from reach_grasp.running.display import Snapshot, Turn, clock
from reach_grasp.running.episodes import MODES, Episode
from reach_grasp.running.monitor import Monitor
from reach_grasp.running.rates import Rate, intervention_rate, success_rate

STALLED_S = 10.0  # without any progress, after which the display says what is waited for
SILENT_S = 5.0  # longest silence of the actor, which publishes ten times a second while it waits
STARTING = "starting"

_PHASES = {
    EpisodeStatus.IDLE: "idle",
    EpisodeStatus.RESETTING: "resetting",
    EpisodeStatus.RUNNING: "running",
    EpisodeStatus.PAUSED: "paused",
    EpisodeStatus.WAITING: "waiting",
    EpisodeStatus.DONE: "done",
    EpisodeStatus.HOLDING: "holding",
    EpisodeStatus.AWAITING_READY: "waits until you are ready",
    EpisodeStatus.AWAITING_PERSON: "waits for your first move",
    EpisodeStatus.AWAITING_VERDICT: "waits for your verdict",
}
_JUDGED = (EpisodeStatus.RUNNING, EpisodeStatus.AWAITING_PERSON, EpisodeStatus.AWAITING_VERDICT)
_YOURS = {
    EpisodeStatus.PAUSED: "resume, when you are ready",
    EpisodeStatus.AWAITING_READY: "get ready, and say so",
    EpisodeStatus.AWAITING_PERSON: "begin: take hold and move",
    EpisodeStatus.AWAITING_VERDICT: "say success or failure",
}
_WAITS = {
    EpisodeStatus.IDLE: "the recorder",
    EpisodeStatus.RESETTING: "the arm to reach its start pose",
    EpisodeStatus.RUNNING: "the next observation",
    EpisodeStatus.WAITING: "the learner",
}
_TRAINING = MODES.index("training")


@dataclass
class Scene:
    """A system on the display. stages: in their order. ticks: length of the longest episode, 0 where there are no episodes."""

    title: str
    stages: Sequence[str]
    log: Path
    ticks: int = 0
    _rate: Rate = field(default_factory=Rate)
    _moved: tuple[Any, float] = (None, 0.0)

    def snapshot(
        self, monitor: Monitor, stage: str, detail: str, progress: float, waits: str = "", left_s: float | None = None
    ) -> Snapshot:
        """The state of the system in a stage. waits: what is missing in this stage beside what the actor says."""
        now_s, status, learner = time.monotonic(), monitor.episode, monitor.learner
        turn, task = _task(status)
        fields = [*self._episode(monitor), *_learner(learner)]
        if left_s is not None:
            fields.append(("time left", clock(left_s)))
        stalled_s = self._stalled_s((stage, detail, _progress_of(status), learner and learner.optimization_step), now_s)
        reason = _waits(monitor, now_s, waits)
        return Snapshot(
            stage=stage,
            detail=detail,
            progress=progress,
            number=self.stages.index(stage) + 1,
            stages=len(self.stages),
            turn=turn,
            task=task,
            fields=tuple(fields),
            waits=f"no progress for {clock(stalled_s)}: waits for {reason}" if stalled_s >= STALLED_S and reason else "",
            problems=tuple(monitor.problems(now_s)),
            title=self.title,
            log=str(self.log),
        )

    def teleoperation(self, monitor: Monitor, source: str) -> Snapshot:
        """Show a person who moves the arm without an actor, from the nodes' diagnostics. source: the device that drives."""
        now_s = time.monotonic()
        problems = monitor.problems(now_s)
        troubled = {problem.node: problem.text for problem in problems}
        told = {name.split(": ")[0]: text for name, text in sorted(monitor.told.items()) if name.endswith((": arm", ": input"))}
        started = source in told
        turn, task = Turn.SYSTEM, "nothing to do: the nodes start"
        if source in troubled:
            turn, task = Turn.PERSON, f"mend the {source}: {troubled[source]}"
        elif started:
            turn, task = Turn.INFO, f"take the {source} and drive"
        stalled_s = self._stalled_s((started,), now_s)
        waits = f"no progress for {clock(stalled_s)}: waits for the {source}'s node"
        return Snapshot(
            stage=self.stages[started],
            detail=f"with the {source}",
            progress=float(started),
            number=1 + started,
            stages=len(self.stages),
            turn=turn,
            task=task,
            fields=tuple((node, text) for node, text in told.items() if node not in troubled),
            waits=waits if stalled_s >= STALLED_S and not started else "",
            problems=tuple(problem for problem in problems if problem.node != source),
            title=self.title,
            log=str(self.log),
        )

    def _stalled_s(self, state: tuple[Any, ...], now_s: float) -> float:
        if state != self._moved[0]:
            self._moved = (state, now_s)
        return now_s - self._moved[1]

    def _episode(self, monitor: Monitor) -> list[tuple[str, str]]:
        status = monitor.episode
        if status is None:
            return []
        limit = f" of {self.ticks}" if self.ticks else ""
        fields = [
            ("phase", _PHASES.get(_phase(status), "unknown")),
            ("drives", driver(status, monitor.sources())),
            ("episode", f"{status.episode + 1}, tick {status.index}{limit}"),
            ("success seen", _probability(monitor) if _phase(status) in _JUDGED else "-"),
        ]
        if (rate := self._rate.add(status.steps)) is not None:
            fields.append(("ticks/s", f"{rate:.0f}"))
        recent = [episode for episode in monitor.recent() if episode.mode == MODES[status.mode]]
        fields += _last(recent, status.mode == _TRAINING)
        if status.policy_version and status.mode == _TRAINING:
            fields.append(("policy version", str(status.policy_version)))
        return fields


def _phase(status: EpisodeStatus) -> int:
    """The phase as a person sees it: in lockstep a running episode waits a little for each new policy."""
    between = status.phase == EpisodeStatus.WAITING and status.policy_version and status.index
    return EpisodeStatus.RUNNING if between else status.phase


def driver(status: EpisodeStatus, sources: Sequence[str]) -> str:
    """Name who moves the arm. sources: names of the active teleop sources."""
    if status.phase == EpisodeStatus.RESETTING:
        return "reset motion"
    if _phase(status) != EpisodeStatus.RUNNING:
        return "nobody"
    if status.intervention:
        return f"person, {sources[0]}" if sources else "person"
    return "nobody" if MODES[status.mode] == "demonstration" else "policy"


def _task(status: EpisodeStatus | None) -> tuple[Turn, str]:
    """Whose turn it is, and the instruction for the person."""
    if status is None:
        return Turn.SYSTEM, "nothing to do: the nodes start"
    if status.phase == EpisodeStatus.HOLDING:
        return Turn.HOLD, status.text or "an observation is missing"
    if status.phase in _YOURS:
        return Turn.PERSON, status.text or _YOURS[status.phase]
    if status.phase == EpisodeStatus.WAITING:
        return Turn.SYSTEM, "nothing to do" if _phase(status) == EpisodeStatus.RUNNING else f"nothing to do: {status.text}"
    return (Turn.INFO, status.text) if status.text else (Turn.SYSTEM, "nothing to do")


def _waits(monitor: Monitor, now_s: float, more: str) -> str:
    status = monitor.episode
    if status is None:
        return "the first status of the actor"
    if now_s - monitor.heard_s > SILENT_S:
        return f"the actor, which was last heard {clock(now_s - monitor.heard_s)} ago"
    if status.phase == EpisodeStatus.DONE:
        return more
    if status.phase in _YOURS:
        return f"you: {status.text or _YOURS[status.phase]}"
    if status.phase == EpisodeStatus.RESETTING:
        return _WAITS[status.phase]  # the status text names what hinders the reset
    return more or status.text.removeprefix("waiting for ") or _WAITS.get(status.phase, "the actor")


def _progress_of(status: EpisodeStatus | None) -> tuple[int, ...]:
    if status is None:
        return ()
    return (status.phase, status.episode, status.index, status.steps, status.sequence, status.acknowledged)


def _probability(monitor: Monitor) -> str:
    reward = monitor.reward
    if reward is None:
        return "nothing judges"
    if reward.artifact == "simulation":
        return f"{'yes' if reward.success else 'no'}, simulation"
    threshold = monitor.threshold
    return f"{reward.probability:.2f}" + (f", needs {threshold:.2f}" if threshold is not None else "")


def _last(recent: Sequence[Episode], training: bool) -> list[tuple[str, str]]:
    if not recent:
        return []
    rate, unjudged = success_rate(recent), sum(not episode.judged for episode in recent[-20:])
    told = [] if rate is None else [f"{rate:.0%}"]
    told += [f"{unjudged} unjudged"] if unjudged else []
    found = [(f"success, last {len(recent[-20:])}", ", ".join(told))]
    if training and (helped := intervention_rate(recent)) is not None:
        found.append((f"help, last {len(recent[-20:])}", f"{helped:.0%}"))
    return found


def _learner(learner: LearnerStatus | None) -> list[tuple[str, str]]:
    if learner is None:
        return []
    phase = learner.phase.replace("_", " ")
    share = f" {learner.progress:.0%}" if learner.phase in ("pretraining", "warming_up") else ""
    fields = [("learner", phase + share)]
    if learner.updates_per_second:
        fields.append(("updates/s", f"{learner.updates_per_second:.0f}"))
    return fields
