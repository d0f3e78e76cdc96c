# SPDX-License-Identifier: Apache-2.0
"""The comparison of rewards, on made-up reports."""

import math

import pytest

from benchmarks.learned_reward import compare, paired_interval, text


def test_the_interval_of_paired_proportions():
    low, middle, high = paired_interval([(True, True)] * 90 + [(True, False)] * 6 + [(False, True)] * 2 + [(False, False)] * 2)
    # Cells with half a pair more: 6.5 and 2.5 of 102.
    centre, width = (2.5 - 6.5) / 102, 1.959964 * math.sqrt((6.5 + 2.5) - (2.5 - 6.5) ** 2 / 102) / 102
    assert (low, middle, high) == pytest.approx((centre - width, -0.04, centre + width))
    low, middle, high = paired_interval([(True, True)] * 50)
    assert middle == 0.0 and low == -high < 0.0, "no difference seen is not no difference"


def report(seed, successes, false=0):
    return {
        "seed": seed, "success_rate": sum(successes) / len(successes), "wall_minutes": 1.0, "ticks_ratio": 0.6,
        "evaluation": {"final": [{"success": success} for success in successes]},
        "classifier": {"judged_episodes": 300, "false_successes": false, "missed_successes": 1},
    }  # fmt: skip


def test_worlds_are_compared_one_by_one():
    reports = {
        "simulation": [report(0, [True] * 9 + [False]), report(1, [True] * 10)],
        "classifier": [report(0, [False] + [True] * 9, 2), report(1, [True] * 10)],
    }
    found = compare(reports)
    assert found["successes"] == {"simulation": 19, "classifier": 19}
    assert found["difference"] == 0.0 and found["difference_interval"][1] > 0.05
    assert (found["training_episodes"], found["false_successes"], found["missed_successes"]) == (600, 2, 2)
    assert "false success in 2 of 600 training episodes = 0.33 %" in text(found)
