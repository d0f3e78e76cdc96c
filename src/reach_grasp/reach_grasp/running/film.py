# SPDX-License-Identifier: Apache-2.0
"""A film of episodes, seen by two cameras side by side, with number and outcome."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np

HEIGHT = 240
BAR = 32
# The outcome is shown this long after each episode, in frames.
PAUSE = 6
_GREEN, _RED, _GREY = (64, 160, 96), (200, 64, 56), (96, 104, 116)


@dataclass
class Take:
    """The frames of one episode: RGB pictures, (H, W, 3) uint8 per camera."""

    frames: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    title: str = ""
    success: bool | None = None


class FilmRecorder:
    """Collects pictures of one camera each until both of an instant are there; `cut` ends an episode."""

    def __init__(self, cameras: tuple[str, ...], episodes: int) -> None:
        self.cameras, self.episodes = cameras, episodes
        self.takes: list[Take] = []
        self._running = Take()
        self._waiting: dict[int, dict[str, np.ndarray]] = {}
        self._newest = -1

    @property
    def full(self) -> bool:
        """Whether enough episodes were taken."""
        return len(self.takes) >= self.episodes

    def add(self, camera: str, stamp_ns: int, image: np.ndarray) -> None:
        """A picture, (H, W, 3) uint8 RGB. Pictures of an instant that was complete already are dropped."""
        if stamp_ns <= self._newest or self.full:
            return
        parts = self._waiting.setdefault(stamp_ns, {})
        parts[camera] = image
        if len(parts) == len(self.cameras):
            self._running.frames.append(tuple(parts[name] for name in self.cameras))
            self._newest = stamp_ns
            self._waiting = {stamp: rest for stamp, rest in self._waiting.items() if stamp > stamp_ns}

    def cut(self, title: str, success: bool | None) -> None:
        """The running episode has ended. success: None where nobody judged it."""
        if self.full:
            return
        take, self._running = self._running, Take()
        take.title, take.success = title, success
        if take.frames:
            self.takes.append(take)

    def encode(self, path: Path, fps: float) -> bool:
        """Write an H.264 film, False when nothing was taken."""
        if not self.takes:
            return False
        path.write_bytes(encode([picture for take in self.takes for picture in pictures(take)], fps))
        return True


def pictures(take: Take) -> list[np.ndarray]:
    """The episode as it is shown, (H, W, 3) uint8 each: its frames, then its outcome."""
    shown = [compose(frame, take.title, f"{i / 10:.1f} s", _GREY) for i, frame in enumerate(take.frames)]
    word, colour = {True: ("grasped", _GREEN), False: ("missed", _RED), None: ("unjudged", _GREY)}[take.success]
    return shown + [compose(take.frames[-1], take.title, word, colour)] * PAUSE


def compose(frame: tuple[np.ndarray, ...], title: str, note: str, colour: tuple[int, int, int]) -> np.ndarray:
    """The cameras side by side at one height over a bar with title and note."""
    scaled = []
    for image in frame:
        width = round(image.shape[1] * HEIGHT / image.shape[0]) // 2 * 2
        scaled.append(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_CUBIC))
    top = np.concatenate(scaled, axis=1)
    bar = np.full((BAR, top.shape[1], 3), colour, np.uint8)
    style = (cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1, cv2.LINE_AA)
    cv2.putText(bar, title, (10, 21), *style)
    width = cv2.getTextSize(note, style[0], style[1], style[3])[0][0]
    cv2.putText(bar, note, (top.shape[1] - width - 10, 21), *style)
    return np.concatenate([top, bar], axis=0)


def encode(frames: list[np.ndarray], fps: float) -> bytes:
    """H.264 in MP4 of frames (H, W, 3) uint8 RGB with even sides."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(fps), options={"crf": "25", "preset": "medium"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
