# SPDX-License-Identifier: Apache-2.0
"""The scripted person as a node: sees joints and cube, answers every observation, and says what a person says by key."""

from __future__ import annotations

import array
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState

from hilserl_core.kinematics import Kinematics
from hilserl_core.step import Mode
from hilserl_interfaces.msg import EpisodeEvent, EpisodeStatus, Reward, TeleopCommand
from hilserl_ros import qos
from hilserl_ros.convert import to_ns, to_stamp
from hilserl_ros.node import BaseNode, main_of
from hilserl_ros.parameters import parameter
from so101_description import urdf_path
from so101_sim.operator import OperatorConfig, ScriptedOperator
from so101_sim.turns import Running, Turns


@dataclass(frozen=True)
class OperatorParameters:
    """Parameters of the operator node; how the person moves and helps is `person.*`."""

    lockstep: bool = parameter(True, "Answer every simulated observation, as a function of the run and not of timing.")
    seed: int = parameter(0, "Seed of what the person does.", minimum=0, maximum=2**31 - 1)
    judges: bool = parameter(
        False, "Say success and failure of every episode, as the person does who judges; else only what is given up."
    )


_IN_EPISODE = (EpisodeStatus.RUNNING, EpisodeStatus.AWAITING_PERSON)


class OperatorNode(BaseNode[OperatorParameters]):
    """Publishes `teleop/operator` with the stamp of the observation it answers, inactive while the person keeps hands off."""

    def __init__(self) -> None:
        super().__init__("operator", OperatorParameters, {"person.": OperatorConfig})
        task = self.task
        kinematics = Kinematics(urdf_path(), task.joints)
        self._person = ScriptedOperator(self.tables["person."], task, kinematics, self.params.seed)
        self._turns = Turns(("joints", "cube", "truth"), round(1e9 * task.tick_s), self.params.lockstep)
        self._episode: tuple[str, int] | None = None
        self._verdict: bool | None = None  # that was said of this episode
        self._asked: tuple[str, int] | None = None  # the newest episode whose verdict the actor waited for
        self._answer: TeleopCommand | None = None
        self._teleop = self.create_publisher(TeleopCommand, "teleop/operator", qos.recorded(qos.TELEOP))
        self._event = self.create_publisher(EpisodeEvent, "episode/event", qos.EPISODE_EVENT)
        self.create_subscription(EpisodeStatus, "episode/status", self._on_status, qos.STATUS)
        self.create_subscription(JointState, "joint_states", self._on_joints, qos.JOINT_STATES)
        self.create_subscription(PoseStamped, "cube_pose", self._on_cube, qos.CUBE_POSE)
        self.create_subscription(Reward, "truth", self._on_truth, qos.REWARD)

    def _on_status(self, message: EpisodeStatus) -> None:
        running = None
        if message.phase == EpisodeStatus.AWAITING_READY:
            self._say(EpisodeEvent.READY, message.header.stamp)
        elif message.phase == EpisodeStatus.AWAITING_VERDICT and self.params.judges:
            self._answer_for_verdict(message)
        elif message.phase in _IN_EPISODE:
            running = Running(message.run_id, message.episode, message.mode, message.episodes_done, to_ns(message.header.stamp))
        self._turns.status(running)
        self._advance()

    def _on_joints(self, message: JointState) -> None:
        stamp_ns = to_ns(message.header.stamp)
        if self._answer is not None and stamp_ns == self._turns.answered_ns:
            self._teleop.publish(self._answer)  # the simulation repeats itself: somebody came late
            return
        joints = dict(zip(message.name, message.position, strict=False))
        if not set(self.task.joints) <= set(joints):
            missing = sorted(set(self.task.joints) - set(joints))
            self.get_logger().error(f"joint_states lacks {missing}: the person cannot act", throttle_duration_sec=5.0)
            return
        self._turns.add("joints", stamp_ns, np.array([joints[name] for name in self.task.joints]))
        self._advance()

    def _on_cube(self, message: PoseStamped) -> None:
        place, turn = message.pose.position, message.pose.orientation
        pose = (np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
        self._turns.add("cube", to_ns(message.header.stamp), pose)
        self._advance()

    def _on_truth(self, message: Reward) -> None:
        self._turns.add("truth", to_ns(message.header.stamp), message.success)
        self._advance()

    def _advance(self) -> None:
        """Answer the observation whose turn it is, if any."""
        turn = self._turns.take()
        if turn is None:
            return
        stamp_ns, parts, running = turn
        if self._episode != (running.run_id, running.episode):
            self._episode, self._verdict = (running.run_id, running.episode), None
            self._person.begin(Mode(running.mode), running.number)
        if self._person.gives_up(parts["cube"]):
            self._judge(False, to_stamp(stamp_ns))
        elif self.params.judges and parts["truth"]:
            self._judge(True, to_stamp(stamp_ns))
        active, action = self._person.act(parts["joints"], parts["cube"], parts["truth"])
        self._answer = TeleopCommand(active=active)
        self._answer.header.stamp = to_stamp(stamp_ns)
        if active:
            self._answer.action = array.array("f", action.tobytes())
        self._teleop.publish(self._answer)

    def _answer_for_verdict(self, message: EpisodeStatus) -> None:
        """Time is over and the actor asks, in one status after another: say it again, or that it failed."""
        if self._asked != (message.run_id, message.episode):
            self._asked = (message.run_id, message.episode)
            self._say(EpisodeEvent.SUCCESS if self._verdict else EpisodeEvent.FAILURE, message.header.stamp)

    def _judge(self, success: bool, stamp: Time) -> None:
        """Say success or failure, once an episode."""
        if self._verdict is None:
            self._verdict = success
            self._say(EpisodeEvent.SUCCESS if success else EpisodeEvent.FAILURE, stamp)

    def _say(self, kind: int, stamp: Time) -> None:
        event = EpisodeEvent(kind=kind, source="operator")
        event.header.stamp = stamp
        self._event.publish(event)


main = main_of(OperatorNode)
