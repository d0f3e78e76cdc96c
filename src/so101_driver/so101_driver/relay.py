# SPDX-License-Identifier: Apache-2.0
"""Commands on their way to somebody else's driver, through the same `Safety` as on their way to ours. No ROS, no clock."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np

from so101_driver.arm import ArmState, Command, Decision, Mode
from so101_driver.errors import SafetyError
from so101_driver.estop import EmergencyStop
from so101_driver.limits import JointLimits
from so101_driver.safety import Safety
from so101_driver.safety_config import CommandLimits, SafetyConfig


class Relay:
    """An arm that is known by its positions alone. Times are on the steady clock [s].

    Nothing is sent until somebody commands, and nothing after the last command: to a controller silence is a hold.
    """

    def __init__(self, config: CommandLimits, estop: EmergencyStop) -> None:
        self.safety = Safety(JointLimits(), SafetyConfig(**asdict(config)), estop)
        self.begun = False  # positions have come
        self._positions = np.full(len(self.safety.limits.joints), math.nan)
        self._read_s = -math.inf
        self._follows = False

    def see(self, read_s: float, positions: np.ndarray) -> None:
        """Take where the arm was at `read_s`, (J,) rad.

        The first positions switch commands on, unless an emergency stop is latched; raises SafetyError where they cannot.
        """
        self._read_s, self._positions = read_s, positions
        if not self.begun:
            if self.safety.estop.reason is None:
                self._begin_here()
            self.begun = True

    def knows(self, now_s: float) -> bool:
        """Whether the arm's positions are up to date."""
        return now_s - self._read_s <= self.safety.config.state_timeout_s

    def cycle(self, now_s: float, command: Command | None = None) -> tuple[Decision, np.ndarray | None]:
        """What was decided, and the positions (J,) rad to send now, None for nothing. Called at least ten times a second."""
        refused = ""
        if command is not None and not self._follows and self.safety.stopped is None and self.knows(now_s):
            try:
                self._begin_here()  # somebody else may have moved the arm
            except SafetyError as error:
                command, refused = None, str(error)
        decision = self.safety.step(now_s, ArmState(self._positions, now_s - self._read_s), command)
        if decision.mode is Mode.FOLLOW:
            self._follows = True
        elif decision.mode is Mode.STOPPED or not decision.reasons:  # nobody commands any more
            self._follows = False
        sends = decision.goals is not None and decision.mode is not Mode.HOLD
        return replace(decision, refused=decision.refused or refused), decision.positions if sends else None

    def clear(self, now_s: float) -> None:
        """A person's consent, after whatever stop. Raises SafetyError, and stays stopped, while the arm is not known."""
        if not self.knows(now_s):
            raise SafetyError("joint_states do not say where the arm is; start its driver")
        self._begin_here()
        if self.safety.estop.reason is not None:
            self.safety.estop.clear()

    def _begin_here(self) -> None:
        try:
            self.safety.reset(self._positions)
        except SafetyError as error:
            raise SafetyError(f"{error}; or its driver counts in other units, or from another zero, than our URDF") from error
