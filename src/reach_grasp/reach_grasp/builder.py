# SPDX-License-Identifier: Apache-2.0
"""Makes the specifications of a system's nodes from the values of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory

from reach_grasp.demonstrations import imported
from reach_grasp.errors import CommandError
from reach_grasp.roles import EXTERNAL, NONE, Roles, check_demonstrator, check_ready, roles_of
from reach_grasp.specs import NodeSpec, installed
from reach_grasp.task_files import parameter_in, task_of, user_files
from so101_description import urdf_path

_STATES = "joint_states"
CONTROLLERS = {
    "JointTrajectory": "joint_trajectory_controller/joint_trajectory",
    "Float64MultiArray": "forward_command_controller/commands",
}
"""Message of a controller -> topic on which it takes that, where the controller is called as its type."""
_UNATTENDED = ("sim", "teleop")
"""Systems without an actor: the simulation goes by the wall clock, and nothing waits for anybody."""

# In the namespace, because two simulations in one domain have times of their own.
_CLOCK = (("/clock", "clock"),)


def _files(values: Mapping[str, Any], system: str, roles: Roles) -> tuple[Path, ...]:
    """Parameter files from the most general to the most particular."""
    installed = Path(get_package_share_directory("reach_grasp")) / "config"
    own = system not in ("replay", *_UNATTENDED)
    names = ["task", "policy", *(["sim"] if values["sim"] else []), *([system] if own else [])]
    names += sorted(roles.keys)
    if not values["sim"]:
        names.append("station")
    elif values.get("driver") == "bus":
        names.append("bus")
    files = [installed / f"{name}.yaml" for name in names]
    files += user_files(values["config"])
    return tuple(files)


class Builder:
    """Makes specifications that share namespace, files and log level."""

    def __init__(self, values: Mapping[str, Any], system: str) -> None:
        self.values, self.system = values, system
        self.roles = roles_of(values)
        self.files = _files(values, system, self.roles)
        simulated = values["sim"] or system == "replay"
        self.time = {"use_sim_time": simulated}
        self.clock = _CLOCK if simulated else ()

    def node(self, package: str, name: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> NodeSpec:
        """A node whose executable is called `<name>_node`."""
        return NodeSpec(
            package=package,
            executable=f"{name}_node",
            name=name,
            namespace=self.values["namespace"],
            parameter_files=self.files,
            parameters={**self.time, **(parameters or {})},
            remappings=(*self.clock, *self._states),
            log_level=self.values["log_level"],
            **more,
        )

    def world(self) -> list[NodeSpec]:
        """The arm and who stands beside it, simulated or real, and what shows them."""
        simulated = self.values["sim"]
        return [
            self.node("so101_sim", "sim", {**self._simulation(), **self._bus({"bus_port": self._port})}, condition=simulated),
            self.node("so101_sim", "operator", self._operator(), condition=self.roles.operator),
            self.arm(),
            *([] if simulated else self._cameras()),
            *self.person(),
            *self.viewer(),
        ]

    def _simulation(self) -> dict[str, Any]:
        """Parameters of the simulation for this system: its pace, whom it waits for, whether it judges."""
        attended, pace = self.system not in _UNATTENDED, self.values.get("real_time_factor")
        if pace is None:
            pace = 0.0 if attended and not self.roles.devices else 1.0
        changed = {"real_time_factor": pace, **({} if attended else {"lockstep": False})}
        return changed if self.roles.judge == "simulation" else {**changed, "publish_reward": False}

    def _operator(self) -> dict[str, Any]:
        return {"seed": self.values.get("seed", 0), "judges": self.roles.scripted_judge}

    def arm(self) -> NodeSpec:
        """What stands before the arm: our driver, or the relay to somebody else's."""
        if self._external:
            return self._relay()
        driven = not self.values["sim"] or self.values.get("driver") == "bus"
        return self.node("so101_driver", "follower", self._bus(self._emulated), condition=driven)

    @property
    def _external(self) -> bool:
        return self.values.get("driver") == EXTERNAL

    def _relay(self) -> NodeSpec:
        kind, topic = self.values["command_type"], self.values["command_topic"]
        topic = topic or CONTROLLERS[kind]
        spec = self.node("so101_driver", "command_relay", {"command_type": kind})
        return replace(spec, remappings=(*spec.remappings, ("controller_command", topic)))

    @property
    def _states(self) -> tuple[tuple[str, str], ...]:
        """The remapping to the topic of the arm's joint states, where that has another name."""
        topic = self.values.get("states_topic", _STATES)
        return () if topic == _STATES else ((_STATES, topic),)

    def person(self) -> list[NodeSpec]:
        """A person's devices: what they drive with, and whose keys count beside it."""
        return [self._device(name) for name in self.roles.devices]

    def _device(self, name: str) -> NodeSpec:
        executable = "leader" if name == "leader" else "gamepad"
        parameters: dict[str, Any] = {}
        if name != self.roles.teleop:
            parameters["mode"] = "events"
        elif self.system in _UNATTENDED:
            parameters["mode"] = {"leader": "mirror", "gamepad": "drive"}[executable]
        elif self.values["sim"]:
            parameters["lockstep"] = True
        return replace(self.node("so101_driver", executable, parameters), name=name)

    def _cameras(self) -> list[NodeSpec]:
        """One for each camera of the task."""
        nodes = ((f"{camera}_camera", {"camera": camera}) for camera in task_of(self.files).cameras)
        return [replace(self.node("so101_driver", "camera", parameters), name=name) for name, parameters in nodes]

    def _bus(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """These, where the simulated arm has the real one's driver."""
        return parameters if self.values["sim"] and self.values.get("driver") == "bus" else {}

    @property
    def _port(self) -> str:
        return str(self._run / "arm")

    @property
    def _emulated(self) -> dict[str, str]:
        """The arm behind the driver; its emergency stop is this run's, and no other's."""
        return {"port": self._port, "calibration": _arm(), "estop_file": str(self._run / "estop")}

    @property
    def _run(self) -> Path:
        return Path(folder_of(self.values.get("run", ".")))

    def viewer(self) -> list[NodeSpec]:
        """What shows the arm, where it is asked for."""
        shown, namespace = self.values["use_rviz"], self.values["namespace"]
        layout = str(Path(get_package_share_directory("so101_description")) / "rviz" / "so101.rviz")
        # In the namespace, because two arms in one domain have frames of the same names.
        remappings = (("/tf", "tf"), ("/tf_static", "tf_static"), *self.clock, *self._states)
        shared = {"namespace": namespace, "remappings": remappings, "optional": True}
        rviz = NodeSpec("rviz2", "rviz2", "rviz2", parameters=self.time, arguments=("-d", layout), condition=shown, **shared)
        marked = shown if self.values["overlay"] is None else self.values["overlay"]
        overlay = self.node("reach_grasp", "overlay", optional=True, condition=marked)
        return [self._frames(shared), overlay, rviz]

    def _frames(self, shared: Mapping[str, Any]) -> NodeSpec:
        """Node that publishes tf, tf_static and robot_description: ROS's own where it is installed, else ours."""
        publisher = "robot_state_publisher"
        wanted = self.values["frames"]
        ours = self.node("reach_grasp", "frames", optional=True, condition=wanted)
        description = {"robot_description": urdf_path().read_text()}
        theirs = NodeSpec(publisher, publisher, publisher, parameters=description | self.time, condition=wanted, **shared)
        return theirs if installed(theirs) else ours

    def learner(self) -> NodeSpec:
        parameters = {"folder": folder_of(self.values["run"]), "training.seed": self.values["seed"]}
        parameters["training.demonstrations"] = max(self.values["demonstrations"], self._imported)
        return self.node("hilserl_learner", "learner", parameters, respawn=True)

    @property
    def _imported(self) -> int:
        """Demonstrations that the run has already."""
        found = imported(Path(folder_of(self.values["run"])))
        return found.episodes if found is not None else 0

    def classifier(self) -> NodeSpec:
        chosen = self.values["classifier"]
        if chosen and not Path(folder_of(chosen)).is_dir():
            raise CommandError(f"the classifier {folder_of(chosen)} does not exist; make one with reach-grasp train-classifier")
        parameters = {"artifact": folder_of(chosen), "lockstep": self.values["sim"]}
        return self.node("reward_classifier_node", "reward_classifier", parameters, condition=bool(chosen), respawn=True)

    def recorder(self) -> NodeSpec:
        parameters: dict[str, Any] = {"folder": str(Path(folder_of(self.values["run"])) / "bags")}
        if self.values["sim"]:  # all of them begin before an episode does
            judged = ["reward"] if self.roles.judge != "person" or self.values["classifier"] else []
            parameters["required"] = ["wrist/camera_info", "teleop", *judged, "truth"]
        return self.node("dataset_recorder", "recorder", parameters, condition=self.values["record"])

    def trainee(self) -> NodeSpec:
        """The actor in training; it takes the demonstrations that are not there yet."""
        left = max(0, self.values["demonstrations"] - self._imported)
        check_demonstrator(self.roles, left)
        plan = {"demonstrations": left, "training_steps": self.values["steps"]}
        return self.actor({"mode": "train", **plan, "wait_for_recorder": self.values["record"]})

    def actor(self, parameters: Mapping[str, Any]) -> NodeSpec:
        check_ready(self.roles, parameter_in(self.files, "actor", "ready_after_s", 0.0))
        shared = {"folder": folder_of(self.values["run"]), "seed": self.values["seed"]}
        shared |= {"judge": self.roles.judge, "teleop_sources": list(self.roles.sources) or [NONE]}
        return self.node("hilserl_actor", "actor", {**shared, **parameters}, respawn=True)


def _arm() -> str:
    """Calibration of the emulated arm."""
    return str(Path(get_package_share_directory("reach_grasp")) / "config" / "emulated_arm.json")


def folder_of(text: str) -> str:
    """The absolute path that a user wrote."""
    return str(Path(text).expanduser().resolve())
