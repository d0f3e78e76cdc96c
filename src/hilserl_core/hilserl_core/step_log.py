# SPDX-License-Identifier: Apache-2.0
"""A crash-safe, append-only log of numbered byte records: the actor's spool and the learner's journal."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct("<4sQII")  # magic, sequence, length, crc32 of sequence and payload
_MAGIC = b"RGS1"
_MAX_RECORD = 1 << 30


class StepLogError(OSError):
    """The log cannot be written or is not a log."""


class StepLog:
    """Records in segment files of `segment_records` each, named by their first sequence number.

    A record is durable against a killed process once `append` returns (it is in the page cache), and against a power cut
    once `sync` returns. A record cut short by a crash is dropped when the log is opened; what stands before it is kept.
    """

    def __init__(self, folder: Path, segment_records: int = 512) -> None:
        """Open or create the log in `folder`. Raises StepLogError when the folder cannot be used."""
        self.folder = Path(folder)
        self.segment_records = segment_records
        self._index: dict[int, tuple[Path, int, int]] = {}  # sequence -> file, offset of the payload, length
        self._file: int | None = None
        self._path: Path | None = None
        self._offset = 0
        self._in_segment = 0
        self.bytes_dropped = 0
        self._finishing: threading.Thread | None = None
        self._reader: tuple[Path, int] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system drops it when the process ends
            for path in sorted(self.folder.glob("*.steps")):
                self._scan(path)
        except BlockingIOError as error:
            raise StepLogError(f"the step log {self.folder} is in use by another process: stop that one first") from error
        except OSError as error:
            raise StepLogError(f"cannot use the step log {self.folder}: {error.strerror or error}") from error

    def _scan(self, path: Path) -> None:
        """Index a segment and cut off what a crash left behind its last whole record."""
        size = path.stat().st_size
        offset = 0
        with path.open("rb") as file:
            while True:
                header = file.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    break
                magic, sequence, length, crc = _HEADER.unpack(header)
                if magic != _MAGIC or length > _MAX_RECORD:
                    break
                payload = file.read(length)
                if len(payload) < length or _crc(sequence, payload) != crc:
                    break
                self._index[sequence] = (path, offset + _HEADER.size, length)
                offset += _HEADER.size + length
        if offset < size:
            self.bytes_dropped += size - offset
            os.truncate(path, offset)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._index

    @property
    def last(self) -> int:
        """The highest sequence number in the log, 0 for an empty one."""
        return next(reversed(self._index), 0)

    def sequences(self) -> list[int]:
        """All sequence numbers, in the order they were written, which is ascending."""
        return list(self._index)

    def append(self, sequence: int, payload: bytes) -> None:
        """Add a record. Raises StepLogError when the disk is full; the log then stays as it was before the call."""
        if sequence <= self.last:
            raise ValueError(f"the step log {self.folder} already goes to sequence {self.last}: cannot add {sequence}")
        if self._file is None or self._in_segment >= self.segment_records:
            self._new_segment(sequence)
        record = _HEADER.pack(_MAGIC, sequence, len(payload), _crc(sequence, payload)) + payload
        written = 0
        try:
            while written < len(record):
                written += os.write(self._file, record[written:] if written else record)
        except OSError as error:
            os.ftruncate(self._file, self._offset)
            os.lseek(self._file, self._offset, os.SEEK_SET)
            raise StepLogError(
                f"cannot write step {sequence} to {self.folder}: {error.strerror}; free disk space, nothing before it is lost"
            ) from error
        self._index[sequence] = (self._path, self._offset + _HEADER.size, len(payload))
        self._offset += len(record)
        self._in_segment += 1

    def _new_segment(self, sequence: int) -> None:
        self._finish_segment()
        path = self.folder / f"{sequence:012d}.steps"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError as error:
            raise StepLogError(f"cannot create {path}: {error.strerror}") from error
        self._path, self._offset, self._in_segment = path, 0, 0

    def read(self, sequence: int) -> bytes:
        """The payload of a record. Raises KeyError when it is not there."""
        path, offset, length = self._index[sequence]
        if self._reader is None or self._reader[0] != path:
            self._close_reader()
            self._reader = (path, os.open(path, os.O_RDONLY))
        return os.pread(self._reader[1], length, offset)

    def records(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """All records behind sequence number `after`, in order."""
        for sequence in self.sequences():
            if sequence > after:
                yield sequence, self.read(sequence)

    def drop_through(self, sequence: int) -> None:
        """Delete the segments whose records all stand at or before `sequence`; the segment being written stays."""
        newest: dict[Path, int] = {}
        for number, (path, _, _) in self._index.items():
            newest[path] = max(newest.get(path, 0), number)
        for path in [path for path, number in newest.items() if number <= sequence and path != self._path]:
            path.unlink(missing_ok=True)
            self._index = {number: place for number, place in self._index.items() if place[0] != path}

    def _finish_segment(self) -> None:
        """Force the full segment onto the disk and close it, in the background: the caller may be moving an arm."""
        self._wait_for_finished()
        if self._file is not None:
            file, self._file = self._file, None

            def finish() -> None:
                with os.fdopen(file, "rb", buffering=0):
                    os.fsync(file)

            self._finishing = threading.Thread(target=finish, name="sync", daemon=True)
            self._finishing.start()

    def _wait_for_finished(self) -> None:
        if self._finishing is not None:
            self._finishing.join()
            self._finishing = None

    def sync(self) -> None:
        """Force what was appended onto the disk."""
        self._wait_for_finished()
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._close_file()
        self._close_reader()
        self._lock.close()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _close_reader(self) -> None:
        if self._reader is not None:
            os.close(self._reader[1])
            self._reader = None


def _crc(sequence: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(sequence.to_bytes(8, "little")))
