# SPDX-License-Identifier: Apache-2.0
"""Runs the project's own training system and listens to its topics from outside."""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from hilserl_interfaces.msg import EpisodeStatus, LearnerStatus, PolicyParameters, Reward
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.transport import use_udp
from reach_grasp.process import background, last_error

_TIMEOUT_S = 420.0


class StationError(RuntimeError):
    """The system ended early or took too long."""


@dataclass(frozen=True)
class SeenStep:
    """A step as it was published; times [s] on the system clock."""

    published_s: float
    stamp_ns: int
    episode: int
    training: bool
    is_last: bool


@dataclass
class Record:
    """What an observer saw. Publication times [s] are those DDS carries with a message, on the system clock.

    commands, rewards: stamp [ns] of the observation -> when it was published. progress: (steady clock [s], training steps).
    """

    steps: list[SeenStep] = field(default_factory=list)
    commands: dict[int, float] = field(default_factory=dict)
    rewards: dict[int, float] = field(default_factory=dict)
    policies_s: list[float] = field(default_factory=list)
    progress: list[tuple[float, int]] = field(default_factory=list)
    resident_mb: float = 0.0
    updates_per_second: list[float] = field(default_factory=list)
    done: bool = False
    timings: dict[str, dict[str, float]] = field(default_factory=dict)


class _Observer(Node):
    def __init__(self, context: rclpy.Context, record: Record) -> None:
        super().__init__("bench_observer", context=context)
        self._record = record
        self.create_subscription(EpisodeStatus, "episode/status", self._on_status, qos.STATUS)
        self.create_subscription(LearnerStatus, "learner/status", self._on_learner, qos.STATUS)
        self.create_subscription(PolicyParameters, "policy", self._on_policy, qos.POLICY, raw=True)
        self.create_subscription(StepMessage, "steps", self._on_step, qos.STEPS)
        self.create_subscription(JointTrajectory, "joint_command", self._on_command, qos.JOINT_COMMAND)
        self.create_subscription(Reward, "reward", self._on_reward, qos.REWARD)

    def _on_status(self, message: EpisodeStatus) -> None:
        self._record.done |= message.phase == EpisodeStatus.DONE
        if message.mode == StepMessage.MODE_TRAINING:
            self._record.progress.append((time.monotonic(), message.steps))

    def _on_learner(self, message: LearnerStatus) -> None:
        metrics = {item.key: float(item.value) for item in message.metrics}
        self._record.resident_mb = max(self._record.resident_mb, metrics.get("resident_mb", 0.0))
        if message.phase == "training" and message.updates_per_second > 0:
            self._record.updates_per_second.append(message.updates_per_second)

    def _on_policy(self, payload: bytes, info: dict) -> None:
        self._record.policies_s.append(info["source_timestamp"] * 1e-9)

    def _on_step(self, message: StepMessage, info: dict) -> None:
        training = message.mode == StepMessage.MODE_TRAINING
        published_s, stamp_ns = info["source_timestamp"] * 1e-9, to_ns(message.header.stamp)
        self._record.steps.append(SeenStep(published_s, stamp_ns, message.episode, training, message.is_last))

    def _on_command(self, message: JointTrajectory, info: dict) -> None:
        self._record.commands.setdefault(to_ns(message.header.stamp), info["source_timestamp"] * 1e-9)

    def _on_reward(self, message: Reward, info: dict) -> None:
        self._record.rewards.setdefault(to_ns(message.header.stamp), info["source_timestamp"] * 1e-9)


def train(
    folder: Path, steps: int, demonstrations: int, overrides: dict[str, Any], real_time_factor: float = 0.0, seed: int = 0
) -> Record:
    """Run a training in `folder` to its end and return what was seen; `Record.timings` is what the nodes measured themselves.

    overrides: content of a ROS parameter file. Raises StationError.
    """
    folder.mkdir(parents=True)
    config, log = folder / "overrides.yaml", folder / "nodes.log"
    config.write_text(yaml.safe_dump(overrides))
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randrange(1, 100))  # nobody else's
    arguments = {
        "run": folder / "run",
        "steps": steps,
        "demonstrations": demonstrations,
        "seed": seed,
        "config": config,
        "real_time_factor": real_time_factor,
    }
    record = Record()
    context = rclpy.Context()
    use_udp(os.environ)
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    try:
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(_Observer(context, record))
        with background("train", arguments, log, {}) as process:
            end = time.monotonic() + _TIMEOUT_S
            while not record.done:
                executor.spin_once(timeout_sec=0.1)
                if process.poll() is not None or time.monotonic() > end:
                    what = "ended early" if process.poll() is not None else f"was not done after {_TIMEOUT_S:.0f} s"
                    raise StationError(f"the training system {what}: {last_error(log)}")
    finally:
        rclpy.shutdown(context=context)
    for path in (folder / "run").glob("*timings.json"):
        record.timings |= json.loads(path.read_text())
    return record


def fast_start(lockstep: bool, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Parameters for a short training: little pretraining, and the clock wanted."""

    def node(values: dict[str, Any]) -> dict[str, Any]:
        return {"ros__parameters": values}

    short = {"encoder_updates": 40, "imitation_updates": 100, "critic_updates": 40}
    parameters = {f"/**/{name}": node({"lockstep": lockstep}) for name in ("sim", "operator", "actor")}
    parameters["/**/learner"] = node({"lockstep": lockstep, "training": short, "tensorboard": False})
    if extra:
        parameters["/**"] = node(extra)
    return parameters
