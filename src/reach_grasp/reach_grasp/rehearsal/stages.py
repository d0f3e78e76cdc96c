# SPDX-License-Identifier: Apache-2.0
"""The stages of a rehearsal: the commands of a station's documentation, one after another."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reach_grasp.rehearsal.settings import RehearsalSettings
from reach_grasp.task_files import config_file

FOLLOWER_ID, LEADER_ID = "my_arm", "my_leader"
REPO_ID = "me/rehearsal"
ARMS = {"follower": ("/dev/ttyACM0", FOLLOWER_ID), "leader": ("/dev/ttyACM1", LEADER_ID)}
"""Port, as a station's documentation names it, and calibration of each arm."""
CAMERAS = ("/dev/video0", "/dev/video2")
EVALUATIONS = ("imitation", "final")


@dataclass(frozen=True)
class Call:
    """A call of the reach-grasp command. allowed: exit codes that are no failure. made: outputs to remove before a repeat."""

    words: tuple[str, ...]
    allowed: tuple[int, ...] = (0,)
    made: Path | None = None


@dataclass(frozen=True)
class Stage:
    """A part of the rehearsal that is done once. station: the twin runs beside it. phase: where its time is booked."""

    name: str
    phase: str
    calls: tuple[Call, ...]
    station: bool = True
    calibrated: tuple[str, ...] = field(default=())  # arms that the person calibrates first


class Plan:
    """Makes the stages for a folder. Everything is written below it, the twin's devices too."""

    def __init__(self, folder: Path, settings: RehearsalSettings) -> None:
        self.folder, self.settings = folder, settings
        self.station = folder / "station"
        self.bags = folder / "recording" / "bags"
        self.run = folder / "run"

    def stages(self, devices: Mapping[str, str]) -> list[Stage]:
        """All stages in order. devices: name of a real station's device -> the twin's."""
        return [
            Stage("doctor", "station", (self._doctor(devices, (0, 1)),)),
            Stage("calibration", "station", (self._doctor(devices, (0,)),), calibrated=("follower", "leader")),
            Stage("recording", "demonstrations", (self._record(),)),
            Stage("dataset", "dataset", self._dataset(), station=False),
            Stage("classifier", "classifier", (self._classifier(),), station=False),
            Stage("import", "dataset", (self._import(),), station=False),
            Stage("training", "training", (self._train(),)),
            Stage("evaluation of imitation", "evaluation", (self._evaluate("imitation"),)),
            Stage("evaluation", "evaluation", (self._evaluate("final"),)),
        ]

    def calibrate(self, arm: str, devices: Mapping[str, str]) -> tuple[str, ...]:
        """Words of the command that calibrates an arm."""
        port, name = ARMS[arm]
        return ("calibrate", arm, "--port", devices[port], "--id", name)

    def _doctor(self, devices: Mapping[str, str], allowed: tuple[int, ...]) -> Call:
        arms = [word for arm, (port, name) in ARMS.items() for word in (f"--{arm}-port", devices[port], f"--{arm}-id", name)]
        return Call(("doctor", *arms, "--cameras", *(devices[camera] for camera in CAMERAS)), allowed)

    @property
    def _station(self) -> tuple[str, ...]:
        files = [str(self.station / "station.yaml"), *filter(None, [self.settings.config])]
        seed = str(self.settings.seed)
        return ("--sim", "false", "--config", ":".join(files), "--seed", seed)

    def _record(self) -> Call:
        count = str(self.settings.demonstrations)
        run = str(self.folder / "recording")
        return Call(("record", *self._station, "--events", "keyboard", "--demonstrations", count, "--run", run))

    def _dataset(self) -> tuple[Call, ...]:
        dataset, labelled = self.folder / "dataset", self.folder / "labelled"
        return (
            Call(("convert", str(self.bags), "--repo-id", REPO_ID, "--root", str(dataset)), made=dataset),
            Call(("label", str(dataset), "--from", "events", "--output", str(labelled)), made=labelled),
            Call(("check-dataset", str(labelled))),
        )

    @property
    def classifier(self) -> Path:
        """Folder of the reward classifier."""
        return self.folder / "classifier"

    def _classifier(self) -> Call:
        words = ("train-classifier", str(self.folder / "labelled"), "--config", str(config_file("person_labels")))
        return Call((*words, "--output", str(self.classifier)), made=self.classifier)

    def _import(self) -> Call:
        artifact = ("--artifact", str(self.classifier))
        return Call(("import-dataset", str(self.folder / "labelled"), *artifact, "--run", str(self.run)))

    def _train(self) -> Call:
        judged = ("--classifier", str(self.classifier), "--events", "keyboard")
        wanted = ("--demonstrations", "0", "--steps", str(self.settings.steps))
        return Call(("train", *self._station, *judged, *wanted, "--run", str(self.run)))

    def _evaluate(self, name: str) -> Call:
        count = self.settings.imitation_episodes if name == "imitation" else self.settings.eval_episodes
        run = self.folder / "evaluation" / name
        judged = ("--classifier", str(self.classifier), "--events", "keyboard")
        checkpoint = ("--checkpoint", str(self._checkpoint(name)), "--episodes", str(count))
        return Call(("eval", *self._station, *judged, *checkpoint, "--run", str(run)), made=run)

    def _checkpoint(self, name: str) -> Path:
        folder = self.run / "checkpoints"
        numbered = sorted((item for item in folder.glob("*") if item.name.isdigit()), key=lambda item: int(item.name))
        return numbered[0] if name == "imitation" and numbered else folder / "last"


def shown(words: Sequence[str]) -> str:
    """A command as a user would type it."""
    return shlex.join(["reach-grasp", *words])
