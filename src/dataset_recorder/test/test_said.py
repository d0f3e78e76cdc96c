# SPDX-License-Identifier: Apache-2.0
"""Labels that a bag itself has for its frames."""

import numpy as np
import pytest

from dataset_recorder.convert.bag import Bag
from dataset_recorder.labels import LabelError
from dataset_recorder.said import labels_in
from dataset_recorder.testing import bags

FRAMES = np.arange(1, 6) * bags.TICK_NS


def reward(tick, probability, success):
    fields = {"probability": probability, "reward": 0.0, "success": success, "artifact": ""}
    return bags.message(bags.REWARD, header=bags.header(tick * bags.TICK_NS), **fields)


def event(tick, kind):
    return bags.message(bags.EVENT, header=bags.header(round(tick * bags.TICK_NS)), kind=kind, source="")


REWARDS = [("/left/reward", bags.REWARD, reward(tick, 0.0, tick == 3)) for tick in (1, 2, 3, 5)]
TRUTH = [("/left/truth", bags.REWARD, reward(tick, float(tick > 3), False)) for tick in (1, 2, 3, 4, 5)]
EVENTS = [("/left/episode/event", bags.EVENT, event(2.5, 0)), ("/left/episode/event", bags.EVENT, event(4.0, 1))]


def write(folder, messages):
    return bags.write_bag(folder, [(topic, kind, 0, message) for topic, kind, message in messages])


@pytest.mark.parametrize(
    ("messages", "source", "expected"),
    [
        ([*EVENTS, *TRUTH, *REWARDS], "reward", [False, False, True, None, False]),
        ([*EVENTS, *TRUTH], "truth", [False, False, False, True, True]),
        (EVENTS, "events", [False, True, True, False, False]),
        ([("/other", bags.EVENT, event(1, 0))], "", [None] * 5),
    ],
)
def test_the_first_source_there_is(tmp_path, messages, source, expected):
    with Bag(write(tmp_path / "bag", messages)) as bag:
        assert labels_in(bag, FRAMES, 10.0) == (source, expected)


def test_a_source_that_is_asked_for_must_be_there(tmp_path):
    with Bag(write(tmp_path / "bag", [*TRUTH, *REWARDS])) as bag:
        assert labels_in(bag, FRAMES, 10.0, "truth")[0] == "truth"
    with (
        Bag(write(tmp_path / "other", REWARDS)) as bag,
        pytest.raises(LabelError, match="has 0 topics truth, expected one; it has /left/reward"),
    ):
        labels_in(bag, FRAMES, 10.0, "truth")
