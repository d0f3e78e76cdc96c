# SPDX-License-Identifier: Apache-2.0
"""What is pressed becomes an action and events, without any device."""

from __future__ import annotations

import numpy as np
import pytest

from so101_driver.controls import Controls
from so101_driver.errors import MappingError
from so101_driver.mapping import MOTIONS, PRESSES, Mapping, Term, terms

NOTHING = dict.fromkeys((*MOTIONS, "hold", *PRESSES, "triggers"), "")


def controls(**fields: object) -> Controls:
    found = Controls(Mapping(**{**NOTHING, **fields}), debounce_s=0.05)
    found.begin({})
    return found


def test_terms_have_a_sign():
    assert terms("KEY_A +KEY_B -ABS_X") == (Term("KEY_A", 1.0), Term("KEY_B", 1.0), Term("ABS_X", -1.0))


def test_an_action_has_signs_a_dead_zone_and_a_scale():
    pad = controls(x="-Y", y="+A -B", gripper="+L -R", dead_zone=0.2, scale=(1.0, 0.5, 1.0, 1.0))
    for value, wanted in ((0.2, 0.0), (-0.2, 0.0), (0.6, -0.5), (-0.6, 0.5), (1.0, -1.0), (-1.0, 1.0)):
        pad.change("Y", value, 0.0)
        assert pad.action[0] == pytest.approx(wanted)
    pad.change("A", 1.0, 0.0)
    assert pad.action[1] == 0.5 and pad.action.dtype == np.float32
    pad.change("B", 1.0, 0.0)  # both directions at once
    pad.change("R", 0.6, 0.0)
    np.testing.assert_allclose(pad.action, [1.0, 0.0, 0.0, -0.5])


def test_several_controls_of_one_motion_do_not_leave_the_action_space():
    pad = controls(x="+A +B")
    pad.change("A", 1.0, 0.0)
    pad.change("B", 1.0, 0.0)
    assert pad.action[0] == 1.0


def test_the_person_drives_while_the_hold_button_is_held():
    pad = controls(x="X", hold="H G")
    pad.change("X", 1.0, 0.0)
    assert not pad.active
    pad.change("G", 1.0, 0.0)
    assert pad.active and pad.action[0] == 1.0
    pad.change("X", 0.0, 0.0)
    assert pad.active, "a hand that holds still drives too"
    pad.change("G", 0.0, 0.0)
    assert not pad.active


def test_without_a_hold_button_whatever_moves_the_arm_is_one():
    keys = controls(x="W -S", success="ENTER")
    keys.change("ENTER", 1.0, 0.0)
    assert not keys.active
    keys.change("S", 1.0, 0.0)
    assert keys.active
    keys.change("S", 0.0, 0.1)
    assert not keys.active


def test_a_press_is_one_event_however_long_it_is_held_and_however_it_bounces():
    pad = controls(success="A", failure="-HAT")
    for now_s in np.arange(0.0, 3.0, 0.03):
        pad.change("A", 1.0, now_s)
    assert pad.take_events() == ["success"] and pad.take_events() == []
    for value, now_s in ((0.0, 3.0), (1.0, 3.01), (0.0, 3.02), (1.0, 3.04), (0.0, 3.06)):
        pad.change("A", value, now_s)
    assert pad.take_events() == [], "a contact that bounces on being let go"
    for value, now_s in ((1.0, 4.0), (0.0, 4.01), (1.0, 4.02), (0.0, 4.5), (1.0, 4.6)):
        pad.change("A", value, now_s)
    assert pad.take_events() == ["success", "success"], "one that bounces when pressed, and a second press"
    for value in (1.0, -0.4, -0.9, -1.0, 0.0):
        pad.change("HAT", value, 5.0)
    assert pad.take_events() == ["failure"]


def test_what_is_pressed_when_the_device_comes_counts_once_it_was_let_go():
    pad = controls(x="X", hold="H", success="A")
    pad.begin({"X": 0.9, "H": 1.0, "A": 1.0})
    for name, value in (("X", 0.8), ("H", 1.0), ("A", 1.0)):
        pad.change(name, value, 0.0)
    assert not pad.active and not pad.action.any() and pad.take_events() == []
    for name in ("X", "H", "A"):
        pad.change(name, 0.0, 0.1)
        pad.change(name, 1.0, 0.2)
    assert pad.active and pad.action[0] == 1.0 and pad.take_events() == ["success"]


def test_a_device_that_is_away_holds_nothing():
    pad = controls(x="X", hold="H")
    pad.change("X", 1.0, 0.0)
    pad.change("H", 1.0, 0.0)
    pad.lost()
    assert not pad.active and not pad.action.any()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dead_zone": 1.0}, "mapping.dead_zone is 1.0, allowed: 0.0 to 0.9"),
        ({"scale": (1.0, 2.0, 1.0, 1.0)}, "mapping.scale is 2.0, allowed: 0.0 to 1.0"),
        ({"scale": (1.0,)}, "mapping.scale has 1 values, expected 4: x, y, z, gripper"),
        ({"success": "BTN_B"}, "mapping.failure and mapping.success both name BTN_B; choose another for one"),
    ],
)
def test_a_mapping_that_cannot_be_is_one_sentence(fields, sentence):
    with pytest.raises(MappingError, match=sentence):
        Mapping(**fields)
