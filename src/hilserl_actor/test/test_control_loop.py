# SPDX-License-Identifier: Apache-2.0
"""The actor's decisions, tick by tick, without ROS."""

import dataclasses

import numpy as np
import pytest

from hilserl_actor.control_loop import ControlLoop, Pace
from hilserl_actor.phases import Lack, Phase
from hilserl_actor.schedule import CounterFile, Counters, Plan, Spooled, after_restart, world_seed
from hilserl_actor.teleop import Teleop
from hilserl_core.action import Command
from hilserl_core.step import Mode, Observation, check_step
from hilserl_core.task import TaskSpec

TASK = TaskSpec(max_episode_s=0.5)  # five ticks
TICK_NS = 100_000_000
JOINTS = np.zeros(6)


class _Controller:
    """Records what it was asked; stands for IK."""

    def __init__(self):
        self.calls = []

    def latch(self, joints):
        self.calls.append("latch")

    def latch_position(self, joints):
        self.calls.append("latch_position")

    def command(self, action, joints):
        self.calls.append(np.array(action))
        return Command(joints=np.full(6, 0.1), action=np.clip(action, -1, 1).astype(np.float32), reached=True)

    def hold(self):
        return np.full(6, 0.2)


class _Policy:
    def __init__(self):
        self.version, self.due = 1, 10**9
        self.asked = []

    def ready(self, sequence):
        return self.version > 0 and sequence < self.due

    def act(self, observation, sequence, deterministic):
        self.asked.append((sequence, deterministic))
        return np.full(4, 0.5, np.float32)


class _Rig:
    """Drives a loop like the node does in lockstep."""

    def __init__(self, plan=None, counters=None, task=TASK, hold_ticks=0, greedy_every=0, judge="simulation", **pace):
        self.controller, self.policy = _Controller(), _Policy()
        self.task, self.now, self.steps = task, 0, []
        pace = Pace(hold_ticks=hold_ticks, **pace)
        plan = plan or Plan(demonstrations=0, training_steps=100, evaluation_episodes=0, seed=3)
        counters = counters or Counters("run")
        self.loop = ControlLoop(task, self.controller, self.policy, plan, counters, pace, greedy_every, judge)
        self.resets = []
        self.follow(self.loop.start())

    def follow(self, outcome):
        self.steps += outcome.steps
        if outcome.reset_seed is not None:
            self.resets.append(outcome.reset_seed)
            self.loop.reset_done()
        return outcome

    def observation(self):
        images = {"wrist": np.full((128, 128, 3), self.now % 256, np.uint8)}
        return Observation(self.now * TICK_NS, np.full(18, self.now, np.float32), images)

    def tick(self, reward=0.0, success=False, teleop=None, again=False):
        self.now += 0 if again else 1
        self.loop.reward(self.now * TICK_NS, reward, success)
        outcome = self.loop.observe(self.observation(), JOINTS)
        outcome.joints = self.loop.act(self.observation(), JOINTS, teleop)
        return self.follow(outcome)


def _indices(steps):
    return [(step.index, step.is_first, step.is_last, step.is_terminal, step.action is not None) for step in steps]


def test_an_episode_of_n_actions_is_n_plus_one_steps_and_a_time_out_is_not_terminal():
    rig = _Rig()
    for _ in range(6):
        rig.tick()
    assert _indices(rig.steps) == [(0, True, False, False, True)] + [(i, False, False, False, True) for i in (1, 2, 3, 4)] + [
        (5, False, True, False, False)
    ]
    assert [step.sequence for step in rig.steps] == [1, 2, 3, 4, 5, 6]
    assert rig.steps[-1].state[0] == 6, "the last step carries the true final observation"
    assert len(rig.resets) == 2
    for step in rig.steps:
        check_step(step, TASK)


def test_every_few_training_episodes_act_without_exploration():
    rig = _Rig(greedy_every=3)
    for _ in range(40):
        rig.tick()
    episodes = {step.sequence: step.episode for step in rig.steps}
    acted = {(episodes[number], greedy) for number, greedy in rig.policy.asked if number in episodes}
    assert acted == {(episode, rig.resets[episode] % 3 == 0) for episode in set(episodes.values())}
    assert {greedy for _, greedy in acted} == {True, False}


def test_the_reward_of_a_step_is_the_one_of_the_next_image_and_success_is_terminal():
    rig = _Rig()
    rig.tick()
    rig.tick()
    rig.tick(reward=1.0, success=True)
    assert [(s.reward, s.success, s.is_terminal) for s in rig.steps] == [
        (0.0, False, False),
        (1.0, True, False),
        (None, True, True),
    ]
    assert rig.loop.counters.training_successes == 1 and rig.loop.counters.training_steps == 2


def test_a_success_seen_a_tick_late_drops_the_action_already_taken():
    rig = _Rig()
    rig.tick()
    for _ in range(2):  # real time: observations come, rewards do not yet
        rig.now += 1
        rig.follow(rig.loop.observe(rig.observation(), JOINTS))
        rig.loop.act(rig.observation(), JOINTS, None)
    assert rig.steps == []
    rig.follow(rig.loop.reward(2 * TICK_NS, 1.0, True))
    assert _indices(rig.steps) == [(0, True, False, False, True), (1, False, True, True, False)]


def _late(rewards, ticks=4):
    """Indices of the steps handed out after so many ticks. rewards: in ticks, at which images of those were judged."""
    rig = _Rig()
    for _ in range(ticks):
        rig.now += 1
        rig.loop.observe(rig.observation(), JOINTS)
        rig.loop.act(rig.observation(), JOINTS, None)
    for when, success in rewards:
        rig.follow(rig.loop.reward(round((1 + when) * TICK_NS), float(success), success))
    return [(step.index, step.reward, step.success) for step in rig.steps]


def test_a_judge_that_skips_an_image_has_its_next_reward_counted():
    """A classifier on a busy machine takes the newest image: an episode must not be lost for the one before it."""
    assert _late([(1, False), (3, False)]) == [(0, 0.0, False), (1, 0.0, False), (2, 0.0, False)]
    assert _late([(0.6, False), (1.3, False), (2.6, False)]) == [(0, 0.0, False), (1, 0.0, False)], "images between two ticks"
    skipped = _late([(1, False), (3, True)])
    assert skipped[-2:] == [(1, 1.0, True), (2, None, True)], "and the success counts at once"
    assert _late([(0.5, False), (3.5, False)]) == [], "one from long after it is about another"


def test_no_episode_begins_before_what_judges_is_there():
    """A classifier loads for seconds: an episode begun before would be lost, and in evaluation unjudged."""
    plan = Plan(demonstrations=0, training_steps=0, evaluation_episodes=1, seed=3)
    loop = ControlLoop(TASK, _Controller(), _Policy(), plan, Counters("run"), Pace(), 0, "classifier", waits_for_judge=True)
    assert loop.start().reset_seed is None
    assert loop.phase is Phase.HOLDING and "no image has been judged yet: the classifier" in loop.text
    assert loop.recovered(Lack.OBSERVATION).reset_seed is None
    loop.reward(5, 0.0, False)
    assert loop.recovered(Lack.REWARD).reset_seed is not None
    assert loop.phase is Phase.RESETTING


def test_a_person_overrides_the_policy_and_the_pose_is_latched_on_take_over():
    rig = _Rig()
    rig.tick()
    rig.tick(teleop=Teleop(True, np.array([1, -1, 0, 2], np.float32)))
    rig.tick()
    rig.tick()
    assert [step.intervention for step in rig.steps] == [False, True, False]
    np.testing.assert_array_equal(rig.steps[1].action, [1, -1, 0, 1])
    assert [call for call in rig.controller.calls if isinstance(call, str)] == ["latch", "latch_position", "latch_position"]
    assert rig.loop.counters.interventions == 1


def _held(success_at, hold_ticks, mode=Mode.DEMONSTRATION, ticks=12, judge_at=None):
    """Steps of the first episode whose observations from `success_at` on show success, or that a person judges."""
    plan = Plan(demonstrations=1 if mode is Mode.DEMONSTRATION else 0, training_steps=100, evaluation_episodes=0, seed=0)
    rig = _Rig(plan, hold_ticks=hold_ticks)
    for number in range(1, ticks + 1):
        success = success_at is not None and success_at <= number < success_at + 3
        rig.tick(reward=float(success), success=success)
        if number == judge_at:
            rig.loop.judge(True, rig.now * TICK_NS)
    return [step for step in rig.steps if step.episode == 0], rig


def test_a_demonstration_goes_on_after_success_beyond_the_time_limit_and_is_then_terminal():
    steps, rig = _held(success_at=5, hold_ticks=4)
    # The image of observation 5 is the fifth one: step 3 led to it. Four more steps, whatever their rewards, then the end.
    assert [step.reward for step in steps] == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, None]
    assert len(steps) > TASK.max_ticks + 1
    assert steps[-1].is_terminal and steps[-1].success
    assert rig.loop.counters.demonstrations == 1
    for step in steps:
        check_step(step, TASK)


def test_training_episodes_end_at_success_whatever_demonstrations_do():
    steps, _ = _held(success_at=4, hold_ticks=4, mode=Mode.TRAINING)
    assert [step.reward for step in steps] == [0.0, 0.0, 1.0, None]


def test_a_person_who_says_success_begins_the_rest_of_the_demonstration_too():
    steps, rig = _held(success_at=None, hold_ticks=3, judge_at=2)
    assert [step.reward for step in steps] == [0.0, 1.0, 0.0, 0.0, 0.0, None]
    assert steps[-1].is_terminal and steps[-1].success and rig.loop.counters.demonstrations == 1


def test_a_person_who_says_failure_after_success_counts():
    rig = _Rig(Plan(demonstrations=1, training_steps=10, evaluation_episodes=0, seed=0), hold_ticks=10)
    for number in range(1, 4):
        rig.tick(reward=float(number == 2), success=number == 2)
    rig.loop.judge(False, rig.now * TICK_NS)
    rig.tick(reward=1.0, success=True)
    assert rig.steps[-1].is_terminal and not rig.steps[-1].success
    assert rig.loop.counters.demonstrations == 0 and rig.loop.counters.demonstration_attempts == 1


def test_a_success_key_that_is_held_rewards_one_step_not_every_one():
    rig = _Rig(Plan(demonstrations=1, training_steps=10, evaluation_episodes=0, seed=0), hold_ticks=4)
    rig.tick()
    while rig.loop.episode and rig.loop.mode is Mode.DEMONSTRATION:
        rig.loop.judge(True, rig.now * TICK_NS)
        rig.tick()
    steps = [step for step in rig.steps if step.episode == 0]
    assert [step.reward for step in steps] == [1.0, 0.0, 0.0, 0.0, 0.0, None]
    assert steps[-1].success and rig.loop.counters.demonstrations == 1


def test_after_a_reset_the_person_can_take_over_at_once():
    drive = Teleop(True, np.full(4, -1.0, np.float32))
    rig = _Rig()
    rig.tick(teleop=drive)
    rig.loop.judge(False, rig.now * TICK_NS)
    rig.tick(teleop=drive)  # the last observation: the arm goes back
    assert len(rig.resets) == 2
    for teleop in (Teleop(False), drive, Teleop(False), drive):
        rig.tick(teleop=teleop)
    rig.tick()
    assert [step.intervention for step in rig.steps if step.episode == 1] == [False, True, False, True]


def test_demonstrations_come_first_count_only_when_they_succeed_and_need_no_policy():
    rig = _Rig(Plan(demonstrations=1, training_steps=10, evaluation_episodes=0, seed=0))
    rig.policy.version = 0
    drive = Teleop(True, np.ones(4, np.float32))
    for _ in range(6):
        rig.tick(teleop=drive)
    assert rig.loop.mode is Mode.DEMONSTRATION and rig.loop.counters.demonstrations == 0
    rig.tick(teleop=drive)
    rig.tick(success=True, reward=1.0)
    assert rig.loop.counters.demonstrations == 1 and all(step.mode is Mode.DEMONSTRATION for step in rig.steps)
    assert rig.loop.phase is Phase.WAITING and rig.policy.asked == []
    assert "keep clear" in rig.loop.text, "with the policy the arm moves by itself"
    rig.policy.version = 1
    rig.follow(rig.loop.start())
    rig.tick()
    assert rig.loop.mode is Mode.TRAINING and rig.policy.asked[0][1] is False


def test_lockstep_waits_for_the_parameters_that_are_due_and_then_acts_in_the_same_observation():
    rig = _Rig()
    rig.policy.due = 2
    assert rig.tick().joints is not None
    outcome = rig.tick()
    assert outcome.joints is None and rig.loop.phase is Phase.WAITING
    rig.policy.due = 100
    assert rig.tick(again=True).joints is not None and rig.loop.phase is Phase.RUNNING
    rig.tick()
    assert [step.sequence for step in rig.steps] == [1, 2]


def test_training_stops_at_exactly_the_steps_asked_for():
    rig = _Rig(Plan(demonstrations=0, training_steps=7, evaluation_episodes=0, seed=0))
    for _ in range(20):
        rig.tick()
    assert rig.loop.phase is Phase.DONE and rig.loop.counters.training_steps == 7
    assert sum(step.action is not None for step in rig.steps) == 7 and rig.steps[-1].is_last


def test_evaluation_uses_the_mean_and_no_person():
    rig = _Rig(Plan(demonstrations=0, training_steps=0, evaluation_episodes=2, seed=0))
    for _ in range(14):
        rig.tick(teleop=Teleop(True, np.ones(4, np.float32)))
    assert all(deterministic for _, deterministic in rig.policy.asked)
    assert rig.loop.phase is Phase.DONE and rig.loop.counters.evaluation_episodes == 2
    assert not any(step.intervention for step in rig.steps)


def test_a_failure_key_ends_one_episode_however_often_it_fires():
    rig = _Rig()
    rig.tick()
    for _ in range(5):
        rig.loop.judge(False, rig.now * TICK_NS)
    rig.tick()
    assert _indices(rig.steps)[-1] == (1, False, True, True, False) and rig.steps[0].reward == 0.0
    rig.tick()
    rig.tick()
    assert len(rig.resets) == 2, "the next episode goes on"


def test_a_persons_success_is_rewarded():
    rig = _Rig()
    rig.tick()
    rig.loop.judge(True, rig.now * TICK_NS)
    rig.tick()
    assert rig.steps[0].reward == TASK.success_reward and rig.steps[-1].is_terminal and rig.steps[-1].success


def test_pause_truncates_holds_and_resumes_with_a_new_episode():
    rig = _Rig()
    rig.tick()
    rig.tick()
    rig.follow(rig.loop.pause())
    assert rig.steps[-1].is_last and not rig.steps[-1].is_terminal
    assert rig.tick().joints is None and rig.loop.phase is Phase.PAUSED
    rig.follow(rig.loop.resume())
    assert rig.loop.phase is Phase.RUNNING and len(rig.resets) == 2


def test_a_lost_observation_truncates_holds_and_recovers():
    rig = _Rig()
    rig.tick()
    rig.tick()
    rig.follow(rig.loop.lost("no wrist image"))
    assert rig.loop.phase is Phase.HOLDING and "no wrist image" in rig.loop.text and rig.steps[-1].is_last
    assert rig.tick().joints is None
    rig.follow(rig.loop.recovered())
    assert rig.loop.phase is Phase.RUNNING


def test_an_action_that_is_not_finite_holds_still():
    rig = _Rig()
    rig.tick(teleop=Teleop(True, np.full(4, np.nan, np.float32)))
    np.testing.assert_array_equal(rig.controller.calls[-1], np.zeros(4))
    assert rig.loop.dropped == 1


def test_a_step_without_terminal_success_goes_on():
    rig = _Rig(task=dataclasses.replace(TASK, terminate_on_success=False))
    rig.tick()
    rig.tick(reward=1.0, success=True)
    rig.tick(reward=1.0, success=True)
    assert [step.is_last for step in rig.steps] == [False, False] and rig.loop.phase is Phase.RUNNING


def test_counters_survive_a_kill_and_never_reuse_a_number(tmp_path):
    file = CounterFile(tmp_path / "counters")
    assert file.load() is None
    rig = _Rig()
    for _ in range(4):
        rig.tick()
    file.save(rig.loop.counters)
    loaded = CounterFile(tmp_path / "counters").load()
    assert loaded == rig.loop.counters
    spooled = [Spooled(n, Mode.TRAINING, True, n == 5, False, False) for n in range(1, 6)]  # two more than are counted
    resumed = _Rig(counters=after_restart(loaded, spooled))
    assert resumed.loop.counters.training_steps == 5 and resumed.loop.counters.interventions == 1
    resumed.tick()
    resumed.tick()
    assert resumed.steps[0].sequence == 6 and resumed.steps[0].episode == 1 and resumed.steps[0].is_first


def test_an_episode_that_ended_just_before_a_kill_is_counted():
    spooled = [
        Spooled(1, Mode.DEMONSTRATION, True, True, False, True),
        Spooled(2, Mode.DEMONSTRATION, False, False, True, True),
    ]
    counters = after_restart(Counters("run", sequence=1, demonstration_steps=1), spooled)
    assert (counters.demonstrations, counters.demonstration_attempts, counters.episode, counters.sequence) == (1, 1, 1, 2)


def test_a_damaged_counter_file_is_not_believed(tmp_path):
    path = tmp_path / "counters"
    CounterFile(path).save(Counters("run", sequence=9))
    path.write_bytes(path.read_bytes().replace(b'"sequence": 9', b'"sequence": 8'))
    assert CounterFile(path).load() is None


def test_world_seeds_of_modes_and_runs_never_meet():
    seeds = {world_seed(run, mode, number) for run in range(4) for mode in Mode for number in range(300)}
    assert len(seeds) == 4 * 3 * 300


@pytest.mark.parametrize("mode", list(Mode))
def test_world_seeds_fit_the_service(mode):
    assert 0 <= world_seed(2**31 - 1, mode, 999_999) < 2**64
