# SPDX-License-Identifier: Apache-2.0
"""Bags recorded by anyone: the mapping file, causal sampling, rules for gaps, units and image encodings."""

from __future__ import annotations

import copy
import io
import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_recorder.convert.align import Gap, Track, align
from dataset_recorder.convert.conversion import Options, convert
from dataset_recorder.convert.errors import ConversionError, MappingError
from dataset_recorder.convert.images import rgb_of
from dataset_recorder.convert.mapping import load_mapping, parse_mapping
from dataset_recorder.testing import bags
from hilserl_ros.images import ImageError

START = 10**9 * 1_700_000_000
JOINTS = ("shoulder_pan", "gripper")
SOURCE = {"topic": "joint_states", "field": "position", "tolerance_s": 0.05, "gap": "hold"}
CAMERA = {"topic": "wrist/image_raw", "tolerance_s": 0.1, "gap": "drop"}
COMMAND = {"topic": "joint_command", "field": "points.0.positions", "tolerance_s": 0.2, "gap": "fail"}
MAPPING = {
    "fps": 10,
    "task": "grasp it",
    "features": {
        "observation.images.wrist": CAMERA,
        "observation.state": SOURCE | {"joints": ["gripper", "shoulder_pan"]},
        "action": COMMAND,
    },
}
stamps = st.lists(st.integers(0, 3 * 10**9), min_size=1, max_size=40)


@given(stamps, stamps, st.integers(1, 60), st.floats(0, 0.5), st.sampled_from([Gap.HOLD, Gap.DROP]))
@settings(deadline=None, max_examples=300)
def test_a_row_is_the_newest_message_never_one_from_the_future(one, other, fps, tolerance, gap):
    tracks = [Track(str(n), np.array(values, np.int64), tolerance, gap) for n, values in enumerate((one, other))]
    try:
        aligned = align(tracks, fps)
    except ConversionError as error:
        assert gap is Gap.DROP and "no tick is left" in str(error)
        return
    for track, picks, ages in zip(tracks, aligned.picks, aligned.ages_s, strict=True):
        for tick, pick, age in zip(aligned.ticks_ns, picks, ages, strict=True):
            assert track.stamps_ns[pick] == max(stamp for stamp in track.stamps_ns if stamp <= tick)
            assert age == pytest.approx((tick - track.stamps_ns[pick]) / 1e9) and age >= 0
            assert gap is Gap.HOLD or age <= tolerance + 1e-9
    assert aligned.ticks_ns[0] >= max(min(one), min(other)) and aligned.ticks_ns[-1] <= max(*one, *other)
    assert aligned.grid >= len(aligned.ticks_ns) and (gap is Gap.DROP or aligned.grid == len(aligned.ticks_ns))


def shade(number):
    return np.full((32, 48, 3), 40 + 5 * number, np.uint8)


def joints_at(ns, value):
    fields = {"name": list(JOINTS), "position": np.array([value, value + 0.5]), "velocity": np.empty(0), "effort": np.empty(0)}
    kind = "sensor_msgs/msg/JointState"
    return "/joint_states", kind, ns, bags.message(kind, header=bags.header(ns), **fields)


def command_at(ns, value):
    duration = bags.message("builtin_interfaces/msg/Duration", sec=0, nanosec=0)
    empty = {"velocities": np.empty(0), "accelerations": np.empty(0), "effort": np.empty(0)}
    point = bags.message(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=np.array([value, -value], float),
        time_from_start=duration,
        **empty,
    )
    kind = "trajectory_msgs/msg/JointTrajectory"
    return "/joint_command", kind, ns, bags.message(kind, header=bags.header(ns), joint_names=list(JOINTS), points=[point])


def image_at(ns, pixels, late_ns=30_000_000, **more):
    return "/wrist/image_raw", "sensor_msgs/msg/Image", ns + late_ns, bags.image(pixels, ns, "wrist", **more)


def recorded(skip_images=(), frames=20, **more):
    """Ten images and commands a second and a hundred joint states; image n has the shade n, joint states tell their time."""
    found = [joints_at(START + 10_000_000 * n, n / 100) for n in range(10 * frames)]
    found += [command_at(START + 100_000_000 * n, n) for n in range(frames)]
    found += [image_at(START + 100_000_000 * n + 20_000_000, shade(n), **more) for n in range(frames) if n not in skip_images]
    return sorted(found, key=lambda item: item[2])


def dataset(root):
    return pq.read_table(next((root / "data").rglob("*.parquet"))).to_pydict()


def converted(tmp_path, messages, mapping, **more):
    bag = bags.write_bag(tmp_path / "bag", messages, **more)
    convert([bag], Options(tmp_path / "set", mapping=parse_mapping(mapping)))
    return json.loads((tmp_path / "set/meta/conversion.json").read_text())["episodes"][0], dataset(tmp_path / "set")


def shades(root, count):
    from lerobot.datasets import LeRobotDataset

    data = LeRobotDataset("test/set", root=root, video_backend="pyav")
    assert len(data) == count
    return [round((data[i]["observation.images.wrist"].mean().item() * 255 - 40) / 5) for i in range(count)]


def test_rows_are_what_was_known_at_their_time(tmp_path):
    report, rows = converted(tmp_path, recorded(), MAPPING)
    ticks = (np.array(rows["stamp_ns"]) - START) / 1e9
    np.testing.assert_allclose(ticks, 0.02 + np.arange(len(ticks)) / 10)
    state = np.array(rows["observation.state"])
    np.testing.assert_allclose(state[:, 1], ticks, atol=1e-6)  # by name: the gripper comes first
    np.testing.assert_allclose(state[:, 0], ticks + 0.5, atol=1e-6)
    assert [row[0] for row in rows["action"]] == list(range(len(ticks)))
    np.testing.assert_allclose(rows["age_s.action"], 0.02, atol=1e-6)
    assert rows["next.done"] == [False] * (len(ticks) - 1) + [True] and "next.reward" not in rows
    assert report["dropped"] == 0 and report["features"][1]["age_s"]["max"] < 0.01
    assert shades(tmp_path / "set", len(ticks)) == list(range(len(ticks)))


def test_a_gap_drops_the_frame(tmp_path):
    report, rows = converted(tmp_path, recorded(skip_images=(7, 8, 9)), MAPPING)
    assert report["dropped"] == 2 and report["features"][0]["dropped"] == 2
    assert max(rows["age_s.observation.images.wrist"]) <= 0.1 + 1e-6
    assert shades(tmp_path / "set", 18) == [*range(7), 6, *range(10, 20)]


def test_a_gap_is_held_with_its_age(tmp_path):
    mapping = MAPPING | {"features": MAPPING["features"] | {"observation.images.wrist": CAMERA | {"gap": "hold"}}}
    report, rows = converted(tmp_path, recorded(skip_images=(7, 8, 9)), mapping)
    assert report["features"][0]["held"] == 2 and report["dropped"] == 0
    np.testing.assert_allclose(rows["age_s.observation.images.wrist"][6:11], [0, 0.1, 0.2, 0.3, 0], atol=1e-6)
    assert shades(tmp_path / "set", 20) == [*range(7), 6, 6, 6, *range(10, 20)]


def test_a_gap_fails(tmp_path):
    mapping = MAPPING | {"features": MAPPING["features"] | {"observation.images.wrist": CAMERA | {"gap": "fail"}}}
    with pytest.raises(ConversionError, match=r"wrist/image_raw\) is 0.200 s old at 0.800 s"):
        converted(tmp_path, recorded(skip_images=(7, 8, 9)), mapping)
    assert not (tmp_path / "set").exists()


def test_a_late_image_is_not_used_before_its_stamp_says(tmp_path):
    """Received two frames late and out of order, an image still belongs to the time of its stamp."""
    messages = [item for item in recorded() if item[0] != "/wrist/image_raw"]
    messages += [image_at(START + 100_000_000 * n + 20_000_000, shade(n), late_ns=250_000_000 * (n % 2)) for n in range(20)]
    converted(tmp_path, sorted(messages, key=lambda item: item[2]), MAPPING)
    assert shades(tmp_path / "set", 20) == list(range(20))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "jpeg", "png"])
def test_every_encoding_gives_the_same_colours(tmp_path, encoding):
    colour = np.array((100, 100, 100) if encoding == "mono8" else (200, 120, 40), np.uint8)
    rgb = np.broadcast_to(colour, (32, 48, 3))
    topic, kind = "/wrist/image_raw", "sensor_msgs/msg/Image"
    if encoding in ("jpeg", "png"):
        with io.BytesIO() as file:
            Image.fromarray(np.ascontiguousarray(rgb)).save(file, encoding)
            data = np.frombuffer(file.getvalue(), np.uint8)
        kind = "sensor_msgs/msg/CompressedImage"
        made = [bags.message(kind, header=bags.header(START + n * 10**8), format=encoding, data=data) for n in range(5)]
    else:
        order = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2, 0], "bgra8": [2, 1, 0, 0], "mono8": [0]}[encoding]
        made = [bags.image(rgb[:, :, order], START + n * 10**8, "wrist", encoding, padding=5) for n in range(5)]
    messages = [(topic, kind, START + n * 10**8, item) for n, item in enumerate(made)]
    converted(tmp_path, messages, {"fps": 10, "task": "t", "features": {"observation.images.wrist": CAMERA}})
    import av

    with av.open(str(next((tmp_path / "set").rglob("*.mp4")))) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 5
    assert all(np.abs(frame.astype(int) - colour).max() <= 6 for frame in frames)


def compressed(pixels, form, kind="png"):
    """A CompressedImage of pixels as OpenCV stores them."""
    data = cv2.imencode(f".{kind}", pixels)[1]
    return bags.message("sensor_msgs/msg/CompressedImage", header=bags.header(START), format=form, data=data)


WIDE = np.random.default_rng(3).integers(0, 65536, (6, 8, 3), np.uint16)
BAYER = np.tile(np.array([[255, 0], [0, 0]], np.uint8), (4, 4))  # red under RGGB


@pytest.mark.parametrize(
    ("pixels", "form", "expected"),
    [
        (WIDE, "rgb16; png compressed bgr16", np.rint(WIDE[:, :, ::-1] / 257)),
        (WIDE, "png", np.rint(WIDE[:, :, ::-1] / 257)),
        (WIDE[:, :, 0], "mono16; png compressed ", np.repeat(np.rint(WIDE[:, :, :1] / 257), 3, 2)),
        (WIDE[:, :, 0] >> 8, "mono8; png compressed ", np.repeat(WIDE[:, :, :1] >> 8, 3, 2)),
        (WIDE[:, :, 0] >> 8, "png", np.repeat(WIDE[:, :, :1] >> 8, 3, 2)),
        (BAYER, "bayer_rggb8; png compressed ", np.broadcast_to((255, 0, 0), (8, 8, 3))),
        (BAYER, "bayer_rggb8; png compressed mono8", np.repeat(BAYER[:, :, None], 3, 2)),
    ],
)
def test_a_compressed_image_has_the_colours_that_its_format_tells(pixels, form, expected):
    small = pixels.astype(np.uint8) if pixels.max() < 256 else pixels
    np.testing.assert_array_equal(rgb_of(compressed(small, form)), expected)


@pytest.mark.parametrize(
    ("form", "kind", "sentence"),
    [
        ("16UC1; compressedDepth png", "png", "'16UC1; compressedDepth png' holds distances and no colours"),
        ("16UC1; png compressed ", "png", "'16UC1; png compressed ' holds distances"),
        ("16UC1; jpeg compressed mono8", "jpg", "holds distances"),
        ("32FC1; compressedDepth", "png", "holds distances"),
        ("png", "png", "holds one channel of more than 8 bits, which may be distances"),
    ],
)
def test_a_compressed_image_of_distances_is_never_taken_as_colours(form, kind, sentence):
    distances = np.arange(48, dtype=np.uint16).reshape(6, 8) * 100
    with pytest.raises(ImageError, match=sentence):
        rgb_of(compressed(distances if kind == "png" else (distances >> 8).astype(np.uint8), form, kind))


def test_a_topic_of_distances_gives_no_dataset(tmp_path):
    distances = np.zeros((32, 48, 2), np.uint8)
    messages = [image_at(START + n * 10**8, distances, encoding="16UC1") for n in range(3)]
    mapping = {"fps": 10, "task": "t", "features": {"observation.images.wrist": CAMERA}}
    with pytest.raises(ConversionError, match="encoding '16UC1' holds distances and no colours"):
        converted(tmp_path, messages, mapping)
    assert not (tmp_path / "set").exists()


def test_units_and_parts(tmp_path):
    degrees = SOURCE | {"joints": ["shoulder_pan"], "unit": {"from": "rad", "to": "deg"}}
    percent = SOURCE | {"joints": ["gripper"], "unit": {"from": "rad", "to": "percent", "range": [0.5, 1.0]}}
    features = {"observation.state": [degrees, percent], "next.reward": SOURCE | {"field": "position.0"}}
    _, rows = converted(tmp_path, recorded(), {"fps": 10, "task": "t", "features": features})
    assert rows["observation.state"][3] == pytest.approx([np.rad2deg(0.3), 60.0], rel=1e-5)
    assert rows["next.reward"][3] == pytest.approx(0.3)
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert info["features"]["observation.state"]["names"] == ["shoulder_pan", "gripper"] and info["video_path"] is None


@pytest.mark.parametrize("unit", [("deg", "rad"), ("percent", "rad"), ("percent", "deg"), ("rad", "rad"), ("deg", "percent")])
def test_a_unit_and_its_opposite_undo_each_other(unit):
    limits = {"range": [-0.2, 0.8]} if "percent" in unit else {}
    there, back = (
        parse_mapping({"fps": 1, "task": "t", "features": {"action": SOURCE | {"unit": {"from": a, "to": b} | limits}}})
        .features["action"][0]
        .unit
        for a, b in (unit, unit[::-1])
    )
    values = np.array([-0.3, 0.0, 12.5])
    np.testing.assert_allclose(back(there(values)), values, atol=1e-12)


def changed(path, value):
    made = json.loads(json.dumps(MAPPING))
    place = made
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("fsp",), 10, r"unknown key 'fsp', allowed: fps, task, robot_type, features"),
        (("fps",), 0, r"fps is 0, expected a whole number"),
        (("fps",), 29.97, r"fps is 29.97"),
        (("features",), {}, r"features is \{\}"),
        (("features", "observation/state"), SOURCE, r"no feature 'observation/state', allowed: observation.images"),
        (("features", "reward"), SOURCE, r"no feature 'reward'"),
        (("features", "action", "topik"), "x", r"action has the unknown key 'topik', allowed: topic, field"),
        (("features", "action", "gap"), "zero", r"action.gap is 'zero', allowed: hold, drop, fail"),
        (("features", "action", "gap"), None, r"action lacks 'gap'"),
        (("features", "action", "tolerance_s"), -1, r"action.tolerance_s is -1"),
        (("features", "action", "unit"), {"from": "rad", "to": "turns"}, r"action.unit.to is 'turns', allowed: rad, deg"),
        (("features", "action", "unit"), {"from": "rad", "to": "percent"}, r"action.unit.range is None"),
        (("features", "action", "joints"), ["a", "a"], r"action.joints is"),
        (("features", "observation.images.wrist", "unit"), {}, r"wrist has the unknown key 'unit'"),
        (("features", "observation.images.wrist"), [CAMERA, CAMERA], r"has 2 sources, expected one"),
    ],
)
def test_a_wrong_mapping_names_what_is_allowed(tmp_path, path, value, sentence):
    file = tmp_path / "mapping.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(MappingError, match=rf"mapping.yaml: .*{sentence}"):
        load_mapping(file)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("features", "action", "topic"), "commands", r"no topic /commands \(for action\), it has: /joint_command"),
        (("features", "action", "field"), "points.0.place", r"no field 'points.0.place', at 'place' there are: positions"),
        (("features", "action", "field"), "points.1.positions", r"at '1' there are: 1 values"),
        (("features", "action", "field"), "joint_names", r"is not numbers"),
        (("features", "observation.state", "joints"), ["wrist"], r"'wrist' is not among them"),
        (("features", "observation.state", "field"), "velocity", r"has 0 values of the joints"),
        (("features", "observation.images.wrist", "topic"), "joint_states", r"cannot come from /joint_states"),
    ],
)
def test_a_mapping_that_does_not_fit_the_bag_says_what_there_is(tmp_path, path, value, sentence):
    with pytest.raises(MappingError, match=sentence):
        converted(tmp_path, recorded(), changed(path, value))


def test_the_example_in_the_reference_is_a_valid_mapping():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[3] / "docs/mapping.md").read_text()
    mapping = parse_mapping(yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]))
    assert len(mapping.features["observation.state"]) == 2


def test_stamps_that_are_missing_are_an_error_unless_receipt_counts(tmp_path):
    kind = "std_msgs/msg/Float64"
    messages = [("/value", kind, START + n * 10**8, bags.message(kind, data=n / 2)) for n in range(5)]
    source = {"topic": "value", "field": "data", "tolerance_s": 0.1, "gap": "fail"}
    mapping = {"fps": 10, "task": "t", "features": {"action": source}}
    with pytest.raises(MappingError, match="no header, its source needs `stamp: receipt`"):
        converted(tmp_path, messages, mapping, plugin="sqlite3")
    by_receipt = parse_mapping(mapping | {"features": {"action": source | {"stamp": "receipt"}}})
    convert([tmp_path / "bag"], Options(tmp_path / "set", mapping=by_receipt))
    assert dataset(tmp_path / "set")["action"] == [[0.0], [0.5], [1.0], [1.5], [2.0]]


def with_another(messages, topic, number, change):
    """The messages, of which one of a topic is another: change(type, message) -> message."""
    row = [index for index, item in enumerate(messages) if item[0] == topic][number]
    name, kind, received, message = messages[row]
    return [*messages[:row], (name, kind, received, change(kind, message)), *messages[row + 1 :]]


@pytest.mark.parametrize("gap", ["hold", "drop"])
@pytest.mark.parametrize("days", [40, -40])
def test_a_stamp_of_another_clock_is_left_out_and_counted_and_makes_no_grid_of_days(tmp_path, gap, days):
    def stray(kind, message):
        message.header.stamp.sec += days * 86400
        return message

    mapping = copy.deepcopy(MAPPING)
    mapping["features"]["observation.images.wrist"] |= {"gap": gap, "tolerance_s": 0.05}
    report, rows = converted(tmp_path, with_another(recorded(), "/wrist/image_raw", 12, stray), mapping)
    (camera,) = (item for item in report["features"] if item["topic"] == "/wrist/image_raw")
    assert len(camera["left_out"]) == 1 and "message 12 of /wrist/image_raw" in camera["left_out"][0]
    assert len(rows["stamp_ns"]) == (20 if gap == "hold" else 19) and camera["held" if gap == "hold" else "dropped"] == 1


def test_a_camera_of_another_clock_is_named(tmp_path):
    messages = recorded()
    for topic, _, _, message in messages:
        if topic == "/wrist/image_raw":
            message.header.stamp.sec += 86400
    with pytest.raises(MappingError, match=r"/wrist/image_raw is stamped .*86400 s from .* needs `stamp: receipt`"):
        converted(tmp_path, messages, MAPPING)


@pytest.mark.parametrize("broken", ["cut short", "not finite", "without a stamp"])
def test_one_bad_message_is_as_if_it_had_not_come_and_is_named(tmp_path, broken):
    def spoil(kind, message):
        if broken == "cut short":
            message.data = message.data[: len(message.data) // 2]
        elif broken == "not finite":
            message.position[:] = np.nan
        else:
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        return message

    topic = "/joint_states" if broken == "not finite" else "/wrist/image_raw"
    mapping = copy.deepcopy(MAPPING)
    mapping["features"]["observation.images.wrist"] |= {"gap": "hold"}
    report, rows = converted(tmp_path, with_another(recorded(), topic, 7, spoil), mapping)
    told = [sentence for item in report["features"] for sentence in item["left_out"]]
    assert told and all(f"message 7 of {topic}, received at" in sentence for sentence in told)
    assert len(rows["stamp_ns"]) == 20
    if topic != "/joint_states":
        assert shades(tmp_path / "set", 20)[6:9] == [6, 6, 8]


def test_a_vector_or_an_image_that_changes_its_size_is_named(tmp_path):
    mapping = copy.deepcopy(MAPPING)
    mapping["features"]["observation.state"].pop("joints")

    def longer(kind, message):
        message.name, message.position = [*message.name, "extra"], np.append(message.position, 0.0)
        return message

    with pytest.raises(MappingError, match=r"/joint_states has 2 values, then 3 from message 50 on.*name its joints"):
        converted(tmp_path / "a", with_another(recorded(), "/joint_states", 50, longer), mapping)
    larger = image_at(START + 1_020_000_000, np.zeros((64, 96, 3), np.uint8))[3]
    messages = with_another(recorded(), "/wrist/image_raw", 10, lambda kind, message: larger)
    with pytest.raises(MappingError, match=r"/wrist/image_raw has .* pixels, then 96 x 64 from message 10 on"):
        converted(tmp_path / "b", messages, MAPPING)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_a_mapping_is_read_or_refused_by_its_encoding(tmp_path, encoding):
    file = tmp_path / "m.yaml"
    file.write_bytes(yaml.safe_dump(MAPPING | {"task": "Greif den grünen Würfel"}, allow_unicode=True).encode(encoding))
    if encoding == "latin-1":
        with pytest.raises(MappingError, match=r"m.yaml is not UTF-8 text .* save it as UTF-8"):
            load_mapping(file)
    else:
        assert load_mapping(file).task == "Greif den grünen Würfel"
