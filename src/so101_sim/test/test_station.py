# SPDX-License-Identifier: Apache-2.0
"""The twin without nodes: its time, its settings, its imperfections, its streams."""

from __future__ import annotations

import colorsys
import json
import threading
from dataclasses import replace
from http.client import HTTPConnection

import cv2
import numpy as np
import pytest

from hilserl_core.task import TaskSpec
from so101_sim.bus.memory import Address, decode
from so101_sim.bus.physics import WorldPlant
from so101_sim.bus.plant import Drive, Shaft
from so101_sim.station.arms import FollowerArm, Hands, LeaderArm, odd_mountings
from so101_sim.station.cameras import Governor, Lamp, Sensor
from so101_sim.station.channel import HandChannel, RemoteHands
from so101_sim.station.clock import RealTime
from so101_sim.station.files import read_servos, write_station
from so101_sim.station.settings import (
    ArmSettings,
    CameraSettings,
    SceneSettings,
    ServoSettings,
    StationError,
    StationSettings,
    parse_settings,
)
from so101_sim.station.shared import SharedState, Snapshot
from so101_sim.station.stream import Outlet, StreamServer
from so101_sim.station.twin import Twin, make_world

STEP_S = 0.005
EXACT = ServoSettings(dead_band_rad=0.0, backlash_rad=0.0, delay_s=0.0)


# Time ----------------------------------------------------------------------------------------------------------------


def test_time_keeps_up_and_what_came_late_is_counted():
    clock = RealTime(STEP_S)
    assert clock.due(100.0) == 0
    assert [clock.due(100.0 + 0.005 * n) for n in (1, 2, 3)] == [1, 1, 1] and clock.late == 0
    assert clock.next_s() == pytest.approx(100.020)
    assert clock.due(100.115) == 20, "a pause is made up for"
    assert clock.late == 18 and clock.worst_s == pytest.approx(0.095), "all but the two newest of them"
    assert clock.factor(100.115) == 1.0


def test_time_that_was_given_up_lowers_the_real_time_factor():
    clock = RealTime(STEP_S, longest_s=0.25)
    clock.due(0.0)
    assert clock.due(10.0) == 50
    assert clock.given_up_s == pytest.approx(9.75) and clock.factor(10.0) == pytest.approx(0.025)
    assert clock.due(10.005) == 1


# Settings ------------------------------------------------------------------------------------------------------------


def test_settings_are_named_by_part_and_field():
    settings = parse_settings(["servo.backlash_rad=0", "wrist.fps=12.5", "world.cube_x_m=0.2,0.25", "front.width=160"], seed=4)
    assert (settings.servo.backlash_rad, settings.wrist.fps, settings.front.width, settings.seed) == (0.0, 12.5, 160, 4)
    assert settings.world.cube_x_m == (0.2, 0.25) and settings.front.fps == 10.0


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("servo.backlsh_rad=0", "did you mean servo.backlash_rad"),
        ("nonsense", "there is no setting 'nonsense'"),
        ("servo.backlash_rad=much", "expected a value like 0.0152"),
        ("servo.delay_s=nan", "expected a value like 0.01"),
        ("servo.delay_s=-1", "servo.delay_s is -1.0, allowed: 0.0 to 0.5"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(word, sentence):
    with pytest.raises(StationError, match=sentence):
        parse_settings([word])


# Arms ----------------------------------------------------------------------------------------------------------------


class Follows:
    """Joints that are at once where they are pulled to."""

    def __init__(self) -> None:
        self.places = [0.0] * 6
        self.drives: list[Drive] = []

    def advance(self, duration_s: float, drives: list[Drive]) -> None:
        self.drives = list(drives)
        self.places = [
            place if drive.target_rad is None else drive.target_rad for place, drive in zip(self.places, drives, strict=True)
        ]

    def shafts(self) -> list[Shaft]:
        return [Shaft(place, 0.0, 0.3) for place in self.places]


def pull(arm: FollowerArm, target: float | None) -> float:
    arm.advance(STEP_S, [Drive(target, 1.0)] * 6)
    return arm.shafts()[0].position_rad


def test_a_goal_takes_its_time_to_become_torque():
    arm = FollowerArm(Follows(), Hands(2.5), replace(EXACT, delay_s=0.010), STEP_S)
    pull(arm, 0.0), pull(arm, 0.0)
    assert [pull(arm, 0.5), pull(arm, 0.5), pull(arm, 0.5)] == [0.0, 0.0, 0.5]


def test_gears_have_to_take_up_their_play_when_the_direction_changes():
    arm = FollowerArm(Follows(), Hands(2.5), replace(EXACT, backlash_rad=0.02), STEP_S)
    pull(arm, 0.0)
    assert pull(arm, 0.5) == pytest.approx(0.49)
    assert pull(arm, 0.485) == pytest.approx(0.49), "within the play nothing moves"
    assert pull(arm, 0.4) == pytest.approx(0.41)


def test_an_error_within_the_dead_band_causes_no_torque():
    plant = Follows()
    arm = FollowerArm(plant, Hands(2.5), replace(EXACT, dead_band_rad=0.01), STEP_S)
    assert pull(arm, 0.009) == 0.0 and pull(arm, 0.1) == pytest.approx(0.09)


def test_a_hand_moves_a_limp_joint_of_the_follower_and_leaves_one_with_torque_alone():
    arm = FollowerArm(Follows(), hands := Hands(2.0), EXACT, STEP_S)
    hands.hold({"shoulder_pan": 0.015})
    assert [round(pull(arm, None), 3) for _ in range(3)] == [0.01, 0.015, 0.015], "no faster than a hand"
    assert arm.shafts()[0].torque == 0.0, "the servo does not feel its own current in that"
    assert pull(arm, -0.5) == -0.5
    hands.release()
    assert pull(arm, None) == -0.5


def test_a_hand_is_stronger_than_the_leaders_servos_which_feel_it():
    arm = LeaderArm([0.0] * 6, hands := Hands(100.0))
    hands.hold({"shoulder_pan": 0.3})
    arm.advance(STEP_S, [Drive(0.0, 0.5)] * 6)
    first, second = arm.shafts()[:2]
    assert first.position_rad == pytest.approx(0.3) and first.torque == -0.5 and second == Shaft(0.0, 0.0, 0.0)
    hands.release()
    for _ in range(50):
        arm.advance(STEP_S, [Drive(0.0, 0.5)] * 6)
    assert abs(arm.shafts()[0].position_rad) < 0.01
    arm.advance(STEP_S, [Drive(None, 0.0)] * 6)
    assert abs(arm.shafts()[0].position_rad) < 0.01, "friction holds it"


@pytest.mark.parametrize("joints", [{"shoulder": 0.1}, {"gripper": float("nan")}, {"gripper": "open"}])
def test_a_hand_cannot_take_what_is_no_joint(joints):
    with pytest.raises(StationError):
        Hands(1.0).hold(joints)


def test_servos_are_mounted_at_odd_angles_that_the_seed_draws():
    mountings = [odd_mountings(ArmSettings(), seed, arm) for seed, arm in ((1, 0), (1, 1), (2, 0))]
    assert len({mounting.zero for found in mountings for mounting in found}) == 18
    assert mountings[0] == odd_mountings(ArmSettings(), 1, 0)


# Cameras -------------------------------------------------------------------------------------------------------------


def test_a_servo_keeps_its_calibration_when_the_twin_is_started_again(tmp_path):
    def twin(seed=4):
        return Twin(tmp_path, StationSettings(seed=seed))

    def offset(found):
        return decode(found.buses["leader"].servos[2].memory.word(Address.HOMING_OFFSET), 11)

    first = twin()
    for lock, value in ((0, 321), (1, 17)):  # what is written while Lock is 1 is gone without power
        memory = first.buses["leader"].servos[2].memory
        memory.write(Address.LOCK, bytes([lock]))
        memory.write(Address.HOMING_OFFSET, value.to_bytes(2, "little"))
    first.keep()
    assert offset(first) == 17 and offset(twin()) == 321
    assert offset(twin(seed=5)) == 0, "another seed mounts other servos"


@pytest.mark.parametrize(
    "arms",
    [{"leader": ["zz"]}, {"third": ["00"]}, {"follower": [], "leader": []}, {"follower": ["00"] * 6, "leader": ["00"] * 6}],
)
def test_a_damaged_file_of_servos_is_one_sentence_with_the_cure(tmp_path, arms):
    (tmp_path / "servos.json").write_text(json.dumps({"seed": 4, "arms": arms}))
    with pytest.raises(StationError, match=r"servos\.json cannot be read: .*; remove it"):
        read_servos(tmp_path, 4)


def test_the_front_camera_gives_way_first_and_comes_back_last():
    governor, now_s, levels = Governor(), 0.0, []
    for late in (False, True, False):
        for _ in range(600):
            now_s += 0.05
            governor.note(now_s, late)
            if not levels or levels[-1] != governor.level:
                levels.append(governor.level)
    assert levels == [0, 1, 2, 3, 4, 3, 2]
    shares = [(level["front"], level["wrist"]) for level in Governor.LEVELS]
    assert shares == sorted(shares, reverse=True) and [wrist for _, wrist in shares[:3]] == [1.0, 1.0, 1.0]


def test_now_and_then_a_late_picture_changes_nothing():
    governor = Governor()
    for number in range(1000):
        governor.note(0.05 * number, number % 10 == 0)
    assert governor.level == 0


@pytest.fixture
def server():
    found = StreamServer({"wrist": Outlet(), "front": Outlet()})
    found.start()
    yield found
    found.stop()


def ask(server: StreamServer, path: str) -> HTTPConnection:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path)
    return connection


def test_several_readers_get_the_newest_picture_and_one_that_goes_disturbs_nobody(server):
    outlet = server.outlets["wrist"]
    outlet.put(b"old")
    answers = [ask(server, "/wrist").getresponse() for _ in range(2)]
    assert all(answer.getheader("Content-Type").startswith("multipart/x-mixed-replace") for answer in answers)
    while outlet.readers < 2:
        threading.Event().wait(0.001)
    outlet.put(b"new")
    for answer in answers:
        head = b"".join(iter(answer.readline, b"\r\n"))
        assert b"Content-Length: 3" in head and answer.read(3) == b"new", "what was there before the reader came is old"
    answers[0].close()
    while outlet.readers > 1:
        outlet.put(b"next")
    assert ask(server, "/nowhere").getresponse().status == 404


def test_a_reader_that_takes_nothing_misses_pictures_and_keeps_nobody_waiting(server):
    outlet = server.outlets["wrist"]
    slow = ask(server, "/wrist")
    slow.getresponse()
    assert outlet.wait_for_reader(30.0)
    for number in range(400):  # of which the buffers between hold a part
        outlet.put(number.to_bytes(2, "big") * 50_000)
    assert outlet.after(0)[1] == 400


# What the twin's processes share, and what it writes -----------------------------------------------------------------


def test_another_process_reads_the_state_as_it_was_written():
    state = SharedState()
    assert state.read() is None
    joints, cube = np.arange(6) * 0.1, np.arange(7) * 1.0
    snapshot = Snapshot(5.0, 0.1, 3, joints, cube, -joints, True, False, True, 77)
    state.write(snapshot)
    other = SharedState(state.path)
    found = other.read()
    assert (found.time_s, found.behind_s, found.places, found.ticks) == (5.0, 0.1, 3, 77)
    assert (found.joints == joints).all() and (found.cube == cube).all() and (found.leader == -joints).all()
    assert (found.pinched, found.success, found.failed) == (True, False, True)
    other.count("front", pictures=9, late=1)
    assert state.counted("front")["pictures"] == 9 and state.counted("wrist")["pictures"] == 0
    other.close(), state.close()


def test_the_table_of_devices_and_the_parameters_name_the_same(tmp_path):
    addresses = {"wrist": "http://127.0.0.1:5/wrist", "front": "http://127.0.0.1:5/front"}
    devices = write_station(tmp_path, addresses, StationSettings(), ("my_arm", "my_leader"))
    assert json.loads((tmp_path / "devices.json").read_text()) == devices
    text = (tmp_path / "station.yaml").read_text()
    assert all(json.dumps(device) in text for device in devices.values())


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "station.yaml").mkdir()
    with pytest.raises(StationError, match="choose another --folder"):
        write_station(tmp_path, {"wrist": "a", "front": "b"}, StationSettings(), ("a", "b"))


# A person's hands ----------------------------------------------------------------------------------------------------


class Pressed:
    """A keyboard that remembers."""

    def __init__(self) -> None:
        self.changes: list[tuple[int, bool]] = []

    def change(self, key: int, down: bool) -> None:
        self.changes.append((key, down))

    def close(self) -> None:
        pass


@pytest.fixture
def twin(tmp_path):
    found = Twin(tmp_path, StationSettings(seed=8))
    found.plug_in()
    yield found
    found.stop()


def test_hands_from_another_process_move_the_leader_place_the_cube_and_press_keys(twin, tmp_path):
    channel = HandChannel(tmp_path / "hand", twin, keys := Pressed())
    hands = RemoteHands(tmp_path / "hand")
    try:
        before = hands.feel()["leader"]["gripper"]
        hands.hold("leader", {"gripper": before + 0.1})
        hands.place_cube(0.21, -0.04, 0.3)
        hands.press("KEY_F9")
        for _ in range(30):
            twin.step()
        assert hands.feel()["leader"]["gripper"] == pytest.approx(before + 0.1)
        assert twin.state.read().cube[:2] == pytest.approx([0.21, -0.04], abs=1e-3) and twin.state.read().places == 1
        assert keys.changes == [(67, True), (67, False)]
        for deed, sentence in (
            ({"hold": ["tail", {}]}, "there is no arm 'tail'"),
            ({"hold": "leader"}, "hold cannot be done"),
            ({"cube": [1.0]}, "cube cannot be done"),
            ({"cube": [10**400, 0.0, 0.0]}, "cube cannot be done"),
            ({"cube": [0.2, 0.0, "round"]}, "the cube cannot be put"),
            ({"press": "F9"}, "there is no key 'F9'"),
            ({"throw": 1}, "there is no action 'throw'"),
        ):
            with pytest.raises(StationError, match=sentence):
                hands._do(**deed)
    finally:
        hands.close()
        channel.close()


def test_who_goes_has_let_go(twin, tmp_path):
    channel = HandChannel(tmp_path / "hand", twin, Pressed())
    hands = RemoteHands(tmp_path / "hand")
    hands.hold("leader", {"gripper": 0.0})
    held = twin.hands["leader"]
    assert held.moved(5, 0.0, 1.0) == 0.0
    hands.close()
    while held.moved(5, 0.0, 1.0) is not None:
        threading.Event().wait(0.001)
    channel.close()


# What makes pictures no easier ----------------------------------------------------------------------------------------


def mean(jpeg: bytes) -> float:
    return float(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).mean())


def test_exposure_wanders_within_its_spread_and_noise_is_new_in_every_picture():
    plain = np.full((48, 64, 3), 100, np.uint8)
    settings = CameraSettings(width=64, height=48, noise=0.0, exposure_spread=0.1, exposure_period_s=8.0)
    found = [mean(Sensor(settings, 0).encode(plain, 0.5 * step)) for step in range(16)]
    assert 89 < min(found) < 93 and 107 < max(found) < 111
    noisy = Sensor(replace(settings, noise=5.0), 0)
    assert noisy.encode(plain, 0.0) != noisy.encode(plain, 0.0)


def test_things_lie_outside_the_workspace_none_of_them_red_and_the_lamp_changes(twin):
    world, task = twin.world, twin.task
    things = [world.model.geom(f"thing_{number}") for number in range(5)]
    for thing in things:
        outside = thing.pos[0] > task.workspace_max_m[0] or abs(thing.pos[1]) > task.workspace_max_m[1]
        hue = colorsys.rgb_to_hsv(*map(float, thing.rgba[:3]))[0]
        assert (outside or np.linalg.norm(thing.pos[:2] - (0.225, 0.0)) > 0.2) and 0.07 < hue < 0.93
    lamp = Lamp(world, SceneSettings(light_spread=0.2, light_period_s=4.0), 0)
    bright = []
    for time_s in range(4):
        lamp.shine(float(time_s))
        bright.append(float(world.model.light_diffuse.mean()))
    assert max(bright) > 1.1 * min(bright)


def test_a_loaded_joint_of_the_twin_hangs_below_its_goal():
    """Checks the effect of `stiffness_nm_rad`: the same goal under gravity, soft and stiff."""
    errors = []
    for stiffness in (27.0, 998.0):
        world = make_world(StationSettings(), TaskSpec())
        pose = np.array([0.0, 0.3, 0.0, 0.3, 0.0, 0.1])
        world.put_arm(pose)
        plant = WorldPlant(world, stiffness)
        for _ in range(300):
            plant.advance(STEP_S, [Drive(angle, 1.0) for angle in pose])
        errors.append(world.joint_positions[1] - pose[1])
    assert errors[0] > 0.01 > abs(errors[1])
