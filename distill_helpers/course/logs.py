"""Logs of long runs: one line of JSON per finished run, so that what was interrupted goes on where it was.

The logs are in `data/results`; the tables and figures of the notebooks are made from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from distill_helpers.models.loading import COURSE_MODELS

__all__ = ["RESULTS", "append_run", "markdown_table", "read_log", "run_missing", "write_table"]

RESULTS = COURSE_MODELS.parent / "results"

Value = str | int | float


def read_log(name: str) -> pd.DataFrame:
    """A committed log, one row per run.

    Raises:
        FileNotFoundError: no log of that name.
    """
    log = RESULTS / f"{name}.jsonl"
    if not log.is_file():
        raise FileNotFoundError(f"no {log.name} in data/results; `make results` makes it")
    return pd.DataFrame(_lines(log))


def append_run(name: str, run: dict[str, Value]) -> None:
    """Add a line to a log and print it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    line = json.dumps({key: round(value, 6) if isinstance(value, float) else value for key, value in run.items()})
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)


def run_missing(name: str, wanted: Iterable[Mapping[str, Any]], run: Callable[..., Mapping[str, Value]]) -> None:
    """Make the runs that a log does not have yet.

    Args:
        name: of the log.
        wanted: the settings of each run, which are also its key in the log.
        run: takes the settings by name, returns what was measured.
    """
    path = RESULTS / f"{name}.jsonl"
    done = _lines(path) if path.exists() else []
    for settings in wanted:
        if not any(settings.items() <= row.items() for row in done):
            append_run(name, {**settings, **run(**settings)})


def markdown_table(frame: pd.DataFrame, formats: tuple[str, ...]) -> str:
    """A Markdown table, one format for each column, the index included; what is missing is a dash."""
    return frame.astype(object).where(frame.notna(), None).to_markdown(floatfmt=formats, missingval="–")


def write_table(name: str, table: str) -> None:
    """Write the Markdown table of a log beside it, and print it."""
    (RESULTS / f"{name}.md").write_text(f"{table}\n", encoding="utf-8")
    print(table)


def _lines(log: Path) -> list[dict[str, Value]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
