# SPDX-License-Identifier: Apache-2.0
"""Missing observations are noticed while one is due, and only then."""

from types import SimpleNamespace

import pytest

from hilserl_actor.phases import Phase
from hilserl_actor.watch import Watch


def test_time_in_which_no_observation_is_due_is_no_silence():
    watch = Watch(observation_timeout_s=1.0, reward_timeout_s=None, now_s=0.0)
    learning = SimpleNamespace(takes_observations=False, phase=Phase.WAITING)
    assert not any(watch.silent_s(learning, 0.1 * tick) for tick in range(1000)), "the learner makes its first policy"
    ready = SimpleNamespace(takes_observations=True, phase=Phase.AWAITING_READY)
    assert watch.silent_s(ready, 100.5) == 0.0
    assert watch.silent_s(ready, 101.0) == pytest.approx(1.1)
    watch.observed(101.0)
    assert watch.silent_s(ready, 101.9) == 0.0
