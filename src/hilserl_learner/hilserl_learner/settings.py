# SPDX-License-Identifier: Apache-2.0
"""The learner's parameter table."""

from __future__ import annotations

from dataclasses import dataclass

from hilserl_ros.parameters import parameter


@dataclass(frozen=True)
class LearnerParameters:
    """Parameters of the learner node; those of the algorithm are `policy.*`, `sac.*` and `training.*`."""

    folder: str = parameter("outputs/run", "Folder of the run: journal, checkpoints, TensorBoard events.")
    lockstep: bool = parameter(
        False, "Update after every single step, in order, so that a run can be repeated; else as steps arrive, up to the ratio."
    )
    publish_every_steps: int = parameter(4, "A policy is published after this many training steps.", minimum=1, maximum=10_000)
    policy_lag_steps: int = parameter(
        8, "Lockstep: a policy trained through step n acts from step n plus this, however fast the machine is.",
        minimum=1, maximum=10_000,
    )  # fmt: skip
    max_backlog_steps: int = parameter(
        20, "Real time: updates of at most this many steps are made up for, the rest is forgiven.", minimum=1, maximum=100_000
    )
    checkpoint_every_steps: int = parameter(
        1000, "Training steps between checkpoints.", minimum=1, maximum=10_000_000, tunable=True
    )
    keep_checkpoints: int = parameter(
        3, "Newest checkpoints to keep; the one after pretraining stays too.", minimum=1, maximum=1000
    )
    half_precision: bool = parameter(True, "Publish parameters as fp16: half the bytes, actions differ by less than 0.01.")
    metrics_every_steps: int = parameter(20, "Training steps between points of the curves.", minimum=1, maximum=100_000)
    tensorboard: bool = parameter(True, "Write TensorBoard event files.")
    wandb_project: str = parameter("", "Also log to this Weights & Biases project; needs the wandb package.")
    reserve_mb: int = parameter(
        200, "Free disk space in MB below which the journal takes no more steps.", minimum=0, maximum=1_000_000, tunable=True
    )
