# SPDX-License-Identifier: Apache-2.0
"""The move to the reset pose."""

import numpy as np

from hilserl_actor.motion import ResetMotion


def test_the_reset_motion_starts_and_ends_at_rest_without_a_jump():
    motion = ResetMotion(np.zeros(6), np.full(6, 1.8), 3.0)
    path = np.array([motion.joints(t) for t in np.arange(0, 3.05, 0.05)])
    assert (path[0] == 0).all() and np.allclose(path[-1], 1.8) and motion.done(3.0) and not motion.done(2.9)
    steps = np.abs(np.diff(path, axis=0)).max(1)
    assert steps.max() < 0.06 and steps[0] < 0.001 and steps[-1] < 0.001
