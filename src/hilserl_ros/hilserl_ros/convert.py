# SPDX-License-Identifier: Apache-2.0
"""Messages to core types and back."""

from __future__ import annotations

import array
from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from hilserl_core.step import Mode, Step, StepError, check_step
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_ros.images import ImageError, image_to_rgb, rgb_to_image


def to_ns(stamp: Time) -> int:
    """Nanoseconds of a time message."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_stamp(nanoseconds: int) -> Time:
    """A time message of nanoseconds."""
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)


def step_to_message(step: Step, task: TaskSpec) -> StepMessage:
    """The message of a step."""
    message = StepMessage(
        run_id=step.run_id,
        task_digest=task.digest(),
        sequence=step.sequence,
        episode=step.episode,
        index=step.index,
        mode=int(step.mode),
        is_first=step.is_first,
        is_last=step.is_last,
        is_terminal=step.is_terminal,
        intervention=step.intervention,
        success=step.success,
        policy_version=step.policy_version,
    )
    message.header.stamp = to_stamp(step.stamp_ns)
    message.state = _floats(step.state)
    message.images = [rgb_to_image(step.images[camera], message.header.stamp, camera) for camera in task.cameras]
    if step.action is not None:
        message.action = _floats(step.action)
    if step.reward is not None:
        message.reward = float(step.reward)
        message.has_reward = True
    return message


def message_to_step(message: StepMessage, task: TaskSpec) -> Step:
    """The step of a message. Raises StepError unless everything in it fits the task."""
    if message.task_digest != task.digest():
        raise StepError(
            f"step {message.sequence} of run '{message.run_id}' was made under task {message.task_digest}, "
            f"here is {task.digest()}: start every node with the same config/task.yaml"
        )
    if len(message.images) != len(task.cameras) or message.mode not in set(Mode):
        raise StepError(
            f"step {message.sequence} of run '{message.run_id}' has {len(message.images)} images and mode {message.mode}, "
            f"expected {len(task.cameras)} images and a mode of {[int(mode) for mode in Mode]}"
        )
    try:
        images = {camera: image_to_rgb(image) for camera, image in zip(task.cameras, message.images, strict=True)}
    except ImageError as error:
        raise StepError(f"step {message.sequence} of run '{message.run_id}': {error}") from error
    step = Step(
        run_id=message.run_id,
        sequence=message.sequence,
        episode=message.episode,
        index=message.index,
        mode=Mode(message.mode),
        stamp_ns=to_ns(message.header.stamp),
        is_first=message.is_first,
        is_last=message.is_last,
        is_terminal=message.is_terminal,
        state=np.array(message.state, np.float32),
        images=images,
        action=np.array(message.action, np.float32) if len(message.action) else None,
        reward=message.reward if message.has_reward else None,
        intervention=message.intervention,
        success=message.success,
        policy_version=message.policy_version,
    )
    check_step(step, task)
    return step


def joint_maps(message: JointState) -> tuple[dict[str, float], dict[str, float]]:
    """Joint name -> position [rad] and -> velocity [rad/s], by name as the message gives them."""
    return (
        dict(zip(message.name, message.position, strict=False)),
        dict(zip(message.name, message.velocity, strict=False)),
    )


def joint_command(stamp: Time, joints: Mapping[str, float], tick_s: float) -> JointTrajectory:
    """One point to be reached a tick after the observation with this stamp; joints in rad by name."""
    message = JointTrajectory(joint_names=list(joints))
    message.header.stamp = stamp
    point = JointTrajectoryPoint(positions=[float(value) for value in joints.values()])
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(tick_s * 1e9), 1_000_000_000)
    message.points = [point]
    return message


def _floats(values: np.ndarray) -> array.array:
    return array.array("f", np.ascontiguousarray(values, np.float32).tobytes())
