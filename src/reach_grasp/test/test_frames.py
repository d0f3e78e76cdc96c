# SPDX-License-Identifier: Apache-2.0
"""tf, tf_static and robot_description, where robot_state_publisher is not installed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import mujoco
import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from hilserl_ros import qos
from hilserl_ros.testing import Rig
from reach_grasp.frames import Frames
from reach_grasp.process import node_command
from reach_grasp.systems import nodes_of
from so101_description import JOINTS, joint_limits, urdf_path

LIMITS = joint_limits()
FRAMES = Frames(urdf_path().read_text())


def places(transforms: list[TransformStamped], base: str) -> dict[str, tuple[np.ndarray, Rotation]]:
    """Position (3,) m and rotation of each link in the base's frame."""
    found = {base: (np.zeros(3), Rotation.identity())}
    waiting = list(transforms)
    while waiting:
        ready = [item for item in waiting if item.header.frame_id in found]
        assert ready, f"no way from {base} to {[item.child_frame_id for item in waiting]}"
        for item in ready:
            place, turn = found[item.header.frame_id]
            shift, rotation = item.transform.translation, item.transform.rotation
            moved = place + turn.apply([shift.x, shift.y, shift.z])
            found[item.child_frame_id] = moved, turn * Rotation.from_quat([rotation.x, rotation.y, rotation.z, rotation.w])
            waiting.remove(item)
    return found


@given(st.tuples(*(st.floats(*LIMITS[name]) for name in JOINTS)))
def test_every_link_is_where_mujoco_has_it(positions):
    spec = mujoco.MjSpec.from_file(str(urdf_path()))
    spec.compiler.fusestatic = False
    model = spec.compile()
    data = mujoco.MjData(model)
    for name, value in zip(JOINTS, positions, strict=True):
        data.qpos[model.joint(name).qposadr[0]] = value
    mujoco.mj_kinematics(model, data)
    transforms = FRAMES.fixed + FRAMES.at(dict(zip(JOINTS, positions, strict=True)))
    found = places(transforms, "base_link")
    links = {model.body(index).name for index in range(1, model.nbody)} - {"base_link"}
    assert len(links) >= 8 and links <= found.keys()
    for name in links:
        place, turn = found[name]
        np.testing.assert_allclose(place, data.body(name).xpos, atol=1e-6)
        np.testing.assert_allclose(turn.as_matrix(), data.body(name).xmat.reshape(3, 3), atol=1e-6)


@pytest.mark.parametrize("positions", [{}, {"elbow": 1.0}, {"elbow_flex": float("nan")}, {"elbow_flex": float("inf")}])
def test_a_joint_without_a_position_has_no_frame(positions: Mapping[str, float]):
    assert FRAMES.at(positions) == []


def test_a_joint_that_slides_is_named():
    urdf = '<robot name="x"><joint name="rail" type="prismatic"><parent link="a"/><child link="b"/></joint></robot>'
    with pytest.raises(ValueError, match="joint rail of the robot description is prismatic"):
        Frames(urdf)


def test_the_node_moves_frames_while_somebody_listens(tmp_path):
    rig, moved, still, texts, stamps = Rig(7), [], [], [], itertools.count(1)
    (spec,) = (spec for spec in nodes_of("sim", {"namespace": "left"}) if spec.name == "frames")
    joints = rig.node.create_publisher(JointState, "/left/joint_states", qos.JOINT_STATES)
    rig.meanwhile = lambda: joints.publish(
        JointState(header=_header(next(stamps) * 0.02), name=list(JOINTS), position=[0.1] * len(JOINTS))
    )
    try:
        rig.spawn(node_command(spec, tmp_path))
        rig.node.create_subscription(TFMessage, "/left/tf_static", still.append, qos.latched())
        rig.node.create_subscription(String, "/left/robot_description", texts.append, qos.latched())
        rig.until(lambda: still and texts, "the description")
        rig.until(lambda: rig.node.count_publishers("/left/tf"), "the publisher of tf")
        assert not rig.node.count_subscribers("/left/joint_states"), "nobody listens"
        listener = rig.node.create_subscription(TFMessage, "/left/tf", moved.append, qos.TF)
        rig.until(lambda: len(moved) > 20, "transforms")
        rig.node.destroy_subscription(listener)
        rig.until(lambda: not rig.node.count_subscribers("/left/joint_states"), "it to stop listening")
    finally:
        rig.close()
    assert texts[0].data == urdf_path().read_text()
    assert {item.child_frame_id for item in still[0].transforms} == {item.child_frame_id for item in FRAMES.fixed}
    wanted = FRAMES.at(dict.fromkeys(JOINTS, 0.1))
    for message in moved:
        assert [item.transform for item in message.transforms] == [item.transform for item in wanted]
    times = [Time.from_msg(message.transforms[0].header.stamp).nanoseconds for message in moved]
    assert np.diff(times).min() >= 50_000_000, "20 times a second at most"


def _header(seconds: float):
    message = JointState().header
    message.stamp = Time(nanoseconds=round(seconds * 1e9)).to_msg()
    return message


def test_robot_state_publisher_does_it_where_it_is_installed(prefix):
    prefix.add("robot_state_publisher", "robot_state_publisher", "")
    specs = {spec.name: spec for spec in nodes_of("sim", {"namespace": "left"})}
    assert list(specs) == ["sim", "robot_state_publisher"]
    assert specs["robot_state_publisher"].parameters["robot_description"] == urdf_path().read_text()
    assert not {"robot_state_publisher", "frames"} & {spec.name for spec in nodes_of("sim", {"frames": "false"})}


def test_each_thing_to_look_at_has_an_argument_of_its_own(prefix):
    prefix.add("rviz2", "rviz2", "")
    for rviz, frames, overlay in itertools.product(("true", "false"), ("true", "false"), ("auto", "true", "false")):
        names = [spec.name for spec in nodes_of("sim", {"use_rviz": rviz, "frames": frames, "overlay": overlay})]
        marked = rviz == "true" if overlay == "auto" else overlay == "true"
        assert names == ["sim", *["frames"] * (frames == "true"), *["overlay"] * marked, *["rviz2"] * (rviz == "true")]
