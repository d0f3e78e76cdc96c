# SPDX-License-Identifier: Apache-2.0
"""Runs one node for a process manager: starts it again when it dies, and never lets it outlive whoever asked for it.

A small program of its own (standard library only): guard.py --watch PID [--respawn] [--optional] [--stuck S] -- COMMAND...
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

# Exit codes after which starting again is pointless: finished, and refused with a sentence for the operator.
FINAL_CODES = (0, 2)
STOP_S = 12.0
# A node that died this often within a minute will not live.
MAX_DEATHS_PER_MINUTE = 5
_PR_SET_PDEATHSIG = 1
STUCK = b"[ERROR] [guard]: Fast DDS has locked itself up (its issue 6502), so the node heard nothing: it is ended\n"


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


class Pulse:
    """Whether Fast DDS still lives in a process.

    Its threads dds.ev wake at least every three seconds, to announce the process. When other nodes leave in that moment, such a
    thread may come to wait for a lock whose holder waits for it (eProsima/Fast-DDS issue 6502, all versions): from then on the
    process hears nothing. It then sleeps without ever being switched in, which the kernel counts.
    """

    LOOKS = 6

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._seen: dict[str, tuple[str, int]] = {}  # thread -> what it was like, and at how many looks in a row

    def stuck(self) -> bool:
        """To be called at regular times: whether such a thread was asleep without a break at the last `LOOKS` calls."""
        looked = {}
        for task in self._threads():
            try:
                lines = (self._tasks / task / "status").read_text().splitlines()
            except OSError:
                continue  # it has just ended
            state = " ".join(line for line in lines if line.startswith(("State:", "voluntary", "nonvoluntary")))
            before, times = self._seen.get(task, ("", 0))
            looked[task] = state, times + 1 if state == before and "State:\tS" in state else 1
        self._seen = looked
        return any(times >= self.LOOKS for _, times in looked.values())

    def _threads(self) -> list[str]:
        try:
            return [task.name for task in self._tasks.iterdir() if (task / "comm").read_text().startswith("dds.ev")]
        except OSError:
            return []  # the process, or a thread of it, has just ended


class Guard:
    """Supervises one command. watch: process id whose end ends the command too.

    stuck_s: how long its Fast DDS may be locked up until it is killed; 0: it is not looked at.
    """

    def __init__(self, command: list[str], watch: int, respawn: bool, delay_s: float, stuck_s: float = 0.0) -> None:
        self.command, self.respawn, self.delay_s, self.stuck_s = command, respawn, delay_s, stuck_s
        self.stopping = False
        self.deaths: list[float] = []
        self.watched = os.pidfd_open(watch)
        self.wake, self.waker = os.pipe()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        self.stopping = True
        os.write(self.waker, b"s")

    def run(self) -> int:
        """The exit code of the command's last life."""
        while True:
            code = self._live()
            if self.stopping or not self.respawn or code in FINAL_CODES or self._hopeless():
                return code if code >= 0 else 128 - code
            os.write(1, f"ended with {code}; starting again in {self.delay_s:g} s\n".encode())
            if self._wait(self.delay_s):
                return 128 - code if code < 0 else code

    def _hopeless(self) -> bool:
        now = time.monotonic()
        self.deaths = [moment for moment in self.deaths if now - moment < 60.0] + [now]
        return len(self.deaths) >= MAX_DEATHS_PER_MINUTE

    def outlive(self, code: int) -> None:
        """After an optional command: stay until told to stop, since the first guard that ends is the end of the system."""
        if not self.stopping:
            os.write(1, f"ended with {code}; the others go on\n".encode())
            self._wait(None)

    def _wait(self, seconds: float | None) -> bool:
        """Whether the guard was told to stop within that time, or at all."""
        return bool(select.select([self.wake, self.watched], [], [], seconds)[0])

    def _live(self) -> int:
        child = subprocess.Popen(self.command, preexec_fn=die_with_parent)
        ended = os.pidfd_open(child.pid)
        try:
            ready = self._until_something_happens(child.pid, ended)
            if not ready:
                os.write(1, STUCK)
                child.kill()
            elif ended not in ready:
                self.stopping = True
                child.send_signal(signal.SIGTERM)
                if not select.select([ended], [], [], STOP_S)[0]:
                    child.kill()
            return child.wait()
        finally:
            os.close(ended)

    def _until_something_happens(self, pid: int, ended: int) -> list[int]:
        """Wait for the child's end, a signal, or the watched process's end; what of it has come, nothing for a stuck child."""
        pulse, look_s = Pulse(pid), self.stuck_s / Pulse.LOOKS or None
        while True:
            ready = select.select([ended, self.wake, self.watched], [], [], look_s)[0]
            if ready or pulse.stuck():
                return ready


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watch", type=int, required=True)
    parser.add_argument("--respawn", action="store_true")
    parser.add_argument("--optional", action="store_true")
    parser.add_argument("--delay", type=float, default=2.0)
    parser.add_argument("--stuck", type=float, default=0.0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        guard = Guard(options.command, options.watch, options.respawn, options.delay, options.stuck)
    except ProcessLookupError:
        return 1
    code = guard.run()
    if options.optional:
        guard.outlive(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
