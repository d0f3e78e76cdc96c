# SPDX-License-Identifier: Apache-2.0
"""Replay: which transitions may be sampled, what is in them, what they cost."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilserl_core.frames import shifted, shifted_normalized
from hilserl_core.normalization import IMAGE_MEAN, IMAGE_STD, Normalization
from hilserl_core.replay import Batch, Replay
from hilserl_core.step import Mode, Step
from hilserl_core.task import TaskSpec

TASK = TaskSpec(
    image_size=40, cameras=("wrist", "front"), camera_sizes=(40, 40) * 2, crops=(0, 0, 40, 40) * 2, rotations_deg=(0, 0)
)
IDENTITY = Normalization(-np.ones(TASK.state_size), np.ones(TASK.state_size))
FEATURES = (2, 3, 3)


def make_step(sequence: int, episode: int, index: int, mode: Mode = Mode.TRAINING, **changes) -> Step:
    """A step whose state, action, reward and images all say its sequence number."""
    images = {name: np.full((40, 40, 3), (sequence * 2 + camera) % 256, np.uint8) for camera, name in enumerate(TASK.cameras)}
    values = {
        "run_id": "run", "sequence": sequence, "episode": episode, "index": index, "mode": mode, "stamp_ns": sequence,
        "is_first": index == 0, "is_last": False, "is_terminal": False, "images": images,
        "state": np.full(TASK.state_size, sequence, np.float32), "action": np.full(TASK.action_size, sequence, np.float32),
        "reward": float(sequence), "intervention": False, "success": False, "policy_version": 1,
    }  # fmt: skip
    return Step(**(values | changes))


def episode(first: int, number: int, length: int, terminal: bool, mode: Mode = Mode.TRAINING) -> list[Step]:
    """`length` actions and a final observation; one that is terminal succeeded."""
    steps = [make_step(first + index, number, index, mode) for index in range(length)]
    end = {"is_last": True, "is_terminal": terminal, "success": terminal, "action": None, "reward": None}
    return [*steps, make_step(first + length, number, length, mode, **end)]


def with_help(steps: list[Step], *sequences: int) -> list[Step]:
    """The same steps, of which a person drove some."""
    return [dataclasses.replace(step, intervention=step.sequence in sequences) for step in steps]


def imitated(replay: Replay) -> set[int]:
    """Sequence numbers of the transitions that are imitated."""
    return set(drawn(replay, demonstrations=1.0)) if replay.demonstration_size else set()


def experience(replay: Replay) -> set[int]:
    """Sequence numbers of the transitions that are experience."""
    return set(drawn(replay, demonstrations=0.0)) if replay.online_size else set()


def pixel_replay(capacity: int = 100, demonstrations: int = 100) -> Replay:
    return Replay(TASK, IDENTITY, capacity, demonstrations)


def drawn(replay: Replay, count: int = 500, **options) -> dict[int, tuple[int, float]]:
    """Sequence number of every transition that can be sampled -> sequence number of its next observation, done."""
    batch = replay.sample(count, np.random.default_rng(0), **options)
    states, nexts = batch.state[:, 0].round().int().tolist(), batch.next_state[:, 0].round().int().tolist()
    assert batch.action[:, 0].tolist() == states and batch.reward.tolist() == states
    return {state: (following, done) for state, following, done in zip(states, nexts, batch.done.tolist(), strict=True)}


def test_next_is_the_following_step_and_done_only_where_the_episode_ended():
    replay = pixel_replay()
    for step in episode(1, 0, 3, terminal=True) + episode(5, 1, 2, terminal=False):
        replay.add(step)
    assert drawn(replay) == {1: (2, 0.0), 2: (3, 0.0), 3: (4, 1.0), 5: (6, 0.0), 6: (7, 0.0)}
    assert replay.online_size == 5 and replay.steps == 7


def test_a_time_out_keeps_its_own_final_observation():
    """LeRobot's optimize_memory bootstraps a time-out from the next episode's first frame."""
    replay = pixel_replay()
    for step in episode(1, 0, 2, terminal=False) + episode(50, 1, 2, terminal=True):
        replay.add(step)
    assert drawn(replay)[2] == (3, 0.0)


def test_a_step_is_usable_once_its_successor_is_there():
    replay = pixel_replay()
    replay.add(make_step(1, 0, 0))
    with pytest.raises(ValueError, match="no transition"):
        replay.sample(4, np.random.default_rng(0))
    replay.add(make_step(2, 0, 1))
    assert drawn(replay) == {1: (2, 0.0)}


@pytest.mark.parametrize(
    "changes", [{"run_id": "other"}, {"episode": 3}, {"index": 4}, {"index": 0, "is_first": True}], ids=str
)
def test_a_broken_episode_never_links_unrelated_steps(changes):
    replay = pixel_replay()
    replay.add(make_step(1, 0, 0))
    replay.add(make_step(2, 0, 1))
    replay.add(dataclasses.replace(make_step(3, 0, 2), **changes))
    assert drawn(replay) == {1: (2, 0.0)}


def test_a_step_without_reward_is_no_transition():
    replay = pixel_replay()
    replay.add(make_step(1, 0, 0))
    replay.add(make_step(2, 0, 1, reward=None))
    replay.add(make_step(3, 0, 2, action=None, reward=None, is_last=True))
    assert drawn(replay) == {1: (2, 0.0)}


def test_interventions_are_in_both_sets_and_evaluation_in_none():
    replay = pixel_replay()
    for step in episode(1, 0, 2, True, Mode.DEMONSTRATION):
        replay.add(step)
    for step in with_help(episode(10, 1, 4, True), 11, 12):
        replay.add(step)
    for step in episode(30, 2, 4, True, Mode.EVALUATION):
        replay.add(step)
    assert set(drawn(replay, demonstrations=1.0)) == {1, 2, 11, 12}
    assert set(drawn(replay, demonstrations=0.0)) == {10, 11, 12, 13}
    assert replay.demonstration_size == 4 and replay.online_size == 4 and replay.size == 6
    batch = replay.sample(64, np.random.default_rng(1))
    assert batch.by_person.sum() == 32
    assert set(batch.state[batch.by_person][:, 0].int().tolist()) <= {1, 2, 11, 12}


@pytest.mark.parametrize("mode", [Mode.DEMONSTRATION, Mode.TRAINING], ids=["demonstration", "intervention"])
def test_what_a_person_did_in_an_episode_that_failed_is_experience_and_never_imitated(mode):
    replay = pixel_replay()
    for step in with_help(episode(1, 0, 3, False, mode), 1, 2, 3) + with_help(episode(10, 1, 3, True, mode), 10, 11, 12):
        replay.add(step)
    assert imitated(replay) == {10, 11, 12}
    assert {1, 2, 3} <= experience(replay) and replay.demonstration_size == 3 and replay.size == 6
    batch = replay.sample(256, np.random.default_rng(0))
    assert set(batch.state[batch.by_person][:, 0].int().tolist()) == {10, 11, 12}


@pytest.mark.parametrize("mode", [Mode.DEMONSTRATION, Mode.TRAINING], ids=["demonstration", "intervention"])
def test_what_a_person_does_is_imitated_only_once_its_episode_has_succeeded(mode):
    replay, steps = pixel_replay(), with_help(episode(1, 0, 3, True, mode), 1, 2, 3)
    for step in steps[:-1]:
        replay.add(step)
        assert replay.demonstration_size == 0
    replay.add(steps[-1])
    assert imitated(replay) == {1, 2, 3}


@pytest.mark.parametrize("mode", [Mode.DEMONSTRATION, Mode.TRAINING], ids=["demonstration", "intervention"])
def test_an_episode_that_broke_off_is_not_imitated_with_the_next_one(mode):
    replay = pixel_replay()
    for step in with_help(episode(1, 0, 3, True, mode), 1, 2, 3)[:3] + with_help(episode(10, 1, 2, True, mode), 10, 11):
        replay.add(step)
    assert imitated(replay) == {10, 11} and {1, 2} <= experience(replay)


@settings(max_examples=50, deadline=None)
@given(
    plans=st.lists(st.tuples(st.integers(1, 7), st.booleans(), st.integers(0, 3)), min_size=1, max_size=8),
    capacity=st.integers(2, 12),
)
def test_whatever_the_ring_still_holds_what_is_imitated_succeeded(plans, capacity):
    """plans: length of an episode, whether it succeeds, and from which index on a person drives."""
    replay, steps = Replay(TASK, IDENTITY, capacity, 4), []
    for number, (length, success, begins) in enumerate(plans):
        first = len(steps) + 1
        steps += with_help(episode(first, number, length, success), *range(first + begins, first + length))
    for step in steps:
        replay.add(step)
    kept = steps[-capacity:]
    usable = [a for a, b in itertools.pairwise(kept) if a.episode == b.episode]
    assert imitated(replay) == {step.sequence for step in usable if step.intervention and plans[step.episode][1]}
    assert replay.online_size == len(usable)


def test_demonstrations_alone_fill_the_batch():
    replay = pixel_replay()
    for step in episode(1, 0, 3, True, Mode.DEMONSTRATION):
        replay.add(step)
    assert set(drawn(replay)) == {1, 2, 3}


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=8), capacity=st.integers(2, 12))
def test_a_full_ring_forgets_the_oldest_and_never_mixes(lengths, capacity):
    replay, steps = Replay(TASK, IDENTITY, capacity, 4), []
    for number, length in enumerate(lengths):
        steps += episode(len(steps) + 1, number, length, terminal=number % 2 == 0)
    for step in steps:
        replay.add(step)
    kept = steps[-capacity:]
    expected = {a.sequence: (b.sequence, float(b.is_terminal)) for a, b in itertools.pairwise(kept) if a.episode == b.episode}
    assert replay.online_size == len(expected)
    if expected:
        assert drawn(replay) == expected


def test_demonstrations_survive_a_full_online_ring():
    replay = pixel_replay(capacity=5)
    for step in episode(1, 0, 2, True, Mode.DEMONSTRATION):
        replay.add(step)
    for step in episode(10, 1, 40, False):
        replay.add(step)
    assert set(drawn(replay, demonstrations=1.0)) == {1, 2}


def test_pixels_are_what_lerobots_normaliser_makes_of_the_frames():
    replay = pixel_replay()
    steps = episode(1, 0, 2, True, Mode.DEMONSTRATION) + episode(10, 1, 2, True)
    rng = np.random.default_rng(0)
    for step in steps:
        for image in step.images.values():
            image[:] = rng.integers(0, 256, image.shape)
        replay.add(step)
    batch = replay.sample(16, np.random.default_rng(0), max_shift=0)
    by_sequence = {step.sequence: step for step in steps}
    sequences = torch.cat([batch.state, batch.next_state])[:, 0].int().tolist()
    mean, std = torch.tensor(IMAGE_MEAN).view(3, 1, 1), torch.tensor(IMAGE_STD).view(3, 1, 1)
    for row, sequence in enumerate(sequences):
        for camera, name in enumerate(TASK.cameras):
            image = torch.from_numpy(by_sequence[sequence].images[name]).permute(2, 0, 1).float() / 255
            torch.testing.assert_close(batch.both[row, camera], (image - mean) / std, atol=2e-6, rtol=1e-5)


def reference(frames: np.ndarray, slots: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Pad with the border, crop, normalise: slowly."""
    out = []
    for slot, moves in zip(slots, shifts, strict=True):
        for image, (down, right) in zip(frames[slot], moves, strict=True):
            pad = 5
            padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
            height, width = image.shape[:2]
            out.append(padded[pad - down : pad - down + height, pad - right : pad - right + width])
    images = np.stack(out).reshape(len(slots), *frames.shape[1:]) / 255
    return ((images - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(6, 12), width=st.integers(6, 12), cameras=st.integers(1, 2))
def test_the_fused_shift_equals_padding_and_cropping(seed, height, width, cameras):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (5, cameras, height, width, 3), dtype=np.uint8)
    slots, shifts = rng.integers(5, size=7), rng.integers(-5, 6, size=(7, cameras, 2))
    out = np.empty((7, cameras, height, width, 3), np.float32)
    rows = rng.permutation(7)
    shifted_normalized(frames, slots, shifts, out, rows)
    np.testing.assert_allclose(out[rows], reference(frames, slots, shifts), atol=3e-6)
    moved = shifted(frames[slots[0]], *shifts[0, 0])
    expected = reference(frames, slots[:1], np.repeat(shifts[:1, :1], cameras, 1))[0]
    np.testing.assert_allclose((moved / 255 - IMAGE_MEAN) / IMAGE_STD, expected, atol=3e-6)


def test_shifts_differ_between_images_and_follow_the_generator():
    replay = pixel_replay()
    for step in episode(1, 0, 1, True):
        for image in step.images.values():
            image[:] = np.arange(40)[:, None, None] + np.arange(40)[None, :, None]
        replay.add(step)

    def sample(seed: int) -> torch.Tensor:
        return replay.sample(32, np.random.default_rng(seed)).both.clone()

    first = sample(0)
    assert len({tuple(image[0, 20:24, 20].tolist()) for image in first.flatten(0, 1)}) > 5
    torch.testing.assert_close(first, sample(0), atol=0, rtol=0)
    assert not torch.equal(first, sample(1))


def test_stored_features_come_back_with_a_drawn_variant():
    replay = Replay(TASK, IDENTITY, 50, 50, feature_shape=FEATURES, variants=3)
    for mode, steps in (
        (Mode.TRAINING, episode(1, 0, 2, True)),
        (Mode.DEMONSTRATION, episode(9, 1, 1, True, Mode.DEMONSTRATION)),
    ):
        for step in steps:
            features = np.full((3, 2, *FEATURES), step.sequence, np.float16) + np.arange(3)[:, None, None, None, None] / 4
            assert mode == step.mode
            replay.add(step, features.astype(np.float16))
    batch = replay.sample(200, np.random.default_rng(0))
    rest = (batch.both - batch.both.floor()).mean((1, 2, 3, 4))
    assert batch.both.shape == (400, 2, *FEATURES) and batch.both.dtype == torch.float32
    assert set(rest.tolist()) == {0.0, 0.25, 0.5}
    sequences = torch.cat([batch.state, batch.next_state])[:, 0]
    assert torch.equal(batch.both.floor()[:, 0, 0, 0, 0], sequences)


def test_a_batch_splits_into_observation_and_next():
    replay = pixel_replay()
    for step in episode(1, 0, 2, True):
        replay.add(step)
    batch = replay.sample(8, np.random.default_rng(0))
    assert isinstance(batch, Batch)
    assert batch.observation.shape == batch.next_observation.shape == (8, 2, 3, 40, 40)
    assert batch.observation[0, 0].is_contiguous(memory_format=torch.contiguous_format) is False  # channels last


def test_frames_are_stored_once_and_take_memory_only_when_they_arrive():
    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    before = resident()
    replay = Replay(TASK, IDENTITY, 2_000_000, 1_000_000)  # 28 GB when full
    raw = 2 * 40 * 40 * 3
    assert replay.bytes_per_step <= 1.05 * raw
    count = 3000
    for sequence in range(1, count + 1):
        replay.add(make_step(sequence, 0, sequence - 1))
    assert resident() - before <= 1.05 * count * raw + 8e6
