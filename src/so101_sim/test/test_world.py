# SPDX-License-Identifier: Apache-2.0
"""The simulated world: what counts as a grasp, what a seed determines, what cameras see."""

import hashlib
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from hilserl_core.action import Controller
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec
from so101_sim import scene
from so101_sim.config import FIXED, WorldConfig, WorldError
from so101_sim.operator import OperatorConfig, ScriptedOperator
from so101_sim.world import World

TASK = TaskSpec()


@pytest.fixture
def world() -> World:
    return World(task=TASK)


def _grasp(world: World, seed: int, ticks: int = 100, miss_m: tuple[float, float] = (0.0, 0.0)) -> Controller:
    """Let the scripted person work until success, or for so many ticks. miss_m: they believe the cube so far off, x and y."""
    controller = Controller(TASK, world.kinematics)
    person = ScriptedOperator(OperatorConfig(), TASK, world.kinematics)
    world.reset(seed)
    person.begin(Mode.DEMONSTRATION, seed)
    controller.latch(world.joint_positions)
    for _ in range(ticks):
        position, turn = world.cube_pose
        _, action = person.act(world.joint_positions, (position + np.append(miss_m, 0.0), turn))
        world.step(controller.command(action, world.joint_positions).joints)
        if world.success:
            break
    return controller


@pytest.mark.parametrize("seed", range(4))
def test_no_command_within_the_workspace_pushes_into_the_table(seed: int) -> None:
    """Where it could, a finger stuck in the table kept the jaws from closing, with all the arm's strength."""

    def pushed(task: TaskSpec) -> tuple[float, float]:
        """The largest force of the arm on the table [N], and how far the jaws came to be closed [rad]."""
        world = World(task=task)
        controller = Controller(task, world.kinematics)
        world.reset(seed)
        controller.latch(world.joint_positions)
        start = world.model.joint("cube").qposadr[0]
        world.data.qpos[start : start + 2] = 0.35, 0.16  # out of the way
        largest, wrench = 0.0, np.zeros(6)
        for tick in range(50):
            down_and_close = np.array([0.0, 0.0, -1.0, -1.0 if tick > 25 else 0.0])
            world.step(controller.command(down_and_close, world.joint_positions).joints)
            for index, contact in enumerate(world.data.contact):
                if world.model.geom("cube").id not in contact.geom:
                    mujoco.mj_contactForce(world.model, world.data, index, wrench)
                    largest = max(largest, abs(wrench[0]))
        return largest, world.joint_positions[-1]

    force, gripper = pushed(TASK)
    assert force == 0.0 and gripper < -0.15
    force, gripper = pushed(replace(TASK, workspace_min_m=(0.10, -0.15, -0.02)))
    assert force > 20.0 and gripper > 0.2, "what it is for"


def _touching(world: World) -> set[str]:
    """What touches the cube."""
    cube = world.model.geom("cube").id
    return {world.model.geom(sum(contact.geom) - cube).name for contact in world.data.contact if cube in contact.geom}


def _place_cube(world: World, place_in_gripper: np.ndarray) -> None:
    """Put the cube at a place (3,) m in the gripper's frame, aligned with it."""
    body = world.model.body("gripper_link").id
    rotation = world.data.xmat[body].reshape(3, 3)
    position = world.data.xpos[body] + rotation @ place_in_gripper
    start = world.model.joint("cube").qposadr[0]
    world.data.qpos[start : start + 3] = position
    mujoco.mju_mat2Quat(world.data.qpos[start + 3 : start + 7], rotation.ravel())
    mujoco.mj_forward(world.model, world.data)


def test_a_grasped_cube_is_pinched_barely_penetrated_and_comes_along(world: World) -> None:
    controller = _grasp(world, seed=1)
    assert world.success
    assert 0.0 < world.grasp().penetration_m < 0.0008
    for action in [[0, 0, 0, -1]] * 5 + [[0, 0, 0.25, -1]] * 16:
        world.step(controller.command(np.array(action), world.joint_positions).joints)
    assert world.cube_pose[0][2] > 0.05
    assert world.success


def test_a_cube_held_across_its_corners_is_a_grasp(world: World) -> None:
    """The engine gives such a contact the normal of either face; the forces oppose each other all the same."""
    world.reset(2_000_063)
    controller = Controller(TASK, world.kinematics)
    controller.latch(world.joint_positions)
    person = ScriptedOperator(OperatorConfig(failures_every=3), TASK, world.kinematics, 2_000_000)
    person.begin(Mode.DEMONSTRATION, 63)
    while not world.success:
        assert world.ticks < 60
        _, action = person.act(world.joint_positions, world.cube_pose)
        world.step(controller.command(action, world.joint_positions).joints)
    opening = world.data.xmat[world.model.body("gripper_link").id][::3]
    cube = world.model.geom("cube").id
    normals = [contact.frame[:3] for contact in world.data.contact if cube in contact.geom]
    assert any(0.5 < abs(normal @ opening) < 0.8 for normal in normals), "this test is to hold it across its corners"
    for action in [[0, 0, 0, -1]] * 5 + [[0, 0, 0.25, -1]] * 16:
        world.step(controller.command(np.array(action), world.joint_positions).joints)
    assert world.success and world.cube_pose[0][2] > 0.05


def test_a_cube_between_one_pad_and_the_other_jaws_body_is_a_grasp(world: World) -> None:
    """It comes along as any other does."""
    controller = _grasp(world, seed=28, miss_m=(0.0127, 0.0139))
    assert world.success
    for action in [[0, 0, 0, -1]] * 5 + [[0, 0, 0.25, -1]] * 16:
        world.step(controller.command(np.array(action), world.joint_positions).joints)
    assert _touching(world) == {"fixed_pad", "moving_jaw_collision"}, "this test is to hold it so"
    assert world.success and world.cube_pose[0][2] > 0.05


def test_a_cube_held_and_pressed_onto_the_table_is_a_grasp(world: World) -> None:
    controller = _grasp(world, seed=3)
    for _ in range(3):
        world.step(controller.command(np.array([0.0, 0.0, -0.15, -1.0]), world.joint_positions).joints)
    cube, table = world.model.geom("cube").id, world.model.geom("table").id
    pressed, wrench = 0.0, np.zeros(6)
    for index, contact in enumerate(world.data.contact):
        if set(contact.geom) == {cube, table}:
            mujoco.mj_contactForce(world.model, world.data, index, wrench)
            pressed += wrench[0]
    assert pressed > 20.0, "this test is to press"
    assert world.success


def test_success_needs_as_many_ticks_as_configured(world: World) -> None:
    _grasp(world, seed=1)
    ticks = world.ticks
    patient = World(replace(WorldConfig(), success_ticks=6), TASK)
    _grasp(patient, seed=1)
    assert patient.ticks == ticks + 3


def test_a_cube_on_one_jaw_only_is_not_a_grasp() -> None:
    world = World(replace(FIXED, min_force_n=0.05), TASK)
    _place_cube(world, np.array([-0.0079 + 0.0125 - 0.0003, 0.0, -0.09]))  # 0.3 mm into the fixed pad, gripper open
    grasp = world.grasp()
    assert grasp.forces_n[0] > world.config.min_force_n
    assert grasp.forces_n[1] == 0.0
    assert not grasp.opposed
    assert not grasp.pinched


def test_a_cube_deep_in_both_jaws_is_not_a_grasp() -> None:
    world = World(FIXED, TASK)
    world.data.qpos[world.model.joint("gripper").qposadr[0]] = 0.05  # closer than the cube is wide
    mujoco.mj_forward(world.model, world.data)
    _place_cube(world, np.array([-0.0079 + 0.0105, 0.0, -0.09]))
    grasp = world.grasp()
    assert grasp.opposed
    assert grasp.penetration_m > 0.002
    assert not grasp.pinched


def test_default_contacts_would_be_refused_as_a_grasp() -> None:
    world = World(FIXED, TASK)
    for geom in range(world.model.ngeom):
        world.model.geom_solref[geom], world.model.geom_solimp[geom] = (0.02, 1.0), (0.9, 0.95, 0.001, 0.5, 2.0)
    _grasp(world, seed=1, ticks=60)
    assert not world.success


def test_jaws_pressing_on_top_of_the_cube_are_not_a_grasp() -> None:
    world = World(replace(FIXED, start_gripper_rad=(0.05, 0.05), start_spread_m=(0.0, 0.0, 0.0)), TASK)
    tip_to_table = world.kinematics.forward(world.joint_positions).position[2]
    _place_cube(world, np.array([-0.0079 + 0.0095, 0.0, -0.0981 - tip_to_table + 0.0125]))
    controller = Controller(TASK, world.kinematics)
    controller.latch(world.joint_positions)
    pressed = 0
    for _ in range(12):
        world.step(controller.command(np.array([0.0, 0.0, -0.4, 0.0]), world.joint_positions).joints)
        pressed += min(world.grasp().forces_n) > world.config.min_force_n
        assert not world.grasp().pinched
    assert pressed >= 3, "this test is to press with both jaws"


def _run(world: World, seed: int) -> str:
    _grasp(world, seed, ticks=25)
    total = hashlib.sha256(world.data.qpos.tobytes() + world.data.qvel.tobytes())
    for camera in scene.CAMERAS:
        total.update(world.render(camera, 64, 64).tobytes())
    return total.hexdigest()


def test_a_seed_determines_the_world_whatever_came_before(world: World) -> None:
    first = _run(world, 3)
    other = _run(world, 4)
    assert other != first
    assert _run(world, 3) == first
    assert _run(World(task=TASK), 3) == first


def test_worlds_vary_within_their_ranges() -> None:
    config = WorldConfig()
    world = World(config, TASK)
    places, sizes, starts = [], [], []
    for seed in range(40):
        world.reset(seed)
        places.append(world.cube_pose[0])
        sizes.append(2 * world.model.geom("cube").size[0])
        starts.append(world.kinematics.forward(world.joint_positions).position)
        assert not world.failed
        assert world.kinematics.tilt(world.kinematics.forward(world.joint_positions).rotation) < 0.25
    low, high = np.min(places, axis=0), np.max(places, axis=0)
    assert config.cube_x_m[0] - 1e-3 <= low[0] < 0.18
    assert 0.27 < high[0] <= config.cube_x_m[1] + 1e-3
    assert config.cube_y_m[0] - 1e-3 <= low[1] < -0.07
    assert 0.07 < high[1] <= config.cube_y_m[1] + 1e-3
    assert config.cube_size_m[0] <= min(sizes) < max(sizes) <= config.cube_size_m[1]
    spread = np.abs(np.array(starts) - config.start_m).max(axis=0)
    assert (spread <= np.array(config.start_spread_m) + 0.003).all()
    assert (spread > 0.5 * np.array(config.start_spread_m)).all()


def test_a_zero_action_holds_still_under_gravity(world: World) -> None:
    world.reset(5)
    controller = Controller(TASK, world.kinematics)
    controller.latch(world.joint_positions)
    before = world.kinematics.forward(world.joint_positions).position
    for _ in range(50):
        world.step(controller.command(np.zeros(4), world.joint_positions).joints)
    assert np.linalg.norm(world.kinematics.forward(world.joint_positions).position - before) < 1e-3


def test_the_wrist_camera_sees_the_cube_and_both_jaws() -> None:
    world = World(FIXED, TASK)
    for seed in range(10):
        world.reset(seed)
        image = world.render("wrist", 128, 128).astype(int)
        assert image.shape == (128, 128, 3)
        red = (image[..., 0] > 90) & (image[..., 1] < 70) & (image[..., 2] < 70)
        assert red.sum() > 20, f"the cube is hidden at the start of seed {seed}"
        dark = image[40:64].max(axis=2) < 75  # the pads
        assert dark[:, :64].sum() > 30, "the left jaw is not in sight"
        assert dark[:, 64:].sum() > 30, "the right jaw is not in sight"


def test_a_cube_off_the_table_fails(world: World) -> None:
    start = world.model.joint("cube").qposadr[0]
    world.data.qpos[start : start + 2] = 0.25, 0.3
    assert world.failed


@pytest.mark.parametrize("targets", [np.full(6, np.nan), np.zeros(5)])
def test_targets_that_are_not_six_finite_numbers_are_refused(world: World, targets: np.ndarray) -> None:
    with pytest.raises(WorldError, match="6 finite numbers"):
        world.step(targets)


def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(WorldError, match=r"world\.cube_x_m"):
        WorldConfig(cube_x_m=(0.3, 0.2))
    with pytest.raises(WorldError, match=r"world\.start_m"):
        World(replace(FIXED, start_m=(0.9, 0.0, 0.1)), TASK)
    with pytest.raises(WorldError, match="no camera 'ceiling'"):
        World(FIXED, TASK).render("ceiling", 64, 64)
