# SPDX-License-Identifier: Apache-2.0
"""Stamps of another clock are named, and a clock that was set back is noticed."""

import pytest

from hilserl_core.stamps import TOLERANCE_S, foreign_stamp, set_back_s

NOW_NS = 1_796_000_000_000_000_000
S = 1_000_000_000


@pytest.mark.parametrize("off_s", [0, 9, -9])
def test_a_stamp_of_the_present_is_none_of_another_clock(off_s):
    assert foreign_stamp("wrist", NOW_NS + off_s * S, NOW_NS) == ""
    assert set_back_s(NOW_NS, NOW_NS + off_s * S) == 0.0


@pytest.mark.parametrize(
    ("off_s", "where"), [(3600, "3600 s ahead of"), (-3600, "3600 s behind"), (10**6, "1000000 s ahead of")]
)
def test_a_stamp_of_another_clock_is_named_with_its_difference(off_s, where):
    sentence = foreign_stamp("wrist", NOW_NS + off_s * S, NOW_NS)
    assert sentence.startswith(f"wrist is stamped {where} this computer's clock") and "set the clocks" in sentence


def test_a_clock_set_back_by_more_than_the_tolerance_is_noticed():
    assert set_back_s(NOW_NS - 3600 * S, NOW_NS) == 3600.0
    assert set_back_s(NOW_NS - round(TOLERANCE_S) * S, NOW_NS) == 0.0
