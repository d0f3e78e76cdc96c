# SPDX-License-Identifier: Apache-2.0
"""One cycle of the servo bus, ours and LeRobot's, on an emulated arm in another process, with the delays of a real one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lerobot.motors import Motor, MotorNormMode
from lerobot.motors.feetech import FeetechMotorsBus

from benchmarks.registry import Options
from benchmarks.rows import Row
from benchmarks.timing import Timed, percentile, take_turns
from so101_description import JOINTS
from so101_driver.bus import IDS, Bus

LATENCY_MS = 1.0
_BYTES = {"ours": (14 + 6 * 11.5) + 26 + (8 + 37), "lerobot": (14 + 6 * 8) + 26}  # on the wire, a cycle
_GOALS = dict.fromkeys(IDS, 2047)


def run(options: Options) -> Iterator[Row]:
    """The rows of this group."""
    calls, rounds = (50, 2) if options.quick else (300, 6)
    with emulated_arm() as (port, _):
        sides, cpu = {}, {}
        for name, make in (("ours", _ours), ("lerobot", lerobot_cycle)):
            call, close = make(port)  # one after the other: a port has one user
            sides[name] = Timed(call, calls=calls, warm_up=20)
            begun = time.process_time()
            take_turns({name: sides[name]}, rounds)
            cpu[name] = (time.process_time() - begun) / (rounds * (calls + 20))
            close()
    wire = {name: size * 10 / 1000 for name, size in _BYTES.items()}
    seconds = {name: side.seconds for name, side in sides.items()}
    conditions = {
        "adapter_ms": LATENCY_MS,
        "wire_ms_ours": wire["ours"],
        "wire_ms_lerobot": wire["lerobot"],
        "p99_ms_ours": percentile(seconds["ours"], 99) * 1e3,
        "p99_ms_lerobot": percentile(seconds["lerobot"], 99) * 1e3,
    }
    what = "Ours: positions and velocities, goals, one servo's health: two waits. LeRobot: positions, goals: one wait."
    yield Row(
        "bus_cycle", sides["ours"].median_s * 1e3, sides["lerobot"].median_s * 1e3, "ms", note=what, conditions=conditions
    )
    yield Row("bus_cycle_cpu", cpu["ours"] * 1e3, cpu["lerobot"] * 1e3, "ms", note=what, conditions=conditions)


@contextmanager
def emulated_arm() -> Iterator[tuple[str, int]]:
    """Its serial device, and its process."""
    words = ["-m", "reach_grasp.command", "emulate-bus", "--latency-ms", str(LATENCY_MS)]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.terminate()
        process.wait()


def _ours(port: str) -> tuple[Callable[[], None], Callable[[], None]]:
    bus = Bus(port, reply_timeout_s=0.1)
    bus.open()
    for servo in IDS:
        bus.write(servo, "Return_Delay_Time", 0)

    def cycle() -> None:
        bus.read_state()
        bus.write_goals(_GOALS)
        bus.read_health()

    return cycle, bus.close


def lerobot_cycle(port: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """One cycle of LeRobot's bus, and what closes it."""
    motors = {joint: Motor(servo, "sts3215", MotorNormMode.DEGREES) for servo, joint in zip(IDS, JOINTS, strict=True)}
    bus = FeetechMotorsBus(port, motors)
    bus.connect()
    goals = dict(zip(JOINTS, _GOALS.values(), strict=True))

    def cycle() -> None:
        bus.sync_read("Present_Position", normalize=False, num_retry=2)
        bus.sync_write("Goal_Position", goals, normalize=False)

    return cycle, lambda: bus.disconnect(disable_torque=False)
