# SPDX-License-Identifier: Apache-2.0
"""A tiny task whose steps are made up, for tests of training and checkpoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hilserl_core.policy import PolicySpec
from hilserl_core.sac import SacConfig
from hilserl_core.step import Mode, Observation, Step
from hilserl_core.task import TaskSpec
from hilserl_core.training import Trainer, TrainingConfig

TASK = TaskSpec(image_size=40, camera_sizes=(40, 40), crops=(0, 0, 40, 40))
SPEC = PolicySpec(image_encoder_hidden_dim=4, latent_dim=8, actor_hidden_dims=(16, 16), critic_hidden_dims=(16, 16))
SAC = SacConfig(batch_size=8, num_critics=3, actor_q_delay=2, actor_average_weight=0.1)
CONFIG = TrainingConfig(
    seed=5, demonstrations=2, replay_capacity=60, demonstration_capacity=60, encoder_updates=3, encoder_batch_size=4,
    imitation_updates=3, critic_updates=3,
)  # fmt: skip


def make_steps(demonstrations: int = 2, training: int = 3, length: int = 4, seed: int = 0) -> list[Step]:
    """Episodes of `length` actions: demonstrations, then training ones, of which every second times out."""
    rng = np.random.default_rng(seed)
    steps: list[Step] = []
    for episode in range(demonstrations + training):
        mode = Mode.DEMONSTRATION if episode < demonstrations else Mode.TRAINING
        success = mode == Mode.DEMONSTRATION or episode % 2 == 0
        for index in range(length + 1):
            last = index == length
            steps.append(
                Step(
                    run_id="run", sequence=len(steps) + 1, episode=episode, index=index, mode=mode, stamp_ns=len(steps),
                    is_first=index == 0, is_last=last, is_terminal=last and success,
                    state=rng.normal(size=TASK.state_size).astype(np.float32),
                    images={"wrist": rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)},
                    action=None if last else rng.uniform(-1, 1, TASK.action_size).astype(np.float32),
                    reward=None if last else float(success and index == length - 1),
                    intervention=mode == Mode.TRAINING and index == 1, success=success and index >= length - 1,
                    policy_version=0,
                )
            )  # fmt: skip
    return steps


def make_trainer(**changes) -> Trainer:
    """A trainer; changes are fields of the training, SAC or policy settings."""
    configs = []
    for config in (SPEC, SAC, CONFIG):
        mine = {name: value for name, value in changes.items() if hasattr(config, name)}
        configs.append(replace(config, **mine))
    return Trainer(TASK, *configs)


def work_off(trainer: Trainer) -> Trainer:
    """Work until nothing is left to do."""
    while trainer.busy:
        trainer.work()
    return trainer


def trained(steps: list[Step], **changes) -> Trainer:
    """A trainer that has worked off these steps."""
    trainer = make_trainer(**changes)
    for step in steps:
        trainer.add(step)
    return work_off(trainer)


def observe(step: Step) -> Observation:
    """The observation of a step."""
    return Observation(step.stamp_ns, step.state, step.images)
