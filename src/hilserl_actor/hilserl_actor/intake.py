# SPDX-License-Identifier: Apache-2.0
"""Inputs of the actor: the topics that make up an observation, put together by their stamps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from hilserl_actor.episode import PERSON
from hilserl_actor.reading import read_observation
from hilserl_actor.settings import ActorParameters
from hilserl_actor.teleop_topics import TeleopTopics
from hilserl_core.kinematics import Kinematics
from hilserl_core.observation import ObservationError
from hilserl_core.stamps import foreign_stamp, set_back_s
from hilserl_core.step import Observation
from hilserl_core.synchroniser import Synchroniser
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import Reward, TeleopCommand
from hilserl_ros import qos
from hilserl_ros.convert import joint_maps, to_ns
from hilserl_ros.images import ImageError
from hilserl_ros.node import StartAgain

_REWARD = "reward"


@dataclass(frozen=True)
class Instant:
    """An observation with the measured joints (J,) rad. reward: in lockstep, where one is due. parts: topic -> message."""

    stamp_ns: int
    observation: Observation
    joints: np.ndarray
    reward: Reward | None
    parts: dict[str, Any]


class Intake:
    """Listens to joints, cameras, rewards and sources of teleop. In lockstep an observation needs all of them, with its stamp.

    `sync` holds the messages that have come and were not used yet.
    """

    def __init__(
        self,
        node: Node,
        task: TaskSpec,
        params: ActorParameters,
        kinematics: Kinematics,
        came: Callable[[str, int], None],
        rewarded: Callable[[Reward, float], None],
        clock_set_back: Callable[[str], None],
    ) -> None:
        """came: called with each part of an observation and its stamp [ns].

        rewarded: in real time, called with each reward and when it was published [s]. clock_set_back: called with one sentence
        before the first message of the new time is used.
        """
        self._node, self._task, self._kinematics = node, task, kinematics
        self._lockstep = params.lockstep
        self._came, self._rewarded, self._clock_set_back = came, rewarded, clock_set_back
        self._joints: tuple[np.ndarray, float] | None = None  # the newest finite joints, and when they came
        self._fresh_s = params.observation_timeout_s
        self.teleop = TeleopTopics(
            node, params.teleop_sources, task, self._complain, self._on_teleop, real_time=not params.lockstep
        )
        self._rewards = [] if params.judge == PERSON else [_REWARD]
        parts = [*task.cameras, "joints"]  # the first gives the observation's stamp, which the reward carries too
        if params.lockstep:
            parts += [*self._rewards, *self.teleop.topics]
        self.sync = Synchroniser(parts, 0 if params.lockstep else round(0.5e9 * task.tick_s))
        image_qos = qos.IMAGE if params.lockstep else qos.newest()
        create = node.create_subscription
        self._subscriptions = {"joints": create(JointState, "joint_states", self._on_joints, qos.JOINT_STATES)}
        for camera in task.cameras:
            self._subscriptions[camera] = create(Image, f"{camera}/image_raw", partial(self._on_part, camera), image_qos)
        self._subscriptions |= {part: create(Reward, part, self._on_reward, qos.REWARD) for part in self._rewards}
        self._subscriptions |= self.teleop.subscriptions

    @property
    def joints(self) -> np.ndarray | None:
        """The newest finite joints, (J,) rad, None when there are none or they are old."""
        if self._joints is None or time.monotonic() - self._joints[1] > self._fresh_s:
            return None
        return self._joints[0]

    def of_now(self, name: str, stamp: Time) -> bool:
        """Whether a stamp can be from the present; logs an error when not. Simulated time is never checked."""
        sentence = "" if self._lockstep else foreign_stamp(name, to_ns(stamp), self._node.get_clock().now().nanoseconds)
        if sentence:
            self._node.get_logger().error(sentence, throttle_duration_sec=5.0)
        return not sentence

    def newest(self, judged: bool, waits: bool) -> Instant | None:
        """The newest complete observation, None when there is none.

        judged: a person has judged, so the reward may be missing. waits: the loop waits for a person. In both cases no source
        of teleop has to answer.
        Raises ObservationError, ImageError when it cannot be used, and forgets it.
        """
        optional = [*(self._rewards if judged else ()), *(self.teleop.topics if judged or waits else ())]
        found = self.sync.newest(optional)
        if found is None:
            return None
        stamp_ns, parts = found
        try:
            observation, joints = read_observation(stamp_ns, parts, self._task, self._kinematics)
            reward = parts.get(_REWARD)
            if reward is not None and not math.isfinite(reward.reward):
                raise ObservationError(f"the reward is {reward.reward}")
        except (ObservationError, ImageError):
            self.sync.use(stamp_ns)
            raise
        return Instant(stamp_ns, observation, joints, reward, parts)

    def look_for_publishers(self, parts: list[str]) -> None:
        """Raise StartAgain for a part without a visible publisher, since in lockstep all of them belong to this system.

        On a starved machine (eight busy programs beside it on two cores: about one start in ten) Fast DDS does not show one
        process another's publishers, and never tries again; a new process sees them.
        """
        if unseen := [part for part in parts if not self._subscriptions[part].get_publisher_count()]:
            raise StartAgain(f"nobody is seen to publish {', '.join(unseen)}")

    def _complain(self, why: str) -> None:
        self._node.get_logger().error(why, throttle_duration_sec=5.0)

    def _on_part(self, part: str, message: Any) -> None:
        stamp_ns = to_ns(message.header.stamp)
        if not self.of_now(part, message.header.stamp):
            return
        if not self._lockstep and (back_s := set_back_s(stamp_ns, self.sync.used_through)):
            self._clock_set_back(f"the system clock was set back by {back_s:.0f} s")
            self.sync.begin_anew()
        self.sync.add(part, stamp_ns, message)
        self._came(part, stamp_ns)

    def _on_joints(self, message: JointState) -> None:
        positions, _ = joint_maps(message)
        joints = np.array([positions.get(joint, np.nan) for joint in self._task.joints])
        if np.isfinite(joints).all():
            self._joints = joints, time.monotonic()
        self._on_part("joints", message)

    def _on_reward(self, message: Reward, info: dict) -> None:
        if self._lockstep:
            self._on_part(_REWARD, message)
        elif not math.isfinite(message.reward):
            self._complain(f"a reward is {message.reward}: it is ignored")
        elif self.of_now(_REWARD, message.header.stamp):
            self._rewarded(message, info["source_timestamp"] * 1e-9)

    def _on_teleop(self, topic: str, message: TeleopCommand) -> None:
        if self._lockstep:
            self._on_part(topic, message)
        else:
            self.of_now(topic, message.header.stamp)  # a wrong stamp is only logged: the command counts from its arrival on
