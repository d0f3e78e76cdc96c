# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_recorder.labels import COLUMNS, EpisodeLabels, LabelError, LabelTable, read_labels, write_labels

SEED = Path(__file__).parent / "data" / "reward_labels.csv"
HEAD = ",".join(COLUMNS) + "\n"


def table_of(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path)


def test_the_original_table_keeps_1296_of_1498_frames_522_of_them_positive():
    """Of the recording only the total of 1498 frames is known, and that episode 8 (no reset) has 85: how the other 202 frames,
    the resets, spread over the 14 other episodes is made up here. It changes neither count."""
    table = read_labels(SEED)
    assert sorted(table.episodes) == list(range(15))
    resets = dict.fromkeys([e for e in range(15) if e != 8], 14)
    resets[0] += 202 - 14 * 14
    lengths = {e: 85 if e == 8 else table.episodes[e].env_reset_start + resets[e] for e in range(15)}
    assert sum(lengths.values()) == 1498
    table.check_lengths(lengths)
    rewards = {e: labels.rewards(lengths[e]) for e, labels in table.episodes.items()}
    assert sum(len(r) for r in rewards.values()) == sum(labels.kept(lengths[e]).sum() for e, labels in table.episodes.items())
    assert sum(len(r) for r in rewards.values()) == 1296
    assert sum((r == 1).sum() for r in rewards.values()) == 522
    assert sum((r == 0).sum() for r in rewards.values()) == 774


def test_a_failure_range_includes_both_ends_and_the_reset_frames_leave():
    rewards = read_labels(SEED).episodes[4].rewards(140)
    assert len(rewards) == 129
    assert np.flatnonzero(rewards).tolist() == [*range(67, 78), *range(89, 129)]


def test_an_episode_without_success_is_all_zero_and_whole():
    rewards = EpisodeLabels(0).rewards(7)
    assert rewards.tolist() == [0] * 7
    assert rewards.dtype == np.float32


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        ("0,x,9,", "success_start", "'x'"),
        ("0,-1,9,", "success_start", "'-1'"),
        ("0,1.5,9,", "success_start", "'1.5'"),
        ("0,9,9,", "success_start", "'9'"),
        ("0,,0,", "env_reset_start", "'0'"),
        (",3,9,", "episode", "''"),
        ("zero,3,9,", "episode", "'zero'"),
        ("0,3,9,5", "failure_ranges", "'5'"),
        ("0,3,9,6-5", "failure_ranges", "'6-5'"),
        ("0,3,9,5-9", "failure_ranges", "'5-9'"),
        ("0,3,9,5-6;8", "failure_ranges", "'8'"),
    ],
)
def test_a_wrong_value_is_named_with_file_line_and_column(tmp_path, row, column, value):
    with pytest.raises(LabelError) as error:
        table_of(tmp_path, HEAD + "1,2,3,\n" + row + "\n")
    for part in ("labels.csv, line 3", column, value, "allowed: "):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is ''"),
        ("episode,start\n0,1\n", "expected 'episode,success_start,env_reset_start,failure_ranges'"),
        (HEAD, "labels no episode"),
        (HEAD + "0,1,2\n", "line 2 has 3 columns, expected 4"),
        (HEAD + "0,1,2,\n0,1,2,\n", "line 2 has it already"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path, text, message):
    with pytest.raises(LabelError, match=r"labels\.csv") as error:
        table_of(tmp_path, text)
    assert message in str(error.value)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(LabelError, match="No such file"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(HEAD.encode() + b"\xff\xfe,1,2,\n")
    with pytest.raises(LabelError, match="cannot read the labels"):
        read_labels(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({0: 10, 1: 10}, "has no line for episode 1"),
        ({}, "labels episode 0"),
        ({0: 8}, "env_reset_start is '9', allowed: at most 8"),
    ],
)
def test_a_table_that_does_not_fit_the_dataset_is_refused(tmp_path, lengths, message):
    table = table_of(tmp_path, HEAD + "0,3,9,\n")
    with pytest.raises(LabelError) as error:
        table.check_lengths(lengths or {5: 1})
    assert (message if lengths else "has no line for episode 5") in str(error.value)


def test_success_behind_the_last_frame_is_refused_and_a_reset_right_behind_it_is_not(tmp_path):
    with pytest.raises(LabelError, match="success_start is '10'"):
        table_of(tmp_path, HEAD + "0,10,,\n").check_lengths({0: 10})
    table_of(tmp_path, HEAD + "0,9,10,\n").check_lengths({0: 10})


@st.composite
def labels(draw):
    length = draw(st.integers(1, 60))
    reset = draw(st.none() | st.integers(1, length))
    kept = reset or length
    success = draw(st.none() | st.integers(0, kept - 1))
    pairs = draw(st.lists(st.tuples(st.integers(0, kept - 1), st.integers(0, kept - 1)), max_size=3))
    return length, EpisodeLabels(0, success, reset, tuple((min(p), max(p)) for p in pairs))


@settings(deadline=None)
@given(case=labels())
def test_rewards_follow_the_rules_frame_by_frame(case):
    length, episode = case
    rewards = episode.rewards(length)
    assert len(rewards) == episode.kept(length).sum() == (episode.env_reset_start or length)
    for frame, reward in enumerate(rewards):
        failed = any(first <= frame <= last for first, last in episode.failure_ranges)
        assert reward == float(episode.success_start is not None and frame >= episode.success_start and not failed)


@settings(deadline=None)
@given(case=labels())
def test_a_written_table_reads_back_the_same(tmp_path_factory, case):
    table = LabelTable("x.csv", {0: case[1]})
    path = write_labels(table, tmp_path_factory.mktemp("labels") / "mine.csv")
    assert read_labels(path).episodes == table.episodes


@given(shown=st.lists(st.booleans(), min_size=1, max_size=30))
def test_labels_made_of_frames_say_the_same_of_every_frame(tmp_path_factory, shown):
    labels = EpisodeLabels.of_frames(3, np.array(shown))
    path = write_labels(LabelTable("x", {3: labels}), tmp_path_factory.mktemp("frames") / "labels.csv")
    assert read_labels(path).episodes[3].rewards(len(shown)).tolist() == [float(value) for value in shown]


def test_writing_never_overwrites(tmp_path):
    table = read_labels(SEED)
    path = tmp_path / "labels" / "reward.csv"
    assert write_labels(table, path) == path
    before = path.read_bytes()
    second, third = (write_labels(table.changed(["4.failure_ranges="]), path) for _ in range(2))
    assert [second.name, third.name] == ["reward.v1.csv", "reward.v2.csv"]
    assert path.read_bytes() == before
    assert read_labels(third).episodes[4].failure_ranges == ()


@pytest.mark.parametrize("change", ["4", "4.success=3", "99.success_start=3", "4.success_start=300", "4.failure_ranges=9"])
def test_a_change_that_makes_no_sense_is_refused(change):
    with pytest.raises(LabelError):
        read_labels(SEED).changed([change])
