# SPDX-License-Identifier: Apache-2.0
"""The actor's beat in real time: an observation at the tick, its command a fixed delay later."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node


class Metronome:
    """Calls `tick` once a period, and a fixed delay after that what the tick handed to `later`.

    How long choosing an action takes differs from tick to tick. Commands that leave a fixed delay after their observation keep
    the same distance all the same, and the policy learns with the one delay it will meet.
    """

    def __init__(self, node: Node, period_s: float, delay_s: float, tick: Callable[[], None]) -> None:
        """The delay must be shorter than the period; 0 sends at once. Both on the steady clock."""
        if delay_s >= period_s:
            raise ValueError(f"command_delay_s is {delay_s:g}, it must be shorter than a tick, which is {period_s:g} s here")
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._period_ns, self._delay_ns = round(1e9 * period_s), round(1e9 * delay_s)
        self._due: Callable[[], None] | None = None
        self._beat = node.create_timer(period_s, tick, clock=steady)
        self._after = node.create_timer(period_s, self._call, clock=steady)
        self._after.cancel()

    def begin(self) -> None:
        """This is a tick: the next comes a period from now.

        Called for an episode's first observation, the ticks come when there are new ones, where these have a period like ours.
        """
        self._beat.reset()

    def later(self, call: Callable[[], None]) -> None:
        """Call a fixed delay after the beginning of this tick; at once when that has passed. Replaces what still waits."""
        wait_ns = self._beat.time_until_next_call() - self._period_ns + self._delay_ns
        if wait_ns <= 0:
            self._due = None
            call()
            return
        self._due = call
        self._after.timer_period_ns = wait_ns
        self._after.reset()

    def _call(self) -> None:
        self._after.cancel()
        call, self._due = self._due, None
        if call is not None:
            call()
