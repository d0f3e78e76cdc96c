# SPDX-License-Identifier: Apache-2.0
"""The reward classifier's node over real DDS: from an image to its reward; beside it LeRobot's classifier in this process."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from diagnostic_msgs.msg import DiagnosticArray
from lerobot.processor import PolicyProcessorPipeline
from lerobot.rewards.classifier.modeling_classifier import Classifier as LeRobotClassifier
from sensor_msgs.msg import Image

from benchmarks import lerobot_side
from benchmarks.peer import Peer, PeerError, node_command, running
from benchmarks.problem import DEMO_TASK, TASK
from benchmarks.registry import Options
from benchmarks.rows import Better, Row, Target
from benchmarks.timing import percentile
from dataset_recorder.testing import bags
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import Reward
from hilserl_ros import qos
from reward_classifier_node.artifact import write_artifact
from reward_classifier_node.model import Classifier, Shape
from reward_classifier_node.settings import ClassifierSettings
from reward_classifier_node.trunk import new_trunk

_FPS, _PICTURES = 30, 60
_WARM_UP = 30  # images of each side that are not counted
_ONE, _TWO, _RESNET10 = "classifier_latency", "classifier_latency_two_cameras", "classifier_latency_resnet10"
_ANSWERED = "classifier_answered"


@dataclass
class _Seen:
    """sent_s, answered_s: number of an image -> by the monotonic clock [s]. report: the node's newest diagnostics."""

    sent_s: dict[int, float] = field(default_factory=dict)
    answered_s: dict[int, float] = field(default_factory=dict)
    probability: dict[int, float] = field(default_factory=dict)
    report: dict[str, str] = field(default_factory=dict)
    reports: int = 0
    late_s: float = 0.0
    cpu_percent: float = 0.0

    def latencies_ms(self) -> list[float]:
        """Of the answered images behind the warm-up."""
        return [1e3 * (end - self.sent_s[n]) for n, end in self.answered_s.items() if n > _WARM_UP]

    @property
    def counted(self) -> int:
        """Images behind the warm-up."""
        return len(self.sent_s) - _WARM_UP


def run(options: Options) -> Iterator[Row]:
    """The rows of this group: each case one run of the node."""
    seconds = 6 if options.quick else 25
    if options.wanted(_ONE) or options.wanted(_ANSWERED):
        seen, row = _case(_ONE, DEMO_TASK, "", seconds, options.scratch, Target("at_most", 15.0))
        yield from (item for item in (row, _answered(seen)) if options.wanted(item.name))
    if options.wanted(_TWO):
        yield _case(_TWO, TASK, "", seconds, options.scratch)[1]
    if options.wanted(_RESNET10):
        yield _case(_RESNET10, DEMO_TASK, str(lerobot_side.local_resnet10(options.scratch)), seconds, options.scratch)[1]


def _case(
    name: str, task: TaskSpec, backbone: str, seconds: float, scratch: Path, target: Target | None = None
) -> tuple[_Seen, Row]:
    torch.manual_seed(0)
    settings = ClassifierSettings(backbone=backbone) if backbone else ClassifierSettings()
    folder = scratch / name
    write_artifact(folder, Classifier(Shape.of(settings, task), new_trunk(settings)), task, 0.5, {})
    pictures = {camera: list(bags.pictures(_PICTURES, 128, 128, seed)) for seed, camera in enumerate(task.cameras)}
    count = round(seconds * _FPS)
    station = _Station(pictures)
    try:
        seen = station.measure(folder, task, count)
    finally:
        station.close()
    theirs_ms, probabilities = _lerobot(folder, task, pictures, count)
    difference = max(abs(found - probabilities[n % _PICTURES]) for n, found in seen.probability.items())
    if difference > 1e-4:
        raise AssertionError(f"{name}: the node's probabilities differ from LeRobot's by {difference}")
    ours_ms = seen.latencies_ms()
    row = Row(
        name=name,
        ours=percentile(ours_ms, 99),
        lerobot=percentile(theirs_ms, 99),
        unit="ms",
        target=target,
        note=f"99th percentile, {len(task.cameras)} camera(s) 128x128 at {_FPS} Hz, "
        f"{'ResNet-10' if backbone else 'the built-in image model'}. Ours: from an image handed to DDS to its reward taken out "
        "of DDS, through the node's own process, one thread, debounce included. LeRobot's: its preprocessor and predict_reward "
        "on the same image with the same weights, in this process, one thread: no transport and no debounce.",
        conditions={
            "ours_p50_ms": percentile(ours_ms, 50), "ours_max_ms": max(ours_ms), "lerobot_p50_ms": percentile(theirs_ms, 50),
            "lerobot_max_ms": max(theirs_ms), "images": seen.counted, "answered": len(ours_ms),
            "skipped": int(seen.report["skipped"]), "published_late_max_ms": 1e3 * seen.late_s,
            "node_p50_ms": float(seen.report["latency_p50_ms"]), "node_p99_ms": float(seen.report["latency_p99_ms"]),
            "node_percent_of_a_core": seen.cpu_percent, "probability_difference_max": difference,
        },
    )  # fmt: skip
    return seen, row


def _answered(seen: _Seen) -> Row:
    return Row(
        name=_ANSWERED,
        ours=100 * len(seen.latencies_ms()) / seen.counted,
        lerobot=None,
        unit="% of images",
        better=Better.HIGHER,
        target=Target("at_least", 100.0),
        note=f"Images of {_ONE} that got a reward; others were skipped, because the next one came before they were begun, or "
        "lost on their way.",
        conditions={"images": seen.counted, "skipped": int(seen.report["skipped"])},
    )


class _Station(Peer):
    """Plays the cameras and hears the rewards; the seconds of a stamp number the images."""

    def __init__(self, pictures: Mapping[str, list[np.ndarray]]) -> None:
        super().__init__("bench_cameras")
        kind = "sensor_msgs/msg/Image"
        self._payloads = {
            camera: [bytes(bags.store().serialize_cdr(bags.image(frame, 0, camera), kind)) for frame in frames]
            for camera, frames in pictures.items()
        }
        create = self.node.create_publisher
        self._cameras = {camera: create(Image, f"{camera}/image_raw", qos.IMAGE) for camera in pictures}
        self._rewards = self.node.create_subscription(Reward, "reward", self._on_reward, qos.REWARD)
        self.node.create_subscription(DiagnosticArray, "diagnostics", self._on_report, qos.DIAGNOSTICS)
        self._seen = _Seen()

    def measure(self, folder: Path, task: TaskSpec, count: int) -> _Seen:
        """Start the node, show it the warm-up and `count` images at their times, stop it."""
        sizes, crops = (f"task.{name}:={list(getattr(task, name))}" for name in ("camera_sizes", "crops"))
        cameras = f"task.cameras:=[{','.join(task.cameras)}]"
        turns = f"task.rotations_deg:={list(task.rotations_deg)}"
        words = (f"artifact:={folder}", cameras, sizes, crops, turns)
        seen = self._seen
        with running(node_command("reward_classifier_node", "reward_classifier_node", *words)) as process:
            self.until(
                lambda: all(item.get_subscription_count() for item in self._cameras.values()), "the node's subscriptions"
            )
            self.until(lambda: self._rewards.get_publisher_count() and seen.reports, "the node's reports")
            watched = psutil.Process(process.pid)
            before, start = watched.cpu_times(), time.monotonic()
            for number in range(1, _WARM_UP + count + 1):
                self._wait(start + number / _FPS)
                self._show(number)
            after, end, reports = watched.cpu_times(), time.monotonic(), seen.reports
            self.until(lambda: seen.reports >= reports + 2, "the node's last report")
        seen.cpu_percent = 100 * (after.user + after.system - before.user - before.system) / (end - start)
        if not seen.latencies_ms():
            raise PeerError("the node answered no image")
        return seen

    def _wait(self, due_s: float) -> None:
        """Take rewards until it is time."""
        while (left_s := due_s - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left_s)
        self._seen.late_s = max(self._seen.late_s, -left_s)

    def _show(self, number: int) -> None:
        messages = []
        for camera, payloads in self._payloads.items():
            payload = bytearray(payloads[number % _PICTURES])
            struct.pack_into("<i", payload, 4, number)
            messages.append((self._cameras[camera], bytes(payload)))
        self._seen.sent_s[number] = time.monotonic()
        for publisher, payload in messages:
            publisher.publish(payload)

    def _on_reward(self, message: Reward) -> None:
        number = message.header.stamp.sec
        self._seen.answered_s[number], self._seen.probability[number] = time.monotonic(), message.probability

    def _on_report(self, message: DiagnosticArray) -> None:
        self._seen.report = {item.key: item.value for item in message.status[0].values}
        self._seen.reports += 1


def _lerobot(
    folder: Path, task: TaskSpec, pictures: Mapping[str, list[np.ndarray]], count: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of LeRobot's judgement of `count` images behind the warm-up, at their times; the pictures' probabilities."""
    torch.set_num_threads(1)  # as the node
    model = LeRobotClassifier.from_pretrained(folder)
    preprocessor = PolicyProcessorPipeline.from_pretrained(folder, config_filename="classifier_preprocessor.json")

    def batch(number: int) -> dict[str, Any]:
        images = zip(task.image_keys, pictures.values(), strict=True)
        tensors = {
            key: torch.from_numpy(frames[number % _PICTURES]).permute(2, 0, 1)[None].float() / 255 for key, frames in images
        }
        return preprocessor(tensors)

    milliseconds, start = [], time.monotonic()
    with torch.inference_mode():
        for number in range(_WARM_UP + count):
            time.sleep(max(start + number / _FPS - time.monotonic(), 0.0))
            begin = time.perf_counter()
            float(model.predict_reward(batch(number)))
            milliseconds.append(1e3 * (time.perf_counter() - begin))
        probabilities = [
            float(model.predict([batch(n)[key] for key in task.image_keys]).probabilities) for n in range(_PICTURES)
        ]
    return milliseconds[_WARM_UP:], probabilities
