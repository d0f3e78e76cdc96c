# SPDX-License-Identifier: Apache-2.0
"""The follower's node at 100 Hz on an emulated arm while all cores are busy, and a loop of LeRobot's bus beside the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import psutil
from lerobot.utils.robot_utils import precise_sleep
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from benchmarks.bus import LATENCY_MS, emulated_arm, lerobot_cycle
from benchmarks.peer import Peer, node_command, running
from benchmarks.registry import Options
from benchmarks.rows import Better, Row, Target
from benchmarks.timing import percentile
from hilserl_ros import qos
from hilserl_ros.convert import to_ns

_RATE_HZ = 100.0
_COMMANDS_HZ = 30.0
_WARM_UP_S = 3.0
_CALIBRATION = Path(__file__).parents[1] / "config" / "emulated_arm.json"
_SPIN = "while True: pass"


def run(options: Options) -> Iterator[Row]:
    """The rows of this group."""
    seconds = 6.0 if options.quick else 30.0
    with emulated_arm() as (port, arm), _busy_cores() as cores:
        precedence = _like_hardware(arm)
        stamps_s, cpu = _node(port, seconds)
    with emulated_arm() as (port, arm), _busy_cores():
        _like_hardware(arm)
        theirs_s, their_cpu = _lerobot(port, seconds)
    ours, lerobot = _deviations(stamps_s), _deviations(theirs_s)
    note = (
        f"A command at {_COMMANDS_HZ:.0f} Hz; a busy process for each core beside it. The emulator goes before all others where"
        " it may: a real servo waits for no core. LeRobot's: its bus, positions and goals alone, and its sleep, in a process."
    )
    conditions = {
        "seconds": seconds,
        "busy_processes": cores,
        "adapter_ms": LATENCY_MS,
        "emulator": precedence,
        "median_ms_ours": percentile(ours, 50) * 1e3,
        "max_ms_ours": max(ours) * 1e3,
        "median_ms_lerobot": percentile(lerobot, 50) * 1e3,
        "max_ms_lerobot": max(lerobot) * 1e3,
    }
    yield Row(
        "driver_jitter",
        percentile(ours, 99) * 1e3,
        percentile(lerobot, 99) * 1e3,
        "ms",
        target=Target("at_most", 2.0),
        note=f"99th percentile of how far two joint_states are from {1e3 / _RATE_HZ:.0f} ms apart, by their stamps. {note}",
        conditions=conditions,
    )
    yield Row("driver_rate", _rate(stamps_s), _rate(theirs_s), "Hz", Better.HIGHER, Target("at_least", 99.0), note, conditions)
    yield Row("driver_cpu", cpu, their_cpu, "% of a core", note=note, conditions=conditions)


@contextmanager
def _busy_cores() -> Iterator[int]:
    """A process that does nothing but spin for each core; how many."""
    count = os.cpu_count() or 1
    processes = [subprocess.Popen([sys.executable, "-IS", "-c", _SPIN]) for _ in range(count)]
    try:
        yield count
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _like_hardware(process: int) -> str:
    """Let a process and all of its threads go before everything else, where that is allowed."""
    try:
        for task in Path(f"/proc/{process}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(50))
    except PermissionError:
        return "ordinary priority, which makes these figures worse"
    return "real-time priority"


def _node(port: str, seconds: float) -> tuple[list[float], float]:
    """When the joints were read [s], and percent of a core."""
    peer, stamps_s = Peer("bench_station"), []
    words = (f"port:={port}", f"calibration:={_CALIBRATION}", "write_calibration:=true")
    commands = peer.node.create_publisher(JointTrajectory, "joint_command", qos.JOINT_COMMAND)

    def take(message: JointState) -> None:
        stamps_s.append(to_ns(message.header.stamp) * 1e-9)
        if len(stamps_s) % round(_RATE_HZ / _COMMANDS_HZ) == 0:
            command = JointTrajectory(joint_names=message.name, points=[JointTrajectoryPoint(positions=message.position)])
            command.header.stamp = message.header.stamp
            commands.publish(command)

    try:
        peer.node.create_subscription(JointState, "joint_states", take, qos.JOINT_STATES)
        with ExitStack() as stack:
            process = psutil.Process(stack.enter_context(running(node_command("so101_driver", "follower_node", *words))).pid)
            peer.until(lambda: bool(stamps_s), "the follower")
            _spin(peer, _WARM_UP_S)
            stamps_s.clear()
            before, start_s = process.cpu_times(), time.monotonic()
            _spin(peer, seconds)
            after, wall_s = process.cpu_times(), time.monotonic() - start_s
    finally:
        peer.close()
    return stamps_s, 100 * (after.user + after.system - before.user - before.system) / wall_s


def _spin(peer: Peer, seconds: float) -> None:
    end = time.monotonic() + seconds
    peer.until(lambda: time.monotonic() > end, "the end")


def _lerobot(port: str, seconds: float) -> tuple[list[float], float]:
    """When each cycle was done [s], and percent of a core."""
    cycle, close = lerobot_cycle(port)
    times_s: list[float] = []
    cpu_s, start_s = time.process_time(), time.perf_counter()
    while (begun_s := time.perf_counter()) < start_s + seconds:
        cycle()
        times_s.append(time.perf_counter())
        precise_sleep(max(1 / _RATE_HZ - (time.perf_counter() - begun_s), 0.0))
    percent = 100 * (time.process_time() - cpu_s) / (time.perf_counter() - start_s)
    close()
    return times_s, percent


def _deviations(times_s: list[float]) -> list[float]:
    return [abs(after - before - 1 / _RATE_HZ) for before, after in pairwise(times_s)]


def _rate(times_s: list[float]) -> float:
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])
