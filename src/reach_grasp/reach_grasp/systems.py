# SPDX-License-Identifier: Apache-2.0
"""Every system of nodes, described once. Launch files and the reach-grasp command both start from here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hilserl_ros.transport import small_datagrams
from reach_grasp.builder import CONTROLLERS, Builder, folder_of
from reach_grasp.errors import CommandError
from reach_grasp.roles import EXTERNAL, JUDGES, KEYS, NONE, SOURCES, check_demonstrator
from reach_grasp.specs import Argument, NodeSpec, System, installed
from reach_grasp.values import SEEDS, auto_or, namespace, number, topic, true_or_false, writable_file, writable_folder

RESPAWN_DELAY_S = 2.0


SIM = Argument("sim", "true", "true: the simulated arm and person. false: the real arm, its cameras and leader.", bool)
SEED = Argument("seed", "0", "Determines worlds, the simulated person, networks and noise.", int, low=SEEDS[0], high=SEEDS[1])
CONFIG = Argument(
    "config", "", "A ROS parameter file whose values count above the installed ones. Of several, A:B, the last counts most."
)
USE_RVIZ = Argument("use_rviz", "false", "Also start rviz2, with a layout for this arm.", bool)
FRAMES = Argument(
    "frames",
    "true",
    "Publish tf, tf_static and robot_description: by robot_state_publisher where that is installed, else by a node of ours.",
    bool,
)
OVERLAY = Argument(
    "overlay", "auto", "Publish reward and the gripper's trail as markers. auto: with use_rviz.", check=auto_or(true_or_false)
)
LOG_LEVEL = Argument("log_level", "info", "Least severe messages the nodes log.", str, ("debug", "info", "warn", "error"))
NAMESPACE = Argument(
    "namespace", "", "Namespace of all nodes and topics, for several systems in one ROS domain.", check=namespace
)
VIEWER = (USE_RVIZ, FRAMES, OVERLAY)
COMMON = (SIM, SEED, CONFIG, *VIEWER, LOG_LEVEL, NAMESPACE)
_EXTERNAL = "external: somebody else's driver moves the real arm, such as ros2_control."
DRIVER = Argument(
    "driver",
    "none",
    f"{_EXTERNAL} bus: in simulation, the real arm's driver moves the simulated one, through an emulated servo bus. "
    "none: neither; a real arm then has this project's driver.",
    str,
    (NONE, "bus", EXTERNAL),
)
STATES_TOPIC = Argument("states_topic", "joint_states", "With driver external: topic of the arm's joint states.", check=topic)
COMMAND_TYPE = Argument(
    "command_type",
    "JointTrajectory",
    "With driver external: message that its controller takes.",
    str,
    tuple(CONTROLLERS),
)
COMMAND_TOPIC = Argument(
    "command_topic",
    "auto",
    "With driver external: topic on which its controller takes commands. auto: joint_trajectory_controller/joint_trajectory "
    "or, for Float64MultiArray, forward_command_controller/commands.",
    check=auto_or(topic),
)
EXTERNAL_DRIVER = (STATES_TOPIC, COMMAND_TYPE, COMMAND_TOPIC)
TELEOP = Argument(
    "teleop",
    "auto",
    "Who drives: the simulation's scripted operator, or a person with a leader arm, gamepad or keyboard. auto: the operator in "
    "simulation, the leader at a real arm. none: nobody.",
    str,
    ("auto", *SOURCES, NONE),
)
EVENTS = Argument(
    "events",
    NONE,
    "Device whose keys count beside who drives: ready, success, failure, again, pause, stop.",
    str,
    (NONE, *KEYS),
)
JUDGE = Argument(
    "judge",
    "auto",
    "Who says what success is; a person's key counts above it. auto: the classifier if one is named, else the simulation, at a "
    "real arm the person.",
    str,
    ("auto", *JUDGES),
)
RUN = Argument("run", "outputs/train", "Folder of the run. A run that is there already is continued.", check=writable_folder)
PACE = Argument(
    "real_time_factor",
    "auto",
    "Pace of the simulation: 1.0 is real time, 0.0 is as fast as the machine goes. auto: real time when a person takes part.",
    check=auto_or(number(float, 0.0, 100.0)),
)
_STEADY = number(float, 0.01, 100.0)  # a simulation that waits for nobody needs a pace
DEMONSTRATIONS = Argument(
    "demonstrations",
    "20",
    "Successful demonstrations to have before training; those imported into the run count.",
    int,
    low=0,
    high=10_000,
)
RECORD = Argument("record", "false", "Also record every episode as a bag, in the folder bags of the run.", bool)
CLASSIFIER = Argument("classifier", "", "Folder of a reward classifier, which says what success is unless judge names another.")
STEPS = Argument("steps", "6000", "Steps to train for; 6000 are ten minutes of robot time at 10 Hz.", int, low=1, high=10**7)
CHECKPOINT = Argument("checkpoint", "outputs/train/checkpoints/last", "Folder of the checkpoint to evaluate.")
EPISODES = Argument("episodes", "100", "Episodes to evaluate.", int, low=1, high=100_000)
BAG = Argument("bag", "", "Folder of the bag to play, or of many; several of these are separated by colons.")
RATE = Argument(
    "rate",
    "0.0",
    "Pace: 1.0 is that of the recording, 0.0 waits for the reward of each frame, so that it repeats.",
    float,
    low=0.0,
    high=100.0,
)
LABELS = Argument(
    "labels",
    "auto",
    "What the rewards are compared with, as in label --from; auto: the first of reward, truth and events in the bag.",
    str,
    ("auto", "reward", "truth", "events"),
)
OUTPUT = Argument(
    "output", "outputs/replay.csv", "CSV file for what is said of each frame, beside its label.", check=writable_file
)


def _train(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = Builder(values, "train")
    return [*builder.world(), builder.classifier(), builder.recorder(), builder.trainee(), builder.learner()]


def _robot(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = Builder(values, "train")
    return [*builder.world(), builder.classifier(), builder.recorder(), _across(builder.trainee())]


def _record(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = Builder({**values, "record": True}, "record")
    check_demonstrator(builder.roles, values["demonstrations"])
    plan = {"mode": "train", "demonstrations": values["demonstrations"], "training_steps": 0, "wait_for_recorder": True}
    return [*builder.world(), builder.classifier(), builder.recorder(), builder.actor(plan)]


def _learner(values: Mapping[str, Any]) -> list[NodeSpec]:
    return [_across(Builder(values, "train").learner())]


def _across(spec: NodeSpec) -> NodeSpec:
    """A node that talks to another computer."""
    return replace(spec, environment=small_datagrams(os.environ))


def _eval(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = Builder(values, "eval")
    checkpoint = Path(folder_of(values["checkpoint"]))
    if not checkpoint.is_dir():
        raise CommandError(f"the checkpoint {checkpoint} does not exist; train first or name another one")
    parameters = {"mode": "evaluation", "checkpoint": str(checkpoint), "evaluation_episodes": values["episodes"]}
    return [*builder.world(), builder.classifier(), builder.actor(parameters)]


def _sim(values: Mapping[str, Any]) -> list[NodeSpec]:
    return Builder({"sim": True, **values}, "sim").world()


def teleop_source(chosen: str) -> str:
    """The name of what the person drives with in the system teleop. chosen: its argument teleop."""
    return "leader" if chosen == "auto" else chosen


def _teleop(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = Builder({**values, "teleop": teleop_source(values["teleop"])}, "teleop")
    return builder.world() if values["sim"] else [builder.arm(), *builder.person(), *builder.viewer()]


def _replay(values: Mapping[str, Any]) -> list[NodeSpec]:
    builder = Builder(values, "replay")
    for name in ("bag", "classifier"):
        if not values[name]:
            raise CommandError(f"replay needs the folder of a {name}: name it with --{name}")
    player = {"bags": [folder_of(bag) for bag in values["bag"].split(":")], "output": folder_of(values["output"])}
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
            (*COMMON, DRIVER, *EXTERNAL_DRIVER, TELEOP, EVENTS, RUN, DEMONSTRATIONS, STEPS, PACE, CLASSIFIER, JUDGE, RECORD),
            _train,
        ),
        System(
            "robot",
            "The robot's half of a training: arm, person and actor. The learner runs elsewhere in the same ROS domain.",
            (*COMMON, DRIVER, *EXTERNAL_DRIVER, TELEOP, EVENTS, RUN, DEMONSTRATIONS, STEPS, PACE, CLASSIFIER, JUDGE, RECORD),
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
                *EXTERNAL_DRIVER,
                TELEOP,
                EVENTS,
                replace(RUN, default="outputs/record", text="Folder of the recording; one that is there already is continued."),
                replace(DEMONSTRATIONS, text="Successful demonstrations to take; failures come on top.", low=1),
                PACE,
                CLASSIFIER,
                JUDGE,
            ),
            _record,
        ),
        System(
            "eval",
            "Episodes with the mean policy of a checkpoint: no exploration, nobody helps, nothing is learned.",
            (
                *COMMON,
                DRIVER,
                *EXTERNAL_DRIVER,
                EVENTS,
                replace(RUN, default="outputs/eval", text="Folder for the result and the log."),
                CHECKPOINT,
                EPISODES,
                PACE,
                CLASSIFIER,
                JUDGE,
            ),
            _eval,
        ),
        System(
            "replay",
            "A recorded bag instead of the world: the classifier's node judges its images, and its rewards meet the labels.",
            (
                Argument("sim", "true", "Whether the bag was recorded in simulation.", bool),
                CONFIG,
                USE_RVIZ,
                replace(FRAMES, default="false", text="As elsewhere, for a bag that was recorded without tf."),
                OVERLAY,
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
            "teleop",
            "A person moves the arm, real or simulated, with a leader, gamepad or keyboard; nothing is learned or recorded.",
            (
                SIM,
                CONFIG,
                *VIEWER,
                LOG_LEVEL,
                NAMESPACE,
                replace(DRIVER, choices=(NONE, EXTERNAL), text=f"{_EXTERNAL} none: not so."),
                *EXTERNAL_DRIVER,
                Argument("teleop", "auto", "What the person drives with; auto: the leader.", str, ("auto", "leader", *KEYS)),
                replace(EVENTS, text="Device whose keys count beside a leader: here the emergency stop alone."),
                replace(PACE, text="Pace of the simulation; auto: 1.0, real time.", check=auto_or(_STEADY)),
            ),
            _teleop,
        ),
        System(
            "sim",
            "Only the arm, simulated in real time, for trying out its topics.",
            (
                CONFIG,
                *VIEWER,
                LOG_LEVEL,
                NAMESPACE,
                replace(PACE, default="1.0", text="Pace of the simulation: 1.0 is real time.", check=_STEADY),
            ),
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
    missing = [spec for spec in specs if not installed(spec)]
    if packages := sorted({spec.package for spec in missing}):
        raise CommandError(f"packages {', '.join(packages)} are not installed here; install them or leave out what needs them")
