# SPDX-License-Identifier: Apache-2.0
"""One bag being recorded: messages are taken at once and written by a thread, which flushes twice a second."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable

from dataset_recorder.bag_writer import BagWriter
from dataset_recorder.errors import RecordingError
from dataset_recorder.repair import repair

FLUSH_S = 0.5


class LogTimes:
    """Times [ns] of a clock that may be set back: they then go on from where they were, so that messages stay in order."""

    def __init__(self) -> None:
        self._shift_ns = self._newest_ns = 0

    def __call__(self, now_ns: int) -> int:
        """The time of what has come now."""
        self._shift_ns = max(self._shift_ns, self._newest_ns - now_ns)
        self._newest_ns = now_ns + self._shift_ns
        return self._newest_ns


class Recording:
    """Owns a BagWriter. `failure` says why it ended early; `dropped` counts messages that came faster than the disk took.

    `taken` counts the messages taken, `kept` those of them, in their order, that outlive a kill of this process.
    """

    def __init__(self, writer: BagWriter, most_waiting_bytes: int, now: Callable[[], float] = time.monotonic) -> None:
        """most_waiting_bytes: of messages not written yet; beyond it messages are dropped and counted."""
        self.folder = writer.folder
        self.failure: RecordingError | None = None
        self.taken = self.dropped = self.kept = 0
        self._writer, self._most, self._now = writer, most_waiting_bytes, now
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def put(self, topic: str, stamp_ns: int, data: bytes) -> bool:
        """Take a message; False when it had to be dropped. Topics that the bag was not opened for are not meant for it."""
        if topic not in self._writer.topics:
            return True
        with self._changed:
            if self._bytes + len(data) > self._most or self._ending or self.failure is not None:
                self.dropped += 1
                return False
            self._waiting.append((topic, stamp_ns, data))
            self._bytes += len(data)
            self.taken += 1
            self._changed.notify()
            return True

    def close(self) -> int:
        """Write what waits and the index; the number of messages in the bag.

        Raises RecordingError when the disk was full or went away; the bag then holds what was flushed before, mended.
        """
        self._end()
        if self.failure is None:
            try:
                self._writer.close()
                self.kept = self._writer.messages
                return self.kept
            except RecordingError as error:
                self._fail(error)
        raise self.failure

    def discard(self) -> None:
        """Forget all of it, the folder included."""
        with self._changed:
            self._waiting.clear()
            self._bytes = 0
        self._end()
        self._writer.abort()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        flush_at = self._now() + FLUSH_S
        while True:
            with self._changed:
                if not self._waiting and not self._ending:
                    self._changed.wait(max(0.0, flush_at - self._now()))
                batch, self._waiting = self._waiting, deque()
                ending = self._ending
            try:
                for topic, stamp_ns, data in batch:
                    self._writer.write(topic, stamp_ns, data)
                    with self._changed:
                        self._bytes -= len(data)
                    flush_at = self._flush(flush_at)
                flush_at = self._flush(flush_at)
            except RecordingError as error:
                self._fail(error)
                return
            if ending and not self._waiting:
                return

    def _flush(self, due_at: float) -> float:
        """Flush when it is time; when it is time next."""
        if self._now() < due_at:
            return due_at
        self._writer.flush()
        self.kept = self._writer.messages
        return self._now() + FLUSH_S

    def _fail(self, error: RecordingError) -> None:
        """End the bag where it is and mend it: everything flushed stays."""
        self._writer.abort()
        try:
            kept = repair(self.folder, keep=False).messages  # what was not flushed does not fit beside it either
            self.failure = RecordingError(f"{error}: {kept} messages")
        except RecordingError as second:
            self.failure = RecordingError(f"{error}; it is not closed either ({second}): run reach-grasp repair {self.folder}")
