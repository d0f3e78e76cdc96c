# SPDX-License-Identifier: Apache-2.0
"""The scripted person: shows the task, helps less and less, and only when it should."""

import numpy as np
import pytest

from hilserl_core.action import Controller
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec
from so101_sim.operator import Attempt, OperatorConfig, OperatorError, ScriptedOperator
from so101_sim.world import World

TASK = TaskSpec()
WORLD = World(task=TASK)
KINEMATICS = WORLD.kinematics


def _person(seed: int = 0, **settings) -> ScriptedOperator:
    return ScriptedOperator(OperatorConfig(**settings), TASK, KINEMATICS, seed)


def _demonstrate(seed: int, person: ScriptedOperator) -> np.ndarray:
    """Actions of one demonstration, (T, 4)."""
    controller = Controller(TASK, KINEMATICS)
    WORLD.reset(seed)
    person.begin(Mode.DEMONSTRATION, seed)
    controller.latch(WORLD.joint_positions)
    actions = []
    while not (WORLD.success or WORLD.failed or len(actions) == TASK.max_ticks):
        active, action = person.act(WORLD.joint_positions, WORLD.cube_pose)
        assert active
        actions.append(action)
        WORLD.step(controller.command(action, WORLD.joint_positions).joints)
    return np.array(actions)


def test_demonstrations_succeed_at_the_pace_of_a_person() -> None:
    lengths = []
    for seed in range(100, 112):
        actions = _demonstrate(seed, _person())
        assert WORLD.success, f"seed {seed} failed after {len(actions)} ticks"
        assert actions.dtype == np.float32
        assert np.abs(actions).max() <= 1.0
        lengths.append(len(actions))
    assert 15 < np.mean(lengths) < 40


def _show(person: ScriptedOperator, number: int, hold_ticks: int = 30) -> tuple[list[bool], bool]:
    """Whether the cube was pinched at each tick of the `number`-th demonstration, and whether the person ended it."""
    controller = Controller(TASK, KINEMATICS)
    WORLD.reset(number)
    person.begin(Mode.DEMONSTRATION, number)
    controller.latch(WORLD.joint_positions)
    pinched, since = [], 0
    while len(pinched) < TASK.max_ticks + hold_ticks and since <= hold_ticks:
        if person.gives_up(WORLD.cube_pose):
            return pinched, True
        _, action = person.act(WORLD.joint_positions, WORLD.cube_pose, WORLD.success)
        WORLD.step(controller.command(action, WORLD.joint_positions).joints)
        pinched.append(WORLD.grasp().pinched)
        since += bool(since or WORLD.success)
    return pinched, False


def test_every_few_demonstrations_show_a_failure_of_each_kind() -> None:
    person = _person(failures_every=2)
    shown: dict[Attempt, list[tuple[list[bool], bool]]] = {}
    for number in range(30):
        found = _show(person, number)
        shown.setdefault(person.attempt, []).append(found)
    assert set(shown) == set(Attempt)
    assert len(shown[Attempt.GRASP]) == 15
    assert not any(gave_up for _, gave_up in shown[Attempt.GRASP])
    held = [sum(pinched[-30:]) >= 27 for pinched, _ in shown[Attempt.GRASP]]
    assert sum(held) >= 13, "held to the end and moved about, seldom lost on the way"
    for attempt in (Attempt.BESIDE, Attempt.HOVER, Attempt.PUSH):
        for pinched, gave_up in shown[attempt]:
            assert gave_up and not any(pinched), attempt
    assert any(gave_up for _, gave_up in shown[Attempt.NEARLY]), "most miss it, though just so"
    for pinched, gave_up in shown[Attempt.RELEASE]:
        assert any(pinched) and not gave_up and not any(pinched[-12:]), "let go again, and the episode goes on"


def test_success_is_shown_in_more_than_one_place() -> None:
    def end(**settings: float) -> np.ndarray:
        pinched, _ = _show(_person(**settings), 3)
        assert all(pinched[-30:])
        return WORLD.cube_pose[0]

    assert np.linalg.norm(end() - end(show_motion=0.0)) > 0.01


def test_demonstrations_differ_in_speed_and_repeat_by_seed() -> None:
    first, again, other = _demonstrate(7, _person()), _demonstrate(7, _person()), _demonstrate(7, _person(seed=1))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other)


def _idle(person: ScriptedOperator, ticks: int) -> list[bool]:
    """Whether the person drives, at each tick of an arm that stands still."""
    WORLD.reset(0)
    return [person.act(WORLD.joint_positions, WORLD.cube_pose)[0] for _ in range(ticks)]


def test_help_in_training_fades_to_none() -> None:
    settings = {"stuck_ticks": 0, "take_over_episodes": 40, "take_over_ticks": 20}

    def helped(number: int) -> bool:
        person = _person(**settings)
        person.begin(Mode.TRAINING, number)
        active = _idle(person, 20)
        assert active == sorted(active), "once taken over, the person stays"
        return active[-1]

    early = np.mean([helped(number) for number in range(10)])
    assert 0.1 < early < 0.9
    assert not any(helped(number) for number in range(40, 60))


def test_the_person_helps_a_policy_without_progress() -> None:
    person = _person(take_over_probability=0.0, stuck_ticks=30)
    person.begin(Mode.TRAINING, 0)
    active = _idle(person, 40)
    assert not any(active[:30])
    assert all(active[30:])


def test_progress_keeps_the_person_away() -> None:
    person = _person(take_over_probability=0.0, stuck_ticks=10, progress_m=0.002)
    controller = Controller(TASK, KINEMATICS)
    WORLD.reset(2)
    person.begin(Mode.TRAINING, 0)
    controller.latch(WORLD.joint_positions)
    for _ in range(25):
        assert not person.act(WORLD.joint_positions, WORLD.cube_pose)[0]
        way = WORLD.cube_pose[0] - KINEMATICS.forward(WORLD.joint_positions).position
        action = np.append(way / np.linalg.norm(way) * 0.15, 0.0)
        WORLD.step(controller.command(action, WORLD.joint_positions).joints)


def test_the_person_finishes_what_the_policy_began() -> None:
    controller = Controller(TASK, KINEMATICS)
    person = _person(take_over_probability=1.0, take_over_episodes=1000, take_over_ticks=1)
    WORLD.reset(11)
    person.begin(Mode.TRAINING, 0)
    controller.latch(WORLD.joint_positions)
    for _ in range(TASK.max_ticks):
        active, action = person.act(WORLD.joint_positions, WORLD.cube_pose, WORLD.success)
        if WORLD.success:
            break
        assert active
        WORLD.step(controller.command(action, WORLD.joint_positions).joints)
    assert WORLD.success
    assert not active, "hands are off once it is done"


def test_the_person_never_acts_in_evaluation() -> None:
    person = _person(take_over_probability=1.0, stuck_ticks=1)
    person.begin(Mode.EVALUATION, 0)
    assert not any(_idle(person, 50))
    assert not person.gives_up((np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])))


def test_a_cube_out_of_reach_is_given_up() -> None:
    person, turn = _person(), np.array([0.0, 0.0, 0.0, 1.0])
    person.begin(Mode.TRAINING, 0)
    assert not person.gives_up((np.array([0.22, 0.0, 0.0125]), turn))
    for place in ([0.5, 0.0, 0.0125], [0.22, -0.2, 0.0125], [0.22, 0.0, -0.3]):
        assert person.gives_up((np.array(place), turn))


def test_wrong_settings_are_refused_by_name() -> None:
    with pytest.raises(OperatorError, match=r"person\.speed"):
        OperatorConfig(speed=(0.9, 0.1))
    with pytest.raises(OperatorError, match=r"person\.noise"):
        OperatorConfig(noise=-1.0)
