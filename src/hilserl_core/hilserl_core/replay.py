# SPDX-License-Identifier: Apache-2.0
"""Replay memory: every frame stored once, the next one found by index, and what is imitated sampled as often as the rest."""

from __future__ import annotations

import mmap
import sys
from collections import deque
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hilserl_core.frames import shifted_normalized
from hilserl_core.normalization import Normalization
from hilserl_core.step import Mode, Step
from hilserl_core.task import TaskSpec

_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0


@dataclass(frozen=True)
class Batch:
    """B transitions, ready for the network. Valid until the next `sample`, which reuses the memory.

    both: (2 B, cameras, C, H, W) float32, the observations and then the next ones: normalised pixels or stored features.
    state, next_state: (B, S) normalised. action: (B, A). reward, done: (B,) float32.
    by_person: (B,) bool, whether the actor imitates the transition: a person did it, and its episode succeeded.
    """

    both: Tensor
    state: Tensor
    next_state: Tensor
    action: Tensor
    reward: Tensor
    done: Tensor
    by_person: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        return Batch(**{item.name: getattr(self, item.name).to(device, non_blocking=True) for item in fields(self)})

    @property
    def observation(self) -> Tensor:
        """(B, cameras, C, H, W)."""
        return self.both[: len(self.state)]

    @property
    def next_observation(self) -> Tensor:
        """(B, cameras, C, H, W)."""
        return self.both[len(self.state) :]


class Replay:
    """Online steps in a ring, demonstrations beside it; two index sets over both: experience, and what is imitated.

    A step becomes a usable transition when the step after it in the same episode arrives. The final observation of an
    episode is a step of its own, so a time-out bootstraps from it; `done` is only set where the episode really ended.

    Training is experience at once. Transitions that a person drove, in demonstrations and interventions, wait for the end of
    their episode: if it succeeded they are imitated, otherwise they are experience and nothing else.
    """

    def __init__(
        self,
        task: TaskSpec,
        normalization: Normalization,
        capacity: int,
        demonstration_capacity: int,
        feature_shape: tuple[int, int, int] | None = None,
        variants: int = 1,
    ) -> None:
        """feature_shape: (C, H, W) per camera to store `variants` features of every frame instead of its pixels.

        Memory is reserved for `capacity` steps but only used as they arrive.
        """
        self.task = task
        self.feature_shape, self.variants = feature_shape, variants
        if feature_shape is None:
            shape: tuple[int, ...] = (len(task.cameras), task.image_size, task.image_size, 3)
            kind = np.dtype(np.uint8)
        else:
            shape, kind = (variants, len(task.cameras), *feature_shape), np.dtype(np.float16)
        self._rings = (_Ring(task, capacity, shape, kind), _Ring(task, demonstration_capacity, shape, kind))
        self._offset = capacity  # slots of the second ring are numbered behind those of the first
        total = capacity + demonstration_capacity
        self._experience, self._by_person = _IndexSet(total), _IndexSet(total)
        self._undecided: tuple[deque[int], deque[int]] = (deque(), deque())  # per ring, of the episode that runs
        self._low = normalization.state_min
        self._scale = 2 / (normalization.state_max - normalization.state_min)
        self._pixels = np.empty(0, np.float32)

    def add(self, step: Step, features: np.ndarray | None = None) -> None:
        """Store a step; evaluation steps are ignored. features: (variants, cameras, C, H, W) where features are stored."""
        if step.mode == Mode.EVALUATION:
            return
        number = int(step.mode == Mode.DEMONSTRATION)
        ring, offset, undecided = self._rings[number], number * self._offset, self._undecided[number]
        if not ring.continued_by(step):
            self._decide(undecided, success=False)  # the episode before this one broke off
        frames = np.stack([step.images[name] for name in self.task.cameras]) if features is None else features
        slot, completed = ring.add(step, frames)
        self._forget(offset + slot, undecided)
        if completed is not None:
            previous, was = completed
            if was.mode == Mode.TRAINING:
                self._experience.add(offset + previous)
            if was.mode == Mode.DEMONSTRATION or was.intervention:
                undecided.append(offset + previous)
        if step.is_last:
            self._decide(undecided, step.success)

    def _forget(self, slot: int, undecided: deque[int]) -> None:
        """Take an overwritten slot, the oldest of its ring, out of every set."""
        self._experience.discard(slot)
        self._by_person.discard(slot)
        if undecided and undecided[0] == slot:
            undecided.popleft()

    def _decide(self, undecided: deque[int], success: bool) -> None:
        """The running episode is over: imitate what a person drove in it, or keep it as experience."""
        chosen = self._by_person if success else self._experience
        while undecided:
            chosen.add(undecided.popleft())

    @property
    def steps(self) -> int:
        """Steps stored, final observations included."""
        return sum(len(ring) for ring in self._rings)

    @property
    def online_size(self) -> int:
        """Usable transitions sampled as experience: of training, and of demonstrations that failed."""
        return len(self._experience)

    @property
    def demonstration_size(self) -> int:
        """Transitions that are imitated: demonstrations and interventions of episodes that succeeded."""
        return len(self._by_person)

    @property
    def size(self) -> int:
        """Transitions that can be sampled; an intervention counts once."""
        return len(self._experience) + self._by_person.count_from(self._offset)

    @property
    def bytes_per_step(self) -> int:
        """Memory one more step takes."""
        return self._rings[0].bytes_per_step

    def sample(self, batch: int, rng: np.random.Generator, demonstrations: float = 0.5, max_shift: int = 4) -> Batch:
        """Draw transitions with replacement, a share of `demonstrations` of them from what is imitated.

        Pixels are shifted at random by up to max_shift; of stored features a variant is drawn; observation and next
        observation independently. Raises ValueError when nothing can be sampled.
        """
        share = round(batch * demonstrations)
        if not len(self._experience):
            share = batch
        elif not len(self._by_person):
            share = 0
        if not len(self._experience) and not len(self._by_person):
            raise ValueError("the replay holds no transition yet")
        slots = np.concatenate([self._experience.draw(rng, batch - share), self._by_person.draw(rng, share)])
        return self._batch(slots, share, rng, max_shift)

    def person_batch(self, batch: int, rng: np.random.Generator, max_shift: int = 4) -> Batch:
        """Draw only transitions that are imitated."""
        return self.sample(batch, rng, demonstrations=1.0, max_shift=max_shift)

    def _batch(self, slots: np.ndarray, share: int, rng: np.random.Generator, max_shift: int) -> Batch:
        batch = len(slots)
        person = np.zeros(batch, bool)
        person[batch - share :] = True
        nexts = self._next(slots)
        both = self._observations(np.concatenate([slots, nexts]), rng, max_shift)
        state = (self._take("state", np.concatenate([slots, nexts])) - self._low) * self._scale - 1
        state = torch.from_numpy(state)
        return Batch(
            both=both,
            state=state[:batch],
            next_state=state[batch:],
            action=torch.from_numpy(self._take("action", slots)),
            reward=torch.from_numpy(self._take("reward", slots)),
            done=torch.from_numpy(self._take("done", slots)),
            by_person=torch.from_numpy(person),
        )

    def _next(self, slots: np.ndarray) -> np.ndarray:
        """Slots of the next observations; each ring wraps around by itself."""
        online = (slots + 1) % self._rings[0].capacity
        demonstration = (slots + 1 - self._offset) % self._rings[1].capacity + self._offset
        return np.where(slots < self._offset, online, demonstration)

    def _take(self, name: str, slots: np.ndarray) -> np.ndarray:
        online = slots < self._offset
        first, second = (getattr(ring, name) for ring in self._rings)
        out = np.empty((len(slots), *first.shape[1:]), first.dtype)
        out[online] = first[slots[online]]
        out[~online] = second[slots[~online] - self._offset]
        return out

    def _observations(self, slots: np.ndarray, rng: np.random.Generator, max_shift: int) -> Tensor:
        if self.feature_shape is None:
            return self._shifted_pixels(slots, rng, max_shift)
        variants = rng.integers(self.variants, size=len(slots))
        online = slots < self._offset
        first, second = (ring.frames for ring in self._rings)
        out = np.empty((len(slots), *first.shape[2:]), np.float16)
        out[online] = first[slots[online], variants[online]]
        out[~online] = second[slots[~online] - self._offset, variants[~online]]
        return torch.from_numpy(out).float()

    def _shifted_pixels(self, slots: np.ndarray, rng: np.random.Generator, max_shift: int) -> Tensor:
        shape = (len(slots), *self._rings[0].frames.shape[1:])
        if self._pixels.shape != shape:
            self._pixels = np.empty(shape, np.float32)  # fresh pages on every call would cost more than the work itself
        shifts = rng.integers(-max_shift, max_shift + 1, size=(len(slots), shape[1], 2))
        online = slots < self._offset
        for ring, mine, offset in ((self._rings[0], online, 0), (self._rings[1], ~online, self._offset)):
            rows = np.flatnonzero(mine)
            shifted_normalized(ring.frames, slots[rows] - offset, shifts[rows], self._pixels, rows)
        return torch.from_numpy(self._pixels).permute(0, 1, 4, 2, 3)


class _Last(NamedTuple):
    """What decides whether the next step of a ring continues this one."""

    run_id: str
    episode: int
    index: int
    mode: Mode
    intervention: bool
    complete: bool


class _Ring:
    """Arrays of steps in the order of arrival; the oldest is overwritten when they are full."""

    def __init__(self, task: TaskSpec, capacity: int, frame_shape: tuple[int, ...], kind: np.dtype) -> None:
        self.capacity = capacity
        self.frames = _reserve((capacity, *frame_shape), kind)
        self.state = _reserve((capacity, task.state_size), np.dtype(np.float32))
        self.action = _reserve((capacity, task.action_size), np.dtype(np.float32))
        self.reward = _reserve((capacity,), np.dtype(np.float32))
        self.done = _reserve((capacity,), np.dtype(np.float32))
        self._count = 0
        self._last: _Last | None = None

    def __len__(self) -> int:
        return min(self._count, self.capacity)

    @property
    def bytes_per_step(self) -> int:
        arrays = (self.frames, self.state, self.action, self.reward, self.done)
        return sum(array.nbytes for array in arrays) // self.capacity

    def continued_by(self, step: Step) -> bool:
        """Whether the newest step belongs to the same episode as `step`."""
        return self._last is not None and (self._last.run_id, self._last.episode) == (step.run_id, step.episode)

    def add(self, step: Step, frames: np.ndarray) -> tuple[int, tuple[int, _Last] | None]:
        """Returns the slot, and the slot and kind of the transition that this step completes, if any."""
        slot, last = self._count % self.capacity, self._last
        complete = step.action is not None and step.reward is not None
        self.frames[slot] = frames
        self.state[slot] = step.state
        if complete:
            self.action[slot] = step.action
            self.reward[slot] = step.reward
        self._count += 1
        self._last = _Last(step.run_id, step.episode, step.index, step.mode, step.intervention, complete)
        if last is None or not last.complete or self.capacity < 2:
            return slot, None
        if (last.run_id, last.episode, last.index + 1) != (step.run_id, step.episode, step.index):
            return slot, None
        previous = (slot - 1) % self.capacity
        self.done[previous] = float(step.is_terminal)
        return slot, (previous, last)


class _IndexSet:
    """Slots with O(1) add, discard and draw."""

    def __init__(self, capacity: int) -> None:
        self._values = _reserve((capacity,), np.dtype(np.int64))
        self._places = _reserve((capacity,), np.dtype(np.int64))  # place in _values plus one, 0 where absent
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, value: int) -> None:
        if not self._places[value]:
            self._values[self._count] = value
            self._count += 1
            self._places[value] = self._count

    def discard(self, value: int) -> None:
        place = int(self._places[value])
        if not place:
            return
        last = int(self._values[self._count - 1])
        self._values[place - 1] = last
        self._places[last] = place
        self._places[value] = 0
        self._count -= 1

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return self._values[rng.integers(self._count, size=count)] if count else np.empty(0, np.int64)

    def count_from(self, lowest: int) -> int:
        """How many are not below `lowest`."""
        return int((self._values[: self._count] >= lowest).sum())


def _reserve(shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """Zeros whose pages take memory only once they are written, however large the array."""
    size = max(1, int(np.prod(shape)) * kind.itemsize)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    return np.frombuffer(pages, kind, int(np.prod(shape))).reshape(shape)
