# SPDX-License-Identifier: Apache-2.0
"""reach-grasp eval after its last episode: a person at a real arm has judged a hundred, and they are not done again."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from reach_grasp.command import main
from reach_grasp.running.episodes import Episode
from reach_grasp.verbs.evaluate import Evaluate

EPISODES = [Episode("evaluation", number, number > 0, 50, 0, 50, number, 1, 1.0) for number in range(4)]


@pytest.mark.parametrize("can_be_written", [True, False])
def test_the_result_is_told_also_where_its_file_cannot_be_written(
    can_be_written, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def follow(self, options, given, log, look, kept):
        (tmp_path / "run").mkdir()
        if not can_be_written:
            (tmp_path / "run" / "evaluation.json").mkdir()
        assert look(None, SimpleNamespace(finished=lambda: EPISODES)) is None

    monkeypatch.setattr(Evaluate, "follow", follow)
    monkeypatch.setattr(Evaluate, "ticks", lambda self, given: 100)
    code = main(["eval", "--checkpoint", str(tmp_path / "none"), "--episodes", "4", "--run", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert "3 of 4 = 75" in said and code == (0 if can_be_written else 1)
    assert ("evaluation.json cannot be written: " in said) is not can_be_written
    assert (tmp_path / "run" / "evaluation.json").is_file() is can_be_written


def test_ctrl_c_keeps_the_episodes_that_were_judged(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []

    def follow(self, options, given, log, look, kept):
        (tmp_path / "run").mkdir()
        finished = iter([EPISODES[:2], EPISODES[2:3]])
        monitor = SimpleNamespace(finished=lambda: next(finished), episode=None)
        with pytest.raises(AttributeError):  # there is no process to look at
            look(None, monitor)
        said.append(kept(monitor))
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluate, "follow", follow)
    monkeypatch.setattr(Evaluate, "ticks", lambda self, given: 100)
    code = main(["eval", "--checkpoint", str(tmp_path / "none"), "--episodes", "4", "--run", str(tmp_path / "run")])
    assert code == 130 and "after 3 of 4 episodes; 2 of 3 = 66.7 %" in said[0] and "kept in" in said[0]
    kept = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (kept["successes"], kept["judged"], kept["wanted"]) == (2, 3, 4) and len(kept["episode"]) == 3
