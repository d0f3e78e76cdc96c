# SPDX-License-Identifier: Apache-2.0
"""What an arm's node says of itself on `/diagnostics`: the arm, its bus, each servo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus

from hilserl_ros.diagnostics import status
from so101_driver.answers import Fault
from so101_driver.bus import Bus, Health
from so101_driver.follower import Follower
from so101_driver.handover import State
from so101_driver.leader import Leader
from so101_driver.pace import Pace
from so101_driver.registers import status_text
from so101_driver.relay import Relay

_Faults = Counter[tuple[int, Fault]]


def statuses(follower: Follower | None, pace: Pace, active: bool, estop: str | None = None) -> list[DiagnosticStatus]:
    """Status of the follower and its bus, and of each servo that has been heard. estop: why a person stopped the arm."""
    latched = f", stopped: {estop}" if estop else ""
    if follower is None:
        return [status("arm", DiagnosticStatus.STALE, f"not configured{latched}")]
    safety, faults = follower.safety, _faults(follower.connection.bus)
    values = {
        "stopped": safety.stopped or "no",
        "busy_ms": f"{pace.busy_ms():.2f}",
        "jitter_p99_ms": f"{pace.jitter_ms():.2f}",
        "missed_cycles": pace.missed,
        **_by_kind(faults),
        **dict(sorted(safety.counts.items())),
    }
    level = DiagnosticStatus.OK if active and safety.stopped is None else DiagnosticStatus.WARN
    message = (f"stopped: {safety.stopped}" if safety.stopped else "ready") if active else f"not active{latched}"
    return [status("arm", level, message, values), *_servos(follower.connection.health, faults)]


def leader_statuses(leader: Leader | None, lacking: str = "") -> list[DiagnosticStatus]:
    """One status of the leader and its bus, and one of each servo that has been heard. lacking: why there is no leader."""
    if leader is None:
        return [status("arm", DiagnosticStatus.ERROR, f"limp: {lacking}", {"state": State.LIMP.value})]
    handover, faults = leader.handover, _faults(leader.connection.bus)
    values = {
        "state": handover.state.value,
        "take_overs": handover.take_overs,
        "cycles": leader.cycles,
        "incomplete_cycles": leader.incomplete,
        "torque_unconfirmed": ", ".join(map(str, leader.unconfirmed)) or "none",
        **_by_kind(faults),
    }
    well = handover.state is not State.LIMP and not leader.unconfirmed
    message = handover.state.value + (f": {handover.reason}" if handover.reason else "")
    level = DiagnosticStatus.OK if well else DiagnosticStatus.WARN
    return [status("arm", level, message, values), *_servos(leader.connection.health, faults)]


def relay_status(relay: Relay, lacking: str) -> DiagnosticStatus:
    """The status of an arm that somebody else's driver moves. lacking: what hinders its commands, '' for nothing."""
    stopped = relay.safety.estop.reason or (relay.safety.stopped if relay.begun else "")
    message = f"no command passes: {stopped}" if stopped else lacking or "ready"
    level = DiagnosticStatus.OK if message == "ready" else DiagnosticStatus.WARN
    return status("arm", level, message, {"stopped": stopped or "no", **dict(sorted(relay.safety.counts.items()))})


def _faults(bus: Bus | None) -> _Faults:
    return bus.faults.copy() if bus is not None else Counter()


def _by_kind(faults: _Faults) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for (_, fault), count in faults.items():
        kinds[f"bus: {fault.value}"] += count
    return dict(kinds)


def _servos(heard: Mapping[int, Health], faults: _Faults) -> list[DiagnosticStatus]:
    found = []
    for servo, health in sorted(heard.items()):
        values = {
            "load": f"{health.load:.3f}",
            "voltage_v": health.voltage_v,
            "temperature_c": health.temperature_c,
            "current_a": f"{health.current_a:.2f}",
            **{fault.value: count for (which, fault), count in faults.items() if which == servo},
        }
        level = DiagnosticStatus.WARN if health.status else DiagnosticStatus.OK
        found.append(status(f"servo {servo}", level, f"status {health.status} ({status_text(health.status)})", values))
    return found


def hardware_id(usb_serial: str | None, port: str) -> str:
    """Which arm: by its adapter's serial number, else by its port, as far as they are known."""
    return f"SO-101 {usb_serial or port}".strip()
