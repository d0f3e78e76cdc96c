# SPDX-License-Identifier: Apache-2.0
"""A person with a device in simulation, over real DDS: the whole system waits for the hand, tick by tick."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from sensor_msgs.msg import JointState, Joy

from hilserl_interfaces.msg import EpisodeStatus, Step, TeleopCommand
from hilserl_ros import qos
from hilserl_ros.testing import Rig
from reach_grasp.process import background

MAPPING = dict.fromkeys(("z", "gripper", "success", "rerecord", "stop", "pause", "resume", "ready", "estop", "triggers"), "")
MAPPING |= {"x": "axes/0", "y": "axes/1", "hold": "buttons/0", "failure": "buttons/1"}
OWN = {
    "/**/gamepad": {"ros__parameters": {"device": "joy", "joy_timeout_s": 10.0, "mapping": MAPPING}},
    "/**": {"ros__parameters": {"task": {"max_episode_s": 30.0}}},
}


class Hand(Rig):
    """A person with a gamepad, who sees what the arm and the actor say."""

    def __init__(self) -> None:
        super().__init__(9)
        self.stick, self.failure = (0.0, 0.0), False
        self.teleop: list[TeleopCommand] = []
        self.steps: list[Step] = []
        self.place = 0.0  # of the first joint
        self.status = EpisodeStatus()
        self.joy = self.node.create_publisher(Joy, "joy", qos.JOY)
        subscribe = self.node.create_subscription
        subscribe(TeleopCommand, "teleop", self.teleop.append, qos.recorded(qos.TELEOP))
        subscribe(Step, "steps", self.steps.append, qos.STEPS)
        subscribe(JointState, "joint_states", lambda message: setattr(self, "place", message.position[0]), qos.JOINT_STATES)
        subscribe(EpisodeStatus, "episode/status", lambda message: setattr(self, "status", message), qos.STATUS)

    def meanwhile(self) -> None:
        self.joy.publish(Joy(axes=list(self.stick), buttons=[int(any(self.stick)), int(self.failure)]))


@pytest.fixture
def hand():
    found = Hand()
    yield found
    found.close()


def test_a_gamepad_drives_the_simulated_arm_tick_by_tick_and_its_keys_end_an_episode(tmp_path: Path, hand: Hand) -> None:
    """`--teleop gamepad` was ignored in simulation: the scripted person drove."""
    config = tmp_path / "own.yaml"
    config.write_text(yaml.safe_dump(OWN))
    given = {"run": tmp_path / "run", "teleop": "gamepad", "demonstrations": 1, "config": config, "real_time_factor": 0.0}
    with background("record", given, tmp_path / "log.txt", {"ROS_DOMAIN_ID": str(hand.domain)}) as process:

        def runs() -> bool:
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
            return True

        hand.until(lambda: runs() and hand.teleop, "the system")
        hand.stick = (0.0, 1.0)
        # Its steps too: a reader that the actor discovers late misses the first ones.
        hand.until(
            lambda: runs() and abs(hand.place) > 0.25 and any(any(step.action) for step in hand.steps), "the arm to turn"
        )
        assert hand.teleop[-1].active and list(hand.teleop[-1].action) == [0.0, 1.0, 0.0, 0.0]
        hand.stick, episode = (0.0, 0.0), hand.status.episode
        hand.failure = True
        hand.until(lambda: runs() and hand.status.episode > episode, "the end of the episode by the key")
    stamps = [(message.header.stamp.sec, message.header.stamp.nanosec) for message in hand.teleop]
    assert len(stamps) == len(set(stamps)), "one answer for each observation"
    driven = [step for step in hand.steps if len(step.action) and any(step.action)]
    assert driven and all(step.intervention and list(step.action) == [0.0, 1.0, 0.0, 0.0] for step in driven)
