# SPDX-License-Identifier: Apache-2.0
"""Listens to a running system: what its nodes say, and while a film is wanted what its cameras see."""

from __future__ import annotations

import math
import os
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Log
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from dataset_recorder.bag_writer import UNFINISHED
from hilserl_actor.teleop import SOURCES
from hilserl_interfaces.msg import EpisodeResult, EpisodeStatus, LearnerStatus, Reward, TeleopCommand
from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.diagnostics import TOPIC as DIAGNOSTICS
from hilserl_ros.images import image_to_rgb
from hilserl_ros.transport import use_udp
from reach_grasp import leftover
from reach_grasp.errors import CommandError
from reach_grasp.interrupt import heed
from reach_grasp.process import check_alive, last_error
from reach_grasp.running.episodes import Episode, EpisodeTracker
from reach_grasp.running.film import FilmRecorder
from reach_grasp.running.problems import Problem, Problems
from reach_grasp.running.verdicts import Verdict, VerdictTracker

SILENCE_S = 90.0
_RECENT = 20  # episodes over which success and help are shown
_DRIVES_S = 0.5  # how long a source counts as driving after its last active command


class Monitor:
    """A node of its own in one ROS domain, spun by a thread. Use as a context manager.

    `episode` and `learner` are the newest messages, `diagnostics` the newest values by the name of a status, `heard_s` when the
    actor last spoke, `reward` the newest one; `finished` yields each finished episode once, but for those known before.
    verdicts: also compares `reward` and `truth`; see the method.
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
        self.reward: Reward | None = None
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.told: dict[str, str] = {}  # the newest sentence of a diagnostic status, by its name
        self.heard_s = time.monotonic()
        self.film = film
        self._episodes: queue.SimpleQueue[Episode] = queue.SimpleQueue()
        known = list(known)
        self._recent: deque[Episode] = deque(known, maxlen=_RECENT)
        self._tracker = EpisodeTracker(known)
        self._problems, self._namespace = Problems(), namespace.strip("/")
        self._driven: dict[str, float] = {}  # source of teleop -> when it drove last
        self._verdicts, self._lock = verdicts, threading.Lock()
        self._context = Context()
        use_udp(os.environ)
        rclpy.init(args=[], context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(f"monitor_{domain}", context=self._context, namespace=namespace)
        self._node.create_subscription(EpisodeStatus, "episode/status", self._on_episode, qos.latched(20))
        self._node.create_subscription(EpisodeResult, "episode/result", self._on_result, qos.EPISODE_RESULT)
        self._node.create_subscription(LearnerStatus, "learner/status", self._on_learner, qos.latched(1))
        self._node.create_subscription(DiagnosticArray, DIAGNOSTICS, self._on_diagnostics, qos.DIAGNOSTICS)
        self._node.create_subscription(Log, "/rosout", self._on_log, qos.latched(100))
        for source in SOURCES:
            drives = partial(self._on_teleop, source)
            self._node.create_subscription(TeleopCommand, f"teleop/{source}", drives, qos.newest())
        if verdicts is None:
            self._node.create_subscription(Reward, "reward", self._on_reward, qos.newest())
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
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="monitor", daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Listen no more. The system has been told to end by now: see leftover.py."""
        self._over.set()
        self._thread.join(timeout=5.0)
        leftover.keep(self._take_apart)

    def _take_apart(self) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self._node.destroy_node()
        self._context.try_shutdown()

    def finished(self) -> list[Episode]:
        """The episodes that ended since the last call."""
        found = []
        while not self._episodes.empty():
            found.append(self._episodes.get())
        return found

    def recent(self) -> list[Episode]:
        """The last episodes that ended, those known before included."""
        with self._lock:
            return list(self._recent)

    def problems(self, now_s: float) -> list[Problem]:
        """The newest problem of every node. now_s: steady clock."""
        with self._lock:
            return self._problems.current(now_s)

    def sources(self) -> list[str]:
        """Sources of teleop that drive now."""
        now_s = time.monotonic()
        return [source for source in SOURCES if now_s - self._driven.get(source, -math.inf) < _DRIVES_S]

    @property
    def threshold(self) -> float | None:
        """Lowest probability that the classifier's node calls a success; None until the node has published it."""
        text = self.diagnostics.get("reward_classifier: rewards", {}).get("threshold")
        return float(text) if text else None

    def verdicts(self, over: bool = False) -> list[Verdict]:
        """How the learned reward did in the episodes that ended since the last call. over: no message is to come any more."""
        with self._lock:
            return self._verdicts.finished(over) if self._verdicts is not None else []

    def _spin(self) -> None:
        while not self._over.is_set():
            self._executor.spin_once(timeout_sec=0.2)
            if self._cameras and self.film is not None and self.film.full:
                self._close_cameras()

    def _close_cameras(self) -> None:
        """The simulator draws a camera that only a person looks at no longer than somebody listens."""
        for subscription in self._cameras:
            self._node.destroy_subscription(subscription)
        self._cameras = []

    def _on_episode(self, message: EpisodeStatus) -> None:
        self.heard_s = time.monotonic()
        self.episode = message
        if self._verdicts is not None:
            with self._lock:
                self._verdicts.status(message.mode, message.phase, message.episode, message.index, to_ns(message.header.stamp))

    def _on_result(self, message: EpisodeResult) -> None:
        if (episode := self._tracker.feed(message)) is None:
            return
        self._episodes.put(episode)
        with self._lock:
            self._recent.append(episode)
        if self.film is not None:
            self.film.cut(f"Episode {episode.number + 1}", episode.success if episode.judged else None)

    def _on_truth(self, message: Reward) -> None:
        with self._lock:
            self._verdicts.truth(to_ns(message.header.stamp), message.probability >= 0.5, message.success)

    def _on_reward(self, message: Reward) -> None:
        self.reward = message
        if self._verdicts is not None:
            with self._lock:
                self._verdicts.reward(to_ns(message.header.stamp), message.success)

    def _on_teleop(self, source: str, message: TeleopCommand) -> None:
        if message.active:
            self._driven[source] = time.monotonic()

    def _on_log(self, message: Log) -> None:
        """Keep warnings and errors of this system's nodes, which are as old as their stamps."""
        if message.level < Log.WARN or not self._mine(message.name):
            return
        age_s = max(time.time() - to_ns(message.stamp) * 1e-9, 0.0)
        with self._lock:
            node = message.name.split(".")[-1]
            self._problems.log(node, message.msg, message.level >= Log.ERROR, time.monotonic() - age_s)

    def _mine(self, logger: str) -> bool:
        place = self._namespace.replace("/", ".")
        return logger.startswith(f"{place}.") if place else True

    def _on_learner(self, message: LearnerStatus) -> None:
        self.learner = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        """Keep what this system's nodes say; the topic is everybody's, and names begin with the namespace."""
        for status in message.status:
            node, _, part = status.name.partition(": ")
            place, _, node = node.strip("/").rpartition("/")
            if place != self._namespace:
                continue
            name = f"{node}: {part}"
            self.diagnostics[name] = {item.key: item.value for item in status.values}
            self.told[name] = status.message
            severe = None if status.level == DiagnosticStatus.OK else status.level == DiagnosticStatus.ERROR
            with self._lock:
                self._problems.diagnose(name, status.message, severe, time.monotonic())

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
    return status is not None and status.phase == EpisodeStatus.DONE and not unrecorded(status, bags)


def unrecorded(status: EpisodeStatus, bags: Path) -> str:
    """Recordings that are not on disk yet, in words; '' when all are."""
    if missing := status.sequence - status.acknowledged:
        return f"the recorder to write {missing} steps"
    unfinished = next(bags.rglob(UNFINISHED), None)
    return f"the recorder to close the bag {unfinished.parent}" if unfinished is not None else ""


def unlearned(status: EpisodeStatus, learner: LearnerStatus | None) -> str:
    """Work that the learner still has once the actor is done, in words; '' when there is none, or the actor is not done."""
    if (status.phase == EpisodeStatus.WAITING and learner is None) or (status.phase == EpisodeStatus.DONE and learner is None):
        return "the learner, which was not heard yet"
    if status.phase != EpisodeStatus.DONE or learner.trained_through >= status.sequence:
        return ""
    return f"the learner, which has learned from {learner.trained_through} of {status.sequence} steps"


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
