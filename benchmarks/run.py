# SPDX-License-Identifier: Apache-2.0
"""The command: run the benchmarks, print the table, write bench.json."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.registry import GROUPS, Options, rows_of
from benchmarks.timing import THREADS

_ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when every row chosen was measured, 1 otherwise. A missed target is reported, not an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Our figures against LeRobot's.")
    parser.add_argument("--only", metavar="NAME", help="a group, a row, or the beginning of row names")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: for a first look, not for reports")
    parser.add_argument("--output", type=Path, default=_ROOT / "outputs" / "bench" / "bench.json", help="where the rows go")
    parser.add_argument("--group", choices=list(GROUPS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.group is not None:
        _run_group(options.group, options.only or "", options.quick, options.output)
        return 0
    try:
        chosen = rows_of(options.only)
    except ValueError as error:
        parser.error(str(error))
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for group, names in chosen.items():
            console.print(f"[bold]{group}[/bold]: {', '.join(names)}")
            start = time.monotonic()
            part = Path(scratch) / f"{group}.json"
            # One process per group: what one leaves in memory, threads or compiled code never touches the next.
            command = [sys.executable, "-m", "benchmarks", "--group", group, "--output", str(part)]
            command += ["--only", options.only] if options.only and options.only != group else []
            status = subprocess.run(
                command + ["--quick"] * options.quick, cwd=_ROOT, check=False, env=_environment()
            ).returncode
            measured = {row["name"]: row for row in (json.loads(part.read_text()) if part.is_file() else [])}
            rows += [measured.get(name) or _not_measured(name) for name in names]
            console.print(
                f"  {time.monotonic() - start:.0f} s" + (f", [red]ended with status {status}[/red]" if status else "")
            )
    _write(options.output, rows)
    console.print(_table(rows))
    console.print(f"rows in {_shown(options.output)}" + (" (quick run: not for reports)" if options.quick else ""))
    return 1 if any(row["ours"] is None for row in rows) else 0


def _environment() -> dict[str, str]:
    """Both sides get the same number of threads, whichever library asks."""
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    return {**os.environ, **threads, **quiet}


def _run_group(group: str, only: str, quick: bool, output: Path) -> None:
    """In its own process: run one group and write each row as soon as it is measured."""
    import torch

    torch.set_num_threads(THREADS)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(prefix=f"bench-{group}-") as scratch:
        for row in importlib.import_module(f"benchmarks.{group}").run(Options(quick, Path(scratch), only)):
            rows.append({**row.as_dict(), "quick": quick})
            _write(output, rows)


def _not_measured(name: str) -> dict:
    return {
        "name": name,
        "ours": None,
        "lerobot": None,
        "ratio": None,
        "unit": "",
        "target": None,
        "met": False,
        "note": "not measured: the benchmark stopped with an error",
        "conditions": {},
        "quick": False,
    }


def _write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    part.replace(path)


def _table(rows: list[dict]) -> Table:
    table = Table(title="reach-grasp against LeRobot", caption="ratio above 1: we are better", show_lines=False)
    for column in ("name", "ours", "LeRobot", "ratio", "unit", "target", "met"):
        table.add_column(column, justify="left" if column in ("name", "unit", "target") else "right", no_wrap=column == "name")
    for row in rows:
        met = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[row["met"]]
        figures = ["-" if value is None else f"{value:,.4g}" for value in (row["ours"], row["lerobot"], row["ratio"])]
        table.add_row(row["name"], *figures, row["unit"], row["target"] or "", met)
    return table


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
