# SPDX-License-Identifier: Apache-2.0
"""The folder of a demo or a rehearsal: what was done, how long it took, and who may write into it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from reach_grasp.errors import CommandError

NEEDED_GB = 2.0


class Settings(Protocol):
    """The settings of a run. kind: what it is, for messages and the name of its state's file."""

    kind: ClassVar[str]

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""


class RunFolder:
    """Open with `open_folder`. `phases` maps a phase to the seconds spent in it, over all sittings."""

    def __init__(self, path: Path, settings: Any, state: dict[str, Any]) -> None:
        self.path, self.settings, self.state = path, settings, state
        self.phases: dict[str, float] = state.setdefault("phases", {})
        self._begun: tuple[str, float] | None = None

    @property
    def resumed(self) -> bool:
        """Whether an earlier sitting began this run."""
        return bool(self.state.get("sittings", 0) > 1)

    def file(self, *parts: str) -> Path:
        """A path in the folder; its parents are made."""
        path = self.path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def enter(self, phase: str) -> None:
        """From now on time counts for this phase."""
        if self._begun is None or self._begun[0] != phase:
            self.leave()
            self._begun = (phase, time.monotonic())

    def seconds(self, phase: str) -> float:
        """Spent in a phase so far."""
        running = time.monotonic() - self._begun[1] if self._begun and self._begun[0] == phase else 0.0
        return self.phases.get(phase, 0.0) + running

    def leave(self) -> None:
        """Book the time of the running phase."""
        if self._begun is not None:
            phase, begun = self._begun
            self.phases[phase] = self.phases.get(phase, 0.0) + time.monotonic() - begun
            self._begun = None
            self.save()

    def done(self, what: str) -> bool:
        """Whether a part was completed."""
        return what in self.state.get("done", [])

    def complete(self, what: str) -> None:
        """Remember that a part need not be done again."""
        self.leave()
        self.state.setdefault("done", []).append(what)
        self.save()

    def save(self) -> None:
        """Write the state; a kill leaves the old or the new one."""
        replace_text(self.path / state_file(self.settings.kind), json.dumps(self.state, indent=1))

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add a line to history/<name>.jsonl."""
        with self.file("history", f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def history(self, name: str) -> list[dict[str, Any]]:
        """The lines of history/<name>.jsonl; a torn last line is left out."""
        return read_history(self.path, name)


def read_history(path: Path, name: str) -> list[dict[str, Any]]:
    """The lines of history/<name>.jsonl of a demo folder."""
    file, found = path / "history" / f"{name}.jsonl", []
    for line in file.read_text().splitlines() if file.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def replace_text(path: Path, text: str) -> None:
    """Write beside, fsync, rename."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def state_file(kind: str) -> str:
    """Name of the file that holds the state of a run."""
    return f"{kind}.json"


def read_state(path: Path, kind: str = "demo") -> dict[str, Any] | None:
    """The state of the run in a folder; None when there is none. Raises CommandError when it cannot be read."""
    file = path / state_file(kind)
    if not file.is_file():
        return None
    try:
        state = json.loads(file.read_text())
        return state if isinstance(state, dict) else None
    except ValueError as error:
        raise CommandError(f"{file} is damaged ({error}); move {path} away or use --fresh") from None


@contextmanager
def open_folder(path: Path, settings: Settings, resume: bool = False, fresh: bool = False) -> Iterator[RunFolder]:
    """The folder for a run, locked. An unfinished run of the same settings goes on; any other run there is moved aside.

    resume: refuse to begin anew. fresh: delete the run that is there. Raises CommandError when another one uses the folder,
    it cannot be written, or the disk is nearly full.
    """
    path = path.expanduser().resolve()
    while True:
        _make(path, settings.kind)
        lock = _lock(path, settings.kind)
        try:
            state = None if fresh else read_state(path, settings.kind)
            mine = state is not None and state.get("settings") == settings.as_dict() and not state.get("finished")
            if resume and not mine:
                raise CommandError(f"{path} holds no unfinished {settings.kind} with these settings to go on with")
            if state is not None and not mine:
                _move_aside(path)
                continue
            if fresh:
                _check_own(path, settings.kind)
                for item in sorted(path.iterdir(), key=lambda item: item.name == state_file(settings.kind)):  # that last
                    shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
            elif state is None and any(path.iterdir()):
                raise CommandError(f"{path} holds something else than a {settings.kind}; name another folder with --output")
            state = state or {"settings": settings.as_dict()}
            state["sittings"] = state.get("sittings", 0) + 1
            folder = RunFolder(path, settings, state)
            folder.save()
            try:
                yield folder
            finally:
                folder.leave()
            return
        except OSError as error:
            raise CommandError(f"{error.filename or path}: {(error.strerror or str(error)).lower()}") from error
        finally:
            os.close(lock)


def _check_own(path: Path, kind: str) -> None:
    """Raise CommandError for a folder whose content is no run of this kind: it is not ours to delete."""
    if any(path.iterdir()) and not (path / state_file(kind)).is_file():
        raise CommandError(f"{path} holds something else than a {kind}, which --fresh does not delete; name another --output")


def _make(path: Path, kind: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{path} cannot be made: {(error.strerror or str(error)).lower()}; use --output") from None
    if not os.access(path, os.W_OK):
        raise CommandError(f"{path} cannot be written: permission denied; mend that or use --output")
    free = shutil.disk_usage(path).free / 1e9
    if free < NEEDED_GB:
        raise CommandError(
            f"the disk of {path} has {free:.1f} GB free, the {kind} needs {NEEDED_GB:g} GB; free some or use --output"
        )


def _lock(path: Path, kind: str) -> int:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise CommandError(f"another {kind} is running in {path}; wait for it or use --output") from None
    return handle


def _move_aside(path: Path) -> None:
    number = next(n for n in range(1, 10_000) if not path.with_name(f"{path.name}.{n}").exists())
    path.rename(path.with_name(f"{path.name}.{number}"))
