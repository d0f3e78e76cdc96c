# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 folder: its topics, its metadata and its messages, types taken from the bag itself."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any

from backports import zstd
from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dataset_recorder.convert.errors import BagError
from dataset_recorder.reindex import STORAGE

# What the reader raises on a file that was cut off or damaged.
_DAMAGED = (ReaderError, zstd.ZstdError, OSError, ValueError, AssertionError, KeyError, IndexError, EOFError, struct.error)

_HEADER = ("header", (Nodetype.NAME, "std_msgs/msg/Header"))


class Bag:
    """An opened bag, a context manager. topics: name -> type. custom: the metadata's custom data.

    Raises BagError when the folder is missing, not a bag, or half-written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise BagError(f"{path} is not a folder, expected a rosbag2 folder with metadata.yaml")
        if not (path / "metadata.yaml").is_file():
            if _is_bag(path):
                raise BagError(f"{path} has no metadata.yaml, its recording was cut off: run `reach-grasp repair {path}`")
            raise BagError(f"{path} holds no bag, expected a rosbag2 folder with metadata.yaml")
        try:
            self._reader = Reader(path)
            self._reader.open()
        except _DAMAGED as error:
            raise self._damaged(error) from error
        self._connections = list(self._reader.connections)
        self.topics: dict[str, str] = {item.topic: item.msgtype for item in self._connections}
        self.custom: dict[str, str] = dict(self._reader.storage.metadata.custom or {})

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.close()

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this bag from another or an altered one: path, first stamp [ns], messages."""
        count = self._reader.message_count
        return {"path": str(self.path.resolve()), "start_ns": self._reader.start_time if count else 0, "messages": count}

    def topics_of(self, msgtype: str) -> list[str]:
        """Topics of one type, sorted."""
        return sorted(topic for topic, found in self.topics.items() if found == msgtype)

    def connection(self, topic: str) -> Connection:
        """What the bag noted of a topic; of its first publisher, where it had several."""
        return next(item for item in self._connections if item.topic == topic)

    def messages(
        self, topics: Iterable[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, Callable[[], Any]]]:
        """(topic, time received [ns], a function that decodes) in the order received, from start (included) to stop (not)."""
        topics = set(topics)
        store = self._types(topics)
        for connection, received, data in self._serialised(topics, start_ns, stop_ns):
            yield connection.topic, received, partial(self._decode, store, data, connection)

    def serialised(self, topics: Iterable[str]) -> Iterator[tuple[str, int | None, bytes]]:
        """(topic, stamp [ns] where its messages begin with a header, the bytes as recorded) in the order received."""
        topics = set(topics)
        fields = self._types(topics).fielddefs
        stamped = {name for topic, name in self.topics.items() if topic in topics and fields[name][1][:1] == [_HEADER]}
        for connection, _, data in self._serialised(topics):
            yield connection.topic, _stamp_ns(data) if connection.msgtype in stamped else None, data

    def _serialised(
        self, topics: Iterable[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        wanted = set(topics)
        connections = [item for item in self._connections if item.topic in wanted]
        if not connections:
            return
        try:
            yield from self._reader.messages(connections, start=start_ns, stop=stop_ns)
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _decode(self, store: Typestore, data: bytes, connection: Connection) -> Any:
        try:
            return store.deserialize_cdr(data, connection.msgtype)
        except (*_DAMAGED, SerdeError) as error:
            raise BagError(f"{self.path}: a message of {connection.topic} is not a {connection.msgtype}: {error}") from error

    def _types(self, topics: set[str]) -> Typestore:
        """The types of these topics: those of others may be unknown here."""
        definitions = [(item.msgtype, item.msgdef) for item in self._connections if item.topic in topics]
        return _typestore(tuple(sorted(set(definitions), key=lambda item: item[0])))

    def _damaged(self, error: BaseException) -> BagError:
        detail = (str(error) or type(error).__name__).rstrip(".")
        return BagError(
            f"{self.path} cannot be read ({detail}): if its recording was cut off, run `reach-grasp repair {self.path}`"
        )


def _stamp_ns(data: bytes) -> int:
    """Of a serialised message that begins with a header: behind four bytes, the second of which tells the order of bytes."""
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return seconds * 1_000_000_000 + nanoseconds


def find_bags(paths: Iterable[Path]) -> list[Path]:
    """The bags named: each path is a bag, its MCAP file, or a folder with bags at any depth, taken in natural order.

    Raises BagError where there is none.
    """
    bags: list[Path] = []
    for path in paths:
        if not path.exists():
            raise BagError(f"{path} does not exist, expected a rosbag2 folder or a folder of them")
        if path.is_file() and path.suffix == ".mcap":
            bags.append(path.parent)
        elif path.is_dir() and not _is_bag(path):
            inner = sorted((item for item in path.rglob("*") if item.is_dir() and _is_bag(item)), key=_natural)
            if not inner:
                raise BagError(f"{path} holds no bag, expected a rosbag2 folder with metadata.yaml")
            bags += inner
        else:
            bags.append(path)
    twice = [path for path in bags if bags.count(path) > 1]
    if twice:
        raise BagError(f"{twice[0]} is named twice")
    return bags


def metadata_of(custom: dict[str, str], key: str) -> dict[str, Any] | None:
    """The JSON object that the bag's custom data holds under a key, None where there is none."""
    try:
        value = json.loads(custom.get(key, "null"))
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _is_bag(path: Path) -> bool:
    return (path / "metadata.yaml").is_file() or any(next(path.glob(pattern), None) for pattern in STORAGE)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", str(path))]


@cache
def _typestore(definitions: tuple[tuple[str, MessageDefinition], ...]) -> Typestore:
    """The bag's own definitions where it has them, else the standard types and what is installed.

    Kept, because generating the code that decodes takes longer than reading a short bag with it.
    """
    missing = any(definition.format == MessageDefinitionFormat.NONE for _, definition in definitions)
    store = get_typestore(Stores.ROS2_KILTED if missing else Stores.EMPTY)
    for name, definition in definitions:
        if definition.format == MessageDefinitionFormat.NONE:
            _register_installed(name, store)
            continue
        if definition.format == MessageDefinitionFormat.IDL:
            found = get_types_from_idl(definition.data)
        else:
            found = get_types_from_msg(definition.data, name)
        store.register({part: value for part, value in found.items() if part not in store.fielddefs})
    return store


def _register_installed(name: str, store: Typestore) -> None:
    """Register a type from its installed .msg file, and the types of the same package that it is made of."""
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    if name in store.fielddefs:
        return
    package, _, short = name.partition("/msg/")
    try:
        folder = Path(get_package_share_directory(package)) / "msg"
        found = get_types_from_msg((folder / f"{short}.msg").read_text(), name)
    except (PackageNotFoundError, ValueError, OSError) as error:
        raise BagError(f"the bag does not define {name}: install its package {package!r} and source its workspace") from error
    for part in {str(item) for item in re.findall(r"'([a-z0-9_]+/msg/\w+)'", repr(found))} - {name}:
        _register_installed(part, store)
    store.register(found)
