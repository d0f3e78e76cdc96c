# SPDX-License-Identifier: Apache-2.0
"""Exactly-once delivery of steps over a link that may lose, repeat, reorder or be cut."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from pathlib import Path

from hilserl_core.step_log import StepLog

MOST_RESEND_S = 8.0
"""While nothing is acknowledged, the time until steps are sent again doubles up to this."""


class DeliveryError(ValueError):
    """Sender and receiver contradict each other; going on would lose steps."""


class Outbox:
    """The sender: every step is on disk before it is offered, and offered again until it is acknowledged.

    At most `window` steps are in flight; the rest wait on disk. Times are seconds on any steady clock.
    """

    def __init__(self, folder: Path, window: int = 32, resend_s: float = 1.0) -> None:
        """Open the spool in `folder`; what was not acknowledged before a crash is offered again."""
        self.log = StepLog(folder)
        self.window = window
        self.resend_s = resend_s
        self._watermark = os.open(Path(folder) / "acknowledged", os.O_RDWR | os.O_CREAT, 0o644)
        first = min(self.log.sequences(), default=0)
        self.acknowledged = max(self._read_watermark(), first - 1)  # acknowledged segments are deleted
        self.last = max(self.log.last, self.acknowledged)
        self._wait_s = resend_s
        self._resend_at_s = 0.0  # when the wait may double next
        self._in_flight: OrderedDict[int, float] = OrderedDict()  # sequence -> when it was sent
        self._asked_again: set[int] = set()
        self._next = self.acknowledged + 1
        self.resent = 0

    def _read_watermark(self) -> int:
        try:
            return int(os.pread(self._watermark, 20, 0))
        except ValueError:
            return 0

    def put(self, sequence: int, payload: bytes) -> None:
        """Store the next step. Raises StepLogError when the disk is full, ValueError when a number is skipped."""
        if sequence != self.last + 1:
            raise ValueError(f"step {sequence} after step {self.last}: numbers go up by one")
        self.log.append(sequence, payload)
        self.last = sequence

    @property
    def pending(self) -> int:
        """Steps not yet acknowledged."""
        return self.last - self.acknowledged

    def due(self, now_s: float) -> list[tuple[int, bytes]]:
        """What to publish now: steps never sent, steps asked for again, steps unanswered for `resend_s`.

        That time doubles with each round in which nothing was acknowledged: a receiver that is away is not flooded.
        """
        overdue = [number for number, sent in self._in_flight.items() if now_s - sent >= self._wait_s]
        if overdue and now_s >= self._resend_at_s:
            self._wait_s = min(2 * self._wait_s, max(MOST_RESEND_S, self.resend_s))
            self._resend_at_s = now_s + self._wait_s / 2
        again = sorted(self._asked_again.intersection(self._in_flight).union(overdue))
        self._asked_again.clear()
        self.resent += len(again)
        fresh = []
        while self._next <= self.last and len(self._in_flight) + len(fresh) < self.window:
            fresh.append(self._next)
            self._next += 1
        for number in again + fresh:
            self._in_flight[number] = now_s
        return [(number, self.log.read(number)) for number in again + fresh]

    def acknowledge(self, received_through: int, missing: list[int]) -> None:
        """Take in an acknowledgement.

        Raises DeliveryError when the receiver has steps that the spool does not know: it was lost, and its numbers would be
        taken for repetitions.
        """
        if received_through > self.last:
            raise DeliveryError(
                f"the learner has step {received_through} of this run but the spool {self.log.folder} ends at {self.last}: "
                "it lost records (power cut?), start a new run in another folder"
            )
        if received_through < self.acknowledged:
            self._go_back(received_through)
        if received_through > self.acknowledged:
            self._wait_s = self.resend_s
            self._next = max(self._next, received_through + 1)
            for number in [number for number in self._in_flight if number <= received_through]:
                del self._in_flight[number]
            self.acknowledged = received_through
            self._watermark_save()
            self.log.drop_through(received_through)
        self._asked_again.update(number for number in missing if number in self._in_flight)

    def _go_back(self, received_through: int) -> None:
        """The receiver lost steps that it had acknowledged: send them again where they are still here."""
        first = min(self.log.sequences(), default=self.last + 1)
        if received_through < first - 1:
            raise DeliveryError(
                f"the learner lacks steps {received_through + 1} to {first - 1} of this run, which it had acknowledged: "
                "restore its journal folder, or start a new run in another folder"
            )
        self.acknowledged, self._next = received_through, received_through + 1
        self._in_flight.clear()

    def _watermark_save(self) -> None:
        """Only saves sending twice, so it is neither synced nor a new file each time, which may wait for the disk."""
        with contextlib.suppress(OSError):
            os.pwrite(self._watermark, b"%020d" % self.acknowledged, 0)

    def close(self) -> None:
        """Sync and close the spool."""
        os.close(self._watermark)
        self.log.close()


class Inbox:
    """The receiver: journals each step once, before it is acknowledged, and hands steps out in order.

    Steps of several runs (an actor started anew with an empty spool) go into one journal, in the order of their arrival.
    """

    def __init__(self, journal: StepLog, window: int = 64) -> None:
        self.journal = journal
        self.window = window
        self.received = 0
        self.duplicated = 0
        self._through: dict[str, int] = {}
        self._ahead: dict[tuple[str, int], bytes] = {}

    def restore(self, run_id: str, sequence: int) -> None:
        """Say that the journal holds this step: call it for every journalled step, in order, after a restart."""
        self._through[run_id] = max(sequence, self.received_through(run_id))

    def received_through(self, run_id: str) -> int:
        """Every step of the run up to this one is in the journal."""
        return self._through.get(run_id, 0)

    def take(self, run_id: str, sequence: int, payload: bytes) -> list[tuple[int, bytes]]:
        """Take in a step as it arrived; returns the steps (sequence, payload) that are now next in order, journalled.

        Raises StepLogError when the journal cannot be written: the step is then not acknowledged, so it comes again.
        """
        through = self.received_through(run_id)
        stuck = (run_id, through + 1) in self._ahead  # it could not be journalled before: try again now
        if sequence <= through or ((run_id, sequence) in self._ahead and not stuck):
            self.duplicated += 1
            return []
        if sequence > through + self.window:
            return []  # the sender's window is smaller: it will come again
        self._ahead[run_id, sequence] = payload
        ready = []
        while (following := self._ahead.get((run_id, through + 1))) is not None:
            try:
                self.journal.append(self.journal.last + 1, following)
            except OSError:
                if not ready:
                    raise
                break
            through += 1
            self._through[run_id] = through
            del self._ahead[run_id, through]
            ready.append((through, following))
        self.received += len(ready)
        return ready

    def missing(self, run_id: str) -> list[int]:
        """Numbers known to be lacking because later ones have come."""
        ahead = {number for run, number in self._ahead if run == run_id}
        return [number for number in range(self.received_through(run_id) + 1, max(ahead, default=0)) if number not in ahead]
