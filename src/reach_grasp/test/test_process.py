# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes: started again when they die, stopped together, never left behind."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest
import rclpy
from rclpy.context import Context

from reach_grasp.errors import CommandError
from reach_grasp.process import background, last_error, node_command, run
from reach_grasp.systems import NodeSpec

# Writes its process id, then lives until SIGTERM.
STAY = """
with open({file!r}, "a") as file:
    file.write(str(os.getpid()) + "\\n")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""


# A thread with the name of Fast DDS's own, which sleeps as often as it has work, and for ever in the first life.
DDS = """
import ctypes, threading
def events():
    ctypes.CDLL(None).prctl(15, b"dds.ev.0", 0, 0, 0)
    while True:
        time.sleep(1000.0 if {stuck} and first else 0.05)
first = not os.path.exists({file!r})
threading.Thread(target=events, daemon=True).start()
"""


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.is_file() else []


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def start(*specs: str) -> subprocess.Popen[str]:
    """A process that runs the specs as the command does."""
    program = textwrap.dedent(f"""
        import sys
        from reach_grasp import process, systems
        process.RESPAWN_DELAY_S, process.STUCK_S = 0.05, 1.2
        NodeSpec = systems.NodeSpec
        sys.exit(process.run([{", ".join(specs)}]))
    """)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def two_nodes(prefix, tmp_path):
    """Names of files in which a respawning and a plain node write their process ids, and their specs."""
    files = tmp_path / "again", tmp_path / "once"
    prefix.add("fake", "again", STAY.format(file=str(files[0])))
    prefix.add("fake", "once", STAY.format(file=str(files[1])))
    return files, ("NodeSpec('fake', 'again', 'again', respawn=True)", "NodeSpec('fake', 'once', 'once')")


def test_a_killed_node_is_started_again_and_sigterm_stops_everything(two_nodes, wait_for):
    (again, once), specs = two_nodes
    manager = start(*specs)
    try:
        assert wait_for(lambda: pids(again) and pids(once))
        os.kill(pids(again)[0], signal.SIGKILL)
        assert wait_for(lambda: len(pids(again)) == 2)
        assert alive(pids(once)[0])
    finally:
        manager.send_signal(signal.SIGTERM)
        output = manager.communicate(timeout=30)[0]
    assert manager.returncode == 143
    assert "starting again" in output
    assert not any(alive(pid) for pid in pids(again) + pids(once))


def test_a_node_without_respawn_ends_the_system(two_nodes, wait_for):
    (again, once), specs = two_nodes
    manager = start(*specs)
    assert wait_for(lambda: pids(again) and pids(once))
    os.kill(pids(once)[0], signal.SIGKILL)
    manager.communicate(timeout=30)
    assert manager.returncode == 128 + signal.SIGKILL
    assert not any(alive(pid) for pid in pids(again) + pids(once))


def locked_up(prefix, folder: Path) -> tuple[tuple[Path, Path], tuple[str, str]]:
    """Like two_nodes, where the middleware of the respawning one is locked up in its first life."""
    files = folder / "again", folder / "once"
    for file in files:
        stuck = file.name == "again"
        prefix.add("fake", file.name, DDS.format(stuck=stuck, file=str(file)) + STAY.format(file=str(file)))
    return files, ("NodeSpec('fake', 'again', 'again', respawn=True)", "NodeSpec('fake', 'once', 'once')")


def test_a_node_whose_middleware_has_locked_itself_up_is_ended_and_begins_again(prefix, tmp_path, wait_for, monkeypatch):
    """Fast DDS's issue 6502 left an evaluation of 100 episodes without its result: nothing came any more."""
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    (again, once), specs = locked_up(prefix, tmp_path)
    manager = start(*specs)
    try:
        assert wait_for(lambda: len(pids(again)) == 2)
        time.sleep(3.0)  # more than twice as long as a node may be stuck
        assert len(pids(again)) == 2 and alive(pids(again)[1]), "it lives now"
        assert len(pids(once)) == 1 and alive(pids(once)[0])
    finally:
        manager.send_signal(signal.SIGTERM)
        output = manager.communicate(timeout=30)[0]
    (line,) = [line for line in output.splitlines() if "locked itself up" in line]
    assert "again" in line and "[ERROR]" in line


def test_a_middleware_that_the_user_has_set_up_may_sleep(prefix, tmp_path, wait_for, monkeypatch):
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "DEFAULT")
    (again, once), specs = locked_up(prefix, tmp_path)
    manager = start(*specs)
    try:
        assert wait_for(lambda: pids(again) and pids(once))
        time.sleep(3.0)
        assert len(pids(again)) == 1 and alive(pids(again)[0])
    finally:
        manager.send_signal(signal.SIGTERM)
        manager.communicate(timeout=30)


def test_the_system_goes_on_without_an_optional_node(two_nodes, wait_for):
    (again, once), (plain, optional) = two_nodes
    manager = start(plain, optional.replace(")", ", optional=True)"))
    try:
        assert wait_for(lambda: pids(again) and pids(once))
        os.kill(pids(once)[0], signal.SIGKILL)
        assert wait_for(lambda: not alive(pids(once)[0]))
        os.kill(pids(again)[0], signal.SIGKILL)
        assert wait_for(lambda: len(pids(again)) == 2), "the others are still looked after"
        assert manager.poll() is None and len(pids(once)) == 1
    finally:
        manager.send_signal(signal.SIGTERM)
        output = manager.communicate(timeout=30)[0]
    assert manager.returncode == 143
    assert "ended with 137; the others go on" in output
    assert not alive(pids(again)[1])


def test_a_closed_output_ends_the_system_at_the_first_sigterm(two_nodes, wait_for):
    (again, once), specs = two_nodes
    manager = start(*specs)
    assert wait_for(lambda: pids(again) and pids(once))
    manager.stdout.close()
    manager.send_signal(signal.SIGTERM)
    assert manager.wait(timeout=30) == 143
    assert not any(alive(pid) for pid in pids(again) + pids(once))


def test_output_that_nobody_reads_any_more_ends_the_system(two_nodes, prefix, wait_for):
    (again, once), specs = two_nodes
    prefix.add("fake", "talks", "while True:\n    print('here', flush=True)\n    time.sleep(0.05)")
    manager = start(*specs, "NodeSpec('fake', 'talks', 'talks')")
    assert wait_for(lambda: pids(again) and pids(once))
    assert manager.stdout.readline()
    manager.stdout.close()
    assert manager.wait(timeout=30) != 0
    assert not any(alive(pid) for pid in pids(again) + pids(once))


def test_no_node_outlives_a_killed_manager(two_nodes, wait_for):
    (again, once), specs = two_nodes
    manager = start(*specs)
    assert wait_for(lambda: pids(again) and pids(once))
    manager.kill()
    manager.wait()
    assert wait_for(lambda: not any(alive(pid) for pid in pids(again) + pids(once)))
    manager.stdout.close()


def test_a_node_that_refuses_its_parameters_is_not_started_again(prefix, tmp_path):
    lives = tmp_path / "lives"
    prefix.add("fake", "refuses", f"open({str(lives)!r}, 'a').write('1\\n')\nsys.exit(2)")
    manager = start("NodeSpec('fake', 'refuses', 'refuses', respawn=True)")
    manager.communicate(timeout=30)
    assert manager.returncode == 2
    assert len(pids(lives)) == 1


def test_a_node_that_always_dies_is_given_up(prefix, tmp_path):
    lives = tmp_path / "lives"
    prefix.add("fake", "dies", f"open({str(lives)!r}, 'a').write('1\\n')\nsys.exit(3)")
    manager = start("NodeSpec('fake', 'dies', 'dies', respawn=True)")
    manager.communicate(timeout=30)
    assert manager.returncode == 3
    assert len(pids(lives)) == 5


def test_node_command_carries_name_namespace_files_values_and_remappings(prefix, tmp_path):
    prefix.add("fake", "node", "")
    spec = NodeSpec(
        "fake", "node", "actor", "left", (Path("/a.yaml"),), {"text": "7", "flag": True}, (("old", "new"),), log_level="warn"
    )
    command = node_command(spec, tmp_path)
    assert command[0].endswith("lib/fake/node")
    for words in (
        ["-r", "__node:=actor"],
        ["-r", "__ns:=/left"],
        ["--params-file", "/a.yaml"],
        ["--params-file", str(tmp_path / "left.actor.yaml")],
        ["-r", "old:=new"],
        ["--log-level", "warn"],
    ):
        assert any(command[i : i + 2] == words for i in range(len(command))), words


@pytest.mark.parametrize("namespace", ["", "left", "/left/"])
@pytest.mark.parametrize("section", ["/**", "/**/actor", "actor", "/left/actor"])
def test_what_the_command_says_counts_above_any_section_of_a_file(prefix, tmp_path, namespace, section):
    prefix.add("fake", "node", "")
    file = tmp_path / "mine.yaml"
    file.write_text(f"{section}:\n  ros__parameters:\n    text: file\n    policy.encoder: file\n    numbers: [1.0]\n")
    values = {"text": "7", "policy.encoder": "/**", "numbers": [2.0, 1e-7], "flag": True, "count": 3, "ratio": 1.0}
    command = node_command(NodeSpec("fake", "node", "actor", namespace, (file,), values), tmp_path)
    context = Context()
    rclpy.init(args=command, context=context)
    try:
        node = rclpy.create_node("node", context=context, automatically_declare_parameters_from_overrides=True)
        assert {name: _plain(node.get_parameter(name).value) for name in values} == values
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def _plain(value):
    return list(value) if isinstance(value, array.array) else value


def test_a_missing_executable_is_one_sentence(prefix, tmp_path):
    prefix.add("fake", "node", "")
    with pytest.raises(CommandError, match="gone does not exist; build the workspace again"):
        node_command(NodeSpec("fake", "gone", "gone"), tmp_path)


def test_a_folder_that_cannot_be_written_is_one_sentence(prefix, tmp_path):
    prefix.add("fake", "node", "")
    with pytest.raises(CommandError, match=r"gone/actor.yaml cannot be written: no such file or directory"):
        node_command(NodeSpec("fake", "node", "actor", parameters={"flag": True}), tmp_path / "gone")


def test_without_room_for_a_temporary_folder_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(CommandError, match="no temporary folder: no such file or directory; free some disk, or set TMPDIR"):
        run([])


def test_background_writes_the_log_and_its_error_is_found(tmp_path):
    log = tmp_path / "log"
    with background("sim", {"config": "/nowhere.yaml"}, log, {}) as process:
        assert process.wait(30) == 2
    assert last_error(log) == "the parameter file /nowhere.yaml does not exist"


def test_last_error_finds_what_a_node_logged(tmp_path):
    log = tmp_path / "log"
    log.write_text("actor | [FATAL] [1.2] [actor]: parameter seed is 'x', allowed is a whole number\nsystem | stopped\n")
    assert last_error(log) == "parameter seed is 'x', allowed is a whole number"
