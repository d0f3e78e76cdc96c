# SPDX-License-Identifier: Apache-2.0
"""The scripted person beside the twin as a node: sees the twin's sights and the status, and acts through hands alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState

from hilserl_core.kinematics import Kinematics
from hilserl_core.step import Mode
from hilserl_interfaces.msg import EpisodeStatus
from hilserl_ros import qos
from hilserl_ros.node import BaseNode, Finished, main_of
from hilserl_ros.parameters import parameter
from so101_description import urdf_path
from so101_sim.operator import OperatorConfig
from so101_sim.station.channel import RemoteHands
from so101_sim.station.hand import Hand, HandConfig, Look, Phase, Status

PHASES = {
    EpisodeStatus.RESETTING: Phase.SET_OUT,
    EpisodeStatus.AWAITING_READY: Phase.READY,
    EpisodeStatus.AWAITING_PERSON: Phase.ACTING,
    EpisodeStatus.RUNNING: Phase.ACTING,
    EpisodeStatus.AWAITING_VERDICT: Phase.VERDICT,
}
"""Everything else concerns no person."""


@dataclass(frozen=True)
class HandParameters:
    """Parameters of the hand node; how the person behaves is `hand.*`, how they move the leader `person.*`."""

    hands: str = parameter("", "Socket of the twin's hands, in its folder.")
    seed: int = parameter(0, "Seed of what the person does.", minimum=0, maximum=2**31 - 1)


class HandNode(BaseNode[HandParameters]):
    """Publishes nothing: what the person does reaches the system through the leader and the keys."""

    def __init__(self) -> None:
        super().__init__("hand", HandParameters, {"hand.": HandConfig, "person.": OperatorConfig})
        task, tables = self.task, self.tables
        self._hands = RemoteHands(Path(self.params.hands))
        kinematics = Kinematics(urdf_path(), task.joints)
        self._hand = Hand(tables["hand."], tables["person."], task, kinematics, self._hands, self.params.seed)
        self._status: Status | None = None
        self._cube: tuple[np.ndarray, np.ndarray] | None = None
        self._arm: np.ndarray | None = None
        self.create_subscription(EpisodeStatus, "episode/status", self._on_status, qos.STATUS)
        self.create_subscription(PoseStamped, "twin/cube_seen", self._on_cube, qos.CUBE_POSE)
        self.create_subscription(JointState, "twin/arm_seen", self._on_arm, qos.JOINT_STATES)
        self.create_timer(task.tick_s, self._cycle, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_status(self, message: EpisodeStatus) -> None:
        phase = PHASES.get(message.phase, Phase.APART)
        episode = (message.run_id, message.episode)
        self._status = Status(phase, Mode(message.mode), episode, message.episodes_done, message.success)

    def _on_cube(self, message: PoseStamped) -> None:
        place, turn = message.pose.position, message.pose.orientation
        self._cube = np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w])

    def _on_arm(self, message: JointState) -> None:
        self._arm = np.array(message.position)

    def _cycle(self) -> None:
        if self._status is None:
            return
        look = None
        if self._cube is not None and self._arm is not None:
            look, self._cube = Look(self._cube, self._arm), None
        try:
            self._hand.step(time.monotonic(), self._status, look)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Finished(f"the twin has ended: {error}") from error

    def close(self) -> None:
        """Let everything go."""
        self._hands.close()


main = main_of(HandNode)
