# SPDX-License-Identifier: Apache-2.0
"""The recorder: topics in, one bag an episode out. What goes into which bag is decided in episodes.py."""

from __future__ import annotations

import itertools
import shutil
import time
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import QoSMessageLostInfo, SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger

from dataset_recorder.bag_writer import BagWriter, Topic
from dataset_recorder.episodes import Episode, EpisodeBags
from dataset_recorder.errors import RecordingError
from dataset_recorder.graph import has_header, header_ns, message_class, noted, publishers, widest
from dataset_recorder.notes import notes_of
from dataset_recorder.receipts import Receipts
from dataset_recorder.recording import LogTimes, Recording
from dataset_recorder.repair import repair_unfinished
from dataset_recorder.settings import RecorderParameters
from hilserl_interfaces.msg import EpisodeEvent, EpisodeResult, EpisodeStatus, Step, StepAck
from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.diagnostics import Diagnostics, status
from hilserl_ros.node import BaseNode, NodeError, main_of

_STEP, _RESULT = "hilserl_interfaces/msg/Step", "hilserl_interfaces/msg/EpisodeResult"
_GOES_ON = (EpisodeStatus.WAITING, EpisodeStatus.PAUSED, EpisodeStatus.AWAITING_VERDICT)
"""Phases in which the actor's episode may go on: it waits for the learner, for the end of a pause, for the person's word."""


class RecorderNode(LifecycleNodeMixin, BaseNode[RecorderParameters]):
    """Inactive it does nothing; active it records episodes as the actor or the services cut them."""

    def __init__(self) -> None:
        BaseNode.__init__(self, "recorder", RecorderParameters)
        LifecycleNodeMixin.__init__(self)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._taken: dict[str, Subscription] = {}
        self._types: dict[str, str] = {}
        self._refused: set[str] = set()
        needed = {"joint_states", *(f"{camera}/image_raw" for camera in self.task.cameras), *self.params.required}
        self._required = [topic for topic in self.params.topics if topic in needed]
        self._active = False
        self._manual = 0
        self._log_times = LogTimes()
        self._given_up: Episode | None = None
        self._run = time.strftime("%Y%m%d-%H%M%S")
        log = self.get_logger()
        self._receipts: Receipts | None = None
        if self.params.acknowledge:
            if not self.params.follow_actor:
                raise NodeError("acknowledge needs follow_actor: only then a bag holds the steps of its episode")
            self._receipts = Receipts(Path(self.params.folder).expanduser())
            self._ack = self.create_publisher(StepAck, "steps/ack", qos.STEPS_ACK)
        self._bags = EpisodeBags(self._open, log.info, log.error, self._receipts, round(1e9 * self.task.tick_s))
        for name, call in (("start", self._start), ("stop", self._stop), ("discard", self._discard), ("rerecord", self._again)):
            self.create_service(Trigger, f"~/{name}_episode", partial(self._serve, call))
        if self.params.follow_actor:
            self.create_subscription(EpisodeStatus, "episode/status", self._on_status, qos.STATUS)
            self.create_subscription(EpisodeEvent, "episode/event", self._on_event, qos.EPISODE_EVENT)
        self._diagnostics = Diagnostics(self)
        self.create_timer(0.2, self._on_timer, clock=self._steady)
        self.create_timer(1.0, self._report, clock=self._steady)
        if self.params.autostart and self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    # Lifecycle --------------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The folder is there and can be written, and every bag in it is closed."""
        folder = Path(self.params.folder).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            self.get_logger().error(f"cannot record into {folder}: {error.strerror}; name another one in `folder`")
            return TransitionCallbackReturn.FAILURE
        repair_unfinished(folder, self.get_logger().info, self.get_logger().error)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to what is there."""
        self._active = True
        self._subscribe()
        return LifecycleNodeMixin.on_activate(self, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close what is open."""
        self._active = False
        self._bags.close()
        for subscription in self._taken.values():
            self.destroy_subscription(subscription)
        self._taken.clear()
        self._types.clear()
        self._bags.awaited.clear()
        return LifecycleNodeMixin.on_deactivate(self, state)

    # Messages ---------------------------------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        """Take every topic asked for that has a publisher by now; steps when all that is required was taken before."""
        lacking = [topic for topic in self._required if topic not in self._taken]
        for topic in self.params.topics:
            if topic in self._taken or topic in self._refused:
                continue
            found = publishers(self, topic)
            kinds = {info.topic_type for info in found}
            if not kinds:
                continue
            try:
                if len(kinds) > 1:
                    raise RecordingError(f"{topic} is published as {' and '.join(sorted(kinds))}: a bag takes one type a topic")
                kind = kinds.pop()
                follows = self.params.follow_actor and kind == _STEP
                if follows and lacking:
                    waiting = f"steps are not taken before somebody publishes {', '.join(lacking)}"
                    self.get_logger().info(waiting, throttle_duration_sec=10.0, skip_first=True)
                    continue
                ends = self.params.follow_actor and kind == _RESULT
                tells = topic in self._required and has_header(kind) and not ends
                call = self._on_required if tells else self._on_message
                call = self._on_step if follows else self._on_result if ends else call
                profile = widest(found)
                by_agreement = profile.reliability is ReliabilityPolicy.BEST_EFFORT
                lost = None if call == self._on_step or by_agreement else self._on_lost  # a lost step comes again
                self._taken[topic] = self.create_subscription(
                    message_class(kind), topic, partial(call, self.resolve_topic_name(topic)), profile, raw=True,
                    event_callbacks=SubscriptionEventCallbacks(message_lost=lost),
                )  # fmt: skip
                self._types[topic] = kind
                if tells:
                    self._bags.awaited.add(self.resolve_topic_name(topic))
                self._bags.awaits_steps |= follows
                self._bags.awaits_results |= ends
                if self._bags.current is not None:
                    self.get_logger().warning(f"{topic} came late: it is recorded from the next episode on")
            except RecordingError as error:
                self._refused.add(topic)
                self.get_logger().error(f"{topic} is not recorded: {error}")

    def _on_message(self, topic: str, payload: bytes) -> None:
        self._bags.put(topic, self._now_ns(), payload)

    def _on_required(self, topic: str, payload: bytes) -> None:
        self._bags.put(topic, self._now_ns(), payload, header_ns(payload))

    def _on_result(self, topic: str, payload: bytes) -> None:
        result = deserialize_message(payload, EpisodeResult)
        self._bags.put_result(topic, self._now_ns(), payload, Episode(result.run_id, result.episode))

    def _now_ns(self) -> int:
        return self._log_times(self.get_clock().now().nanoseconds)

    def _on_lost(self, lost: QoSMessageLostInfo) -> None:
        self._bags.miss(lost.total_count_change)

    def _on_step(self, topic: str, payload: bytes) -> None:
        step = deserialize_message(payload, Step)
        episode = Episode(step.run_id, step.episode)
        stamp_ns, instant_ns = self._now_ns(), to_ns(step.header.stamp)
        self._bags.put_step(
            topic, stamp_ns, payload, episode, step.index, step.is_last, time.monotonic(), step.sequence, instant_ns
        )

    def _on_status(self, status: EpisodeStatus) -> None:
        if not self._active or (self._receipts is not None and not self._bags.awaits_steps):
            return  # a bag that was opened now would have no place for steps
        episode = Episode(status.run_id, status.episode)
        if status.phase == EpisodeStatus.RUNNING and episode != self._given_up:
            self._bags.begin(episode, time.monotonic(), status.index, to_ns(status.header.stamp))
        elif status.phase not in _GOES_ON or episode != self._bags.current:
            self._bags.end(time.monotonic())

    def _on_event(self, event: EpisodeEvent) -> None:
        if event.kind == EpisodeEvent.RERECORD:
            self._given_up = self._bags.current  # the actor ends it at its next observation
            self._bags.discard()

    # Bags -------------------------------------------------------------------------------------------------------------

    def _open(self, episode: Episode) -> Recording:
        self._subscribe()
        folder = Path(self.params.folder).expanduser()
        free = shutil.disk_usage(folder).free // 1_000_000
        if free < self.params.reserve_mb:
            raise RecordingError(
                f"{episode.path} is not recorded: {folder} has {free} MB free, less than reserve_mb {self.params.reserve_mb}; "
                "free some space"
            )
        topics = [
            Topic(self.resolve_topic_name(topic), kind, noted(publishers(self, topic))) for topic, kind in self._types.items()
        ]
        path = folder / episode.path
        if self._receipts is not None:  # a recorder that was killed has left a part of this episode
            parts = itertools.count(2)
            while path.exists():
                path = folder / episode.path.with_name(f"{episode.path.name}_{next(parts)}")
        writer = BagWriter(path, topics, notes_of(self.task, episode))
        return Recording(writer, self.params.queue_mb * 1_000_000)

    # Services ---------------------------------------------------------------------------------------------------------

    def _serve(self, call: object, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._active:
            response.message = "the recorder is not active: activate it first"
        else:
            response.success, response.message = call()
        return response

    def _start(self) -> tuple[bool, str]:
        if self._bags.current is not None:
            return False, f"{self._bags.current.path} is being recorded already: stop or discard it first"
        if not self._bags.begin(Episode(self._run, self._manual), time.monotonic()):
            return False, "the bag could not be opened: see the log"
        self._manual += 1
        return True, str(self._bags.current.path)

    def _stop(self) -> tuple[bool, str]:
        if self._bags.current is None:
            return False, "nothing is being recorded"
        name = str(self._bags.current.path)
        self._bags.end(time.monotonic())
        return True, name

    def _discard(self) -> tuple[bool, str]:
        self._given_up = self._bags.current  # the actor goes on with it
        return (True, "discarded") if self._bags.discard() else (False, "nothing is being recorded")

    def _again(self) -> tuple[bool, str]:
        episode = self._bags.current
        if not self._bags.discard() or not self._bags.begin(episode, time.monotonic()):
            return False, "nothing is being recorded"
        return True, str(episode.path)

    # Now and then -----------------------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        if self._active:
            self._subscribe()
        self._bags.tick(time.monotonic())
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Say which steps are on disk."""
        if self._receipts is None:
            return
        if (late := self._receipts.begins_late) is not None:
            self.get_logger().error(
                f"the steps of run {late[0]} before {late[1]} went to another recorder or learner: none is acknowledged; "
                "record with a new run folder",
                throttle_duration_sec=10.0,
            )
        # one of the same name is this node before it was killed, which DDS takes a while to notice
        others = {info.node_name for info in publishers(self, self._ack.topic_name)} - {self.get_name()}
        if others:
            self.get_logger().error(
                f"{' and '.join(sorted(others))} acknowledges steps too: set acknowledge to false", throttle_duration_sec=10.0
            )
            return
        try:
            answer = self._receipts.acknowledgement()
        except OSError as error:
            self.get_logger().error(
                f"steps cannot be acknowledged: {error.strerror}; they wait in the actor's spool", throttle_duration_sec=10.0
            )
            return
        if answer is not None:
            self._ack.publish(answer)

    def _report(self) -> None:
        bags = self._bags
        values = {"bags": bags.closed, "messages": bags.messages, "dropped": bags.dropped, "missed": bags.missed}
        level = DiagnosticStatus.WARN if bags.dropped or bags.missed else DiagnosticStatus.OK
        text = f"recording {bags.current.path}" if bags.current else "waiting" if self._active else "not active"
        self._diagnostics.publish([status("bags", level, text, values)])

    def close(self) -> None:
        """Everything taken is in a bag that can be read."""
        self._bags.close()
        self._acknowledge()


main = main_of(RecorderNode)
