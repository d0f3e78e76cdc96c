# SPDX-License-Identifier: Apache-2.0
"""Bags of steps to datasets: exact rows that LeRobot reads, duplicates, gaps, modes, interruption, back-pressure."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from dataset_recorder.convert import conversion, steps
from dataset_recorder.convert.conversion import Options, Progress, convert
from dataset_recorder.convert.errors import BagError, ConversionError
from dataset_recorder.convert.video import CameraEncoder
from dataset_recorder.convert.writer import DatasetSpec, DatasetWriter
from dataset_recorder.testing import bags
from dataset_recorder.video import VideoError, VideoWriter
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec
from hilserl_ros.images import ImageError, rgb_to_image

LENGTHS = (7, 12, 5)


def episodes(lengths=LENGTHS, **more):
    found, first = [], 1
    for number, length in enumerate(lengths):
        found.append(bags.episode(length, number, first, **more))
        first += length + 1
    return found


def flat(parts):
    return [step for part in parts for step in part]


def lerobot(root):
    from lerobot.datasets import LeRobotDataset

    return LeRobotDataset("test/set", root=root, video_backend="pyav")


def pixels_of(message, camera):
    (image,) = (image for image in message.images if image.header.frame_id == camera)
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)


def report(root):
    return json.loads((root / "meta/conversion.json").read_text())


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def check_against(root, parts):
    """Every frame that LeRobot reads is the step it came from; the final observations are not rows."""
    data = lerobot(root)
    rows = [(number, message) for number, part in enumerate(parts) for message in part if len(message.action)]
    assert len(data) == len(rows) and data.num_episodes == len(parts)
    starts = np.cumsum([0, *(sum(len(m.action) > 0 for m in part) for part in parts)])
    for position, (number, message) in enumerate(rows):
        item = data[position]
        assert np.array_equal(item["observation.state"].numpy(), message.state)
        assert np.array_equal(item["action"].numpy(), message.action)
        assert item["next.reward"].item() == message.reward
        assert item["next.success"].item() == message.success
        assert item["complementary_info.is_intervention"].item() == message.intervention
        assert item["stamp_ns"].item() == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        assert item["episode_index"].item() == number and item["index"].item() == position
        assert item["timestamp"].item() == pytest.approx((position - starts[number]) / 10, abs=1e-6)
        for camera in ("wrist", "front"):
            shown = item[f"observation.images.{camera}"].numpy().transpose(1, 2, 0) * 255
            assert np.abs(shown - pixels_of(message, camera)).mean() < 5
        last = position + 1 == starts[number + 1]
        assert item["next.done"].item() == last
    return data


def test_lerobot_reads_every_frame_as_it_was_taken(tmp_path):
    parts = episodes()
    task = TaskSpec(name="grasp it", cameras=("wrist", "front"), camera_sizes=(64, 64) * 2, crops=(0, 0, 64, 64) * 2,
                    rotations_deg=(0, 0), image_size=64)  # fmt: skip
    bag = bags.write_steps(tmp_path / "bag", flat(parts), {"task": json.dumps(task.as_dict())})
    result = convert([bag], Options(tmp_path / "set"))
    assert (result.episodes, result.frames, result.duplicates, result.gaps) == (3, sum(LENGTHS), 0, 0)
    data = check_against(tmp_path / "set", parts)
    assert data[0]["task"] == "grasp it" and data.fps == 10
    assert data.meta.features["observation.state"]["names"][:2] == [
        "joint_positions.shoulder_pan",
        "joint_positions.shoulder_lift",
    ]
    assert not (tmp_path / "set.unfinished").exists()


def test_a_moving_square_stays_with_its_row(tmp_path):
    """Guards against a frame too few or too many: each decoded frame is nearest to its own picture, not to a neighbour's."""
    parts = episodes((30, 25))
    convert([bags.write_steps(tmp_path / "bag", flat(parts))], Options(tmp_path / "set"))
    data = lerobot(tmp_path / "set")
    shown = np.stack([data[i]["observation.images.wrist"].numpy().transpose(1, 2, 0) * 255 for i in range(len(data))])
    start = 0
    for part in parts:
        wanted = np.stack([pixels_of(message, "wrist") for message in part[:-1]]).astype(float)
        got = shown[start : start + len(wanted)]
        start += len(wanted)
        distance = ((got[:, None] - wanted[None]) ** 2).mean((2, 3, 4))
        own, others = np.diag(distance), distance + np.diag(np.full(len(wanted), np.inf))
        assert (own < others.min(1)).all()


def test_statistics_are_those_that_lerobot_computes(tmp_path):
    from lerobot.datasets.compute_stats import compute_episode_stats

    parts = episodes((140,))
    convert([bags.write_steps(tmp_path / "bag", flat(parts))], Options(tmp_path / "set"))
    stats = lerobot(tmp_path / "set").meta.stats
    rows = parts[0][:-1]
    columns = {"action": np.stack([m.action for m in rows]), "next.reward": np.array([m.reward for m in rows], np.float32)}
    features = {"action": {"dtype": "float32"}, "next.reward": {"dtype": "float32"}}
    for key, wanted in compute_episode_stats(columns, features).items():
        for name, value in wanted.items():
            np.testing.assert_allclose(stats[key][name], value, atol=1e-3, err_msg=f"{key} {name}")
    sampled = np.round(np.linspace(0, 139, 100)).astype(int)
    images = np.stack([pixels_of(rows[i], "wrist") for i in sampled]).reshape(-1, 3) / 255
    got = stats["observation.images.wrist"]
    assert got["count"] == [100] and got["mean"].shape == (3, 1, 1)
    np.testing.assert_allclose(got["mean"].ravel(), images.mean(0), atol=1e-6)
    np.testing.assert_allclose(got["std"].ravel(), images.std(0), atol=1e-6)
    np.testing.assert_allclose(got["q90"].ravel(), np.quantile(images, 0.9, axis=0), atol=1 / 255)


def test_steps_sent_again_are_dropped_and_counted_and_late_ones_take_their_place(tmp_path):
    parts = episodes((6, 6))
    order = flat(parts)
    late = order.pop(3)
    order[8:8] = [late, order[2], order[5]]
    convert([bags.write_steps(tmp_path / "bag", order)], Options(tmp_path / "set"))
    check_against(tmp_path / "set", parts)
    first, second = report(tmp_path / "set")["episodes"]
    assert (first["duplicates"], second["duplicates"], first["gaps"]) == (2, 0, [])
    assert first["out_of_order"] == 1


def test_a_step_in_two_bags_is_one_row(tmp_path):
    parts = episodes((6, 4))
    one = bags.write_steps(tmp_path / "bags/1", flat(parts))
    bags.write_steps(tmp_path / "bags/2", parts[1])
    result = convert([tmp_path / "bags"], Options(tmp_path / "set"))
    assert (result.frames, result.duplicates) == (10, 5)
    assert one.exists()


def test_gaps_are_reported_and_an_episode_cut_off_is_not_done(tmp_path):
    parts = episodes((8, 6))
    holed = parts[0][:3] + parts[0][5:]
    convert([bags.write_steps(tmp_path / "bag", holed + parts[1][:-1])], Options(tmp_path / "set"))
    first, second = report(tmp_path / "set")["episodes"]
    assert first["gaps"] == [{"after": 3, "missing": 2}] and first["rows"] == 6
    assert first["ended"] and not second["ended"] and second["rows"] == 6
    done = [lerobot(tmp_path / "set")[i]["next.done"].item() for i in range(12)]
    assert done == [False] * 5 + [True] + [False] * 6


def test_a_time_out_is_truncated_and_success_is_not(tmp_path):
    parts = [bags.episode(4, 0, 1, terminal=True), bags.episode(4, 1, 6, terminal=False)]
    convert([bags.write_steps(tmp_path / "bag", flat(parts))], Options(tmp_path / "set"))
    data = lerobot(tmp_path / "set")
    assert [(data[i]["next.done"].item(), data[i]["next.truncated"].item()) for i in (3, 7)] == [(True, False), (True, True)]


def test_a_missing_reward_is_marked_never_silent(tmp_path):
    part = bags.episode(5)
    part[2].has_reward, part[2].reward = False, 0.0
    convert([bags.write_steps(tmp_path / "bag", part)], Options(tmp_path / "set"))
    data = lerobot(tmp_path / "set")
    assert [data[i]["complementary_info.has_reward"].item() for i in range(5)] == [True, True, False, True, True]
    assert report(tmp_path / "set")["episodes"][0]["without_reward"] == 1


def test_modes_choose_the_episodes(tmp_path):
    parts = [bags.episode(3, 0, 1, mode=0), bags.episode(4, 1, 5, mode=1), bags.episode(5, 2, 10, mode=2)]
    bag = bags.write_steps(tmp_path / "bag", flat(parts))
    for modes, frames in (((0,), 3), ((1, 2), 9), ((0, 1, 2), 12)):
        root = tmp_path / f"set{frames}"
        assert convert([bag], Options(root, modes=tuple(Mode(mode) for mode in modes))).frames == frames
    assert report(tmp_path / "set3")["left_out"][0]["other_mode"] == 2
    bag = bags.write_steps(tmp_path / "other", parts[2])
    with pytest.raises(ConversionError, match=r"no episode to convert.*1 other mode"):
        convert([bag], Options(tmp_path / "none"))


@pytest.mark.parametrize("stop", range(len(LENGTHS)))
def test_a_conversion_interrupted_in_any_episode_goes_on_and_gives_the_same_dataset(tmp_path, monkeypatch, stop):
    bag = bags.write_steps(tmp_path / "bag", flat(episodes()))
    convert([bag], Options(tmp_path / "straight", workers=1))
    written, write = [], steps.StepEpisode.write

    def interrupted(episode, writer):
        if episode.report["episode"] == stop:
            writer.image("wrist", np.zeros((64, 64, 3), np.uint8))  # half an episode is on disk
            raise KeyboardInterrupt
        write(episode, writer)

    monkeypatch.setattr(steps.StepEpisode, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert([bag], Options(tmp_path / "set", workers=1))
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(steps.StepEpisode, "write", lambda e, w: (written.append(e.report["episode"]), write(e, w)))
    begun = []
    result = convert([bag], Options(tmp_path / "set", workers=1), Progress(begin=lambda *counts: begun.append(counts)))
    assert written == list(range(stop, 3)) and result.resumed == stop
    assert begun == [(sum(LENGTHS), sum(LENGTHS[:stop]))]
    one, other = ({p.relative_to(r): p.read_bytes() for p in r.rglob("*") if p.is_file()} for r in
                  (tmp_path / "straight", tmp_path / "set"))  # fmt: skip
    assert one == other


def test_progress_is_told_by_one_thread_at_a_time(tmp_path):
    """The demo's display fell over two threads that looked at its terminal at once."""
    inside, told = [], []

    def frames(count: int) -> None:
        inside.append(count)
        time.sleep(0.01)
        told.append(len(inside))
        inside.pop()

    bag = bags.write_steps(tmp_path / "bag", flat(episodes((8, 8, 8, 8))))
    convert([bag], Options(tmp_path / "set", workers=4), Progress(frames=frames))
    assert len(told) >= 4 and set(told) == {1}


def test_an_unfinished_conversion_of_other_bags_is_not_mixed_in(tmp_path, monkeypatch):
    one = bags.write_steps(tmp_path / "one", flat(episodes()))
    other = bags.write_steps(tmp_path / "other", flat(episodes((4, 4))))
    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            convert([one], Options(tmp_path / "set"))
    with pytest.raises(ConversionError, match="unfinished conversion of other bags"):
        convert([other], Options(tmp_path / "set"))
    assert convert([one], Options(tmp_path / "set")).resumed == 3
    with pytest.raises(ConversionError, match="exists already"):
        convert([one], Options(tmp_path / "set"))


def test_a_conversion_that_finished_no_episode_does_not_stand_in_the_way_of_another(tmp_path, monkeypatch):
    bag = bags.write_steps(tmp_path / "bag", flat(episodes((4,))))
    with monkeypatch.context() as patch:
        patch.setattr(steps.StepEpisode, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            convert([bag], Options(tmp_path / "set", fps=5))
    assert (tmp_path / "set.unfinished").is_dir()
    assert convert([bag], Options(tmp_path / "set")).frames == 4
    assert lerobot(tmp_path / "set").fps == 10 and not (tmp_path / "set.unfinished").exists()


def test_a_slow_encoder_holds_the_reader_and_drops_nothing(tmp_path, monkeypatch):
    encode, put, waiting = VideoWriter.write, CameraEncoder.put, []

    def slow(self, image):
        time.sleep(0.004)
        encode(self, image)

    def counted(self, image):
        put(self, image)
        waiting.append(self._queue.qsize())

    monkeypatch.setattr(VideoWriter, "write", slow)
    monkeypatch.setattr(CameraEncoder, "put", counted)
    parts = episodes((60,))
    convert([bags.write_steps(tmp_path / "bag", flat(parts))], Options(tmp_path / "set"))
    assert 4 <= max(waiting) <= 8  # the queue filled up to its bound and never beyond
    check_against(tmp_path / "set", parts)


def test_a_frame_too_few_is_an_error_at_the_end_of_its_episode(tmp_path):
    writer = DatasetWriter(DatasetSpec(tmp_path / "set", 10, "task", "arm"))
    sentence = "wrist has 4 encoded frames for 5 rows"
    with pytest.raises(ConversionError, match=sentence), writer.episode(0, 5) as e:
        for _ in range(4):
            e.image("wrist", np.zeros((32, 32, 3), np.uint8))
        e.rows({"action": np.zeros((5, 2), np.float32)})
    assert not writer.is_finished(0)


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_float_images_are_refused_never_guessed_to_be_of_0_to_1_or_255(tmp_path, scale):
    frame = next(bags.pictures(1, 64, 64)).astype(np.float32) * np.float32(scale)
    encoder = CameraEncoder(tmp_path / "wrist.mp4", 10, 1)
    encoder.put(frame)
    with pytest.raises(VideoError, match="wrist: frame 0 is float32, expected uint8 from 0 to 255"):
        encoder.finish()
    writer = VideoWriter(tmp_path / "edited.mp4", 10, 64, 64)
    with pytest.raises(VideoError, match="edited: frame 0 is float32, expected uint8 from 0 to 255"):
        writer.write(frame)
    writer.abandon()
    with pytest.raises(ImageError, match="pixels are float32"):
        rgb_to_image(frame)


def test_an_encoder_that_fails_ends_the_conversion(tmp_path, monkeypatch):
    def fails(self, *arguments):
        raise OSError("no space left")

    monkeypatch.setattr(VideoWriter, "write", fails)
    with pytest.raises(OSError, match="no space left"):
        convert([bags.write_steps(tmp_path / "bag", flat(episodes((40,))))], Options(tmp_path / "set"))


def test_many_small_files_are_read_like_one(tmp_path, monkeypatch):
    from dataset_recorder.convert import layout

    monkeypatch.setattr(layout, "VIDEO_MB", 1e-6)
    monkeypatch.setattr(layout, "DATA_MB", 1e-6)
    monkeypatch.setattr(layout, "FILES_PER_CHUNK", 2)
    parts = episodes()
    convert([bags.write_steps(tmp_path / "bag", flat(parts))], Options(tmp_path / "set"))
    assert (tmp_path / "set/videos/observation.images.wrist/chunk-001/file-000.mp4").is_file()
    check_against(tmp_path / "set", parts)


def test_other_tasks_do_not_mix(tmp_path):
    one = bags.write_steps(tmp_path / "one", bags.episode(3))
    other = bags.write_steps(tmp_path / "other", bags.episode(3, run_id="second", task_digest="f" * 16))
    with pytest.raises(ConversionError, match="was made under task ffff"):
        convert([one, other], Options(tmp_path / "set"))


def test_bags_that_cannot_be_read_say_so_in_a_sentence(tmp_path):
    options = Options(tmp_path / "set")
    with pytest.raises(BagError, match="does not exist"):
        convert([tmp_path / "nowhere"], options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="holds no bag"):
        convert([tmp_path / "empty"], options)
    cut = bags.write_steps(tmp_path / "cut", bags.episode(5))
    (cut / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"cut off: run `reach-grasp repair .*cut`"):
        convert([cut], options)
    half = bags.write_steps(tmp_path / "half", bags.episode(5))
    file = next(half.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match="reach-grasp repair"):
        convert([half], options)
    assert conversion.find_bags([tmp_path / "half"]) == [half]
