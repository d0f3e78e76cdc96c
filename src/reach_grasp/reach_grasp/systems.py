# SPDX-License-Identifier: Apache-2.0
"""Every system of nodes, described once. Launch files and the reach-grasp command both start from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory

from reach_grasp.demonstrations import imported
from reach_grasp.errors import CommandError
from reach_grasp.specs import Argument, NodeSpec, System
from so101_description import urdf_path

RESPAWN_DELAY_S = 2.0


SIM = Argument("sim", "true", "true: the simulated arm and person. false: the real arm, its cameras and leader.", bool)
SEED = Argument("seed", "0", "Determines worlds, the simulated person, networks and noise.", int)
CONFIG = Argument("config", "", "A ROS parameter file whose values count above the installed ones.")
USE_RVIZ = Argument("use_rviz", "false", "Also start robot_state_publisher and rviz2.", bool)
LOG_LEVEL = Argument("log_level", "info", "Least severe messages the nodes log.", str, ("debug", "info", "warn", "error"))
NAMESPACE = Argument("namespace", "", "Namespace of all nodes and topics, for several systems in one ROS domain.")
COMMON = (SIM, SEED, CONFIG, USE_RVIZ, LOG_LEVEL, NAMESPACE)
DRIVER = Argument(
    "driver",
    "none",
    "In simulation. bus: the real arm's driver moves the simulated one, through an emulated servo bus. none: nothing between.",
    str,
    ("none", "bus"),
)
RUN = Argument("run", "outputs/train", "Folder of the run. A run that is there already is continued.")
PACE = Argument(
    "real_time_factor", "0.0", "Pace of the simulation: 1.0 is real time, 0.0 is as fast as the machine goes.", float
)
DEMONSTRATIONS = Argument(
    "demonstrations", "20", "Successful demonstrations to have before training; those imported into the run count.", int
)
RECORD = Argument("record", "false", "Also record every episode as a bag, in the folder bags of the run.", bool)
CLASSIFIER = Argument(
    "classifier", "", "Folder of a reward classifier that says what success is. In simulation, none: the simulator's truth."
)
STEPS = Argument("steps", "6000", "Steps to train for; 6000 are ten minutes of robot time at 10 Hz.", int)
CHECKPOINT = Argument("checkpoint", "outputs/train/checkpoints/last", "Folder of the checkpoint to evaluate.")
EPISODES = Argument("episodes", "100", "Episodes to evaluate.", int)
BAG = Argument("bag", "", "Folder of the bag to play, or of many; several of these are separated by colons.")
RATE = Argument(
    "rate", "0.0", "Pace: 1.0 is that of the recording, 0.0 waits for the reward of each frame, so that it repeats.", float
)
LABELS = Argument(
    "labels",
    "auto",
    "What the rewards are compared with, as in label --from; auto: the first of reward, truth and events in the bag.",
    str,
    ("auto", "reward", "truth", "events"),
)
OUTPUT = Argument("output", "outputs/replay.csv", "CSV file for what is said of each frame, beside its label.")


def _files(values: Mapping[str, Any], system: str) -> tuple[Path, ...]:
    """Parameter files from the most general to the most particular."""
    installed = Path(get_package_share_directory("reach_grasp")) / "config"
    names = ["task", "policy", *(["sim"] if values["sim"] else []), *([system] if system not in ("sim", "replay") else [])]
    names += ["bus"] if values["sim"] and values.get("driver") == "bus" else []
    files = [installed / f"{name}.yaml" for name in names]
    if values["config"]:
        files.append(Path(values["config"]).expanduser().resolve())
    for file in files:
        if not file.is_file():
            raise CommandError(f"the parameter file {file} does not exist")
    return tuple(files)


class _Builder:
    """Makes specifications that share namespace, files and log level."""

    def __init__(self, values: Mapping[str, Any], system: str) -> None:
        self.values = values
        self.files = _files(values, system)
        self.time = {"use_sim_time": values["sim"] or system == "replay"}

    def node(self, package: str, name: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> NodeSpec:
        """A node whose executable is called `<name>_node`."""
        return NodeSpec(
            package=package,
            executable=f"{name}_node",
            name=name,
            namespace=self.values["namespace"],
            parameter_files=self.files,
            parameters={**self.time, **(parameters or {})},
            log_level=self.values["log_level"],
            **more,
        )

    def world(self, person: bool, lockstep: bool = True) -> list[NodeSpec]:
        """The arm and who stands beside it, simulated or real, and what shows them.

        lockstep: whether a simulation waits for an actor's answers.
        """
        simulated = self.values["sim"]
        driven = not simulated or self.values.get("driver") == "bus"
        changed = {"real_time_factor": self.values["real_time_factor"], **({} if lockstep else {"lockstep": False})}
        if self.values.get("classifier"):
            changed["publish_reward"] = False
        return [
            self.node("so101_sim", "sim", {**changed, **self._bus({"bus_port": self._port})}, condition=simulated),
            self.node("so101_sim", "operator", {"seed": self.values.get("seed", 0)}, condition=simulated and person),
            self.node("so101_driver", "follower", self._bus({"port": self._port, "calibration": _arm()}), condition=driven),
            self.node("so101_driver", "camera", condition=not simulated),
            self.node("so101_driver", "leader", condition=not simulated and person),
            *self.viewer(),
        ]

    def _bus(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """These, where the simulated arm has the real one's driver."""
        return parameters if self.values["sim"] and self.values.get("driver") == "bus" else {}

    @property
    def _port(self) -> str:
        return str(Path(_folder(self.values.get("run", "."))) / "arm")

    def viewer(self) -> list[NodeSpec]:
        """What shows the arm, where it is asked for."""
        shown, namespace = self.values["use_rviz"], self.values["namespace"]
        if not shown:
            return []
        description = {"robot_description": urdf_path().read_text()}
        layout = str(Path(get_package_share_directory("so101_description")) / "rviz" / "so101.rviz")
        publisher = "robot_state_publisher"
        return [
            NodeSpec(publisher, publisher, publisher, namespace, parameters=description | self.time),
            NodeSpec("rviz2", "rviz2", "rviz2", namespace, parameters=self.time, arguments=("-d", layout)),
        ]

    def learner(self) -> NodeSpec:
        parameters = {"folder": _folder(self.values["run"]), "training.seed": self.values["seed"]}
        parameters["training.demonstrations"] = max(self.values["demonstrations"], self._imported)
        return self.node("hilserl_learner", "learner", parameters, respawn=True)

    @property
    def _imported(self) -> int:
        """Demonstrations that the run has already."""
        found = imported(Path(_folder(self.values["run"])))
        return found.episodes if found is not None else 0

    def classifier(self) -> NodeSpec:
        chosen = self.values["classifier"]
        if chosen and not Path(_folder(chosen)).is_dir():
            raise CommandError(f"the classifier {_folder(chosen)} does not exist; make one with reach-grasp train-classifier")
        return self.node(
            "reward_classifier_node", "reward_classifier", {"artifact": _folder(chosen)}, condition=bool(chosen), respawn=True
        )

    def recorder(self) -> NodeSpec:
        parameters = {"folder": str(Path(_folder(self.values["run"])) / "bags")}
        return self.node("dataset_recorder", "recorder", parameters, condition=self.values["record"])

    def trainee(self) -> NodeSpec:
        """The actor in training; it takes the demonstrations that are not there yet."""
        left = max(0, self.values["demonstrations"] - self._imported)
        plan = {"demonstrations": left, "training_steps": self.values["steps"]}
        return self.actor({"mode": "train", **plan, "wait_for_recorder": self.values["record"]})

    def actor(self, parameters: Mapping[str, Any]) -> NodeSpec:
        shared = {"folder": _folder(self.values["run"]), "seed": self.values["seed"]}
        return self.node("hilserl_actor", "actor", {**shared, **parameters}, respawn=True)


def _arm() -> str:
    """Calibration of the emulated arm."""
    return str(Path(get_package_share_directory("reach_grasp")) / "config" / "emulated_arm.json")


def _folder(text: str) -> str:
    return str(Path(text).expanduser().resolve())


def _train(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = _Builder(values, "train")
    return [*builder.world(person=True), builder.classifier(), builder.recorder(), builder.trainee(), builder.learner()]


def _robot(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = _Builder(values, "train")
    return [*builder.world(person=True), builder.classifier(), builder.recorder(), builder.trainee()]


def _record(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = _Builder({**values, "record": True}, "record")
    plan = {"mode": "train", "demonstrations": values["demonstrations"], "training_steps": 0, "wait_for_recorder": True}
    return [*builder.world(person=True), builder.classifier(), builder.recorder(), builder.actor(plan)]


def _learner(values: Mapping[str, Any]) -> list[NodeSpec]:
    return [_Builder(values, "train").learner()]


def _eval(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = _Builder(values, "eval")
    checkpoint = Path(_folder(values["checkpoint"]))
    if not checkpoint.is_dir():
        raise CommandError(f"the checkpoint {checkpoint} does not exist; train first or name another one")
    parameters = {"mode": "evaluation", "checkpoint": str(checkpoint), "evaluation_episodes": values["episodes"]}
    return [*builder.world(person=False), builder.actor(parameters)]


def _sim(values: Mapping[str, Any]) -> list[NodeSpec]:
    return _Builder({"sim": True, **values}, "sim").world(person=False, lockstep=False)


def _replay(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = _Builder(values, "replay")
    for name in ("bag", "classifier"):
        if not values[name]:
            raise CommandError(f"replay needs the folder of a {name}: name it with --{name}")
    player = {"bags": [_folder(bag) for bag in values["bag"].split(":")], "output": _folder(values["output"])}
    player |= {name: values[name] for name in ("rate", "labels")}
    classifier = builder.classifier()
    lockstep = {**classifier.parameters, "lockstep": values["rate"] == 0.0}
    judge = replace(classifier, parameters=lockstep, respawn=False)  # one that begins anew in the middle says something else
    return [builder.node("dataset_recorder", "player", player), judge, *builder.viewer()]


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            "train",
            "The whole training: arm, person, actor and learner on one computer.",
            (*COMMON, DRIVER, RUN, DEMONSTRATIONS, STEPS, PACE, CLASSIFIER, RECORD),
            _train,
        ),
        System(
            "robot",
            "The robot's half of a training: arm, person and actor. The learner runs elsewhere in the same ROS domain.",
            (*COMMON, DRIVER, RUN, DEMONSTRATIONS, STEPS, PACE, CLASSIFIER, RECORD),
            _robot,
        ),
        System(
            "learner",
            "The learner's half of a training, on a computer of its own.",
            (SIM, SEED, CONFIG, LOG_LEVEL, NAMESPACE, RUN, DEMONSTRATIONS),
            _learner,
        ),
        System(
            "record",
            "Demonstrations alone, each a bag: for a dataset, a reward classifier and a training that begins with them.",
            (
                *COMMON,
                DRIVER,
                Argument("run", "outputs/record", "Folder of the recording; one that is there already is continued."),
                Argument("demonstrations", "20", "Successful demonstrations to take; failures come on top.", int),
                PACE,
                CLASSIFIER,
            ),
            _record,
        ),
        System(
            "eval",
            "Episodes with the mean policy of a checkpoint: no exploration, nobody helps, nothing is learned.",
            (*COMMON, DRIVER, Argument("run", "outputs/eval", "Folder for the result and the log."), CHECKPOINT, EPISODES, PACE),
            _eval,
        ),
        System(
            "replay",
            "A recorded bag instead of the world: the classifier's node judges its images, and its rewards meet the labels.",
            (
                Argument("sim", "true", "Whether the bag was recorded in simulation.", bool),
                CONFIG,
                USE_RVIZ,
                LOG_LEVEL,
                NAMESPACE,
                BAG,
                Argument("classifier", "", "Folder of the reward classifier."),
                RATE,
                LABELS,
                OUTPUT,
            ),
            _replay,
        ),
        System(
            "sim",
            "Only the arm, simulated in real time, for trying out its topics.",
            (CONFIG, USE_RVIZ, LOG_LEVEL, NAMESPACE, Argument("real_time_factor", "1.0", PACE.text, float)),
            _sim,
        ),
    )
}


def nodes_of(system: str, given: Mapping[str, str]) -> list[NodeSpec]:
    """The nodes to start, for arguments as the user wrote them; defaults stand for those not given.

    Raises CommandError for an unknown argument, a value that is not allowed, or a node whose package is not installed.
    """
    description = SYSTEMS[system]
    known = {argument.name: argument for argument in description.arguments}
    for name in given:
        if name not in known:
            raise CommandError(f"{system} has no argument {name}; it has {', '.join(known)}")
    values = {name: argument.parse(given.get(name, argument.default)) for name, argument in known.items()}
    specs = [spec for spec in description.nodes(values) if spec.condition]
    _require_packages(specs)
    return specs


def _require_packages(specs: Iterable[NodeSpec]) -> None:
    missing = [spec for spec in specs if not _installed(spec)]
    if names := [spec.name for spec in missing if spec.package == "so101_driver"]:
        raise CommandError(f"sim:=false needs {', '.join(names)} of the real arm, not part of this version; use sim:=true")
    if packages := sorted({spec.package for spec in missing}):
        raise CommandError(f"packages {', '.join(packages)} are not installed here; install them or leave out what needs them")


def _installed(spec: NodeSpec) -> bool:
    try:
        return (Path(get_package_prefix(spec.package)) / "lib" / spec.package / spec.executable).is_file()
    except PackageNotFoundError:
        return False
