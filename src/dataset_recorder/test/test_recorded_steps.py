# SPDX-License-Identifier: Apache-2.0
"""What the recorder writes, the conversion reads: also after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rclpy.serialization import serialize_message

from dataset_recorder.bag_writer import BagWriter, Topic
from dataset_recorder.convert.conversion import Options, convert
from dataset_recorder.convert.errors import ConversionError
from dataset_recorder.repair import repair
from hilserl_core.step import Mode, Step
from hilserl_core.task import TaskSpec
from hilserl_ros.convert import step_to_message

TASK = TaskSpec(camera_sizes=(64, 64), crops=(0, 0, 64, 64), image_size=64)


def _record(folder: Path, actions: int, close: bool) -> list[np.ndarray]:
    """An episode of `actions` actions as the actor sends it; the states of its rows."""
    notes = {"task": json.dumps(TASK.as_dict()), "task_digest": TASK.digest()}
    writer = BagWriter(folder, [Topic("/steps", "hilserl_interfaces/msg/Step")], notes)
    rng, states = np.random.default_rng(0), []
    for index in range(actions + 1):
        last = index == actions
        step = Step(
            run_id="run", sequence=index + 1, episode=0, index=index, mode=Mode.DEMONSTRATION, stamp_ns=10**8 * (index + 1),
            is_first=index == 0, is_last=last, is_terminal=last, state=rng.normal(size=TASK.state_size).astype(np.float32),
            images={"wrist": np.full((64, 64, 3), 10 * index, np.uint8)},
            action=None if last else rng.uniform(-1, 1, TASK.action_size).astype(np.float32),
            reward=None if last else float(index == actions - 1), intervention=True, success=index >= actions - 1,
            policy_version=0,
        )  # fmt: skip
        states += [] if last else [step.state]
        writer.write("/steps", step.stamp_ns, serialize_message(step_to_message(step, TASK)))
    if close:
        writer.close()
    else:
        writer.flush()
        writer.abort()
    return states


def _options(root: Path) -> Options:
    return Options(root, "me/grasp", None, (Mode.DEMONSTRATION,), None, None, "so101")


@pytest.mark.parametrize("killed", [False, True])
def test_an_episode_becomes_rows_exactly(tmp_path, killed):
    states = _record(tmp_path / "bag", 5, close=not killed)
    if killed:
        with pytest.raises(ConversionError, match="reach-grasp repair"):
            convert([tmp_path / "bag"], _options(tmp_path / "dataset"))
        repair(tmp_path / "bag")
    result = convert([tmp_path / "bag"], _options(tmp_path / "dataset"))
    assert (result.episodes, result.frames) == (1, 5)
    (file,) = (tmp_path / "dataset" / "data").rglob("*.parquet")
    table = pq.read_table(file).to_pydict()
    assert np.array_equal(np.array(table["observation.state"], np.float32), np.stack(states))
    assert table["next.reward"] == [0.0, 0.0, 0.0, 0.0, 1.0]
