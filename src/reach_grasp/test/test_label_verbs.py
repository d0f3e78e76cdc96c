# SPDX-License-Identifier: Apache-2.0
"""label, turn-images, resize-images and check-dataset as a user types them."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_recorder.convert.writer import DatasetSpec, DatasetWriter
from reach_grasp.command import main


@pytest.fixture
def dataset(tmp_path):
    """Two episodes of six frames, the first half of the image dark."""
    writer = DatasetWriter(DatasetSpec(tmp_path / "data", 10, "grasp", "so101"))
    image = np.zeros((64, 64, 3), np.uint8)
    image[32:] = 200
    for episode in range(2):
        with writer.episode(episode, 6) as rows:
            for _ in range(6):
                rows.image("wrist", image)
            rows.rows({
                "observation.state": np.ones((6, 2), np.float32),
                "action": np.ones((6, 2), np.float32),
                "next.reward": np.zeros(6, np.float32),
            })  # fmt: skip
    writer.finish(2, {})
    return tmp_path / "data"


def test_labels_turns_and_checks(dataset, tmp_path, capsys):
    table = tmp_path / "labels.csv"
    table.write_text("episode,success_start,env_reset_start,failure_ranges\n0,3,5,\n1,,,\n")
    assert main(["check-dataset", str(dataset)]) == 0
    assert main(["label", str(dataset), str(table), "--output", str(tmp_path / "new"), "--set", "1.success_start=4"]) == 0
    out = capsys.readouterr().out
    assert "2 episodes, 11 frames" in out and "labels.v1.csv" in out
    assert main(["check-dataset", str(tmp_path / "new")]) == 0
    assert main(["turn-images", str(tmp_path / "new"), "--rotate", "180", "--output", str(tmp_path / "turned")]) == 0
    assert main(["check-dataset", str(tmp_path / "turned")]) == 0
    from dataset_recorder.dataset import open_dataset

    turned = open_dataset(tmp_path / "turned")
    first = next(iter(turned.images(turned.episodes[0], turned.cameras[0])))
    assert first[:28].mean() > 150 and first[36:].mean() < 50


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["label", "DATA", "nowhere.csv", "--output", "OUT"], "cannot read the labels"),
        (["label", "DATA"], "label needs --output for a new dataset, --review"),
        (["label", "DATA", "x.csv", "--from", "truth", "--csv-out", "OUT"], "not from both"),
        (["label", "DATA", "x.csv", "--bags", "DATA", "--csv-out", "OUT"], "--bags is for --from"),
        (["label", "DATA", "--csv-out", "OUT"], "label needs a table of labels, or --from"),
        (["label", "DATA", "--from", "truth", "--csv-out", "OUT"], "does not name the bag of each episode"),
        (["label", "DATA", "--output", "OUT"], "label needs a table of labels"),
        (["label", "DATA", "--review", "OUT", "--set", "0.success_start=1"], "label needs a table of labels"),
        (["label", "DATA", "--review", "DATA"], "exists already"),
        (["turn-images", "DATA", "--output", "OUT"], "turn-images needs --rotate or --flip"),
        (["turn-images", "DATA", "--rotate", "180", "--output", "DATA"], "exist"),
        (["turn-images", "OUT", "--rotate", "180", "--output", "OUT"], "OUT"),
        (["resize-images", "DATA", "--size", "8", "--output", "OUT"], "the size is 8, allowed: 16 to 1024"),
    ],
)
def test_mistakes_are_one_sentence(dataset, tmp_path, capsys, words, sentence):
    places = {"DATA": str(dataset), "OUT": str(tmp_path / "OUT")}
    assert main([places.get(word, word) for word in words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_review_is_written_with_and_without_a_table(dataset, tmp_path, capsys):
    table = tmp_path / "labels.csv"
    table.write_text("episode,success_start,env_reset_start,failure_ranges\n0,3,5,\n1,,,\n")
    assert main(["label", str(dataset), str(table), "--review", str(tmp_path / "review")]) == 0
    assert f"review: {tmp_path / 'review' / 'index.html'}" in capsys.readouterr().out
    page = (tmp_path / "review" / "episode_000.html").read_text()
    assert page.count('class="frame is-success') == 2
    assert main(["label", str(dataset), "--review", str(tmp_path / "own")]) == 0
    assert 'class="frame is-success' not in (tmp_path / "own" / "episode_000.html").read_text()
