# SPDX-License-Identifier: Apache-2.0
"""Datasets made from one that LeRobot recorded are read back by LeRobot, every frame of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataset_recorder.check import check
from dataset_recorder.dataset import DatasetError, open_dataset
from dataset_recorder.edit import Resize, Turn, change_images, relabel
from dataset_recorder.labels import LabelError, read_labels
from dataset_recorder.new_folder import TargetError
from dataset_recorder.origin import CONVERSION, shown_rewards
from dataset_recorder.video import VideoWriter

TABLE = "episode,success_start,env_reset_start,failure_ranges\n0,5,8,\n1,,,\n2,4,10,6-7\n"
REWARDS = [[0] * 5 + [1] * 3, [0] * 9, [0] * 4 + [1, 1, 0, 0, 1, 1]]
KEYS = ("observation.images.wrist", "observation.images.front")


def picture(episode, frame, camera):
    """As in conftest.py."""
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:32, :32] = (40 + 60 * episode, 30, 30)
    image[:32, 32:] = (30, 15 * frame + 20, 30)
    image[32:, :32] = (30, 30, 60 + 120 * camera)
    image[32:, 32:] = 220
    return image


def fingerprint(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}


def read_by_lerobot(root: Path) -> list[dict]:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("test/edited", root=root)
    return [dataset[number] for number in range(len(dataset))]


def pixels(item: dict, key: str) -> np.ndarray:
    return (item[key].numpy().transpose(1, 2, 0) * 255).astype(float)


def assert_same_picture(found: np.ndarray, expected: np.ndarray):
    """Within what the codec loses; a neighbouring frame differs by 15 in a quarter, a turned one by far more."""
    quarters = [np.s_[4:28, 4:28], np.s_[4:28, 36:60], np.s_[36:60, 4:28], np.s_[36:60, 36:60]]
    for quarter in quarters:
        assert np.abs(found[quarter].mean((0, 1)) - expected[quarter].astype(float).mean((0, 1))).max() < 7.5


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(TABLE)
    return read_labels(path)


def test_lerobot_reads_every_frame_of_a_labelled_dataset(recorded, table, tmp_path):
    before, seen = fingerprint(recorded), []
    relabel(recorded, table, tmp_path / "new", seen.append)
    assert fingerprint(recorded) == before
    assert sum(seen) == 2 * 36
    assert check(tmp_path / "new") == []
    items = read_by_lerobot(tmp_path / "new")
    assert len(items) == 8 + 9 + 10
    expected = [(episode, frame) for episode, rewards in enumerate(REWARDS) for frame in range(len(rewards))]
    for number, (item, (episode, frame)) in enumerate(zip(items, expected, strict=True)):
        place = [int(item[key]) for key in ("index", "episode_index", "frame_index")]
        assert place == [number, episode, frame]
        assert item["observation.state"][:2].tolist() == [episode, frame]
        assert abs(float(item["timestamp"]) - frame / 10) < 1e-6
        assert float(item["next.reward"]) == REWARDS[episode][frame]
        assert str(item["next.reward"].dtype) == "torch.float32"
        assert bool(item["next.success"]) == (REWARDS[episode][frame] == 1)
        assert bool(item["next.done"]) == (frame == len(REWARDS[episode]) - 1)
        assert item["task"] == ("grasp the red cube", "reach")[episode % 2]
        for camera, key in enumerate(KEYS):
            assert_same_picture(pixels(item, key), picture(episode, frame, camera))
    info = open_dataset(tmp_path / "new").info
    assert (info["total_episodes"], info["total_frames"]) == (3, 27)
    assert read_labels(tmp_path / "new" / "meta/labels.csv").episodes == table.episodes


def test_statistics_are_those_lerobot_computes(recorded, table, tmp_path):
    """Our numbers over the recording against those LeRobot stored in it, and the total against LeRobot's own aggregation."""
    from lerobot.datasets.compute_stats import aggregate_stats

    from dataset_recorder.dataset import column, numeric
    from dataset_recorder.dataset_writer import episode_statistics
    from dataset_recorder.statistics import column_statistics

    dataset = open_dataset(recorded)
    for episode in dataset.episodes:
        for key in numeric(dataset.features):
            ours, theirs = column_statistics(column(dataset.rows(episode), key)), episode_statistics(episode, key)
            assert ours.keys() == theirs.keys()
            for name in ours:
                # LeRobot reads quantiles off a histogram of 5000 bins, ours are values that occur.
                bin_width = np.max(theirs["max"] - theirs["min"]) / 5000 if name.startswith("q") else 0.0
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6 + bin_width, err_msg=f"{key} {name}")
    relabel(recorded, table, tmp_path / "new")
    new = open_dataset(tmp_path / "new")
    keys = [*numeric(new.features), *new.cameras]
    total = aggregate_stats([{key: episode_statistics(episode, key) for key in keys} for episode in new.episodes])
    from dataset_recorder.dataset import read_json

    stored = read_json(tmp_path / "new/meta/stats.json")
    assert stored.keys() == total.keys()
    assert stored["next.reward"]["mean"] == pytest.approx([7 / 27])
    for key, found in total.items():
        for name, value in found.items():
            np.testing.assert_allclose(stored[key][name], value, rtol=1e-6, atol=1e-9, err_msg=f"{key} {name}")


def test_videos_are_copied_untouched_when_no_frame_leaves(recorded, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("episode,success_start,env_reset_start,failure_ranges\n0,5,,\n1,,,\n2,14,15,\n")
    relabel(recorded, read_labels(path), tmp_path / "new")
    new = fingerprint(tmp_path / "new")
    videos = {name: value for name, value in fingerprint(recorded).items() if name.endswith(".mp4")}
    assert len(videos) == 2
    assert videos.items() <= new.items()
    assert check(tmp_path / "new") == []
    assert [float(i["next.reward"]) for i in read_by_lerobot(tmp_path / "new")] == [0] * 5 + [1] * 7 + [0] * 9 + [0] * 14 + [1]


def test_labelling_again_replaces_the_rewards(recorded, table, tmp_path):
    relabel(recorded, table, tmp_path / "one")
    (tmp_path / "second.csv").write_text("episode,success_start,env_reset_start,failure_ranges\n0,7,,\n1,,8,\n2,,,\n")
    relabel(tmp_path / "one", read_labels(tmp_path / "second.csv"), tmp_path / "two")
    assert check(tmp_path / "two") == []
    assert [float(i["next.reward"]) for i in read_by_lerobot(tmp_path / "two")] == [0] * 7 + [1] + [0] * 18


@pytest.mark.parametrize(
    ("how", "cameras", "expected"),
    [
        (Turn(180), (), lambda image: image[::-1, ::-1]),
        (Turn(90), ("wrist",), lambda image: image.transpose(1, 0, 2)[:, ::-1]),
        (Turn(0, "horizontal"), ("observation.images.front",), lambda image: image[:, ::-1]),
        (Turn(0, "vertical"), ("wrist",), lambda image: image[::-1]),
    ],
)
def test_lerobot_sees_turned_images_and_the_other_cameras_as_they_were(recorded, tmp_path, how, cameras, expected):
    change_images(recorded, how, tmp_path / "new", cameras)
    assert check(tmp_path / "new") == []
    items = read_by_lerobot(tmp_path / "new")
    assert len(items) == 36
    for item in items:
        for camera, key in enumerate(KEYS):
            image = picture(int(item["episode_index"]), int(item["frame_index"]), camera)
            turned = not cameras or key in cameras or key.split(".")[-1] in cameras
            assert_same_picture(pixels(item, key), expected(image) if turned else image)


def test_lerobot_sees_resized_images_of_a_dataset_whose_shapes_have_the_channels_first(recorded, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(recorded, old)
    info = json.loads((old / "meta/info.json").read_text())
    for key in KEYS:  # as LeRobot's gym records
        info["features"][key] |= {"shape": [3, 64, 64], "names": ["channels", "height", "width"]}
    (old / "meta/info.json").write_text(json.dumps(info))
    change_images(old, Resize(128), tmp_path / "new", ["wrist"])
    assert check(tmp_path / "new") == []
    new = open_dataset(tmp_path / "new")
    assert [new.features[key]["shape"] for key in KEYS] == [[3, 128, 128], [3, 64, 64]]
    for item in read_by_lerobot(tmp_path / "new"):
        found = pixels(item, KEYS[0])
        assert found.shape == (128, 128, 3)
        assert_same_picture(found[::2, ::2], picture(int(item["episode_index"]), int(item["frame_index"]), 0))


def test_only_squares_of_a_size_that_a_task_allows_are_resized():
    with pytest.raises(ValueError, match="the size is 8, allowed: 16 to 1024"):
        Resize(8)
    with pytest.raises(DatasetError, match="an image is 640x480, expected a square"):
        Resize(128)(np.zeros((480, 640, 3), np.uint8))


def test_a_labelled_dataset_stays_labelled_when_its_images_change(recorded, table, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(recorded, old)
    report = {"episodes": [{"episode_index": index, "bag": "x", "source": "steps"} for index in range(3)]}
    (old / CONVERSION).write_text(json.dumps(report))
    relabel(old, table, tmp_path / "labelled")
    change_images(tmp_path / "labelled", Turn(180), tmp_path / "turned")
    before, after = open_dataset(tmp_path / "labelled"), open_dataset(tmp_path / "turned")
    for first, second in zip(before.episodes, after.episodes, strict=True):
        assert shown_rewards(before, first).tolist() == shown_rewards(after, second).tolist()


def test_files_roll_over_at_their_size_limit(recorded, table, tmp_path, monkeypatch):
    small = tmp_path / "small"
    shutil.copytree(recorded, small)
    info = json.loads((small / "meta/info.json").read_text())
    info |= {"chunks_size": 2, "data_files_size_in_mb": 0.001, "video_files_size_in_mb": 1e-6}
    (small / "meta/info.json").write_text(json.dumps(info))
    relabel(small, table, tmp_path / "new")
    videos = sorted(
        str(p.relative_to(tmp_path / "new/videos" / KEYS[0])) for p in (tmp_path / "new/videos" / KEYS[0]).rglob("*.mp4")
    )
    assert videos == ["chunk-000/file-000.mp4", "chunk-000/file-001.mp4", "chunk-001/file-000.mp4"]
    assert len(list((tmp_path / "new/data").rglob("*.parquet"))) == 3
    assert check(tmp_path / "new") == []


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "new" in path.name]


def test_an_existing_target_is_one_error_and_stays(recorded, table, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "precious").write_text("x")
    with pytest.raises(TargetError, match="new exists already"):
        relabel(recorded, table, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["precious"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_error_in_the_middle_leaves_nothing(recorded, table, tmp_path, monkeypatch, error):
    write, frames = VideoWriter.write, []

    def fail(self, image):
        frames.append(self.path)
        if len(frames) == 20:
            raise error
        write(self, image)

    monkeypatch.setattr(VideoWriter, "write", fail)
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        relabel(recorded, table, tmp_path / "new")
    assert frames[0].exists() is False
    assert leftovers(tmp_path) == []


def test_a_killed_run_leaves_no_target_and_the_next_one_succeeds(recorded, table, tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from dataset_recorder.edit import relabel\n"
        "from dataset_recorder.labels import read_labels\n"
        "def slow(n):\n    print('image', flush=True); time.sleep(0.05)\n"
        "relabel(Path(sys.argv[1]), read_labels(Path(sys.argv[2])), Path(sys.argv[3]), slow)"
    )
    words = [sys.executable, "-c", program, str(recorded), table.name, str(tmp_path / "new")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(20):
            assert process.stdout.readline() == "image\n"
        with pytest.raises(TargetError, match="another process is writing"):
            relabel(recorded, table, tmp_path / "new")
        os.kill(process.pid, signal.SIGKILL)
    assert "new" not in leftovers(tmp_path)
    assert ".new.partial" in leftovers(tmp_path), "the kill came too early or too late to test anything"
    relabel(recorded, table, tmp_path / "new")
    assert leftovers(tmp_path) == ["new"]
    assert check(tmp_path / "new") == []


def test_labels_that_do_not_fit_write_nothing(recorded, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("episode,success_start,env_reset_start,failure_ranges\n0,5,13,\n1,,,\n2,4,10,\n")
    with pytest.raises(LabelError, match="line 2, env_reset_start is '13', allowed: at most 12"):
        relabel(recorded, read_labels(path), tmp_path / "new")
    assert leftovers(tmp_path) == []


def test_a_video_with_a_missing_frame_is_refused_instead_of_shifting_labels(recorded, table, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(recorded, broken)
    path = next((broken / "videos" / KEYS[0]).rglob("*.mp4"))
    path.unlink()
    video = VideoWriter(path, 10, 64, 64)
    for frame in range(30):
        video.write(picture(0, frame % 12, 0))
    video.close()
    with pytest.raises(DatasetError, match=r"wrist of episode 2 .* has 9 images for 15 rows"):
        relabel(broken, table, tmp_path / "new")
    assert leftovers(tmp_path) == []


def test_an_unknown_camera_or_turn_is_refused(recorded, tmp_path):
    with pytest.raises(DatasetError, match=r"has no camera left, only observation\.images\.wrist"):
        change_images(recorded, Turn(180), tmp_path / "new", ["wrist", "left"])
    with pytest.raises(ValueError, match="allowed: 0, 90, 180, 270"):
        Turn(45)
    with pytest.raises(ValueError, match="allowed: horizontal, vertical"):
        Turn(0, "sideways")


def test_a_row_group_holds_one_episode(recorded, table, tmp_path):
    relabel(recorded, table, tmp_path / "new")
    file = pq.ParquetFile(next((tmp_path / "new/data").rglob("*.parquet")))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [8, 9, 10]
