# SPDX-License-Identifier: Apache-2.0
import pytest

from hilserl_actor.metronome import Metronome


class _Timer:
    """As rclpy's, driven by hand; `now` is shared."""

    def __init__(self, clock, period_s, callback):
        self.clock, self.timer_period_ns, self.callback, self.next_ns = clock, round(1e9 * period_s), callback, None
        self.reset()

    def cancel(self):
        self.next_ns = None

    def reset(self):
        self.next_ns = self.clock["now"] + self.timer_period_ns

    def time_until_next_call(self):
        return self.next_ns - self.clock["now"]


class _Node:
    def __init__(self):
        self.clock, self.timers = {"now": 0}, []

    def create_timer(self, period_s, callback, clock):
        self.timers.append(_Timer(self.clock, period_s, callback))
        return self.timers[-1]

    def run_until(self, end_ns):
        while (due := [timer for timer in self.timers if timer.next_ns is not None and timer.next_ns <= end_ns]) and due:
            timer = min(due, key=lambda timer: timer.next_ns)
            self.clock["now"] = max(self.clock["now"], timer.next_ns)
            timer.next_ns += timer.timer_period_ns
            timer.callback()
        self.clock["now"] = end_ns


MS = 1_000_000


def _metronome(work_ms):
    """Ticks of 100 ms, commands 20 ms later; the n-th tick takes work_ms[n]."""
    node, sent, ticks = _Node(), [], []

    def tick():
        ticks.append(node.clock["now"])
        node.clock["now"] += work_ms[len(ticks) - 1] * MS
        metronome.later(lambda: sent.append(node.clock["now"]))

    metronome = Metronome(node, 0.1, 0.02, tick)
    return node, metronome, sent


def test_commands_keep_their_distance_however_long_choosing_takes():
    node, _, sent = _metronome([1, 19, 7, 3])
    node.run_until(450 * MS)
    assert sent == [120 * MS, 220 * MS, 320 * MS, 420 * MS]


def test_a_command_that_is_late_leaves_at_once_and_the_next_is_on_time():
    node, _, sent = _metronome([1, 35, 1])
    node.run_until(350 * MS)
    assert sent == [120 * MS, 235 * MS, 320 * MS]


def test_an_episode_sets_the_beat():
    node, metronome, sent = _metronome([1] * 9)
    node.run_until(150 * MS)
    metronome.begin()
    metronome.later(lambda: sent.append(node.clock["now"]))
    node.run_until(280 * MS)
    assert sent == [120 * MS, 170 * MS, 270 * MS]


def test_a_delay_of_a_whole_tick_is_refused():
    with pytest.raises(ValueError, match=r"command_delay_s is 0\.1, it must be shorter than a tick, which is 0\.1 s here"):
        Metronome(_Node(), 0.1, 0.1, lambda: None)
