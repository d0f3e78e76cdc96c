# SPDX-License-Identifier: Apache-2.0
"""What the systems consist of, and that launch files and command say the same."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ament_index_python.packages import get_package_share_directory

from reach_grasp import command
from reach_grasp.errors import CommandError
from reach_grasp.systems import SYSTEMS, nodes_of
from so101_driver.input_device import codes_of
from so101_driver.mapping import Mapping
from so101_driver.settings import GamepadParameters

SHARE = Path(get_package_share_directory("reach_grasp"))


def names(system: str, **given: str) -> list[str]:
    return [spec.name for spec in nodes_of(system, given)]


def test_the_nodes_of_every_system(tmp_path):
    assert names("train") == ["sim", "operator", "frames", "actor", "learner"]
    assert names("robot") == ["sim", "operator", "frames", "actor"]
    assert names("train", record="true") == ["sim", "operator", "frames", "recorder", "actor", "learner"]
    assert names("train", classifier=str(tmp_path)) == ["sim", "operator", "frames", "reward_classifier", "actor", "learner"]
    assert names("record") == ["sim", "operator", "frames", "recorder", "actor"]
    assert names("learner") == ["learner"]
    assert names("sim") == ["sim", "frames"]
    assert names("teleop") == ["sim", "leader", "frames"]
    assert names("replay", bag="bags", classifier=str(tmp_path)) == ["player", "reward_classifier"]
    assert names("eval", checkpoint=str(tmp_path)) == ["sim", "frames", "actor"]


def test_a_simulated_arm_with_the_real_ones_driver(tmp_path):
    specs = {spec.name: spec for spec in nodes_of("train", {"driver": "bus", "run": str(tmp_path)})}
    assert list(specs) == ["sim", "operator", "follower", "frames", "actor", "learner"]
    assert specs["sim"].parameters["bus_port"] == specs["follower"].parameters["port"] == str(tmp_path / "arm")
    assert Path(specs["follower"].parameters["calibration"]).is_file()
    assert "bus.yaml" in [file.name for file in specs["actor"].parameter_files]
    assert "bus_port" not in {spec.name: spec for spec in nodes_of("train", {})}["sim"].parameters


def test_the_real_station_has_a_camera_node_for_each_camera_of_the_task(tmp_path):
    found = names("train", sim="false", events="keyboard")
    assert found == ["follower", "wrist_camera", "leader", "keyboard", "frames", "actor", "learner"]
    given = {"sim": "false", "checkpoint": str(tmp_path), "events": "keyboard"}
    assert names("eval", **given) == ["follower", "wrist_camera", "keyboard", "frames", "actor"]
    own = tmp_path / "own.yaml"
    values = {"cameras": ["wrist", "side"], "camera_sizes": [640, 480, 640, 480], "crops": [0, 80, 480, 480] * 2}
    values["rotations_deg"] = [0, 0]
    own.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"task": values}}}))
    specs = {spec.name: spec for spec in nodes_of("robot", {"sim": "false", "config": str(own), "events": "gamepad"})}
    assert list(specs) == ["follower", "wrist_camera", "side_camera", "leader", "gamepad", "frames", "actor"]
    assert specs["side_camera"].executable == "camera_node" and specs["side_camera"].parameters["camera"] == "side"
    assert specs["side_camera"].parameters["use_sim_time"] is False


def test_an_arm_of_somebody_elses_driver_has_a_relay_and_no_follower(tmp_path):
    station = {"sim": "false", "driver": "external"}
    keys, more = {"events": "keyboard"}, {"eval": {"checkpoint": str(tmp_path)}}
    for system in ("train", "robot", "record", "eval", "teleop"):
        found = names(system, **station, **keys, **more.get(system, {}))
        assert found[0] == "command_relay" and not {"follower", "sim"} & set(found), system
        assert system == "teleop" or "actor" in found
    specs = {spec.name: spec for spec in nodes_of("train", station | keys | {"states_topic": "/arm/joint_states"})}
    assert specs["command_relay"].parameters == {"use_sim_time": False, "command_type": "JointTrajectory"}
    states = ("joint_states", "/arm/joint_states")
    assert all(states in spec.remappings for spec in specs.values()), "whoever reads them"
    assert ("controller_command", "joint_trajectory_controller/joint_trajectory") in specs["command_relay"].remappings
    given = station | keys | {"command_type": "Float64MultiArray"}
    assert nodes_of("train", given)[0].remappings == (("controller_command", "forward_command_controller/commands"),)
    (relay, *_) = nodes_of("train", given | {"command_topic": "arm/commands", "namespace": "left"})
    assert ("controller_command", "arm/commands") in relay.remappings and relay.namespace == "left"
    assert not any(spec.remappings for spec in nodes_of("train", {"sim": "false", **keys})), "our own driver needs none"


def test_of_several_parameter_files_the_last_counts_most(tmp_path):
    first, last = tmp_path / "first.yaml", tmp_path / "last.yaml"
    for file in (first, last):
        file.write_text("{}")
    for spec in nodes_of("train", {"config": f"{first}:{last}"}):
        assert spec.parameter_files[-2:] == (first, last)
    with pytest.raises(CommandError, match=r"nowhere\.yaml does not exist"):
        nodes_of("train", {"config": f"{first}:{tmp_path}/nowhere.yaml"})


def test_what_talks_to_another_computer_sends_datagrams_that_fit_into_frames(monkeypatch):
    for name in ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)

    def changed(system: str) -> list[str]:
        return [spec.name for spec in nodes_of(system, {}) if spec.environment]

    assert changed("robot") == ["actor"] and changed("learner") == ["learner"] and changed("train") == []


@pytest.mark.parametrize("chosen", ["leader", "gamepad", "keyboard"])
def test_a_person_may_drive_a_real_arm_with_a_leader_a_gamepad_or_a_keyboard(chosen):
    leader = chosen == "leader"
    keys = ["keyboard"] if leader else []
    specs = {
        spec.name: spec for spec in nodes_of("record", {"sim": "false", "teleop": chosen, "events": (keys or ["none"])[0]})
    }
    assert list(specs) == ["follower", "wrist_camera", chosen, *keys, "frames", "recorder", "actor"]
    assert not {"mode", "lockstep"} & set(specs[chosen].parameters), "for an actor, by the wall clock"
    assert specs["actor"].parameters["teleop_sources"] == [chosen]
    specs = {spec.name: spec for spec in nodes_of("teleop", {"sim": "false", "teleop": chosen})}
    assert list(specs) == ["follower", chosen, "frames"], "and without one"
    assert specs[chosen].parameters["mode"] == ("mirror" if leader else "drive")
    assert specs[chosen].executable == ("leader_node" if leader else "gamepad_node")
    files = [file.name for file in specs[chosen].parameter_files]
    assert files == ["task.yaml", "policy.yaml", *([] if leader else [f"{chosen}.yaml"]), "station.yaml"]


@pytest.mark.parametrize("chosen", ["leader", "gamepad", "keyboard"])
@pytest.mark.parametrize("system", ["train", "robot", "record"])
def test_a_person_may_drive_the_simulated_arm_in_lockstep_at_the_wall_clocks_pace(system, chosen):
    """teleop and events were ignored in simulation without a word: the scripted person drove."""
    specs = {spec.name: spec for spec in nodes_of(system, {"teleop": chosen})}
    assert "operator" not in specs and specs[chosen].parameters["lockstep"] is True
    assert specs[chosen].parameters["use_sim_time"] is True
    assert specs["actor"].parameters["teleop_sources"] == [chosen] and specs["actor"].parameters["judge"] == "simulation"
    assert specs["sim"].parameters["real_time_factor"] == 1.0
    paced = {spec.name: spec for spec in nodes_of(system, {"teleop": chosen, "real_time_factor": "0.5"})}
    assert paced["sim"].parameters["real_time_factor"] == 0.5, "unless the user says otherwise"


def test_without_a_person_the_simulation_goes_as_fast_as_it_can():
    for given in ({}, {"teleop": "operator"}, {"teleop": "none", "demonstrations": "0"}):
        specs = {spec.name: spec for spec in nodes_of("train", given)}
        assert specs["sim"].parameters["real_time_factor"] == 0.0
        assert specs["actor"].parameters["teleop_sources"] == [given.get("teleop", "operator")]
        assert ("operator" in specs) is (given.get("teleop") != "none")
    for system in ("sim", "teleop"):
        (sim, *_) = nodes_of(system, {})
        assert sim.parameters["real_time_factor"] == 1.0 and sim.parameters["lockstep"] is False


def test_keys_beside_who_drives_count_in_simulation_too(tmp_path):
    """events was ignored in simulation without a word."""
    needed = {"eval": {"checkpoint": str(tmp_path)}}
    for system in ("train", "robot", "record", "eval"):
        specs = {spec.name: spec for spec in nodes_of(system, {"events": "keyboard", **needed.get(system, {})})}
        assert specs["keyboard"].executable == "gamepad_node" and specs["keyboard"].parameters["mode"] == "events"
        assert specs["sim"].parameters["real_time_factor"] == 1.0, "a person follows"
        assert "keyboard.yaml" in [file.name for file in specs["keyboard"].parameter_files]


def test_beside_a_leader_a_keyboard_says_what_an_episode_was():
    specs = {spec.name: spec for spec in nodes_of("record", {"sim": "false", "events": "keyboard"})}
    assert list(specs) == ["follower", "wrist_camera", "leader", "keyboard", "frames", "recorder", "actor"]
    assert specs["keyboard"].executable == "gamepad_node" and specs["keyboard"].parameters["mode"] == "events"
    assert specs["actor"].parameters["judge"] == "person" and specs["actor"].parameters["teleop_sources"] == ["leader"]
    assert "keyboard.yaml" in [file.name for file in specs["keyboard"].parameter_files]
    found = names("robot", sim="false", teleop="gamepad", events="gamepad")
    assert found == ["follower", "wrist_camera", "gamepad", "frames", "actor"]


def test_who_judges(tmp_path):
    folder, keys = str(tmp_path), {"sim": "false", "events": "keyboard"}

    def judge(system: str, **given: str) -> str:
        (actor,) = (spec for spec in nodes_of(system, given) if spec.name == "actor")
        return actor.parameters["judge"]

    for system, more in (("train", {}), ("robot", {}), ("record", {}), ("eval", {"checkpoint": folder})):
        assert judge(system, **more) == "simulation"
        assert judge(system, classifier=folder, **more) == "classifier"
        assert judge(system, judge="person", **more) == "person"
        assert judge(system, **keys, **more) == "person"
        assert judge(system, classifier=folder, **keys, **more) == "classifier"
        assert judge(system, classifier=folder, judge="person", **keys, **more) == "person", "the classifier only watches"


def test_the_scripted_person_judges_where_no_other_person_does(tmp_path):
    """The simulation then publishes no reward, and the recorder does not wait for one."""
    specs = {spec.name: spec for spec in nodes_of("record", {"judge": "person"})}
    assert specs["operator"].parameters["judges"] is True and specs["sim"].parameters["publish_reward"] is False
    assert specs["recorder"].parameters["required"] == ["wrist/camera_info", "teleop", "truth"]
    specs = {spec.name: spec for spec in nodes_of("record", {})}
    assert specs["operator"].parameters["judges"] is False and "publish_reward" not in specs["sim"].parameters
    assert specs["recorder"].parameters["required"] == ["wrist/camera_info", "teleop", "reward", "truth"]
    specs = {spec.name: spec for spec in nodes_of("record", {"judge": "person", "events": "keyboard"})}
    assert specs["operator"].parameters["judges"] is False, "it drives, and the person with the keyboard judges"
    specs = {spec.name: spec for spec in nodes_of("eval", {"judge": "person", "checkpoint": str(tmp_path)})}
    assert specs["operator"].parameters["judges"] is True and specs["actor"].parameters["teleop_sources"] == ["none"]


def test_an_evaluation_starts_the_classifier_that_judges(tmp_path):
    """Before, at a real arm, an evaluation started neither classifier nor keys, and every episode was a failure."""
    given = {"checkpoint": str(tmp_path), "classifier": str(tmp_path), "events": "gamepad", "sim": "false"}
    assert names("eval", **given) == ["follower", "wrist_camera", "gamepad", "frames", "reward_classifier", "actor"]
    assert names("eval", **given | {"sim": "true", "events": "none"}) == ["sim", "frames", "reward_classifier", "actor"]


STATION = {"sim": "false"}


@pytest.mark.parametrize(
    ("system", "given", "sentence"),
    [
        ("record", STATION | {"teleop": "operator"}, "teleop is operator, the scripted person of the simulation; at a real"),
        ("train", STATION | {"driver": "bus", "events": "keyboard"}, "driver is bus, which is for the simulated arm"),
        ("train", {"driver": "external"}, "driver is external, somebody else's of a real arm; add --sim false"),
        (
            "train",
            STATION | {"states_topic": "a", "events": "keyboard"},
            "states_topic is a, which only somebody else's driver",
        ),
        ("eval", STATION | {"command_topic": "a", "events": "keyboard"}, "command_topic is a, which only somebody else's"),
        ("train", {"command_type": "Float64MultiArray"}, "command_type is Float64MultiArray, which only somebody else's"),
        ("teleop", {"driver": "bus"}, "driver is 'bus', allowed is one of none, external"),
        ("train", STATION | {"real_time_factor": "1.0", "events": "keyboard"}, "real_time_factor is the pace of a simulation"),
        ("record", STATION, "the person judges, but has no key to say success or failure; add --events keyboard"),
        ("eval", STATION, "the person judges, but has no key to say success or failure; add --events keyboard"),
        ("record", {"teleop": "leader", "judge": "person"}, "the person judges, but has no key"),
        ("train", {"judge": "classifier"}, "judge is classifier, but no classifier is named; name its folder"),
        ("train", STATION | {"judge": "simulation"}, "judge is simulation, which a real arm does not have"),
        ("train", {"judge": "simulation", "classifier": "{folder}"}, "so the classifier would not count; leave out"),
        ("record", {"teleop": "none"}, "20 demonstrations are still missing, but with teleop none nobody drives"),
        ("robot", STATION | {"teleop": "none", "events": "keyboard"}, "20 demonstrations are still missing"),
        ("eval", STATION | {"classifier": "{folder}"}, "the arm waits until a person says ready, but no key can say so; add"),
        ("teleop", {"teleop": "operator"}, "teleop is 'operator', allowed is one of auto, leader"),
    ],
)
def test_what_cannot_work_is_refused_by_name(tmp_path, system, given, sentence):
    given = {name: value.format(folder=tmp_path) for name, value in given.items()}
    with pytest.raises(CommandError, match=sentence):
        nodes_of(system, {**({"checkpoint": str(tmp_path)} if system == "eval" else {}), **given})


def test_the_cures_of_those_sentences_work(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**/actor: {ros__parameters: {ready_after_s: 5.0}}\n")
    folder = str(tmp_path)
    assert names("eval", sim="false", classifier=folder, checkpoint=folder, config=str(file))
    assert names("robot", sim="false", teleop="none", events="keyboard", demonstrations="0")
    assert names("train", judge="simulation") and names("record", sim="false", classifier=folder)


def test_the_installed_mappings_are_possible():
    for name in ("gamepad", "keyboard"):
        content = yaml.safe_load((SHARE / "config" / f"{name}.yaml").read_text())
        values = content[f"/**/{name}"]["ros__parameters"]
        found = Mapping(**values.pop("mapping"))
        assert len(codes_of(found)) == len(found.names) > 10
        GamepadParameters(**values)


def test_an_actor_waits_for_its_recorder():
    for record in ("true", "false"):
        (actor,) = (spec for spec in nodes_of("train", {"record": record}) if spec.name == "actor")
        assert actor.parameters["wait_for_recorder"] is (record == "true")


def test_with_a_classifier_the_simulator_keeps_its_truth_to_itself(tmp_path):
    specs = {spec.name: spec for spec in nodes_of("train", {"classifier": str(tmp_path)})}
    assert specs["sim"].parameters["publish_reward"] is False
    assert specs["reward_classifier"].parameters["artifact"] == str(tmp_path)
    with pytest.raises(
        CommandError, match="the classifier /nowhere does not exist; make one with reach-grasp train-classifier"
    ):
        nodes_of("train", {"classifier": "/nowhere"})


def test_a_replay_judges_every_frame_in_simulated_time_or_keeps_a_pace(tmp_path):
    for rate, lockstep in (("0", True), ("2.5", False)):
        given = {"bag": f"{tmp_path}/a:{tmp_path}/b", "classifier": str(tmp_path), "rate": rate, "sim": "false"}
        specs = {spec.name: spec for spec in nodes_of("replay", given)}
        assert all(spec.parameters["use_sim_time"] is True for spec in specs.values())
        assert specs["reward_classifier"].parameters["lockstep"] is lockstep
        assert not specs["reward_classifier"].respawn, "one that begins anew in the middle would say something else"
        assert specs["player"].parameters["bags"] == [f"{tmp_path}/a", f"{tmp_path}/b"]
        assert specs["player"].parameters["rate"] == float(rate)
    for missing, sentence in (({"bag": "x"}, "folder of a classifier"), ({"classifier": "x"}, "folder of a bag")):
        with pytest.raises(CommandError, match=f"replay needs the {sentence}"):
            nodes_of("replay", missing)


def test_no_installed_file_names_what_a_system_sets(tmp_path):
    needed = {"eval": ("checkpoint",), "replay": ("bag", "classifier"), "train": ("classifier",), "record": ("classifier",)}
    for system in SYSTEMS:
        for spec in nodes_of(system, dict.fromkeys(needed.get(system, ()), str(tmp_path))):
            sections = [yaml.safe_load(file.read_text()).get(f"/**/{spec.name}", {}) for file in spec.parameter_files]
            named = {name for section in sections for name in section.get("ros__parameters", {})}
            assert not named & set(spec.parameters), f"-p is for /**, and what a file says to {spec.name} alone counts above it"


def test_only_actor_and_learner_are_started_again():
    assert [spec.name for spec in nodes_of("train", {}) if spec.respawn] == ["actor", "learner"]


def test_arguments_reach_the_nodes(tmp_path):
    extra = tmp_path / "mine.yaml"
    extra.write_text("/**:\n  ros__parameters:\n    task: {fps: 5.0}\n")
    given = {"seed": "7", "steps": "50", "namespace": "left", "log_level": "warn", "config": str(extra), "run": str(tmp_path)}
    specs = {spec.name: spec for spec in nodes_of("train", given)}
    assert {spec.namespace for spec in specs.values()} == {"left"}
    assert {spec.log_level for spec in specs.values()} == {"warn"}
    assert all(spec.parameter_files[-1] == extra for spec in specs.values())
    assert specs["actor"].parameters["training_steps"] == 50
    assert {specs[name].parameters["seed"] for name in ("actor", "operator")} == {7}
    assert specs["learner"].parameters["training.seed"] == 7
    assert specs["learner"].parameters["folder"].startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sim": "maybe"}, "sim is 'maybe', allowed is true or false"),
        ({"seed": "x"}, "seed is 'x', allowed is a whole number"),
        ({"log_level": "loud"}, "log_level is 'loud', allowed is one of debug"),
        ({"config": "/nowhere.yaml"}, "the parameter file /nowhere.yaml does not exist"),
        ({"speed": "3"}, "train has no argument speed; it has sim, seed"),
    ],
)
def test_wrong_arguments_are_one_sentence(given, sentence):
    with pytest.raises(CommandError, match=sentence):
        nodes_of("train", given)


def test_a_missing_checkpoint_is_one_sentence():
    with pytest.raises(CommandError, match="the checkpoint /nowhere does not exist"):
        nodes_of("eval", {"checkpoint": "/nowhere"})


def test_rviz_that_is_not_installed_is_one_sentence():
    with pytest.raises(CommandError, match="packages rviz2 are not installed"):
        nodes_of("train", {"use_rviz": "true"})


def test_every_system_has_a_launch_file_that_names_it():
    for name in SYSTEMS:
        tree = ast.parse((SHARE / "launch" / f"{name}.launch.py").read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert [call.args[0].value for call in calls if call.func.id == "launch_description"] == [name]


def test_parameter_files_name_nodes_so_that_namespaces_work():
    for file in (SHARE / "config").glob("*.yaml"):
        for node, content in yaml.safe_load(file.read_text()).items():
            assert node == "/**" or node.startswith("/**/"), f"{file.name} names {node}"
            assert list(content) == ["ros__parameters"]


def test_help_describes_every_argument(capsys):
    for name, system in SYSTEMS.items():
        with pytest.raises(SystemExit):
            command.main([name, "--help"])
        shown = capsys.readouterr().out
        assert all(argument.flag in shown for argument in system.arguments)


def test_the_command_takes_arguments_as_launch_does(capsys):
    assert command.main(["train", "seed:=x"]) == 2
    assert capsys.readouterr().err == "reach-grasp: seed is 'x', allowed is a whole number from 0 to 2147483647\n"


def test_the_launch_glue_is_not_needed_by_the_command():
    program = (
        "import sys; import reach_grasp.command; sys.exit(any(m.split('.')[0] in ('launch', 'torch') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
