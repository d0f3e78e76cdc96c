# SPDX-License-Identifier: Apache-2.0
"""The node over DDS; the test plays cameras, arm and actor."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ament_index_python.packages import get_package_prefix
from classifier_fixtures import make_classifier, make_frames
from classifier_station import TASK, TICK_NS, TIMEOUT_S, TWO
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from hilserl_interfaces.msg import EpisodeStatus, Reward
from hilserl_ros import qos
from hilserl_ros.convert import to_ns, to_stamp
from hilserl_ros.images import image_to_rgb, rgb_to_image
from hilserl_ros.node import NodeError
from hilserl_ros.parameters import ParameterError
from reward_classifier_node.api import judge_frames
from reward_classifier_node.artifact import read_artifact, write_artifact
from reward_classifier_node.decision import Rule

FRAMES = make_frames(2).images[:, 0]


@pytest.fixture
def artifact(tmp_path) -> Path:
    """Its threshold lies in the middle of what it says of FRAMES."""
    classifier = make_classifier(TASK)
    threshold = float(np.median(classifier.probabilities(FRAMES[:, None])))
    write_artifact(tmp_path / "a", classifier, TASK, threshold, {})
    return tmp_path / "a"


def test_live_rewards_are_those_of_recorded_frames(station, artifact):
    station.start(artifact, "lockstep:=true", "debounce:=2", "task.success_reward:=1.0")
    found = [station.answer(frame, 1 + index) for index, frame in enumerate(FRAMES)]
    loaded = read_artifact(artifact, TASK)
    expected = judge_frames(loaded, {"wrist": FRAMES}, rule=Rule(loaded.threshold, debounce=2))
    np.testing.assert_allclose([reward.probability for reward in found], expected.probabilities, atol=1e-5)
    assert [reward.success for reward in found] == expected.success.tolist() and any(expected.success)
    assert [reward.reward for reward in found] == expected.rewards.tolist()
    assert {reward.artifact for reward in found} == {loaded.identity}


def test_a_repeated_image_gets_the_same_answer_and_an_episode_begins_anew(station, artifact):
    station.start(artifact, "lockstep:=true", "threshold:=0.000001")
    said = [station.answer(FRAMES[0], tick).success for tick in (1, 2, 2, 2)]
    assert said == [False] * 4, "a repeated image is no further frame"
    assert station.answer(FRAMES[0], 3).success and station.answer(FRAMES[0], 2).success is False
    station.say(1, EpisodeStatus.RESETTING)
    station.say(1, EpisodeStatus.RUNNING)
    station.until(lambda: station.tested._episode == ("run", 1), "the node to hear of the episode")
    assert [station.answer(FRAMES[0], tick).success for tick in (4, 5, 6, 7)] == [False, False, True, True]
    station.say(1, EpisodeStatus.WAITING)
    station.say(1, EpisodeStatus.RUNNING)
    assert station.answer(FRAMES[0], 8).success, "waiting for a policy is no new episode"


def test_in_lockstep_an_episode_that_runs_already_goes_on(station, artifact):
    station.start(artifact, "lockstep:=true", "threshold:=0.000001")
    assert [station.answer(FRAMES[0], tick).success for tick in (1, 2)] == [False, False]
    station.say(1, EpisodeStatus.RUNNING)
    station.until(lambda: station.tested._episode == ("run", 1), "the node to hear of the episode")
    assert station.answer(FRAMES[0], 3).success, "the reset that began it came before the node"
    station.say(2, EpisodeStatus.RUNNING)
    station.until(lambda: station.tested._episode == ("run", 2), "the node to hear of the next")
    assert [station.answer(FRAMES[0], tick).success for tick in (4, 5, 6)] == [False, False, True]


def test_a_reset_that_is_told_again_while_it_takes_long_begins_nothing_anew(station, artifact):
    """Topics keep no order among one another: the world's first images may have come before the last word of its reset."""
    station.start(artifact, "lockstep:=true", "threshold:=0.000001")
    station.say(0, EpisodeStatus.RUNNING)
    station.say(1, EpisodeStatus.RESETTING)
    station.until(lambda: station.tested._was_reset, "the node to hear of the reset")
    assert [station.answer(FRAMES[0], tick).success for tick in (1, 2)] == [False, False]
    for phase in (EpisodeStatus.RESETTING, EpisodeStatus.AWAITING_READY, EpisodeStatus.WAITING, EpisodeStatus.RUNNING):
        station.say(1, phase)
    station.until(lambda: station.tested._episode == ("run", 1), "the node to hear of the episode")
    assert station.answer(FRAMES[0], 3).success


@pytest.mark.parametrize("hours", [-1, 10_000])
def test_a_clock_that_is_set_costs_what_a_restart_does_and_a_stamp_of_years_ahead_too(station, artifact, hours):
    """Before, no image was judged after one that was stamped years ahead: all were older than it."""
    station.start(artifact, "threshold:=0.000001")
    ticks = [10**6 + index for index in range(3)]
    assert [station.answer(FRAMES[0], tick).success for tick in ticks] == [False, False, True]
    if hours > 0:
        station.answer(FRAMES[0], 10**6 + hours * 36_000)
    begin = 10**6 + (3 if hours > 0 else hours * 36_000)
    assert [station.answer(FRAMES[0], begin + index).success for index in range(3)] == [False, False, True]


def test_restarted_it_forgets_what_it_saw_and_answered(station, artifact):
    station.start(artifact, "lockstep:=true", "threshold:=0.000001")
    assert [station.answer(FRAMES[0], tick).success for tick in (1, 2, 3)] == [False, False, True]
    client = station.node.create_client(Trigger, "reward_classifier/restart")
    station.until(client.service_is_ready, "the service")
    answer = client.call_async(Trigger.Request())
    station.until(answer.done, "the answer")
    assert answer.result().success
    again = [station.answer(FRAMES[1], tick) for tick in (3, 4, 5)]
    assert [reward.success for reward in again] == [False, False, True]
    assert len({reward.probability for reward in again}) == 1, "the third tick is judged as a new one"


def test_an_answer_is_kept_before_it_is_out(station, artifact, monkeypatch):
    """Else an image that is repeated at once finds neither the answer nor a place in the queue."""
    node = station.start(artifact, "lockstep:=true")
    publish, kept = node._reward.publish, []

    def watched(message: Reward) -> None:
        kept.append(to_ns(message.header.stamp) in node._answers)
        publish(message)

    monkeypatch.setattr(node._reward, "publish", watched)
    station.answer(FRAMES[0], 1)
    assert kept == [True]


def test_a_clock_that_begins_anew_is_followed(station, artifact):
    station.start(artifact, "lockstep:=true", "threshold:=0.000001")
    assert [station.answer(FRAMES[0], tick).success for tick in (101, 102, 103)] == [False, False, True]
    assert [station.answer(FRAMES[0], tick).success for tick in (1, 2, 3)] == [False, False, True]


def test_an_image_that_cannot_be_read_gives_one_error_and_the_next_is_judged(station, artifact, capfd):
    station.start(artifact, "lockstep:=true")
    short = rgb_to_image(FRAMES[0])
    short.data = short.data[:100]
    station.answer(FRAMES[0], 1)
    for tick in (2, 3, 4):
        station.show(short, tick)
    station.show(np.zeros((64, 64, 3), np.uint8), 5)
    station.answer(FRAMES[0], 6)
    station.until(lambda: station.tested._judging.refused == 4, "all to be refused")
    station.until(lambda: any("refused" in {item.key for item in report.values} for report in station.reports), "a report")
    said = capfd.readouterr().err
    assert said.count("holds 100 bytes") == 1 and said.count("the task expects uint8 (128, 128, 3)") == 1


def test_cameras_are_judged_together(station, tmp_path):
    write_artifact(tmp_path / "two", make_classifier(TWO), TWO, 0.5, {})
    station.start(tmp_path / "two", "lockstep:=true", task=TWO)
    front = FRAMES[::-1]
    for index in range(4):  # the second camera is one frame behind
        station.show(FRAMES[index], 1 + index)
        if index:
            station.show(front[index - 1], index, "front")
    station.show(front[3], 4, "front")
    station.until(lambda: station.rewards and to_ns(station.rewards[-1].header.stamp) == 4 * TICK_NS, "the last reward")
    expected = read_artifact(tmp_path / "two", TWO).classifier.probabilities(np.stack([FRAMES[:4], front[:4]], 1))
    for reward in station.rewards:
        tick = to_ns(reward.header.stamp) // TICK_NS
        assert reward.probability == pytest.approx(expected[tick - 1], abs=1e-5)


def test_the_gate_asks_for_a_gripper_closed_on_something(station, artifact):
    gate = ("gate:=true", "gate_min_rad:=0.1", "gate_max_rad:=0.3", "gate_min_effort:=0.8", "gate_max_speed:=0.2")
    station.start(artifact, "lockstep:=true", "threshold:=0.000001", "debounce:=1", *gate)
    station.until(lambda: station.joints.get_subscription_count(), "the node's subscription to joints")
    cases = [(0.2, 0, -1, True), (0.5, 0, -1, False), (0.0, 0, -1, False), (0.2, 0, -0.3, False), (0.2, -1, -1, False)]
    for tick, (opening, speed, effort, success) in enumerate([*cases, (0.25, 0.1, 0.9, True)], 1):
        joints = JointState(name=list(TASK.joints))
        joints.position, joints.velocity, joints.effort = ([0.0] * 5 + [float(x)] for x in (opening, speed, effort))
        joints.header.stamp = to_stamp(tick * TICK_NS)
        station.joints.publish(joints)
        assert station.answer(FRAMES[0], tick).success is success


def test_a_gate_without_efforts_says_what_is_lacking(station, artifact, capfd):
    station.start(artifact, "lockstep:=true", "gate:=true", "gate_min_effort:=0.8")
    station.until(lambda: station.joints.get_subscription_count(), "the node's subscription to joints")
    joints = JointState(name=list(TASK.joints), position=[0.2] * 6)
    joints.header.stamp = to_stamp(TICK_NS)
    station.joints.publish(joints)
    station.show(FRAMES[0], 1)
    said = []
    station.until(
        lambda: said.append(capfd.readouterr().err) or "lacks the effort of gripper" in "".join(said), "the complaint"
    )


def test_another_classifier_is_taken_while_running_and_a_wrong_one_is_refused(station, artifact, tmp_path):
    node = station.start(artifact, "lockstep:=true", "debounce:=1")
    first = station.answer(FRAMES[0], 1)
    other = replace(TASK, camera_sizes=(640, 480), crops=(0, 80, 480, 480))
    write_artifact(tmp_path / "wrong", make_classifier(other), other, 0.5, {})
    write_artifact(tmp_path / "b", make_classifier(TASK, seed=1), TASK, 0.5, {})

    def put(folder: Path | str) -> str:
        (result,) = node.set_parameters([Parameter("artifact", value=str(folder))])
        return "" if result.successful else result.reason

    assert "task.crops: [0, 0, 128, 128] here, [0, 80, 480, 480] there" in put(tmp_path / "wrong")
    assert "there is no classifier" in put(tmp_path / "nothing")
    assert station.answer(FRAMES[0], 2).artifact == first.artifact
    assert put(tmp_path / "b") == ""
    expected = read_artifact(tmp_path / "b", TASK)
    station.until(lambda: node._judging.artifact.identity == expected.identity, "the other classifier")
    second = station.answer(FRAMES[0], 3)
    assert second.artifact == expected.identity
    assert second.probability == pytest.approx(expected.classifier.probabilities(FRAMES[:1, None])[0], abs=1e-5)
    weights = tmp_path / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert put(tmp_path / "a") == "", "damage shows on loading only"
    station.until(lambda: any("damaged" in report.message for report in station.reports), "the report of the damage")
    assert station.answer(FRAMES[0], 4).artifact == expected.identity


def test_the_decision_can_be_changed_while_running(station, artifact):
    node = station.start(artifact, "lockstep:=true", "threshold:=0.000001", "debounce:=1")
    assert station.answer(FRAMES[0], 1).success
    assert node.set_parameters([Parameter("threshold", value=1.0)])[0].successful
    assert not station.answer(FRAMES[0], 2).success
    assert "gate_max_rad" in node.set_parameters([Parameter("gate_min_rad", value=1.0)])[0].reason


def test_in_real_time_it_judges_what_comes_draws_it_and_reports(station, artifact):
    node = station.start(artifact)
    station.node.create_subscription(Image, "reward/image", station.pictures.append, qos.IMAGE)
    station.until(lambda: node._picture.get_subscription_count(), "the viewer")
    tick = 0

    def drawn_and_reported() -> bool:
        nonlocal tick
        tick += 1
        station.answer(FRAMES[tick % len(FRAMES)], tick)
        return bool(station.pictures) and any(report.message == "judging" for report in station.reports)

    station.until(drawn_and_reported, "a picture and a report")
    values = {item.key: item.value for report in station.reports for item in report.values}
    assert float(values["rate_hz"]) > 0 and float(values["latency_p99_ms"]) > 0 and values["skipped"] == "0"
    tick = to_ns(station.pictures[0].header.stamp) // TICK_NS
    np.testing.assert_array_equal(image_to_rgb(station.pictures[0])[:256:2, ::2], FRAMES[tick % len(FRAMES)])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (("task.image_size:=64",), NodeError, "task.image_size: 64 here, 128 there"),
        (("task.rotations_deg:=[180]",), NodeError, "task.rotations_deg"),
        (("artifact:=''",), NodeError, "no classifier is named"),
        (("artifact:=/nowhere",), NodeError, "there is no classifier /nowhere"),
        (("debounce:=0",), ParameterError, "debounce is 0"),
        (("gate_min_rad:=0.9",), ParameterError, "gate_min_rad is 0.9"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(station, artifact, parameters, error, message):
    with pytest.raises(error, match=message):
        station.start(artifact, *parameters)


def test_the_program_ends_with_one_sentence_when_the_task_differs(artifact, domain):
    command = [str(Path(get_package_prefix("reward_classifier_node")) / "lib/reward_classifier_node/reward_classifier_node")]
    words = ["--ros-args", "-p", f"artifact:={artifact}"]  # the default task's camera is larger
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=TIMEOUT_S * 2)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("was made for another task: task.camera_sizes: [640, 480] here, [128, 128] there") == 1
