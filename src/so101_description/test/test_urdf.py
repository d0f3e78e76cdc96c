# SPDX-License-Identifier: Apache-2.0
"""The URDF says what is known of the real arm, and its frames point where they should."""

from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest

from so101_description import JOINTS, joint_limits, urdf_path

# Joint -> lower limit, upper limit [rad], mass of its child link [kg].
TABLE = {
    "shoulder_pan": (-1.91986, 1.91986, 0.100),
    "shoulder_lift": (-1.74533, 1.74533, 0.103),
    "elbow_flex": (-1.69, 1.69, 0.104),
    "wrist_flex": (-1.65806, 1.65806, 0.079),
    "wrist_roll": (-2.74385, 2.84121, 0.087),
    "gripper": (-0.174533, 1.74533, 0.012),
}


@pytest.fixture(scope="module")
def arm() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_path(str(urdf_path()))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_limits_and_masses_are_those_of_the_real_arm(arm) -> None:
    model, _ = arm
    assert tuple(TABLE) == JOINTS
    for name, (lower, upper, mass) in TABLE.items():
        joint = model.joint(name)
        np.testing.assert_allclose(joint.range, [lower, upper], atol=1e-6)
        np.testing.assert_allclose(joint.axis, [0, 0, 1])
        assert model.body_mass[joint.bodyid[0]] == pytest.approx(mass)
        assert joint_limits()[name] == (lower, upper)
    assert model.body("base_link").mass[0] == pytest.approx(0.147)


def test_every_inertia_is_possible(arm) -> None:
    model, _ = arm
    for body in range(1, model.nbody):
        if model.body_mass[body] > 0:
            a, b, c = sorted(model.body_inertia[body])
            assert a > 0 and a + b >= c, model.body(body).name


def test_the_wrist_camera_looks_between_the_jaws(arm) -> None:
    _, data = arm
    camera, jaws = data.body("wrist_camera_optical_frame"), data.body("gripper_frame_link")
    in_camera = camera.xmat.reshape(3, 3).T @ (jaws.xpos - camera.xpos)  # x right, y down, z forward
    assert in_camera[2] > 0.05
    assert np.abs(in_camera[:2] / in_camera[2]).max() < np.tan(np.radians(20))
    opening = camera.xmat.reshape(3, 3).T @ data.body("gripper_link").xmat.reshape(3, 3)[:, 0]
    assert opening[0] < -0.99, "the moving jaw is on the left of the image"


def test_the_gap_between_the_pads_is_that_of_the_real_gripper(arm) -> None:
    model, data = arm

    def gap(angle: float) -> float:
        data.qpos[model.joint("gripper").qposadr[0]] = angle
        mujoco.mj_forward(model, data)
        fixed, moving = (data.geom(name) for name in ("fixed_pad", "moving_pad"))
        opening = data.body("gripper_link").xmat.reshape(3, 3)[:, 0]
        return float((moving.xpos - fixed.xpos) @ opening) - 0.006

    assert gap(0.0) == pytest.approx(0.016, abs=0.002)
    assert gap(0.12) == pytest.approx(0.025, abs=0.002)
    normals = [data.geom(name).xmat.reshape(3, 3)[:, 0] for name in ("fixed_pad", "moving_pad")]
    assert abs(normals[0] @ normals[1]) > 0.9999, "the pads are parallel on the cube"


def test_the_description_draws_without_mesh_files() -> None:
    tree = ElementTree.parse(urdf_path())
    assert not tree.findall(".//mesh")
    assert {joint.get("name") for joint in tree.findall("joint") if joint.get("type") == "revolute"} == set(JOINTS)
