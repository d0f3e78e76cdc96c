# SPDX-License-Identifier: Apache-2.0
"""Listens to a running system: what its nodes say, and while a film is wanted what its cameras see."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from dataset_recorder.bag_writer import UNFINISHED
from hilserl_interfaces.msg import EpisodeStatus, LearnerStatus, Reward
from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.images import image_to_rgb
from hilserl_ros.transport import use_udp
from reach_grasp.errors import CommandError
from reach_grasp.interrupt import heed
from reach_grasp.process import check_alive, last_error
from reach_grasp.running.episodes import Episode, EpisodeTracker
from reach_grasp.running.film import FilmRecorder
from reach_grasp.running.verdicts import Verdict, VerdictTracker

SILENCE_S = 90.0


class Monitor:
    """A node of its own in one ROS domain, spun by a thread. Use as a context manager.

    `episode` and `learner` are the newest messages, `diagnostics` the newest values by the name of a status, `heard_s` when the
    actor last spoke; `finished` yields each finished episode once, but for those known before. verdicts: also compares `reward`
    and `truth`; see the method.
    """

    def __init__(
        self,
        domain: int,
        film: FilmRecorder | None = None,
        known: Iterable[Episode] = (),
        namespace: str = "",
        verdicts: VerdictTracker | None = None,
    ) -> None:
        self.episode: EpisodeStatus | None = None
        self.learner: LearnerStatus | None = None
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.heard_s = time.monotonic()
        self.film = film
        self._episodes: queue.SimpleQueue[Episode] = queue.SimpleQueue()
        self._tracker = EpisodeTracker(known)
        self._verdicts, self._lock = verdicts, threading.Lock()
        self._context = Context()
        use_udp(os.environ)
        rclpy.init(args=[], context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(f"demo_monitor_{domain}", context=self._context, namespace=namespace)
        self._node.create_subscription(EpisodeStatus, "episode/status", self._on_episode, qos.latched(20))
        self._node.create_subscription(LearnerStatus, "learner/status", self._on_learner, qos.latched(1))
        self._node.create_subscription(DiagnosticArray, "diagnostics", self._on_diagnostics, qos.DIAGNOSTICS)
        if verdicts is not None:  # deep enough that a pause of this program loses nothing
            self._node.create_subscription(Reward, "truth", self._on_truth, qos.reliable(1000))
            self._node.create_subscription(Reward, "reward", self._on_reward, qos.reliable(1000))
        cameras = film.cameras if film else ()
        self._cameras = [
            self._node.create_subscription(Image, f"{name}/image_raw", partial(self._on_image, name), qos.IMAGE)
            for name in cameras
        ]
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="demo_monitor", daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self._context.try_shutdown()
        self._thread.join(timeout=5.0)
        self._node.destroy_node()

    def finished(self) -> list[Episode]:
        """The episodes that ended since the last call."""
        found = []
        while not self._episodes.empty():
            found.append(self._episodes.get())
        return found

    def verdicts(self, over: bool = False) -> list[Verdict]:
        """How the learned reward did in the episodes that ended since the last call. over: no message is to come any more."""
        with self._lock:
            return self._verdicts.finished(over) if self._verdicts is not None else []

    def _spin(self) -> None:
        try:
            while self._context.ok():
                self._executor.spin_once(timeout_sec=0.2)
                if self._cameras and self.film is not None and self.film.full:
                    self._close_cameras()
        except ExternalShutdownException:
            pass

    def _close_cameras(self) -> None:
        """The simulator draws a camera that only a person looks at no longer than somebody listens."""
        for subscription in self._cameras:
            self._node.destroy_subscription(subscription)
        self._cameras = []

    def _on_episode(self, message: EpisodeStatus) -> None:
        self.heard_s = time.monotonic()
        for episode in self._tracker.feed(message):
            self._episodes.put(episode)
            if self.film is not None:
                self.film.cut(f"Episode {episode.number + 1}", episode.success)
        self.episode = message
        if self._verdicts is not None:
            with self._lock:
                self._verdicts.status(message.mode, message.phase, message.episode, message.index, to_ns(message.header.stamp))

    def _on_truth(self, message: Reward) -> None:
        with self._lock:
            self._verdicts.truth(to_ns(message.header.stamp), message.probability >= 0.5, message.success)

    def _on_reward(self, message: Reward) -> None:
        with self._lock:
            self._verdicts.reward(to_ns(message.header.stamp), message.success)

    def _on_learner(self, message: LearnerStatus) -> None:
        self.learner = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {item.key: item.value for item in status.values}

    def _on_image(self, camera: str, message: Image) -> None:
        self.film.add(camera, to_ns(message.header.stamp), image_to_rgb(message))


def check_running(process: subprocess.Popen[bytes], monitor: Monitor, log: Path) -> None:
    """Raise CommandError when the nodes have ended, or the actor has said nothing for long, KeyboardInterrupt after Ctrl-C."""
    heed()
    check_alive(process, log)
    silent = time.monotonic() - monitor.heard_s
    if silent > SILENCE_S:
        reason = last_error(log)
        raise CommandError(f"nothing was heard from the actor for {silent:.0f} s{': ' if reason else ''}{reason} (see {log})")


def all_learned(status: EpisodeStatus | None, learner: LearnerStatus | None) -> bool:
    """Whether an actor has taken all its steps and the learner has learned from them."""
    if status is None or learner is None or status.phase != EpisodeStatus.DONE:
        return False
    return learner.trained_through >= status.sequence


def all_recorded(status: EpisodeStatus | None, bags: Path) -> bool:
    """Whether an actor that only shows the task has shown enough, and all of it is on disk, in bags that are closed."""
    if status is None or status.phase != EpisodeStatus.DONE or status.acknowledged < status.sequence:
        return False
    return next(bags.rglob(UNFINISHED), None) is None


def learner_record(message: LearnerStatus) -> dict[str, Any]:
    """What the report keeps of a learner's status."""
    names = (
        "phase", "progress", "optimization_step", "policy_version", "replay_size", "demonstration_size",
        "steps_received", "steps_duplicated", "trained_through", "updates_per_second",
    )  # fmt: skip
    record: dict[str, Any] = {name: getattr(message, name) for name in names}
    record["metrics"] = {item.key: _number(item.value) for item in message.metrics}
    return record


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
