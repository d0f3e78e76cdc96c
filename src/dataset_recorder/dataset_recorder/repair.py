# SPDX-License-Identifier: Apache-2.0
"""Makes a readable bag of one that was cut off, while it was recorded or afterwards: in place, on a full disk too.

Nothing that could still be read is destroyed: whole messages of a torn chunk are taken where it is not compressed, and what
is cut off the file is kept beside it.
"""

from __future__ import annotations

import fcntl
import io
import itertools
import json
import os
import shutil
import struct
from binascii import crc32
from collections import defaultdict
from collections.abc import Callable, Iterator
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
from dataset_recorder.reindex import INFORMATION, information, reindexed, storage_files
from hilserl_ros.distribution import UNKNOWN

# https://mcap.dev/spec: records are an opcode, a length and content.
_MAGIC = b"\x89MCAP0\r\n"
_RECORD = struct.Struct("<BQ")
_HEADER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX = 0x01, 0x03, 0x04, 0x05, 0x06, 0x07
_METADATA, _DATA_END = 0x0C, 0x0F
_CHUNK_HEAD = struct.Struct("<QQQII")  # first and last time, uncompressed size, its crc, length of the compression's name
_MESSAGE_HEAD = struct.Struct("<HIQ")  # channel, sequence, time
_INDEX_HEAD = struct.Struct("<HI")  # channel, bytes of its entries


@dataclass(frozen=True)
class Repaired:
    """Result of a repair.

    messages: in the bag now. bytes_cut: behind the last whole message that could be taken; kept: the file that holds the end
    of the bag as it was, None where nothing was cut off. changed: whether a repair was needed.
    """

    messages: int
    bytes_cut: int
    changed: bool
    kept: Path | None = None


def repair(folder: Path, keep: bool = True) -> Repaired:
    """Mend a bag in place; one that is whole stays untouched.

    A whole file without its metadata.yaml, of any recorder, gets one. keep: whether what is cut off is kept beside the file.
    Raises RecordingError, and changes nothing, when there is nothing to mend or no room for what is to be kept.
    """
    folder = Path(folder)
    files = storage_files(folder)
    if not files:
        raise RecordingError(f"{folder} holds 0 MCAP files and no other storage of a bag: is it the folder of a bag?")
    metadata, note = folder / "metadata.yaml", folder / UNFINISHED
    _check_abandoned(note)
    try:
        (folder / RESERVE).unlink(missing_ok=True)
        count = _readable(folder) if metadata.is_file() else None
        if count is not None:
            found = Repaired(count, 0, changed=False)
        elif len(files) == 1 and files[0].suffix == ".mcap" and _library(files[0]).startswith("rosbags"):
            found = _mended(files[0], metadata, note, keep)
        else:
            content = reindexed(files)
            _write(metadata, content)
            found = Repaired(content["message_count"], 0, changed=True)
        note.unlink(missing_ok=True)  # a whole bag has one if it was killed between the last two steps of closing
    except (OSError, ValueError, LookupError, struct.error, yaml.YAMLError) as error:
        raise RecordingError(f"{folder} cannot be mended: {error}") from error
    return found


def repair_unfinished(folder: Path, say: Callable[[str], None], complain: Callable[[str], None]) -> None:
    """Close the bags below a folder that a recorder left open: who counts on closed bags would wait for ever."""
    for note in sorted(folder.rglob(UNFINISHED)):
        try:
            say(f"{note.parent} was left open: it is repaired and holds {repair(note.parent).messages} messages")
        except RecordingError as error:
            complain(str(error))


def _check_abandoned(note: Path) -> None:
    """Raise RecordingError while a recorder still writes the bag of this note."""
    with suppress(FileNotFoundError), note.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(f"{note.parent} is being recorded: repair it when its recorder has ended") from None


def _mended(path: Path, metadata: Path, note: Path, keep: bool) -> Repaired:
    file = _Continued(path)
    if file.bytes_cut:
        with suppress(RecordingError):  # of a file that is whole for who reads it by its index nothing is cut off
            content = reindexed([path]) | _known(note, metadata, file.told)
            _write(metadata, content)
            return Repaired(content["message_count"], 0, changed=True)
    kept = _keep(path, file.end) if keep and file.bytes_cut else None
    content = file.finish(_known(note, metadata, file.told))
    _write(metadata, content)
    return Repaired(content["message_count"], file.bytes_cut, changed=True, kept=kept)


def _keep(path: Path, start: int) -> Path:
    """Copy the end of a file, from `start` on, beside it."""
    kept = next(name for name in map(path.with_name, _kept_names(path.name)) if not name.exists())
    part = kept.with_name(f"{kept.name}.part")
    try:
        with path.open("rb") as source, part.open("wb") as target:
            source.seek(start)
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        part.replace(kept)
    except OSError as error:
        part.unlink(missing_ok=True)
        size = path.stat().st_size - start
        raise RecordingError(
            f"{path} stays as it is: its last {size} bytes cannot be read and do not fit beside it ({error.strerror}); free "
            "some space and repair it again"
        ) from error
    return kept


def _kept_names(name: str) -> Iterator[str]:
    yield f"{name}.cut"
    yield from (f"{name}.cut{number}" for number in itertools.count(2))


def _library(path: Path) -> str:
    """The program that wrote an MCAP file. Raises RecordingError where it does not begin as one."""
    with path.open("rb") as file:
        begin = file.read(len(_MAGIC) + _RECORD.size)
        if len(begin) == len(_MAGIC) + _RECORD.size and begin.startswith(_MAGIC):
            opcode, length = _RECORD.unpack_from(begin, len(_MAGIC))
            content = file.read(min(length, 10_000))
            if opcode == _HEADER and len(content) == length:
                return _texts(content)[1].decode()
    raise RecordingError(f"{path} does not begin as an MCAP file: nothing in it can be read")


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


def _known(note: Path, metadata: Path, told: bytes) -> dict[str, Any]:
    """What only the recorder knew, from the first that still has it: its note, metadata.yaml, what the MCAP file repeats."""
    places = (
        lambda: json.loads(note.read_text()),
        lambda: yaml.safe_load(metadata.read_text())[INFORMATION],
        lambda: yaml.safe_load(_texts(_texts(told)[1])[1]),
    )
    for place in places:
        with suppress(FileNotFoundError, ValueError, TypeError, LookupError, struct.error, yaml.YAMLError):
            found = place()
            return {"custom_data": found["custom_data"] or None, "ros_distro": found.get("ros_distro", UNKNOWN)}
    return {}


class _Continued(McapWriter):
    """rosbags' writer, in the state it had after the last whole chunk of a file; `finish` writes the rest.

    end: where the file goes on; chunk: messages that are written again from there. told: the record that repeats metadata.yaml.
    bytes_cut: of the chunk that could not be taken, and of all behind it.
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
        self.bytes_cut = 0
        self._size = path.stat().st_size
        self.bio.seek(len(_MAGIC))
        self._next()  # the header
        self.end = self._scan()

    def finish(self, known: dict[str, Any]) -> dict[str, Any]:
        """Write what is written again, index and footer onto the disk; the content of metadata.yaml, with what is known."""
        self.bio.seek(self.end)
        self.bio.truncate()
        messages = sum(self.channel_stats.values())
        first = self.message_start_time if messages else 0
        file = (self.path.name, messages, first, max(first, self.message_end_time))
        topics = [
            {"topic_metadata": _topic_metadata(channel), "message_count": self.channel_stats[channel.id]}
            for channel in self.channels
        ]
        content = information("mcap", [file], topics) | known
        self.close(9, yaml.safe_dump(content).strip())
        return content

    def _scan(self) -> int:
        """Take in every whole chunk, and of a torn one what is whole; where the file is to go on."""
        while True:
            end = self.bio.tell()
            opcode, content = self._next()
            if opcode == _CHUNK:
                if self._take(content, end):
                    continue
            elif opcode in (_METADATA, _DATA_END):  # all behind the chunks is made again
                self.told = content
            elif opcode is not None:
                self.bytes_cut = self._size - end
            return end

    def _next(self) -> tuple[int | None, bytes]:
        """Opcode and content of the next record, as much as there is of it; None at the end of the file."""
        head = self.bio.read(_RECORD.size)
        if len(head) < _RECORD.size:
            return (head[0] if head else None), b""
        opcode, length = _RECORD.unpack(head)
        return opcode, self.bio.read(min(length, self._size))

    def _take(self, content: bytes, start: int) -> bool:
        """Take in a chunk that begins at `start`; False when it, or the index behind it, is not whole."""
        self.bytes_cut = self._size - start
        try:
            first, last, size, crc, name_length = _CHUNK_HEAD.unpack_from(content)
            place = _CHUNK_HEAD.size + name_length
            name, (length,) = content[_CHUNK_HEAD.size : place].decode(), struct.unpack_from("<Q", content, place)
            data = content[place + 8 : place + 8 + length]
            payload = zstd.decompress(data) if name == "zstd" else data
        except (struct.error, UnicodeDecodeError, zstd.ZstdError):
            return False  # a power cut left its place but not its content
        if not payload or (len(payload) == size and crc and crc32(payload) != crc):
            return False
        messages, whole = self._read(payload)
        if whole != size:
            self._write_again(payload[:whole], messages)
            self.bytes_cut -= _RECORD.size + place + 8 + whole if whole else 0
            return False
        end, indices = start + _RECORD.size + len(content), {}
        index = sum(_RECORD.size + _INDEX_HEAD.size + 16 * len(found) for found in messages.values())
        self.bytes_cut = max(0, self._size - end - index)  # a torn index holds nothing that the chunk does not
        for _ in messages:
            at, (opcode, found) = self.bio.tell(), self._next()
            channel, count = _INDEX_HEAD.unpack_from(found) if len(found) >= _INDEX_HEAD.size else (0, 0)
            if opcode != _INDEX or not count or len(found) < _INDEX_HEAD.size + count:
                self._write_again(payload, messages)
                return False
            indices[channel] = at
        self.bytes_cut, index_length = 0, self.bio.tell() - end
        record = io.BytesIO()
        record.write(struct.pack("<QQQQI", first, last, start, end - start, 10 * len(indices)))
        record.write(b"".join(struct.pack("<HQ", *item) for item in indices.items()))
        record.write(struct.pack("<QI", index_length, name_length) + name.encode() + struct.pack("<QQ", length, size))
        self.chunks.append(record)
        return True

    def _write_again(self, payload: bytes, messages: defaultdict[int, list[tuple[int, int]]]) -> None:
        """Let `finish` begin with a chunk of these records."""
        times = [time_ns for found in messages.values() for time_ns, _ in found]
        self.chunk = PendingChunk(min(times, default=0), max(times, default=0), io.BytesIO(payload), messages)
        self.chunk.bio.seek(len(payload))

    def _read(self, payload: bytes) -> tuple[defaultdict[int, list[tuple[int, int]]], int]:
        """Schemas, channels and counts of a chunk; (time, offset) of its messages by channel, and how many bytes are whole."""
        messages: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        offset = 0
        while offset + _RECORD.size <= len(payload):
            opcode, length = _RECORD.unpack_from(payload, offset)
            content = payload[offset + _RECORD.size : offset + _RECORD.size + length]
            if opcode == 0 or len(content) < length:
                break
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
        return messages, offset

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
        yaml.safe_dump({INFORMATION: content}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
