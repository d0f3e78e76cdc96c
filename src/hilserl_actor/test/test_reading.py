# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from hilserl_actor.reading import read_teleop
from hilserl_core.observation import ObservationError
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import TeleopCommand


def test_a_person_who_does_not_drive_says_nothing():
    assert not read_teleop(TeleopCommand(active=False, action=[1.0] * 4), "leader", TaskSpec()).active


def test_a_person_drives_with_the_tasks_action():
    teleop = read_teleop(TeleopCommand(active=True, action=[0.5, 0.0, -1.0, 0.25]), "leader", TaskSpec())
    assert teleop.active and np.array_equal(teleop.action, np.array([0.5, 0.0, -1.0, 0.25], np.float32))


def test_an_action_of_another_size_is_named():
    with pytest.raises(ObservationError, match="teleop/leader sends 3 numbers, expected 4"):
        read_teleop(TeleopCommand(active=True, action=[0.0] * 3), "leader", TaskSpec())
