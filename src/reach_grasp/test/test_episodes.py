# SPDX-License-Identifier: Apache-2.0
"""Episodes from how the actor says they ended, and rates of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reach_grasp.demo.progress import TimeLeft
from reach_grasp.demo.settings import DemoSettings
from reach_grasp.report.numbers import evaluation_numbers
from reach_grasp.running.episodes import EpisodeTracker
from reach_grasp.running.rates import Rate, intervention_rate, success_rate


@dataclass
class Result:
    run_id: str = "run"
    episode: int = 0
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
    """Before, it counted as a failure: an evaluation without a judge gave 0 of 3 = 0 %."""
    tracker = EpisodeTracker()
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
    tracker = EpisodeTracker()
    assert tracker.feed(Result(end=2, judge="person")) is None
    assert tracker.feed(Result(judge="person")).number == 0
    assert tracker.feed(Result(judge="person", success=True)) is None, "an actor that began anew"
    assert tracker.feed(Result(seed=2_000_001, judge="person")).number == 1
    again = tracker.feed(Result(mode=1, end=2, judge="person", ticks=7))
    assert (again.judged, again.end_step) == (False, 7), "the steps of training were taken all the same"


def test_a_resumed_run_tells_no_episode_twice_and_counts_on():
    first = EpisodeTracker()
    known = [first.feed(Result(mode=1, episode=number, judge="classifier", ticks=15)) for number in (20, 21)]
    assert first.feed(Result(mode=1, episode=21, judge="classifier")) is None, "heard twice"
    result = Result(mode=1, episode=22, judge="classifier", success=True, ticks=12, interventions=1)
    episode = EpisodeTracker(known).feed(result)
    assert (episode.number, episode.success, episode.ticks, episode.interventions, episode.end_step) == (2, True, 12, 1, 42)


def test_each_episode_has_its_own_ticks_however_many_ended_before_anybody_listened():
    """Before, what ended between two words of the actor was told in equal parts: 12 and 20 ticks became 16 and 16."""
    tracker = EpisodeTracker()
    results = [Result(mode=mode, episode=number, ticks=ticks, judge="person") for number, (mode, ticks) in enumerate(
        [(0, 12), (0, 20), (1, 7)]
    )]  # fmt: skip
    found = [tracker.feed(result) for result in results]
    assert [(e.mode, e.number, e.ticks) for e in found] == [
        ("demonstration", 0, 12), ("demonstration", 1, 20), ("training", 0, 7),
    ]  # fmt: skip


def test_rates_look_at_the_last_episodes_only_and_leave_out_what_nobody_judged():
    episode = EpisodeTracker().feed(Result(mode=1, success=True, judge="person", ticks=10, interventions=5))
    failed, unjudged = replace(episode, success=False, interventions=0), replace(episode, success=False, judged=False)
    assert success_rate([failed] * 9 + [episode] * 20) == 1.0
    assert success_rate([episode] * 10 + [failed] * 10) == 0.5
    assert intervention_rate([episode] * 10 + [failed] * 10) == 0.25
    assert success_rate([failed] * 5 + [unjudged] * 10 + [episode] * 5) == 0.5
    assert success_rate([]) is None and intervention_rate([]) is None and success_rate([unjudged]) is None


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
