# SPDX-License-Identifier: Apache-2.0
"""What scripts/setup says about a machine that lacks something, and that it builds only what changed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(
    (folder for folder in Path(__file__).resolve().parents if (folder / "scripts" / "setup").is_file()), Path("/nonexistent")
)
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="tests of set-up need the whole repository")


def load(name: str):
    """A module of scripts/."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        spec = importlib.util.spec_from_file_location(f"reach_grasp_scripts_{name}", ROOT / "scripts" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture
def workspace():
    return load("workspace")


@pytest.fixture
def build():
    return load("build")


@pytest.fixture
def checkout(tmp_path):
    """A copy of what set-up consists of, without packages and without an environment."""
    shutil.copytree(ROOT / "scripts", tmp_path / "repo" / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("requirements*.txt"), *ROOT.glob("constraints-*.txt")):
        shutil.copy(file, tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def tools(tmp_path):
    """A folder for PATH with the basic commands and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "dirname", "cat", "true", "sh"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def setup(checkout: Path, tools: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "scripts" / "setup")],
        env={"PATH": str(tools), "HOME": str(checkout), **environment},
        capture_output=True,
        text=True,
    )


def test_without_python_it_says_what_to_install(checkout, tools):
    shim = tools / "python3.12"
    shim.write_text("#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    shim.chmod(0o755)
    # Only what the search names is looked at, so a Python of this machine at a fixed place must be hidden.
    script = checkout / "scripts" / "setup"
    for place in ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"):
        script.write_text(script.read_text().replace(f" {place}/python3.12", ""))
    done = setup(checkout, tools)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"no working Python 3.12 with venv and pip was found ({shim} does not work)" in done.stderr
    assert "apt install python3.12-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_broken_shim_is_passed_over_for_a_working_python(checkout, tools):
    shim = tools / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    versions = checkout / "pyenv" / "versions" / "3.12.99" / "bin"
    versions.mkdir(parents=True)
    real = Path(sys.base_prefix) / "bin" / "python3.12"
    (versions / "python3.12").write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    (versions / "python3.12").chmod(0o755)
    done = setup(checkout, tools, PYENV_ROOT=str(checkout / "pyenv"))
    assert f"Python 3.12 is {real}" in done.stdout
    assert "a C compiler, a C++ compiler, make is missing on PATH; install with 'apt install build-essential'." in done.stderr
    assert done.returncode == 1


def test_a_named_python_that_does_not_work_is_not_replaced_by_another(checkout, tools):
    done = setup(checkout, tools, REACH_GRASP_PYTHON="/nowhere/python3.12")
    assert done.returncode == 1
    assert "no working Python 3.12" in done.stderr


@pytest.mark.parametrize(("missing", "words"), [("cc", "a C compiler"), ("c++", "a C++ compiler"), ("make", "make")])
def test_each_missing_tool_is_named(workspace, monkeypatch, missing, words):
    families = {"cc": ("cc", "gcc", "clang"), "c++": ("c++", "g++", "clang++"), "make": ("make",)}
    monkeypatch.setattr(workspace.shutil, "which", lambda name: None if name in families[missing] else f"/bin/{name}")
    with pytest.raises(workspace.SetupError) as caught:
        workspace.check_compiler()
    assert str(caught.value) == f"{words} is missing on PATH; install with 'apt install build-essential'."


def test_missing_python_headers_are_named(workspace, monkeypatch, tmp_path):
    monkeypatch.setattr(workspace.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(workspace.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(workspace.SetupError, match=r"headers of .* are missing; .*apt install python3\.12-dev'"):
        workspace.check_compiler()


def test_a_full_disk_is_named(workspace, tmp_path):
    with pytest.raises(workspace.SetupError, match=r"GB free and the environment takes up to .* free some space"):
        workspace.check_disk(tmp_path, needed_gb=1e9)
    workspace.check_disk(tmp_path, needed_gb=0.0)


def test_without_gl_the_packages_are_named(workspace, monkeypatch, tmp_path):
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(workspace, "renders", lambda python, backend: False)
    monkeypatch.setattr(workspace.os, "geteuid", lambda: 1000)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(workspace.SetupError, match=r"no off-screen GL works.*'apt install libosmesa6'"):
        workspace.pick_gl(workspace.Tree(tmp_path, "jazzy"))
    assert not (tmp_path / ".venv" / ".gl").exists()


def test_the_first_gl_that_draws_is_remembered(workspace, monkeypatch, tmp_path):
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(workspace, "renders", lambda python, backend: backend == "osmesa")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert workspace.pick_gl(workspace.Tree(tmp_path, "jazzy")) == "osmesa"
    monkeypatch.setattr(workspace, "renders", lambda python, backend: pytest.fail("asked again"))
    assert workspace.pick_gl(workspace.Tree(tmp_path, "jazzy")) == "osmesa"


def test_as_root_gl_is_installed(workspace, monkeypatch, tmp_path):
    (tmp_path / ".venv").mkdir()
    ran: list[list[str]] = []
    monkeypatch.setattr(workspace, "renders", lambda python, backend: backend == "egl" and bool(ran))
    monkeypatch.setattr(workspace.os, "geteuid", lambda: 0)
    monkeypatch.setattr(workspace.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(workspace.subprocess, "run", lambda command, **options: ran.append(command))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert workspace.pick_gl(workspace.Tree(tmp_path, "jazzy")) == "egl"
    assert [command[-1] for command in ran if "install" in command] == [
        "libegl1",
        "libgl1-mesa-dri",
        "libopengl0",
        "libosmesa6",
    ]


def test_the_gl_of_this_machine_really_draws(workspace):
    python = Path(sys.executable)
    assert any(workspace.renders(python, backend) for backend in workspace.GL_PACKAGES)
    assert not workspace.renders(python, "nonsense")


def test_only_changed_packages_are_built(build, monkeypatch, tmp_path):
    built: list[list[str]] = []

    def colcon(tree, names):
        built.append(names)
        for name in names:
            (tree.install / name).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(build, "_colcon", colcon)
    monkeypatch.setattr(build, "LACKING", {})
    for name in ("one", "two"):
        folder = tmp_path / "src" / name
        (folder / "test").mkdir(parents=True)
        (folder / "package.xml").write_text(f"<package><name>{name}</name></package>")
    assert build.build(build.Tree(tmp_path, "jazzy"), "tools") == ["one", "two"]
    assert build.build(build.Tree(tmp_path, "jazzy"), "tools") == []
    (tmp_path / "src" / "two" / "code.py").write_text("x = 1\n")
    (tmp_path / "src" / "one" / "test" / "test_one.py").write_text("tests are not installed\n")
    assert build.build(build.Tree(tmp_path, "jazzy"), "tools") == ["two"]
    shutil.rmtree(tmp_path / "src" / "one")
    assert build.build(build.Tree(tmp_path, "jazzy"), "tools") == []
    assert not (tmp_path / "install" / "one").exists()
    assert build.build(build.Tree(tmp_path, "jazzy"), "other tools") == ["two"]


def test_what_the_wheels_lack_is_generated_where_colcon_does_not_look(build, tmp_path):
    """A tf2_msgs under src/ would stand in the way of the true one where ROS is installed."""
    tree = build.Tree(tmp_path, "jazzy")
    found = build.packages(tree.root, build.generate(tree))
    assert found == {"tf2_msgs": tree.build / "generated" / "tf2_msgs"}
    times = {file: file.stat().st_mtime_ns for file in tree.generated.rglob("*") if file.is_file()}
    build.generate(tree)
    assert len(times) == 3 and all(file.stat().st_mtime_ns == time for file, time in times.items())
    assert "tf2_msgs" not in build.packages(ROOT)
    assert (ROOT / "build" / "COLCON_IGNORE").is_file()


def test_a_failed_build_is_tried_again(build, monkeypatch, tmp_path):
    folder = tmp_path / "src" / "one"
    folder.mkdir(parents=True)
    (folder / "package.xml").write_text("<package><name>one</name></package>")

    def fails(tree, names):
        raise build.BuildError("no")

    monkeypatch.setattr(build, "_colcon", fails)
    for _ in range(2):
        with pytest.raises(build.BuildError):
            build.build(build.Tree(tmp_path, "jazzy"), "tools")


def pins_of(distribution: str) -> dict[str, str]:
    """The version of each package that constraints-DISTRIBUTION.txt pins."""
    lines = (ROOT / f"constraints-{distribution}.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(line.count("==") == 1 and "/" not in line and "@" not in line for line in pins)
    return dict(line.split("==") for line in pins)


@pytest.mark.parametrize("distribution", ["jazzy", "kilted"])
def test_every_requirement_is_pinned_and_no_address_is_named(distribution):
    pins, lines = pins_of(distribution), []
    for name in ("requirements.txt", f"requirements-{distribution}.txt"):
        lines += [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert "-r requirements.txt" in lines
    assert not [line for line in lines if not line.startswith("-r ") and line.split("[")[0] not in pins]


def test_the_distributions_differ_in_their_ros_alone():
    jazzy, kilted = pins_of("jazzy"), pins_of("kilted")
    assert not {name for name in jazzy.keys() & kilted.keys() if jazzy[name] != kilted[name] and not name.startswith("ros-")}
    assert (jazzy["ros-rclpy"].split(".")[0], kilted["ros-rclpy"].split(".")[0]) == ("7", "9")


def chosen(command: str, folder: Path, **environment: str) -> str:
    """What a shell or make says in a checkout of this, without a distribution in the environment but for the given ones."""
    bare = {"HOME": str(folder), "PATH": "/usr/bin:/bin", **environment}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def default(checkout) -> str:
    """The distribution of who chooses none."""
    return chosen("source scripts/tree.bash; echo $_reach_grasp_ros", checkout)


@pytest.fixture
def other(default) -> str:
    return {"jazzy": "kilted", "kilted": "jazzy"}[default]


def test_the_command_line_of_make_alone_chooses_the_distribution(checkout, default, other):
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / "scripts" / "setup").write_text('#!/bin/bash\nsource scripts/tree.bash; echo "$_reach_grasp_ros"\n')
    assert chosen("make setup", checkout) == default
    assert chosen(f"make setup ROS_DISTRO={other}", checkout) == other
    assert chosen(f"make setup ROS_DISTRO={default}", checkout, ROS_DISTRO=other) == default
    assert chosen("make setup", checkout, ROS_DISTRO=other) == default, "a ROS that was sourced"
    assert chosen("make setup", checkout, REACH_GRASP_ROS=other) == default


def test_the_tree_of_the_default_has_plain_names_and_another_stands_beside_it(checkout, default, other):
    tree = "source scripts/env.bash; echo ${PATH%%:*} $AMENT_PREFIX_PATH"
    assert chosen(tree, checkout) == f"{checkout}/.venv/bin {checkout}/.venv"
    assert chosen(tree, checkout, REACH_GRASP_ROS=default) == f"{checkout}/.venv/bin {checkout}/.venv"
    both = f"{checkout}/.venv/bin:{checkout}/.venv-{other}/bin:/usr/bin:/bin"
    found = chosen(tree, checkout, REACH_GRASP_ROS=other, PATH=both)
    assert found == f"{checkout}/.venv-{other}/bin {checkout}/.venv-{other}"


def test_a_distribution_without_wheels_is_named_with_those_that_have_some(checkout, tools):
    done = setup(checkout, tools, REACH_GRASP_ROS="humble", REACH_GRASP_PYTHON=sys.executable)
    assert done.returncode == 1
    assert done.stderr == "setup: 'humble' is no ROS distribution that can be installed here; choose jazzy or kilted.\n"


@pytest.mark.parametrize(("before", "anew"), [("jazzy", False), ("kilted", True), (None, True)])
def test_an_environment_of_another_distribution_is_made_anew(workspace, checkout, monkeypatch, before, anew):
    """Set-up did not say which one it was when there was Kilted alone."""
    tree, ran = workspace.Tree(checkout, "jazzy"), []
    for folder in (tree.venv / "bin", tree.build, tree.install):
        folder.mkdir(parents=True)
    tree.python.touch()
    if before:
        (tree.venv / ".ros").write_text(before)
    monkeypatch.setattr(workspace, "check_compiler", lambda: None)
    monkeypatch.setattr(workspace, "check_disk", lambda root, needed_gb: None)
    monkeypatch.setattr(workspace, "_run", lambda command, failure, variables=None: ran.append(command))
    monkeypatch.delenv("UV_TORCH_BACKEND", raising=False)
    assert workspace.install(tree)
    assert not workspace.install(tree), "what is up to date is left alone"
    assert ([sys.executable, "-m", "venv", "--clear", str(tree.venv)] in ran) is anew
    assert (tree.build.exists(), tree.install.exists()) == (not anew, not anew)
    assert (tree.venv / ".ros").read_text() == "jazzy"
    assert f"{checkout}/constraints-jazzy.txt" in ran[-1]


def test_a_pytorch_without_cuda_is_installed_when_asked_for_and_stays_until_another_is(workspace, checkout, monkeypatch):
    tree, ran, needed = workspace.Tree(checkout, "jazzy"), [], []
    monkeypatch.setattr(workspace, "check_compiler", lambda: None)
    monkeypatch.setattr(workspace, "check_disk", lambda root, needed_gb: needed.append(needed_gb))
    monkeypatch.setattr(workspace, "_run", lambda command, failure, variables=None: ran.append((command, variables)))

    def install(asked: str | None) -> tuple[bool, bool, dict[str, str] | None]:
        """Whether anything is done, whether the environment is made anew, and the variables that uv gets."""
        ran.clear()
        monkeypatch.delenv("UV_TORCH_BACKEND", raising=False)
        if asked is not None:
            monkeypatch.setenv("UV_TORCH_BACKEND", asked)
        done = workspace.install(tree)
        if done:
            (tree.venv / "bin").mkdir(exist_ok=True)
            tree.python.touch()
        return done, any("--clear" in command for command, _ in ran), ran[-1][1] if ran else None

    tree.venv.mkdir()
    assert install(None) == (True, True, {})
    assert install("cpu") == (True, True, {"UV_TORCH_BACKEND": "cpu"})
    assert needed == [workspace.DISK_GB, workspace.DISK_WITHOUT_CUDA_GB]
    assert install("cpu") == install(None) == (False, False, None), "it stays"
    assert install("cu128") == (True, True, {"UV_TORCH_BACKEND": "cu128"})


def test_the_page_of_licences_is_that_of_this_environment():
    assert load("licences").page() == (ROOT / "docs" / "licences.md").read_text(), "run: python scripts/licences.py"


def test_the_environment_leaves_another_ros_behind():
    command = (
        f"source {ROOT}/scripts/env.bash; echo $AMENT_PREFIX_PATH; echo ${{PYTHONPATH:-}}; echo $ROS_AUTOMATIC_DISCOVERY_RANGE"
    )
    foreign = {"AMENT_PREFIX_PATH": "/opt/ros/other", "PYTHONPATH": "/opt/ros/other/lib"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROS_")} | foreign
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "/opt/ros/other" not in done.stdout
    assert done.stdout.splitlines()[-1] == "LOCALHOST"


@pytest.mark.skipif(not Path(sys.prefix, "bin", "reach-grasp").is_file(), reason="the command is made by make setup")
def test_the_command_can_be_called_from_a_python_of_the_environment():
    """Such a Python leaves its library path, and the mark that it is set, to what it calls: env.bash takes away both."""
    bare = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin", "REACH_GRASP_ROS": os.environ.get("REACH_GRASP_ROS", "")}
    call = f"import subprocess, sys; sys.exit(subprocess.run(['{sys.prefix}/bin/reach-grasp', 'doctor', '--help']).returncode)"
    done = subprocess.run([f"{sys.prefix}/bin/python", "-c", call], env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    command = f"source {ROOT}/scripts/env.bash; python -c 'import rclpy.node'"
    marked = bare | {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", "LD_LIBRARY_PATH": "/nowhere"}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], env=marked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
