# SPDX-License-Identifier: Apache-2.0
"""Bytes on the wire: the policy on its way to the actor, an episode on its way to the learner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from lerobot.transport.utils import state_to_bytes, transitions_to_bytes
from lerobot.utils.transition import move_transition_to_device
from rclpy.serialization import serialize_message

from benchmarks import lerobot_side, ours_side
from benchmarks.problem import BATCH, TASK, UTD, steps
from benchmarks.registry import Options
from benchmarks.rows import Row, Target
from hilserl_core.parameters import FP16, assign, export_parameters, import_parameters
from hilserl_core.policy import Policy, architecture, architecture_hash
from hilserl_interfaces.msg import PolicyParameters
from hilserl_ros.convert import step_to_message

_EPISODE_STEPS = 300
_PROBES = 512


def run(options: Options) -> Iterator[Row]:
    """The rows of this group. The bytes do not depend on `options.quick`."""
    if options.wanted("policy_message_bytes"):
        yield _policy("policy_message_bytes", None, Target("ratio", 2.2))
    if options.wanted("policy_message_bytes_resnet10"):
        yield _policy("policy_message_bytes_resnet10", lerobot_side.local_resnet10(options.scratch), Target("ratio", 5.0))
    if options.wanted("episode_bytes"):
        yield _episode()


def _policy(name: str, encoder: Path | None, target: Target) -> Row:
    torch.manual_seed(0)
    config = lerobot_side.policy_config(TASK, vision_encoder_name=None if encoder is None else str(encoder))
    theirs = lerobot_side.learner(config, lerobot_side.filled_buffer(TASK, steps(2), 2, shift=False), BATCH, UTD)
    ours = Policy(ours_side.policy_spec(config), TASK).eval()
    ours_side.take_weights(ours, theirs.policy)
    with torch.no_grad():  # weights that use the whole range of actions, as a trained policy's do
        ours.actor.mean_layer.weight.mul_(5)
    data = export_parameters(ours, half=True)
    message = PolicyParameters(
        run_id="seed0-0123456789ab",
        task_digest=TASK.digest(),
        version=1,
        architecture=architecture(ours.spec, TASK),
        architecture_hash=architecture_hash(ours.spec, TASK),
        frozen_sha256="0" * 64,
        encoding=FP16,
        sha256="0" * 64,
    )
    message.data.frombytes(data)
    before = ours_side.action_means(ours, _PROBES)
    assign(ours, import_parameters(ours, data))
    change = (ours_side.action_means(ours, _PROBES) - before).abs()
    return Row(
        name=name,
        ours=float(len(serialize_message(message))),
        lerobot=float(len(state_to_bytes(theirs.algorithm.get_weights()))),
        unit="bytes",
        target=target,
        note="Ours is the whole ROS message with the trained tensors in fp16. Half precision changes an action component by "
        f"{change.max():.1e} at most, {change.mean():.1e} on average, over {_PROBES} random observations whose actions spread "
        f"with a deviation of {before.std():.2f}.",
        conditions={
            "encoder": "LeRobot's default" if encoder is None else "ResNet-10, random weights",
            "action_change_max": float(change.max()),
            "action_change_mean": float(change.mean()),
            "cameras": len(TASK.cameras),
        },
    )


def _episode() -> Row:
    episode = list(steps(_EPISODE_STEPS, episode_ticks=_EPISODE_STEPS))
    theirs = [move_transition_to_device(transition) for transition in lerobot_side.transitions(episode)]
    return Row(
        name="episode_bytes",
        ours=float(sum(len(serialize_message(step_to_message(step, TASK))) for step in episode)),
        lerobot=float(len(transitions_to_bytes(theirs))),
        unit="bytes",
        target=Target("ratio", 4.0),
        note="Ours are the ROS messages of all steps, the final observation with them. LeRobot's figure is the kind case: "
        "torch.save writes a tensor that two transitions share only once; from a policy on a GPU it writes it twice.",
        conditions={"steps": _EPISODE_STEPS, "cameras": len(TASK.cameras)},
    )
