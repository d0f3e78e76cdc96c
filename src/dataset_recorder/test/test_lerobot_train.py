# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own training program trains a policy on a dataset that was converted here."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from dataset_recorder.convert.conversion import Options, convert
from dataset_recorder.testing import bags

STEPS = 2


def test_lerobot_train_runs_act_on_a_converted_dataset(tmp_path):
    bag = bags.write_steps(tmp_path / "bag", [*bags.episode(7), *bags.episode(6, 1, 9)])
    convert([bag], Options(tmp_path / "set"))
    small = {"chunk_size": 4, "n_action_steps": 4, "dim_model": 32, "n_heads": 2, "dim_feedforward": 32,
             "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 4}  # fmt: skip
    command = [
        sys.executable, "-m", "lerobot.scripts.lerobot_train",
        "--dataset.repo_id=test/set", f"--dataset.root={tmp_path / 'set'}", "--dataset.video_backend=pyav",
        "--policy.type=act", "--policy.pretrained_backbone_weights=null", "--policy.push_to_hub=false", "--policy.device=cpu",
        *(f"--policy.{name}={value}" for name, value in small.items()),
        f"--steps={STEPS}", "--batch_size=2", "--num_workers=0", "--log_freq=1", "--env_eval_freq=0", "--wandb.enable=false",
        f"--output_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    cache = {"HF_HOME": str(tmp_path / "huggingface"), "HF_LEROBOT_HOME": str(tmp_path / "lerobot")}
    environment = os.environ | cache | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    checkpoint = tmp_path / "run/checkpoints" / f"{STEPS:06d}"
    assert json.loads((checkpoint / "training_state/training_step.json").read_text())["step"] == STEPS
    policy = json.loads((checkpoint / "pretrained_model/config.json").read_text())
    assert {name: feature["shape"] for name, feature in policy["input_features"].items()} == {
        "observation.images.wrist": [3, 64, 64],
        "observation.images.front": [3, 64, 64],
        "observation.state": [18],
    }
    assert policy["output_features"]["action"]["shape"] == [4]
    assert (checkpoint / "pretrained_model/model.safetensors").stat().st_size > 1_000_000
