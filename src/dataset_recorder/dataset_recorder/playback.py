# SPDX-License-Identifier: Apache-2.0
"""Plays a tape in a thread of its own: at a pace, or frame by frame as the rewards come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from dataset_recorder.errors import PlaybackError
from dataset_recorder.tape import Moment, Tape

REPEAT_S = 1.0
"""A frame that got no reward is shown again after this long: it, or the reward, was lost on the way."""
GIVE_UP_S = 30.0  # a classifier on a busy computer
LAST_S = 2.0
"""At a pace of its own, this long for the reward of the last frame."""


class Playback:
    """Hand rewards to `hear`. `done` when all is played, `failure` when that could not be; `played` counts frames.

    rate: pace; 0 waits for the reward of each frame. parts: the topics that make a frame when they carry the same stamp.
    publish: gets messages with one stamp. tell_time: gets each stamp [ns] before. settle: calls back when what
    was published has been taken in. complain: gets a sentence.
    """

    def __init__(
        self,
        tape: Tape,
        rate: float,
        parts: frozenset[str],
        publish: Callable[[list[tuple[str, bytes]]], None],
        tell_time: Callable[[int], None],
        settle: Callable[[Callable[[], None]], None],
        complain: Callable[[str], None],
    ) -> None:
        self.tape, self.rate, self.parts = tape, rate, parts
        self.rewards: dict[int, Any] = {}
        self.played = 0
        self.done = False
        self.failure: Exception | None = None
        self._publish, self._tell_time, self._settle, self._complain = publish, tell_time, settle, complain
        self._heard = threading.Condition()
        self._stopped = False
        self._began = (0, 0.0)  # stamp and time by the steady clock from which on the pace counts
        self._thread = threading.Thread(target=self._run, name="playing", daemon=True)
        self._thread.start()

    def hear(self, stamp_ns: int, reward: Any) -> None:
        """A reward has come; the first of a frame counts."""
        with self._heard:
            self.rewards.setdefault(stamp_ns, reward)
            self._heard.notify_all()

    def stop(self) -> None:
        """End it, wherever it is."""
        with self._heard:
            self._stopped = True
            self._heard.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._play()
        except Exception as error:  # noqa: BLE001 - the node raises it in its own thread
            self.failure = error
        self.done = not self._stopped and self.failure is None

    def _play(self) -> None:
        counted, last_ns, last_frame = set(self.tape.frames), -1, None
        for moment in self.tape.moments():
            stamp_ns = moment.stamp_ns
            self._await_turn(stamp_ns, begins=not 0 <= last_ns <= stamp_ns)
            if self._stopped:
                return
            self._tell_time(stamp_ns)
            self._publish(moment.observed)
            if self.parts <= {topic for topic, _ in moment.observed}:
                last_frame = stamp_ns
                if self.rate == 0:
                    self._await_reward(moment)
            if moment.latched:  # it is taken in after what it follows from, and before what comes then
                self._await_settled()
                self._publish(moment.latched)
                self._await_settled()
            self.played += stamp_ns in counted
            last_ns = stamp_ns
        if last_frame is None and self.rate == 0:
            raise PlaybackError(
                f"no frame in {self.tape.path} is whole, as no {' and '.join(sorted(self.parts))} carry the same stamp: "
                "replay at a rate of 1"
            )
        self._wait(lambda: last_frame in self.rewards, LAST_S)

    def _await_turn(self, stamp_ns: int, begins: bool) -> None:
        if self.rate == 0:
            return
        if begins:
            self._began = (stamp_ns, time.monotonic())
        due_s = self._began[1] + (stamp_ns - self._began[0]) / (1e9 * self.rate)
        self._wait(lambda: False, due_s - time.monotonic())

    def _await_reward(self, moment: Moment) -> None:
        give_up_s = time.monotonic() + GIVE_UP_S
        while not self._wait(lambda: moment.stamp_ns in self.rewards, REPEAT_S):
            if time.monotonic() > give_up_s:
                silence = f"nothing is said of the frame of {moment.stamp_ns / 1e9:.3f} s in {self.tape.path}"
                if not self.rewards:
                    raise PlaybackError(f"{silence}: see what the classifier logs")
                self._complain(silence)
                return
            self._publish(moment.observed)

    def _await_settled(self) -> None:
        settled = threading.Event()

        def note() -> None:
            with self._heard:
                settled.set()
                self._heard.notify_all()

        self._settle(note)
        if not self._wait(settled.is_set, GIVE_UP_S):
            raise PlaybackError(f"the classifier has not answered for {GIVE_UP_S:g} s: see what it logs")

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether the condition came true, or the playback was stopped, in time."""
        with self._heard:
            return self._heard.wait_for(lambda: self._stopped or condition(), max(0.0, timeout_s))
