# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from rclpy.logging import get_logger

from dataset_recorder.episodes import LAG_S, LOST_S, REST_S, RETRY_S, STEPS_S, Episode, EpisodeBags
from dataset_recorder.errors import RecordingError
from dataset_recorder.receipts import Receipts
from dataset_recorder.recording import LogTimes


class _Bag:
    def __init__(self, episode):
        self.folder, self.failure, self.dropped, self.state = Path("bags") / episode.path, None, 0, "open"
        self.messages, self.kept = [], 0

    @property
    def taken(self):
        return len(self.messages)

    def put(self, topic, stamp_ns, data):
        assert self.state == "open"
        self.messages.append((topic, stamp_ns, data))
        return True

    def close(self):
        self.state = "closed"
        if self.failure is not None:
            raise self.failure
        self.kept = len(self.messages)
        return self.kept

    def discard(self):
        self.state = "discarded"


class _Rig:
    def __init__(self, receipts=None):
        self.made, self.said, self.complaints = {}, [], []
        self.bags = EpisodeBags(self.open, self.said.append, self.complaints.append, receipts, tick_ns=100)

    def open(self, episode):
        if episode in self.made:
            raise RecordingError(f"{episode.path} exists already")
        self.made[episode] = _Bag(episode)
        return self.made[episode]


ONE, TWO = Episode("run", 1), Episode("run", 2)


@pytest.fixture
def rig():
    return _Rig()


def test_a_bag_begins_with_what_came_last_before_it(rig):
    rig.bags.put("tf_static", 1, b"old")
    rig.bags.put("tf_static", 2, b"new")
    rig.bags.put("joint_states", 3, b"joints")
    rig.bags.begin(ONE, 0.0)
    rig.bags.put("joint_states", 4, b"next")
    assert rig.made[ONE].messages == [("tf_static", 2, b"new"), ("joint_states", 3, b"joints"), ("joint_states", 4, b"next")]


def test_steps_that_come_late_reach_their_episode_though_others_have_begun(rig):
    rig.bags.awaits_steps = True
    rig.bags.begin(ONE, 0.0)
    rig.bags.begin(TWO, 1.0)
    rig.bags.put("joint_states", 1, b"on its way")
    rig.bags.tick(1.0 + LAG_S)
    rig.bags.put("joint_states", 2, b"of the second")
    rig.bags.tick(60.0)
    rig.bags.put_step("steps", 3, b"step", ONE, 0, is_last=False, now_s=60.0)
    rig.bags.put_step("steps", 4, b"last", ONE, 1, is_last=True, now_s=60.1)
    rig.bags.put_step("steps", 5, b"first", TWO, 0, is_last=False, now_s=60.1)
    rig.bags.tick(60.2)
    assert rig.made[ONE].state == "closed" and rig.bags.closed == 1 and rig.bags.current == TWO and not rig.complaints
    assert [message[2] for message in rig.made[ONE].messages] == [b"on its way", b"step", b"last"]
    assert [message[2] for message in rig.made[TWO].messages] == [b"on its way", b"of the second", b"first"]


def test_a_recorder_that_lags_takes_what_goes_with_the_last_step(rig):
    rig.bags.awaits_steps = True
    rig.bags.begin(ONE, 0.0)
    rig.bags.end(1.0)  # a status overtakes what waits in deeper queues
    rig.bags.tick(3.0)
    rig.bags.put("truth", 1, b"of the last frame")
    rig.bags.put_step("steps", 2, b"last", ONE, 0, is_last=True, now_s=3.0)
    rig.bags.tick(3.0 + 0.9 * REST_S)
    rig.bags.put("reward", 3, b"of the last frame")
    rig.bags.tick(3.0 + REST_S)
    assert rig.made[ONE].state == "closed"
    assert [message[0] for message in rig.made[ONE].messages] == ["truth", "steps", "reward"]


def test_what_comes_late_on_an_awaited_topic_belongs_to_its_episode(rig):
    """DDS sends again what was lost, some seconds later, and until then nothing else of that topic."""
    rig.bags.awaits_steps, rig.bags.awaited = True, {"truth"}
    rig.bags.begin(ONE, 0.0)
    rig.bags.put("truth", 1, b"of frame 0", instant_ns=100)
    rig.bags.end(1.0)
    rig.bags.put_step("steps", 2, b"last", ONE, 0, is_last=True, now_s=1.0, instant_ns=200)
    rig.bags.tick(3.0)
    assert rig.made[ONE].state == "open"
    rig.bags.put("truth", 3, b"of frame 1", instant_ns=200)
    rig.bags.tick(3.1)
    assert rig.made[ONE].state == "closed"
    assert [message[2] for message in rig.made[ONE].messages] == [b"of frame 0", b"last", b"of frame 1"]


def test_what_came_before_word_of_its_episode_is_in_its_bag(rig):
    rig.bags.awaited = {"truth"}
    for instant_ns in (100, 200, 300):
        rig.bags.put("truth", instant_ns, b"%d" % instant_ns, instant_ns=instant_ns)
    rig.bags.begin(ONE, 0.0, instant_ns=200)
    assert [message[2] for message in rig.made[ONE].messages] == [b"200", b"300", b"300"]  # the newest opens every bag


def test_word_of_an_episode_may_come_many_ticks_late(rig):
    """A simulation does not wait for a recorder that is starved for some seconds."""
    rig.bags.awaited = {"truth"}
    for tick in range(2000):
        rig.bags.put("truth", tick, b"%d" % tick, instant_ns=tick)
    rig.bags.begin(ONE, 0.0, instant_ns=1000)
    assert [int(message[2]) for message in rig.made[ONE].messages] == [*range(1000, 2000), 1999]


def test_what_came_before_time_began_anew_is_forgotten(rig):
    rig.bags.awaited = {"truth"}
    rig.bags.put("truth", 900, b"old", instant_ns=900)
    rig.bags.put("truth", 901, b"new", instant_ns=100)
    rig.bags.begin(ONE, 0.0, instant_ns=0)
    assert [message[2] for message in rig.made[ONE].messages] == [b"new", b"new"]


def test_a_stamp_of_years_ahead_closes_no_bag_early_and_forgets_nothing(rig):
    """Before, the bag was closed without its last frame, and what came before word of its episode was forgotten."""
    rig.bags.awaits_steps, rig.bags.awaited = True, {"truth"}
    rig.bags.put("truth", 1, b"of frame 0", instant_ns=100)
    rig.bags.put("truth", 2, b"years ahead", instant_ns=10**18)
    rig.bags.put("truth", 3, b"of frame 1", instant_ns=200)
    rig.bags.begin(ONE, 0.0, instant_ns=100)
    rig.bags.end(1.0)
    rig.bags.put_step("steps", 4, b"last", ONE, 0, is_last=True, now_s=1.0, instant_ns=400)
    rig.bags.put("truth", 5, b"years ahead", instant_ns=10**18)
    rig.bags.tick(1.0 + 2 * REST_S)
    assert rig.made[ONE].state == "open"
    rig.bags.put("truth", 6, b"of frame 3", instant_ns=400)
    rig.bags.tick(1.0 + 2 * REST_S)
    assert rig.made[ONE].state == "closed"
    assert [message[2] for message in rig.made[ONE].messages] == [
        b"of frame 0", b"of frame 1", b"of frame 1", b"last", b"years ahead", b"of frame 3",
    ]  # fmt: skip


def test_how_an_episode_ended_is_waited_for_and_in_its_own_bag_alone(rig):
    rig.bags.awaits_steps = rig.bags.awaits_results = True
    rig.bags.begin(ONE, 0.0)
    rig.bags.put_step("steps", 1, b"last", ONE, 0, is_last=True, now_s=1.0)
    rig.bags.put_result("episode/result", 2, b"of the second", TWO)
    rig.bags.begin(TWO, 1.0)
    rig.bags.tick(1.0 + 2 * REST_S)
    assert rig.made[ONE].state == "open"
    rig.bags.put_result("episode/result", 3, b"of the first", ONE)
    rig.bags.tick(1.0 + 2 * REST_S)
    assert rig.made[ONE].state == "closed"
    assert [message[2] for message in rig.made[ONE].messages] == [b"last", b"of the first"]
    assert [message[2] for message in rig.made[TWO].messages] == [b"of the second"], "it came before its bag"


def test_log_times_stay_in_order_when_the_clock_is_set_back():
    times = LogTimes()
    hour_ns = 3_600_000_000_000
    found = [times(now) - hour_ns for now in (hour_ns, hour_ns + 5, 7, 9, 8, 10)]
    assert found == [0, 5, 5, 7, 7, 9]


def test_an_awaited_topic_that_stopped_is_not_waited_for_long(rig):
    rig.bags.awaits_steps, rig.bags.awaited = True, {"truth"}
    rig.bags.begin(ONE, 0.0)
    rig.bags.end(1.0)
    rig.bags.put_step("steps", 2, b"last", ONE, 0, is_last=True, now_s=1.0, instant_ns=200)
    rig.bags.tick(1.0 + 0.9 * LAG_S)
    assert rig.made[ONE].state == "open"
    rig.bags.tick(1.0 + LAG_S)
    assert rig.made[ONE].state == "closed"


def test_an_end_that_is_heard_of_after_the_last_step_closes_too(rig):
    rig.bags.awaits_steps = True
    rig.bags.begin(ONE, 0.0)
    rig.bags.put_step("steps", 1, b"last", ONE, 0, is_last=True, now_s=0.5)
    rig.bags.tick(0.6)
    assert rig.made[ONE].state == "open"
    rig.bags.end(0.7)
    rig.bags.tick(0.7 + REST_S)
    assert rig.made[ONE].state == "closed"


def test_a_last_step_that_never_comes_is_said(rig):
    rig.bags.awaits_steps = True
    rig.bags.begin(ONE, 0.0)
    rig.bags.end(5.0)
    rig.bags.tick(5.0 + 0.9 * STEPS_S)
    assert rig.made[ONE].state == "open"
    rig.bags.tick(5.0 + STEPS_S)
    assert rig.made[ONE].state == "closed" and "lacks its last steps" in rig.complaints[0]


def test_a_step_lost_on_the_way_is_waited_for_and_then_said(rig):
    rig.bags.awaits_steps = True
    for episode, repaired in ((ONE, True), (TWO, False)):
        rig.bags.begin(episode, 0.0)
        rig.bags.put_step("steps", 1, b"0", episode, 0, is_last=False, now_s=0.0)
        rig.bags.put_step("steps", 3, b"2", episode, 2, is_last=True, now_s=1.0)
        rig.bags.end(1.0)
        rig.bags.tick(1.0 + 0.9 * LOST_S)
        assert rig.made[episode].state == "open"
        if repaired:
            rig.bags.put_step("steps", 2, b"1", episode, 1, is_last=False, now_s=10.0)
        rig.bags.tick(1.0 + (0.95 if repaired else 1.0) * LOST_S)
        assert rig.made[episode].state == "closed"
    assert len(rig.complaints) == 1 and "lacks 1 of its steps" in rig.complaints[0]


def test_a_bag_without_steps_waits_only_for_what_is_on_its_way(rig):
    rig.bags.begin(ONE, 0.0)
    rig.bags.end(5.0)
    rig.bags.tick(5.0 + REST_S)
    assert rig.made[ONE].state == "closed" and not rig.complaints


def test_saying_twice_that_an_episode_runs_opens_one_bag(rig):
    assert rig.bags.begin(ONE, 0.0) and rig.bags.begin(ONE, 0.1) and len(rig.made) == 1


def test_a_discarded_episode_leaves_nothing_and_can_be_recorded_again(rig):
    rig.bags.begin(ONE, 0.0)
    assert rig.bags.discard() and rig.made[ONE].state == "discarded" and not rig.bags.discard()
    del rig.made[ONE]
    assert rig.bags.begin(ONE, 1.0)


def test_an_episode_that_goes_on_keeps_its_bag(rig):
    rig.bags.begin(ONE, 0.0)
    rig.bags.end(1.0)
    assert rig.bags.begin(ONE, 1.1) and not rig.complaints
    rig.bags.tick(1.0 + REST_S)
    assert rig.made[ONE].state == "open" and rig.bags.current == ONE


def test_a_bag_that_cannot_be_opened_is_said_once_and_the_next_is_tried(rig):
    rig.made[ONE] = None
    assert not rig.bags.begin(ONE, 0.0) and not rig.bags.begin(ONE, 0.1) and len(rig.complaints) == 1
    assert rig.bags.begin(TWO, 1.0)


def test_a_full_disk_ends_the_bag_with_its_reason(rig):
    rig.bags.begin(ONE, 0.0)
    rig.made[ONE].failure = RecordingError("no space left")
    rig.bags.tick(0.1)
    assert rig.bags.current is None and rig.complaints == ["no space left"] and rig.made[ONE].state == "closed"


def test_messages_lost_for_speed_are_complained_about(rig):
    rig.bags.begin(ONE, 0.0)
    rig.made[ONE].dropped = 3
    rig.bags.close()
    assert "3 messages came faster than they could be written" in rig.complaints[0]


def _step(rig, episode, index, sequence, is_last=False, now_s=0.0):
    rig.bags.put_step("steps", sequence, b"%d" % sequence, episode, index, is_last, now_s, sequence)


def _answer(receipts):
    found = receipts.acknowledgement()
    return None if found is None else (found.received_through, list(found.missing))


@pytest.fixture
def acknowledging(tmp_path):
    receipts = Receipts(tmp_path)
    rig = _Rig(receipts)
    rig.bags.awaits_steps = True
    return rig, receipts


def test_a_step_is_acknowledged_once_a_kill_would_not_lose_it(acknowledging):
    rig, receipts = acknowledging
    rig.bags.begin(ONE, 0.0)
    for index in range(3):
        _step(rig, ONE, index, index + 1)
    _step(rig, ONE, 1, 2)
    rig.bags.tick(0.1)
    assert _answer(receipts) is None
    rig.made[ONE].kept = 2
    rig.bags.tick(0.2)
    _step(rig, ONE, 0, 1)
    assert _answer(receipts) == (2, [])
    assert [message[1] for message in rig.made[ONE].messages] == [1, 2, 3]


def test_what_lacks_is_asked_for_and_what_waits_for_the_disk_is_not(acknowledging):
    rig, receipts = acknowledging
    rig.bags.begin(ONE, 0.0)
    for sequence in (1, 3, 5):
        _step(rig, ONE, sequence - 1, sequence)
    rig.made[ONE].kept = 1
    rig.bags.tick(0.1)
    assert _answer(receipts) == (1, [2, 4])


def test_a_bag_that_fails_gives_back_what_it_had_not_kept(acknowledging):
    rig, receipts = acknowledging
    rig.bags.begin(ONE, 0.0)
    for index in range(3):
        _step(rig, ONE, index, index + 1)
    rig.made[ONE].kept, rig.made[ONE].failure = 1, RecordingError("no space left")
    rig.bags.tick(0.1)
    assert _answer(receipts) == (1, []) and rig.complaints == ["no space left"]
    failed = rig.made.pop(ONE)
    _step(rig, ONE, 1, 2, now_s=1.0)
    assert not rig.made and len(rig.complaints) == 1
    _step(rig, ONE, 1, 2, now_s=0.1 + RETRY_S)
    _step(rig, ONE, 2, 3, is_last=True, now_s=0.1 + RETRY_S)
    rig.bags.tick(20.0 + RETRY_S)
    assert rig.made[ONE].state == "closed" and _answer(receipts) == (3, []) and len(rig.complaints) == 1
    assert [message[1] for message in failed.messages + rig.made[ONE].messages] == [1, 2, 3, 2, 3]


def test_a_step_that_comes_after_its_bag_was_closed_gets_another_one(acknowledging):
    rig, receipts = acknowledging
    rig.bags.begin(ONE, 0.0)
    _step(rig, ONE, 0, 1)
    rig.bags.end(1.0)
    rig.bags.tick(1.0 + STEPS_S)
    del rig.made[ONE]
    _step(rig, ONE, 1, 2, is_last=True, now_s=2.0 + STEPS_S)
    rig.bags.tick(3.0 + STEPS_S)
    assert rig.made[ONE].state == "closed" and len(rig.made[ONE].messages) == 1 and _answer(receipts) == (2, [])


def test_a_recorder_started_anew_knows_what_it_had_acknowledged(acknowledging, tmp_path):
    rig, receipts = acknowledging
    rig.bags.begin(ONE, 0.0)
    for index in range(2):
        _step(rig, ONE, index, index + 1)
    rig.bags.close()
    assert _answer(receipts) == (2, [])
    again = Receipts(tmp_path)
    assert not again.is_new("run", 2) and again.is_new("run", 3) and _answer(again) == (2, [])


def test_steps_that_somebody_else_acknowledged_are_never_acknowledged_away(tmp_path):
    receipts = Receipts(tmp_path)
    assert receipts.is_new("run", 501)
    receipts.keep("run", 501)
    assert _answer(receipts) is None and receipts.begins_late == ("run", 501)


def test_a_bag_that_lost_messages_is_told_of_by_the_same_logger_as_one_that_lost_none():
    log, made = get_logger("bags"), {}
    bags = EpisodeBags(lambda episode: made.setdefault(episode, _Bag(episode)), log.info, log.error)
    for episode, lost in ((ONE, 0), (TWO, 3)):
        bags.begin(episode, 0.0)
        bags.miss(lost)
        bags.close()
    assert [bag.state for bag in made.values()] == ["closed", "closed"]


def test_a_bag_that_a_step_opens_holds_what_came_before_it_too(acknowledging):
    rig, _ = acknowledging
    rig.bags.awaited = {"truth"}
    for instant_ns in (100, 200, 300):
        rig.bags.put("truth", instant_ns, b"%d" % instant_ns, instant_ns=instant_ns)
    rig.bags.put_step("steps", 4, b"step", ONE, 1, is_last=False, now_s=0.0, sequence=2, instant_ns=300)
    assert [message[2] for message in rig.made[ONE].messages] == [b"200", b"300", b"step"]


def test_an_episode_that_the_actor_was_stopped_in_does_not_keep_its_bag_open(acknowledging):
    """The last step never comes: `reach-grasp record`, started again after Ctrl-C, waited ten minutes for that bag."""
    rig, _ = acknowledging
    rig.bags.begin(ONE, 0.0)
    _step(rig, ONE, 0, 1)
    rig.bags.begin(TWO, 1.0)
    _step(rig, TWO, 0, 3, now_s=1.0)
    rig.bags.tick(20.0)
    assert rig.made[ONE].state == "open"  # its second step may still come
    _step(rig, ONE, 1, 2, now_s=20.0)
    rig.bags.tick(21.0)
    assert rig.made[ONE].state == "closed" and rig.made[TWO].state == "open" and rig.complaints == []
