# SPDX-License-Identifier: Apache-2.0
"""Which observation the person answers, whatever arrives first."""

import itertools

from so101_sim.turns import Running, Turns

TICK = 100


def _running(stamp: int, episode: int = 0) -> Running:
    return Running("run", episode, 0, episode, stamp)


def _observe(turns: Turns, stamp: int) -> None:
    for part in turns.parts:
        turns.add(part, stamp, f"{part} at {stamp}")


def test_every_order_of_arrival_gives_the_same_answers() -> None:
    for order in itertools.permutations(["joints", "cube", "status"]):
        turns = Turns(("joints", "cube"), TICK, lockstep=True)
        answers = []
        for what in order:
            if what == "status":
                turns.status(_running(500))
            else:
                turns.add(what, 500, what)
            if (turn := turns.take()) is not None:
                answers.append(turn)
        assert answers == [(500, {"joints": "joints", "cube": "cube"}, _running(500))], order


def test_a_first_observation_waits_for_the_status_of_its_episode() -> None:
    turns = Turns(("joints",), TICK, lockstep=True)
    turns.status(_running(500, episode=0))
    _observe(turns, 600)
    assert turns.take()[2].episode == 0, "the episode goes on"
    _observe(turns, 700)  # of the next episode, faster than any status of it
    assert turns.take() is None
    turns.status(None)
    assert turns.take() is None
    turns.status(_running(700, episode=1))
    assert turns.take()[2].episode == 1


def test_an_observation_is_answered_once() -> None:
    turns = Turns(("joints",), TICK, lockstep=True)
    turns.status(_running(500))
    _observe(turns, 500)
    assert turns.take() is not None
    _observe(turns, 500)
    assert turns.take() is None
    assert turns.answered_ns == 500


def test_by_the_wall_clock_the_newest_observation_is_answered_while_an_episode_runs() -> None:
    turns = Turns(("joints", "cube"), TICK, lockstep=False)
    turns.add("cube", 490, "old cube")
    turns.add("joints", 500, "joints")
    assert turns.take() is None
    turns.status(_running(420))
    stamp, parts, _ = turns.take()
    assert (stamp, parts) == (500, {"joints": "joints", "cube": "old cube"})
    assert turns.take() is None


def test_a_simulation_that_was_started_anew_is_answered() -> None:
    turns = Turns(("joints",), TICK, lockstep=True)
    turns.status(_running(100_000))
    _observe(turns, 100_000)
    assert turns.take() is not None
    _observe(turns, 99_900)  # late, and of no interest any more
    assert turns.take() is None
    turns.status(_running(200))
    _observe(turns, 200)
    assert turns.take()[0] == 200
