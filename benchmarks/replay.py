# SPDX-License-Identifier: Apache-2.0
"""The replay memory: bytes per step, and a batch with random shift, ready for the network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from lerobot.rl.buffer import ReplayBuffer
from lerobot.rl.trainer import preprocess_rl_batch

from benchmarks import lerobot_side, ours_side
from benchmarks.problem import BATCH, TASK, UTD, steps
from benchmarks.registry import Options
from benchmarks.rows import Row, Target
from benchmarks.timing import THREADS, Timed, take_turns
from hilserl_core.replay import Batch, Replay
from hilserl_core.step import Step
from hilserl_core.task import TaskSpec

_SHIFT = 4  # pixels, LeRobot's


def run(options: Options) -> Iterator[Row]:
    """The rows of this group."""
    yield from (row for row in _bytes_rows() if options.wanted(row.name))
    if options.wanted("replay_sample"):
        yield _sample_row(400 if options.quick else 1500, rounds=3 if options.quick else 7)


def filled_replay(recorded: list[Step], task: TaskSpec = TASK) -> Replay:
    """Our replay of pixels with all of `recorded`."""
    replay = Replay(task, ours_side.normalization(task), capacity=len(recorded), demonstration_capacity=1)
    for step in recorded:
        replay.add(step)
    return replay


def _bytes_rows() -> list[Row]:
    actions = 200
    recorded = list(steps(actions))
    ours = filled_replay(recorded)
    per_action = ours.bytes_per_step * ours.steps / actions  # the final observation of an episode is a step of its own
    rows = []
    for name, optimize, target in (
        ("replay_bytes_per_step", False, 7.8),
        ("replay_bytes_per_step_optimize_memory", True, 3.9),
    ):
        buffer = lerobot_side.filled_buffer(TASK, recorded, actions, optimize_memory=optimize, shift=False)
        rows.append(
            Row(
                name=name,
                ours=per_action,
                lerobot=_tensor_bytes(buffer) / len(buffer),
                unit="bytes",
                target=Target("ratio", target),
                note=f"Bytes of the arrays per action, in episodes of {actions // 2} actions whose final observation we store "
                f"as well; LeRobot {'with' if optimize else 'without'} optimize_memory.",
                conditions={"cameras": len(TASK.cameras), "image_size": TASK.image_size},
            )
        )
    return rows


def _tensor_bytes(buffer: ReplayBuffer) -> int:
    """Bytes of all tensors of LeRobot's buffer, each storage once."""
    tensors = [*buffer.states.values(), *buffer.next_states.values(), *buffer.complementary_info.values()]
    tensors += [buffer.actions, buffer.rewards, buffer.dones, buffer.truncateds, buffer.episode_ends]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def _sample_row(actions: int, rounds: int) -> Row:
    recorded = list(steps(actions))
    replay = filled_replay(recorded)
    buffer = lerobot_side.filled_buffer(TASK, recorded, actions)
    config = lerobot_side.policy_config(TASK)
    preprocessor = lerobot_side.learner(config, buffer, BATCH, UTD).preprocessor
    rng = np.random.default_rng(0)

    def ours() -> Batch:
        return replay.sample(BATCH, rng, demonstrations=0.0, max_shift=_SHIFT)

    def theirs() -> dict:
        return preprocess_rl_batch(preprocessor, buffer.sample(BATCH))

    _check_same_kind(ours(), theirs())
    sides = {"ours": Timed(ours, calls=20, warm_up=3), "lerobot": Timed(theirs, calls=2)}
    take_turns(sides, rounds)
    return Row(
        name="replay_sample",
        ours=1e3 * sides["ours"].median_s,
        lerobot=1e3 * sides["lerobot"].median_s,
        unit="ms",
        target=Target("ratio", 40.0),
        note=f"A batch of {BATCH}, observations and next observations of two cameras, shifted by up to {_SHIFT} pixels "
        f"and normalised. LeRobot's shift is {_shift_kind()}.",
        conditions={"batch": BATCH, "stored_steps": actions, "threads": THREADS, "rounds": rounds},
    )


def _shift_kind() -> str:
    return "compiled" if lerobot_side.shift_works_compiled() else "not compiled (torch.compile fails here)"


def _check_same_kind(ours: Batch, theirs: dict) -> None:
    """Both batches must be in the same units: the networks would not notice. Raises RuntimeError."""
    mean = torch.stack([theirs["state"][key].mean() for key in TASK.image_keys]).mean()
    deviation = torch.stack([theirs["state"][key].std() for key in TASK.image_keys]).mean()
    if abs(ours.observation.mean() - mean) > 0.05 or abs(ours.observation.std() - deviation) > 0.05:
        raise RuntimeError(
            f"the two batches are not normalised alike: mean {ours.observation.mean():.3f} and {mean:.3f}, "
            f"deviation {ours.observation.std():.3f} and {deviation:.3f}"
        )
