# SPDX-License-Identifier: Apache-2.0
"""Two computers in one: network namespaces joined by a link that loses, delays, swaps and doubles frames."""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from pathlib import Path

_TUNSETIFF, _IFF_TAP_NO_PI = 0x400454CA, 0x1002  # linux/if_tun.h
_DEVICE = "link0"


class LossyLink:
    """loss: share of the frames that never arrive. delay_s: mean of the others, up to half as much again or less.

    Raises OSError or CalledProcessError where this is not allowed. lost, passed: frames so far.
    """

    def __init__(self, loss: float, delay_s: float, doubled: float = 0.01) -> None:
        self._loss, self._delay_s, self._doubled = loss, delay_s, doubled
        self.lost = self.passed = 0
        self._names = [f"reach-grasp-{os.getpid()}-{side}" for side in (1, 2)]
        self._ends: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> LossyLink:
        try:
            self._ends = [_end_of_link(name, f"10.77.0.{side}") for side, name in enumerate(self._names, start=1)]
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._remove()

    def command(self, side: int, words: list[str]) -> list[str]:
        """What runs a program on one of the computers, 0 or 1; each has shared memory of its own."""
        inside = 'mount -t tmpfs memory /dev/shm && exec ip netns exec "$0" "$@"'
        return ["unshare", "--ipc", "--mount", "sh", "-c", inside, self._names[side], *words]

    def _remove(self) -> None:
        for end in self._ends:
            os.close(end)
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)

    def _carry(self) -> None:
        """From one end to the other, until it is over."""
        chance, waiting, number = random.Random(0), [], 0
        while not self._over.is_set():
            pause_s = min(0.1, max(0.0, waiting[0][0] - time.monotonic())) if waiting else 0.1
            for end in select.select(self._ends, [], [], pause_s)[0]:
                frame, other = os.read(end, 65536), self._ends[1 - self._ends.index(end)]
                if chance.random() < self._loss:
                    self.lost += 1
                    continue
                for _ in range(1 + (chance.random() < self._doubled)):
                    number += 1
                    due_s = time.monotonic() + self._delay_s * chance.uniform(0.5, 1.5)
                    heapq.heappush(waiting, (due_s, number, other, frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, frame = heapq.heappop(waiting)
                os.write(end, frame)
                self.passed += 1


def _end_of_link(name: str, address: str) -> int:
    """Make a namespace with one interface; returns the descriptor its frames go through."""
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    home, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", Path("/run/netns") / name))
    try:
        os.setns(there, os.CLONE_NEWNET)
        end = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", _DEVICE.encode(), _IFF_TAP_NO_PI))
    finally:
        os.setns(home, os.CLONE_NEWNET)
        os.close(home)
        os.close(there)
    for words in (
        f"addr add {address}/24 dev {_DEVICE}",
        f"link set {_DEVICE} up",
        "link set lo up",
        f"route add default dev {_DEVICE}",
    ):
        subprocess.run(["ip", "-n", name, *words.split()], check=True, capture_output=True)
    return end
