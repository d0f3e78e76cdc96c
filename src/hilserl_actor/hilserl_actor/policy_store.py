# SPDX-License-Identifier: Apache-2.0
"""Received policies: checked, kept until they are due, applied at a tick. Nothing received can raise here."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch

from hilserl_actor.settings import ActorParameters
from hilserl_core.actor import Actor
from hilserl_core.errors import PolicyError
from hilserl_core.policy import PolicySpec, architecture, architecture_differences, architecture_hash
from hilserl_core.step import Observation
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import PolicyParameters


class PolicyStore:
    """The acting policy. In lockstep a version acts from the step its message names; in real time from the next tick."""

    def __init__(self, spec: PolicySpec, task: TaskSpec, params: ActorParameters, run_id: str, logger: object) -> None:
        """Raises PolicyError when `params.checkpoint` is not a policy for this task."""
        torch.set_num_threads(params.threads)
        self.task = task
        self.lockstep = params.lockstep and params.mode == "train"
        self.seed = params.seed
        self.run_id = run_id
        self._met = False  # a policy of this run has come
        self.version = 0
        self.applied = 0  # versions that have acted
        self.refused = 0
        self._logger = logger
        if params.mode == "evaluation" and not params.checkpoint:
            raise PolicyError("evaluation needs a policy: set checkpoint to the folder of one")
        self.actor = Actor.from_pretrained(Path(params.checkpoint), task) if params.checkpoint else Actor(spec, task)
        self.actor.warm_up()
        self._architecture = architecture(self.actor.policy.spec, task)
        self._architecture_hash = architecture_hash(self.actor.policy.spec, task)
        self._frozen_sha256 = ""
        self._waiting_frozen: PolicyParameters | None = None
        self._next_effective_from = 0
        self._queue: deque[tuple[PolicyParameters, float]] = deque()  # message, when it was published [s, system clock]
        self._published_s: float | None = None
        self._generator = torch.Generator()

    def take_frozen(self, message: PolicyParameters) -> None:
        """The frozen tensors of the learner's run: normalisation and image encoder."""
        if self._refuse(message) or message.sha256 == self._frozen_sha256:
            return
        try:
            self.actor.load_frozen(bytes(message.data))
        except PolicyError as error:
            self._refused(message, str(error))
            return
        self._frozen_sha256 = message.sha256
        self.version = 0

    def take(self, message: PolicyParameters, published_s: float) -> None:
        """A new version. Versions already known are dropped: a learner that resumes repeats some, bit for bit."""
        foreign = message.run_id not in ("", self.run_id)
        newest = self._queue[-1][0].version if self._queue else self.version
        if not foreign and not self._met:
            newest = 0
        if message.version <= newest or self._refuse(message):
            return
        if foreign:  # its numbers are not this run's
            message.effective_from = message.next_effective_from = 0
        elif not self._met:
            self._met = True
            self._queue.clear()
            self.version = 0
        self._queue.append((message, published_s))

    def ready(self, sequence: int) -> bool:
        """Apply what is due for step `sequence`; whether the step may act."""
        while self._queue:
            message, published_s = self._queue[0]
            if self.lockstep and message.effective_from > sequence and self.actor.ready:
                break  # an actor that was restarted has none, and takes the first it gets
            if message.frozen_sha256 != self._frozen_sha256:
                break  # its frozen tensors are still on the way
            self._queue.popleft()
            self._apply(message, published_s)
        if not self.actor.ready:
            return False
        return not self.lockstep or self._next_effective_from == 0 or sequence < self._next_effective_from

    def act(self, observation: Observation, sequence: int, deterministic: bool) -> np.ndarray:
        """An action, (A,) float32. Exploration is a function of seed and step alone, so a run can be repeated."""
        if deterministic:
            return self.actor.act(observation)
        self._generator.manual_seed((self.seed << 32) + sequence)
        return self.actor.act(observation, self._generator)

    def take_latency(self) -> float | None:
        """Seconds from the publication of a version to now, once per version, at its first action."""
        published, self._published_s = self._published_s, None
        return None if published is None else time.time() - published

    def _apply(self, message: PolicyParameters, published_s: float) -> None:
        try:
            self.actor.load_parameters(bytes(message.data))
        except PolicyError as error:
            self._refused(message, str(error))
            return
        self.version = message.version
        self.applied += 1
        self._published_s = published_s
        self._next_effective_from = message.next_effective_from

    def _refuse(self, message: PolicyParameters) -> bool:
        """Whether the message cannot be used, said in one sentence."""
        if self._met and message.run_id not in ("", self.run_id):
            return True  # another actor's; until the learner knows this one, the policy of the one before is a beginning
        if message.task_digest != self.task.digest():
            why = f"was trained for task {message.task_digest}, here is {self.task.digest()}: use the same config/task.yaml"
        elif message.architecture_hash != self._architecture_hash:
            try:
                why = "has another architecture: " + "; ".join(
                    architecture_differences(self._architecture, message.architecture)
                )
            except PolicyError as error:
                why = str(error)
        elif hashlib.sha256(bytes(message.data)).hexdigest() != message.sha256:
            why = "was damaged on the way: its checksum does not match"
        else:
            return False
        self._refused(message, why)
        return True

    def _refused(self, message: PolicyParameters, why: str) -> None:
        self.refused += 1
        self._logger.error(f"policy version {message.version} is not used: it {why}; the actor goes on with {self.version}")
