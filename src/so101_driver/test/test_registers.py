# SPDX-License-Identifier: Apache-2.0
"""Names, addresses and signs of registers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from so101_driver.registers import REGISTERS, pick, register, span

SIGNED = [item for item in REGISTERS.values() if item.sign_bit is not None]


@given(st.sampled_from(list(REGISTERS.values())), st.data())
def test_every_value_that_fits_survives_the_wire(item, data):
    value = data.draw(st.integers(item.lowest, item.highest))
    assert item.decode(item.encode(value)) == value
    assert len(item.encode(value)) == item.size


@pytest.mark.parametrize("item", SIGNED, ids=lambda item: item.name)
def test_what_does_not_fit_is_refused_and_not_wrapped(item):
    for value in (item.lowest - 1, item.highest + 1):
        with pytest.raises(ValueError, match=f"{item.name} is {value}, allowed"):
            item.encode(value)


def test_signs_stand_where_the_servo_has_them():
    bits = {"Present_Position": 15, "Present_Velocity": 15, "Goal_Position": 15, "Homing_Offset": 11, "Present_Load": 10}
    for name, bit in bits.items():
        assert register(name).encode(-5) == (5 | 1 << bit).to_bytes(2, "little")
        assert register(name).decode((5 | 1 << bit).to_bytes(2, "little")) == -5


def test_neighbours_are_read_in_one_packet():
    assert span("Present_Position", "Present_Velocity") == (56, 4)
    data = register("Present_Position").encode(1234) + register("Present_Velocity").encode(-77)
    assert [pick(name, data, 56) for name in ("Present_Position", "Present_Velocity")] == [1234, -77]


def test_an_unknown_register_is_named():
    with pytest.raises(KeyError, match="no register Preset_Position"):
        register("Preset_Position")
