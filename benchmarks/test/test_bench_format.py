# SPDX-License-Identifier: Apache-2.0
"""bench.json: what a row says, which way its ratio counts, and that no row is lost. Nothing is timed here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import run as bench
from benchmarks.registry import GROUPS, rows_of
from benchmarks.rows import Better, Row, Target

ROOT = Path(__file__).resolve().parents[2]


def test_ratio_is_above_one_where_we_are_better_whichever_way_the_unit_counts():
    assert Row("a", ours=2.0, lerobot=8.0, unit="s").ratio == 4.0
    assert Row("a", ours=30.0, lerobot=10.0, unit="ticks/s", better=Better.HIGHER).ratio == 3.0
    assert Row("a", ours=2.0, lerobot=None, unit="s").ratio is None


@pytest.mark.parametrize(
    ("target", "ours", "lerobot", "met"),
    [
        (Target("ratio", 4.0), 1.0, 4.0, True),
        (Target("ratio", 4.0), 1.0, 3.9, False),
        (Target("at_most", 30.0), 31.0, 1000.0, False),
        (Target("at_most", 30.0), 30.0, None, True),
        (Target("at_least", 20.0), 19.0, None, False),
        (Target("at_least", 20.0), 21.0, None, True),
        (Target("ratio", 4.0), None, None, False),
        (None, 1.0, 2.0, None),
    ],
)
def test_a_target_is_met_or_not(target, ours, lerobot, met):
    assert Row("a", ours=ours, lerobot=lerobot, unit="ms", target=target).met is met


@pytest.mark.parametrize("figure", [0.0, -1.0, float("nan"), float("inf")])
def test_a_figure_that_is_none_is_refused(figure):
    with pytest.raises(ValueError, match="not a positive figure"):
        Row("a", ours=figure, lerobot=1.0, unit="s")


def test_a_name_that_nothing_has_is_refused_with_those_that_exist():
    assert rows_of("update_tr") == {"update": ("update_trainable",)}
    with pytest.raises(ValueError, match="replay_sample"):
        rows_of("speed")


def test_a_beginning_picks_rows_of_several_groups():
    assert rows_of("classifier") == {name: GROUPS[name] for name in ("classifier_latency", "classifier_training")}


def test_every_row_has_a_module_that_makes_it_and_words_that_explain_it():
    explained = (ROOT / "benchmarks" / "README.md").read_text()
    assert not [group for group in GROUPS if not (ROOT / "benchmarks" / f"{group}.py").is_file()]
    assert not [name for names in GROUPS.values() for name in names if f"`{name}`" not in explained]


def test_a_group_that_fails_leaves_its_rows_as_not_measured(tmp_path, monkeypatch):
    class Ended:
        returncode = 1

    monkeypatch.setattr(bench.subprocess, "run", lambda command, **options: Ended())
    output = tmp_path / "bench.json"
    assert bench.main(["--only", "messages", "--output", str(output)]) == 1
    rows = json.loads(output.read_text())
    assert [row["name"] for row in rows] == list(GROUPS["messages"])
    assert all(row["ours"] is None and row["met"] is False for row in rows)


def test_a_written_row_has_every_key(tmp_path, monkeypatch):
    row = Row("episode_bytes", 1.0, 4.0, "bytes", target=Target("ratio", 4.0), note="n", conditions={"steps": 1})

    class Ended:
        returncode = 0

    def run(command, **options):
        Path(command[command.index("--output") + 1]).write_text(json.dumps([{**row.as_dict(), "quick": False}]))
        return Ended()

    monkeypatch.setattr(bench.subprocess, "run", run)
    output = tmp_path / "bench.json"
    assert bench.main(["--only", "episode_bytes", "--output", str(output)]) == 0
    assert json.loads(output.read_text()) == [
        {
            "name": "episode_bytes", "ours": 1.0, "lerobot": 4.0, "ratio": 4.0, "unit": "bytes", "target": "ratio ≥ 4",
            "met": True, "note": "n", "conditions": {"steps": 1}, "quick": False,
        }
    ]  # fmt: skip
