# SPDX-License-Identifier: Apache-2.0
"""A test that plays cameras, arm and actor of the node over DDS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState

from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import EpisodeStatus, Reward
from hilserl_ros import qos
from hilserl_ros.convert import to_ns, to_stamp
from hilserl_ros.images import rgb_to_image
from reward_classifier_node.reward_classifier_node import RewardClassifierNode

TASK = TaskSpec(camera_sizes=(128, 128), crops=(0, 0, 128, 128))
TWO = replace(TASK, cameras=("wrist", "front"), camera_sizes=(128, 128) * 2, crops=(0, 0, 128, 128) * 2, rotations_deg=(0, 0))
TICK_NS = 100_000_000
TIMEOUT_S = 30.0


def words_of(task: TaskSpec) -> list[str]:
    """ROS arguments for what differs from the default task."""
    changed = {key: value for key, value in task.as_dict().items() if value != TaskSpec().as_dict()[key]}
    return [word for key, value in changed.items() for word in ("-p", f"task.{key}:={json.dumps(value)}")]


class Station:
    """Cameras, arm, actor, and the node that is tested."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("station", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        create = self.node.create_publisher
        self.cameras = {camera: create(Image, f"{camera}/image_raw", qos.IMAGE) for camera in ("wrist", "front")}
        self.joints = create(JointState, "joint_states", qos.JOINT_STATES)
        self.status = create(EpisodeStatus, "episode/status", qos.STATUS)
        self.rewards: list[Reward] = []
        self.pictures: list[Image] = []
        self.reports: list[DiagnosticStatus] = []
        subscribe = self.node.create_subscription
        subscribe(Reward, "reward", self.rewards.append, qos.REWARD)
        subscribe(DiagnosticArray, "diagnostics", lambda message: self.reports.extend(message.status), qos.DIAGNOSTICS)
        self.tested: RewardClassifierNode | None = None

    def start(self, artifact: Path, *parameters: str, task: TaskSpec = TASK) -> RewardClassifierNode:
        """The node, once it hears and is heard. parameters: such as "lockstep:=true"."""
        words = [word for text in (f"artifact:={artifact}", *parameters) for word in ("-p", text)]
        self.tested = RewardClassifierNode(context=self.context, cli_args=["--ros-args", *words, *words_of(task)])
        self.executor.add_node(self.tested)
        publishers = [*(self.cameras[camera] for camera in task.cameras), self.status]
        self.until(lambda: all(publisher.get_subscription_count() for publisher in publishers), "the node's subscriptions")
        self.until(lambda: self.tested.count_subscribers("reward"), "the test's subscription")
        return self.tested

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Spin until the condition holds; fails after TIMEOUT_S."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def show(self, frame: np.ndarray | Image, tick: int, camera: str = "wrist") -> None:
        """Publish an image with the stamp of that tick."""
        message = frame if isinstance(frame, Image) else rgb_to_image(frame)
        message.header.stamp = to_stamp(tick * TICK_NS)
        self.cameras[camera].publish(message)

    def answer(self, frame: np.ndarray, tick: int) -> Reward:
        """What the node says of a frame of the first camera."""
        before = len(self.rewards)
        self.show(frame, tick)
        self.until(lambda: len(self.rewards) > before, f"the reward of tick {tick}")
        (answer,) = self.rewards[before:]
        assert to_ns(answer.header.stamp) == tick * TICK_NS
        return answer

    def say(self, episode: int, phase: int) -> None:
        """Publish what the actor would."""
        self.status.publish(EpisodeStatus(run_id="run", episode=episode, phase=phase))

    def close(self) -> None:
        """End the node and the station."""
        self.executor.shutdown()
        if self.tested is not None:
            self.tested.close()
            self.tested.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
