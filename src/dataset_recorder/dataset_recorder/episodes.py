# SPDX-License-Identifier: Apache-2.0
"""Which bag a message goes into: one bag an episode, cut by hand or by what the actor says it is doing."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dataset_recorder.errors import RecordingError
from dataset_recorder.receipts import Receipts

REST_S = 0.3
"""How long [s] a bag still accepts messages after its episode's last step: topics keep no order among one another."""
LAG_S = 5.0
"""How long [s] to wait for the last step and the messages of its instant; after that only steps are accepted. DDS may need
some seconds to send a message again, and holds back the later ones of that topic."""
RECENT, RECENT_BYTES = 3000, 10_000
"""How many small messages of an awaited topic are remembered, and the most bytes of one: an episode's messages may come before
its status. On a busy machine the status came four seconds late, and a simulation makes a hundred ticks in each second."""
STEPS_S = 600.0
"""How long [s] to wait for the episode's steps: while the learner is away they wait in the actor's spool."""
LOST_S = 15.0
"""How long [s] after the last step to wait for earlier ones that are missing; later they count as lost."""
RESULTS = 50
"""How many episode results are remembered: as many as the publisher repeats, since a result may come after the bag's end."""
RETRY_S = 10.0
"""How long [s] until a bag that could not be opened is tried again, with acknowledgements: its steps wait in the spool."""


class Bag(Protocol):
    """As Recording."""

    folder: Path
    failure: RecordingError | None
    taken: int
    kept: int
    dropped: int

    def put(self, topic: str, stamp_ns: int, data: bytes) -> bool: ...
    def close(self) -> int: ...
    def discard(self) -> None: ...


@dataclass(frozen=True)
class Episode:
    """The name of a bag: the run and the number of the episode in it."""

    run: str
    number: int

    @property
    def path(self) -> Path:
        """Below the folder of all bags."""
        return Path(self.run) / f"{self.number:06d}"


@dataclass
class _Open:
    bag: Bag
    ended_s: float | None = None  # None while it runs
    steps: set[int] = field(default_factory=set)  # indices that have come
    last_step: tuple[int, float] | None = None  # index of its last step and when that came
    last_sequence: int = 0  # of that step within the run
    last_ns: int = 0  # the instant of that step
    newest_ns: dict[str, tuple[int, int]] = field(default_factory=dict)  # instants of an awaited topic's two newest messages
    has_result: bool = False
    settled: bool = False  # takes steps only
    missed: int = 0  # messages that were lost before they came here
    unkept: deque[tuple[int, int]] = field(default_factory=deque)  # place in the bag and sequence of steps a kill would lose

    def heard(self, topic: str, instant_ns: int) -> None:
        """A message of an awaited topic has come."""
        self.newest_ns[topic] = (self.newest_ns.get(topic, (0, 0))[1], instant_ns)

    def reached(self, topic: str, tick_ns: int) -> bool:
        """Whether an awaited topic has reached the last step: a stamp within a tick, or two later ones, as one may be wrong."""
        before_ns, newest_ns = self.newest_ns.get(topic, (0, 0))
        return 0 <= newest_ns - self.last_ns <= tick_ns or min(before_ns, newest_ns) >= self.last_ns

    @property
    def lacking(self) -> int | None:
        """How many steps have not come; None while that is not known."""
        return None if self.last_step is None else self.last_step[0] + 1 - len(self.steps)


class EpisodeBags:
    """Owns the bags that are open. Times are seconds on any steady clock; call `tick` now and then.

    awaits_steps: whether bags hold steps, so that one is only complete with its episode's last. awaited: topics that say
    something for every step, so that it is only complete with what they say of the last. awaits_results: whether bags hold
    how their episode ended. receipts: notes of each step when it is safe; each is then recorded once, also after its bag was
    closed or failed, in another bag of its episode.
    """

    def __init__(
        self,
        open_bag: Callable[[Episode], Bag],
        say: Callable[[str], None],
        complain: Callable[[str], None],
        receipts: Receipts | None = None,
        tick_ns: int = 0,
    ) -> None:
        """tick_ns: from one step of an episode to the next."""
        self.current: Episode | None = None
        self.awaits_steps = False
        self.awaits_results = False
        self.awaited: set[str] = set()
        self._results: dict[Episode, tuple[str, int, bytes]] = {}  # of episodes that have no bag yet, or no longer
        self._recent: dict[str, deque[tuple[int, int, bytes]]] = {}  # of awaited topics: instant, stamp, message
        self.closed = self.messages = self.dropped = self.missed = 0
        self._open_bag, self._say, self._complain, self._receipts, self._tick_ns = open_bag, say, complain, receipts, tick_ns
        self._open: dict[Episode, _Open] = {}
        self._refused: dict[Episode, float] = {}  # failed, which was said -> when it may be tried again
        self._discarded: set[Episode] = set()
        self._latest: dict[str, tuple[int, bytes]] = {}
        self._firsts: dict[Episode, int] = {}  # sequence of its first step

    def begin(self, episode: Episode, now_s: float, index: int = 0, instant_ns: int | None = None) -> bool:
        """An episode runs; what came last on each topic before opens its bag. False, and said, when it cannot be recorded.

        index, instant_ns: of the observation it has come to, if known.
        """
        if episode == self.current:
            return True
        self.end(now_s)
        if episode in self._open:  # it had only been interrupted
            self._open[episode].ended_s, self._open[episode].settled, self.current = None, False, episode
            return True
        self._discarded.discard(episode)
        found = self._opened(episode, now_s, index, instant_ns)
        if found is None:
            return False
        self.current = episode
        for topic, (stamp_ns, data) in sorted(self._latest.items(), key=lambda item: item[1][0]):
            found.bag.put(topic, stamp_ns, data)
        return True

    def _opened(self, episode: Episode, now_s: float, index: int, instant_ns: int | None) -> _Open | None:
        """A new bag with what awaited topics have said of its episode; None, and said once, when none is to be had."""
        if now_s < self._refused.get(episode, now_s):
            return None
        try:
            bag = self._open_bag(episode)
        except RecordingError as error:
            if episode not in self._refused:
                self._complain(str(error))
            self._refuse(episode, now_s)
            return None
        self._open[episode] = item = _Open(bag)
        for topic, recent in self._recent.items() if instant_ns is not None else ():
            since_ns = instant_ns - index * self._tick_ns
            for came_ns, stamp_ns, data in (message for message in recent if message[0] >= since_ns):
                self._count(bag.put(topic, stamp_ns, data))
                item.heard(topic, came_ns)
        if (result := self._results.pop(episode, None)) is not None:
            self.put_result(*result, episode)
        return item

    def _refuse(self, episode: Episode, now_s: float) -> None:
        self._refused[episode] = math.inf if self._receipts is None else now_s + RETRY_S

    def end(self, now_s: float) -> None:
        """The episode is over; its bag waits for what is still on its way."""
        if self.current is not None:
            self._open[self.current].ended_s = now_s
            self.current = None

    def put(self, topic: str, stamp_ns: int, data: bytes, instant_ns: int | None = None) -> None:
        """A message for every bag that is open: an episode that has just ended may still lack it.

        instant_ns: what the message is about, on a topic that is awaited.
        """
        self._latest[topic] = (stamp_ns, data)
        if instant_ns is not None and len(data) <= RECENT_BYTES:
            recent = self._recent.setdefault(topic, deque(maxlen=RECENT))
            while recent and instant_ns < recent[-1][0]:
                recent.pop()  # time has begun anew, or that one's stamp was wrong
            recent.append((instant_ns, stamp_ns, data))
        for item in self._open.values():
            if not item.settled:
                if instant_ns is not None:
                    item.heard(topic, instant_ns)
                self._count(item.bag.put(topic, stamp_ns, data))

    def miss(self, count: int) -> None:
        """Messages were lost on the way from their publisher."""
        self.missed += count
        for item in self._open.values():
            if not item.settled:
                item.missed += count

    def put_step(
        self,
        topic: str,
        stamp_ns: int,
        data: bytes,
        episode: Episode,
        index: int,
        is_last: bool,
        now_s: float,
        sequence: int = 0,
        instant_ns: int = 0,
    ) -> None:
        """A step goes into the bag of its own episode. When all up to the last one are there, nothing is waited for.

        sequence: its number within the run, which receipts need. instant_ns: of its observation.
        """
        receipts, run = self._receipts, episode.run
        if index == 0:
            self._firsts[episode] = sequence
        if receipts is not None and not receipts.is_new(run, sequence):
            return
        found = self._open.get(episode)
        if found is None and receipts is not None:
            if episode in self._discarded:
                receipts.keep(run, sequence)
                return
            found = self._opened(episode, now_s, index, instant_ns)
            if found is not None:
                found.ended_s = now_s  # unless its status comes yet
        if found is None:
            return
        taken = found.bag.put(topic, stamp_ns, data)
        self._count(taken)
        if receipts is not None:
            if not taken:
                return  # it comes again
            receipts.take(run, sequence)
            found.unkept.append((found.bag.taken, sequence))
        found.steps.add(index)
        if is_last and found.last_step is None:
            found.last_step, found.last_sequence, found.last_ns = (index, now_s), sequence, instant_ns

    def put_result(self, topic: str, stamp_ns: int, data: bytes, episode: Episode) -> None:
        """Write an episode's result into the bag of that episode alone."""
        if (item := self._open.get(episode)) is not None:
            self._count(item.bag.put(topic, stamp_ns, data))
            item.has_result = True
            return
        self._results[episode] = (topic, stamp_ns, data)
        while len(self._results) > RESULTS:
            del self._results[next(iter(self._results))]

    def discard(self) -> bool:
        """Forget the running episode; False when none runs."""
        episode, self.current = self.current, None
        if episode is None:
            return False
        item = self._open.pop(episode)
        item.bag.discard()
        self._discarded.add(episode)
        while item.unkept:  # nobody wants them
            self._receipts.keep(episode.run, item.unkept.popleft()[1])
        self._say(f"{episode.path} is discarded")
        return True

    def tick(self, now_s: float) -> None:
        """Close what no longer waits, and what has failed."""
        for episode, item in list(self._open.items()):
            self._settle(episode, item)
            if item.bag.failure is not None:
                if episode == self.current:
                    self.current = None
                self._refuse(episode, now_s)
                self._close(episode)
            elif item.ended_s is not None:
                item.settled = item.settled or now_s >= self._rest_s(item)
                complete = not self.awaits_steps or self._lacking(episode, item) == 0 or self._broke_off(episode, item)
                lost = item.last_step is not None and now_s >= item.last_step[1] + LOST_S
                if item.settled and (complete or lost or now_s >= item.ended_s + STEPS_S):
                    self._close(episode)

    def close(self) -> None:
        """Close everything."""
        self.current = None
        for episode in list(self._open):
            self._close(episode)

    def _rest_s(self, item: _Open) -> float:
        """When an episode that has ended takes nothing but steps any more."""
        if not self.awaits_steps:
            return item.ended_s + REST_S
        since_s = item.ended_s if item.last_step is None else max(item.ended_s, item.last_step[1])
        lags = item.last_step is None or any(not item.reached(topic, self._tick_ns) for topic in self.awaited)
        lags = lags or (self.awaits_results and not item.has_result)
        return since_s + (LAG_S if lags else REST_S)

    def _count(self, taken: bool) -> None:
        self.messages += taken
        self.dropped += not taken

    def _lacking(self, episode: Episode, item: _Open) -> int | None:
        """As item.lacking, but steps in an earlier bag of the episode do not lack."""
        lacking = item.lacking
        if self._receipts is not None and lacking:
            lacking = min(lacking, self._receipts.lacking(episode.run, item.last_sequence))
        return lacking

    def _broke_off(self, episode: Episode, item: _Open) -> bool:
        """Whether an episode has no last step: the actor was stopped in it, and all steps up to the next episode are here."""
        if self._receipts is None or item.last_step is not None:
            return False
        later = [first for other, first in self._firsts.items() if other.run == episode.run and other.number > episode.number]
        return bool(later) and self._receipts.lacking(episode.run, min(later) - 1) == 0

    def _settle(self, episode: Episode, item: _Open) -> None:
        """Note the steps that a kill would no longer lose."""
        while item.unkept and item.unkept[0][0] <= item.bag.kept:
            self._receipts.keep(episode.run, item.unkept.popleft()[1])

    def _close(self, episode: Episode) -> None:
        item = self._open.pop(episode)
        bag = item.bag
        try:
            count = bag.close()
        except RecordingError as error:
            self._complain(str(error))
            count = None
        self._settle(episode, item)
        for _, sequence in item.unkept:
            self._receipts.lose(episode.run, sequence)
        if count is None:
            return
        self.closed += 1
        lacking = self._lacking(episode, item)
        if self.awaits_steps and lacking != 0 and not self._broke_off(episode, item):
            what = "its last steps" if lacking is None else f"{lacking} of its steps"
            self._complain(f"{bag.folder} lacks {what}, which did not come in time")
        lost = f", {bag.dropped} messages came faster than they could be written" if bag.dropped else ""
        lost += f", {item.missed} messages were lost on their way here: is this computer too busy?" if item.missed else ""
        if lost:  # a line each: a logger of ROS keeps to one level at every line that calls it
            self._complain(f"{bag.folder} holds {count} messages{lost}")
        else:
            self._say(f"{bag.folder} holds {count} messages")
