# SPDX-License-Identifier: Apache-2.0
"""Nodes that only say what real ones would, over real ROS: actor (with its cameras) and learner.

Run as a program: fake_nodes.py actor|learner --ros-args ...
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from hilserl_interfaces.msg import EpisodeResult, EpisodeStatus, LearnerStatus
from hilserl_ros import qos

DEMONSTRATION_TICKS, START_TICKS, FINAL_TICKS = 12, 20, 10


def picture(stamp_ns: int, shade: int) -> Image:
    """A plain 32x32 image."""
    message = Image(height=32, width=32, encoding="rgb8", step=96, data=np.full(3072, shade % 256, np.uint8).tobytes())
    message.header.stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return message


class FakeNode(Node):
    """Takes every parameter it is given."""

    def __init__(self, name: str) -> None:
        super().__init__(name, allow_undeclared_parameters=True, automatically_declare_parameters_from_overrides=True)

    def value(self, name: str) -> object:
        return self.get_parameter(name).value


class FakeActor(FakeNode):
    """Goes through the plan at a tick each few milliseconds; counts on from its folder.

    Half-way through training it waits for a file `go` in its folder. With FAKE_ACTOR_ENDS_AFTER in the environment it
    refuses to go on after so many episodes of an evaluation.
    """

    def __init__(self) -> None:
        super().__init__("actor")
        self.status = EpisodeStatus(run_id="fake", phase=EpisodeStatus.RUNNING)
        self.file = Path(str(self.value("folder")), "fake.json")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if self.value("mode") == "evaluation":
            self.status.mode = 2
            self.ticks = FINAL_TICKS if "000000" not in str(self.value("checkpoint")) else START_TICKS
        elif self.file.is_file():
            for name, value in json.loads(self.file.read_text()).items():
                setattr(self.status, name, value)
        self.publisher = self.create_publisher(EpisodeStatus, "episode/status", qos.STATUS)
        self.results = self.create_publisher(EpisodeResult, "episode/result", qos.EPISODE_RESULT)
        self.cameras = [self.create_publisher(Image, f"{name}/image_raw", qos.IMAGE) for name in ("wrist", "front")]
        self.stamp_ns = 0
        # Nobody publishes /clock here.
        self.create_timer(0.004, self.tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def tick(self) -> None:
        status = self.status
        # The demo listens, and in training the learner does.
        if self.publisher.get_subscription_count() < (1 if status.mode == 2 else 2):
            return
        if status.mode == 2 and status.episodes_done >= int(os.environ.get("FAKE_ACTOR_ENDS_AFTER", "1000")):
            self.get_logger().fatal("the policy is gone")
            raise SystemExit(2)
        if status.phase == EpisodeStatus.DONE:
            self.publisher.publish(status)
            return
        if status.mode == 1 and 2 * status.steps >= self.value("training_steps") and not self.file.with_name("go").exists():
            self.publisher.publish(status)
            return
        limit = {0: DEMONSTRATION_TICKS, 1: 15, 2: getattr(self, "ticks", 0)}[status.mode]
        status.index += 1
        status.steps += 1
        status.sequence += 1
        status.acknowledged = status.sequence
        if status.mode == 1 and status.index <= 3:
            status.interventions += 1
        if status.index >= limit:
            status.index = 0
            success = status.episodes_done % 10 != 9 or status.mode == 0
            judge = "" if self.value("judge") == "person" else "simulation"  # nobody is here to say anything
            result = {"mode": status.mode, "seed": status.episodes_done, "success": success and bool(judge), "judge": judge}
            result |= {"run_id": status.run_id, "episode": status.sequence, "interventions": 3 * (status.mode == 1)}
            self.results.publish(EpisodeResult(**result, ticks=limit))
            status.episodes_done += 1
            status.successes += success
        if status.mode == 0 and status.successes >= self.value("demonstrations"):
            status.mode, status.policy_version, status.policy_versions_applied = 1, 3, 3
            status.steps = status.episodes_done = status.successes = 0
        trained = status.mode == 1 and status.steps >= self.value("training_steps")
        if trained or (status.mode == 2 and status.episodes_done >= self.value("evaluation_episodes")):
            status.phase = EpisodeStatus.DONE
        if status.mode == 1:
            names = ("mode", "steps", "sequence", "episodes_done", "successes", "interventions", "policy_version")
            self.file.write_text(json.dumps({name: getattr(status, name) for name in names}))
        self.stamp_ns += 10**8
        for camera in self.cameras:
            camera.publish(picture(self.stamp_ns, status.index * 10))
        self.publisher.publish(status)


class FakeLearner(FakeNode):
    """Has trained on whatever the actor says it sent; leaves a first and, at its end, a last checkpoint."""

    def __init__(self) -> None:
        super().__init__("learner")
        self.folder = Path(str(self.value("folder"))) / "checkpoints"
        (self.folder / "000000").mkdir(parents=True, exist_ok=True)
        self.publisher = self.create_publisher(LearnerStatus, "learner/status", qos.STATUS)
        self.create_subscription(EpisodeStatus, "episode/status", self.on_status, qos.STATUS)

    def on_status(self, message: EpisodeStatus) -> None:
        step = int(message.sequence)
        status = LearnerStatus(
            phase="training",
            progress=0.5,
            optimization_step=2 * step,
            policy_version=3,
            replay_size=step,
            steps_received=step,
            trained_through=step,
            updates_per_second=50.0,
        )
        metrics = {"loss_critic": 1.0 / (1 + step), "temperature": 0.1, "q_mean": 0.5, "resident_mb": 500.0}
        status.metrics = [KeyValue(key=name, value=str(value)) for name, value in metrics.items()]
        self.publisher.publish(status)

    def close(self) -> None:
        (self.folder / "000100").mkdir(exist_ok=True)
        last = self.folder / "last"
        last.unlink(missing_ok=True)
        last.symlink_to("000100")


def main() -> None:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    node = FakeActor() if sys.argv[1] == "actor" else FakeLearner()
    while not stop.is_set():
        rclpy.spin_once(node, timeout_sec=0.1)
    if isinstance(node, FakeLearner):
        node.close()


if __name__ == "__main__":
    main()
