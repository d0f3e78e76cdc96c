# SPDX-License-Identifier: Apache-2.0
"""make lint says which dependency a package.xml lacks, and which it names in vain."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace whose packages are the true ones, each with a package.xml of its own."""
    for package in sorted((ROOT / "src").iterdir()):
        copy = tmp_path / "src" / package.name
        copy.mkdir(parents=True)
        for part in package.iterdir():
            if part.name == "package.xml":
                (copy / part.name).write_text(part.read_text())
            else:
                (copy / part.name).symlink_to(part)
    return tmp_path


def check(workspace: Path, package: str = "*") -> tuple[int, list[str]]:
    """Exit status and lines of output of the check of a package in a workspace, or of all."""
    manifests = sorted(workspace.glob(f"src/{package}/package.xml"))
    command = [sys.executable, str(ROOT / "scripts" / "check_manifests.py"), *map(str, manifests)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


# A line of a package's package.xml, and where what needs it stands.
LINES = {
    ("hilserl_core", "<exec_depend>python3-safetensors-pip</exec_depend>"): "hilserl_core/hilserl_core/",
    ("hilserl_learner", "<exec_depend>python3-tensorboard-pip</exec_depend>"): "hilserl_learner/hilserl_learner/curves.py",
    ("dataset_recorder", "<exec_depend>python3-backports-zstd-pip</exec_depend>"): "dataset_recorder/dataset_recorder/",
    ("dataset_recorder", "<test_depend>python3-mcap-pip</test_depend>"): "dataset_recorder/test/",
    ("hilserl_ros", "<test_depend>python3-hypothesis</test_depend>"): "hilserl_ros/test/",
    ("so101_description", "<test_depend>python3-hypothesis</test_depend>"): "pyproject.toml",
    ("reach_grasp", "<exec_depend>launch</exec_depend>"): "launch",
    ("reach_grasp", "<exec_depend>robot_state_publisher</exec_depend>"): "reach_grasp/reach_grasp/builder.py",
    ("reach_grasp", "<exec_depend>hilserl_learner</exec_depend>"): "reach_grasp/reach_grasp/",
    ("hilserl_interfaces", "<depend>sensor_msgs</depend>"): "hilserl_interfaces/CMakeLists.txt",
    ("hilserl_interfaces", "<buildtool_depend>ament_cmake</buildtool_depend>"): "hilserl_interfaces/CMakeLists.txt",
    ("hilserl_interfaces", "<exec_depend>rosidl_default_runtime</exec_depend>"): "hilserl_interfaces/CMakeLists.txt",
}


def test_each_line_that_something_needs_is_missed(workspace):
    for package, line in LINES:
        manifest = workspace / "src" / package / "package.xml"
        text = manifest.read_text()
        assert line in text, f"{package} has no line {line}"
        manifest.write_text(text.replace(line, ""))
    status, output = check(workspace)
    assert status == 1
    for (package, line), place in LINES.items():
        key = line.split(">")[1].split("<")[0]
        (said,) = [said for said in output if f"/{package}/package.xml: lacks <" in said and f">{key}<" in said]
        assert place in said.split("which ")[1]
    assert len(output) == len(LINES), "nothing else is wrong"


def test_what_only_tests_declare_is_no_dependency_of_the_package(workspace):
    manifest = workspace / "src" / "hilserl_ros" / "package.xml"
    line = "<{0}_depend>python3-numpy</{0}_depend>"
    manifest.write_text(manifest.read_text().replace(line.format("exec"), line.format("test")))
    status, output = check(workspace, "hilserl_ros")
    assert status == 1
    (said,) = output
    assert f"{manifest}: lacks <exec_depend>python3-numpy</exec_depend>, which " in said


def test_a_dependency_that_nothing_needs_and_a_key_that_nobody_knows_are_named(workspace):
    manifest = workspace / "src" / "so101_description" / "package.xml"
    more = "<exec_depend>python3-rich</exec_depend><exec_depend>python3-pyarrow</exec_depend>"
    manifest.write_text(manifest.read_text().replace("<test_depend>", more + "<test_depend>", 1))
    status, output = check(workspace, "so101_description")
    assert status == 1
    assert f"{manifest}: names python3-rich, which nothing here needs" in output
    assert any(said.startswith(f"{manifest}: names python3-pyarrow, a key that is not known: add it to ") for said in output)
    assert len(output) == 2


def test_an_import_that_no_key_brings_is_named(workspace):
    tests = workspace / "src" / "so101_description" / "test"
    before = (tests / "test_urdf.py").read_text()
    tests.unlink()
    tests.mkdir()
    (tests / "test_urdf.py").write_text(before + "\n\ndef test_more():\n    import pandas.api\n    import helper\n")
    (tests / "helper.py").write_text("import os.path\n")
    status, output = check(workspace, "so101_description")
    assert status == 1
    (said,) = output
    assert said.startswith(f"{tests}/test_urdf.py: imports pandas.api, and scripts/dependencies.py knows no rosdep key")


def test_a_key_of_ours_brings_pinned_packages():
    """rosdep then installs what requirements.txt does."""
    rules = yaml.safe_load((ROOT / "rosdep" / "reach-grasp.yaml").read_text())
    packages = {key: rule["*"]["pip"]["packages"] for key, rule in rules.items()}
    assert not [key for key, names in packages.items() if key != f"python3-{names[0]}-pip"]
    constraints = sorted(ROOT.glob("constraints*.txt"))
    assert constraints
    for file in constraints:
        pinned = {line.split("==")[0] for line in file.read_text().splitlines()}
        assert not {name for names in packages.values() for name in names} - pinned, file


OPTIONAL = {"wandb"}


def test_what_is_imported_is_required_by_its_own_name(monkeypatch):
    """And not only there because something else needs it, now."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    dependencies = importlib.import_module("dependencies")

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = {plain(line.split("[")[0]) for line in lines if line and not line.startswith("#")}
    packages = sorted((ROOT / "src").iterdir())
    folders = [folder for package in packages for folder in (package / package.name, package / "test")]
    folders += [ROOT / "benchmarks", ROOT / "scripts"]
    imported = {name.split(".")[0] for folder in folders for name in dependencies.imports(folder)}
    others = imported - sys.stdlib_module_names - dependencies.ROS - {package.name for package in packages} - OPTIONAL
    assert {"torch", "yaml", "PIL"} <= others
    brought_by = packages_distributions()
    assert not {name for name in others if not required & set(map(plain, brought_by.get(name, [])))}
