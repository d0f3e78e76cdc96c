# SPDX-License-Identifier: Apache-2.0
"""The messages about episodes: what the actor is doing, and how an episode ended."""

from __future__ import annotations

from builtin_interfaces.msg import Time

from hilserl_actor.control_loop import ControlLoop
from hilserl_actor.episode import Result
from hilserl_actor.policy_store import PolicyStore
from hilserl_actor.sender import StepSender
from hilserl_core.step import Mode
from hilserl_interfaces.msg import EpisodeResult, EpisodeStatus
from hilserl_ros.convert import to_stamp


def status_message(stamp: Time, loop: ControlLoop, store: PolicyStore, sender: StepSender, conflict: str = "") -> EpisodeStatus:
    """Status of the actor. conflict: a sentence about two sources of teleop that drive at once, '' when there are none."""
    counters = loop.counters
    done, successes, steps = {
        Mode.DEMONSTRATION: (counters.demonstration_attempts, counters.demonstrations, counters.demonstration_steps),
        Mode.TRAINING: (counters.training_episodes, counters.training_successes, counters.training_steps),
        Mode.EVALUATION: (counters.evaluation_episodes, counters.evaluation_successes, counters.evaluation_steps),
    }[loop.mode]
    message = EpisodeStatus(
        run_id=counters.run_id,
        mode=int(loop.mode),
        phase=int(loop.phase),
        text="; ".join(text for text in (loop.text, conflict) if text),
        episode=counters.episode,
        intervention=loop.intervention,
        success=loop.last_episode_success,
        episodes_done=done,
        successes=successes,
        seed=loop.seed,
        steps=steps,
        interventions=counters.interventions,
        sequence=counters.sequence,
        policy_version=store.version,
        policy_versions_applied=store.applied,
    )
    message.header.stamp = stamp
    if sender.outbox is not None:
        message.acknowledged, message.resent = sender.outbox.acknowledged, sender.outbox.resent
    if loop.episode is not None:
        builder = loop.episode.builder
        message.index, message.episode_return, message.success = max(builder.index, 0), float(builder.return_), builder.success
    return message


def result_message(result: Result) -> EpisodeResult:
    """Message with the result of an episode."""
    message = EpisodeResult(
        run_id=result.run_id,
        episode=result.episode,
        mode=int(result.mode),
        seed=result.seed,
        end=int(result.end),
        success=result.success,
        judge=result.judge,
        ticks=result.ticks,
        interventions=result.interventions,
        policy_version=result.policy_version,
        episode_return=float(result.episode_return),
        text=result.text,
    )
    message.header.stamp = to_stamp(result.stamp_ns)
    return message
