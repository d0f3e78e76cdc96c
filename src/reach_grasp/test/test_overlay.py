# SPDX-License-Identifier: Apache-2.0
"""What stands beside the arm in rviz."""

import numpy as np
from visualization_msgs.msg import Marker

from hilserl_interfaces.msg import EpisodeStatus, Reward
from reach_grasp.overlay import PERSON, POLICY, Trail, text_marker, words

TICK_NS = 100_000_000


def test_the_trail_is_as_long_as_asked_and_says_who_drove():
    trail = Trail(0.5)
    for tick in range(20):
        trail.add(tick * TICK_NS, np.array([tick / 100, 0.0, 0.1]), person=tick > 17)
    marker = trail.marker()
    assert (marker.type, marker.action, marker.header.frame_id) == (Marker.LINE_STRIP, Marker.ADD, "base_link")
    assert [round(100 * point.x) for point in marker.points] == [14, 15, 16, 17, 18, 19]
    assert list(marker.colors) == [POLICY] * 4 + [PERSON] * 2


def test_a_fast_arm_gives_no_more_points_than_a_line_needs():
    trail = Trail(5.0)
    for number in range(100):  # 100 Hz
        if trail.due(number * 10_000_000):
            trail.add(number * 10_000_000, np.zeros(3), person=False)
    assert len(trail.points) == 25


def test_a_trail_without_a_past_takes_the_old_one_away():
    trail = Trail(5.0)
    assert trail.marker().action == Marker.DELETE
    trail.add(50 * TICK_NS, np.zeros(3), person=False)
    trail.add(51 * TICK_NS, np.zeros(3), person=False)
    assert trail.due(1 * TICK_NS), "the clock went back: another bag"
    assert trail.marker().action == Marker.DELETE


def test_an_episode_has_a_trail_of_its_own():
    trail = Trail(5.0)
    trail.belong(EpisodeStatus(run_id="r", episode=4))
    trail.add(TICK_NS, np.zeros(3), person=False)
    trail.belong(EpisodeStatus(run_id="r", episode=4, index=1))
    assert len(trail.points) == 1
    trail.belong(EpisodeStatus(run_id="r", episode=5))
    assert not trail.points


def test_the_words():
    status = EpisodeStatus(mode=1, phase=EpisodeStatus.RUNNING, episode=12, index=34, policy_version=7, intervention=True)
    reward = Reward(probability=0.874, reward=1.0)
    assert words(None, None, 0.0) == "no reward yet"
    assert words(None, reward, 0.1) == "success 87 %, reward 1"
    assert words(status, reward, 0.1) == (
        "training, episode 12, step 34\nsuccess 87 %, reward 1, return 0\npolicy 7, a person drives"
    )
    status.phase, status.text = EpisodeStatus.HOLDING, "no image for 0.5 s"
    told = words(status, reward, 4.0)
    assert told.startswith("training, episode 12, step 34: holding no image for 0.5 s\nno reward for 4 s, return 0")


def test_every_phase_has_a_word():
    for phase in range(7):
        assert "unknown" not in words(EpisodeStatus(phase=phase), None, 0.0)


def test_a_success_is_green():
    plain, success = (text_marker("x", success, 0.02) for success in (False, True))
    assert plain.type == Marker.TEXT_VIEW_FACING and plain.text == "x" and plain.scale.z == 0.02
    assert success.color.g > success.color.r and plain.color.g == plain.color.r
    assert plain.color.a == success.color.a == 1.0, "an alpha of 0 would not be seen"
