# SPDX-License-Identifier: Apache-2.0
"""Starts a system as processes of this computer, without ros2 launch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import honcho.manager
from ament_index_python.packages import get_package_prefix
from honcho.manager import Manager
from honcho.printer import Printer

from hilserl_ros.transport import small_datagrams
from reach_grasp import guard
from reach_grasp.errors import CommandError
from reach_grasp.specs import NodeSpec
from reach_grasp.systems import RESPAWN_DELAY_S, nodes_of

# Longer than a guard gives its node, so that a node which writes its last checkpoint is not cut short.
honcho.manager.KILL_WAIT = int(guard.STOP_S) + 3

STUCK_S = 30.0
"""How long [s] a node's Fast DDS may be locked up: ten times its longest sleep otherwise. Others forget the node after 20 s."""
CLOSED_PIPE = 141
"""Exit code of a program whose output nobody reads, as a shell reports it of one that SIGPIPE ended."""
# What honcho puts before each line.
_PREFIX = re.compile(r"^\d\d:\d\d:\d\d \S+ *\| ?")


def node_command(spec: NodeSpec, folder: Path) -> list[str]:
    """What starts one node. Raises CommandError when its executable is not there or `folder` cannot be written.

    Its own values go into a file in `folder`, under its full name as `ros2 launch` writes them: rcl lets any section that names
    a node count above a plain `-p`.
    """
    executable = Path(get_package_prefix(spec.package)) / "lib" / spec.package / spec.executable
    if not executable.is_file():
        raise CommandError(f"{executable} does not exist; build the workspace again")
    command = [str(executable), *spec.arguments, "--ros-args", "-r", f"__node:={spec.name}", "--log-level", spec.log_level]
    if spec.namespace:
        command += ["-r", f"__ns:=/{spec.namespace.strip('/')}"]
    for file in spec.parameter_files:
        command += ["--params-file", str(file)]
    if spec.parameters:
        full_name = "/".join(["", *filter(None, [spec.namespace.strip("/"), spec.name])])
        file = folder / f"{full_name.strip('/').replace('/', '.')}.yaml"
        try:
            file.write_text(json.dumps({full_name: {"ros__parameters": dict(spec.parameters)}}))  # JSON is YAML
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {(error.strerror or str(error)).lower()}") from None
        command += ["--params-file", str(file)]
    for old, new in spec.remappings:
        command += ["-r", f"{old}:={new}"]
    return command


def guarded(spec: NodeSpec, watch: int, folder: Path) -> list[str]:
    """The node's command under a guard that ends it when process `watch` ends, and starts it again where asked."""
    # Without the environment's start-up files the guard takes milliseconds and few megabytes.
    command = [sys.executable, "-I", "-S", guard.__file__, "--watch", str(watch), "--delay", str(RESPAWN_DELAY_S)]
    if small_datagrams(os.environ):  # with transports of the user's own nobody knows how often Fast DDS wakes
        command += ["--stuck", str(STUCK_S)]
    return [*command, *_options(spec), "--", *node_command(spec, folder)]


def _options(spec: NodeSpec) -> list[str]:
    return [f"--{name}" for name in ("respawn", "optional") if getattr(spec, name)]


def run(specs: Sequence[NodeSpec], output: TextIO = sys.stdout) -> int:
    """Run the nodes until one of them ends for good or a signal comes, then stop the others. Returns the exit code.

    Raises CommandError when a node cannot be started.
    """
    outlet = _Outlet(output)
    manager = _Nodes(Printer(outlet, colour=output.isatty()))
    outlet.on_closed = manager.terminate
    try:
        temporary = tempfile.TemporaryDirectory(prefix="reach_grasp_")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandError(f"no temporary folder: {why}; free some disk, or set TMPDIR") from None
    with temporary as folder:
        for spec in specs:
            command = "exec " + shlex.join(guarded(spec, os.getpid(), Path(folder)))
            manager.add_process(spec.name, command, env={**os.environ, **spec.environment})
        manager.loop()
    # Nodes that are told to end do so with 0: that nobody reads must not look like success.
    return manager.returncode or (CLOSED_PIPE if outlet.closed else 0)


class _Outlet:
    """The output of a system, written line by line and past every buffer, so that a signal handler may write as well.

    on_closed: called once when nobody reads any more; what comes then is dropped.
    """

    def __init__(self, output: TextIO) -> None:
        self._file, self._line, self.closed = output.fileno(), "", False
        self.isatty = output.isatty
        self.on_closed: Callable[[], None] = lambda: None

    def write(self, text: str) -> None:
        """Keep the text until its line is whole."""
        lines, end, self._line = (self._line + text).rpartition("\n")
        if not end or self.closed:
            return
        try:
            os.write(self._file, (lines + end).encode())
        except OSError:  # a pipe without a reader, a terminal that was closed, a full disk
            self.closed = True
            self.on_closed()

    def flush(self) -> None:
        """Do nothing: only an unfinished line is ever kept back."""


class _Nodes(Manager):
    """Honcho's manager; it may be told to end while its processes are still being started."""

    _asked = False

    def terminate(self) -> None:
        """End every process, as soon as all are known."""
        self._asked = True
        if super()._all_started():
            super().terminate()

    def _all_started(self) -> bool:
        started = super()._all_started()
        if started and self._asked:
            super().terminate()
        return started


@contextlib.contextmanager
def background(
    system: str, arguments: Mapping[str, Any], log: Path | None, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a system beside this process, its output in `log` or shown; stopped on leaving, also when this process dies."""
    words = [f"{name}:={value}" for name, value in arguments.items()]
    with log.open("ab") if log is not None else contextlib.nullcontext() as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "reach_grasp.process", system, *words],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=lambda: guard.die_with_parent(signal.SIGTERM),
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a background system: asked first, and made to when it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(guard.STOP_S + 8.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check_alive(process: subprocess.Popen[bytes], log: Path) -> None:
    """Raise CommandError when a background system has ended, with the reason from its log."""
    if process.poll() is not None:
        reason = last_error(log) or f"a node ended with {process.returncode}"
        raise CommandError(f"{reason} (see {log})")


def last_error(log: Path) -> str:
    """The newest sentence a node logged as fatal or as an error, else the newest line at all; '' when there is none."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()] if log.is_file() else []
    for line in reversed(lines):
        for mark in ("[FATAL]", "[ERROR]", "reach-grasp: "):
            if mark in line:
                return line.split(mark, 1)[1].split("]: ", 1)[-1].strip()
    said = [_PREFIX.sub("", line) for line in lines if " system " not in line]
    return next((line for line in reversed(said) if line), "")


def main(words: Sequence[str]) -> int:
    """Run a system given as its name and `name:=value` words; what `background` starts."""
    given = dict(word.split(":=", 1) for word in words[1:])
    try:
        return run(nodes_of(words[0], given))
    except CommandError as error:
        sys.stderr.write(f"reach-grasp: {error}\n")
        return guard.FINAL_CODES[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
