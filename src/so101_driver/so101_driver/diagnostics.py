# SPDX-License-Identifier: Apache-2.0
"""What the follower says of itself on `diagnostics`: the arm, its bus, each servo."""

from __future__ import annotations

from collections import Counter

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from so101_driver.follower import Follower
from so101_driver.pace import Pace


def statuses(name: str, follower: Follower | None, pace: Pace, active: bool) -> list[DiagnosticStatus]:
    """One status of the arm and its bus, and one of each servo that has been heard."""
    if follower is None:
        return [DiagnosticStatus(name=f"{name}: arm", level=DiagnosticStatus.STALE, message="not configured")]
    safety = follower.safety
    faults = follower.bus.faults.copy() if follower.bus is not None else Counter()
    kinds: Counter[str] = Counter()
    for (_, fault), count in faults.items():
        kinds[f"bus: {fault.value}"] += count
    values = {
        "stopped": safety.stopped or "no",
        "busy_ms": f"{pace.busy_ms():.2f}",
        "jitter_p99_ms": f"{pace.jitter_ms():.2f}",
        "missed_cycles": pace.missed,
        **{
            f"bus: {kind.value}": sum(n for (_, which), n in faults.items() if which is kind) for kind in {k for _, k in faults}
        },
        **dict(sorted(safety.counts.items())),
    }
    level = DiagnosticStatus.OK if active and safety.stopped is None else DiagnosticStatus.WARN
    message = (f"stopped: {safety.stopped}" if safety.stopped else "ready") if active else "not active"
    found = [_status(f"{name}: arm", level, message, values)]
    for servo, health in sorted(follower.health.items()):
        own = {fault.value: count for (which, fault), count in faults.items() if which == servo}
        values = {
            "load": f"{health.load:.3f}",
            "voltage_v": health.voltage_v,
            "temperature_c": health.temperature_c,
            "current_a": f"{health.current_a:.2f}",
            **own,
        }
        level = DiagnosticStatus.WARN if health.status else DiagnosticStatus.OK
        found.append(_status(f"{name}: servo {servo}", level, f"status {health.status}", values))
    return found


def _status(name: str, level: bytes, message: str, values: dict[str, object]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)
