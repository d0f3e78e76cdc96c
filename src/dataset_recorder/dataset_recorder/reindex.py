# SPDX-License-Identifier: Apache-2.0
"""Makes metadata.yaml anew of storage files that are whole, MCAP or SQLite, whoever recorded them."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backports import zstd
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.metadata import dump_qos_v9

from dataset_recorder.errors import RecordingError
from hilserl_ros.distribution import UNKNOWN

INFORMATION = "rosbag2_bagfile_information"
STORAGE = ("*.mcap", "*.db3", "*.mcap.zstd", "*.db3.zstd")
"""Patterns of the files that hold a bag's messages."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def storage_files(folder: Path) -> list[Path]:
    """The files of a bag that hold its messages, in the order they were recorded."""
    return sorted((path for pattern in STORAGE for path in folder.glob(pattern)), key=_natural)


def reindexed(files: Sequence[Path]) -> dict[str, Any]:
    """The content of metadata.yaml for these files. Raises RecordingError, naming the cure, for one that is not whole."""
    by_file: list[tuple[str, int, int, int]] = []
    topics: dict[str, dict[str, Any]] = {}
    compressed = False
    for file in files:
        try:
            with tempfile.TemporaryDirectory() as scratch, Reader(_readable(file, Path(scratch))) as reader:
                for _, _, data in reader.messages():
                    compressed |= bytes(data[:4]) == _ZSTD_MAGIC
                first = reader.start_time if reader.message_count else 0
                last = reader.end_time - 1 if reader.message_count else 0
                by_file.append((file.name, reader.message_count, first, last))
                for connection in reader.connections:
                    told = _topic(connection)
                    topic = topics.setdefault(repr(told), {"topic_metadata": told, "message_count": 0})
                    topic["message_count"] += connection.msgcount
        except OSError:
            raise
        except Exception as error:
            raise RecordingError(f"{file} is not whole ({_detail(error)}) and stays as it is: {_cure(file)}") from error
    storage = "sqlite3" if ".db3" in files[0].name else "mcap"
    mode = "FILE" if files[0].suffix == ".zstd" else "MESSAGE" if compressed else ""
    return information(storage, by_file, list(topics.values()), compression_mode=mode)


def information(
    storage: str,
    files: Sequence[tuple[str, int, int, int]],
    topics: Sequence[dict[str, Any]],
    compression_mode: str = "",
) -> dict[str, Any]:
    """The content of metadata.yaml, version 9. files: name, messages, first and last time [ns] of each."""
    held = [file for file in files if file[1]]
    first, last = min((file[2] for file in held), default=0), max((file[3] for file in held), default=0)
    return {
        "version": 9,
        "storage_identifier": storage,
        "relative_file_paths": [name for name, *_ in files],
        **_span(sum(file[1] for file in files), first, last),
        "topics_with_message_count": list(topics),
        "compression_format": "zstd" if compression_mode else "",
        "compression_mode": compression_mode,
        "files": [{"path": name, **_span(count, start, end)} for name, count, start, end in files],
        "custom_data": None,
        "ros_distro": UNKNOWN,
    }


def _span(messages: int, first_ns: int, last_ns: int) -> dict[str, Any]:
    return {
        "duration": {"nanoseconds": last_ns - first_ns},
        "starting_time": {"nanoseconds_since_epoch": first_ns},
        "message_count": messages,
    }


def _readable(file: Path, scratch: Path) -> Path:
    """The file itself, or its decompressed content; of a database, with what a kill left in its journal."""
    path = file
    if file.suffix == ".zstd":
        path = scratch / file.stem
        with zstd.open(file, "rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    if any(Path(f"{path}{journal}").exists() for journal in ("-wal", "-journal")):
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
    return path


def _topic(connection: Connection) -> dict[str, Any]:
    return {
        "name": connection.topic,
        "type": connection.msgtype,
        "serialization_format": connection.ext.serialization_format,
        "offered_qos_profiles": dump_qos_v9(connection.ext.offered_qos_profiles),
        "type_description_hash": connection.digest,
    }


def _detail(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")


def _cure(file: Path) -> str:
    """The cure for a file that is not whole."""
    if file.suffix == ".db3":
        return "SQLite cannot read a part of a file, so copy it again from where it was recorded"
    saved = f"mcap recover {file.name} -o saved.mcap"
    if file.suffix == ".zstd":
        saved = f"zstd -dc {file.name} > saved{Path(file.stem).suffix}"
    return f"save what it holds with '{saved}', and repair a folder with the saved file alone"


def _natural(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path.name)]
