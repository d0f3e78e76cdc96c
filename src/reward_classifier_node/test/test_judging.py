# SPDX-License-Identifier: Apache-2.0
"""The thread that judges: which frames it takes, in which order, and that nothing makes it stop."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from classifier_fixtures import TASK, TWO_CAMERAS, make_classifier, make_frames

from reward_classifier_node.artifact import Artifact
from reward_classifier_node.decision import Rule, decide
from reward_classifier_node.errors import ClassifierError, DataError
from reward_classifier_node.judging import Frame, Judging, Verdict, chosen_device, made_ready
from reward_classifier_node.picture import picture

TIMEOUT_S = 20.0
FRAMES = make_frames(2).images


class Desk:
    """Hands over frames by their number and collects verdicts; `gate` holds the reader up."""

    def __init__(self, newest_only: bool = False, threshold: float = 0.0) -> None:
        self.verdicts: list[Verdict] = []
        self.complaints: list[str] = []
        self.gate, self.reading = threading.Event(), threading.Event()
        self.gate.set()
        artifact = made_ready(Artifact(make_classifier(), threshold, {}, TASK, "a 0123"), "cpu")
        self.judging = Judging(
            artifact, Rule, self._read, self.verdicts.append, self.complaints.append, newest_only=newest_only
        )  # fmt: skip
        self.judging.start()

    def _read(self, parts: dict) -> tuple[np.ndarray, None]:
        self.reading.set()
        assert self.gate.wait(TIMEOUT_S)
        if parts["wrist"] is None:
            raise DataError("an image of wrist cannot be judged")
        return FRAMES[parts["wrist"]], None

    def put(self, number: int | None, stamp_ns: int | None = None) -> None:
        self.judging.put(Frame(number if stamp_ns is None else stamp_ns, {"wrist": number}, 0.0))

    def end(self) -> list[Verdict]:
        """Everything handed over is judged."""
        done = threading.Event()
        self.judging._do(done.set)
        assert done.wait(TIMEOUT_S) and self.judging.failure is None
        self.judging.stop()
        return self.verdicts


def test_in_lockstep_every_frame_is_judged_in_order_as_recorded_frames_are():
    desk = Desk()
    for number in range(16):
        desk.put(number)
    found = desk.end()
    assert [verdict.stamp_ns for verdict in found] == [*range(16)]
    expected = make_classifier().probabilities(FRAMES)
    np.testing.assert_allclose([verdict.probability for verdict in found], expected, atol=1e-5)
    assert [verdict.success for verdict in found] == decide(expected, Rule(0.0)).tolist()
    assert [verdict.reward for verdict in found] == [float(verdict.success) for verdict in found]
    assert (desk.judging.judged, desk.judging.skipped) == (16, 0)


def test_in_real_time_the_newest_frame_counts_and_what_it_overtakes_is_counted():
    desk = Desk(newest_only=True)
    desk.gate.clear()
    desk.put(0)
    assert desk.reading.wait(TIMEOUT_S)
    for number in (1, 2, 3):
        desk.put(number)
    desk.gate.set()
    assert [verdict.stamp_ns for verdict in desk.end()] == [0, 3]
    assert (desk.judging.judged, desk.judging.skipped) == (2, 2)


def test_a_restart_counts_in_its_turn_even_where_frames_are_skipped():
    desk = Desk(newest_only=True)
    for number in (0, 1, 2):
        desk.put(number)
        while desk.judging.judged <= number:
            assert desk.judging.failure is None
    desk.gate.clear()
    desk.reading.clear()
    desk.put(3)
    assert desk.reading.wait(TIMEOUT_S)
    desk.put(4)
    desk.judging.restart()
    desk.put(5)
    desk.gate.set()
    assert [(verdict.stamp_ns, verdict.success) for verdict in desk.end()] == [
        (0, False), (1, False), (2, True), (3, True), (5, False),
    ]  # fmt: skip


def test_a_frame_that_cannot_be_read_is_said_and_breaks_the_row():
    desk = Desk()
    for number in (0, 1, None, 2, 3, 4):
        desk.put(number, 0)
    assert [verdict.success for verdict in desk.end()] == [False, False, False, False, True]
    assert desk.complaints == ["an image of wrist cannot be judged"] and desk.judging.refused == 1


def test_another_classifier_takes_over_between_two_frames_and_has_to_see_for_itself():
    desk = Desk()
    other = made_ready(Artifact(make_classifier(seed=1), 0.0, {}, TASK, "b 4567"), "cpu")
    for number in range(4):
        desk.put(number)
    desk.judging.use(other)
    for number in range(4, 8):
        desk.put(number)
    found = desk.end()
    assert [verdict.artifact for verdict in found] == ["a 0123"] * 4 + ["b 4567"] * 4
    assert [verdict.success for verdict in found] == [False, False, True, True] * 2
    np.testing.assert_allclose(found[5].probability, make_classifier(seed=1).probabilities(FRAMES[5:6])[0], atol=1e-5)


def test_a_defect_is_not_swallowed():
    desk = Desk()
    desk.put(99)
    desk.judging._thread.join(TIMEOUT_S)
    assert isinstance(desk.judging.failure, IndexError)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert chosen_device("auto") == chosen_device("cpu") == "cpu"
    with pytest.raises(ClassifierError, match="no usable GPU"):
        chosen_device("cuda")


def test_the_picture_shows_every_camera_and_tells_success_by_colour():
    images = make_frames(1, task=TWO_CAMERAS).images[0]
    verdict = Verdict(0, 0.9, True, 1.0, "a", images)
    shown = picture(verdict)
    assert shown.shape == (280, 512, 3) and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[:256:2, :256:2], images[0])
    np.testing.assert_array_equal(shown[:256:2, 256::2], images[1])
    assert (shown[270, 500] != picture(replace(verdict, success=False))[270, 500]).any()
