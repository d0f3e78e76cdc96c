# SPDX-License-Identifier: Apache-2.0
"""Which bytes count as an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from so101_driver.answers import Answers, Fault


def packet(servo: int, data: bytes, status: int = 0) -> bytes:
    body = bytes((servo, len(data) + 2, status)) + data
    return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


THREE = {servo: bytes((servo, 0xFF, 0xFF, 0)) for servo in (1, 2, 3)}
STREAM = [packet(servo, data) for servo, data in THREE.items()]


def read(stream: bytes, piece: int = 1000) -> Answers:
    answers = Answers([1, 2, 3], 4)
    for start in range(0, len(stream), piece):
        answers.feed(stream[start : start + piece])
    answers.finish()
    return answers


@given(st.integers(1, 40), st.integers(0, 63))
def test_good_answers_are_found_however_they_are_cut_and_whatever_their_status(piece, status):
    answers = read(b"".join(packet(servo, data, status) for servo, data in THREE.items()), piece)
    assert answers.found == THREE and not answers.faults and answers.complete


@given(st.integers(0, 29), st.integers(1, 255), st.integers(1, 40))
def test_a_corrupted_byte_costs_one_answer_and_is_counted_once(place, flip, piece):
    stream = bytearray(b"".join(STREAM))
    stream[place] ^= flip
    answers = read(bytes(stream), piece)
    hit = place // 10 + 1
    assert answers.found == {servo: data for servo, data in THREE.items() if servo != hit}
    assert list(answers.faults) == [hit]


@given(st.integers(0, 2), st.integers(1, 9), st.integers(1, 40))
def test_a_cut_answer_costs_no_other_one(which, left, piece):
    stream = b"".join(item[:left] if index == which else item for index, item in enumerate(STREAM))
    answers = read(stream, piece)
    assert answers.found == {servo: data for servo, data in THREE.items() if servo != which + 1}
    assert list(answers.faults) == [which + 1]


@given(st.binary(max_size=60), st.integers(1, 40))
def test_noise_never_raises_and_every_servo_is_accounted_for(noise, piece):
    answers = read(noise, piece)
    assert set(answers.found) | set(answers.faults) == {1, 2, 3}
    assert not set(answers.found) & set(answers.faults)


@pytest.mark.parametrize(
    ("stream", "faults"),
    [
        ([STREAM[0], STREAM[2]], {2: Fault.NO_ANSWER}),
        ([], {1: Fault.NO_ANSWER, 2: Fault.NO_ANSWER, 3: Fault.NO_ANSWER}),
        ([STREAM[0], packet(9, THREE[2]), STREAM[2]], {2: Fault.WRONG_ID}),
        ([STREAM[0], packet(2, b"\1\2"), STREAM[2]], {2: Fault.LENGTH}),
        ([STREAM[0], STREAM[1][:-1] + b"\0", STREAM[2]], {2: Fault.CHECKSUM}),
        ([STREAM[0], STREAM[1][:6], STREAM[2]], {2: Fault.SHORT}),
        ([STREAM[0], STREAM[1], STREAM[2][:6]], {3: Fault.SHORT}),
    ],
)
def test_faults_are_told_apart(stream, faults):
    assert read(b"".join(stream)).faults == faults


def test_a_late_answer_to_another_question_is_none_to_this_one():
    late = packet(1, bytes(5)) + packet(2, bytes(5)) + packet(3, bytes(5))
    assert not read(late).found
    assert read(late + b"".join(STREAM)).found == THREE


READ = b"\xff\xff\x01\x04\x02\x03\x02\xf3"  # two bytes from address 3, whose echo looks like an answer of two bytes


@given(st.integers(1, 20), st.binary(max_size=5))
def test_an_echo_of_the_question_is_passed_over_however_it_is_cut_and_whatever_stands_before_it(piece, noise):
    answers, stream = Answers([1], 2, READ), noise + READ + packet(1, b"\x09\x03", 32)
    for start in range(0, len(stream), piece):
        answers.feed(stream[start : start + piece])
    answers.finish()
    assert answers.found == {1: b"\x09\x03"} and answers.statuses == {1: 32} and answers.echoed


@pytest.mark.parametrize("come", [len(READ), 5])
def test_an_echo_alone_is_no_answer(come):
    answers = Answers([1], 2, READ)
    answers.feed(READ[:come])
    answers.finish()
    assert not answers.found and list(answers.faults) == [1]


def test_an_adapter_known_not_to_echo_may_answer_what_was_asked():
    answers = Answers([1], 2)
    answers.feed(READ)
    assert answers.found == {1: b"\x03\x02"} and not answers.echoed


def test_a_late_answer_does_not_end_the_wait_for_the_right_one():
    answers = Answers([1], 0)
    answers.feed(packet(6, b""))
    assert not answers.complete
    answers.feed(packet(1, b""))
    assert answers.complete and answers.found == {1: b""}
