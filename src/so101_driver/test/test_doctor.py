# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of emulated arms, cameras that are files, this machine, and a domain with a learner in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import rclpy
import serial
from rclpy.context import Context

from hilserl_interfaces.msg import LearnerStatus
from hilserl_ros import qos
from hilserl_ros.convert import to_stamp
from so101_driver import motors
from so101_driver.bus import Bus
from so101_driver.calibration import calibration_folder, write_calibration
from so101_driver.doctor import arm, cameras, machine, network
from so101_driver.doctor.finding import Finding, Level, examine
from so101_sim.bus.emulator import BusEmulator

Examine = Callable[[], dict[str, Finding]]


@pytest.fixture
def look(emulator: BusEmulator, connect, calibration, tmp_path: Path, monkeypatch) -> Examine:
    """Looks over a follower that is calibrated and well, until the test changes that."""
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    write_calibration(calibration_folder("follower") / "mine.json", calibration)
    bus = connect(emulator)
    motors.store_calibration(bus, calibration)
    bus.echoes = None  # as newly opened
    monkeypatch.setattr(bus, "open", lambda: None)
    port = emulator.device
    return lambda: {finding.check: finding for finding in arm.examine_arm("follower", port, "mine", lambda _: bus)}


def levels(found: dict[str, Finding]) -> dict[str, str]:
    bad = {check: finding.level.value for check, finding in found.items() if finding.level != Level.OK}
    return {check.removeprefix("follower "): level for check, level in bad.items()}


def test_an_arm_that_is_well(look):
    found = look()
    assert levels(found) == {}
    names = ("calibration file", "port", "servos", "models", "firmware", "voltage", "temperature", "status", "calibration")
    assert list(found) == [f"follower {name}" for name in names]
    assert found["follower voltage"].text == "7.4 to 7.4 V"


@pytest.mark.parametrize(
    ("faults", "expected", "words"),
    [
        ({"dead": (4,)}, {"servos": "problem", "calibration": "warning"}, "no answer from servo 4"),
        ({"dead": (1, 2, 3, 4, 5, 6)}, {"servos": "problem"}, "no answer from servo 1, 2, 3, 4, 5, 6"),
        ({"supply_v": 4.2}, {"voltage": "problem"}, "4.2 to 4.2 V; servo 1, 2, 3, 4, 5, 6 outside of 4.5 to 7.9 V"),
        ({"hot": (5,), "hot_c": 57}, {"temperature": "warning"}, "servo 5 is the hottest with 57 °C"),
        ({"hot": (5,), "hot_c": 61}, {"temperature": "problem"}, "servo 5 is the hottest with 61 °C"),
    ],
)
def test_faults_of_servos(look, emulator, faults, expected, words):
    emulator.faults.change(**faults)
    found = look()
    assert levels(found) == expected
    worst = found[f"follower {next(iter(expected))}"]
    assert words in worst.text and worst.cure


@pytest.mark.parametrize(
    ("address", "value", "check", "words"),
    [(1, 9, "firmware", "3: 3.9"), (3, 1, "models", "servo 3 (model"), (9, 17, "calibration", "elbow_flex is calibrated with")],
)
def test_servos_that_do_not_fit(look, emulator, address, value, check, words):
    emulator.servo(3).memory.put(address, value)
    found = look()
    assert levels(found) == {check: "problem"} and words in found[f"follower {check}"].text


def test_an_arm_without_a_file(look):
    (calibration_folder("follower") / "mine.json").unlink()
    found = look()
    assert levels(found) == {"calibration file": "problem", "calibration": "skipped"}
    assert "'reach-grasp calibrate follower --port /dev/" in found["follower calibration file"].cure


@pytest.mark.parametrize(
    ("status", "text", "cure"),
    [
        (32, "reports overload (Status 32)", "let it press less, and cut the arm's supply for a moment"),
        (1, "reports input voltage (Status 1)", "use the supply that belongs to the arm"),
        (4, "reports overheated (Status 4)", "'reach-grasp release --port "),
        (2, "reports position sensor (Status 2)", "replace the servo"),
        (8 + 32, "reports too much current, overload (Status 40)", "take away what blocks it"),
        (128, "reports bit 7 (Status 128)", "replace the servo"),
    ],
)
def test_what_a_servo_reports_of_itself(look, emulator, monkeypatch, status, text, cure):
    servo = emulator.servo(2)
    monkeypatch.setattr(servo, "_protect", lambda *_: setattr(servo, "_status", status))
    found = look()
    assert levels(found) == {"servo 2": "problem"}
    assert found["follower servo 2"].text == f"servo 2 {text}" and cure in found["follower servo 2"].cure


def test_a_fault_that_stands_in_the_error_byte_alone_is_reported(look, emulator, monkeypatch):
    monkeypatch.setattr(emulator.servo(2), "read", lambda *_: b"")
    monkeypatch.setattr(emulator.servo(2), "sense", lambda *_: None)
    emulator.servo(2)._status = 32
    assert levels(look()) == {"servo 2": "problem"}


@pytest.mark.parametrize("dead", [(), (4,)])
def test_an_adapter_that_echoes_is_noted_and_nothing_else_is_wrong(look, emulator, dead):
    emulator.faults.change(echo=1, dead=dead)
    found = look()
    assert found["follower adapter"].text.startswith("this adapter echoes") and found["follower models"].level == Level.OK
    assert levels(found) == ({"servos": "problem", "calibration": "warning"} if dead else {})


@pytest.mark.parametrize("kind", ["follower", "leader"])
def test_an_arm_taken_for_another_is_named_and_no_calibration_is_to_be_written(look, calibration, kind):
    """A port named for the wrong arm: writing the file's values, as the driver's own sentence has it, would do harm."""
    other = calibration | {"elbow_flex": replace(calibration["elbow_flex"], range_min=1000)}
    write_calibration(calibration_folder("follower") / "mine.json", other)
    write_calibration(calibration_folder(kind) / "theirs.json", calibration)
    found = look()["follower calibration"]
    assert found.level == Level.PROBLEM and f"this arm is the {kind} 'theirs'" in found.cure
    assert "write_calibration" not in found.text + found.cure


@pytest.mark.parametrize("model", [777, 1])
def test_what_ill_servos_say_is_no_ground_to_calibrate_on(look, emulator, model):
    emulator.servo(3).memory.put(9, 17)
    emulator.servo(5).memory.put(3, model, 2)
    cure = look()["follower calibration"].cure
    assert "'reach-grasp calibrate follower --port" in cure if model == 777 else cure == "mend the problems above first"


def test_an_arm_that_is_unplugged_meanwhile(look, emulator):
    emulator.unplug()
    assert levels(look())["servos"] == "problem"


def test_ports_that_cannot_be_opened(look, tmp_path, monkeypatch):
    def port() -> Finding:
        return {finding.check: finding for finding in arm.examine_arm("leader", str(tmp_path / "no"), "mine")}["leader port"]

    def denied(*_: object, **__: object) -> None:
        raise serial.SerialException(13, "Permission denied")

    missing = port()
    assert missing.level == Level.PROBLEM and missing.cure == "plug the arm's USB cable in"
    monkeypatch.setattr(serial, "Serial", denied)
    monkeypatch.setattr(arm, "_members", lambda _: [])
    assert port().cure == "run 'sudo usermod -aG dialout $USER', log out and log in again"
    monkeypatch.setattr(arm, "_members", lambda _: ["me"])
    monkeypatch.setattr(arm.getpass, "getuser", lambda: "me")
    assert port().cure == "log out and log in again" and "by now" in port().text


def test_what_was_not_named_was_not_looked_at():
    (found,) = arm.examine_arm("leader", "", "mine")
    assert found.level == Level.SKIPPED and "no --leader-port was named" in found.text
    (found,) = cameras.examine_cameras([])
    assert found.level == Level.SKIPPED and "no --cameras were named" in found.text


@pytest.mark.parametrize(
    ("picture", "count", "level", "words"),
    [
        (lambda i: np.roll(_NOISE, i, axis=1), 30, Level.OK, "64x48"),
        (lambda i: _NOISE, 30, Level.WARNING, "always the same one"),
        (lambda i: np.zeros_like(_NOISE), 30, Level.WARNING, "all of one colour"),
        (lambda i: _NOISE, 3, Level.PROBLEM, "gave 3 pictures"),
    ],
)
def test_cameras(tmp_path, picture, count, level, words):
    file = tmp_path / "camera.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (64, 48))
    for index in range(count):
        writer.write(picture(index))
    writer.release()
    (found,) = cameras.examine_cameras([str(file)])
    assert found.level == level and words in found.text, found


def serve(picture: Callable[[int], np.ndarray]) -> ThreadingHTTPServer:
    """A stream of pictures over HTTP, as the twin of a station and network cameras send it (MJPEG)."""

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(OSError):
                for index in range(200):
                    data = cv2.imencode(".jpg", picture(index))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                    self.wfile.write(head + data + b"\r\n")

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_cameras_that_are_streams(monkeypatch):
    monkeypatch.setattr(cameras, "_LONGEST_S", 60.0)
    server = serve(lambda i: np.roll(_NOISE, i, axis=1))
    address = f"http://127.0.0.1:{server.server_port}/"
    good, also = cameras.examine_cameras([f"{address}wrist", f"{address}front"])
    assert (good.level, also.level) == (Level.OK, Level.OK) and "64x48" in good.text and good.check == f"camera {address}wrist"
    server.shutdown()
    server.server_close()
    (found,) = cameras.examine_cameras([f"{address}wrist"])
    assert found.level == Level.PROBLEM and "gave 0 pictures" in found.text and found.cure.startswith("start its sender")


_NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def test_a_camera_that_is_not_there():
    (found,) = cameras.examine_cameras(["99"])
    assert found.level == Level.PROBLEM and "there is no /dev/video99" in found.text and found.cure


@pytest.mark.parametrize(("free", "level"), [(50e9, Level.OK), (5e9, Level.WARNING), (1e9, Level.PROBLEM)])
def test_disk(monkeypatch, free, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert machine.disk(Path("/runs")).level == level


@pytest.mark.parametrize(("size", "level"), [("212992\n", Level.WARNING), ("8388608\n", Level.OK)])
def test_network_buffers(tmp_path, size, level):
    (tmp_path / "rmem_max").write_text(size)
    assert machine.buffers(tmp_path / "rmem_max").level == level


@pytest.mark.parametrize(
    ("script", "level", "words"),
    [("echo 'H100, 80 GB, 550'", Level.OK, "H100"), ("echo 'driver mismatch' >&2; exit 9", Level.WARNING, "driver mismatch")],
)
def test_gpu(tmp_path, monkeypatch, script, level, words):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = examine("GPU", machine.gpu)
    assert found.level == level and words in found.text


def test_priority_is_tried_and_given_back(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda _, policy, parameters: asked.append(policy))
    assert examine("priority", machine.priority).level == Level.OK
    assert asked == [os.SCHED_RR, os.sched_getscheduler(0)]


def test_priority_that_is_not_allowed(monkeypatch):
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    found = examine("priority", machine.priority)
    assert found.level == Level.WARNING and "rtprio" in found.cure


def test_a_check_that_fails_itself_is_a_finding(tmp_path):
    found = examine("network buffers", lambda: machine.buffers(tmp_path / "none"))
    assert found.level == Level.PROBLEM and "No such file" in found.text


def test_this_machine_gives_a_finding_each(tmp_path):
    found = {finding.check: finding for finding in machine.examine_machine(tmp_path)}
    assert list(found) == ["disk", "network buffers", "GPU", "real-time priority", "Python", "ROS 2"]
    assert found["Python"].level == Level.OK and "rclpy" in found["ROS 2"].text


@pytest.mark.parametrize(
    ("name", "reach", "peers", "level"),
    [
        ("192.0.2.1", "LOCALHOST", "", Level.PROBLEM),
        ("192.0.2.1", "LOCALHOST", "192.0.2.7;192.0.2.1", Level.OK),
        ("192.0.2.1", "OFF", "192.0.2.1", Level.PROBLEM),
        ("192.0.2.1", "SUBNET", "", Level.OK),
        ("localhost", "LOCALHOST", "", Level.OK),
    ],
)
def test_a_learners_host_must_be_within_reach(monkeypatch, name, reach, peers, level):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", reach)
    monkeypatch.setenv("ROS_STATIC_PEERS", peers)
    assert examine("learner host", lambda: network.host(name)).level == level


@pytest.fixture
def domain() -> int:
    return int(os.environ.get("ROS_DOMAIN_ID", "0"))


@pytest.fixture
def learner(domain: int) -> Iterator[SimpleNamespace]:
    """Speaks twenty times a second by its `clock`, once it has one."""
    context, stop, said = Context(), threading.Event(), SimpleNamespace(clock=None)
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("far_learner", context=context)
    publisher = node.create_publisher(LearnerStatus, "learner/status", qos.STATUS)

    def speak() -> None:
        message = LearnerStatus()
        while not stop.wait(0.05):
            if said.clock is None:
                continue
            message.header.stamp = to_stamp(int(said.clock() * 1e9))
            publisher.publish(message)

    thread = threading.Thread(target=speak)
    thread.start()
    yield said
    stop.set()
    thread.join()
    node.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize(
    ("clock", "level", "words"),
    [
        (lambda: time.time() - 1000.0, Level.WARNING, " ms behind this one"),
        (lambda: time.time() + 1000.0, Level.WARNING, " ms ahead of this one"),
        (lambda: 12.5, Level.SKIPPED, "simulated time"),
    ],
)
def test_a_domain_with_a_learner(domain, learner, monkeypatch, clock, level, words):
    monkeypatch.setattr(network, "_LEARNER_S", 30.0)
    monkeypatch.setattr(network, "_DISCOVERY_S", 0.0)
    learner.clock = clock
    found = {finding.check: finding for finding in network.examine_network(str(domain), "", "")}
    assert found["DDS"].level == Level.OK and f"domain {domain}: found in" in found["DDS"].text
    assert found["learner clock"].level == level and words in found["learner clock"].text
    assert "/far_learner" in found["nodes"].text and "doctor" not in found["nodes"].text


@pytest.mark.parametrize(("host", "level"), [(None, Level.SKIPPED), ("", Level.PROBLEM)])
def test_a_domain_without_a_learner(domain, monkeypatch, host, level):
    monkeypatch.setattr(network, "_LEARNER_S", 0.1)
    monkeypatch.setattr(network, "_DISCOVERY_S", 0.0)
    found = {finding.check: finding for finding in network.examine_network(str(domain), "nowhere", host)}
    assert found["learner clock"].level == level and "no learner in this domain" in found["learner clock"].text


@pytest.mark.parametrize("number", ["one", "100000"])
def test_a_domain_that_cannot_be(number):
    (found,) = network.examine_network(number, "", None)
    assert found.level == Level.PROBLEM and found.check == "DDS"


def test_a_bus_that_is_opened_by_the_doctor_is_closed_again(emulator, look, monkeypatch):
    closed: list[str] = []
    monkeypatch.setattr(Bus, "close", lambda bus: closed.append(bus.port_name))
    look()
    assert closed == [emulator.device]
