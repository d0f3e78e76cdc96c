# SPDX-License-Identifier: Apache-2.0
"""The reward classifier: images in, `reward` out. The network runs in a thread of its own, in judging.py."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from hilserl_core.observation import ObservationError, network_image
from hilserl_core.stamps import set_back_s
from hilserl_core.synchroniser import Synchroniser
from hilserl_interfaces.msg import EpisodeStatus, Reward
from hilserl_ros import qos
from hilserl_ros.convert import to_ns, to_stamp
from hilserl_ros.diagnostics import Diagnostics, status
from hilserl_ros.images import ImageError, image_to_rgb, rgb_to_image
from hilserl_ros.node import BaseNode, NodeError, main_of
from reward_classifier_node.artifact import Artifact, check_artifact, read_artifact
from reward_classifier_node.decision import Gripper, Rule
from reward_classifier_node.errors import ClassifierError, DataError
from reward_classifier_node.judging import Frame, Judging, Verdict, chosen_device, made_ready
from reward_classifier_node.node_settings import ClassifierNodeParameters
from reward_classifier_node.picture import picture

_REMEMBERED = 16  # answers that can be given again
_JOINTS = "joints"


class RewardClassifierNode(BaseNode[ClassifierNodeParameters]):
    """A frame is the images of all cameras of one instant, with what the gripper feels where there is a gate.

    The reward carries the stamp of the first camera's image.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("reward_classifier", ClassifierNodeParameters, **kwargs)
        params = self.params
        torch.set_num_threads(params.threads)
        try:
            self._device = chosen_device(params.device)
            artifact = self._load(params.artifact)
        except ClassifierError as error:
            raise NodeError(str(error)) from error
        threshold = params.rule(artifact.threshold).threshold
        self.get_logger().info(f"{artifact.identity} judges on {self._device}, success above {threshold:.3f}")
        self._asked = 0  # number of the newest artifact that was set
        self._refused = ""  # why an artifact that was set is not in use
        self._answers: dict[int, Reward] = {}
        self._episode: tuple[str, int] | None = None  # the newest that ran
        self._phase = EpisodeStatus.IDLE  # of the actor
        self._was_reset = False  # since that episode
        self._complaint = ""
        self._reported = (time.monotonic(), 0, 0)
        self._cameras = self.task.cameras
        self._parts = (*self._cameras, _JOINTS) if params.gate else self._cameras
        self._sync = self._new_sync()
        self._judging = Judging(artifact, self._rule, self._read, self._answer, self._complain, newest_only=not params.lockstep)
        sys.setswitchinterval(0.001)  # a new image must not wait long for the thread that judges
        self._connect()
        self._judging.start()

    def _connect(self) -> None:
        params = self.params
        self._reward = self.create_publisher(Reward, "reward", qos.recorded(qos.REWARD))
        self._picture = self.create_publisher(Image, "reward/image", qos.IMAGE)
        self._diagnostics = Diagnostics(self)
        image_qos = qos.IMAGE if params.lockstep else qos.newest()
        self.create_subscription(EpisodeStatus, "episode/status", self._on_status, qos.latched(10))
        if params.gate:
            self.create_subscription(JointState, "joint_states", partial(self._on_part, _JOINTS), qos.JOINT_STATES)
        for camera in self._cameras:  # last, so that who sees these subscriptions has seen the others
            self.create_subscription(Image, f"{camera}/image_raw", partial(self._on_part, camera), image_qos)
        self.create_service(Trigger, "~/restart", self._on_restart)
        self.add_on_set_parameters_callback(self._check_artifact)
        self.add_post_set_parameters_callback(self._on_set)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Frames -----------------------------------------------------------------------------------------------------------

    def _new_sync(self) -> Synchroniser:
        return Synchroniser(self._parts, 0 if self.params.lockstep else round(1e9 * self.params.tolerance_s))

    def _on_part(self, part: str, message: Image | JointState) -> None:
        stamp_ns, now_s = to_ns(message.header.stamp), time.monotonic()
        if part == self._cameras[0]:
            if (answer := self._answers.get(stamp_ns)) is not None:
                self._reward.publish(answer)  # the simulator repeats itself for those who came late
                return
            set_back = not self.params.lockstep and set_back_s(stamp_ns, self._sync.used_through) > 0
            if self._answers and (set_back or stamp_ns < min(self._answers)):
                self.get_logger().info("time has begun anew")
                self._answers, self._sync = {}, self._new_sync()
                self._judging.restart()
        self._sync.add(part, stamp_ns, message)
        if (found := self._sync.newest()) is not None:
            self._sync.use(found[0])
            self._judging.put(Frame(*found, now_s))

    def _on_status(self, status: EpisodeStatus) -> None:
        """An episode begins anew: when the world is reset; in real time, where images come meanwhile, when it runs.

        In lockstep an episode that runs when the node first hears of one goes on. A reset that takes long is told repeatedly.
        """
        episode, before = (status.run_id, status.episode), self._phase
        self._phase = status.phase
        if status.phase == EpisodeStatus.RESETTING:
            if before != EpisodeStatus.RESETTING:
                self._judging.restart()
            self._was_reset = True
        elif status.phase == EpisodeStatus.RUNNING and episode != self._episode:
            if not (self.params.lockstep and (self._was_reset or self._episode is None)):
                self._judging.restart()
            self._episode, self._was_reset = episode, False

    def _on_restart(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget every frame and episode: what comes now is another recording, whose time may be any."""
        self._answers, self._sync, self._episode = {}, self._new_sync(), None
        self._phase, self._was_reset = EpisodeStatus.IDLE, False
        self._judging.restart()
        response.success = True
        return response

    def _rule(self, threshold: float) -> Rule:
        return self.params.rule(threshold)

    def _read(self, parts: dict[str, Any]) -> tuple[np.ndarray, Gripper | None]:
        """In the judging thread: images (cameras, S, S, 3) uint8, and what the gripper reports. Raises DataError."""
        images, camera = [], ""
        try:
            for camera in self._cameras:
                images.append(network_image(image_to_rgb(parts[camera]), camera, self.task))
        except (ImageError, ObservationError) as error:
            raise DataError(f"an image of {camera} cannot be judged: {error}") from error
        return np.stack(images), self._gripper(parts[_JOINTS]) if self.params.gate else None

    def _gripper(self, joints: JointState) -> Gripper:
        name, params = self.task.joints[-1], self.params
        asked = {"position": True, "velocity": params.gate_max_speed > 0.0, "effort": params.gate_min_effort > 0.0}
        found = {}
        for kind, needed in asked.items():
            values = dict(zip(joints.name, getattr(joints, kind), strict=False))
            if needed and name not in values:
                raise DataError(f"joint_states lacks the {kind} of {name}, which the gate asks for")
            found[kind] = values.get(name, 0.0)
        return Gripper(found["position"], found["velocity"], found["effort"])

    def _answer(self, verdict: Verdict) -> None:
        """In the judging thread."""
        message = Reward(
            probability=verdict.probability, reward=verdict.reward, success=verdict.success, artifact=verdict.artifact
        )
        message.header.stamp = to_stamp(verdict.stamp_ns)
        kept = [*self._answers.items()][1 - _REMEMBERED :]
        self._answers = dict(kept) | {verdict.stamp_ns: message}  # before it is out: who has it may ask for it again at once
        self._reward.publish(message)
        self._complaint = ""
        if self.params.annotate and self._picture.get_subscription_count():
            self._picture.publish(rgb_to_image(picture(verdict), message.header.stamp, f"{self._cameras[0]}_network"))

    def _complain(self, why: str) -> None:
        """In the judging thread: once, until frames are good again."""
        if why != self._complaint:
            self.get_logger().error(why)
        self._complaint = why

    # Classifiers ------------------------------------------------------------------------------------------------------

    def _load(self, folder: str) -> Artifact:
        if not folder:
            raise ClassifierError("no classifier is named: set artifact to the folder of one (reach-grasp train-classifier)")
        path = Path(folder).expanduser()
        return made_ready(read_artifact(path, self.task, self.params.trust_remote_code), self._device)

    def _check_artifact(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse what can be seen at once to be missing or for another task."""
        for item in parameters:
            if item.name == "artifact":
                try:
                    check_artifact(Path(item.value).expanduser(), self.task)
                except ClassifierError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_set(self, parameters: list[Parameter]) -> None:
        """An artifact that was set, be it the same folder with new content, takes over once it is loaded."""
        for item in parameters:
            if item.name == "artifact":
                self._asked += 1
                threading.Thread(target=self._swap, args=(item.value, self._asked), name="loading", daemon=True).start()

    def _swap(self, folder: str, number: int) -> None:
        """In the loading thread."""
        try:
            artifact = self._load(folder)
        except ClassifierError as error:
            self._refused = str(error)
            self.get_logger().error(f"{error}; {self._judging.artifact.identity} goes on judging")
            return
        if number == self._asked:
            self._refused = ""
            self._judging.use(artifact)
            self.get_logger().info(f"{artifact.identity} judges from now on")

    # Now and then -----------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        judging = self._judging
        if judging.failure is not None:
            raise judging.failure
        now_s, latencies_s = time.monotonic(), list(judging.latencies_s)
        since_s, judged, skipped = self._reported
        self._reported = (now_s, judging.judged, judging.skipped)
        level, text = DiagnosticStatus.OK, "judging"
        if judging.judged == judged:
            level, text = DiagnosticStatus.WARN, f"no frame, waiting for {', '.join(self._sync.lacking() or self._parts)}"
        elif judging.skipped > skipped:
            level, text = DiagnosticStatus.WARN, f"{judging.skipped - skipped} frames skipped"
        for problem in (self._refused, self._complaint):
            if problem:
                level, text = DiagnosticStatus.ERROR, problem
        values = {
            "artifact": judging.artifact.identity,
            "device": self._device,
            "threshold": f"{self._rule(judging.artifact.threshold).threshold:.3f}",
            "rate_hz": f"{(judging.judged - judged) / (now_s - since_s):.1f}",
            "judged": judging.judged,
            "skipped": judging.skipped,
            "refused": judging.refused,
        }
        for share in (50, 99):
            if latencies_s:
                values[f"latency_p{share}_ms"] = f"{1e3 * np.percentile(latencies_s, share):.1f}"
        self._diagnostics.publish([status("rewards", level, text, values)])

    def close(self) -> None:
        """The frame that is being judged is answered."""
        self._judging.stop()


main = main_of(RewardClassifierNode)
