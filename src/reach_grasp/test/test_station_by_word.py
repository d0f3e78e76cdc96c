# SPDX-License-Identifier: Apache-2.0
"""A real station before any classifier exists: an arm on an emulated bus, a camera, a person with a gamepad, over real DDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from sensor_msgs.msg import Joy

from dataset_recorder.convert.bag import Bag, find_bags
from hilserl_interfaces.msg import EpisodeEvent, EpisodeResult, EpisodeStatus
from hilserl_ros import qos
from hilserl_ros.testing import Rig
from reach_grasp.process import background
from reach_grasp.running.monitor import all_recorded
from reach_grasp.task_files import config_file
from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_arm

BUTTONS = ("hold", "ready", "success", "failure")
MAPPING = dict.fromkeys(("z", "gripper", "rerecord", "stop", "pause", "resume", "estop", "triggers"), "")
MAPPING |= {"x": "axes/0", "y": "axes/1"} | {name: f"buttons/{index}" for index, name in enumerate(BUTTONS)}


def own_file(folder: Path) -> Path:
    """The station's parameters: pictures are small, and episodes short."""
    task = {"camera_sizes": [64, 48], "crops": [0, 0, 48, 48], "image_size": 48, "max_episode_s": 4.0}
    nodes = {
        "gamepad": {"device": "joy", "joy_timeout_s": 10.0, "mapping": MAPPING},
        "follower": {
            "port": str(folder / "arm"),
            "calibration": str(config_file("task").with_name("emulated_arm.json")),
            "write_calibration": True,
            "reply_timeout_s": 10.0,
            "safety": {"command_timeout_s": 10.0, "watchdog_s": 5.0},
        },
        "wrist_camera": {"source": str(folder / "wrist.avi"), "frozen_frames": 0},
        "actor": {"hold_ticks": 3, "reset_duration_s": 0.5, "observation_timeout_s": 20.0},
    }
    content = {f"/**/{name}": {"ros__parameters": values} for name, values in nodes.items()}
    file = folder / "station.yaml"
    file.write_text(yaml.safe_dump(content | {"/**": {"ros__parameters": {"task": task}}}))
    return file


def write_video(path: Path) -> None:
    """A second of pictures, 64x48."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for number in range(20):
        writer.write(np.full((48, 64, 3), (0, 0, 60 + 8 * number), np.uint8))
    writer.release()


class Person(Rig):
    """Holds a gamepad and reads what there is to do."""

    def __init__(self) -> None:
        super().__init__(11)
        self.stick, self.pressed, self.sent = 0.0, "", 0
        self.status = EpisodeStatus()
        self.results: list[EpisodeResult] = []
        self.joy = self.node.create_publisher(Joy, "joy", qos.JOY)
        subscribe = self.node.create_subscription
        subscribe(EpisodeStatus, "episode/status", lambda message: setattr(self, "status", message), qos.STATUS)
        subscribe(EpisodeResult, "episode/result", self.results.append, qos.EPISODE_RESULT)

    def meanwhile(self) -> None:
        held = [bool(self.stick), *(name == self.pressed for name in BUTTONS[1:])]
        self.joy.publish(Joy(axes=[0.0, self.stick], buttons=list(map(int, held))))
        self.sent += 1

    def press(self, key: str, until: object, what: str) -> None:
        """Press a key, until something comes of it, and let it go."""
        self.pressed = key
        self.until(until, what)
        self.pressed, sent = "", self.sent
        self.until(lambda: self.sent > sent + 3, "the key to be let go")

    def show(self, verdict: str) -> EpisodeResult:
        """Give one demonstration: say ready, drive for a while, then give the verdict."""
        count = len(self.results)
        self.until(lambda: self.status.phase == EpisodeStatus.AWAITING_READY, "the arm to wait until the person is ready")
        if "keep clear" in self.status.text:  # the arm's first motion
            self.press("ready", lambda: "put the object back" in self.status.text, "the arm at its start")
        self.press("ready", lambda: self.status.phase == EpisodeStatus.AWAITING_PERSON, "the arm to wait for the first motion")
        self.stick = 0.5
        self.until(lambda: self.status.phase == EpisodeStatus.RUNNING and self.status.index >= 5, "the episode to run")
        self.press(verdict, lambda: len(self.results) > count, f"the end of the episode by {verdict}")
        self.stick = 0.0
        return self.results[-1]


@pytest.fixture
def person() -> Iterator[Person]:
    found = Person()
    yield found
    found.close()


def test_a_person_records_demonstrations_at_a_real_arm_before_any_classifier_exists(tmp_path: Path, person: Person) -> None:
    """No one could: every episode ended with "no reward for 1.0 s", since nobody publishes `reward`."""
    write_video(tmp_path / "wrist.avi")
    mountings, arm = standard_arm()
    run, log = tmp_path / "run", tmp_path / "log.txt"
    given = {"sim": "false", "teleop": "gamepad", "demonstrations": 2, "run": run, "config": own_file(tmp_path)}
    environment = {"ROS_DOMAIN_ID": str(person.domain)}
    with (
        BusEmulator(arm, mountings, line=INSTANT, port=tmp_path / "arm"),
        background("record", given, log, environment) as system,
    ):
        person.until(lambda: person.status.run_id or system.poll() is not None, "the actor")
        assert system.poll() is None, log.read_text()
        ends = [person.show(verdict) for verdict in ("success", "failure", "success")]
        person.until(lambda: all_recorded(person.status, run / "bags"), "the bags")
    assert [(end.end, end.judge) for end in ends] == [
        (kind, "person") for kind in (EpisodeResult.SUCCESS, EpisodeResult.FAILURE, EpisodeResult.SUCCESS)
    ]
    bags = find_bags([run / "bags"])
    assert len(bags) == 3
    kinds = {"success": EpisodeEvent.SUCCESS, "failure": EpisodeEvent.FAILURE}
    for path, verdict in zip(bags, ("success", "failure", "success"), strict=True):
        with Bag(path) as bag:
            heard = {
                topic: [read() for _, _, read in bag.messages([topic])] for topic in ("/steps", "/teleop", "/episode/event")
            }
        steps = [step for step in heard["/steps"] if len(step.action)]
        assert len(steps) >= 5 and all(step.intervention for step in steps)
        assert sum(step.reward > 0 for step in steps) > 0 if verdict == "success" else not any(step.reward for step in steps)
        assert any(message.active for message in heard["/teleop"])
        assert kinds[verdict] in [event.kind for event in heard["/episode/event"]]
