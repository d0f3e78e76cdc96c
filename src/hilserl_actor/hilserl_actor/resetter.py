# SPDX-License-Identifier: Apache-2.0
"""How an episode begins: the simulator is asked for a new world, or the arm moves to its reset pose."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.client import Client
from rclpy.task import Future
from std_srvs.srv import SetBool

from hilserl_actor.motion import ResetMotion, is_far, reset_goal
from hilserl_interfaces.srv import ResetWorld
from hilserl_ros.convert import to_ns
from so101_description import JOINTS

RETRY_S = 5.0
_REFUSED_S = 0.1
_MOVES = 3
"""After this many moves in vain the arm stays where it is: it may be jammed, and only a person can help."""


class Resetter:
    """One reset at a time. Without an answer it asks again: the same seed gives the same world.

    With an arm that has a driver, three services are asked in turn: suspend the arm, reset the world, let the arm go on from
    where it is then. After an emergency stop the driver refuses that, and is asked again until a person has cleared the stop.
    """

    def __init__(
        self,
        client: Client | None,
        goal: np.ndarray,
        done: Callable[[int | None], None],
        complain: Callable[[str], None],
        arm: Client | None = None,
        variation_rad: float = 0.0,
    ) -> None:
        """client: the simulator's service, None to move the arm to `goal`, (J,) rad. arm: its driver's service `suspend`.

        done: called with the stamp [ns] of the first observation, None where it is not known. variation_rad: how far the
        pose that the arm moves to may be from `goal`, see `reset_goal`.
        """
        self._client, self._home, self._variation_rad, self._arm = client, goal, variation_rad, arm
        self._done, self._complain = done, complain
        self.goal = goal  # (J,) rad, of the newest move
        self.why = ""  # what hinders the reset, '' while nothing is known to
        self._asks: list[tuple[Client, Any]] = []
        self._stamp_ns = 0
        self._seed: int | None = None
        self._began_s = self._asked_s = 0.0
        self._request: Future | None = None
        self._motion: tuple[ResetMotion, float] | None = None
        self._joints: np.ndarray | None = None  # (J,) rad, as measured at the newest `poll`
        self._misses = 0  # moves that have not brought the arm to the goal

    def begin(self, seed: int) -> None:
        """Start; `poll` does the rest."""
        self.cancel()
        self._seed, self._began_s, self._asked_s = seed, time.monotonic(), 0.0
        self.goal = reset_goal(self._home, self._variation_rad, seed)
        if self._client is not None:
            self._asks = [(self._client, ResetWorld.Request(seed=seed))]
        if self._arm is not None:
            self._asks = [(self._arm, SetBool.Request(data=True)), *self._asks, (self._arm, SetBool.Request(data=False))]

    def cancel(self) -> None:
        """Stop at once: an answer still on the way no longer counts."""
        self._seed = self._request = self._motion = None
        self.why, self._misses = "", 0

    def poll(self, joints: np.ndarray | None, duration_s: float) -> None:
        """Ask, or begin to move from `joints`, (J,) rad as measured now, None when they are not known."""
        self._joints = joints
        if self._seed is None:
            return
        now = time.monotonic()
        late = now - self._began_s > RETRY_S
        if self._client is None:
            if self._motion is None and joints is not None:
                self._motion = (ResetMotion(joints, self.goal, duration_s), now)
                self.why = self.why if self._misses else ""
            elif self._motion is None:
                self._hindered("no joint_states: the arm cannot be moved to its reset pose; is its driver running?", late)
        elif self._request is None or now - self._asked_s > RETRY_S:
            client, _ = self._asks[0]
            if client.service_is_ready():
                self._ask()
            else:
                self._hindered(f"the service {client.srv_name} is not there: is its node running?", late)

    def _hindered(self, why: str, late: bool) -> None:
        self.why = why
        if late:
            self._complain(why)

    @property
    def unseen_s(self) -> float:
        """Seconds for which the reset has waited for a service that is not seen; 0 when it waits for none."""
        waits = self._seed is not None and self._asks and self._request is None and not self._asks[0][0].service_is_ready()
        return time.monotonic() - self._began_s if waits else 0.0

    def _ask(self) -> None:
        client, request = self._asks[0]
        self._asked_s = time.monotonic()
        self._request = client.call_async(request)
        self._request.add_done_callback(self._answered)

    def targets(self) -> np.ndarray | None:
        """Joint targets (J,) rad of the move now, None when nothing moves.

        The last ones end the reset. Where the arm has not come there the next `poll` begins again from where it is, twice.
        """
        if self._motion is None:
            return None
        motion, began_s = self._motion
        elapsed_s = time.monotonic() - began_s
        if not motion.done(elapsed_s):
            return motion.joints(elapsed_s)
        if self._joints is None:
            self._motion = None  # the next move needs the arm's new position
            return None
        if is_far(self._joints, self.goal):
            self._misses += 1
            off = np.abs(self._joints - self.goal)[:-1]
            joint = JOINTS[int(off.argmax())]
            where = f"{joint} is {np.degrees(off.max()):.0f}° off"
            self._hindered(f"the arm has not come to its start, {where}: is it stopped, limp or blocked?", late=True)
            if self._misses < _MOVES:
                self._motion = None
                return None
        self.cancel()
        self._done(None)
        return motion.joints(elapsed_s)

    def _answered(self, request: Any) -> None:
        if request is not self._request:
            return
        self._request, response = None, request.result()
        if not response.success:
            self._asked_s = time.monotonic() - RETRY_S + _REFUSED_S
            self._hindered(f"no reset: {response.message}", late=True)
            return
        self.why = ""
        if isinstance(response, ResetWorld.Response):
            self._stamp_ns = to_ns(response.stamp)
        del self._asks[0]
        if self._asks:
            self._ask()
            return
        self.cancel()
        self._done(self._stamp_ns)
