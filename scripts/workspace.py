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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build

DISK_GB = 8.0
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


def stamp_of(root: Path) -> str:
    """What the environment was installed from."""
    total = hashlib.sha256(f"{sys.version_info[:2]} {root}".encode())
    for name in ("requirements.txt", "constraints.txt"):
        total.update((root / name).read_bytes())
    return total.hexdigest()


def pinned(root: Path, name: str) -> str:
    """The line of constraints.txt for one package."""
    for line in (root / "constraints.txt").read_text().splitlines():
        if line.startswith(f"{name}=="):
            return line.strip()
    raise SetupError(f"constraints.txt does not pin {name}; renew it as its first line says.")


def install(root: Path) -> bool:
    """Make .venv hold exactly the pinned packages; False when it did already. Raises SetupError."""
    venv, stamp = root / ".venv", stamp_of(root)
    stamp_file = venv / ".stamp"
    if stamp_file.is_file() and stamp_file.read_text() == stamp:
        return False
    check_compiler()
    check_disk(root)
    print("setup: installing the pinned packages into .venv", flush=True)
    python = venv / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(venv)], "the environment .venv could not be made")
    # A package manager that is there already saves the slow first step.
    uv = shutil.which("uv", path=str(venv / "bin")) or shutil.which("uv")
    if uv is None:
        _run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", pinned(root, "uv")],
            "uv could not be installed",
        )
        uv = str(venv / "bin" / "uv")
    # Without stored bytecode each of a run's processes compiles torch anew wherever PYTHONDONTWRITEBYTECODE is set.
    requirements = ["-r", str(root / "requirements.txt"), "-c", str(root / "constraints.txt")]
    _run(
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *requirements],
        "the pinned packages could not be installed",
    )
    stamp_file.write_text(stamp)
    return True


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONNOUSERSITE": "1"},
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


def pick_gl(root: Path) -> str:
    """The first GL back end that draws, remembered in .venv/.gl; installs Debian's when it may. Raises SetupError."""
    chosen, python = root / ".venv" / ".gl", root / ".venv" / "bin" / "python"
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


def write_command(root: Path) -> None:
    """Put `reach-grasp` into .venv/bin, so that an activated environment is enough."""
    command = root / ".venv" / "bin" / "reach-grasp"
    text = (
        "#!/usr/bin/env bash\n# Made by scripts/setup.\n"
        f'source "{root}/scripts/env.bash"\nexec "{root}/install/reach_grasp/lib/reach_grasp/reach-grasp" "$@"\n'
    )
    if not command.is_file() or command.read_text() != text:
        command.write_text(text)
        command.chmod(0o755)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup", description=__doc__)
    parser.add_argument("--no-build", action="store_true", help="only make the environment")
    options = parser.parse_args(arguments)
    root, begun = Path(__file__).resolve().parent.parent, time.monotonic()
    try:
        changed = install(root)
        pick_gl(root)
        write_command(root)
        if not options.no_build:
            changed = bool(build.build(root, stamp_of(root))) or changed
    except (SetupError, build.BuildError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"setup: {error.strerror or error} ({error.filename or root}); mend that and run the same again.",
            file=sys.stderr,
        )
        return 1
    if changed:
        print(f"setup: ready after {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
