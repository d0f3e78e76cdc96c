# SPDX-License-Identifier: Apache-2.0
"""Robot and learner on two computers, as far as the network can tell."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lossy_link import LossyLink
from rclpy.serialization import deserialize_message

from hilserl_actor.schedule import CounterFile
from hilserl_core.step_log import StepLog
from hilserl_interfaces.msg import Step
from reach_grasp.process import stop

TIMEOUT_S = 400.0  # of a machine that does other things too
UNTRAINED = 12  # steps that an actor in lockstep may be ahead: policy_lag_steps, and those between two versions
SMALL = Path(__file__).with_name("small_training.yaml")


@pytest.fixture
def link() -> Iterator[LossyLink]:
    made = LossyLink(loss=0.1, delay_s=0.01)
    try:
        made.__enter__()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    yield made
    made.__exit__()


def test_a_training_loses_nothing_on_a_link_that_loses_every_tenth_frame(tmp_path, link):
    steps, processes = 60, []
    for side, (system, more) in enumerate((("learner", []), ("robot", [f"steps:={steps}"]))):
        words = [system, *more, f"config:={SMALL}", "demonstrations:=2", "seed:=5", f"run:={tmp_path / system}"]
        with (tmp_path / f"{system}.log").open("wb") as log:
            command = link.command(side, [sys.executable, "-m", "reach_grasp.command", *words])
            environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    end = time.monotonic() + TIMEOUT_S
    try:
        while not (sent := acknowledged(tmp_path / "robot", steps)):
            logs = "\n".join(file.read_text() for file in tmp_path.glob("*.log"))
            assert time.monotonic() < end and not any(process.poll() for process in processes), logs  # robot ends by itself
            time.sleep(0.2)
    finally:
        for process in processes:
            stop(process)
    received = [deserialize_message(payload, Step) for _, payload in StepLog(tmp_path / "learner/journal").records()]
    assert [step.sequence for step in received] == list(range(1, sent + 1)), "every step once, in order"
    trained = json.loads((tmp_path / "learner/checkpoints/last/training_state/trainer.json").read_text())
    assert sent - UNTRAINED <= trained["steps_taken"] <= sent, "the rest is in the journal"
    taken = [step for step in received[: trained["steps_taken"]] if step.mode == Step.MODE_TRAINING and len(step.action)]
    assert trained["training_steps"] == len(taken)
    assert link.lost > 100


def acknowledged(robot: Path, training_steps: int) -> int:
    """How many steps there were, once the training is over and the learner has said that it has them all; else 0."""
    told, file = robot / "spool/acknowledged", CounterFile(robot / "actor_counters")
    made = file.load()
    file.close()
    whole = made is not None and made.training_steps == training_steps and told.read_text() == f"{made.sequence:020d}"
    return made.sequence if whole else 0
