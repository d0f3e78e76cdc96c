# SPDX-License-Identifier: Apache-2.0
"""Resuming, moving aside, and refusing what cannot work."""

from __future__ import annotations

import shutil

import pytest

from reach_grasp.demo.settings import DemoSettings
from reach_grasp.errors import CommandError
from reach_grasp.running import folder as module
from reach_grasp.running.folder import open_folder

SETTINGS = DemoSettings(seed=1)


def test_an_unfinished_run_of_the_same_settings_goes_on(tmp_path):
    with open_folder(tmp_path / "demo", SETTINGS) as folder:
        folder.enter("training")
        folder.complete("training")
        assert not folder.resumed
    with open_folder(tmp_path / "demo", SETTINGS) as folder:
        assert folder.resumed
        assert folder.done("training")
        assert folder.phases["training"] > 0.0


@pytest.mark.parametrize("other", [DemoSettings(seed=2), SETTINGS])
def test_other_and_finished_runs_are_moved_aside(tmp_path, other):
    with open_folder(tmp_path / "demo", SETTINGS) as folder:
        folder.file("keep").write_text("me")
        folder.state["finished"] = other == SETTINGS
        folder.save()
    with open_folder(tmp_path / "demo", other) as folder:
        assert not folder.resumed
        assert not (folder.path / "keep").exists()
    assert (tmp_path / "demo.1" / "keep").read_text() == "me"


def test_fresh_deletes_and_resume_refuses(tmp_path):
    with open_folder(tmp_path / "demo", SETTINGS) as folder:
        folder.file("keep").write_text("me")
    with open_folder(tmp_path / "demo", SETTINGS, fresh=True) as folder:
        assert not (folder.path / "keep").exists()
    with (
        pytest.raises(CommandError, match="holds no unfinished demo"),
        open_folder(tmp_path / "demo", DemoSettings(seed=3), resume=True),
    ):
        pass


@pytest.mark.parametrize("fresh", [False, True])
def test_foreign_files_are_never_touched(tmp_path, fresh):
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(CommandError, match="holds something else than a demo"), open_folder(tmp_path, SETTINGS, fresh=fresh):
        pass
    assert (tmp_path / "photo.jpg").exists()


def test_a_folder_in_use_is_refused(tmp_path):
    with (
        open_folder(tmp_path / "demo", SETTINGS),
        pytest.raises(CommandError, match="another demo is running"),
        open_folder(tmp_path / "demo", SETTINGS),
    ):
        pass


def test_a_full_disk_is_refused_and_a_write_that_fails_is_one_sentence(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    with pytest.raises(CommandError, match=r"has 1\.0 GB free, the demo needs 2 GB"), open_folder(tmp_path / "demo", SETTINGS):
        pass
    monkeypatch.undo()
    with (
        pytest.raises(CommandError, match="history: no space left on device"),
        open_folder(tmp_path / "demo", SETTINGS) as folder,
    ):
        raise OSError(28, "No space left on device", str(folder.path / "history"))


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    with pytest.raises(CommandError, match="permission denied"), open_folder(tmp_path / "demo", SETTINGS):
        pass


def test_a_damaged_state_is_one_sentence(tmp_path):
    (tmp_path / "demo.json").write_text('{"settings": ')
    with pytest.raises(CommandError, match=r"demo\.json is damaged .* use --fresh"), open_folder(tmp_path, SETTINGS):
        pass


def test_a_torn_history_line_is_left_out(tmp_path):
    with open_folder(tmp_path / "demo", SETTINGS) as folder:
        folder.append("episodes", {"a": 1})
        with folder.file("history", "episodes.jsonl").open("a") as file:
            file.write('{"a": ')
        assert folder.history("episodes") == [{"a": 1}]
