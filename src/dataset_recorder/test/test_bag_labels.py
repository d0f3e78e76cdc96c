# SPDX-License-Identifier: Apache-2.0
"""Labels from what bags recorded: each frame gets what was said about its own image."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from dataset_recorder.bag_labels import labels_from_bags
from dataset_recorder.check import check
from dataset_recorder.convert.conversion import Options, convert
from dataset_recorder.convert.errors import BagError
from dataset_recorder.convert.mapping import parse_mapping
from dataset_recorder.dataset import DatasetError, column, open_dataset
from dataset_recorder.edit import Labelled, relabel
from dataset_recorder.labels import LabelError
from dataset_recorder.testing import bags

ACTIONS = (12, 10)
# What the simulator says of each image, the final one included: a slip in the first episode, no success in the second.
TRUTH = ([0.0] * 4 + [1.0] * 3 + [0.0] * 2 + [1.0] * 4, [0.0] * 11)
SUCCESS, FAILURE, STOP = 0, 1, 3


def stamp_of(step):
    return step.header.stamp.sec * 10**9 + step.header.stamp.nanosec


def reward(ns, probability, success):
    fields = {"probability": probability, "reward": float(success), "success": success, "artifact": "simulation"}
    return bags.message(bags.REWARD, header=bags.header(ns), **fields)


def event(ns, kind):
    return "/episode/event", bags.EVENT, ns, bags.message(bags.EVENT, header=bags.header(ns), kind=kind, source="person")


def write(folder, number, more=(), topic="/truth", skip=()):
    """One episode with the truth about each of its images, and a latched one from before it, as the recorder puts it there."""
    steps = bags.episode(ACTIONS[number], number, 1 + 20 * number)
    stamps, truth = [stamp_of(step) for step in steps], TRUTH[number]
    debounced = [n >= 2 and min(truth[n - 2 : n + 1]) > 0.5 for n in range(len(truth))]
    said = [(topic, bags.REWARD, stamps[0], reward(stamps[0] - bags.TICK_NS, 1.0, True))]
    for n, (ns, value) in enumerate(zip(stamps, truth, strict=True)):
        if n not in skip:
            said += [(name, bags.REWARD, ns, reward(ns, value, debounced[n])) for name in (topic, "/reward")]
    said += [("/steps", bags.STEP, ns, step) for ns, step in zip(stamps, steps, strict=True)]
    said += [event(stamps[0] + round(at * bags.TICK_NS), kind) for at, kind in more]
    return bags.write_bag(folder / f"{number:06d}", sorted(said, key=lambda item: item[2]))


def dataset(tmp_path, **more):
    found = [write(tmp_path / "bags/run", number, **more) for number in range(2)]
    convert(found, Options(tmp_path / "set"))
    return tmp_path / "set"


def shown(root, source, bags=()):
    table, lengths = labels_from_bags(root, source, bags), [episode.length for episode in open_dataset(root).episodes]
    assert all(table.episodes[n].kept(length).all() for n, length in enumerate(lengths))
    return [table.episodes[n].rewards(length).tolist() for n, length in enumerate(lengths)]


@pytest.mark.parametrize("topic", ["/truth", "/cell_3/truth"])
def test_a_frame_has_the_truth_about_its_own_image_from_the_first_pinch_on(tmp_path, topic):
    """Not the step's reward, which is about the next image and comes two frames late, when success is sure."""
    assert shown(dataset(tmp_path, topic=topic), "truth") == [TRUTH[0][:-1], TRUTH[1][:-1]]


def test_the_recorded_reward_says_success_when_it_is_sure(tmp_path):
    assert shown(dataset(tmp_path), "reward") == [[0.0] * 6 + [1] + [0] * 4 + [1], [0] * 10]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([(3.5, SUCCESS)], [0] * 3 + [1] * 9),  # the person had seen frame 3
        ([(3.0, SUCCESS), (7.2, FAILURE), (7.9, STOP), (9.1, SUCCESS)], [0] * 3 + [1] * 4 + [0] * 2 + [1] * 3),
        ([(11.5, SUCCESS)], [0] * 11 + [1]),
        ([(-0.5, SUCCESS)], [0] * 12),  # left over from the episode before
        ([(14.0, SUCCESS)], [0] * 12),  # after the episode
    ],
)
def test_a_person_said_success_of_the_frame_that_was_newest(tmp_path, events, expected):
    root = dataset(tmp_path, more=events)
    assert shown(root, "events")[0] == expected


def test_the_labelled_dataset_keeps_every_frame_and_is_consistent(tmp_path):
    root = dataset(tmp_path)
    done = relabel(root, labels_from_bags(root, "truth"), tmp_path / "new")
    assert done == Labelled(episodes=2, frames=22, positive=6)
    assert check(tmp_path / "new") == []
    new = open_dataset(tmp_path / "new")
    assert [column(new.rows(episode), "next.reward").tolist() for episode in new.episodes] == [TRUTH[0][:-1], TRUTH[1][:-1]]
    assert shown(tmp_path / "new", "truth") == [TRUTH[0][:-1], TRUTH[1][:-1]]  # still knows its bags


def test_bags_that_moved_are_found_by_the_end_of_their_names(tmp_path):
    root = dataset(tmp_path)
    shutil.move(tmp_path / "bags", tmp_path / "archive")
    with pytest.raises(DatasetError, match="is not there any more: say where the bags are now with --bags"):
        labels_from_bags(root, "truth")
    shutil.copytree(tmp_path / "archive/run", tmp_path / "archive/other")
    assert shown(root, "truth", [tmp_path / "archive"])[0] == TRUTH[0][:-1]
    shutil.move(tmp_path / "archive/run", tmp_path / "archive/third")
    with pytest.raises(DatasetError, match=r"could be .*run/000000, which the dataset was made from"):
        labels_from_bags(root, "truth", [tmp_path / "archive"])


def test_frames_about_which_nothing_is_said_are_named(tmp_path):
    root = dataset(tmp_path, skip=(4, 6))
    with pytest.raises(LabelError, match=r"truth of .*000000 says nothing about 2 of the 12 frames of episode 0, .* frame 4"):
        labels_from_bags(root, "truth")


def test_two_answers_about_one_frame_are_refused(tmp_path):
    stamp = stamp_of(bags.episode(12, 0, 1)[2])
    found = [write(tmp_path / "bags/run", 0), write(tmp_path / "bags/run", 1)]
    convert(found, Options(tmp_path / "set"))
    shutil.rmtree(found[0])
    said = [("/truth", bags.REWARD, stamp, reward(stamp, probability, False)) for probability in (0.0, 1.0)]
    bags.write_bag(found[0], said)
    with pytest.raises(LabelError, match="/truth says two things about the frame"):
        labels_from_bags(tmp_path / "set", "truth")


def test_what_a_bag_lacks_is_said(tmp_path):
    root = dataset(tmp_path, topic="/elsewhere")
    with pytest.raises(LabelError, match="has 0 topics truth, expected one; it has /elsewhere, /reward, /steps"):
        labels_from_bags(root, "truth")
    (tmp_path / "bags/run/000001/metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"its recording was cut off: run `reach-grasp repair .*000001`"):
        labels_from_bags(root, "reward")


def test_a_dataset_that_was_not_converted_is_refused(recorded):
    with pytest.raises(DatasetError, match="was not made from bags by `reach-grasp convert`"):
        labels_from_bags(recorded, "truth")


def test_rows_sampled_from_plain_topics_have_the_truth_about_the_image_they_hold(tmp_path):
    """The camera is slower than the rows: a row that repeats an image repeats its label, though the truth is known oftener."""
    start, camera_ns = 10**9 * 1_700_000_000, 150_000_000
    truth = [n >= 7 for n in range(20)]
    said = []
    for n in range(20):
        ns = start + n * 75_000_000
        said.append(("/truth", bags.REWARD, ns, reward(ns, float(truth[n]), False)))
    for n, pixels in enumerate(bags.pictures(10, 32, 48)):
        ns = start + n * camera_ns
        said.append(("/wrist/image_raw", "sensor_msgs/msg/Image", ns, bags.image(pixels, ns, "wrist")))
        empty = {"velocity": np.empty(0), "effort": np.empty(0)}
        joints = bags.message("sensor_msgs/msg/JointState", header=bags.header(ns), name=["a"], position=np.ones(1), **empty)
        said.append(("/joint_states", "sensor_msgs/msg/JointState", ns, joints))
    bags.write_bag(tmp_path / "bag", said)
    joints = {"topic": "joint_states", "field": "position", "tolerance_s": 0.5, "gap": "hold"}
    features = {
        "observation.images.wrist": {"topic": "wrist/image_raw", "tolerance_s": 0.5, "gap": "hold"},
        "observation.state": joints,
        "action": joints,
    }
    mapping = parse_mapping({"fps": 10, "task": "grasp it", "features": features})
    convert([tmp_path / "bag"], Options(tmp_path / "set", mapping=mapping))
    expected = [float(truth[2 * (row * 100_000_000 // camera_ns)]) for row in range(14)]
    assert shown(tmp_path / "set", "truth") == [expected]


def test_bags_in_which_no_person_said_anything_give_no_labels(tmp_path):
    """Before, all frames became failures and nothing was reported."""
    with pytest.raises(LabelError, match="holds a word of events: label from another source, or by a table"):
        labels_from_bags(dataset(tmp_path), "events")
