# SPDX-License-Identifier: Apache-2.0
"""The steps of scripts/setup after Python was found: environment, GL back end, build. Standard library only."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build
from build import Tree

DISK_GB, DISK_WITHOUT_CUDA_GB = 8.0, 4.5
TORCH_BACKEND = "UV_TORCH_BACKEND"  # uv's own: the PyTorch to install, cpu for one without CUDA's libraries
GL_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri libopengl0", "osmesa": "libosmesa6"}
# Renders one frame as the simulator will and fails where no context can be made.
GL_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 1"/><geom size=".1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    raise SystemExit(0 if renderer.render().max() > 0 else 1)
"""


class SetupError(RuntimeError):
    """Something the machine lacks, with the cure in one sentence."""


def check_compiler() -> None:
    """Raise SetupError unless C and C++ programs and make can be found and Python's headers are there."""
    missing = []
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        missing.append("a C compiler")
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        missing.append("a C++ compiler")
    if not shutil.which("make"):
        missing.append("make")
    if missing:
        raise SetupError(f"{', '.join(missing)} is missing on PATH; install with 'apt install build-essential'.")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise SetupError(f"the C headers of {sys.executable} are missing; install them with 'apt install python3.12-dev'.")


def check_disk(root: Path, needed_gb: float = DISK_GB) -> None:
    """Raise SetupError when the disk of the checkout has less than `needed_gb` free."""
    free = shutil.disk_usage(root).free / 1e9
    if free < needed_gb:
        raise SetupError(
            f"{root} has {free:.1f} GB free and the environment takes up to {needed_gb:g} GB; "
            "free some space or clone to another disk."
        )


def torch_backend(tree: Tree) -> str:
    """The PyTorch that is asked for, or else the one that was; empty for the package index's own."""
    remembered = tree.venv / ".torch"
    return os.environ.get(TORCH_BACKEND) or (remembered.read_text() if remembered.is_file() else "")


def stamp_of(tree: Tree) -> str:
    """What the environment was installed from."""
    total = hashlib.sha256(f"{sys.version_info[:2]} {tree.root} {tree.ros} {torch_backend(tree)}".encode())
    for name in ("requirements", f"requirements-{tree.ros}", f"constraints-{tree.ros}"):
        total.update((tree.root / f"{name}.txt").read_bytes())
    return total.hexdigest()


def pinned(tree: Tree, name: str) -> str:
    """The line of the tree's constraints for one package."""
    constraints = f"constraints-{tree.ros}.txt"
    for line in (tree.root / constraints).read_text().splitlines():
        if line.startswith(f"{name}=="):
            return line.strip()
    raise SetupError(f"{constraints} does not pin {name}; renew it as its first line says.")


def check_ros(tree: Tree) -> None:
    """Raise SetupError unless there are pinned packages of the tree's ROS distribution."""
    known = sorted(file.stem.removeprefix("constraints-") for file in tree.root.glob("constraints-*.txt"))
    if tree.ros not in known:
        raise SetupError(f"{tree.ros!r} is no ROS distribution that can be installed here; choose {' or '.join(known)}.")


def install(tree: Tree) -> bool:
    """Make the environment hold exactly the pinned packages; False when it did already. Raises SetupError."""
    venv, stamp = tree.venv, stamp_of(tree)
    stamp_file = venv / ".stamp"
    if stamp_file.is_file() and stamp_file.read_text() == stamp:
        return False
    check_compiler()
    backend = torch_backend(tree)
    check_disk(tree.root, DISK_WITHOUT_CUDA_GB if backend == "cpu" else DISK_GB)
    print(f"setup: installing the pinned packages into {venv.name}", flush=True)
    ros_file, torch_file = venv / ".ros", venv / ".torch"
    # The default may have changed. The wheels of two distributions have one name and other files: none may be left behind.
    other = venv.exists() and (ros_file.read_text() if ros_file.is_file() else "kilted") != tree.ros
    if other:
        shutil.rmtree(tree.build, ignore_errors=True)
        shutil.rmtree(tree.install, ignore_errors=True)
    # Another PyTorch has other libraries beside it, of which nothing would remove the old ones.
    another = venv.exists() and (torch_file.read_text() if torch_file.is_file() else "") != backend
    if other or another or not tree.python.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(venv)], f"the environment {venv.name} could not be made")
    ros_file.write_text(tree.ros)
    torch_file.write_text(backend)
    # A package manager that is there already saves the slow first step.
    uv = shutil.which("uv", path=str(venv / "bin")) or shutil.which("uv")
    if uv is None:
        _run(
            [str(tree.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", pinned(tree, "uv")],
            "uv could not be installed",
        )
        uv = str(venv / "bin" / "uv")
    # Without stored bytecode each of a run's processes compiles torch anew wherever PYTHONDONTWRITEBYTECODE is set.
    requirements = ["-r", str(tree.root / f"requirements-{tree.ros}.txt"), "-c", str(tree.root / f"constraints-{tree.ros}.txt")]
    _run(
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(tree.python), *requirements],
        "the pinned packages could not be installed",
        {TORCH_BACKEND: backend} if backend else {},
    )
    stamp_file.write_text(stamp)
    return True


def _run(command: list[str], failure: str, variables: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONNOUSERSITE": "1", **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SetupError(f"{done.stdout}\n{failure} (above is why); check the network and run the same again.")


def renders(python: Path, backend: str) -> bool:
    """Whether MuJoCo can make a context and draw with this back end."""
    probe = subprocess.run([str(python), "-c", GL_PROBE], env={**os.environ, "MUJOCO_GL": backend}, capture_output=True)
    return probe.returncode == 0


def pick_gl(tree: Tree) -> str:
    """The first GL back end that draws, remembered in the environment; installs Debian's when it may. Raises SetupError."""
    chosen, python = tree.venv / ".gl", tree.python
    if chosen.is_file():
        return chosen.read_text()
    asked = os.environ.get("MUJOCO_GL")
    order = [asked] if asked in GL_PACKAGES else list(GL_PACKAGES)
    found = next((backend for backend in order if renders(python, backend)), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        names = [name for backend in order for name in GL_PACKAGES[backend].split()]
        print(f"setup: no GL back end works; installing {' '.join(names)}", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, **quiet)
        for name in names:
            subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", name], env=environment, **quiet)
        found = next((backend for backend in order if renders(python, backend)), None)
    if found is None:
        raise SetupError(
            "no off-screen GL works, neither EGL nor OSMesa, so no camera can be simulated; install one with "
            f"'apt install {GL_PACKAGES['osmesa']}' or, for a GPU, 'apt install {GL_PACKAGES['egl']}', and run the same again."
        )
    chosen.write_text(found)
    print(f"setup: GL back end is {found}", flush=True)
    return found


def write_command(tree: Tree) -> None:
    """Put `reach-grasp` into the environment's bin, so that an activated environment is enough."""
    command = tree.venv / "bin" / "reach-grasp"
    text = (
        f"#!/usr/bin/env bash\n# Made by scripts/setup.\nREACH_GRASP_ROS={tree.ros}\n"
        f'source "{tree.root}/scripts/env.bash"\nexec "{tree.install}/reach_grasp/lib/reach_grasp/reach-grasp" "$@"\n'
    )
    if not command.is_file() or command.read_text() != text:
        command.write_text(text)
        command.chmod(0o755)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup", description=__doc__)
    parser.add_argument("--no-build", action="store_true", help="only make the environment")
    parser.add_argument("--ros", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--suffix", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    tree, begun = Tree(Path(__file__).resolve().parent.parent, options.ros, options.suffix), time.monotonic()
    try:
        check_ros(tree)
        changed = install(tree)
        pick_gl(tree)
        write_command(tree)
        if not options.no_build:
            changed = bool(build.build(tree, stamp_of(tree))) or changed
    except (SetupError, build.BuildError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"setup: {error.strerror or error} ({error.filename or tree.root}); mend that and run the same again.",
            file=sys.stderr,
        )
        return 1
    if changed:
        print(f"setup: ready after {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
