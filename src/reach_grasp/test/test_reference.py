# SPDX-License-Identifier: Apache-2.0
"""docs/reference.md says what a running training really has."""

import os
from pathlib import Path

from reach_grasp.reference import page

PAGE = Path(__file__).parents[3] / "docs" / "reference.md"


def test_the_reference_is_what_the_running_nodes_offer_and_declare():
    text = page(domain=int(os.environ.get("ROS_DOMAIN_ID", "0")) + 3)
    assert text == PAGE.read_text(), "run: python -m reach_grasp.reference docs/reference.md"
