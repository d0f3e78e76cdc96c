# SPDX-License-Identifier: Apache-2.0
"""check finds each kind of damage, and nothing in a dataset that LeRobot wrote."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_recorder.check import check
from dataset_recorder.dataset import DatasetError
from dataset_recorder.edit import Turn, change_images, relabel
from dataset_recorder.labels import EpisodeLabels, LabelTable
from dataset_recorder.video import VideoError, VideoWriter


@pytest.fixture
def dataset(recorded, tmp_path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "dataset"))


def _info(root: Path, **values) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _column(root: Path, name: str, row: int, value: object) -> None:
    (path,) = (root / "data").rglob("*.parquet")
    table = pq.read_table(path)
    values = table[name].to_pylist()
    values[row] = value
    pq.write_table(
        table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type)), path
    )


def _statistics(root: Path) -> None:
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["mean"][0] += 0.5
    path.write_text(json.dumps(stats))


def _episodes(root: Path, name: str, value: object) -> None:
    """Change episode 1 in the metadata."""
    (path,) = (root / "meta/episodes").rglob("*.parquet")
    rows = pq.read_table(path).to_pylist()
    rows[1][name] = value
    pq.write_table(pa.Table.from_pylist(rows), path)


def _short_video(root: Path) -> None:
    path = sorted((root / "videos").rglob("*.mp4"))[0]
    path.unlink()
    video = VideoWriter(path, 10, 64, 64)
    for _ in range(35):  # of 36
        video.write(np.zeros((64, 64, 3), np.uint8))
    video.close()


def _video(root: Path) -> None:
    sorted((root / "videos").rglob("*.mp4"))[0].unlink()


def test_what_lerobot_recorded_is_consistent(recorded):
    assert check(recorded) == []


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda root: _info(root, total_frames=35), "total_frames is 35"),
        (lambda root: _info(root, total_episodes=4), "total_episodes is 4"),
        (lambda root: _column(root, "frame_index", 5, 7), "frame_index of episode 0 is 7 in row 5, expected 5"),
        (lambda root: _column(root, "index", 13, 99), "index of episode 1 is 99 in row 1, expected 13"),
        (lambda root: _column(root, "timestamp", 3, 0.35), "timestamp of episode 0 is 0.3500 s in row 3"),
        (lambda root: _column(root, "action", 0, [9.0] * 4), "action"),
        (_statistics, "action"),
        (_video, "mp4"),
        (_short_video, "front of episode 2 has 14 images that can be decoded, its metadata says 15 rows"),
        (_short_video, "mean of observation.images.front of episode 0"),
        (lambda root: _episodes(root, "length", 8), "Episode 1 has 9 rows, its metadata says 8"),
        (lambda root: _episodes(root, "dataset_from_index", 11), "Episode 1 runs from 11 to 21, expected 12 to 21"),
        (lambda root: _episodes(root, "episode_index", 4), "numbered [0, 2, 4], expected 0 to 2"),
        (lambda root: _episodes(root, "tasks", ["fly"]), "The tasks of episode 1"),
        (lambda root: _episodes(root, "stats/action/std", None), "action of episode 1 lack std"),
        (lambda root: _episodes(root, "videos/observation.images.wrist/from_timestamp", 1.0), "inside the episode before"),
        (lambda root: (root / "meta/stats.json").unlink(), "The statistics are missing"),
    ],
)
def test_each_damage_is_found(dataset, damage, word):
    damage(dataset)
    findings = check(dataset)
    assert findings and any(word in sentence for sentence in findings), findings


def test_what_is_no_dataset_is_said(tmp_path):
    (sentence,) = check(tmp_path)
    assert str(tmp_path) in sentence


def _without_rows(root: Path) -> None:
    (path,) = (root / "meta/episodes").rglob("*.parquet")
    pq.write_table(pq.read_table(path).slice(0, 0), path)


def _cut(root: Path) -> None:
    (path,) = (root / "data").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: (root / "meta/info.json").write_text("[1]"), "info.json: it holds no JSON object"),
        (lambda root: (root / "meta/info.json").write_text('{"a"'), "cannot read .*info.json"),
        (lambda root: _info(root, fps=0), "fps is 0, expected a number above 0"),
        (lambda root: _info(root, features={"action": {"dtype": "float32"}}), "must say dtype and shape of each"),
        (lambda root: _info(root, video_path=None), "video_path is None, expected a path"),
        (lambda root: _info(root, data_path="data/{number}"), "data_path is 'data/{number}', expected a path"),
        (lambda root: _episodes(root, "length", 0), "a length that is no whole number, or no frames"),
        (_without_rows, "holds no episode"),
        (_cut, "cannot read .*parquet: Parquet magic bytes not found"),
    ],
)
def test_a_damaged_dataset_is_one_sentence_also_where_it_is_edited(dataset, tmp_path, damage, sentence):
    damage(dataset)
    assert any(re.search(sentence, finding) for finding in check(dataset))
    with pytest.raises(DatasetError, match=sentence):
        change_images(dataset, Turn(180), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset"]


@pytest.mark.parametrize("share", [0, 0.75])
def test_a_damaged_video_is_not_copied_into_a_labelled_dataset(dataset, tmp_path, share):
    path = sorted((dataset / "videos").rglob("*.mp4"))[0]
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    labels = LabelTable("x", {episode: EpisodeLabels(episode, 3) for episode in range(3)})
    with pytest.raises((DatasetError, VideoError), match=str(path)):
        relabel(dataset, labels, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset"]
