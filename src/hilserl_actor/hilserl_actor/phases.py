# SPDX-License-Identifier: Apache-2.0
"""The phases of the control loop: each object owns what exists only in its phase. docs/episode.md shows their order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from hilserl_actor.episode import Episode


class Phase(IntEnum):
    """Phases of hilserl_interfaces/EpisodeStatus, with the same numbers."""

    IDLE = 0
    RESETTING = 1
    RUNNING = 2
    PAUSED = 3
    WAITING = 4
    DONE = 5
    HOLDING = 6
    AWAITING_READY = 7
    AWAITING_PERSON = 8
    AWAITING_VERDICT = 9


class Lack(Enum):
    """Reason why the arm holds; the value tells the person when it goes on."""

    OBSERVATION = "keep clear: when that is back"
    REWARD = "keep clear: with the next reward"
    CLEARANCE = "clear the stop with reach-grasp estop --clear when nobody is in reach:"


def _goes_on(asks: bool) -> str:
    """How the arm goes on when nothing hinders it any more. asks: it waits for the person's word first."""
    return "you are asked whether you are ready" if asks else "the arm goes to its start by itself"


@dataclass
class Idle:
    """The loop has not been started."""

    phase = Phase.IDLE
    text: str = ""


@dataclass
class NoPolicy:
    """The next episode needs a policy, and none has come yet. asks: the person is asked before the arm moves."""

    asks: bool = False

    phase = Phase.WAITING

    @property
    def text(self) -> str:
        """Instruction for the person."""
        return f"waiting for the first policy; keep clear: with it {_goes_on(self.asks)}"


@dataclass
class Resetting:
    """The world or the arm goes to its start state. why: what hinders it, '' while nothing is known to."""

    why: str = ""

    phase = Phase.RESETTING

    @property
    def text(self) -> str:
        """Instruction for the person, and what the reset waits for."""
        return f"keep clear: the arm goes to its start{f' as soon as it can; {self.why}' if self.why else ''}"


@dataclass
class AwaitingReady:
    """The arm holds until the person is ready. ticks_left: until the episode begins by itself; None: never.

    The person is ready by saying so or by taking hold. A hand that has driven since before must first let go. moves: the arm
    stands anywhere, and goes to its start when the person is ready; else it has been there, and the episode begins.
    """

    ticks_left: int | None
    moves: bool = False
    ready: bool = False
    released: bool = False  # nobody drove in at least one observation since the reset
    note: str = ""

    phase = Phase.AWAITING_READY

    def tick(self, active: bool) -> bool:
        """Count one observation and return whether the episode may begin. active: the person drove in it."""
        self.ready = self.ready or (active and self.released)
        self.released = self.released or not active
        if self.ticks_left is not None:
            self.ticks_left -= 1
        return self.ready or (self.ticks_left is not None and self.ticks_left < 0)

    @property
    def text(self) -> str:
        """Instruction for the person."""
        if self.moves:
            return "keep clear, then say ready or take hold: the arm goes to its start"
        begins = "" if self.ticks_left is None else f"; the episode begins by itself in {max(0, self.ticks_left)} ticks"
        return f"{self.note}put the object back, then say ready or take hold and drive{begins}"


@dataclass
class AwaitingPerson:
    """A demonstration's clock stands until the person's first active command."""

    note: str = ""

    phase = Phase.AWAITING_PERSON

    @property
    def text(self) -> str:
        """Instruction for the person."""
        return f"{self.note}take hold and drive: the demonstration begins with the first motion"


@dataclass
class Running:
    """An episode runs. lacks_policy: in lockstep, the step whose policy has not come yet; None when none is missing."""

    episode: Episode
    lacks_policy: int | None = None

    @property
    def phase(self) -> Phase:
        """RUNNING while the arm acts, WAITING while the learner's policy is missing."""
        return Phase.RUNNING if self.lacks_policy is None else Phase.WAITING

    @property
    def text(self) -> str:
        """Instruction for the person, or what the loop waits for."""
        return self.episode.text if self.lacks_policy is None else f"waiting for the policy of step {self.lacks_policy}"


@dataclass
class AwaitingVerdict:
    """Time is over and nobody has judged: the arm holds, and asks the person for a verdict for `ticks_left` more ticks."""

    episode: Episode
    ticks_left: int

    phase = Phase.AWAITING_VERDICT

    @property
    def text(self) -> str:
        """Instruction for the person."""
        return f"time is over: say success or failure; the episode ends unjudged in {self.ticks_left} ticks"


@dataclass
class Paused:
    """The person pauses. frozen: the phase that goes on afterwards, None where a new episode begins. why: what has happened."""

    frozen: AwaitingReady | AwaitingPerson | Running | AwaitingVerdict | None = None
    why: str = ""

    phase = Phase.PAUSED

    @property
    def text(self) -> str:
        """Instruction for the person."""
        if self.frozen is not None:
            return "paused: say resume and the episode goes on"
        return f"paused{f', {self.why}' if self.why else ''}: say resume and a new episode begins with a reset"


@dataclass
class Holding:
    """The arm holds until its `lack` is over; then a new episode begins. asks: the person is asked before the arm moves."""

    why: str
    lack: Lack
    asks: bool = False

    phase = Phase.HOLDING

    @property
    def text(self) -> str:
        """Reason for holding, and when the arm goes on."""
        return f"{self.why}; {self.lack.value} {_goes_on(self.asks)}"


@dataclass
class Done:
    """Everything asked for has been done, or the person has ended the run."""

    text: str

    phase = Phase.DONE


State = Idle | NoPolicy | Resetting | AwaitingReady | AwaitingPerson | Running | AwaitingVerdict | Paused | Holding | Done
