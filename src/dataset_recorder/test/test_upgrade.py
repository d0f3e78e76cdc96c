# SPDX-License-Identifier: Apache-2.0
"""Datasets v2.1 become v3.0 without a change in what they hold."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from dataset_recorder.check import check
from dataset_recorder.dataset import DatasetError, column, open_dataset
from dataset_recorder.testing.datasets import as_v21
from dataset_recorder.upgrade import upgrade


@pytest.fixture
def old(recorded, tmp_path):
    return as_v21(recorded, tmp_path / "old")


def test_a_dataset_v21_becomes_v30_with_the_same_rows_and_pictures(recorded, old):
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    new = upgrade(old)
    assert new == old.with_name("old_v30") and check(new) == []
    was, now = open_dataset(recorded), open_dataset(new)
    assert [episode.length for episode in now.episodes] == [episode.length for episode in was.episodes]
    for first, second in zip(was.episodes, now.episodes, strict=True):
        assert first.row["tasks"] == second.row["tasks"]
        for name in ("observation.state", "action", "timestamp", "index", "episode_index", "task_index"):
            assert np.array_equal(column(was.rows(first), name), column(now.rows(second), name)), name
        for camera in was.videos:
            pairs = list(zip(was.images(first, camera), now.images(second, camera), strict=True))
            assert len(pairs) == first.length and max(np.abs(a.astype(int) - b).mean() for a, b in pairs) < 4
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before
    assert sorted(path.name for path in old.parent.iterdir()) == ["old", "old_v30"]
    assert upgrade(old) == new and upgrade(new) == new


def test_lerobot_loads_what_was_upgraded(old, monkeypatch):
    from lerobot.datasets import LeRobotDataset

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = LeRobotDataset("local/old", root=upgrade(old))
    assert len(data) == sum(1 for _ in data) == open_dataset(old.with_name("old_v30")).info["total_frames"]


def test_other_versions_and_damage_are_said_and_leave_nothing_behind(old):
    shutil.rmtree(old / "data")
    with pytest.raises(DatasetError, match=r"LeRobot cannot convert old from v2.1 to v3.0"):
        upgrade(old)
    info = json.loads((old / "meta/info.json").read_text())
    (old / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.0"}))
    with pytest.raises(DatasetError, match=r"is a dataset v2.0, expected v3.0 or v2.1"):
        upgrade(old)
    assert [path.name for path in old.parent.iterdir()] == ["old"]
