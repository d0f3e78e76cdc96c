# SPDX-License-Identifier: Apache-2.0
"""The emulated bus byte for byte: against Feetech's manual and against what Feetech's SDK sends and understands."""

from __future__ import annotations

import os
import select
import tty
from collections.abc import Callable, Iterator

import pytest
import scservo_sdk as sdk

from so101_sim.bus.emulator import INSTANT, BusEmulator
from so101_sim.bus.packets import Request, RequestReader, status_packet


class PatientHandler(sdk.PortHandler):
    """The SDK's own port, which does not mind a busy machine."""

    def setPacketTimeout(self, packet_length):
        self.setPacketTimeoutMillis(30_000)


@pytest.fixture
def emulator() -> Iterator[BusEmulator]:
    with BusEmulator(line=INSTANT) as found:
        yield found


@pytest.fixture
def port(emulator: BusEmulator) -> Iterator[sdk.PortHandler]:
    found = PatientHandler(emulator.device)
    assert found.openPort()
    yield found
    found.closePort()


PACKETS = sdk.PacketHandler(0)


def sent(what: Callable[[sdk.PortHandler], object]) -> bytes:
    """What the SDK writes to a device on which nobody answers."""
    master, slave = os.openpty()
    tty.setraw(slave)
    port = sdk.PortHandler(os.ttyname(slave))
    assert port.openPort()
    port.setPacketTimeout = lambda length: port.setPacketTimeoutMillis(0)
    what(port)
    assert select.select([master], [], [], 10)[0]
    data = os.read(master, 1000)
    port.closePort()
    os.close(master), os.close(slave)
    return data


def _sync_read(port: sdk.PortHandler) -> None:
    group = sdk.GroupSyncRead(port, PACKETS, 56, 4)
    for servo in range(1, 7):
        group.addParam(servo)
    group.txPacket()


def _sync_write(port: sdk.PortHandler) -> None:
    group = sdk.GroupSyncWrite(port, PACKETS, 42, 2)
    for servo in range(1, 7):
        group.addParam(servo, [servo, 8])
    group.txPacket()


# What the SDK is asked, the packet it sends, and how the emulator reads that.
SENT = {
    "ping": (lambda port: PACKETS.ping(port, 1), "ffff010201fb", Request(1, 1, b"")),
    "read": (lambda port: PACKETS.readTx(port, 1, 56, 2), "ffff0104023802be", Request(1, 2, bytes((56, 2)))),
    "write": (
        lambda port: PACKETS.write2ByteTxOnly(port, 1, 42, 2048),
        "ffff0105032a0008c4",
        Request(1, 3, bytes((42, 0, 8))),
    ),
    "reg_write": (
        lambda port: PACKETS.regWriteTxOnly(port, 2, 42, 2, [0, 8]),
        "ffff0205042a0008c2",
        Request(2, 4, bytes((42, 0, 8))),
    ),
    "action": (lambda port: PACKETS.action(port, 254), "fffffe0205fa", Request(254, 5, b"")),
    "sync_read": (_sync_read, "fffffe0a82380401020304050624", Request(254, 0x82, bytes((56, 4, 1, 2, 3, 4, 5, 6)))),
    "sync_write": (
        _sync_write,
        "fffffe16832a02010108020208030308040408050508060608e2",
        Request(254, 0x83, bytes((42, 2, *(byte for servo in range(1, 7) for byte in (servo, servo, 8))))),
    ),
}


@pytest.mark.parametrize("name", SENT)
def test_what_the_sdk_sends_is_what_the_manual_says_and_what_the_emulator_reads(name):
    what, expected, request = SENT[name]
    data = sent(what)
    assert data.hex() == expected
    assert RequestReader().feed(data) == [request]
    assert RequestReader().feed(b"\xff\x00\xff" + data[:3]) == []
    torn = RequestReader()
    assert [found for byte in data for found in torn.feed(bytes((byte,)))] == [request]


def test_a_packet_with_a_wrong_checksum_is_nothing():
    reader = RequestReader()
    assert reader.feed(bytes.fromhex("ffff010201fa")) == [] and reader.bad == 1
    assert reader.feed(bytes.fromhex("ffff010201fb")) == [Request(1, 1, b"")]


def test_answers_are_those_of_the_manual():
    assert status_packet(1, 0).hex() == "ffff010200fc"
    assert status_packet(1, 0, bytes((0x18, 0x05))).hex() == "ffff0104001805dd"


def test_the_sdk_pings_reads_and_writes(port):
    assert PACKETS.ping(port, 3) == (777, sdk.COMM_SUCCESS, 0)
    assert PACKETS.write1ByteTxRx(port, 3, 41, 100) == (sdk.COMM_SUCCESS, 0)
    assert PACKETS.read1ByteTxRx(port, 3, 41) == (100, sdk.COMM_SUCCESS, 0)
    assert PACKETS.read2ByteTxRx(port, 3, 56) == (2047, sdk.COMM_SUCCESS, 0)


def test_the_sdk_reads_and_writes_many_at_once(port):
    _sync_write(port)
    group = sdk.GroupSyncRead(port, PACKETS, 42, 2)
    for servo in range(1, 7):
        group.addParam(servo)
    assert group.txRxPacket() == sdk.COMM_SUCCESS
    assert [group.getData(servo, 42, 2) for servo in range(1, 7)] == [2048 + servo for servo in range(1, 7)]


def test_a_registered_write_waits_for_the_action(port):
    assert PACKETS.regWriteTxRx(port, 2, 41, 1, [7]) == (sdk.COMM_SUCCESS, 0)
    assert PACKETS.read1ByteTxRx(port, 2, 41)[0] == 0
    PACKETS.action(port, sdk.BROADCAST_ID)
    assert PACKETS.read1ByteTxRx(port, 2, 41)[0] == 7


def test_everybody_answers_a_broadcast_ping(port, emulator):
    assert PACKETS.txPacket(port, [0, 0, sdk.BROADCAST_ID, 2, sdk.INST_PING, 0]) == sdk.COMM_SUCCESS
    wanted = b"".join(status_packet(servo, 0) for servo in range(1, 7))
    found = b""
    while len(found) < len(wanted):
        assert select.select([port.ser], [], [], 30)[0]
        found += bytes(port.readPort(100))
    assert found == wanted


def test_a_reset_keeps_the_id_and_nothing_else(port, emulator):
    PACKETS.write1ByteTxRx(port, 4, 55, 0)
    PACKETS.write2ByteTxRx(port, 4, 31, 100)
    assert PACKETS.txRxPacket(port, [0, 0, 4, 2, 6, 0])[1] == sdk.COMM_SUCCESS
    assert PACKETS.read2ByteTxRx(port, 4, 31)[0] == 0
    assert PACKETS.ping(port, 4)[0] == 777
