# SPDX-License-Identifier: Apache-2.0
"""Labelled frames from the simulator, as config/record.yaml records them: grasps held on, and what is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import yaml

from hilserl_core.action import Controller
from hilserl_core.kinematics import Kinematics
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec
from reach_grasp.task_files import config_file
from reward_classifier_node.decision import Rule
from reward_classifier_node.node_settings import ClassifierNodeParameters
from so101_description import urdf_path
from so101_sim.operator import OperatorConfig, ScriptedOperator
from so101_sim.world import World

TASK = replace(TaskSpec(), camera_sizes=(128, 128), crops=(0, 0, 128, 128))  # as in config/sim.yaml
HOLD_TICKS, FAILURES_EVERY = 30, 2  # as in config/record.yaml


@dataclass(frozen=True)
class Episode:
    """images: (T, 128, 128, 3) uint8 RGB. pinched, success: (T,) bool, the simulator's truth at the same instants.

    grippers: (T, 3) position [rad], speed [rad/s] and effort [N·m] of the gripper's joint.
    """

    kind: str
    images: np.ndarray
    pinched: np.ndarray
    success: np.ndarray
    grippers: np.ndarray


class FrameMaker:
    """Draws demonstrations; the same seeds give the same episode."""

    def __init__(self, seed: int, task: TaskSpec = TASK) -> None:
        """seed: of the worlds and of the person."""
        self.task, self.seed = task, seed
        self.world = World(task=task)
        kinematics = Kinematics(urdf_path(), task.joints)
        self.controller = Controller(task, kinematics)
        self.person = ScriptedOperator(OperatorConfig(failures_every=FAILURES_EVERY), task, kinematics, seed)

    def episodes(self, count: int) -> list[Episode]:
        """The first so many."""
        return [self.episode(number) for number in range(count)]

    def until(self, successes: int) -> Iterator[Episode]:
        """Episodes until so many of them succeeded, as `reach-grasp record` takes them; failures come on top."""
        number = 0
        while successes > 0:
            episode = self.episode(number)
            yield episode
            number, successes = number + 1, successes - bool(episode.success.any())

    def episode(self, number: int) -> Episode:
        """The demonstration of that number, which decides what it shows."""
        world, person = self.world, self.person
        world.reset(self.seed + number)
        self.controller.latch(world.joint_positions)
        person.begin(Mode.DEMONSTRATION, number)
        images, pinched, success, grippers = [], [], [], []
        held = 0
        while True:
            images.append(world.render("wrist", 128, 128))
            pinched.append(world.grasp().pinched)
            success.append(world.success)
            grippers.append((world.joint_positions[-1], world.joint_velocities[-1], world.joint_efforts[-1]))
            held += bool(held or world.success)
            over = len(images) > self.task.max_ticks + (HOLD_TICKS if held else 0)
            if held > HOLD_TICKS or over or person.gives_up(world.cube_pose):
                truth = (np.array(values) for values in (pinched, success, grippers))
                return Episode(person.attempt.value, np.stack(images), *truth)
            joints = world.joint_positions
            _, action = person.act(joints, world.cube_pose, bool(held))
            world.step(self.controller.command(action, joints).joints)


def simulation_rule(threshold: float) -> Rule:
    """As the simulation's parameter file sets the node up, gate included."""
    section = yaml.safe_load(config_file("sim").read_text())["/**/reward_classifier"]["ros__parameters"]
    return ClassifierNodeParameters(**section).rule(threshold)
