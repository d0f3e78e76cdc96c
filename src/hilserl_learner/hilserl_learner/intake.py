# SPDX-License-Identifier: Apache-2.0
"""Steps as they arrive: checked, journalled, put in order; and read back after a restart."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from rclpy.serialization import deserialize_message

from hilserl_core.delivery import Inbox
from hilserl_core.step import Step, StepError
from hilserl_core.step_log import StepLog, StepLogError
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_interfaces.msg import StepAck
from hilserl_ros.convert import message_to_step


class Intake:
    """The receiving end of `steps`. The journal holds the messages' bytes as they came.

    Of a run's folder it owns `journal`; `demonstrations`, which may be there, holds steps that were imported before the run.
    """

    def __init__(self, folder: Path, task: TaskSpec, reserve_bytes: Callable[[], int] = lambda: 0) -> None:
        """folder: of the run. Raises StepLogError when it cannot be used."""
        self.task = task
        self.run_id = ""  # of the newest step
        self._reserve_bytes = reserve_bytes
        self._imported = folder / "demonstrations"
        self._inbox = Inbox(StepLog(folder / "journal"))
        self._room_checked_s = -1.0

    @property
    def received(self) -> int:
        """Steps in the journal."""
        return len(self._inbox.journal)

    @property
    def duplicated(self) -> int:
        """Steps that came again and were dropped, since the start of the process."""
        return self._inbox.duplicated

    @property
    def dropped_bytes(self) -> int:
        """Bytes of a record that a crash cut short; its step was never acknowledged and comes again."""
        return self._inbox.journal.bytes_dropped

    def restore(self) -> Iterator[Step]:
        """Imported steps, whose run_id is empty, then every journalled one in the order of its arrival.

        Raises StepError when they are of another task.
        """
        if self._imported.is_dir():
            with closing(StepLog(self._imported)) as log:
                for _, payload in log.records():
                    yield message_to_step(deserialize_message(payload, StepMessage), self.task)
        for _, payload in self._inbox.journal.records():
            step = message_to_step(deserialize_message(payload, StepMessage), self.task)
            self._inbox.restore(step.run_id, step.sequence)
            self.run_id = step.run_id
            yield step

    def take(self, payload: bytes) -> list[Step]:
        """A `steps` message as bytes; returns the steps that are next in order, each exactly once.

        Raises StepError for a step that does not fit the task, StepLogError when it cannot be journalled: neither is
        acknowledged.
        """
        try:
            message = deserialize_message(payload, StepMessage)
        except Exception as error:
            raise StepError(f"a message on `steps` cannot be read: {error}") from error
        step = message_to_step(message, self.task)
        self._check_room()
        ready = self._inbox.take(step.run_id, step.sequence, payload)
        self.run_id = step.run_id
        return [
            step if sequence == step.sequence else message_to_step(deserialize_message(data, StepMessage), self.task)
            for sequence, data in ready
        ]

    def acknowledgement(self, trained_through: int) -> StepAck:
        """What to answer to the run that sent last."""
        return StepAck(
            run_id=self.run_id,
            received_through=self._inbox.received_through(self.run_id),
            missing=self._inbox.missing(self.run_id),
            trained_through=trained_through,
        )

    def _check_room(self) -> None:
        """Stop before the disk is full, so that checkpoints can still be written. Looked at once a second."""
        now = time.monotonic()
        if now - self._room_checked_s < 1.0:
            return
        free, reserve = shutil.disk_usage(self._inbox.journal.folder).free, self._reserve_bytes()
        if free < reserve:
            raise StepLogError(
                f"only {free / 1e6:.0f} MB are free for the journal {self._inbox.journal.folder}, less than reserve_mb "
                f"{reserve / 1e6:.0f}: free disk space, steps wait in the actor's spool meanwhile"
            )
        self._room_checked_s = now

    def close(self) -> None:
        """Force the journal onto the disk."""
        self._inbox.journal.close()
