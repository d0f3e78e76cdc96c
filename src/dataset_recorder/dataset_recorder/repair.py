# SPDX-License-Identifier: Apache-2.0
"""Makes a readable bag of one that was cut off, while it was recorded or afterwards: in place, on a full disk too."""

from __future__ import annotations

import io
import json
import os
import struct
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from backports import zstd
from rosbags.highlevel import AnyReader
from rosbags.rosbag2.storage_mcap import Channel, McapWriter, PendingChunk, Schema

from dataset_recorder.bag_writer import RESERVE, UNFINISHED
from dataset_recorder.errors import RecordingError

# https://mcap.dev/spec: records are an opcode, a length and content.
_MAGIC = b"\x89MCAP0\r\n"
_RECORD = struct.Struct("<BQ")
_HEADER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX, _METADATA = 0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0C
_INFORMATION = "rosbag2_bagfile_information"
_CHUNK_HEAD = struct.Struct("<QQQII")  # first and last time, uncompressed size, its crc, length of the compression's name
_MESSAGE_HEAD = struct.Struct("<HIQ")  # channel, sequence, time


@dataclass(frozen=True)
class Repaired:
    """What was found: messages in the bag now, bytes cut off behind the last whole chunk; changed: whether it was needed."""

    messages: int
    bytes_cut: int
    changed: bool


def repair(folder: Path) -> Repaired:
    """Mend a bag in place; one that is whole stays untouched. Raises RecordingError when there is nothing to mend."""
    folder = Path(folder)
    files = sorted(folder.glob("*.mcap"))
    if len(files) != 1:
        raise RecordingError(f"{folder} holds {len(files)} MCAP files, expected one: is it the folder of a bag?")
    metadata, note = folder / "metadata.yaml", folder / UNFINISHED
    try:
        (folder / RESERVE).unlink(missing_ok=True)
        count = _readable(folder) if metadata.is_file() else None
        found = _mended(files[0], metadata, note) if count is None else Repaired(count, 0, changed=False)
        note.unlink(missing_ok=True)  # a whole bag has one if it was killed between the last two steps of closing
    except (OSError, ValueError, LookupError, struct.error, yaml.YAMLError) as error:
        raise RecordingError(f"{folder} cannot be mended: {error}") from error
    return found


def _mended(path: Path, metadata: Path, note: Path) -> Repaired:
    file = _Continued(path)
    content = file.finish(_custom_data(note, metadata, file.told))
    _write(metadata, content)
    return Repaired(content["message_count"], file.bytes_cut, changed=True)


def _readable(folder: Path) -> int | None:
    """Messages of a bag, when each can be read and they are as many as its metadata says; None for another."""
    try:
        with AnyReader([folder]) as reader:
            count = sum(1 for _ in reader.messages())
            return count if count == reader.message_count else None
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - of a torn file rosbags raises all sorts
        return None


def _custom_data(note: Path, metadata: Path, told: bytes) -> dict[str, str]:
    """What only the recorder knew, from the first that still has it: its note, metadata.yaml, what the MCAP file repeats."""
    places = (
        lambda: json.loads(note.read_text()),
        lambda: yaml.safe_load(metadata.read_text())[_INFORMATION],
        lambda: yaml.safe_load(_texts(_texts(told)[1])[1]),
    )
    for place in places:
        with suppress(FileNotFoundError, ValueError, TypeError, LookupError, struct.error, yaml.YAMLError):
            return place()["custom_data"] or {}
    return {}


class _Continued(McapWriter):
    """rosbags' writer, in the state it had after the last whole chunk of a file. told: the record that repeats metadata.yaml.

    Raises RecordingError, before anything is changed, when something else wrote the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bio = path.open("r+b")
        self.schemas, self.channels, self.chunks = [], [], []
        self.channel_stats = {}
        self.message_start_time, self.message_end_time = 2**63 - 1, 0
        self.compression, self.compressor = "zstd", partial(zstd.compress, level=1)
        self.chunk = PendingChunk(2**63 - 1, 0, io.BytesIO(), defaultdict(list))
        self.told = b""
        size = path.stat().st_size
        begin = self.bio.read(len(_MAGIC))
        header = self._next(size)
        if begin != _MAGIC or header is None or header[0] != _HEADER:
            raise RecordingError(f"{path} does not begin as an MCAP file: nothing in it can be read")
        _, library = _texts(header[1])
        if not library.startswith(b"rosbags"):
            raise RecordingError(f"{path} was written by {library.decode()} and stays as it is: mend it with 'mcap recover'")
        self.bio.seek(self._scan(size))
        self.bytes_cut = size - self.bio.tell()
        self.bio.truncate()

    def finish(self, custom_data: dict[str, str]) -> dict[str, Any]:
        """Write index and footer onto the disk; the content of metadata.yaml."""
        counts, messages = self.channel_stats, sum(self.channel_stats.values())
        span = {
            "duration": {"nanoseconds": max(0, self.message_end_time - self.message_start_time)},
            "starting_time": {"nanoseconds_since_epoch": self.message_start_time if messages else 0},
            "message_count": messages,
        }
        topics = [
            {"topic_metadata": _topic_metadata(channel), "message_count": counts[channel.id]} for channel in self.channels
        ]
        content = {
            "version": 9,
            "storage_identifier": "mcap",
            "relative_file_paths": [self.path.name],
            **span,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "files": [{"path": self.path.name, **span}],
            "custom_data": custom_data or None,
            "ros_distro": "rosbags",
        }
        self.close(9, yaml.safe_dump(content).strip())
        return content

    def _scan(self, size: int) -> int:
        """Take in every whole chunk; where the file is to go on."""
        end = self.bio.tell()
        while (found := self._next(size)) is not None:
            opcode, content = found
            if opcode == _CHUNK:
                if not self._take(content, end):
                    break  # where it is whole but its index is not, it is written again
            else:
                self.told = content if opcode == _METADATA else b""
                break  # the index of the whole file had been begun
            end = self.bio.tell()
        return end

    def _next(self, size: int) -> tuple[int, bytes] | None:
        """The next record, None when it is not whole."""
        head = self.bio.read(_RECORD.size)
        if len(head) < _RECORD.size:
            return None
        opcode, length = _RECORD.unpack(head)
        if opcode == 0 or self.bio.tell() + length > size:
            return None
        return opcode, self.bio.read(length)

    def _take(self, content: bytes, start: int) -> bool:
        """Take in a chunk that begins at `start`; False when it, or the index behind it, is not whole."""
        try:
            first, last, size, _, name_length = _CHUNK_HEAD.unpack_from(content)
            place = _CHUNK_HEAD.size + name_length
            name, (length,) = content[_CHUNK_HEAD.size : place].decode(), struct.unpack_from("<Q", content, place)
            data = content[place + 8 : place + 8 + length]
            payload = zstd.decompress(data) if name == "zstd" else data
        except (struct.error, UnicodeDecodeError, zstd.ZstdError):
            return False  # a power cut left its place but not its content
        if not payload or len(payload) != size:
            return False
        messages = self._read(payload)
        end, indices = self.bio.tell(), {}
        for _ in messages:
            at, found = self.bio.tell(), self._next(self.path.stat().st_size)
            if found is None or found[0] != _INDEX:
                self.chunk = PendingChunk(first, last, io.BytesIO(payload), messages)
                self.chunk.bio.seek(size)
                return False
            indices[struct.unpack_from("<H", found[1])[0]] = at
        record = io.BytesIO()
        record.write(struct.pack("<QQQQI", first, last, start, end - start, 10 * len(indices)))
        record.write(b"".join(struct.pack("<HQ", *item) for item in indices.items()))
        record.write(struct.pack("<QI", self.bio.tell() - end, name_length) + name.encode() + struct.pack("<QQ", length, size))
        self.chunks.append(record)
        return True

    def _read(self, payload: bytes) -> defaultdict[int, list[tuple[int, int]]]:
        """Schemas, channels and counts of a chunk; (time, offset) of its messages by channel."""
        messages: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        offset = 0
        while offset < len(payload):
            opcode, length = _RECORD.unpack_from(payload, offset)
            content = payload[offset + _RECORD.size : offset + _RECORD.size + length]
            if opcode == _SCHEMA:
                self._read_schema(content)
            elif opcode == _CHANNEL:
                self._read_channel(content)
            elif opcode == _MESSAGE:
                channel, _, time_ns = _MESSAGE_HEAD.unpack_from(content)
                messages[channel].append((time_ns, offset))
                self.channel_stats[channel] += 1
                self.message_start_time = min(time_ns, self.message_start_time)
                self.message_end_time = max(time_ns, self.message_end_time)
            offset += _RECORD.size + length
        return messages

    def _read_schema(self, content: bytes) -> None:
        (number,) = struct.unpack_from("<H", content)
        name, encoding, data = _texts(content[2:])
        if number not in {schema.id for schema in self.schemas}:
            self.schemas.append(Schema(number, name.decode(), encoding.decode(), data.decode()))

    def _read_channel(self, content: bytes) -> None:
        number, schema = struct.unpack_from("<HH", content)
        topic, encoding, metadata = _texts(content[4:])
        if number not in self.channel_stats:
            kind = next(item.name for item in self.schemas if item.id == schema)
            self.channels.append(Channel(number, kind, topic.decode(), encoding.decode(), metadata))
            self.channel_stats[number] = 0


def _topic_metadata(channel: Channel) -> dict[str, Any]:
    words = [word.decode() for word in _texts(channel.metadata)]
    told = dict(zip(words[::2], words[1::2], strict=True))
    return {
        "name": channel.topic,
        "type": channel.schema,
        "serialization_format": channel.message_encoding,
        "offered_qos_profiles": yaml.safe_load(told.get("offered_qos_profiles", "")) or [],
        "type_description_hash": told.get("topic_type_hash", ""),
    }


def _texts(content: bytes) -> list[bytes]:
    """Strings, each behind its length."""
    found, offset = [], 0
    while offset < len(content):
        (length,) = struct.unpack_from("<I", content, offset)
        found.append(content[offset + 4 : offset + 4 + length])
        offset += 4 + length
    return found


def _write(target: Path, content: dict[str, Any]) -> None:
    part = target.with_suffix(".part")
    with part.open("w") as file:
        yaml.safe_dump({_INFORMATION: content}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
