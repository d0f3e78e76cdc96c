# SPDX-License-Identifier: Apache-2.0
"""The whole training as processes over real DDS: what is promised when it is killed, and that it can be repeated."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message

from hilserl_core.checkpoint import newest_checkpoint
from hilserl_core.step import Mode
from hilserl_core.step_log import StepLog
from hilserl_interfaces.msg import EpisodeStatus, LearnerStatus
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_ros import qos
from reach_grasp.process import background

TIMEOUT_S = 400.0  # of a machine that does other things too
SMALL = Path(__file__).with_name("small_training.yaml")


class _Watcher:
    """Sees the status of actor and learner."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("watcher", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.actor, self.learner = EpisodeStatus(), LearnerStatus()
        self.node.create_subscription(EpisodeStatus, "episode/status", lambda m: setattr(self, "actor", m), qos.STATUS)
        self.node.create_subscription(LearnerStatus, "learner/status", lambda m: setattr(self, "learner", m), qos.STATUS)

    @property
    def training_steps(self) -> int:
        return self.actor.steps if self.actor.mode == Mode.TRAINING else 0

    @property
    def finished(self) -> bool:
        done = self.actor.phase == EpisodeStatus.DONE and self.actor.acknowledged == self.actor.sequence
        return done and self.learner.trained_through == self.actor.sequence

    def until(self, condition: Callable[[], bool], what: str, log: Path) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}: {self.actor}, {self.learner}\n{log.read_text()[-4000:]}"
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def domain():
    return int(os.environ.get("ROS_DOMAIN_ID", "0")) + 1


@pytest.fixture
def watcher(domain):
    watcher = _Watcher(domain)
    yield watcher
    watcher.close()


def _start(folder: Path, domain: int, steps: int, seed: int = 5, demonstrations: int = 2):
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {"run": folder / "run", "config": SMALL, "demonstrations": demonstrations, "steps": steps, "seed": seed}
    return background("train", arguments, folder / "log.txt", {"ROS_DOMAIN_ID": str(domain)})


def _node_process(executable: str, root: int) -> psutil.Process:
    """The node itself, not its guard."""
    found = [
        process
        for process in psutil.Process(root).children(recursive=True)
        if len(words := process.cmdline()) > 1 and words[1].endswith(f"/{executable}") and "--watch" not in words
    ]
    assert len(found) == 1, f"{executable} runs {len(found)} times"
    return found[0]


def _journal(run: Path) -> list[StepMessage]:
    return [deserialize_message(payload, StepMessage) for _, payload in StepLog(run / "journal").records()]


def test_killing_learner_and_actor_loses_nothing_and_counters_agree(tmp_path, domain, watcher):
    steps, log = 240, tmp_path / "log.txt"
    kills = [(30, "learner_node"), (60, "actor_node"), (100, "learner_node"), (150, "actor_node"), (190, "learner_node")]
    with _start(tmp_path, domain, steps) as system:
        for at, executable in kills:
            watcher.until(lambda at=at: watcher.training_steps >= at, f"step {at}", log)
            victim = _node_process(executable, system.pid)
            victim.send_signal(signal.SIGKILL)
            victim.wait(20)
        watcher.until(lambda: watcher.finished, "the end of the training", log)
        sequence, received = watcher.actor.sequence, watcher.learner.steps_received
    messages = _journal(tmp_path / "run")
    assert [message.sequence for message in messages] == list(range(1, sequence + 1)), "every step once, in order"
    assert received == sequence == len(messages)
    acted = [message for message in messages if message.mode == StepMessage.MODE_TRAINING and len(message.action)]
    assert len(acted) == steps == watcher.actor.steps
    checkpoint, passed_over = newest_checkpoint(tmp_path / "run" / "checkpoints")
    trainer = json.loads((checkpoint / "training_state" / "trainer.json").read_text())
    assert not passed_over and trainer["steps_taken"] == sequence and trainer["training_steps"] == steps
    assert trainer["optimization_steps"] == steps, "updates owed for each step, made exactly once in the end"
    assert "continuing from" in log.read_text()

    # A robot that lost its folder is another run, without demonstrations, beside a learner that knows the old one.
    shutil.rmtree(tmp_path / "run" / "spool")
    (tmp_path / "run" / "actor_counters").unlink()
    with _start(tmp_path, domain, steps=20, demonstrations=0):
        watcher.until(lambda: watcher.learner.steps_received > received and watcher.finished, "the end of the new run", log)
        assert watcher.actor.run_id != messages[0].run_id and watcher.actor.steps == 20
        assert watcher.learner.steps_received == received + watcher.actor.sequence


def _fingerprint(run: Path) -> str:
    """Hash of everything that was seen and done, in training mode; run names and wall times left out."""
    digest = hashlib.sha256()
    for message in _journal(run):
        numbers = (message.sequence, message.episode, message.index, message.mode, message.is_last, message.is_terminal,
                   message.reward, message.intervention, message.policy_version, message.header.stamp.sec,
                   message.header.stamp.nanosec)  # fmt: skip
        digest.update(repr(numbers).encode() + bytes(message.state) + bytes(message.action))
        for image in message.images:
            digest.update(bytes(image.data))
    return digest.hexdigest()


def test_a_lockstep_run_can_be_repeated_bit_for_bit_with_the_other_core_busy(tmp_path, domain, watcher):
    prints, versions = [], []
    for number, busy in enumerate((False, True)):
        folder = tmp_path / str(number)
        load = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        watcher.actor, watcher.learner = EpisodeStatus(), LearnerStatus()
        try:
            with _start(folder, domain, steps=300):
                watcher.until(lambda: watcher.finished, f"the end of run {number}", folder / "log.txt")
                versions.append(watcher.actor.policy_versions_applied)
        finally:
            if load is not None:
                load.kill()
                load.wait()
        prints.append(_fingerprint(folder / "run"))
    assert prints[0] == prints[1] and versions[0] == versions[1] >= 70
