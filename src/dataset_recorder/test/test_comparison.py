# SPDX-License-Identifier: Apache-2.0
"""Rewards beside labels."""

from dataset_recorder.comparison import Frame, compare, read_frames, write_frames


def frames(success: str, label: str) -> list[Frame]:
    """A character for each frame: 0, 1, or - where nothing is said."""
    values = {"0": False, "1": True, "-": None}
    return [
        Frame(tick, 0.1 + tick / 7 if judged != "-" else None, values[judged], values[said], "truth")
        for tick, (judged, said) in enumerate(zip(success, label, strict=True))
    ]


def test_counts():
    found = compare(frames("0001110-1", "00110011-"))
    assert (found.frames, found.judged, found.successes, found.labelled, found.label_successes) == (9, 8, 4, 8, 4)
    assert (found.compared, found.agreeing, found.false_successes, found.missed_successes) == (7, 3, 2, 2)
    assert found.delay == 1
    assert found.text.endswith(
        "3 of 7 as labelled by truth, 2 false and 2 missed successes, the first success +1 frames from its label"
    )


def test_there_may_be_no_success_or_no_label():
    assert compare(frames("0000", "0011")).delay is None and compare(frames("0110", "0000")).delay is None
    assert compare(frames("10", "01")).delay == -1
    nothing = compare(frames("01", "--"))
    assert (nothing.compared, nothing.delay) == (0, None) and nothing.text.endswith("there are no labels to compare with")


def test_the_table_comes_back_exactly(tmp_path):
    said = {"bags/one": frames("01-", "-10"), "bags/two, too": frames("1", "1")}
    write_frames(tmp_path / "new" / "replay.csv", said)
    assert read_frames(tmp_path / "new" / "replay.csv") == said
    assert (tmp_path / "new" / "replay.csv").read_text().splitlines()[:2] == [
        "bag,stamp_ns,probability,success,label,source", "bags/one,0,0.1,0,,truth",
    ]  # fmt: skip
