# SPDX-License-Identifier: Apache-2.0
"""Judges frames in a thread of its own, so that whoever hands them over never waits for the network."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reward_classifier_node.artifact import Artifact
from reward_classifier_node.decision import Gripper, Judge, Rule
from reward_classifier_node.errors import ClassifierError, DataError

_WARM_UP = 3  # the first passes of a network take several times as long


@dataclass(frozen=True)
class Frame:
    """What came for one instant. parts: as the reader understands them. received_s: by the monotonic clock."""

    stamp_ns: int
    parts: dict[str, Any]
    received_s: float


@dataclass(frozen=True)
class Verdict:
    """What one frame shows. images: (cameras, S, S, 3) uint8, as the network saw it."""

    stamp_ns: int
    probability: float
    success: bool
    reward: float
    artifact: str
    images: np.ndarray


Reader = Callable[[dict[str, Any]], tuple[np.ndarray, Gripper | None]]
"""From the parts of a frame to images (cameras, S, S, 3) uint8 and what the gripper reports; raises DataError."""


def chosen_device(name: str) -> str:
    """The device of `auto`, `cpu` or `cuda`. Raises ClassifierError when there is no GPU but one is asked for."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ClassifierError("device is 'cuda' and this computer has no usable GPU: set it to cpu or auto")
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def made_ready(artifact: Artifact, device: str) -> Artifact:
    """The artifact with its network on the device, warm."""
    network = artifact.classifier.to(device)
    size, cameras = artifact.task.image_size, len(artifact.task.cameras)
    for _ in range(_WARM_UP):
        network.probabilities(np.zeros((1, cameras, size, size, 3), np.uint8))
    return artifact


class Judging:
    """A queue of frames and the thread that judges them in order.

    rule: from an artifact's threshold to how to judge, asked for each frame. newest_only: a frame that has not been begun when
    the next one comes is skipped, and counted. `answer` and `complain` are called in the thread. `failure` is what ended the
    thread, if anything did.
    """

    def __init__(
        self,
        artifact: Artifact,
        rule: Callable[[float], Rule],
        read: Reader,
        answer: Callable[[Verdict], None],
        complain: Callable[[str], None],
        newest_only: bool,
    ) -> None:
        self.artifact = artifact
        self.judged = self.skipped = self.refused = 0
        self.latencies_s: deque[float] = deque(maxlen=300)  # from `received_s` until the answer is given
        self.failure: BaseException | None = None
        self._rule = rule
        self._judge = Judge(rule(artifact.threshold))
        self._read, self._answer, self._complain = read, answer, complain
        self._newest_only = newest_only
        self._waiting: deque[Frame | Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="judging", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the frame that is being judged."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def put(self, frame: Frame) -> None:
        """The next frame."""
        with self._changed:
            if self._newest_only:
                kept = [item for item in self._waiting if not isinstance(item, Frame)]
                self.skipped += len(self._waiting) - len(kept)
                self._waiting = deque(kept)
            self._waiting.append(frame)
            self._changed.notify()

    def restart(self) -> None:
        """The next frame follows none of those before it."""
        self._do(self._judge.restart)

    def use(self, artifact: Artifact) -> None:
        """Judge the next frame, which follows none, with this one."""
        self._do(lambda: self._take(artifact))

    def _do(self, call: Callable[[], None]) -> None:
        """Call it in its turn between the frames."""
        with self._changed:
            self._waiting.append(call)
            self._changed.notify()

    def _take(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self._judge.restart()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._stopped)
                    if self._stopped:
                        return
                    item = self._waiting.popleft()
                if isinstance(item, Frame):
                    self._judge_frame(item)
                else:
                    item()
        except Exception as error:  # noqa: BLE001 - the node raises it in its own thread
            self.failure = error

    def _judge_frame(self, frame: Frame) -> None:
        try:
            images, gripper = self._read(frame.parts)
        except DataError as error:
            self.refused += 1
            self._judge.restart()  # what it would have shown is not known
            self._complain(str(error))
            return
        artifact = self.artifact
        probability = float(artifact.classifier.probabilities(images[None])[0])
        self._judge.rule = self._rule(artifact.threshold)
        success = self._judge.judge(probability, gripper)
        reward = artifact.task.success_reward if success else 0.0
        self._answer(Verdict(frame.stamp_ns, probability, success, reward, artifact.identity, images))
        self.judged += 1
        self.latencies_s.append(time.monotonic() - frame.received_s)
