# SPDX-License-Identifier: Apache-2.0
"""What a process that moves an arm asks of the operating system: to be run at once when its time has come."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from pathlib import Path

_PRIORITY = 10  # of 99: above everything ordinary, below what drives motors and the kernel's own work
_NICE = -10
_SWITCH_S = 0.0005  # a thread whose time has come waits no longer for one that computes; Python's own 5 ms are half a cycle


def take_precedence() -> str:
    """Let every thread of this process, DDS's included, run before ordinary ones, and spare it long garbage collections.

    Round-robin real-time scheduling where it may (root, or an `rtprio` limit for the user), else a lower niceness where it
    may. Threads started later inherit it. Returns what was reached, for the log.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()  # what has been imported stays; looking through it again takes tens of milliseconds
    threads = [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
    reached = "ordinary priority; allow 'rtprio 20' in /etc/security/limits.conf for a steadier tick"
    with contextlib.suppress(PermissionError):
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.setpriority(os.PRIO_PROCESS, thread, _NICE)
        reached = f"niceness {_NICE}; allow 'rtprio 20' in /etc/security/limits.conf for a steadier tick"
    with contextlib.suppress(PermissionError):
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(_PRIORITY))
        reached = "real-time priority"
    return reached
