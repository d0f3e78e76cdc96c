# SPDX-License-Identifier: Apache-2.0
"""The recorder as a process over DDS; the test plays the arm, the camera and the actor."""

from __future__ import annotations

import signal

import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from recorder_station import count_of, numbers_of, ready, recorded, sequences_of
from std_srvs.srv import Trigger

from dataset_recorder.repair import repair
from hilserl_interfaces.msg import EpisodeEvent, EpisodeResult, EpisodeStatus, Reward, Step
from hilserl_ros import qos


def test_each_episode_gets_a_bag_with_everything_in_it(start, tmp_path):
    station, process = start()
    results = station.node.create_publisher(EpisodeResult, "episode/result", qos.EPISODE_RESULT)
    ready(station)
    station.until(results.get_subscription_count, "how episodes end to be taken")
    bags = tmp_path / "bags" / "run"
    for episode in (0, 1):
        station.say(episode)
        station.until((bags / f"{episode:06d}" / "unfinished.json").is_file, "the bag to be begun")
        sent = [station.observe() for _ in range(9)]  # fewer than a publisher keeps
        step = Step(run_id="run", episode=episode, sequence=episode + 1, is_last=True, state=[0.0], action=[0.0])
        station.steps.publish(step)
        results.publish(EpisodeResult(run_id="run", episode=episode, judge="person"))
        station.say(episode, EpisodeStatus.RESETTING)
        station.until(recorded(bags / f"{episode:06d}"), "the bag to be closed")
        assert numbers_of(bags / f"{episode:06d}")[-9:] == sent
        assert count_of(bags / f"{episode:06d}", "/steps") == count_of(bags / f"{episode:06d}", "/episode/result") == 1
    notes = yaml.safe_load((bags / "000000" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"]
    assert notes["run_id"] == "run" and '"fps": 10.0' in notes["task"] and "numpy" in notes["versions"]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_steps_are_taken_only_when_all_that_is_required_is_there(start, tmp_path):
    """An actor that waits for its recorder does not begin before, so that its first bag lacks none of it."""
    station, _ = start("required:=[truth]")
    station.until(lambda: station.image.get_subscription_count() > 0, "the images to be taken")
    truth = station.node.create_publisher(Reward, "truth", qos.REWARD)
    station.until(lambda: station.steps.get_subscription_count() > 0, "the steps to be taken")
    assert truth.get_subscription_count() == 1
    bag = tmp_path / "bags/run/000000"
    station.say(0)
    station.until((bag / "unfinished.json").is_file, "the bag to be begun")
    truth.publish(Reward())
    station.steps.publish(Step(run_id="run", sequence=1, is_last=True, state=[0.0], action=[0.0]))
    station.say(0, EpisodeStatus.RESETTING)
    station.until(recorded(bag), "the bag to be closed")
    assert count_of(bag, "/truth") == count_of(bag, "/steps") == 1


def test_services_start_stop_and_discard(start, tmp_path):
    station, _ = start("follow_actor:=false")
    everything = (station.joints, station.image)
    station.until(lambda: all(publisher.get_subscription_count() for publisher in everything), "the subscriptions")
    first = station.call(Trigger, "recorder/start_episode")
    assert first.success and not station.call(Trigger, "recorder/start_episode").success
    sent = [station.observe() for _ in range(5)]
    assert station.call(Trigger, "recorder/stop_episode").success
    station.until(recorded(tmp_path / "bags" / first.message), "the bag to be closed")
    assert numbers_of(tmp_path / "bags" / first.message) == sent
    second = station.call(Trigger, "recorder/start_episode")
    assert station.call(Trigger, "recorder/rerecord_episode").message == second.message
    assert station.call(Trigger, "recorder/discard_episode").success
    assert not (tmp_path / "bags" / second.message).exists()
    assert station.call(Trigger, "recorder/stop_episode").message == "nothing is being recorded"


def test_an_episode_to_be_recorded_again_leaves_no_bag(start, tmp_path):
    station, _ = start()
    ready(station)
    station.say(0)
    bags = tmp_path / "bags" / "run"
    station.until((bags / "000000" / "unfinished.json").is_file, "the bag to be begun")
    station.event.publish(EpisodeEvent(kind=EpisodeEvent.RERECORD))
    station.until(lambda: not (bags / "000000").exists(), "the bag to be discarded")
    station.say(0)  # the actor has not heard of it yet
    station.say(1)
    station.until((bags / "000001").exists, "the next bag")
    assert not (bags / "000000").exists()


def test_a_killed_recorders_bag_is_mended(start, tmp_path):
    station, process = start()
    ready(station)
    bag = tmp_path / "bags" / "run" / "000000"
    station.say(0)
    station.until((bag / "unfinished.json").is_file, "the bag to be begun")
    sent = [station.observe() for _ in range(10)]
    size = (bag / "000000.mcap").stat().st_size
    station.until(lambda: (bag / "000000.mcap").stat().st_size > size, "the flush")
    process.kill()
    process.wait()
    assert repair(bag).changed and numbers_of(bag)[-10:] == sent


def test_by_hand_steps_are_recorded_like_any_other_topic(start, tmp_path):
    station, _ = start("follow_actor:=false")
    station.until(lambda: station.steps.get_subscription_count() > 0, "the subscription")
    bag = tmp_path / "bags" / station.call(Trigger, "recorder/start_episode").message
    station.steps.publish(Step(run_id="run", episode=7, sequence=3, state=[0.0]))
    assert station.call(Trigger, "recorder/stop_episode").success  # what is on its way is waited for
    station.until(recorded(bag), "the bag to be closed")
    assert sequences_of(bag) == [3]


def test_inactive_it_records_nothing_until_it_is_activated(start, tmp_path):
    station, _ = start("autostart:=false")
    assert "not active" in station.call(Trigger, "recorder/start_episode").message
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert station.call(ChangeState, "recorder/change_state", request).success
    assert station.call(Trigger, "recorder/start_episode").success
