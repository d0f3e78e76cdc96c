# SPDX-License-Identifier: Apache-2.0
"""What the network saw and said, as one picture for a person."""

from __future__ import annotations

import cv2
import numpy as np

from reward_classifier_node.judging import Verdict

_SIDE, _BAR = 256, 24  # pixels
_SUCCESS, _NONE, _TEXT = (40, 160, 60), (70, 70, 70), (255, 255, 255)


def picture(verdict: Verdict) -> np.ndarray:
    """The cameras' images side by side above a bar with the verdict: (280, 256 * cameras, 3) uint8 RGB."""
    views = [cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST) for image in verdict.images]
    colour = _SUCCESS if verdict.success else _NONE
    bar = np.full((_BAR, _SIDE * len(views), 3), colour, np.uint8)
    text = f"{'success' if verdict.success else 'no success'}  {verdict.probability:.3f}"
    cv2.putText(bar, text, (8, _BAR - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _TEXT, 1, cv2.LINE_AA)
    return np.vstack([np.hstack(views), bar])
