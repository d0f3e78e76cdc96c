# SPDX-License-Identifier: Apache-2.0
"""Frames of two cameras become a film that a browser plays."""

from __future__ import annotations

import io

import av
import numpy as np

from reach_grasp.running.film import PAUSE, FilmRecorder


def image(shade: int, width: int = 64) -> np.ndarray:
    return np.full((48, width, 3), shade, np.uint8)


def test_a_film_shows_both_cameras_and_only_complete_instants(tmp_path):
    recorder = FilmRecorder(("wrist", "front"), episodes=2)
    for stamp in range(1, 6):
        recorder.add("wrist", stamp, image(200))
        if stamp != 3:
            recorder.add("front", stamp, image(20, 96))
            recorder.add("front", stamp, image(20, 96))  # shown once although it came twice
    recorder.cut("Episode 1", True)
    assert [len(take.frames) for take in recorder.takes] == [4]
    recorder.add("wrist", 6, image(200))
    recorder.add("front", 6, image(20, 96))
    assert not recorder.full
    recorder.cut("Episode 2", False)
    assert recorder.full
    recorder.add("wrist", 7, image(200))
    recorder.cut("Episode 3", True)
    assert len(recorder.takes) == 2

    path = tmp_path / "film.mp4"
    assert recorder.encode(path, 10.0)
    with av.open(io.BytesIO(path.read_bytes())) as film:
        stream = film.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
    assert len(frames) == 5 + 2 * PAUSE
    middle = frames[0][100]
    assert middle[100].mean() > 180 and middle[-100].mean() < 40


def test_no_episode_no_film(tmp_path):
    recorder = FilmRecorder(("wrist", "front"), episodes=1)
    recorder.cut("Episode 1", True)
    assert not recorder.encode(tmp_path / "film.mp4", 10.0)
    assert not (tmp_path / "film.mp4").exists()
