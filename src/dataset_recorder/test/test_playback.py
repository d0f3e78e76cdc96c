# SPDX-License-Identifier: Apache-2.0
"""Frame by frame: what is waited for, what is shown again, and when it gives up."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from dataset_recorder import playback
from dataset_recorder.errors import PlaybackError
from dataset_recorder.playback import Playback
from dataset_recorder.tape import Moment

IMAGE, JOINTS, STATE = ("image", b"i"), ("joints", b"j"), ("state", b"s")
TIMEOUT_S = 20.0


class _Rig:
    """A classifier that answers as `answer(playback, stamp, times shown)` does."""

    def __init__(self, moments, answer=lambda playback, stamp, shown: playback.hear(stamp, "reward"), rate=0.0, absent=False):
        tape = SimpleNamespace(path="bag", moments=lambda: iter(moments), frames=[moment.stamp_ns for moment in moments])
        self.log, self.complaints, self.ready = [], [], threading.Event()
        self.answer, self.stamp, self.absent = answer, 0, absent
        call = self.publish, self.tell_time, self.settle, self.complaints.append
        self.playback = Playback(tape, rate, frozenset({"image", "joints"}), *call)
        self.ready.set()

    def tell_time(self, stamp_ns):
        self.ready.wait(TIMEOUT_S)
        self.stamp = stamp_ns

    def publish(self, messages):
        names = [name for name, _ in messages]
        self.log += [(self.stamp, name) for name in names]
        if {"image", "joints"} <= set(names):
            self.answer(self.playback, self.stamp, self.log.count((self.stamp, "image")))

    def settle(self, then):
        self.log.append("settled")
        if not self.absent:
            then()

    def end(self):
        self.playback._thread.join(TIMEOUT_S)
        assert not self.playback._thread.is_alive()
        return self.log


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(playback, "REPEAT_S", 0.05)
    monkeypatch.setattr(playback, "GIVE_UP_S", 0.3)
    monkeypatch.setattr(playback, "LAST_S", 0.05)


def test_a_state_follows_its_images_and_is_taken_in_before_the_next():
    rig = _Rig([Moment(1, [IMAGE, JOINTS], [STATE]), Moment(2, [IMAGE, JOINTS])])
    assert rig.end() == [(1, "image"), (1, "joints"), "settled", (1, "state"), "settled", (2, "image"), (2, "joints")]
    assert rig.playback.done and rig.playback.rewards == {1: "reward", 2: "reward"} and rig.playback.played == 2


def test_a_frame_that_lacks_a_part_is_not_waited_for():
    rig = _Rig([Moment(1, [IMAGE]), Moment(2, [IMAGE, JOINTS]), Moment(3, [JOINTS])])
    assert rig.end() == [(1, "image"), (2, "image"), (2, "joints"), (3, "joints")]
    assert rig.playback.done and not rig.complaints


def test_a_frame_or_reward_that_was_lost_is_shown_again():
    rig = _Rig([Moment(1, [IMAGE, JOINTS])], lambda playback, stamp, shown: shown == 3 and playback.hear(stamp, "reward"))
    assert rig.end().count((1, "image")) == 3 and rig.playback.done


def test_one_frame_that_gets_no_reward_is_said_and_passed_over():
    rig = _Rig(
        [Moment(stamp, [IMAGE, JOINTS]) for stamp in (1, 2, 3)],
        lambda playback, stamp, shown: stamp != 2 and playback.hear(stamp, "reward"),
    )
    rig.end()
    assert rig.playback.done and sorted(rig.playback.rewards) == [1, 3]
    assert rig.complaints == ["nothing is said of the frame of 0.000 s in bag"]


def test_silence_from_the_first_frame_on_is_a_failure():
    rig = _Rig([Moment(1, [IMAGE, JOINTS]), Moment(2, [IMAGE, JOINTS])], lambda *_: None)
    rig.end()
    assert isinstance(rig.playback.failure, PlaybackError) and "see what the classifier logs" in str(rig.playback.failure)
    assert not rig.playback.done


def test_a_classifier_that_takes_nothing_in_is_a_failure():
    rig = _Rig([Moment(1, [IMAGE, JOINTS], [STATE])], absent=True)
    assert rig.end()[-1] == "settled"
    assert "the classifier has not answered for" in str(rig.playback.failure)


def test_a_bag_without_a_whole_frame_cannot_be_played_frame_by_frame():
    moments = [Moment(1, [IMAGE]), Moment(2, [JOINTS])]
    rig = _Rig(moments)
    rig.end()
    assert "no frame in bag is whole, as no image and joints carry the same stamp: replay at a rate of 1" in str(
        rig.playback.failure
    )
    rig = _Rig(moments, rate=100.0)
    assert rig.end() == [(1, "image"), (2, "joints")] and rig.playback.done


def test_it_can_be_stopped_while_it_waits():
    shown = threading.Event()
    rig = _Rig([Moment(1, [IMAGE, JOINTS]), Moment(2, [IMAGE, JOINTS])], lambda *_: shown.set())
    assert shown.wait(TIMEOUT_S)
    rig.playback.stop()
    assert not rig.playback.done and rig.playback.failure is None and (2, "image") not in rig.log
