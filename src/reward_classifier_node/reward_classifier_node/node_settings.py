# SPDX-License-Identifier: Apache-2.0
"""The parameter table of the node."""

from __future__ import annotations

from dataclasses import dataclass

from hilserl_ros.parameters import ParameterError, parameter
from reward_classifier_node.decision import Gate, Rule


@dataclass(frozen=True)
class ClassifierNodeParameters:
    """Parameters of the reward classifier node."""

    artifact: str = parameter(
        "",
        "Folder of the classifier, as reach-grasp train-classifier or LeRobot writes it; another one can be set.",
        tunable=True,
    )
    lockstep: bool = parameter(
        False, "Judge every simulated image, and say the same again when it is repeated; else the newest image counts."
    )
    debounce: int = parameter(3, "So many frames in a row begin a success.", minimum=1, maximum=1000, tunable=True)
    threshold: float = parameter(
        0.0, "A frame shows success when its probability is above this; 0: above the classifier's own threshold.",
        minimum=0.0, maximum=1.0, tunable=True,
    )  # fmt: skip
    hysteresis: float = parameter(
        0.3, "A success goes on while the probability is above the threshold lessened by this share.",
        minimum=0.0, maximum=1.0, tunable=True,
    )  # fmt: skip
    gate: bool = parameter(
        False,
        "Only a gripper closed on something can be a success: as the other gate_ parameters say.",
    )
    gate_min_rad: float = parameter(
        0.05, "Gate: a gripper closed further than this holds nothing.", minimum=-0.2, maximum=1.8, tunable=True
    )
    gate_max_rad: float = parameter(
        0.35, "Gate: a gripper open wider than this holds nothing.", minimum=-0.2, maximum=1.8, tunable=True
    )
    gate_min_effort: float = parameter(
        0.0, "Gate: the gripper presses at least so much, in the unit of joint_states; 0: not asked. No image shows that.",
        minimum=0.0, maximum=1000.0, tunable=True,
    )  # fmt: skip
    gate_max_speed: float = parameter(
        0.0, "Gate: and its joint moves at most so fast [rad/s]; 0: not asked.", minimum=0.0, maximum=100.0, tunable=True
    )
    tolerance_s: float = parameter(
        0.02, "Real time: images of several cameras, and the gripper's position, belong together within this time.",
        minimum=0.001, maximum=1.0,
    )  # fmt: skip
    device: str = parameter("auto", "Where to compute; auto: on the GPU where there is one.", choices=("auto", "cpu", "cuda"))
    threads: int = parameter(1, "Processor threads of the network.", minimum=1, maximum=256)
    annotate: bool = parameter(
        True, "Publish reward/image, what the network saw with its verdict, while somebody watches.", tunable=True
    )
    trust_remote_code: bool = parameter(False, "Run Python code that comes with the classifier's image model.")

    def __post_init__(self) -> None:
        if self.gate_min_rad >= self.gate_max_rad:
            raise ParameterError(
                f"parameter gate_min_rad is {self.gate_min_rad}, allowed is less than gate_max_rad {self.gate_max_rad}"
            )

    def rule(self, threshold: float) -> Rule:
        """How these parameters judge with a classifier of that threshold."""
        gate = Gate(self.gate_min_rad, self.gate_max_rad, self.gate_min_effort, self.gate_max_speed) if self.gate else None
        return Rule(self.threshold or threshold, self.debounce, self.hysteresis, gate)
