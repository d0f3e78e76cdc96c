# SPDX-License-Identifier: Apache-2.0
"""Builds the images robot and learner without an engine, and trains 20 steps across two containers.

In place of the official base image there is a stand-in: Debian's or Ubuntu's packages and this workspace's Python, without a
ROS 2. So the images get ROS 2 from wheels, and torch from PyPI. Each container has a network, processes and shared memory of
its own, a user that is not root, and a root folder that it cannot write.

scripts/check-images calls it. It needs root and Debian's packages buildah, crun and debootstrap.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from rclpy.serialization import deserialize_message

from hilserl_actor.schedule import CounterFile
from hilserl_core.step_log import StepLog
from hilserl_interfaces.msg import Step

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = "localhost/stand-in"
SIDES = ("learner", "robot")
STEPS = 20
TRAINING = ("--run", "outputs/train", "--config", "small_training.yaml", "--demonstrations", "2", "--seed", "5")
TRAINED_S = 600.0
TERMINATED = 128 + 15  # exit status of a command that SIGTERM ended, as a shell gives it
NEEDED_GB = {"overlay": 30, "vfs": 60}
CERTIFICATES, TRUSTED = "/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/trusted.crt"
"""Whom this computer trusts, and where the stand-in has that: the first is made anew when apt installs certificates."""
ENVIRONMENT = {"HOME": os.environ.get("HOME", "/root"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
"""Without the workspace's libraries, which are not for the system's programs."""
LIBRARIES = "ca-certificates,libbz2-1.0,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,zlib1g"
"""Packages whose libraries a Python loads, beside those that every system has."""


class CheckError(RuntimeError):
    """What is wrong, in one sentence."""


def run(*words: str | Path, **options: Any) -> str:
    """What a command prints. Raises CheckError, with all it said, when it fails."""
    options = {"env": ENVIRONMENT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    done = subprocess.run([str(word) for word in words], **options)
    if done.returncode:
        raise CheckError(f"{done.stdout or ''}{done.stderr or ''}\n'{' '.join(map(str, words))}' ended with {done.returncode}")
    return (done.stdout or "").strip()


class Store:
    """Images in a folder of their own, apart from those that this computer may have."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.driver = folder, _driver(folder)
        (folder / "tmp").mkdir(exist_ok=True)
        places = {"driver": self.driver, "graphroot": folder / "images", "runroot": folder / "run"}
        lines = [f'{name} = "{place}"\n' for name, place in places.items()]
        (folder / "storage.conf").write_text(f"[storage]\n{''.join(lines)}")
        free = shutil.disk_usage(folder).free / 1e9
        if free < NEEDED_GB[self.driver]:
            raise CheckError(f"{folder} has {free:.0f} GB free and images take {NEEDED_GB[self.driver]}; name another --folder")

    def buildah(self, *words: str | Path, **options: Any) -> str:
        """What buildah prints. Raises CheckError."""
        own = {"CONTAINERS_STORAGE_CONF": str(self._folder / "storage.conf"), "TMPDIR": str(self._folder / "tmp")}
        return run("buildah", *words, env={**ENVIRONMENT, **own}, **options)

    def stand_in(self) -> None:
        """Make an image with apt and Python 3.12, of packages from where this computer has its own, unless it is there."""
        with contextlib.suppress(CheckError):
            self.buildah("inspect", "--type", "image", STAND_IN)
            return
        container = self.buildah("from", "scratch")
        root = Path(self.buildah("mount", container))
        system = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
        run("debootstrap", "--variant=minbase", f"--include={LIBRARIES}", system["VERSION_CODENAME"].strip('"'), root)
        for pattern in ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources", "apt.conf.d/*"):
            for file in Path("/etc/apt").glob(pattern):
                shutil.copy(file, root / "etc/apt" / file.relative_to("/etc/apt"))
        shutil.copy(CERTIFICATES, f"{root}{TRUSTED}")
        prefix = Path(sys.base_prefix)
        if prefix != Path("/usr"):  # else the system's Python is 3.12
            place = root / prefix.relative_to("/")
            left = shutil.ignore_patterns("__pycache__", "site-packages", "test")
            shutil.copytree(prefix, place, symlinks=True, ignore=left)
            for folder in [place, *place.parents]:
                if folder != root and folder.is_relative_to(root):
                    folder.chmod(0o755)
        self.buildah("umount", container)
        python = prefix / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        for name, value in (("PIP_CERT", TRUSTED), ("SSL_CERT_FILE", TRUSTED), ("REACH_GRASP_PYTHON", python)):
            self.buildah("config", "--env", f"{name}={value}", container)
        self.buildah("commit", "--quiet", "--rm", container, STAND_IN)

    def build(self, target: str) -> None:
        """Build a target of the Dockerfile. What is done shows on the terminal."""
        # vfs copies everything for each layer that it keeps.
        layers = f"--layers={'true' if self.driver == 'overlay' else 'false'}"
        arguments = ["--build-arg", f"BASE={STAND_IN}", "--build-arg", "TORCH_INDEX="]
        places = ["--file", ROOT / "docker/Dockerfile", "--tag", f"localhost/reach-grasp-{target}", ROOT]
        how = ["--isolation", "chroot", "--network", "host", "--format", "docker", layers]
        self.buildah("build", *how, "--target", target, *arguments, *places, stdout=None, stderr=None)

    def settings(self, target: str) -> dict[str, Any]:
        """Env, User, Entrypoint, WorkingDir ... of an image."""
        return json.loads(self.buildah("inspect", "--type", "image", f"localhost/reach-grasp-{target}"))["OCIv1"]["config"]

    @contextlib.contextmanager
    def mounted(self, target: str) -> Iterator[Path]:
        """The root folder of a container made from an image."""
        container = self.buildah("from", f"localhost/reach-grasp-{target}")
        try:
            yield Path(self.buildah("mount", container))
        finally:
            self.buildah("umount", container)
            self.buildah("rm", container)


def _driver(folder: Path) -> str:
    """How layers can be kept: overlay where the kernel can lay folders over one another here, else copies."""
    names = ("lower", "upper", "work", "merged")
    lower, upper, work, merged = (folder / "overlay" / name for name in names)
    for place in (lower, upper, work, merged):
        place.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], capture_output=True)
    if done.returncode == 0:
        run("umount", merged)
    shutil.rmtree(folder / "overlay")
    return "vfs" if done.returncode else "overlay"


@contextlib.contextmanager
def unmounted(folder: Path) -> Iterator[None]:
    """Leave nothing mounted in a folder: buildah leaves its layers so."""
    try:
        yield
    finally:
        places = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
        for place in reversed([place for place in places if place.is_relative_to(folder)]):
            subprocess.run(["umount", place], check=False)


@contextlib.contextmanager
def networks() -> Iterator[list[str]]:
    """Two network namespaces, joined by a cable; their names."""
    names = [f"reach-grasp-{os.getpid()}-{side}" for side in SIDES]
    try:
        for name in names:
            run("ip", "netns", "add", name)
        run("ip", "-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, start=1):
            run("ip", "-n", name, "addr", "add", f"10.78.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                run("ip", "-n", name, "link", "set", device, "up")
            run("ip", "-n", name, "route", "add", "default", "dev", "cable")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


class Container:
    """A container of crun, started as docker/compose.yaml says of its service."""

    def __init__(self, target: str, folder: Path, root: Path, settings: dict[str, Any], network: str) -> None:
        """folder: for what it writes. root: of its files. settings: of its image. network: name of its namespace."""
        self.target, self.data, self._folder = target, folder / "data", folder
        self._name = f"{network}-container"
        users = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
        user, group = next((int(line[2]), int(line[3])) for line in users if line[2] == settings["User"])
        if user == 0:
            raise CheckError(f"the image {target} runs as root; give it a USER")
        (self.data / "outputs").mkdir(parents=True)
        shutil.copy(ROOT / "src/reach_grasp/test/small_training.yaml", self.data)
        for place in (self.data, self.data / "outputs"):
            os.chown(place, user, group)
        service = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"][target]
        self._health = service["healthcheck"]["test"][1:]
        words = ["reach-grasp", target, *TRAINING, *(["--steps", str(STEPS)] if target == "robot" else [])]
        self._process = {
            "user": {"uid": user, "gid": group},
            "args": [*settings["Entrypoint"], *words],
            "env": [*settings["Env"], "ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET"],
            "cwd": settings["WorkingDir"],
            "noNewPrivileges": True,
            "capabilities": {},
        }
        spaces = [{"type": name} for name in ("mount", "pid", "ipc", "uts")]
        bundle = {
            "ociVersion": "1.0.0",
            "root": {"path": str(root), "readonly": service["read_only"]},
            "process": self._process,
            "mounts": [*_mounts(service["tmpfs"]), _mount("/data", "bind", str(self.data), "rbind", "rw")],
            "linux": {"namespaces": [*spaces, {"type": "network", "path": f"/run/netns/{network}"}]},
        }
        (folder / "config.json").write_text(json.dumps(bundle))

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self._folder / "log").read_text(errors="replace")

    def __enter__(self) -> Container:
        with (self._folder / "log").open("wb") as log:
            command = [*self._crun("run"), "--bundle", str(self._folder), self._name]
            how = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT, "env": ENVIRONMENT}
            self._running = subprocess.Popen(command, **how)
        return self

    def __exit__(self, *_: object) -> None:
        if self._running.poll() is None:
            subprocess.run([*self._crun("kill"), self._name, "KILL"], env=ENVIRONMENT, check=False)
            self._running.wait(30.0)
        subprocess.run([*self._crun("delete"), "--force", self._name], env=ENVIRONMENT, check=False, capture_output=True)

    def healthy(self) -> bool:
        """Whether its health check in compose.yaml succeeds now."""
        file = self._folder / "health.json"
        file.write_text(json.dumps({**self._process, "args": self._health}))
        command = [*self._crun("exec"), "--process", str(file), self._name]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True).returncode == 0

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._running.poll()

    def stop(self) -> int:
        """Ask it to end as an engine does; its exit status."""
        run(*self._crun("kill"), self._name, "TERM")
        return self._running.wait(30.0)

    def _crun(self, verb: str) -> list[str]:
        # crun wants no control groups here, and yet ends where they are of both versions: it sees an empty folder.
        alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$0" "$@"']
        return [*alone, "crun", "--root", str(self._folder / "state"), "--cgroup-manager", "disabled", verb]


def _mount(place: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": source, "options": list(options)}


def _mounts(temporary: Sequence[str]) -> list[dict[str, Any]]:
    """What an engine mounts into every container, and its temporary folders."""
    shared = [_mount(place, "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "mode=1777") for place in ("/dev/shm", *temporary)]
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        *shared,
    ]


def train(learner: Container, robot: Container) -> str:
    """Train across the two until every step has arrived; what was seen, in one line. Raises CheckError."""
    end_s = time.monotonic() + TRAINED_S
    with learner:
        _until(learner.healthy, learner, end_s)
        with robot:
            _until(robot.healthy, robot, end_s)
            _until(lambda: robot.ended() is not None, learner, end_s)
            if robot.ended() != 0:
                raise CheckError(f"{robot.log}\nthe robot ended with {robot.ended()}")
        if learner.stop() not in (0, TERMINATED):
            raise CheckError(f"{learner.log}\nthe learner ended with {learner.ended()}")
    file = CounterFile(robot.data / "outputs/train/actor_counters")
    made = file.load()
    file.close()
    if made is None or made.training_steps != STEPS:
        raise CheckError(f"{robot.log}\nthe robot did not take {STEPS} steps")
    journal = StepLog(learner.data / "outputs/train/journal").records()
    received = [deserialize_message(payload, Step).sequence for _, payload in journal]
    if received != list(range(1, made.sequence + 1)):
        raise CheckError(f"the robot took {made.sequence} steps, and the learner has {received}")
    checkpoint = learner.data / "outputs/train/checkpoints/last/training_state/trainer.json"
    learned = json.loads(checkpoint.read_text())["training_steps"]
    if not learned:
        raise CheckError(f"{learner.log}\nthe learner took no training step")
    return f"{made.sequence} steps, {STEPS} of them training, arrived once each and in order; learned from {learned} of these"


def _until(condition: Callable[[], object], watched: Container, end_s: float) -> None:
    while not condition():
        if watched.ended() is not None or time.monotonic() > end_s:
            raise CheckError(f"{watched.log}\nthe {watched.target} did not come so far")
        time.sleep(0.2)


def size_gb(folder: Path) -> float:
    """Room that a folder takes on a disk; 0 where there is none."""
    return int(run("du", "--summarize", "--block-size=1", folder).split()[0]) / 1e9 if folder.exists() else 0.0


def check(folder: Path) -> None:
    """Build, look and train; prints what was seen. Raises CheckError."""
    store = Store(folder)
    print(f"check-images: a stand-in for the base image, with {store.driver}", flush=True)
    store.stand_in()
    for target in SIDES:
        begun = time.monotonic()
        store.build(target)
        print(f"check-images: built {target} in {time.monotonic() - begun:.0f} s", flush=True)
    with contextlib.ExitStack() as stack:
        names, containers = stack.enter_context(networks()), {}
        for target, network in zip(SIDES, names, strict=True):
            root = stack.enter_context(store.mounted(target))
            place = root / "opt/reach-grasp"
            if foreign := {"outputs", "docs", ".git"} & {file.name for file in place.iterdir()}:
                raise CheckError(f"the image {target} holds {', '.join(sorted(foreign))}; add them to .dockerignore")
            packages = place / ".venv/lib/python3.12/site-packages"
            cuda = sum(size_gb(packages / name) for name in ("nvidia", "triton"))
            print(f"check-images: {target} has {size_gb(root):.2f} GB, {cuda:.2f} of them CUDA and Triton", flush=True)
            shutil.rmtree(folder / target, ignore_errors=True)
            (folder / target).mkdir()
            containers[target] = Container(target, folder / target, root, store.settings(target), network)
        print(f"check-images: {train(**containers)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check-images", description=__doc__)
    parser.add_argument("--folder", type=Path, help="Folder for the images, which are kept. Default: a temporary one.")
    options = parser.parse_args()
    try:
        if os.geteuid():
            raise CheckError("only root may make images here; call it with sudo")
        tools = ("buildah", "crun", "debootstrap")
        if missing := [name for name in tools if not shutil.which(name, path=ENVIRONMENT["PATH"])]:
            raise CheckError(f"{', '.join(missing)} is not installed; install with 'apt install {' '.join(missing)}'")
        with contextlib.ExitStack() as stack:
            folder = options.folder and options.folder.absolute()
            if folder is None:
                made = tempfile.TemporaryDirectory(prefix="reach-grasp-images-", dir="/var/tmp")  # /tmp may be in memory
                folder = Path(stack.enter_context(made))
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(unmounted(folder))
            check(folder)
    except CheckError as error:
        print(f"check-images: {error}", file=sys.stderr)
        return 1
    print("check-images: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
