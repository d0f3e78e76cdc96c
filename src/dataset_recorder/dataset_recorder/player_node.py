# SPDX-License-Identifier: Apache-2.0
"""The player: publishes what bags hold, as if it happened now, to a reward classifier, and compares its rewards with labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock as ClockMessage

from dataset_recorder.comparison import Frame, compare, write_frames
from dataset_recorder.convert.bag import find_bags, metadata_of
from dataset_recorder.convert.errors import BagError
from dataset_recorder.errors import PlaybackError, RecordingError
from dataset_recorder.graph import message_class, publishers
from dataset_recorder.labels import LabelError
from dataset_recorder.listener import Listener, find_listener
from dataset_recorder.playback import Playback
from dataset_recorder.said import labels_in
from dataset_recorder.settings import PlayerParameters
from dataset_recorder.tape import Tape
from dataset_recorder.types import typestore_for
from hilserl_core.task import TaskError, TaskSpec
from hilserl_interfaces.msg import Reward
from hilserl_ros import qos
from hilserl_ros.convert import to_ns, to_stamp
from hilserl_ros.diagnostics import Diagnostics, status
from hilserl_ros.node import BaseNode, Finished, NodeError, main_of

_DEPTH = 10


class PlayerNode(BaseNode[PlayerParameters]):
    """Waits for a classifier that listens, plays each bag to it, says what came of them and ends.

    The classifier begins anew with each bag, as if there had been none before.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("player", PlayerParameters, **kwargs)
        if not self.params.bags:
            raise NodeError("no bag is named: set bags to the folders of some")
        try:
            self._tapes = self._read()
        except (BagError, LabelError) as error:
            raise NodeError(str(error)) from error
        self._kinds: dict[str, str] = {}
        self._played: dict[str, Publisher] = {}
        for tape in self._tapes:
            self._prepare(tape)
        self._time = self.create_publisher(ClockMessage, "/clock", qos.CLOCK)
        self._diagnostics = Diagnostics(self)
        self._listener: Listener | None = None
        self._began = False
        self._playback: Playback | None = None
        self._found: dict[str, list[Frame]] = {}  # bag -> frames of its episode
        self.create_subscription(Reward, "reward", self._on_reward, qos.reliable(1000))
        self._started_s = time.monotonic()
        self.create_timer(0.1, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_timer(0.5, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Bags -------------------------------------------------------------------------------------------------------------

    def _read(self) -> list[Tape]:
        """The bags; their labels too, so that what is wrong with them is said before anything is played."""
        params, task = self.params, self.task
        tapes = [
            Tape(path, task.cameras, task.fps, params.topics)
            for path in find_bags(Path(bag).expanduser() for bag in params.bags)
        ]
        self._labels = {
            tape.path: labels_in(tape.bag, np.array(tape.frames, np.int64), task.fps, params.labels) for tape in tapes
        }
        return tapes

    def _prepare(self, tape: Tape) -> None:
        """Publishers for a bag. Raises NodeError where its images or joints cannot be what this task expects."""
        try:
            recorded = TaskSpec.from_dict(metadata_of(tape.bag.custom, "task") or self.task.as_dict())
        except TaskError:  # of another version
            recorded = self.task
        if wrong := _differing(self.task, recorded):
            raise NodeError(
                f"{tape.path} was recorded for another task: {wrong}: name its parameter file as config, and say sim:=false "
                "where it is of a real arm"
            )
        for topic, name in tape.topics.items():
            kind = tape.bag.topics[topic]
            if self._kinds.setdefault(name, kind) != kind:
                raise NodeError(f"{name} is {kind} in {tape.path} and {self._kinds[name]} in another bag: play them one by one")
            if name not in self._played and (publisher := self._publisher(tape, topic)) is not None:
                self._played[name] = publisher

    def _publisher(self, tape: Tape, topic: str) -> Publisher | None:
        """As the topic was published, but always reliable, which serves every subscription. None, and said, for other types."""
        found = tape.bag.connection(topic)
        try:
            kind = message_class(found.msgtype)
            if found.digest not in ("", typestore_for(found.msgtype).hash_rihs01(found.msgtype)):
                raise RecordingError(f"{found.msgtype} was another type when it was recorded: install its package of that time")
        except RecordingError as error:
            self.get_logger().error(f"{topic} of {tape.path} is not played: {error}")
            return None
        return self.create_publisher(
            kind, tape.topics[topic], qos.latched(_DEPTH) if tape.latched(topic) else qos.reliable(_DEPTH)
        )

    # The classifier ---------------------------------------------------------------------------------------------------

    def _listens(self) -> bool:
        """Whether a classifier is there that hears what is played. Raises NodeError."""
        self._listener = self._listener or find_listener(self, self.task.cameras)
        if self._listener is None:
            return False
        for tape in self._tapes:
            for part in sorted(self._listener.parts):
                if part not in self._played or part not in tape.topics.values():
                    name = self._listener.name
                    raise NodeError(f"{name} judges by {part} too, which {tape.path} lacks: see `topics`, and its own `gate`")
        awaited = [self._played[topic] for topic in (*self._listener.parts, "episode/status") if topic in self._played]
        return self._listener.ready and all(publisher.get_subscription_count() for publisher in awaited)

    def _check_alone(self) -> None:
        for publisher in self._played.values():
            if others := {info.node_name for info in publishers(self, publisher.topic_name)} - {self.get_name()}:
                names, topic = " and ".join(sorted(others)), publisher.topic_name
                raise NodeError(f"{names} publishes {topic} too: replay in a ROS domain or a namespace of its own")

    # Playing ----------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The next bag, once the classifier has forgotten the last."""
        self._began = True
        self._listener.restart(self._play)

    def _play(self) -> None:
        calls = self._publish, self._tell_time, self._listener.settle, self.get_logger().warning
        self._playback = Playback(self._tapes[len(self._found)], self.params.rate, self._listener.parts, *calls)

    def _publish(self, messages: list[tuple[str, bytes]]) -> None:
        for name, data in messages:
            if name in self._played:
                self._played[name].publish(data)

    def _tell_time(self, stamp_ns: int) -> None:
        self._time.publish(ClockMessage(clock=to_stamp(stamp_ns)))

    def _on_reward(self, reward: Reward) -> None:
        if self._playback is not None:
            self._playback.hear(to_ns(reward.header.stamp), reward)

    # Now and then -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        playback, limit_s = self._playback, self.params.start_timeout_s
        if not self._began and self._listens():
            self._check_alone()
            self._begin()
        elif not self._began and time.monotonic() > self._started_s + limit_s:
            raise NodeError(f"no classifier has listened for {limit_s:g} s: start one in this ROS domain")
        if playback is None:
            return
        if isinstance(playback.failure, (BagError, PlaybackError)):
            raise NodeError(str(playback.failure)) from playback.failure
        if playback.failure is not None:
            raise playback.failure
        if playback.done:
            self._keep(playback)

    def _keep(self, playback: Playback) -> None:
        """What came of a bag; then the next one."""
        self._playback = None
        tape, frames = playback.tape, []
        source, labels = self._labels[tape.path]
        for stamp_ns, label in zip(tape.frames, labels, strict=True):
            reward = playback.rewards.get(stamp_ns)
            judged = (None, None) if reward is None else (reward.probability, reward.success)
            frames.append(Frame(stamp_ns, *judged, label, source))
        self._found[str(tape.path)] = frames
        self.get_logger().info(f"{tape.path}: {compare(frames).text}")
        if len(self._found) < len(self._tapes):
            self._begin()
        else:
            self._finish()

    def _finish(self) -> None:
        self._report()
        if not self.params.output:
            raise Finished(f"{len(self._tapes)} bags played")
        path = Path(self.params.output).expanduser()
        try:
            write_frames(path, self._found)
        except OSError as error:
            raise NodeError(f"{path} cannot be written: {error.strerror}") from error
        raise Finished(f"{len(self._tapes)} bags played; frame by frame: {path}")

    def _report(self) -> None:
        played = sum(map(len, self._found.values())) + (self._playback.played if self._playback is not None else 0)
        text = "playing" if self._began else "waiting for a classifier"
        values = {"bag": len(self._found), "bags": len(self._tapes), "frame": played}
        values["frames"] = sum(len(tape.frames) for tape in self._tapes)
        self._diagnostics.publish([status("replay", DiagnosticStatus.OK, text, values)])

    def close(self) -> None:
        """The thread ends."""
        if self._playback is not None:
            self._playback.stop()


def _differing(task: TaskSpec, recorded: TaskSpec) -> str:
    """What of images and joints differs, "" for nothing."""
    mine, theirs = (
        dict(zip(spec.cameras, zip(spec.camera_sizes[::2], spec.camera_sizes[1::2], strict=True), strict=True))
        for spec in (task, recorded)
    )
    parts = [
        f"images of {camera} are {theirs[camera]} pixels in it, {size} here"
        for camera, size in mine.items()
        if theirs.get(camera, size) != size
    ]
    if task.joints != recorded.joints:
        parts.append(f"joints are {recorded.joints} in it, {task.joints} here")
    return "; ".join(parts)


main = main_of(PlayerNode)
