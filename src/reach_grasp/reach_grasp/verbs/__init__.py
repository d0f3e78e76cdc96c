# SPDX-License-Identifier: Apache-2.0
"""The verbs of the command. Each has a name, a text, its arguments, and runs."""

from __future__ import annotations

import argparse
from typing import Protocol

from reach_grasp.systems import SYSTEMS
from reach_grasp.verbs.calibrate import Calibrate
from reach_grasp.verbs.check_dataset import CheckDataset
from reach_grasp.verbs.convert import Convert
from reach_grasp.verbs.demo import Demo
from reach_grasp.verbs.doctor import Doctor
from reach_grasp.verbs.emulate_bus import EmulateBus
from reach_grasp.verbs.emulate_station import EmulateStation
from reach_grasp.verbs.estop import Estop
from reach_grasp.verbs.evaluate import Evaluate
from reach_grasp.verbs.import_dataset import ImportDataset
from reach_grasp.verbs.label import Label, ResizeImages, TurnImages
from reach_grasp.verbs.record import Record
from reach_grasp.verbs.rehearse import Rehearse
from reach_grasp.verbs.release import Release
from reach_grasp.verbs.repair import Repair
from reach_grasp.verbs.replay import Replay
from reach_grasp.verbs.report import Report
from reach_grasp.verbs.system import StartSystem
from reach_grasp.verbs.teleop import Teleop
from reach_grasp.verbs.train import Train
from reach_grasp.verbs.train_classifier import TrainClassifier
from reach_grasp.verbs.watch import Watch


class Verb(Protocol):
    """One thing the command can do."""

    name: str
    text: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; the exit code. Raises CommandError with a sentence for the user."""


_SHOWN = (Evaluate(), Record(), Replay(), Train("robot"), Teleop(), Train("train"))
_BY_NAME = {verb.name: verb for verb in _SHOWN}
_SYSTEMS = tuple(_BY_NAME.get(name) or StartSystem(system) for name, system in SYSTEMS.items())
_DATASETS = (Convert(), Label(), TurnImages(), ResizeImages(), CheckDataset(), ImportDataset())
_ARM = (Calibrate(), Estop(), Release(), Doctor(), EmulateBus(), EmulateStation())
VERBS: tuple[Verb, ...] = (*_SYSTEMS, Demo(), Rehearse(), Watch(), Report(), Repair(), *_DATASETS, TrainClassifier(), *_ARM)
