# SPDX-License-Identifier: Apache-2.0
"""Nobody begins before the person is ready, and what the person must do is said in every phase."""

import numpy as np
import pytest

from hilserl_actor.motion import reset_goal
from hilserl_actor.schedule import Counters
from hilserl_core.step import Mode

HOME = np.array([-0.007, -1.8298, 1.6938, 0.7695, 1.5612, 0.0759])


@pytest.mark.parametrize("seed", range(20))
def test_the_reset_pose_varies_by_the_seed_and_never_by_more_than_is_allowed(seed):
    goal = reset_goal(HOME, 0.05, seed)
    assert np.array_equal(goal, reset_goal(HOME, 0.05, seed)) and not np.array_equal(goal, reset_goal(HOME, 0.05, seed + 1))
    assert 0.0 < np.abs(goal - HOME).max() <= 0.05 and goal[-1] == HOME[-1]
    assert np.array_equal(reset_goal(HOME, 0.0, seed), HOME)


def test_an_episode_that_nobody_judged_is_done_and_no_failure_and_one_to_repeat_counts_nowhere():
    counters = Counters("run").after_episode(Mode.EVALUATION, success=True)
    counters = counters.after_episode(Mode.EVALUATION, success=False, judged=False)
    assert (counters.evaluation_episodes, counters.evaluation_successes, counters.evaluation_unjudged) == (2, 1, 1)
    again = counters.after_episode(Mode.EVALUATION, success=False, counts=False)
    assert (again.episode, again.evaluation_episodes) == (3, 2)
