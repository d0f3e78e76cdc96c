# SPDX-License-Identifier: Apache-2.0
"""The table of docs/episode.md: what ends an episode, whatever it waits for. Each cell is a test."""

from pathlib import Path

import numpy as np
import pytest

from hilserl_actor.control_loop import ControlLoop, Outcome, Pace
from hilserl_actor.episode import End
from hilserl_actor.phases import Lack, Phase
from hilserl_actor.schedule import Counters, Plan
from hilserl_actor.teleop import Teleop
from hilserl_core.action import Command
from hilserl_core.step import Observation, check_step
from hilserl_core.task import TaskSpec

TASK = TaskSpec(max_episode_s=0.5)  # five ticks
TICK_NS = 100_000_000
JOINTS = np.zeros(6)
DRIVE = Teleop(True, np.ones(4, np.float32))
DEMONSTRATE = Plan(demonstrations=9, training_steps=0, evaluation_episodes=0, seed=0)
TRAIN = Plan(demonstrations=0, training_steps=100, evaluation_episodes=0, seed=0)
EVALUATE = Plan(demonstrations=0, training_steps=0, evaluation_episodes=9, seed=0)


class Arm:
    """Stands for the controller."""

    def latch(self, joints):
        pass

    latch_position = latch

    def command(self, action, joints):
        return Command(np.full(6, 0.1), np.asarray(action, np.float32), True)

    def hold(self):
        return np.full(6, 0.2)


class Policy:
    """A policy whose parameters for step `due` and later are not there yet."""

    version = 1

    def __init__(self):
        self.due = 10**9

    def ready(self, sequence):
        return sequence < self.due

    def act(self, observation, sequence, deterministic):
        return np.zeros(4, np.float32)


class Rig:
    """A loop, and everything it has handed out."""

    def __init__(self, plan=TRAIN, judge="simulation", **pace):
        self.policy, self.now, self.steps, self.results, self.resets = Policy(), 0, [], [], []
        self.loop = ControlLoop(TASK, Arm(), self.policy, plan, Counters("run"), Pace(**pace), judge=judge)
        self.follow(self.loop.start())

    def follow(self, outcome: Outcome) -> Outcome:
        self.steps += outcome.steps
        self.results += outcome.results
        if outcome.reset_seed is not None:
            self.resets.append(outcome.reset_seed)
        return outcome

    def begin(self):
        if self.loop.phase is Phase.AWAITING_READY:  # the person agrees to the first motion
            self.loop.ready()
            self.observe()
        self.loop.reset_done()
        return self

    def observe(self, reward=None, success=False, teleop=None, again=False):
        """Hand over one observation as the node does. reward: None where none comes."""
        self.now += not again
        stamp_ns = self.now * TICK_NS
        if reward is not None:
            self.follow(self.loop.reward(stamp_ns, reward, success))
        images = {"wrist": np.zeros((128, 128, 3), np.uint8)}
        observation = Observation(stamp_ns, np.full(18, self.now, np.float32), images)
        outcome = self.follow(self.loop.observe(observation, JOINTS))
        outcome.joints = self.loop.act(observation, JOINTS, teleop)
        return outcome


def running():
    rig = Rig().begin()
    for _ in range(3):
        rig.observe(0.0)
    return rig


def lacks_reward():
    rig = Rig(judge="classifier").begin()
    for _ in range(4):
        rig.observe()
    return rig


def lacks_policy():
    rig = running()
    rig.policy.due = rig.loop.episode.builder.next_sequence
    rig.observe(0.0)
    return rig


def lacks_teleop():
    """Lockstep: the next observation is there, but for the answer of a source; the node hands it over when a verdict waits."""
    return running()


def awaits_ready():
    rig = Rig(ready_ticks=None).begin()
    rig.observe(0.0)
    return rig


def awaits_person():
    rig = Rig(DEMONSTRATE, wait_for_person=True).begin()
    rig.observe(0.0)
    return rig


def holds_success():
    rig = Rig(DEMONSTRATE, hold_ticks=20).begin()
    for number in range(4):
        rig.observe(float(number == 2), success=number == 2)
    return rig


def paused():
    rig = running()
    rig.follow(rig.loop.pause(freeze=True))
    return rig


def awaits_verdict():
    rig = Rig(EVALUATE, judge="person", verdict_ticks=4).begin()
    for _ in range(6):
        rig.observe()
    return rig


def awaits_late_verdict():
    rig = Rig(TRAIN, judge="person", late_ticks=4).begin()
    for _ in range(6):
        rig.observe()
    return rig


def resets():
    return Rig()


STATES = {
    "running": (running, Phase.RUNNING),
    "waits for a reward": (lacks_reward, Phase.RUNNING),
    "waits for the policy": (lacks_policy, Phase.WAITING),
    "waits for teleop in lockstep": (lacks_teleop, Phase.RUNNING),
    "holds after success": (holds_success, Phase.RUNNING),
    "paused in lockstep": (paused, Phase.PAUSED),
    "awaits a verdict": (awaits_verdict, Phase.AWAITING_VERDICT),
    "awaits a late verdict": (awaits_late_verdict, Phase.AWAITING_VERDICT),
    "awaits ready": (awaits_ready, Phase.AWAITING_READY),
    "awaits the person": (awaits_person, Phase.AWAITING_PERSON),
    "reset under way": (resets, Phase.RESETTING),
}
BEGUN = list(STATES)[:8]
ASKED = ("awaits a verdict", "awaits a late verdict")
NOT_BEGUN = list(STATES)[8:]


def say(rig, success, again=False):
    """A key, and what the node does next: it hands over the newest observation again, then a new one if the loop wants it."""
    waited = rig.loop.phase is Phase.WAITING
    rig.follow(rig.loop.judge(success, None, again))
    if waited:
        assert rig.observe(again=True).joints is not None, "the world has to go on by a tick"
    if rig.loop.takes_observations and not rig.results:
        rig.observe()


def phase_after(rig):
    """The phase, when the parameters that were waited for have come."""
    rig.policy.due = 10**9
    if rig.loop.phase is Phase.WAITING:
        rig.follow(rig.loop.start())
    return rig.loop.phase


def made(state):
    make, phase = STATES[state]
    rig = make()
    assert rig.loop.phase is phase and not rig.results and rig.loop.text
    return rig


@pytest.mark.parametrize("end", [End.SUCCESS, End.FAILURE, End.RERECORD])
@pytest.mark.parametrize("state", BEGUN)
def test_a_verdict_ends_an_episode_whatever_it_waits_for(state, end):
    rig = made(state)
    say(rig, end is End.SUCCESS, end is End.RERECORD)
    if state == "holds after success" and end is End.SUCCESS:
        assert not rig.results, "the success is there already, and its ticks are still to be held"
        for _ in range(25):
            rig.observe(0.0)
            if rig.results:
                break
    (result,) = rig.results
    assert (result.end, result.judge, result.success) == (end, "person", end is End.SUCCESS)
    assert rig.steps[-1].is_terminal and rig.steps[-1].success is result.success
    assert result.ticks == sum(step.action is not None for step in rig.steps)
    rewards = [step.reward for step in rig.steps if step.action is not None]
    assert state == "holds after success" or rewards == [0.0] * (len(rewards) - 1) + [float(result.success)]
    for step in rig.steps:
        check_step(step, TASK)
    assert phase_after(rig) is (Phase.PAUSED if state == "paused in lockstep" else Phase.RESETTING)


@pytest.mark.parametrize("end", [End.SUCCESS, End.FAILURE, End.RERECORD])
@pytest.mark.parametrize("state", NOT_BEGUN)
def test_a_verdict_before_an_episode_has_begun_judges_nothing_and_failure_resets_anew(state, end):
    rig = made(state)
    say(rig, end is End.SUCCESS, end is End.RERECORD)
    assert not rig.results and not rig.steps and rig.loop.counters == Counters("run")
    again = state != "reset under way" and end is not End.SUCCESS
    assert rig.resets == [rig.loop.seed] * (1 + again)
    assert rig.loop.phase is (Phase.RESETTING if again else STATES[state][1])
    if state != "reset under way" and end is End.SUCCESS:
        assert "no success yet" in rig.loop.text


@pytest.mark.parametrize("state", list(STATES))
def test_a_stop_by_the_person_ends_episode_and_run(state):
    rig = made(state)
    rig.follow(rig.loop.stop())
    assert rig.loop.phase is Phase.DONE
    assert [(result.end, result.text) for result in rig.results] == [(End.STOP, "the run was ended by the person")] * (
        state in BEGUN
    )
    assert not rig.steps or (rig.steps[-1].is_last and not rig.steps[-1].is_terminal)


@pytest.mark.parametrize("state", list(STATES))
def test_an_emergency_stop_ends_the_episode_and_after_it_a_new_one_begins_with_a_reset(state):
    rig = made(state)
    rig.follow(rig.loop.stop_arm(True))
    assert [result.end for result in rig.results] == [End.STOP] * (state in BEGUN)
    was_paused = state == "paused in lockstep"
    assert rig.loop.phase is (Phase.PAUSED if was_paused else Phase.HOLDING) and "reach-grasp estop --clear" in rig.loop.text
    assert rig.observe(0.0).joints is None, "nothing is commanded meanwhile"
    rig.follow(rig.loop.stop_arm(False))
    assert "--clear" not in rig.loop.text, "that has been done"
    rig.follow(rig.loop.resume())
    assert phase_after(rig) is Phase.RESETTING and len(rig.resets) == 2


@pytest.mark.parametrize("state", list(STATES))
def test_a_lost_camera_ends_the_episode_but_where_no_observation_is_due(state):
    rig = made(state)
    rig.follow(rig.loop.lost("no wrist"))
    if state in ("paused in lockstep", "reset under way"):
        assert rig.loop.phase is STATES[state][1] and not rig.results
        return
    assert [result.end for result in rig.results] == [End.LOST] * (state in BEGUN)
    assert rig.loop.phase is Phase.HOLDING and "no wrist" in rig.loop.text and "keep clear" in rig.loop.text
    if state in BEGUN and state != "holds after success":
        assert rig.results[0].judge == "" and not rig.steps[-1].is_terminal
    rig.follow(rig.loop.recovered())
    if state == "awaits ready":  # where a person is waited for, the arm does not move without their word
        assert "keep clear, then say ready" in rig.loop.text
        rig.loop.ready()
        rig.observe()
    assert phase_after(rig) is Phase.RESETTING


@pytest.mark.parametrize("state", list(STATES))
def test_when_time_is_over_the_episode_ends_or_its_clock_stands(state):
    rig = made(state)
    for _ in range(12):
        if rig.loop.takes_observations and not rig.results and state != "waits for the policy":
            rig.observe(None if state in ("waits for a reward", *ASKED) else 0.0)
    if state in ("running", "waits for teleop in lockstep"):
        (result,) = rig.results
        assert (result.end, result.judge, result.ticks) == (End.TIME_OUT, "simulation", 5)
    elif state in ASKED:
        (result,) = rig.results
        assert (result.end, result.judge, result.ticks, result.success) == (End.TIME_OUT, "", 5, False)
        evaluates = int(state == "awaits a verdict")
        assert rig.loop.counters.evaluation_unjudged == evaluates == rig.loop.counters.evaluation_episodes
    elif state == "waits for a reward":
        assert rig.loop.episode.builder.index == TASK.max_ticks, "no observation beyond the last one is taken"
        rig.follow(rig.loop.lost("no reward", Lack.REWARD))
        assert [result.end for result in rig.results] == [End.LOST] and rig.results[0].judge == ""
        rig.follow(rig.loop.recovered(Lack.OBSERVATION))
        assert rig.loop.phase is Phase.HOLDING, "it goes on with a reward, and does not try for ever"
        rig.follow(rig.loop.recovered(Lack.REWARD))
        assert rig.loop.phase is Phase.RESETTING
    else:
        assert not rig.results and rig.loop.phase is STATES[state][1]


def test_the_table_of_the_docs_has_a_row_for_each_of_these_states():
    page = (Path(__file__).parents[3] / "docs" / "episode.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")]
    assert set(STATES) <= set(rows)


def test_ready_comes_by_word_by_grip_or_by_time_and_a_hand_that_never_let_go_is_no_grip():
    for begin in ("word", "grip", "time"):
        rig = Rig(TRAIN, ready_ticks=6 if begin == "time" else None).begin()
        for _ in range(5):
            rig.observe(0.0, teleop=DRIVE)
        assert rig.loop.phase is Phase.AWAITING_READY, "the hand has held since before the reset"
        if begin == "word":
            rig.loop.ready()
        rig.observe(0.0)
        rig.observe(0.0, teleop=DRIVE if begin == "grip" else None)
        assert rig.loop.phase is Phase.RUNNING and rig.loop.episode.builder.index == (0 if begin == "word" else -1)
        assert rig.observe(0.0).joints is not None and rig.loop.episode.builder.index >= 0


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("waits", [awaits_ready, awaits_person])
def test_a_source_that_sends_no_numbers_begins_no_episode(waits, number):
    rig = waits()
    phase = rig.loop.phase
    for _ in range(3):
        rig.observe(0.0, teleop=Teleop(True, np.full(4, number, np.float32)))
    assert rig.loop.phase is phase
    rig.observe(0.0, teleop=DRIVE)
    assert rig.loop.phase is Phase.RUNNING


def test_a_demonstrations_clock_begins_with_the_first_active_command_and_the_arm_holds_where_it_was_reset():
    rig = Rig(DEMONSTRATE, judge="person", wait_for_person=True)
    rig.loop.reset_done(np.full(6, 0.2))
    held = [rig.observe().joints for _ in range(50)]
    assert all(np.array_equal(joints, np.full(6, 0.2)) for joints in held) and not rig.steps
    rig.observe(teleop=DRIVE)
    assert rig.loop.phase is Phase.RUNNING and rig.loop.episode.builder.index == 0
    for _ in range(5):
        rig.observe()
    (result,) = rig.results
    assert (result.end, result.ticks, result.judge) == (End.TIME_OUT, 5, "")
    assert rig.loop.counters.demonstrations == 0 and rig.loop.counters.demonstration_attempts == 1


def test_an_arm_that_is_far_from_its_start_while_a_person_is_waited_for_holds_where_it_is():
    """Before, a limp arm that had sunk leapt back once it had torque again, beside the hand that puts the object back."""
    rig = Rig(DEMONSTRATE, judge="person", ready_ticks=None)
    rig.loop.ready()
    rig.observe()
    rig.loop.reset_done(np.full(6, 0.7))
    assert all(np.array_equal(rig.observe().joints, JOINTS) for _ in range(3))


def test_an_arm_beside_a_person_goes_to_its_start_only_on_their_word():
    """An actor that was killed and started again, or a camera that is back, must not move the arm beside a hand."""
    rig = Rig(DEMONSTRATE, judge="person", ready_ticks=None)
    assert rig.loop.phase is Phase.AWAITING_READY and "keep clear, then say ready" in rig.loop.text and not rig.resets
    assert all(np.array_equal(rig.observe().joints, JOINTS) for _ in range(3)), "told to hold where it is"
    rig.loop.judge(False)
    assert rig.loop.phase is Phase.AWAITING_READY and not rig.resets, "another key is no ready"
    rig.observe()
    rig.loop.ready()
    rig.observe()
    assert rig.loop.phase is Phase.RESETTING and len(rig.resets) == 1
    rig.loop.reset_done()
    assert "put the object back" in rig.loop.text
    rig.follow(rig.loop.lost("no wrist for 1.0 s"))
    rig.follow(rig.loop.recovered())
    assert "keep clear, then say ready" in rig.loop.text and len(rig.resets) == 1
    for active in (True, False, True):  # a hand that holds on from before has to let go first
        assert len(rig.resets) == 1
        rig.observe(teleop=Teleop(active, np.zeros(4) if active else None))
    rig.observe()
    assert rig.loop.phase is Phase.RESETTING and len(rig.resets) == 2, "taking hold says ready too"


def test_the_ticks_to_hold_after_success_are_counted_down():
    rig = holds_success()
    left = []
    while rig.loop.phase is Phase.RUNNING:
        left.append(rig.loop.text)
        rig.observe(0.0)
    assert left[0] == "success: hold, 19 ticks left" and left[-1] == "success: hold, 1 ticks left" and len(left) == 19


def test_a_reward_that_comes_between_a_key_and_its_observation_does_not_overrule_it():
    rig = lacks_reward()
    rig.follow(rig.loop.judge(False))
    for stamp in (2, 3, 4):
        rig.follow(rig.loop.reward(stamp * TICK_NS, 1.0, True))
    assert not rig.results
    rig.observe()
    assert [(result.end, result.judge) for result in rig.results] == [(End.FAILURE, "person")]


def test_a_pause_at_a_real_arm_ends_the_episode_and_says_so_and_one_in_lockstep_goes_on():
    rig = running()
    rig.follow(rig.loop.pause())
    assert rig.results[0].end is End.STOP and "ended without a verdict" in rig.loop.text
    rig = paused()
    index = rig.loop.episode.builder.index
    rig.follow(rig.loop.resume())
    rig.observe(0.0)
    assert rig.loop.episode.builder.index == index + 1 and not rig.results


def test_a_scripted_verdict_counts_by_its_stamp():
    rig = running()
    rig.follow(rig.loop.judge(False, (rig.now + 1) * TICK_NS))
    rig.observe(0.0)
    assert not rig.results
    rig.observe(0.0)
    assert [result.end for result in rig.results] == [End.FAILURE]


def test_a_key_that_the_lost_camera_overtakes_still_counts():
    rig = running()
    rig.follow(rig.loop.judge(True))
    rig.follow(rig.loop.lost("no wrist"))
    assert [(result.end, result.judge) for result in rig.results] == [(End.SUCCESS, "person")]
