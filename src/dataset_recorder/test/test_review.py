# SPDX-License-Identifier: Apache-2.0
"""The pages of a review, read as a browser reads them."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dataset_recorder.dataset import DatasetError
from dataset_recorder.edit import relabel
from dataset_recorder.labels import read_labels
from dataset_recorder.new_folder import TargetError
from dataset_recorder.review import Judgement, write_review

TABLE = "episode,success_start,env_reset_start,failure_ranges\n0,5,8,\n1,,,\n2,4,10,6-7\n"
LABELS = [
    ["none"] * 5 + ["success"] * 3 + ["reset"] * 4,
    ["none"] * 9,
    ["none"] * 4 + ["success"] * 2 + ["none"] * 2 + ["success"] * 2 + ["reset"] * 5,
]


class Page(HTMLParser):
    """The frames of a page, and everything it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.frames: list[dict] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.telling = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        words = (found.get("class") or "").split()
        if "frame" in words:
            marks = {"changed": "changed" in words, "doubted": "doubted" in words}
            self.frames.append({"id": found["id"], **marks, "images": [], "told": ""})
        self.telling = tag == "b"
        if tag == "p" and self.frames:
            self.frames[-1]["label"] = found["class"]
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.sources.append(found["src"])
            if self.frames:
                self.frames[-1]["images"].append(found["src"])
        if tag == "i" and self.frames:
            self.frames[-1]["width"] = found["style"]
        assert tag not in ("script", "link"), "the page needs something beside it"

    def handle_data(self, data):
        if self.telling and self.frames:
            self.frames[-1]["told"] += data.strip()

    def handle_endtag(self, tag):
        self.telling = False


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(TABLE)
    return read_labels(path)


def test_every_frame_stands_on_its_page_with_its_own_images_and_label(recorded, table, tmp_path):
    index = write_review(recorded, tmp_path / "review", table)
    for episode, labels in enumerate(LABELS):
        page = Page((tmp_path / "review" / f"episode_{episode:03d}.html").read_text())
        assert [frame["label"] for frame in page.frames] == labels
        changes = [n for n in range(1, len(labels)) if labels[n] != labels[n - 1]]
        assert [n for n, frame in enumerate(page.frames) if frame["changed"]] == changes
        assert [link for link in page.links if link.startswith("#")] == [f"#f{n}" for n in changes]
        for number, frame in enumerate(page.frames):
            wrist, front = (np.asarray(Image.open(io.BytesIO(base64.b64decode(s.split(",")[1])))) for s in frame["images"])
            # conftest.py paints the frame number into the upper right quarter, the camera into the lower left one.
            assert abs(wrist[4:28, 36:60, 1].mean() - (15 * number + 20)) < 6
            assert wrist[36:60, 4:28, 2].mean() + 60 < front[36:60, 4:28, 2].mean()
    page = Page(index.read_text())
    assert {f"episode_{episode:03d}.html" for episode in range(3)} <= set(page.links)
    assert {"episode_000.html#f5", "episode_002.html#f4"} <= set(page.links)
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)


def test_without_a_table_the_rewards_of_the_dataset_are_shown(recorded, table, tmp_path):
    with pytest.raises(DatasetError, match=r"has no next\.reward: give a label table"):
        write_review(recorded, tmp_path / "none")
    relabel(recorded, table, tmp_path / "new")
    write_review(tmp_path / "new", tmp_path / "review")
    page = Page((tmp_path / "review/episode_002.html").read_text())
    assert [frame["label"] for frame in page.frames] == LABELS[2][:10]


def test_the_classifier_stands_under_each_frame_and_where_it_disagrees_is_marked(recorded, table, tmp_path):
    def probabilities(images):
        """Of the frame's number, which conftest.py paints: success from frame 6 on."""
        assert sorted(images) == ["observation.images.front", "observation.images.wrist"]
        number = (images["observation.images.wrist"][:, 4:28, 36:60, 1].mean((1, 2)) - 20) / 15
        return np.abs(np.round(number)) / 10

    judgement = Judgement("mine 0123", 0.55, probabilities)
    index = write_review(recorded, tmp_path / "review", table, judgement=judgement)
    for episode, labels in enumerate(LABELS):
        page = Page((tmp_path / "review" / f"episode_{episode:03d}.html").read_text())
        assert [frame["told"] for frame in page.frames] == [f"{n / 10:.3f}" for n in range(len(labels))]
        assert [frame["width"] for frame in page.frames[:3]] == ["width: 0.0%", "width: 10.0%", "width: 20.0%"]
        doubted = [n for n, label in enumerate(labels) if label != "reset" and (label == "success") != (n >= 6)]
        assert [n for n, frame in enumerate(page.frames) if frame["doubted"]] == doubted
        assert {f"#f{n}" for n in doubted} <= set(page.links)
    text = index.read_text()
    assert "mine 0123" in text and "episode_001.html#f6" in Page(text).links


def test_an_existing_folder_is_not_touched(recorded, table, tmp_path):
    (tmp_path / "review").mkdir()
    with pytest.raises(TargetError, match="review exists already"):
        write_review(recorded, tmp_path / "review", table)
    assert list((tmp_path / "review").iterdir()) == []


def test_a_name_with_markup_stays_text(recorded, table, tmp_path):
    (tmp_path / "<b>data").symlink_to(recorded)
    index = write_review(tmp_path / "<b>data", tmp_path / "review", table)
    assert "<b>data" not in index.read_text()
    assert "&lt;b&gt;data" in index.read_text()
