# SPDX-License-Identifier: Apache-2.0
"""Arguments that a user may write, and the one sentence that answers a wrong one before any node starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from reach_grasp import process
from reach_grasp.command import main
from reach_grasp.options import normalized


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to be in, with what users name by mistake. Nodes do not start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nodes were started")

    monkeypatch.setattr(process, "run", refuse)
    monkeypatch.setattr(process, "background", refuse)
    Path("file").write_text("text")
    Path("latin1.yaml").write_bytes("/**: {ros__parameters: {name: Käfer}}\n".encode("latin-1"))
    Path("broken.yaml").write_text("/**:\n  ros__parameters: [1\n")
    Path("list.yaml").write_text("- 1\n- 2\n")
    Path("empty").mkdir()
    return tmp_path


WHOLE = "allowed is a whole number from"
WRONG = [
    # words, what the sentence holds
    ("", "needs a verb"),
    ("trian", "there is no verb 'trian'; did you mean train?"),
    ("train --sede 3", "train has no --sede; did you mean --seed?"),
    ("train sede:=3", "train has no sede; did you mean seed?"),
    ("train real_time_facto:=3", "train has no real_time_facto; did you mean real_time_factor?"),
    ("train --step 3", "train has no --step; did you mean --steps?"),
    ("train 3", "train has no use for '3'"),
    ("train --seed", "--seed needs a value"),
    ("train --seed x", f"--seed is 'x', {WHOLE} 0 to 2147483647"),
    ("train --seed -1", f"--seed is -1, {WHOLE} 0"),
    ("train seed:=2147483648", f"seed is 2147483648, {WHOLE} 0"),
    ("train --steps 0", f"--steps is 0, {WHOLE} 1"),
    ("train --demonstrations -1", f"--demonstrations is -1, {WHOLE} 0"),
    ("record --demonstrations 0", f"--demonstrations is 0, {WHOLE} 1"),
    ("eval --episodes 0", f"--episodes is 0, {WHOLE} 1"),
    ("eval episodes:=0", f"episodes is 0, {WHOLE} 1"),
    ("train --real-time-factor -1", "--real-time-factor is -1, allowed is "),
    ("train --real_time_factor nan", "--real_time_factor is 'nan', allowed is "),
    ("train real_time_factor:=inf", "real_time_factor is 'inf', allowed is "),
    ("sim --real-time-factor 0", "--real-time-factor is 0, allowed is a number from 0.01"),
    ("replay --rate -1", "--rate is -1, allowed is a number from 0"),
    ("train --log-level inof", "--log-level is 'inof', allowed is one of debug, info, warn, error; did you mean info?"),
    ("train --sim perhaps", "--sim is 'perhaps', allowed is true or false"),
    ("train --namespace 2-arms", "--namespace is '2-arms', allowed are names"),
    ("train --states-topic a-b", "--states-topic is 'a-b', allowed are names of letters"),
    ("train command_topic:=/arm/", "command_topic is '/arm/', allowed are names of letters"),
    ("train --command-type Float64", "--command-type is 'Float64', allowed is one of JointTrajectory, Float64Multi"),
    ("train --run file", "--run is 'file', but file is a file: name a folder"),
    ("robot --run file/run", "--run is 'file/run', but file is a file"),
    ("learner run:=file", "run is 'file', but file is a file"),
    ("record --run file", "--run is 'file', but file is a file"),
    ("eval --run file --checkpoint empty", "--run is 'file', but file is a file"),
    ("demo --output file", "--output is 'file', but file is a file"),
    ("demo --output=", "--output is empty, name a folder"),
    ("train --run=", "--run is empty, name a folder"),
    ("demo --seed x", f"--seed is 'x', {WHOLE} 0 to 2147483647"),
    ("demo --eval-episodes 0", f"--eval-episodes is 0, {WHOLE} 1"),
    ("demo --minutes 0", "--minutes is 0, allowed is a number from 0.05"),
    ("demo --reward simulator", "--reward is 'simulator', allowed is one of classifier, simulation; did you mean simulation?"),
    ("demo --resume --fresh", "--fresh cannot be given beside --resume"),
    ("demo --config nowhere.yaml", "the parameter file"),
    ("demo --config latin1.yaml", "latin1.yaml is not UTF-8"),
    ("train --config nowhere.yaml", "the parameter file"),
    ("train --config empty", "the parameter file"),
    ("train --config latin1.yaml", "latin1.yaml is not UTF-8"),
    ("train --config broken.yaml", "broken.yaml is not YAML"),
    ("train --config list.yaml", "holds no parameters"),
    ("train --sim false --events keyboard --config latin1.yaml", "latin1.yaml is not UTF-8"),
    ("train --classifier nowhere", "the classifier"),
    ("eval --checkpoint nowhere", "the checkpoint"),
    ("replay nowhere --classifier empty", "nowhere"),
    ("replay file --classifier empty", "file"),
    ("replay --classifier empty", "replay needs a bag"),
    ("replay empty --output empty --classifier empty", "--output is 'empty', name a file"),
    ("convert nowhere --repo-id me/set", "nowhere"),
    ("convert file --repo-id me/set", "file"),
    ("convert empty", "convert needs --repo-id"),
    ("convert empty --repo-id me/set --fps 0", f"--fps is 0, {WHOLE} 1"),
    ("convert empty --repo-id me/set --modes trainig", "--modes is 'trainig', allowed is one of"),
    ("convert empty --repo-id me/set --root file", "file"),
    ("label nowhere --from truth --output out", "nowhere"),
    ("label file --from truth --output out", "file"),
    ("label empty file --output out", "file"),
    ("label empty latin1.yaml --output out", "empty/meta/info.json"),
    ("label empty --from truht --output out", "--from is 'truht', allowed is one of truth, reward, events; did you"),
    ("label empty --review file", "empty"),
    ("label nowhere --review file", "nowhere"),
    ("turn-images nowhere --output out --rotate 90", "nowhere"),
    ("turn-images file --output out --rotate 90", "file"),
    ("turn-images empty --output out --rotate 45", "--rotate is '45', allowed is one of 0, 90, 180, 270"),
    ("import-dataset nowhere", "nowhere"),
    ("import-dataset file --run out", "file"),
    ("import-dataset empty --run file", "--run is 'file', but file is a file"),
    ("import-dataset empty --run out --task latin1.yaml", "latin1.yaml is not UTF-8"),
    ("import-dataset empty --run out --task nowhere.yaml", "cannot be read"),
    ("import-dataset empty --run out --task list.yaml", "has no /**: ros__parameters: task: section"),
    ("import-dataset empty --run out --artifact file", "file"),
    ("train-classifier nowhere", "nowhere"),
    ("train-classifier file", "file"),
    ("train-classifier empty --config latin1.yaml", "latin1.yaml"),
    ("train-classifier empty --config nowhere.yaml", "nowhere.yaml"),
    ("train-classifier empty --config list.yaml", "list.yaml"),
    ("train-classifier empty --task latin1.yaml", "latin1.yaml is not UTF-8"),
    ("train-classifier empty --output file", "--output is 'file', but file is a file"),
    ("repair nowhere", "nowhere"),
    ("repair file", "file"),
    ("repair empty", "empty"),
    ("report nowhere", "nowhere"),
    ("report file", "file"),
    ("report empty", "empty"),
    ("calibrate folower --port p --id i", "kind is 'folower', allowed is one of follower, leader; did you mean follower?"),
    ("calibrate follower --port nowhere --id ../x", "cannot name a file"),
    ("calibrate follower --port file --id x --undo", "file"),
    ("release --port nowhere --yes", "nowhere"),
    ("release --port file --yes", "file"),
    ("release --port empty --yes", "empty"),
    ("doctor --namespace 2-arms", "--namespace is '2-arms', allowed are names"),
    ("estop --namespace 2-arms", "'2-arms' is no namespace"),
    ("wach", "there is no verb 'wach'; did you mean watch?"),
    ("watch --prot 1", "watch has no --prot; did you mean --port?"),
    ("watch --port 65536", f"--port is 65536, {WHOLE} 0 to 65535"),
    ("watch namespace:=2-arms", "namespace is '2-arms', allowed are names"),
    ("emulate-station", "emulate-station needs --folder"),
    ("emulate-station --folder file", "--folder is 'file', but file is a file"),
    ("emulate-station --folder new --port 65536", f"--port is 65536, {WHOLE} 0 to 65535"),
    ("emulate-station --folder new --set servo", "servo"),
    ("emulate-bus --faults lost=x", "lost"),
    ("emulate-bus --baud -1", f"--baud is -1, {WHOLE} 0"),
    ("emulate-bus --port empty", "empty"),
    ("emulate-bus --port file/x", "file/x"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=[words or "nothing" for words, _ in WRONG])
def test_a_wrong_word_is_one_sentence_and_nothing_starts(place, capsys, words, sentence):
    before = sorted(Path().iterdir())
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("reach-grasp: ") and said.count("\n") == 1
    assert sentence in said
    assert sorted(Path().iterdir()) == before, "nothing was made"


def test_check_dataset_names_what_is_wrong(place, capsys):
    for dataset in ("nowhere", "file", "empty"):
        assert main(["check-dataset", dataset]) in (1, 2)
        assert dataset in "".join(capsys.readouterr())


def test_a_domain_that_is_no_number_is_one_sentence(place, capsys, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "mine")
    for words in (["train", "--run", "new"], ["record", "--run", "new"], ["demo", "--output", "new"], ["estop"]):
        assert main(words) == 2
        assert capsys.readouterr().err == "reach-grasp: ROS_DOMAIN_ID is 'mine', allowed is a whole number from 0 to 232\n"


def test_flags_have_one_spelling_and_the_other_is_understood():
    words = ["train", "--real_time_factor", "2", "--log-level=warn", "use_rviz:=a_b", "--", "--a_b"]
    changed = ["train", "--real-time-factor", "2", "--log-level=warn", "--use-rviz=a_b", "--", "--a_b"]
    assert normalized(words) == (changed, {"--real-time-factor": "--real_time_factor", "--use-rviz": "use_rviz"})


def test_help_shows_hyphens_only(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert "--real-time-factor" in shown and "--real_time_factor" not in shown
