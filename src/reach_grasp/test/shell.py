# SPDX-License-Identifier: Apache-2.0
"""A shell at a pseudo-terminal, at which tests type what a page prints."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path

_PROMPT = re.compile(r"<status (\d+)>")
_SIZE = (50, 200)  # lines, columns


class Terminal:
    """Bash, with somebody who reads all that it prints. Use it as a context manager: at the end what still runs is stopped."""

    def __init__(self, folder: Path, environment: Mapping[str, str], timeout_s: float = 300.0) -> None:
        """folder: where it begins. timeout_s: after which `until` fails."""
        self.text, self._timeout_s, self._mark = "", timeout_s, 0
        self._master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *_SIZE, 0, 0))
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**environment, "PS1": "<status $?>", "PS2": "", "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        assert self.status() == 0
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError, OSError):
            if not _PROMPT.search(self.text, self._mark):
                self.interrupt()
        os.close(self._master)  # hangs up
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._shell.wait(timeout=10.0)
        self._shell.kill()
        self._shell.wait()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while data := os.read(self._master, 65536):
                with self._more:
                    self.text += data.decode(errors="replace").replace("\r\n", "\n")
                    self._more.notify_all()

    @property
    def said(self) -> str:
        """Text printed since the last input was typed."""
        return self.text[self._mark :]

    def type(self, text: str) -> None:
        """Type something and press Enter."""
        self._mark = len(self.text)
        os.write(self._master, f"{text}\n".encode())

    def until(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        """Wait until that was printed since something was typed. Fails when the command ends before it."""
        pattern = re.compile(pattern)
        end_s = time.monotonic() + self._timeout_s
        with self._more:
            while (found := pattern.search(self.text, self._mark)) is None:
                ended = pattern is not _PROMPT and _PROMPT.search(self.text, self._mark)
                assert not ended, f"no {pattern.pattern!r} in {self.said[-4000:]}"
                assert self._more.wait(end_s - time.monotonic()), f"no {pattern.pattern!r} yet in {self.said[-4000:]}"
        return found

    def status(self) -> int:
        """Exit status of what was typed, once it has ended."""
        return int(self.until(_PROMPT)[1])

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit status."""
        os.write(self._master, b"\x03")
        return self.status()
