# SPDX-License-Identifier: Apache-2.0
"""What belongs to one instant, and nothing from another."""

from hilserl_core.synchroniser import Synchroniser


def test_lockstep_takes_exact_stamps_only_and_never_twice():
    sync = Synchroniser(["joints", "wrist"])
    sync.add("joints", 10, "j10")
    sync.add("wrist", 9, "w9")
    assert sync.newest() is None and sync.lacking() == ["wrist"]
    sync.add("wrist", 10, "w10")
    assert sync.newest() == (10, {"joints": "j10", "wrist": "w10"})
    sync.use(10)
    sync.add("joints", 10, "again")
    sync.add("wrist", 10, "again")
    assert sync.newest() is None


def test_real_time_takes_the_newest_set_within_the_tolerance():
    sync = Synchroniser(["joints", "wrist"], tolerance_ns=5)
    for stamp in (10, 20, 30):
        sync.add("joints", stamp, stamp)
    sync.add("wrist", 12, "w12")
    sync.add("wrist", 22, "w22")
    assert sync.newest() == (20, {"joints": 20, "wrist": "w22"})
    assert sync.lacking() == ["wrist"]


def test_a_silent_camera_does_not_let_the_others_pile_up():
    sync = Synchroniser(["joints", "wrist"], keep=4)
    for stamp in range(100):
        sync.add("joints", stamp, stamp)
    sync.add("wrist", 50, "old")
    assert sync.newest() is None


def test_stamps_of_years_ahead_do_not_keep_the_present_out():
    sync = Synchroniser(["wrist", "joints"], tolerance_ns=5, keep=4)
    for number in range(4):
        sync.add("joints", 10**18 + number, "future")
    for stamp in (10, 20, 30, 40):
        sync.add("joints", stamp, stamp)
        sync.add("wrist", stamp, stamp)
    assert sync.newest() == (40, {"wrist": 40, "joints": 40})


def test_after_a_clock_was_set_older_stamps_count_again():
    sync = Synchroniser(["joints"])
    sync.add("joints", 100, "before")
    sync.use(100)
    sync.add("joints", 50, "after")
    assert sync.newest() is None
    sync.begin_anew()
    sync.add("joints", 50, "after")
    assert sync.newest() == (50, {"joints": "after"})


def test_an_optional_part_may_be_lacking_and_is_there_when_it_has_come():
    sync = Synchroniser(["wrist", "reward", "teleop/leader"])
    sync.add("wrist", 10, "w")
    sync.add("reward", 10, "r")
    assert sync.newest() is None
    assert sync.newest(["reward", "teleop/leader"]) == (10, {"wrist": "w", "reward": "r"})
