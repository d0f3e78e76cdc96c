# SPDX-License-Identifier: Apache-2.0
"""Decides who drives, whose keys count and who judges in a system; refuses by name what cannot work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reach_grasp.errors import CommandError

NONE = "none"
EXTERNAL = "external"
"""Somebody else's driver of the arm."""
KEYS = ("gamepad", "keyboard")
"""Devices whose keys say ready, success, failure and stop."""
DEVICES = ("leader", *KEYS)
"""Devices with which a person drives."""
SOURCES = ("operator", *DEVICES)
"""Sources that may drive: each publishes on `teleop/<source>`."""
JUDGES = ("person", "classifier", "simulation")
_WITH_KEYS = "add --events keyboard or --events gamepad"


@dataclass(frozen=True)
class Roles:
    """teleop: the source that drives, or none. events: the device whose keys count too, or none. judge: one of JUDGES."""

    simulated: bool
    teleop: str
    events: str
    judge: str

    @property
    def sources(self) -> tuple[str, ...]:
        """Teleop sources that the actor listens to."""
        return () if self.teleop == NONE else (self.teleop,)

    @property
    def devices(self) -> tuple[str, ...]:
        """A person's devices that take part, the one that drives first."""
        return tuple(dict.fromkeys(name for name in (self.teleop, self.events) if name in DEVICES))

    @property
    def keys(self) -> tuple[str, ...]:
        """The person's devices that have keys."""
        return tuple(name for name in self.devices if name in KEYS)

    @property
    def scripted_judge(self) -> bool:
        """Whether the simulation's scripted person says success and failure, because nobody else is there to do so."""
        return self.simulated and self.judge == "person" and not self.devices

    @property
    def operator(self) -> bool:
        """Whether the scripted person is there, to drive or to judge."""
        return self.teleop == "operator" or self.scripted_judge


def roles_of(values: Mapping[str, Any]) -> Roles:
    """The roles that a system's parsed arguments give; a system without one of these arguments has nobody for it.

    Raises CommandError for what cannot work.
    """
    simulated = values["sim"]
    teleop = values.get("teleop", NONE)
    if teleop == "auto":
        teleop = "operator" if simulated else "leader"
    _check_driver(values)
    roles = Roles(simulated, teleop, values.get("events", NONE), _judge(values))
    if not simulated:
        _check_station(values, roles)
    if "judge" in values and roles.judge == "person" and not (roles.keys or roles.scripted_judge):
        raise CommandError(f"the person judges, but has no key to say success or failure; {_WITH_KEYS}, or name a --classifier")
    return roles


def _judge(values: Mapping[str, Any]) -> str:
    """Choose the judge. Raises CommandError when the judge that was asked for is not there."""
    simulated, classifier, judge = values["sim"], values.get("classifier", ""), values.get("judge", "auto")
    if judge == "auto":
        return "classifier" if classifier else "simulation" if simulated else "person"
    if judge == "classifier" and not classifier:
        raise CommandError("judge is classifier, but no classifier is named; name its folder with --classifier")
    if judge == "simulation" and not simulated:
        raise CommandError("judge is simulation, which a real arm does not have; choose person, or name a --classifier")
    if judge == "simulation" and classifier:
        raise CommandError("judge is simulation, so the classifier would not count; leave out --judge or --classifier")
    return judge


def _check_driver(values: Mapping[str, Any]) -> None:
    """Raise CommandError for a driver that this arm does not have, and for what only somebody else's driver heeds."""
    driver = values.get("driver", NONE)
    if driver == EXTERNAL and values["sim"]:
        raise CommandError("driver is external, somebody else's of a real arm; add --sim false")
    if driver == "bus" and not values["sim"]:
        raise CommandError("driver is bus, which is for the simulated arm; leave it out with sim false")
    usual = {"states_topic": "joint_states", "command_type": "JointTrajectory", "command_topic": None}
    for name, value in usual.items():
        if driver != EXTERNAL and values.get(name, value) != value:
            raise CommandError(f"{name} is {values[name]}, which only somebody else's driver heeds; add --driver external")


def _check_station(values: Mapping[str, Any], roles: Roles) -> None:
    """Raise CommandError for an argument that only a simulation heeds."""
    if roles.teleop == "operator":
        raise CommandError(
            "teleop is operator, the scripted person of the simulation; at a real arm choose leader, gamepad or keyboard"
        )
    if values.get("real_time_factor") is not None:
        raise CommandError("real_time_factor is the pace of a simulation; leave it out with sim false")


def check_ready(roles: Roles, ready_after_s: float) -> None:
    """Raise CommandError when the actor would wait for ever for a person to be ready. ready_after_s: the actor's parameter."""
    if ready_after_s < 0.0 and not (roles.devices or roles.operator):
        raise CommandError(
            f"the arm waits until a person says ready, but no key can say so; {_WITH_KEYS}, or set the actor's ready_after_s "
            "to seconds in a file that you name with --config"
        )


def check_demonstrator(roles: Roles, wanted: int) -> None:
    """Raise CommandError when nobody shows the demonstrations that are still wanted."""
    if wanted > 0 and roles.teleop == NONE:
        raise CommandError(
            f"{wanted} demonstrations are still missing, but with teleop none nobody drives; choose another teleop, or "
            "train with --demonstrations 0"
        )
