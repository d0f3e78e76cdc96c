# SPDX-License-Identifier: Apache-2.0
"""How often the learned reward was wrong: every training episode's `reward` against the simulator's `truth`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

RUNNING, TRAINING = 2, 1  # hilserl_interfaces/EpisodeStatus and Step
_KEPT_EPISODES = 3


@dataclass(frozen=True)
class Verdict:
    """An episode's end as the classifier saw it, and as it was.

    seen: the classifier said success, in this frame of the episode; None: it never did. true: the same of the truth. held:
    the cube was pinched in the frame in which the classifier said success. frames: in the episode, for which both spoke.
    """

    episode: int
    seen: int | None
    true: int | None
    held: bool
    frames: int

    @property
    def false_success(self) -> bool:
        """The classifier said success while nothing was held."""
        return self.seen is not None and not self.held

    @property
    def missed_success(self) -> bool:
        """There was a success, and the classifier never said so."""
        return self.seen is None and self.true is not None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return asdict(self)


class VerdictTracker:
    """Puts the frames of the two topics into episodes by their stamps. In lockstep a frame is one tick.

    Feed it with everything as it comes, in any order among the topics; `finished` gives each training episode once.
    """

    def __init__(self, tick_ns: int) -> None:
        self._tick_ns = tick_ns
        self._first: dict[int, int] = {}  # training episode -> stamp of its first observation
        self._ended: dict[int, int] = {}  # -> stamp at which something else began
        self._truth: dict[int, tuple[bool, bool]] = {}
        self._reward: dict[int, bool] = {}

    def status(self, mode: int, phase: int, episode: int, index: int, stamp_ns: int) -> None:
        """What the actor is doing; any status of a running episode says when it began."""
        if phase != RUNNING:
            return
        first = stamp_ns - index * self._tick_ns
        for number in self._first:
            if number < episode:
                self._ended.setdefault(number, first)
        if mode == TRAINING:
            self._first.setdefault(episode, first)

    def truth(self, stamp_ns: int, pinched: bool, success: bool) -> None:
        """Of one frame."""
        self._truth[stamp_ns] = (pinched, success)

    def reward(self, stamp_ns: int, success: bool) -> None:
        """Of one frame, debounced."""
        self._reward[stamp_ns] = success

    def finished(self, over: bool = False) -> list[Verdict]:
        """The episodes that ended. They are held back for a while, since topics do not keep an order; over: no longer."""
        if over and self._truth:
            for number in self._first:
                self._ended.setdefault(number, max(self._truth) + 1)
        numbers = sorted(self._ended)
        found = [self._verdict(number) for number in (numbers if over else numbers[:-_KEPT_EPISODES])]
        if found:
            self._forget(before=min(self._first.values(), default=0))
        return found

    def _verdict(self, number: int) -> Verdict:
        first, end = self._first.pop(number), self._ended.pop(number)
        stamps = [stamp for stamp in range(first, end, self._tick_ns) if stamp in self._truth and stamp in self._reward]
        seen = next((stamp for stamp in stamps if self._reward[stamp]), None)
        true = next((stamp for stamp in stamps if self._truth[stamp][1]), None)
        index = {None: None} | {stamp: (stamp - first) // self._tick_ns for stamp in (seen, true) if stamp is not None}
        return Verdict(number, index[seen], index[true], seen is not None and self._truth[seen][0], len(stamps))

    def _forget(self, before: int) -> None:
        for kept in (self._truth, self._reward):
            for stamp in [stamp for stamp in kept if stamp < before]:
                del kept[stamp]


def verdict_numbers(verdicts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rates over training episodes; delays in frames of the classifier behind the truth, where both said success."""
    found = [Verdict(**record) for record in verdicts]
    successes = [verdict for verdict in found if verdict.true is not None or verdict.held]
    false, missed = sum(verdict.false_success for verdict in found), sum(verdict.missed_success for verdict in found)
    delays = [verdict.seen - verdict.true for verdict in found if verdict.seen is not None and verdict.true is not None]
    early = sum(verdict.held and verdict.true is None for verdict in found)  # held, but not yet for as long as a success takes
    return {
        "judged_episodes": len(found),
        "false_successes": false,
        "false_success_rate": false / len(found) if found else 0.0,
        "missed_successes": missed,
        "missed_success_rate": missed / len(successes) if successes else 0.0,
        "early_successes": early,
        "delay_frames_mean": sum(delays) / len(delays) if delays else None,
        "delay_frames_max": max(delays, default=None),
    }
