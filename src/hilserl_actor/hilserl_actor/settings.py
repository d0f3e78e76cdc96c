# SPDX-License-Identifier: Apache-2.0
"""The actor's parameter table."""

from __future__ import annotations

from dataclasses import dataclass

from hilserl_actor.control_loop import Pace
from hilserl_actor.episode import JUDGES, PERSON
from hilserl_actor.teleop import NO_SOURCE, SOURCES
from hilserl_ros.parameters import parameter

LATE_VERDICT_S = 1.0
"""For so long after time is over a person's verdict still counts, where an episode is not kept waiting for one."""


@dataclass(frozen=True)
class ActorParameters:
    """Parameters of the actor node."""

    mode: str = parameter(
        "train", "What to do: demonstrations then training, or evaluation only.", choices=("train", "evaluation")
    )
    folder: str = parameter("outputs/run", "Folder of the run: here the spool of unacknowledged steps, counters and timings.")
    seed: int = parameter(0, "Seed of the worlds and of exploration.", minimum=0, maximum=2**31 - 1)
    demonstrations: int = parameter(20, "Successful demonstrations to record before training.", minimum=0, maximum=10_000)
    hold_ticks: int = parameter(
        0,
        "A demonstration goes on for this many ticks after success, so that a classifier learns what held looks like; "
        "config/record.yaml sets 30.",
        minimum=0,
        maximum=1000,
    )
    training_steps: int = parameter(
        6000, "Actions of training to take; at 10 Hz 6000 are ten minutes.", minimum=0, maximum=10_000_000
    )
    greedy_every: int = parameter(
        0,
        "Every so many training episodes act without exploration, as in evaluation: where the mean action comes to rest is "
        "then seen, and helped out of; 0: none.",
        minimum=0,
        maximum=1000,
    )
    evaluation_episodes: int = parameter(100, "Episodes of evaluation mode.", minimum=1, maximum=100_000)
    checkpoint: str = parameter(
        "",
        "Folder with a LeRobot pretrained_model to act with before the learner sends parameters; needed for evaluation.",
    )
    wait_for_recorder: bool = parameter(False, "Begin only when a node called recorder takes the steps: no episode is missed.")
    lockstep: bool = parameter(False, "Answer every simulated observation exactly once and wait for what it needs.")
    teleop_sources: tuple[str, ...] = parameter(
        SOURCES,
        "Who may take over: each publishes on teleop/<source>, and of two that drive the first in the order of the default "
        "counts; none: nobody. In lockstep each of them must answer every observation.",
        choices=(*SOURCES, NO_SOURCE),
    )
    reset: str = parameter(
        "joints", "How an episode begins: the simulator resets its world, or the arm moves to task.reset_joints_rad.",
        choices=("world", "joints"),
    )  # fmt: skip
    reset_stops_arm: bool = parameter(
        False,
        "Suspend the follower while the simulator resets its world, and let it go on then: a simulated arm with a driver.",
    )
    reset_duration_s: float = parameter(
        3.0, "Seconds the arm takes to the reset joints.", minimum=0.2, maximum=60.0, tunable=True
    )
    reset_variation_rad: float = parameter(
        0.0,
        "The arm moves to a reset pose that differs from task.reset_joints_rad by up to this much in each joint but the "
        "gripper, uniformly, drawn from the episode's seed; reset world has variations of its own.",
        minimum=0.0,
        maximum=0.5,
    )
    ready_after_s: float = parameter(
        0.0,
        "After a reset the arm holds until the person says ready, or takes hold, or for so many seconds of observations; "
        "0: the episode begins at once; negative: it waits for the person.",
        minimum=-1.0,
        maximum=3600.0,
    )
    wait_for_person: bool = parameter(
        False, "The clock of a demonstration, its ticks and steps, begins with the person's first active command."
    )
    judge: str = parameter(
        "simulation",
        "Who judges an episode: the topic reward, which the classifier or the simulation publishes, or the person alone, by "
        "episode/event. A person's word overrules both others.",
        choices=JUDGES,
    )
    verdict_timeout_s: float = parameter(
        10.0,
        "With judge person an evaluation asks for so many seconds of observations when time is over, and then ends the "
        "episode unjudged; demonstrations and training ask for at most one second; 0: nobody is asked.",
        minimum=0.0,
        maximum=3600.0,
    )
    observation_timeout_s: float = parameter(
        1.0,
        "Without a complete observation for this long the arm holds and the episode ends.",
        minimum=0.05,
        maximum=60.0,
    )
    reward_timeout_s: float = parameter(
        1.0,
        "Real time: a step whose reward does not come within this time ends the episode, and the arm holds until one comes.",
        minimum=0.05,
        maximum=60.0,
    )
    teleop_timeout_s: float = parameter(
        0.3, "Real time: a person's command older than this no longer counts.", minimum=0.02, maximum=10.0, tunable=True
    )
    max_lag_m: float = parameter(
        0.06, "The commanded pose is latched anew when the arm is farther behind than this.", minimum=0.005, maximum=0.5
    )
    resend_s: float = parameter(1.0, "A step without acknowledgement for this long is sent again.", minimum=0.05, maximum=60.0)
    window: int = parameter(32, "Most unacknowledged steps in flight; the rest wait in the spool.", minimum=1, maximum=64)
    command_delay_s: float = parameter(
        0.02,
        "Real time: a command goes out this long after its observation was taken, so that the time the policy takes does not "
        "make the arm's motion uneven; 0 sends it at once.",
        minimum=0.0,
        maximum=1.0,
    )
    threads: int = parameter(1, "Threads of the policy on the CPU.", minimum=1, maximum=64)

    @property
    def longest_without_reward_s(self) -> float | None:
        """Longest wait [s] of a step for its reward; None where it never waits: in lockstep, and where a person judges."""
        return None if self.lockstep or self.judge == PERSON else self.reward_timeout_s

    def pace(self, fps: float) -> Pace:
        """Waiting times for a person in ticks. fps: ticks per second."""
        return Pace(
            ready_ticks=None if self.ready_after_s < 0 else round(self.ready_after_s * fps),
            wait_for_person=self.wait_for_person,
            verdict_ticks=round(self.verdict_timeout_s * fps),
            late_ticks=round(min(self.verdict_timeout_s, LATE_VERDICT_S) * fps),
            hold_ticks=self.hold_ticks,
        )
