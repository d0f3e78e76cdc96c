# SPDX-License-Identifier: Apache-2.0
"""docs/how-to-original-experiment.md: its commands as printed, on made-up episodes of the original's lengths; its numbers."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import yaml
from ament_index_python.packages import get_package_share_directory

from dataset_recorder.convert.writer import DatasetSpec, DatasetWriter
from dataset_recorder.testing.datasets import as_v21
from hilserl_actor.settings import ActorParameters
from hilserl_core.checkpoint import newest_checkpoint
from hilserl_core.policy import PolicySpec
from hilserl_core.sac import SacConfig
from hilserl_core.step import Step
from hilserl_core.task import TaskSpec
from hilserl_core.training import TrainingConfig
from hilserl_learner.intake import Intake
from reach_grasp.command import main
from reach_grasp.task_files import task_of
from reward_classifier_node.settings import ClassifierSettings

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to-original-experiment.md"
CONFIG = Path(get_package_share_directory("reach_grasp")) / "config"

SUCCESS = (63, 63, 61, 75, 67, 61, 57, 45, 55, 43, 43, 27, 32, 41, 30)
RESET = (119, 116, 109, 115, 129, 90, 85, 78, None, 71, 67, 48, 68, 63, 53)
FAILED = {4: range(78, 89)}  # frames of an episode, after its success
RESET_FRAMES = 202  # in all; how many each episode has is made up, only their sum is known
LENGTHS = tuple(85 if end is None else end + 14 + (6 if episode == 0 else 0) for episode, end in enumerate(RESET))
SIZE, STEPS = 84, 3
RUN = "outputs/original/run"

SMALL_CLASSIFIER = {"trunk_widths": [8, 8, 8, 8], "trunk_updates": 20, "updates": 20, "patience": 1, "variants": 0}
SMALL_TRAINING = {"encoder_updates": 2, "encoder_batch_size": 8, "imitation_updates": 2, "critic_updates": 2, "variants": 1}


def write_table(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "success_start", "env_reset_start", "failure_ranges"])
        for episode, (success, reset) in enumerate(zip(SUCCESS, RESET, strict=True)):
            failed = FAILED.get(episode)
            writer.writerow([episode, success, reset or "", f"{failed[0]}-{failed[-1]}" if failed else ""])


def record(root: Path) -> Path:
    """A dataset as LeRobot's gym records one: joints in degrees, shapes of images with the channels first.

    Success is a bright image.
    """
    random = np.random.default_rng(0)
    writer = DatasetWriter(DatasetSpec(root, 10, "reach and grasp the red cube", "so101_follower"))
    for episode, length in enumerate(LENGTHS):
        with writer.episode(episode, length) as rows:
            for frame in range(length):
                held = frame >= SUCCESS[episode] and frame not in FAILED.get(episode, ())
                image = np.full((SIZE, SIZE, 3), 40 + 130 * held, np.uint8)
                image[20:40, frame % 60 : frame % 60 + 20] = (200, 30, 30)
                rows.image("wrist", image)
            pose = np.array([-0.4, -104.84, 97.05, 44.09, 89.45, 4.35])
            moved = np.linspace(0, 1, length)[:, None] * [5, 60, -40, 10, 0, 30]
            state = np.hstack([pose + moved, np.gradient(moved, 0.1, axis=0), np.zeros((length, 6))])
            rows.rows(
                {
                    "observation.state": state.astype(np.float32),
                    "action": random.uniform(-1, 1, (length, 4)).astype(np.float32),
                    "next.reward": np.zeros(length, np.float32),
                    "next.done": np.arange(length) == length - 1,
                },
                report={},
            )
    writer.finish(len(LENGTHS), {})
    (root / "meta/conversion.json").unlink()
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.wrist"] |= {"shape": [3, SIZE, SIZE], "names": ["channels", "height", "width"]}
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def commands() -> list[list[str]]:
    """The words of every command on the page, in its order."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("reach-grasp ")]


def shrink(file: Path, section: str, table: str, values: dict) -> None:
    """Change values of a parameter file that a training in seconds needs."""
    content = yaml.safe_load(file.read_text())
    content[section]["ros__parameters"].setdefault(table, {}).update(values)
    file.write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return record(tmp_path_factory.mktemp("original") / "v30")


def prepare(folder: Path, left_out: str = "") -> str:
    """Run the page's commands up to its training in a folder that holds the dataset; what they printed.

    left_out: a command whose result is in the folder already.
    """
    shutil.copytree(ROOT / "config", folder / "config")
    shrink(folder / "config/original_classifier.yaml", "/**/train_classifier", "classifier", SMALL_CLASSIFIER)
    shrink(folder / "config/original_sac.yaml", "/**/learner", "training", SMALL_TRAINING)
    shrink(folder / "config/original_sac.yaml", "/**/learner", "sac", {"batch_size": 8})
    write_table(folder / "labels.csv")
    *preparing, _ = commands()
    assert [words[0] for words in preparing] == [
        "label", "resize-images", "check-dataset", "train-classifier", "import-dataset",
    ]  # fmt: skip
    with chdir(folder), redirect_stdout(io.StringIO()) as said:
        for words in preparing:
            assert words[0] == left_out or main(words) == 0, said.getvalue()
    return said.getvalue()


@pytest.fixture(scope="module")
def road(recorded, tmp_path_factory) -> tuple[Path, str]:
    """Folder in which the commands ran on the dataset v2.1, and the text that they printed."""
    folder = tmp_path_factory.mktemp("road")
    as_v21(recorded, folder / "datasets/original")
    return folder, prepare(folder)


def demonstrations(folder: Path) -> list[Step]:
    """The steps that the learner finds before any of its own."""
    return [step for step in Intake(folder / RUN, task_of([folder / "config/task.yaml"])).restore() if not step.run_id]


def check_said(said: str) -> None:
    """Check the figures that the page promises for the original's dataset."""
    assert "15 episodes, 1296 frames, 522 of them success" in said
    assert "datasets/original-128 is consistent" in said
    assert "15 demonstrations" in said and "0 episodes without success left out" in said


def test_the_page_leads_from_a_dataset_v21_to_the_first_training_steps(road):
    folder, said = road
    check_said(said)
    shown = demonstrations(folder)
    assert sum(step.is_last for step in shown) == 15
    reset = task_of([folder / "config/task.yaml"]).reset_joints_rad
    np.testing.assert_allclose(shown[0].state[:5], reset[:5], atol=1e-3)  # recorded in degrees

    training = commands()[-1]
    assert training[:3] == ["train", "--run", RUN]
    program = [sys.executable, "-m", "reach_grasp.command", *training, "--steps", str(STEPS)]
    ended = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    checkpoint, _ = newest_checkpoint(folder / RUN / "checkpoints")
    trainer = json.loads((checkpoint / "training_state/trainer.json").read_text())
    assert (trainer["training_steps"], trainer["optimization_steps"]) == (STEPS, STEPS)


def test_a_dataset_v30_gives_the_same_demonstrations(road, recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / "datasets/original")
    shutil.copytree(road[0] / "outputs/original/classifier", tmp_path / "outputs/original/classifier")
    check_said(prepare(tmp_path, left_out="train-classifier"))
    for new, old in zip(demonstrations(tmp_path), demonstrations(road[0]), strict=True):
        assert (new.episode, new.index, new.reward, new.is_terminal) == (old.episode, old.index, old.reward, old.is_terminal)
        np.testing.assert_array_equal(new.state, old.state)
        assert new.images["wrist"].shape == (128, 128, 3)
        np.testing.assert_allclose(new.images["wrist"].mean(), old.images["wrist"].mean(), atol=2)


TABLES = {
    "task": TaskSpec,
    "classifier": ClassifierSettings,
    "policy": PolicySpec,
    "sac": SacConfig,
    "training": TrainingConfig,
    "actor": ActorParameters,
}
FILES = ("task", "policy", "record", "original_classifier", "original_sac")  # later ones count more


def settings_of(name: str) -> dict:
    """Every value of a table as the presets and the installed files have it."""
    values: dict = {}
    for file in FILES:
        for section, content in yaml.safe_load((CONFIG / f"{file}.yaml").read_text()).items():
            parameters = content["ros__parameters"]
            values |= parameters.get(name, {}) if name != "actor" else parameters if section == "/**/actor" else {}
    table = TABLES[name]
    if hasattr(table, "from_dict"):
        return table.from_dict(values).as_dict()
    return vars(table(**values))


def test_the_numbers_of_the_page_are_those_of_the_presets():
    rows = [line.split("|")[3] for line in PAGE.read_text().splitlines() if line.startswith("|")]
    found = [match for row in rows if (match := re.search(r"`(\w+)\.(\w+): (.+?)`", row))]
    assert len(found) > 25
    for table, name, value in (match.groups() for match in found):
        assert settings_of(table)[name] == yaml.safe_load(value), f"{table}.{name}"


def test_the_original_s_lengths_are_those_of_its_table():
    assert len(LENGTHS) == 15 and sum(LENGTHS) == 1498
    assert sum(LENGTHS) - RESET_FRAMES == 1296
