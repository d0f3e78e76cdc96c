# SPDX-License-Identifier: Apache-2.0
"""A full disk holds the arm and loses no step."""

import numpy as np
from rclpy.serialization import deserialize_message

from hilserl_actor.sender import StepSender
from hilserl_core.step import Mode, Step
from hilserl_core.step_log import StepLogError
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_interfaces.msg import StepAck

TASK = TaskSpec(camera_sizes=(64, 64), crops=(0, 0, 64, 64), image_size=64)


def _step(sequence: int) -> Step:
    images = {"wrist": np.zeros((64, 64, 3), np.uint8)}
    return Step("run", sequence, 0, sequence - 1, Mode.TRAINING, sequence, sequence == 1, False, False,
                np.zeros(18, np.float32), images, np.zeros(4, np.float32), 0.0, False, False, 0)  # fmt: skip


def _sequences(published):
    return [deserialize_message(payload, StepMessage).sequence for payload in published]


def test_a_step_that_cannot_be_spooled_is_kept_said_once_and_sent_when_there_is_room(tmp_path, monkeypatch):
    published, complaints = [], []
    sender = StepSender(tmp_path, TASK, 32, 1.0, published.append, complaints.append)
    sender.put([_step(1)])
    append = sender.outbox.log.append

    def full(*_):
        raise StepLogError("cannot write step 2: No space left on device")

    monkeypatch.setattr(sender.outbox.log, "append", full)
    sender.put([_step(2), _step(3)])
    assert sender.blocked and _sequences(published) == [1]
    assert complaints == ["cannot write step 2: No space left on device; the arm holds"]
    monkeypatch.setattr(sender.outbox.log, "append", append)
    sender.flush()
    assert not sender.blocked and _sequences(published) == [1, 2, 3]


def test_acknowledged_steps_are_not_sent_again(tmp_path):
    published = []
    sender = StepSender(tmp_path, TASK, 32, 0.0, published.append, print)
    sender.put([_step(1), _step(2)])
    published.clear()
    sender.acknowledge(StepAck(run_id="run", received_through=1))
    assert _sequences(published) == [2]


def test_a_step_that_dds_refuses_is_sent_again(tmp_path):
    published, refuse = [], [True]

    def publish(payload):
        if not refuse:
            published.append(payload)
        return not refuse

    sender = StepSender(tmp_path, TASK, 32, 0.0, publish, print)
    sender.put([_step(1)])
    assert not published and not sender.blocked
    refuse.clear()
    sender.flush()
    assert _sequences(published) == [1]


def test_without_a_spool_each_step_is_published_once():
    published = []
    sender = StepSender(None, TASK, 32, 0.0, published.append, print)
    sender.put([_step(1)])
    sender.flush()
    assert [message.sequence for message in published] == [1]
