# SPDX-License-Identifier: Apache-2.0
"""What docker/ says, as far as it can be read without an engine. `make check-images` builds the images and runs them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from hilserl_ros.testing import Rig
from reach_grasp.errors import CommandError
from reach_grasp.systems import nodes_of

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"
pytestmark = pytest.mark.skipif(not DOCKER.is_dir(), reason="docker/ lies in the whole repository")
TARGETS = {"robot": "cpu", "learner": "cpu", "learner-cuda": '""'}
"""The index that each gets torch from when nobody names one; "" is PyPI."""
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def instructions(target: str) -> list[str]:
    """The instructions that make a target of the Dockerfile, those of the stages below it first."""
    text = (DOCKER / "Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    stages: dict[str, tuple[str, list[str]]] = {}
    for line in lines:
        if found := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            stages[found[2]] = (found[1], [])
        elif stages:
            next(reversed(stages.values()))[1].append(" ".join(line.split()))
    made: list[str] = []
    while target in stages:
        below, own = stages[target]
        made, target = [f"FROM {below}", *own, *made], below
    assert target == "${BASE}"
    return made


@pytest.fixture
def default() -> str:
    """The ROS distribution of who chooses none."""
    bare = {key: value for key, value in os.environ.items() if key != "REACH_GRASP_ROS"}
    command = ["bash", "-c", f"source {ROOT}/scripts/tree.bash; echo $_reach_grasp_ros"]
    return subprocess.run(command, env=bare, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def compose() -> dict[str, dict]:
    """The services of compose.yaml where there is no .env."""
    text = _VARIABLE.sub(lambda found: found[2] or "", (DOCKER / "compose.yaml").read_text())
    return yaml.safe_load(text)["services"]


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed; requirements.txt names it")
    done = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_base_is_by_default_the_official_image_of_the_default_distribution(default):
    assert f"\nARG BASE=ros:{default}-ros-base-noble\n" in (DOCKER / "Dockerfile").read_text()


@pytest.mark.parametrize(("target", "index"), TARGETS.items())
def test_a_target_names_its_index_in_the_stage_that_installs(target, index):
    """An argument of another stage would not reach the installer."""
    made = instructions(target)
    install = next(number for number, line in enumerate(made) if line.endswith("docker/install environment"))
    stage = max(number for number, line in enumerate(made[:install]) if line.startswith("FROM"))
    assert [line for line in made[stage:install] if "TORCH_INDEX" in line] == [f"ARG TORCH_INDEX={index}"]
    assert made[install].startswith("RUN ")


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_no_root_and_starts_its_system(target):
    made = instructions(target)
    assert [line for line in made if line.startswith("USER")] == ["USER ${USER_ID}"]
    assert {line for line in made if line.startswith("ARG USER_ID")} == {"ARG USER_ID=1000"}
    assert made[-1] == f'CMD ["reach-grasp", "{target.removesuffix("-cuda")}"]'
    entry = json.loads(next(line for line in made if line.startswith("ENTRYPOINT")).removeprefix("ENTRYPOINT "))
    assert os.access(ROOT / Path(*entry).relative_to("/opt/reach-grasp"), os.X_OK)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The files of an image before anything is installed, beside a folder for PATH whose installer notes its call and fails."""
    folder = tmp_path / "reach-grasp"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("requirements*.txt"), *ROOT.glob("constraints-*.txt")):
        shutil.copy(file, folder)
    (folder / "docker").mkdir()
    script = (DOCKER / "install").read_text()
    for place, own in (("/opt/ros/", "ros/"), ("/var/lib/apt/", "apt/")):
        script = script.replace(place, f"{tmp_path}/{own}")
    (folder / "docker/install").write_text(script)
    (tmp_path / "bin").mkdir()
    note = f'#!/bin/sh\necho "${{UV_TORCH_BACKEND-none}} $*" >{tmp_path}/called\nexit 1\n'
    for name, text in (("uv", note), ("python3", f"#!/bin/sh\nmkdir .venv .venv/bin && cp {tmp_path}/bin/* .venv/bin\n")):
        (tmp_path / "bin" / name).write_text(text)
    shutil.copy("/bin/true", tmp_path / "bin/python")
    for tool in (tmp_path / "bin").iterdir():
        tool.chmod(0o755)
    return folder


def installed(image: Path, **environment: str) -> str:
    """What the installer was called with: the value of UV_TORCH_BACKEND, and its arguments."""
    bare = {"HOME": str(image), "PATH": f"{image.parent}/bin:/usr/bin:/bin", **environment}
    done = subprocess.run(["bash", image / "docker/install", "environment"], env=bare, capture_output=True, text=True)
    assert (image.parent / "called").is_file(), done.stdout + done.stderr
    return (image.parent / "called").read_text()


@pytest.mark.parametrize(("index", "backend"), [("cpu", "cpu"), ("cu126", "cu126"), ("", "none")])
def test_the_index_reaches_the_installer_where_ros_comes_from_wheels(image, index, backend, default):
    (image / ".venv/bin").mkdir(parents=True)
    (image / ".venv/.ros").write_text(default)
    (image / ".venv/.torch").write_text(index)
    (image / ".venv/bin/python").symlink_to(Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name)
    said = installed(image, TORCH_INDEX=index)
    assert said.startswith(f"{backend} pip install ")
    assert f"-r {image}/requirements-{default}.txt" in said, "with ROS 2"


@pytest.mark.parametrize(("index", "backend"), [("cpu", "cpu"), ("", "none")])
def test_the_index_reaches_the_installer_on_the_official_base(image, index, backend):
    setup = image.parent / "ros/jazzy/setup.bash"
    setup.parent.mkdir(parents=True)
    setup.touch()
    said = installed(image, TORCH_INDEX=index, ROS_DISTRO="jazzy")
    assert said.startswith(f"{backend} pip install ")
    assert said.endswith(" -r requirements.txt -c constraints-jazzy.txt\n"), "without ROS 2, which apt has installed"


def test_on_the_official_base_apt_installs_ros_packages_alone_and_the_environment_builds(image):
    setup, done = image.parent / "ros/jazzy/setup.bash", image.parent / "done"
    setup.parent.mkdir(parents=True)
    setup.write_text("test $AN_UNSET_VARIABLE || true\n")
    for manifest in ROOT.glob("src/*/package.xml"):
        (image / "src" / manifest.parent.name).mkdir(parents=True)
        shutil.copy(manifest, image / "src" / manifest.parent.name)
    (image / ".venv/bin").mkdir(parents=True)
    (image / ".venv/bin/activate").write_text("PATH=$PWD/.venv/bin:$PATH\n")
    for tool in (image / ".venv/bin/python", *(image.parent / "bin" / name for name in ("rosdep", "apt-get"))):
        tool.write_text(f'#!/bin/sh\necho "$(basename $0) $*" >>{done}\n')
        tool.chmod(0o755)
    bare = {"PATH": f"{image.parent}/bin:/usr/bin:/bin", "ROS_DISTRO": "jazzy"}
    subprocess.run(["bash", image / "docker/install", "workspace"], env=bare, check=True)
    update, lists, install, build = done.read_text().splitlines()
    assert (update, lists) == ("rosdep update --rosdistro jazzy", "apt-get update")
    words = install.split(" --skip-keys ")
    assert words[0] == "rosdep install --from-paths src --ignore-src --default-yes"
    own = yaml.safe_load((ROOT / "rosdep/reach-grasp.yaml").read_text()).keys()
    assert own <= set(words[1].split()), "what only PyPI has is in the environment"
    assert all(key.startswith("python3-") or key == "rviz2" for key in words[1].split())
    assert build == "python -m colcon --log-base /dev/null build"


def test_a_base_with_another_distribution_is_refused(image):
    setup = image.parent / "ros/humble/setup.bash"
    setup.parent.mkdir(parents=True)
    setup.touch()
    bare = {"PATH": f"{image.parent}/bin:/usr/bin:/bin", "ROS_DISTRO": "humble"}
    done = subprocess.run(["bash", image / "docker/install", "environment"], env=bare, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "install: there is no constraints-humble.txt; take a base image with another ROS distribution\n"


@pytest.mark.parametrize("name", ["reach-grasp", "another"])
def test_the_entry_point_runs_a_command_in_the_environment_of_the_workspace(name, tmp_path):
    """By the name of reach-grasp it is that command."""
    link = tmp_path / name
    link.symlink_to(DOCKER / "entrypoint")
    words = ["doctor", "--help"] if name == "reach-grasp" else ["reach-grasp", "doctor", "--help"]
    kept = {key: value for key in ("HOME", "REACH_GRASP_ROS", "ROS_DISTRO") if (value := os.environ.get(key)) is not None}
    done = subprocess.run([link, *words], env={"PATH": "/usr/bin:/bin", **kept}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: reach-grasp doctor")


@pytest.mark.parametrize("name", ["robot", "learner", "watch"])
def test_a_service_may_do_no_more_than_it_needs(compose, name):
    service = compose[name]
    assert service["read_only"] is True and service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "user", "pid", "ports"} & service.keys()
    assert service["volumes"] == ["data:/data"]
    assert service["healthcheck"]["test"][0] == "CMD"


def test_the_services_are_those_of_the_images(compose):
    assert compose.keys() == {"robot", "learner", "watch"}
    for name in ("robot", "learner"):
        build = compose[name]["build"]
        assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
        assert build["target"] == name and compose[name]["image"] == f"reach-grasp-{name}"
        arguments = {line.split()[1].split("=")[0] for line in instructions(name) if line.startswith("ARG")}
        assert build["args"].keys() <= arguments
    assert compose["watch"]["image"] == compose["robot"]["image"]
    cuda = yaml.safe_load((DOCKER / "compose.cuda.yaml").read_text())["services"]
    assert cuda.keys() == {"learner"} and cuda["learner"]["build"]["target"] in TARGETS


@pytest.mark.parametrize("name", ["robot", "learner"])
@pytest.mark.parametrize("example", [False, True])
def test_a_service_starts_a_system_that_there_is(name, example, compose, tmp_path, monkeypatch):
    """Without .env, and with the arguments that example.env has for a real arm."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "station.yaml").write_text("/**/follower: {ros__parameters: {port: /dev/follower}}\n")
    program, system, *words = shlex.split(compose[name]["command"])
    if example:
        words += shlex.split(variables()[f"{name.upper()}_ARGS"])
    given = {flag.removeprefix("--"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
    assert (program, system) == ("reach-grasp", name)
    checked = compose[name]["healthcheck"]["test"][-1]
    assert checked in {spec.name for spec in nodes_of(system, given)}


def variables() -> dict[str, str]:
    """What example.env proposes."""
    lines = re.findall(r"^#(\w+)=(.*)$", (DOCKER / "example.env").read_text(), re.MULTILINE)
    return dict(lines)


def test_every_setting_is_in_the_example_and_each_of_the_example_is_heeded():
    text = (DOCKER / "compose.yaml").read_text()
    passed_on = re.findall(r"^    (ROS_\w+):$", text, re.MULTILINE)
    assert variables().keys() == {found[1] for found in _VARIABLE.finditer(text)} | set(passed_on)


def test_devices_are_named_by_id_and_need_not_be_there(compose):
    places = [device.split(":") for device in compose["robot"]["devices"]]
    assert {source for source, _ in places} == {"/dev/null"}
    assert {name: value for name, value in variables().items() if value.startswith("/dev/")}.keys() == {
        place.removeprefix("/dev/").upper() for _, place in places
    }
    assert all("/by-id/" in value for value in variables().values() if value.startswith("/dev/"))


def test_the_development_container_is_made_of_the_same_file():
    folder = ROOT / ".devcontainer"
    text = (folder / "devcontainer.json").read_text()
    settings = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("//")))
    build = settings["build"]
    assert (folder / build["dockerfile"]).resolve() == DOCKER / "Dockerfile" and (folder / build["context"]).resolve() == ROOT
    assert any(f" {settings['remoteUser']} " in f"{line} " for line in instructions(build["target"]) if "useradd" in line)


def test_health_is_whether_every_node_answers(monkeypatch):
    spec = importlib.util.spec_from_file_location("reach_grasp_docker_health", DOCKER / "health.py")
    health = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(health)
    rig, over = Rig(offset=0), threading.Event()
    thread = threading.Thread(target=lambda: [rig.executor.spin_once(timeout_sec=0.05) for _ in iter(over.is_set, True)])
    thread.start()
    try:
        health.check(["station"])
        monkeypatch.setattr(health, "TIMEOUT_S", 1.0)
        with pytest.raises(CommandError, match="nobody was not found in 1 s"):
            health.check(["nobody"])
        over.set()
        thread.join()
        monkeypatch.setattr(health, "TIMEOUT_S", 6.0)
        with pytest.raises(CommandError, match="station did not answer in 6 s"):
            health.check(["station"])
    finally:
        over.set()
        thread.join()
        rig.close()
