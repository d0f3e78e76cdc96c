# SPDX-License-Identifier: Apache-2.0
"""Steps on their way to the learner: spooled, published, published again until acknowledged."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from rclpy.serialization import deserialize_message, serialize_message

from hilserl_actor.schedule import Counters, Spooled, after_restart, new_run_id
from hilserl_core.delivery import Outbox
from hilserl_core.step import Mode, Step
from hilserl_core.step_log import StepLogError
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_interfaces.msg import StepAck
from hilserl_ros.convert import step_to_message


class StepSender:
    """Sends steps through a spool; without a folder (evaluation) each is published once."""

    def __init__(
        self,
        folder: Path | None,
        task: TaskSpec,
        window: int,
        resend_s: float,
        publish: Callable[[StepMessage | bytes], object],
        complain: Callable[[str], None],
    ) -> None:
        self.task = task
        self.outbox = None if folder is None else Outbox(folder, window, resend_s)
        self._publish = publish
        self._complain = complain
        self._unsaved: deque[Step] = deque()

    @property
    def blocked(self) -> bool:
        """Whether a step could not be written to disk: nothing new must happen until it is."""
        return bool(self._unsaved)

    def counters(self, saved: Counters | None, seed: int) -> Counters:
        """Where to go on: from what was saved and what the spool holds beyond it, or as a new run.

        Raises StepLogError when the spool holds steps of a run whose counters are gone.
        """
        if self.outbox is not None and saved is not None:
            return after_restart(saved, self.spooled())
        if self.outbox is not None and self.outbox.last:
            raise StepLogError(
                f"{self.outbox.log.folder} holds steps but the file actor_counters beside it is gone: restore it"
            )
        return Counters(new_run_id(seed))

    def spooled(self) -> Iterator[Spooled]:
        """Every step still in the spool."""
        for sequence, payload in self.outbox.log.records():
            message = deserialize_message(payload, StepMessage)
            mode, acted = Mode(message.mode), bool(len(message.action))
            yield Spooled(sequence, mode, acted, message.intervention, message.is_last, message.success)

    def put(self, steps: list[Step]) -> None:
        """Take over finished steps."""
        self._unsaved.extend(steps)
        self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet, publish what is due. A full disk is said and tried again at the next call.

        What DDS refuses counts as lost on the way: it comes again.
        """
        while self._unsaved:
            step = self._unsaved[0]
            message = step_to_message(step, self.task)
            if self.outbox is None:
                self._publish(message)
            else:
                try:
                    self.outbox.put(step.sequence, serialize_message(message))
                except OSError as error:
                    self._complain(f"{error}; the arm holds")
                    break
            self._unsaved.popleft()
        if self.outbox is not None:
            for _, payload in self.outbox.due(time.monotonic()):
                self._publish(payload)

    def acknowledge(self, ack: StepAck) -> None:
        """The learner has journalled steps."""
        self.outbox.acknowledge(ack.received_through, list(ack.missing))
        self.flush()

    def close(self) -> None:
        """What is unacknowledged stays on disk."""
        if self.outbox is not None:
            self.outbox.close()
