# SPDX-License-Identifier: Apache-2.0
"""Writes one rosbag2 (MCAP, zstd chunks) so that a kill loses only what was not flushed yet."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from backports import zstd
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.rosbag2.storage_mcap import McapWriter, write_channel, write_string

from dataset_recorder.errors import RecordingError
from dataset_recorder.types import typestore_for
from hilserl_ros.distribution import distribution

UNFINISHED = "unfinished.json"
"""Beside the MCAP file while it is written, and locked: what only metadata.yaml would know, for `repair`."""
RESERVE = "reserve"
"""Beside it too: space that is given back when the bag ends, so that its index fits onto a disk that is full."""
_RESERVE_BYTES = 1_000_000  # the index of an episode of three minutes with two raw cameras
_LEVEL = 1  # of zstd; camera images get hardly smaller above it and take twice the time


@dataclass(frozen=True)
class Topic:
    """What is recorded: its name, its message type such as sensor_msgs/msg/Image, and the QoS its publishers offer."""

    name: str
    type: str
    qos: tuple[Qos, ...] = ()


class _Storage(McapWriter):
    """As rosbag2 writes MCAP: a channel also tells the hash of its type, for who has the file without metadata.yaml."""

    def add_connection(self, connection: Connection, offered_qos_profiles: str) -> None:
        start = self.chunk.bio.tell()
        super().add_connection(connection, offered_qos_profiles)
        entry = io.BytesIO()
        write_string(entry, "topic_type_hash")
        write_string(entry, connection.digest)
        channel = self.channels.pop()
        self.channels.append(channel._replace(metadata=channel.metadata + entry.getvalue()))
        self.chunk.bio.seek(start)  # the longer record takes the place of the shorter one
        write_channel(self.chunk.bio, self.channels[-1], self.schemas)

    def close(self, version: int, metadata: str) -> None:
        super().close(version, _named(metadata))


class _Writer(Writer):
    """Names the distribution that recorded, where rosbags names itself."""

    STORAGE_PLUGINS = Writer.STORAGE_PLUGINS | {StoragePlugin.MCAP: _Storage}

    def close(self) -> None:
        super().close()
        part = self.metapath.with_suffix(".yaml.tmp")
        part.write_text(_named(self.metapath.read_text("utf8")), "utf8")
        part.replace(self.metapath)


def _named(metadata: str) -> str:
    return metadata.replace("ros_distro: rosbags", f"ros_distro: {distribution()}")


class BagWriter:
    """A bag while it is recorded. Messages are serialised bytes (CDR); times are nanoseconds."""

    def __init__(self, folder: Path, topics: Sequence[Topic], custom_data: Mapping[str, str]) -> None:
        """Create the bag folder. Raises RecordingError when it exists, cannot be written, or a type is not known."""
        self.folder = Path(folder)
        self.messages = 0
        self._lock: IO[str] | None = None
        self.topics = frozenset(topic.name for topic in topics)
        stores = {topic.type: typestore_for(topic.type) for topic in topics}
        self._writer = _Writer(self._free(self.folder), version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in custom_data.items():
            self._writer.set_custom_data(key, value)
        try:
            self._writer.open()
            self._storage = self._writer.storage
            self._storage.compressor = partial(zstd.compress, level=_LEVEL)
            self._connections = {
                topic.name: self._writer.add_connection(
                    topic.name, topic.type, typestore=stores[topic.type], offered_qos_profiles=topic.qos
                )
                for topic in topics
            }
            self._note = self.folder / UNFINISHED
            self._note.write_text(json.dumps({"custom_data": dict(custom_data), "ros_distro": distribution()}))
            self._lock = self._note.open()  # the system drops it with the process
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (self.folder / RESERVE).open("wb") as reserve:
                os.posix_fallocate(reserve.fileno(), 0, _RESERVE_BYTES)
            if topics:  # on disk before the first message, so that a bag killed at once is one, if an empty one
                self._storage.chunk.message_start_time = 0  # says https://mcap.dev/spec of a chunk without messages
                self._storage.close_chunk()
            self._storage.bio.flush()
        except (OSError, WriterError) as error:
            self.abort()
            shutil.rmtree(self.folder, ignore_errors=True)  # nothing is in it
            raise RecordingError(f"cannot record into {self.folder}: {_reason(error)}") from error

    @staticmethod
    def _free(folder: Path) -> Path:
        if folder.exists():
            raise RecordingError(f"{folder} exists already and is kept: record under another name or move it away")
        return folder

    @property
    def bytes_written(self) -> int:
        """Size of the file so far."""
        return self._storage.bio.tell()

    def write(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Add a message. Raises RecordingError when the disk is full; what was flushed before stays readable."""
        try:
            self._writer.write(self._connections[topic], stamp_ns, data)
        except OSError as error:
            raise self._lost(error) from error
        self.messages += 1

    def flush(self) -> None:
        """Hand everything to the operating system, so that a killed process no longer loses it. Raises RecordingError."""
        try:
            if self._storage.chunk.msgs:
                self._storage.close_chunk()
            self._storage.bio.flush()
        except OSError as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """Write the index and metadata.yaml. Raises RecordingError when the disk is full."""
        try:
            (self.folder / RESERVE).unlink(missing_ok=True)
            self._writer.close()
        except OSError as error:
            raise self._lost(error) from error
        self._note.unlink(missing_ok=True)
        self._unlock()

    def abort(self) -> None:
        """Stop without an index, as a kill would; `repair` makes a bag of it."""
        try:
            self._writer.abort()
        except OSError:  # what is buffered does not fit onto the disk
            self._storage.bio.raw.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _lost(self, error: OSError) -> RecordingError:
        return RecordingError(f"recording into {self.folder} ended: {_reason(error)}; what was flushed before is kept")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
