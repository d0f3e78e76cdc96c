# SPDX-License-Identifier: Apache-2.0
"""Episodes from running totals."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reach_grasp.demo.progress import TimeLeft
from reach_grasp.demo.settings import DemoSettings
from reach_grasp.report.numbers import evaluation_numbers
from reach_grasp.running.episodes import EpisodeTracker, EvaluationTracker
from reach_grasp.running.rates import Rate, intervention_rate, success_rate


@dataclass
class Status:
    mode: int = 1
    episode: int = 0
    index: int = 0
    episodes_done: int = 0
    successes: int = 0
    steps: int = 0
    interventions: int = 0
    seed: int = 11
    policy_version: int = 1
    episode_return: float = 0.0


def test_each_episode_gets_its_own_ticks_seed_and_outcome():
    tracker = EpisodeTracker()
    assert tracker.feed(Status()) == []
    assert tracker.feed(Status(steps=9, index=9)) == []
    first = tracker.feed(Status(steps=10, episodes_done=1, successes=1, interventions=4, seed=12))
    second = tracker.feed(Status(steps=25, episodes_done=2, successes=1, interventions=4, seed=13))
    assert [(e.number, e.success, e.ticks, e.interventions, e.seed) for e in first + second] == [
        (0, True, 10, 4, 11),
        (1, False, 15, 0, 12),
    ]


def test_episodes_that_ended_unheard_keep_the_sums_right():
    tracker = EpisodeTracker()
    found = tracker.feed(Status(episodes_done=3, successes=2, steps=31))
    assert [e.number for e in found] == [0, 1, 2]
    assert sum(e.ticks for e in found) == 31
    assert sum(e.success for e in found) == 2
    assert tracker.feed(Status(episodes_done=3, successes=2, steps=35)) == []


@dataclass
class Result:
    mode: int = 2
    seed: int = 2_000_000
    end: int = 3
    success: bool = False
    judge: str = ""
    ticks: int = 100
    interventions: int = 0
    policy_version: int = 0
    episode_return: float = 0.0


def test_an_episode_of_an_evaluation_that_nobody_judged_is_no_failure():
    """It was one: an evaluation without a judge gave 0 of 3 = 0 %."""
    tracker = EvaluationTracker()
    results = [
        Result(success=True, judge="person", end=0, ticks=9),
        Result(seed=2_000_001),
        Result(seed=2_000_002, judge="person"),
    ]
    found = [tracker.feed(result) for result in results]
    assert [(e.number, e.success, e.judged, e.end_step) for e in found] == [
        (0, True, True, 9),
        (1, False, False, 109),
        (2, False, True, 209),
    ]
    numbers = evaluation_numbers([episode.as_dict() for episode in found])
    assert (numbers["episodes"], numbers["judged"], numbers["unjudged"]) == (3, 2, 1) and numbers["success_rate"] == 0.5
    assert evaluation_numbers([found[1].as_dict()])["success_rate"] is None, "nothing is known"


def test_an_episode_of_an_evaluation_counts_once_and_one_that_is_to_be_repeated_does_not():
    tracker = EvaluationTracker()
    assert tracker.feed(Result(end=2, judge="person")) is None
    assert tracker.feed(Result(judge="person")).number == 0
    assert tracker.feed(Result(judge="person", success=True)) is None, "an actor that began anew"
    assert tracker.feed(Result(mode=1, seed=5)) is None
    assert tracker.feed(Result(seed=2_000_001, judge="person")).number == 1


def test_a_resumed_run_tells_no_episode_twice():
    first = EpisodeTracker()
    known = first.feed(Status(episodes_done=2, successes=1, steps=30, interventions=6))
    found = EpisodeTracker(known).feed(Status(episodes_done=3, successes=2, steps=42, interventions=7))
    assert [(e.number, e.success, e.ticks, e.interventions) for e in found] == [(2, True, 12, 1)]


def test_the_last_demonstration_is_not_lost_when_the_mode_changes():
    tracker = EpisodeTracker()
    tracker.feed(Status(mode=0, steps=20, episodes_done=1, successes=1))
    tracker.feed(Status(mode=0, steps=29, index=9, episodes_done=1, successes=1))
    found = tracker.feed(Status(mode=1))
    assert [(e.mode, e.number, e.success, e.ticks) for e in found] == [("demonstration", 1, True, 10)]


def test_rates_look_at_the_last_episodes_only():
    (episode,) = EpisodeTracker().feed(Status(episodes_done=1, successes=1, steps=10, interventions=5))
    failed = replace(episode, success=False, interventions=0)
    assert success_rate([failed] * 9 + [episode] * 20) == 1.0
    assert success_rate([episode] * 10 + [failed] * 10) == 0.5
    assert intervention_rate([episode] * 10 + [failed] * 10) == 0.25
    assert success_rate([]) is None and intervention_rate([]) is None


def test_rate_forgets_what_is_old_and_a_counter_that_began_anew():
    rate = Rate(window_s=10.0)
    assert rate.add(0, now=0.0) is None
    assert rate.add(100, now=10.0) == 10.0
    for now in range(11, 31):
        value = rate.add(100 + 50 * (now - 10), now=float(now))
    assert value == 50.0
    assert rate.add(0, now=31.0) is None


def test_time_left_shrinks_and_follows_a_slow_machine():
    left = TimeLeft(DemoSettings())
    begin = left.seconds("demonstrations", 0.0, {})
    spent = {"demonstrations": 60.0, "dataset": 15.0, "classifier": 90.0, "imitation": 45.0, "training": 150.0}
    half = left.seconds("training", 0.5, spent)
    slow = left.seconds("training", 0.5, {name: 2 * value for name, value in spent.items()})
    assert begin > half > 0.0
    assert slow > 1.5 * half
    assert left.seconds("report", 1.0, {"report": 8.0}) == 0.0
