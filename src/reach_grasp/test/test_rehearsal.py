# SPDX-License-Identifier: Apache-2.0
"""The rehearsal's own parts: verdicts beside the truth, the lag of motion, and its stages."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reach_grasp.command import main
from reach_grasp.options import Parser
from reach_grasp.rehearsal.lag import shift_s
from reach_grasp.rehearsal.settings import RehearsalSettings
from reach_grasp.rehearsal.stages import CAMERAS, Plan
from reach_grasp.rehearsal.truth import GRACE_NS, TruthTracker, truth_numbers
from reach_grasp.verbs import VERBS

TICK_NS = 100_000_000
DEVICES = {"/dev/ttyACM0": "twin/follower", "/dev/ttyACM1": "twin/leader", CAMERAS[0]: "http://a", CAMERAS[1]: "http://b"}


def judged(held, said, judge="classifier", ticks=30, end=30):
    """The episode of `ticks` ticks whose cube was held in the ticks of `held`, long enough from the third on."""
    tracker = TruthTracker()
    tracker.began(7, TICK_NS)
    for tick in range(1, ticks + 10):
        tracker.truth(tick * TICK_NS, tick in held, tick - 2 in held and tick - 1 in held and tick in held)
    known = {"mode": "evaluation", "episode": 7, "seed": 3, "ticks": ticks, "interventions": 0}
    tracker.ended(end * TICK_NS, said=said, judge=judge, **known)
    assert tracker.finished(end * TICK_NS) == []  # its truth may still be on its way
    (episode,) = tracker.finished(end * TICK_NS + 2 * GRACE_NS)
    assert tracker.finished(2**62) == []
    return episode


@pytest.mark.parametrize(
    ("held", "said", "expected"),
    [
        (range(20, 40), True, (True, True, False, False)),
        ((), True, (False, False, True, False)),
        (range(20, 40), False, (True, True, False, True)),
        (range(10, 20), False, (True, False, False, True)),
        (range(29, 31), True, (False, True, False, False)),  # held, but not yet for as long as a success takes
        ((), False, (False, False, False, False)),
        (range(35, 40), False, (False, False, False, False)),  # after the end
    ],
)
def test_a_verdict_beside_the_truth(held, said, expected):
    episode = judged(held, said)
    assert (episode.true, episode.held, episode.false_success, episode.missed_success) == expected
    assert episode.duration_s == pytest.approx(2.9)


def test_an_episode_that_nobody_judged_is_in_no_rate():
    found = [judged((), True).as_dict(), judged(range(20, 40), None, judge="").as_dict(), judged((), False).as_dict()]
    numbers = truth_numbers(found)
    assert (numbers["judged_episodes"], numbers["unjudged_episodes"]) == (2, 1)
    assert (numbers["false_successes"], numbers["missed_successes"]) == (1, 0)
    assert numbers["false_success_rate"] == 0.5
    assert truth_numbers([])["false_success_rate"] == 0.0


@pytest.mark.parametrize("delay_s", [0.0, 0.07, 0.25])
def test_the_lag_is_the_delay_between_told_and_seen(delay_s):
    rng = np.random.default_rng(1)
    told_s, seen_s = np.arange(0.0, 12.0, 0.1), np.arange(0.0, 12.0, 0.01)
    told = np.cumsum(rng.normal(0, 0.05, told_s.size))
    seen = np.interp(seen_s - delay_s, told_s, told) - 0.1  # what load shifts does not count
    assert shift_s(told_s, told, seen_s, seen) == pytest.approx(delay_s, abs=0.011)
    assert shift_s(told_s, 0 * told, seen_s, seen) is None


def test_each_stage_calls_commands_that_there_are(tmp_path):
    """Every word is one that the command's own parser takes."""
    plan = Plan(tmp_path, RehearsalSettings())
    calls = [call.words for stage in plan.stages(DEVICES) for call in stage.calls]
    calls += [plan.calibrate(arm, DEVICES) for arm in ("follower", "leader")]
    verbs = {verb.name: verb for verb in VERBS}
    for name, *words in calls:
        parser = Parser(prog=name)
        verbs[name].add_arguments(parser)
        parser.parse_args(words)


def test_wrong_values_are_refused_before_anything_starts(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["rehearse", "--demonstrations", "1", "--output", str(folder)]) == 2
    assert "--demonstrations is 1, allowed is a whole number from 2" in capsys.readouterr().err
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    assert main(["rehearse", "--output", str(folder)]) == 2
    assert "holds something else than a rehearsal" in capsys.readouterr().err


def test_a_report_needs_a_finished_rehearsal(tmp_path):
    from reach_grasp.errors import CommandError
    from reach_grasp.rehearsal.report import collect

    (tmp_path / "rehearsal.json").write_text(json.dumps({"settings": {}, "done": ["doctor"]}))
    with pytest.raises(CommandError, match="holds no finished rehearsal"):
        collect(tmp_path)
