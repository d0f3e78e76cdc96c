# SPDX-License-Identifier: Apache-2.0
"""One of several teleop sources counts, and two that drive at once are named."""

import itertools

import numpy as np
import pytest

from hilserl_actor.teleop import SOURCES, Choice, NewestCommands, Teleop, choose

IDLE = Teleop(False)


def _drive(value):
    return Teleop(True, np.full(4, value, np.float32))


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(SOURCES, 2)))
def test_of_two_active_sources_the_first_in_the_documented_order_counts_and_both_are_named(first, second):
    commands = dict.fromkeys(reversed(SOURCES), IDLE) | {second: _drive(0.1), first: _drive(0.2)}
    choice = choose(commands)
    assert choice.source == first and choice.teleop.action[0] == np.float32(0.2)
    assert choice.conflict == f"{first} and {second} drive at once: only {first} counts"


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_drives_alone_counts_whatever_the_others_are(source):
    others = dict.fromkeys(SOURCES, IDLE) | {"console": None}
    assert choose(others | {source: _drive(0.5)}).source == source
    assert choose(others) == Choice() == choose({})


def test_a_command_counts_until_it_is_too_old_or_replaced():
    commands = NewestCommands()
    commands.put("leader", _drive(0.1), 10.0)
    commands.put("gamepad", IDLE, 10.2)
    assert choose(commands.at(10.25, 0.3)).source == "leader"
    assert choose(commands.at(10.31, 0.3)).source is None
    commands.put("leader", None, 10.4)  # one that cannot be used
    assert choose(commands.at(10.4, 0.3)).source is None
