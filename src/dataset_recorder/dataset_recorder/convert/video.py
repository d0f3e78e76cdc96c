# SPDX-License-Identifier: Apache-2.0
"""Encoding of one camera of one episode in a thread, and joining of such files without encoding again."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from dataset_recorder.convert.errors import ConversionError
from dataset_recorder.statistics import PixelStatistics, Statistics, sampled_frames
from dataset_recorder.video import VideoWriter

_WAITING = 8  # frames in the queue of a camera; a full queue makes the reader wait


@dataclass(frozen=True)
class Video:
    """An encoded file. size: height, width [px]. statistics: of the frames sampled."""

    path: Path
    frames: int
    size: tuple[int, int]
    statistics: Statistics


class CameraEncoder:
    """Takes the frames of an episode in their order; `put` waits while the encoder is behind, and no frame is ever dropped."""

    def __init__(self, path: Path, fps: int, length: int) -> None:
        self._path, self._fps = path, fps
        self._sampled = sampled_frames(length)
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(_WAITING)
        self._error: Exception | None = None
        self._video: Video | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, name=f"encode {path.stem}", daemon=True)
        self._thread.start()

    def put(self, image: np.ndarray) -> None:
        """Hand over (height, width, 3) uint8 RGB that will not change any more. Raises what stopped the encoder."""
        self._wait_to_put(image)

    def finish(self) -> Video:
        """Encode what waits and close the file. Raises what stopped the encoder."""
        self._wait_to_put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._video is not None
        return self._video

    def cancel(self) -> None:
        """Stop; the file is left unfinished."""
        self._cancelled = True
        self._thread.join()

    def _wait_to_put(self, item: np.ndarray | None) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                return self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue

    def _next(self) -> np.ndarray | None:
        while not self._cancelled:
            try:
                return self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
        return None

    def _run(self) -> None:
        try:
            self._video = self._encode()
        except (av.FFmpegError, cv2.error, ConversionError, OSError, ValueError, MemoryError) as error:
            self._error = error

    def _encode(self) -> Video:
        image = self._next()
        if image is None:
            raise ConversionError(f"{self._path.stem} has no frames")
        size, statistics = image.shape[:2], PixelStatistics()
        writer = VideoWriter(self._path, self._fps, size[1], size[0])
        try:
            while image is not None:
                writer.write(image)
                if writer.frames - 1 in self._sampled:
                    statistics.add(image)
                image = self._next()
        except BaseException:
            writer.abandon()
            raise
        writer.close()
        return Video(self._path, writer.frames, size, statistics.result())


def join_videos(parts: Sequence[tuple[Path, int]], path: Path, fps: int) -> None:
    """One file of several (file, frames) in their order, packets copied; frame n of the whole is at n / fps seconds.

    Raises ConversionError when a part does not hold as many frames as it should, or was encoded differently.
    """
    before = 0
    with av.open(str(path), "w", options={"movflags": "faststart"}) as output:
        target, first = None, b""
        for part, frames in parts:
            with av.open(str(part)) as container:
                source = container.streams.video[0]
                if target is None:
                    target, first = output.add_stream_from_template(source, opaque=True), source.codec_context.extradata
                    target.time_base = source.time_base
                if source.codec_context.extradata != first or source.time_base != target.time_base:
                    raise ConversionError(f"{part} was encoded unlike the first video of its camera")
                shift, count = round(before / fps / source.time_base), 0
                for packet in container.demux(source):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, target
                    output.mux(packet)
                    count += 1
            if count != frames:
                raise ConversionError(f"{part} holds {count} frames, expected {frames}")
            before += frames
