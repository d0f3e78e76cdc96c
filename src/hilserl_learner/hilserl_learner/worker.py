# SPDX-License-Identifier: Apache-2.0
"""The thread that trains: takes steps, works, publishes on schedule, writes checkpoints."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

from hilserl_core.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from hilserl_core.errors import CheckpointError
from hilserl_core.step import Step
from hilserl_core.timing import Timings
from hilserl_core.training import Trainer
from hilserl_learner.schedule import Publication, PublicationSchedule
from hilserl_learner.settings import LearnerParameters

_IDLE_S = 0.02
# What checkpoints need of LeRobot takes seconds to import: done while the arm is still being shown the task.
_IMPORTED_EARLY = ("lerobot.policies.gaussian_actor.processor_gaussian_actor", "lerobot.rl.algorithms.sac")


class Worker:
    """Owns the trainer. Everything else talks to it through `put`, `save` and the snapshot in `status`."""

    def __init__(
        self,
        trainer: Trainer,
        params: LearnerParameters,
        publish_frozen: Callable[[bytes], None],
        publish: Callable[[bytes, Publication], None],
        curve: Callable[[int, dict[str, float]], None],
        complain: Callable[[str], None],
    ) -> None:
        self.trainer = trainer
        self.params = params
        self.schedule = PublicationSchedule(params.publish_every_steps, params.policy_lag_steps, trainer.config.demonstrations)
        self.timings = Timings()
        self.status: dict[str, float] = {}
        self.phase, self.progress = trainer.phase.value, 0.0
        self.trained_through = ("", 0)
        self.version = 0
        self.updates_per_second = 0.0
        self.failure: BaseException | None = None
        self._publish_frozen, self._publish, self._curve, self._complain = publish_frozen, publish, curve, complain
        self._incoming: queue.SimpleQueue[tuple[Step, float]] = queue.SimpleQueue()
        self._arrived: deque[tuple[int, float]] = deque()
        self._stop, self._save_now = threading.Event(), threading.Event()
        self._saved = threading.Condition()
        self._saves = 0
        self._ready = False
        self._run_id = ""
        self._checkpoint_steps = self._curve_steps = 0
        self._resumed = False
        self._counted = (time.monotonic(), 0)
        self._thread = threading.Thread(target=self._run, name="training", daemon=True)
        trainer.on_stored = self._on_stored
        trainer.between_updates = self._catch_up

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return Path(self.params.folder) / "checkpoints"

    def restore(self, steps: Iterable[Step]) -> str:
        """Continue from the newest good checkpoint and the journal. Returns what was found, for the log.

        Raises PolicyError when the checkpoint is of another task or architecture.
        """
        folder, passed_over = newest_checkpoint(self.checkpoints)
        for sentence in passed_over:
            self._complain(sentence)
        if folder is not None:
            for line in load_checkpoint(folder, self.trainer):
                self._complain(f"the checkpoint {folder} was made with other settings: {line}")
            self._resumed = True
        count = 0
        for step in steps:
            self.schedule.see(step)
            self.trainer.add(step)
            self._arrived.append((step.sequence, 0.0))
            count += 1
        if count < self.trainer.steps_to_restore:
            raise CheckpointError(
                f"the checkpoint {folder} was trained on {self.trainer.steps_to_restore} steps but the journal holds {count} "
                "steps: restore the journal folder, or start in a new run folder"
            )
        return f"{count} steps in the journal, " + (f"continuing from {folder.name}" if folder else "no checkpoint yet")

    def start(self) -> None:
        """Begin to train."""
        threading.Thread(target=lambda: [import_module(name) for name in _IMPORTED_EARLY], daemon=True).start()
        self._thread.start()

    def put(self, step: Step, arrived_s: float) -> None:
        """A journalled step; arrived_s: when the actor published it [s, system clock]."""
        self._incoming.put((step, arrived_s))

    def save(self, timeout_s: float = 60.0) -> bool:
        """Write a checkpoint between two slices of work; False when there is nothing to write yet or it failed."""
        if not self._ready or not self._thread.is_alive():
            return False
        with self._saved:
            saves = self._saves
            self._save_now.set()
            return self._saved.wait_for(lambda: self._saves > saves, timeout_s)

    def stop(self) -> None:
        """Finish the slice of work, write a checkpoint, end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._ready and self.failure is None:
            self._write_checkpoint()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._take_incoming(block=not self.trainer.busy)
                if self.trainer.busy:
                    self._catch_up()
                    self.trainer.work(0.0)
                self._after_slice()
        except Exception as error:  # noqa: BLE001 - handed to the node, which stops with it
            self.failure = error

    def _take_incoming(self, block: bool) -> None:
        """Move what has arrived into the trainer's queue; it takes them one at a time, so the order alone counts."""
        try:
            while True:
                step, arrived_s = self._incoming.get(block=block, timeout=_IDLE_S) if block else self._incoming.get_nowait()
                block = False
                self.schedule.see(step)
                self.trainer.add(step)
                self._arrived.append((step.sequence, arrived_s))
        except queue.Empty:
            return

    def _catch_up(self) -> None:
        """In real time a step does not wait for the updates of those before it, and the ratio is a cap."""
        while not self.params.lockstep and self._ready:
            self._take_incoming(block=False)
            self.trainer.store_waiting(self.params.max_backlog_steps)
            if self._incoming.empty():  # an episode's last two steps come together
                break

    def _on_stored(self) -> None:
        sequence, arrived_s = self._arrived.popleft()
        if arrived_s and self._ready:  # before training begins, steps wait for nothing that could use them
            self.timings.add("step_to_learner", time.time() - arrived_s, sequence)

    def _after_slice(self) -> None:
        """Publish, write and report what the slice made due."""
        trainer = self.trainer
        moved = trainer.trained_through != self.trained_through
        self.trained_through = trainer.trained_through
        self.phase, self.progress = trainer.phase.value, trainer.progress
        if trainer.ready and not trainer.restoring:
            sequence = self.trained_through[1]
            if not self._ready:
                self._ready = True
                self._checkpoint_steps = self._curve_steps = trainer.training_steps
                if not self._resumed:
                    self._write_checkpoint()  # before the arm moves again: its steps would wait for it
                self._publish_frozen(trainer.frozen())
                self._publish_version(sequence)
                self._run_id = self.trained_through[0]
            elif self.trained_through[0] != self._run_id:  # an actor with an empty folder: it has nothing yet
                self._run_id = self.trained_through[0]
                self._publish_frozen(trainer.frozen())
                self._publish_version(sequence)
            elif moved and self.schedule.publication(sequence).version > self.version:
                self._publish_version(sequence)
                if trainer.training_steps - self._checkpoint_steps >= self.params.checkpoint_every_steps:
                    self._write_checkpoint()
        if self._save_now.is_set() and not trainer.busy:
            self._save_now.clear()
            self._write_checkpoint()
        if moved or trainer.busy:
            self._report()

    def _publish_version(self, sequence: int) -> None:
        publication = self.schedule.publication(sequence)
        self.version = publication.version
        self._publish(self.trainer.parameters(self.params.half_precision), publication)

    def _write_checkpoint(self) -> None:
        began = time.monotonic()
        try:
            save_checkpoint(self.checkpoints, self.trainer, self.params.keep_checkpoints)
            self._checkpoint_steps = self.trainer.training_steps
        except CheckpointError as error:
            self._complain(str(error))
            return
        self.timings.add("checkpoint", time.monotonic() - began)
        with self._saved:
            self._saves += 1
            self._saved.notify_all()

    def _report(self) -> None:
        trainer, now = self.trainer, time.monotonic()
        elapsed = now - self._counted[0]
        if elapsed >= 1.0:
            updates = trainer.sac.steps * trainer.sac_config.utd_ratio
            self.updates_per_second = (updates - self._counted[1]) / elapsed
            self._counted = (now, updates)
            self.status = trainer.status()
        if self._ready and trainer.training_steps - self._curve_steps >= self.params.metrics_every_steps:
            self._curve_steps = trainer.training_steps
            self.status = trainer.status()
            try:
                self._curve(trainer.training_steps, self.status)
            except OSError as error:
                self._complain(f"the curves cannot be written: {error}")
