# SPDX-License-Identifier: Apache-2.0
"""The learned reward against the truth, episode by episode."""

from __future__ import annotations

import random

from reach_grasp.running.verdicts import TRAINING, Verdict, VerdictTracker, verdict_numbers

TICK = 100_000_000
RUNNING, RESETTING = 2, 1


def _run(episodes: list[tuple[str, str]], shuffle: int | None = None, mode: int = TRAINING) -> list[Verdict]:
    """Episodes as two strings, one character a frame: the truth is `.`, `p` for pinched or `S`; the reward is `.` or `S`."""
    tracker, calls, stamp = VerdictTracker(TICK), [], 7 * TICK
    for number, (truth, reward) in enumerate(episodes):
        for index, (true, seen) in enumerate(zip(truth, reward, strict=True)):
            if index % 5 == 0:  # some statuses are never heard
                calls.append(("status", mode, RUNNING, number, index, stamp))
            calls.append(("truth", stamp, true in "pS", true == "S"))
            calls.append(("reward", stamp, seen == "S"))
            stamp += TICK
        calls.append(("status", mode, RESETTING, number, 99, stamp))
    if shuffle is not None:
        blocks = [calls[i : i + 6] for i in range(0, len(calls), 6)]
        for block in blocks:
            random.Random(shuffle).shuffle(block)
        calls = [call for block in blocks for call in block]
    found = []
    for name, *values in calls:
        getattr(tracker, name)(*values)
        found += tracker.finished()
    return found + tracker.finished(over=True)


EPISODES = [
    ("....ppS", "......S"),  # both at once
    ("..ppSSS", "......S"),  # two frames late
    (".......", "......S"),  # a false success
    ("..ppSS.........", "..............."),  # a missed one
    ("...........", "..........."),  # a time-out
    ("....pp", ".....S"),  # a frame early: it is held, but not for long enough yet
]


def test_each_episode_gets_its_verdict_whatever_the_order_of_topics():
    wanted = [
        Verdict(0, 6, 6, True, 7),
        Verdict(1, 6, 4, True, 7),
        Verdict(2, 6, None, False, 7),
        Verdict(3, None, 4, False, 15),
        Verdict(4, None, None, False, 11),
        Verdict(5, 5, None, True, 6),
    ]
    assert _run(EPISODES) == wanted
    for seed in range(5):
        assert _run(EPISODES, shuffle=seed) == wanted


def test_rates_and_delays():
    numbers = verdict_numbers([verdict.as_dict() for verdict in _run(EPISODES)])
    assert numbers == {
        "judged_episodes": 6,
        "false_successes": 1,
        "false_success_rate": 1 / 6,
        "missed_successes": 1,
        "missed_success_rate": 1 / 4,
        "early_successes": 1,
        "delay_frames_mean": 1.0,
        "delay_frames_max": 2,
    }
    assert verdict_numbers([])["false_success_rate"] == 0.0


def test_other_modes_are_not_judged_and_memory_does_not_grow():
    assert _run(EPISODES, mode=0) == []
    tracker = VerdictTracker(TICK)
    for stamp in range(20_000):
        if stamp % 10 == 0:
            tracker.status(TRAINING, RUNNING, stamp // 10, 0, stamp * TICK)
        tracker.truth(stamp * TICK, False, False)
        tracker.reward(stamp * TICK, False)
        tracker.finished()
    assert len(tracker._truth) < 200
