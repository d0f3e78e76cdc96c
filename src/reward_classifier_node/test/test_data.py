# SPDX-License-Identifier: Apache-2.0
"""Frames of a dataset, the split by episode, and what is refused before training starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from classifier_fixtures import SETTINGS, TASK, make_frames
from hypothesis import given
from hypothesis import strategies as st
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from dataset_recorder.testing.datasets import priority_kept
from reward_classifier_node.data import LabelledFrames, Split, check, split_by_episode
from reward_classifier_node.dataset import read_dataset
from reward_classifier_node.errors import DataError
from reward_classifier_node.training import train

BLANK = np.zeros((1, 1, 1, 1, 3), np.uint8)


def frames_of(labels: list[list[bool]]) -> LabelledFrames:
    """Episodes of labels, images of no size."""
    flat = np.array([label for episode in labels for label in episode], bool)
    episodes = np.repeat(np.arange(len(labels)) * 3 + 5, [len(episode) for episode in labels])
    return LabelledFrames(np.broadcast_to(BLANK, (len(flat), *BLANK.shape[1:])), flat, episodes)


mixed = st.tuples(st.integers(1, 5), st.integers(1, 5)).map(lambda ends: [False] * ends[0] + [True] * ends[1])
failed = st.integers(1, 5).map(lambda length: [False] * length)


@given(st.lists(mixed, min_size=2, max_size=12), st.lists(failed, max_size=12), st.floats(0.05, 0.7), st.integers(0, 1000))
def test_no_episode_is_on_both_sides_and_both_sides_have_both_classes(successes, failures, heldout, seed):
    frames = frames_of(successes + failures)
    split = split_by_episode(frames, heldout, seed)
    assert sorted([*split.train, *split.heldout]) == list(range(len(frames)))
    assert not set(frames.episodes[split.train]) & set(frames.episodes[split.heldout])
    for rows in (split.train, split.heldout):
        assert 0 < frames.labels[rows].sum() < len(rows)


def test_the_split_follows_from_the_seed():
    frames = make_frames(12)
    first, again, other = (split_by_episode(frames, 0.3, seed).heldout.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_frames_around_a_success_that_no_image_tells_apart_are_marked():
    frames = frames_of([[0, 0, 0, 0, 1, 1, 0, 0], [1, 0, 0], [0, 0]])
    marked = frames.undecided(before=2, after=1).astype(int).tolist()
    assert marked == [0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0]


def test_a_leaking_split_is_refused_before_training_starts():
    frames = make_frames(4)
    rows = np.arange(len(frames))
    with pytest.raises(DataError, match=r"episodes \[0, 1, 2, 3\] are in the training and in the held-out part"):
        train(frames, Split(rows[::2], rows[1::2]), SETTINGS, TASK, lambda *_: pytest.fail("training started"))


@pytest.mark.parametrize(("labels", "said"), [(False, "show no success"), (True, "show a success")])
def test_one_class_is_refused(labels, said):
    frames = make_frames(4)
    frames = replace(frames, labels=np.full(len(frames), labels))
    with pytest.raises(DataError, match=said):
        train(frames, split_by_episode(frames, 0.3, 0), SETTINGS, TASK, lambda *_: pytest.fail("training started"))


def test_a_single_successful_episode_is_refused():
    frames = frames_of([[0, 1], [0, 0], [0, 0]])
    split = split_by_episode(frames, 0.3, 0)
    with pytest.raises(DataError, match="held-out"):
        check(
            replace(frames, images=np.broadcast_to(np.zeros((1, 1, 128, 128, 3), np.uint8), (6, 1, 128, 128, 3))), split, TASK
        )


def test_a_wrong_image_size_is_refused():
    frames = make_frames(4, task=replace(TASK, image_size=96))
    with pytest.raises(DataError, match=r"the task expects \(1, 128, 128, 3\)"):
        train(frames, split_by_episode(frames, 0.3, 0), SETTINGS, TASK, lambda *_: pytest.fail("training started"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A dataset that LeRobot wrote: 3 episodes of 6 frames, each frame a grey of its own."""
    root = tmp_path_factory.mktemp("datasets") / "d"
    features = {
        "observation.images.wrist": {"dtype": "video", "shape": (128, 128, 3), "names": ["height", "width", "channels"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("test/d", fps=10, features=features, root=root, use_videos=True)
    for episode in range(3):
        for index in range(6):
            image = np.full((128, 128, 3), 10 * (6 * episode + index) + 20, np.uint8)
            reward = np.array([float(index >= 4)], np.float32)
            dataset.add_frame({"observation.images.wrist": image, "next.reward": reward, "task": "grasp"})
        with priority_kept():
            dataset.save_episode()
    dataset.finalize()
    return root


def test_a_dataset_gives_each_row_its_own_image_label_and_episode(written):
    frames = read_dataset(written, TASK)
    np.testing.assert_allclose(frames.images.mean((1, 2, 3, 4)), 10 * np.arange(18) + 20, atol=3)
    assert frames.labels.astype(int).tolist() == [0, 0, 0, 0, 1, 1] * 3
    assert frames.episodes.tolist() == [0] * 6 + [1] * 6 + [2] * 6


def test_with_an_offset_a_label_belongs_to_the_next_image_of_its_episode(written):
    frames = read_dataset(written, TASK, label_offset=1)
    assert frames.labels.astype(int).tolist() == [0, 0, 0, 0, 1] * 3
    expected = [10 * row + 20 for row in range(18) if row % 6]
    np.testing.assert_allclose(frames.images.mean((1, 2, 3, 4)), expected, atol=3)


def test_datasets_that_do_not_fit_are_refused(written):
    with pytest.raises(DataError, match=r"no images observation.images.front, it has observation.images.wrist"):
        read_dataset(written, replace(TASK, cameras=("front",)))
    with pytest.raises(DataError, match="no column success"):
        read_dataset(written, TASK, label_column="success")
    with pytest.raises(DataError, match=r"wrist are 128x128, expected the network's 96x96 or the camera's 640x480"):
        read_dataset(written, replace(TASK, image_size=96))
    with pytest.raises(DataError, match="is not a LeRobot dataset"):
        read_dataset(written / "data", TASK)


def test_a_broken_video_is_refused(written, tmp_path):
    import shutil

    root = tmp_path / "broken"
    shutil.copytree(written, root)
    (video,) = root.glob("videos/**/*.mp4")
    video.write_bytes(b"no video at all")
    with pytest.raises(DataError, match="cannot read the video"):
        read_dataset(root, TASK)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("data/**/*.parquet", b"", "cannot read the rows"),
        ("meta/episodes/**/*.parquet", b"", "cannot read the episodes"),
        ("meta/info.json", b"[]", "info.json does not say fps and features"),
        ("meta/info.json", b"{", "is not a LeRobot dataset"),
    ],
)
def test_broken_files_of_a_dataset_are_refused(written, tmp_path, file, content, said):
    import shutil

    shutil.copytree(written, tmp_path / "broken")
    (path,) = (tmp_path / "broken").glob(file)
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_dataset(tmp_path / "broken", TASK)
