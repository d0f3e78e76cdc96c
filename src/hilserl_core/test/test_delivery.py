# SPDX-License-Identifier: Apache-2.0
"""Every step arrives exactly once and in order, whatever the link and the processes do."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilserl_core.delivery import DeliveryError, Inbox, Outbox
from hilserl_core.step_log import StepLog

RUN = "run"


def _payload(sequence: int) -> bytes:
    return b"step %d" % sequence


class _Learner:
    def __init__(self, folder):
        self.journal = StepLog(folder)
        self.inbox = Inbox(self.journal)
        for _, payload in self.journal.records():
            self.inbox.restore(RUN, int(payload.split()[1]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), loss=st.floats(0.0, 0.6), restarts=st.booleans())
def test_exactly_once_in_order_through_loss_repetition_reordering_and_restarts(tmp_path_factory, seed, loss, restarts):
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("delivery")
    outbox = Outbox(folder / "spool", window=8, resend_s=1.0)
    learner = _Learner(folder / "journal")
    count, now, link = 60, 0.0, []
    for _ in range(5000):
        if outbox.last < count:
            outbox.put(outbox.last + 1, _payload(outbox.last + 1))
        link += outbox.due(now)
        chance.shuffle(link)
        for sequence, payload in link[: chance.randint(0, 6)]:
            if chance.random() >= loss:
                learner.inbox.take(RUN, sequence, payload)
            if chance.random() < 0.2:
                learner.inbox.take(RUN, sequence, payload)
        link = link[6:]
        if chance.random() >= loss:
            outbox.acknowledge(learner.inbox.received_through(RUN), learner.inbox.missing(RUN))
        if restarts and chance.random() < 0.05:
            outbox = Outbox(folder / "spool", window=8, resend_s=1.0)
        if restarts and chance.random() < 0.05:
            learner = _Learner(folder / "journal")
        now += 0.3
        if outbox.acknowledged == count:
            break
    assert outbox.acknowledged == count and outbox.pending == 0
    assert [payload for _, payload in learner.journal.records()] == [_payload(n) for n in range(1, count + 1)]


def test_what_was_acknowledged_is_not_sent_again_after_a_kill(tmp_path):
    outbox = Outbox(tmp_path)
    for sequence in range(1, 8):
        outbox.put(sequence, _payload(sequence))
    outbox.due(0.0)
    outbox.acknowledge(5, [])
    again = Outbox(tmp_path)  # the first was never closed
    assert again.acknowledged == 5 and [sequence for sequence, _ in again.due(0.0)] == [6, 7]


def test_at_most_the_window_is_in_flight(tmp_path):
    outbox = Outbox(tmp_path, window=32)
    for sequence in range(1, 101):
        outbox.put(sequence, _payload(sequence))
    assert [number for number, _ in outbox.due(0.0)] == list(range(1, 33))
    outbox.acknowledge(10, [])
    assert [number for number, _ in outbox.due(0.1)] == list(range(33, 43))


def test_what_is_missing_is_sent_at_once_and_the_rest_only_when_overdue(tmp_path):
    outbox = Outbox(tmp_path, resend_s=1.0)
    for sequence in range(1, 6):
        outbox.put(sequence, _payload(sequence))
    outbox.due(0.0)
    outbox.acknowledge(1, [3])
    assert [number for number, _ in outbox.due(0.1)] == [3]
    assert outbox.due(0.2) == []
    assert [number for number, _ in outbox.due(1.05)] == [2, 4, 5]
    assert outbox.resent == 4


def test_a_receiver_that_is_away_is_asked_ever_less_often_until_it_answers(tmp_path):
    outbox = Outbox(tmp_path, resend_s=1.0)
    outbox.put(1, _payload(1))
    outbox.put(2, _payload(2))
    sent = [tick / 10 for tick in range(400) if outbox.due(tick / 10)]
    assert sent == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0, 31.0, 39.0]
    outbox.acknowledge(1, [])
    assert [number for number, _ in outbox.due(40.0)] == [2], "it is back: the usual time counts again"


def test_unacknowledged_steps_are_sent_after_a_restart_and_numbering_goes_on(tmp_path):
    outbox = Outbox(tmp_path)
    for sequence in range(1, 6):
        outbox.put(sequence, _payload(sequence))
    outbox.due(0.0)
    outbox.acknowledge(2, [])
    again = Outbox(tmp_path)
    assert again.last == 5
    sent = [number for number, _ in again.due(0.0)]
    assert sent[-3:] == [3, 4, 5]
    with pytest.raises(ValueError, match="step 9 after step 5"):
        again.put(9, b"")


def test_numbering_goes_on_when_everything_was_acknowledged_and_deleted(tmp_path):
    outbox = Outbox(tmp_path)
    for sequence in range(1, 1101):
        outbox.put(sequence, b"")
        outbox.due(0.0)
        outbox.acknowledge(sequence, [])
    assert Outbox(tmp_path).last == 1100


def test_a_step_that_cannot_be_journalled_is_not_acknowledged(tmp_path, monkeypatch):
    learner = _Learner(tmp_path)
    learner.inbox.take(RUN, 1, _payload(1))
    append = learner.journal.append

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(learner.journal, "append", full)
    with pytest.raises(OSError, match="disk full"):
        learner.inbox.take(RUN, 2, _payload(2))
    assert learner.inbox.received_through(RUN) == 1
    monkeypatch.setattr(learner.journal, "append", append)
    assert learner.inbox.take(RUN, 2, _payload(2)) == [(2, _payload(2))], "sent again, it is journalled once there is room"
    assert learner.inbox.duplicated == 0


def test_an_actor_with_an_empty_spool_is_another_run(tmp_path):
    learner = _Learner(tmp_path)
    for run in ("first", "second"):
        assert learner.inbox.take(run, 1, _payload(1)) == [(1, _payload(1))]
    assert learner.inbox.duplicated == 0 and len(learner.journal) == 2


def test_a_spool_that_lost_records_is_noticed_and_not_taken_for_repetitions(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.put(1, _payload(1))
    with pytest.raises(DeliveryError, match=r"the learner has step 7 of this run but the spool .* ends at 1"):
        outbox.acknowledge(7, [])


def test_a_learner_that_lost_its_newest_steps_gets_them_again_and_older_ones_are_named(tmp_path):
    outbox = Outbox(tmp_path)
    for sequence in range(1, 1101):
        outbox.put(sequence, _payload(sequence))
        outbox.due(0.0)
        outbox.acknowledge(sequence, [])
    outbox.acknowledge(1090, [])
    assert [number for number, _ in outbox.due(0.1)] == list(range(1091, 1101))
    with pytest.raises(DeliveryError, match=r"the learner lacks steps 4 to 1024 of this run"):
        outbox.acknowledge(3, [])
