# SPDX-License-Identifier: Apache-2.0
"""The nodes over real DDS: latencies, ticks per second, jitter."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise

import torch
from lerobot.utils.robot_utils import precise_sleep

from benchmarks import lerobot_side
from benchmarks.problem import BATCH, DEMO_TASK, UTD, steps
from benchmarks.registry import Options
from benchmarks.rows import Better, Row, Target
from benchmarks.station import Record, StationError, fast_start, train
from benchmarks.timing import percentile

_PUSH_S = 4.0  # LeRobot's policy_parameters_push_frequency
_TICK_S = DEMO_TASK.tick_s
_JITTER_S = 0.005


def run(options: Options) -> Iterator[Row]:
    """The rows of this group: one lockstep run, one in real time at 10 Hz, one at 30 Hz."""
    if options.wanted("tick"):
        yield _ticks(options)
    if any(map(options.wanted, ("policy_to_action", "step_to_learner", "tick_jitter_10hz"))):
        record = _real_time(options, fps=10.0)
        yield from (row for row in (_policy_to_action(record), _step_to_learner(record)) if options.wanted(row.name))
        yield _jitter("tick_jitter_10hz", record, 10.0, options.quick)
    if options.wanted("tick_jitter_30hz"):
        yield _jitter("tick_jitter_30hz", _real_time(options, fps=30.0), 30.0, options.quick)


def _ticks(options: Options) -> Row:
    count = 200 if options.quick else 1000
    record = train(options.scratch / "lockstep", steps=count, demonstrations=3, overrides=fast_start(lockstep=True))
    begin = next(index for index, (_, done) in enumerate(record.progress) if done >= count // 10)
    (start_s, first), (end_s, last) = record.progress[begin], record.progress[-1]
    return Row(
        name="tick",
        ours=(last - first) / (end_s - start_s),
        lerobot=None,
        unit="ticks/s",
        better=Better.HIGHER,
        target=Target("at_least", 20.0),
        note="Lockstep simulation, policy, operator and learner over DDS, two updates per tick, resets included. LeRobot "
        "has no lockstep mode.",
        conditions={"steps": last - first, "updates_per_second": max(record.updates_per_second, default=0.0),
                    "learner_resident_mb": record.resident_mb},
    )  # fmt: skip


def _real_time(options: Options, fps: float) -> Record:
    """Simulation, actor and learner by the wall clock, as with a real arm."""
    seconds = 20 if options.quick else 60
    extra = {"task": {"fps": fps, "camera_sizes": [128, 128], "crops": [0, 0, 128, 128]}}
    record = train(
        options.scratch / f"real_time_{fps:.0f}",
        steps=round(seconds * fps),
        demonstrations=2,
        overrides=fast_start(lockstep=False, extra=extra),
        real_time_factor=1.0,
    )
    if not record.policies_s:
        raise StationError("no policy was published while the arm trained")
    return record


def _policy_to_action(record: Record) -> Row:
    ours = record.timings["policy_to_action"]
    ends = sorted(step.published_s for step in record.steps if step.training and step.is_last)
    first = record.policies_s[0]
    theirs = []
    for published in record.policies_s:
        pushed = first + -(-(published - first) // _PUSH_S) * _PUSH_S
        place = bisect_left(ends, pushed)
        if place < len(ends):
            theirs.append(ends[place] - published)
    return Row(
        name="policy_to_action",
        ours=1e3 * ours["p99_s"],
        lerobot=1e3 * percentile(theirs, 99) if theirs else None,
        unit="ms",
        target=Target("at_most", 1e3 * (_TICK_S + 0.1)),
        note="Parameters published -> first joint command computed with them, 99th percentile, 10 Hz by the wall clock. "
        f"LeRobot's figure is computed from this run's episodes: it pushes every {_PUSH_S:.0f} s and applies when one ends.",
        conditions={"versions": ours["count"], "ours_p50_ms": 1e3 * ours["p50_s"], "ours_max_ms": 1e3 * ours["max_s"],
                    "lerobot_push_s": _PUSH_S},
    )  # fmt: skip


def _step_to_learner(record: Record) -> Row:
    actor, learner = record.timings["reward_to_step"], record.timings["step_to_learner"]
    published = actor["samples"]
    ours = [seconds + published[step] for step, seconds in learner["samples"].items() if step in published]
    ends = {step.episode: step.published_s for step in record.steps if step.is_last}
    theirs = []
    for step, following in pairwise(record.steps):
        rewarded = record.rewards.get(following.stamp_ns)
        if step.training and following.episode == step.episode and rewarded is not None:
            theirs.append(ends.get(step.episode, following.published_s) - rewarded)
    return Row(
        name="step_to_learner",
        ours=1e3 * percentile(ours, 99),
        lerobot=1e3 * max(percentile(theirs, 99), 1e-3),
        unit="ms",
        target=Target("at_most", 30.0),
        note="Reward published, and the observation it judges taken by the actor's tick, -> step published (measured by the "
        "actor), plus step published -> encoded and usable in the replay (measured by the learner), step by step; 99th "
        "percentile, 10 Hz by the wall clock. LeRobot's figure is computed from this run's episodes: it sends "
        "when an episode ends; its time for sending is not counted.",
        conditions={"steps": len(ours), "ours_p50_ms": 1e3 * percentile(ours, 50),
                    "actor_p50_ms": 1e3 * actor["p50_s"], "actor_p99_ms": 1e3 * actor["p99_s"],
                    "learner_p50_ms": 1e3 * learner["p50_s"], "learner_p99_ms": 1e3 * learner["p99_s"]},
    )  # fmt: skip


def _jitter(name: str, record: Record, fps: float, quick: bool) -> Row:
    deviations = []
    for step, following in pairwise(record.steps):
        sent, then = record.commands.get(step.stamp_ns), record.commands.get(following.stamp_ns)
        if step.training and following.episode == step.episode and sent is not None and then is not None:
            deviations.append(abs(then - sent - 1 / fps))
    return Row(
        name=name,
        ours=1e3 * percentile(deviations, 99),
        lerobot=1e3 * percentile(_lerobot_jitter(fps, seconds=5 if quick else 20), 99),
        unit="ms",
        target=Target("at_most", 1e3 * _JITTER_S),
        note=f"99th percentile of how far the time between two joint commands of an episode is from 1/{fps:.0f} s, by the wall "
        "clock, with the learner training beside it. LeRobot's loop (its preprocessor, policy and sleep) runs alone: no "
        "camera, arm or learner.",
        conditions={"ticks": len(deviations), "ours_p50_ms": 1e3 * percentile(deviations, 50),
                    "ours_max_ms": 1e3 * max(deviations)},
    )  # fmt: skip


def _lerobot_jitter(fps: float, seconds: float) -> list[float]:
    """Deviations [s] of the tick of LeRobot's actor loop."""
    torch.set_num_threads(1)
    config = lerobot_side.demo_policy_config(DEMO_TASK)
    recorded = list(steps(2, task=DEMO_TASK))
    learner = lerobot_side.learner(config, lerobot_side.filled_buffer(DEMO_TASK, recorded, 2, shift=False), BATCH, UTD)
    policy = learner.policy.eval()
    observation = next(iter(lerobot_side.transitions(recorded)))["state"]
    begins = []
    for _ in range(round(seconds * fps)):
        begins.append(time.perf_counter())
        policy.select_action(learner.preprocessor.process_observation(observation))
        precise_sleep(max(1 / fps - (time.perf_counter() - begins[-1]), 0.0))
    return [abs(after - before - 1 / fps) for before, after in pairwise(begins[1:])]
