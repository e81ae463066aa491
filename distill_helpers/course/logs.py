"""Logs of long runs: one line of JSON for each finished run, so that an interrupted series continues where it stopped.

The logs are in `data/results`. The tables and figures of the notebooks are made from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distill_helpers.course.folders import ROOT
from distill_helpers.data.markdown import markdown_text

__all__ = [
    "RESULTS",
    "append_run",
    "bits",
    "digits_of",
    "markdown_table",
    "read_log",
    "replace_between_marks",
    "run_missing",
    "write_table",
]

RESULTS = ROOT / "data" / "results"

Value = str | int | float


def read_log(name: str) -> pd.DataFrame:
    """Read a committed log, one row for each run.

    Raises:
        FileNotFoundError: no log has this name.
    """
    log = RESULTS / f"{name}.jsonl"
    if not log.is_file():
        raise FileNotFoundError(f"no {log.name} in data/results; `make results` makes it")
    return pd.DataFrame(_lines(log))


def append_run(name: str, run: dict[str, Value]) -> None:
    """Append a line to a log, and print the line."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    line = json.dumps({key: round(value, 6) if isinstance(value, float) else value for key, value in run.items()})
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)


def run_missing(name: str, wanted: Iterable[Mapping[str, Any]], run: Callable[..., Mapping[str, Value]]) -> None:
    """Make the runs that a log does not have yet.

    Args:
        name: of the log.
        wanted: the settings of each run; they are also the run's key in the log.
        run: takes the settings by name and returns what was measured.
    """
    path = RESULTS / f"{name}.jsonl"
    done = _lines(path) if path.exists() else []
    for settings in wanted:
        if not any(settings.items() <= row.items() for row in done):
            append_run(name, {**settings, **run(**settings)})


def digits_of(right: np.ndarray) -> str:
    """Write which items are answered correctly, (items,), as hexadecimal digits for a log: a bit for each item."""
    return np.packbits(right).tobytes().hex()


def bits(digits: str, n: int) -> np.ndarray:
    """Read the first `n` bits of what `digits_of` wrote, (items,), as 0.0 and 1.0."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8))[:n].astype(float)


def markdown_table(frame: pd.DataFrame, formats: tuple[str, ...]) -> str:
    """Format a frame as a Markdown table, in which names are shown as they are written. A dash is a missing value.

    Args:
        frame: the table; its index becomes the first column.
        formats: one format for each column, the index included, such as ".1f"; "" leaves a value as it is.
    """
    shown = frame.map(_escaped).astype(object).where(frame.notna(), None)
    shown = shown.set_axis(shown.index.map(_escaped)).set_axis(shown.columns.map(_escaped), axis="columns")
    return shown.to_markdown(floatfmt=formats, missingval="–")


def _escaped(value: Any) -> Any:
    return markdown_text(value) if isinstance(value, str) else value


def write_table(name: str, table: str) -> None:
    """Write the Markdown table of a log into the same folder, and print the table."""
    (RESULTS / f"{name}.md").write_text(f"{table}\n", encoding="utf-8")
    print(table)


def replace_between_marks(page: Path, name: str, text: str) -> None:
    """Write text between the marks `<!-- NAME -->` and `<!-- end NAME -->` of a page, in the place of the old text.

    Raises:
        ValueError: the page does not have both marks exactly once.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    old = page.read_text(encoding="utf-8")
    if old.count(begin) != 1 or old.count(end) != 1:
        raise ValueError(f"{page.name} needs the marks {begin.strip()} and {end} once each")
    page.write_text(f"{old.split(begin)[0]}{begin}\n{text.strip()}\n\n{end}{old.split(end)[1]}", encoding="utf-8")


def _lines(log: Path) -> list[dict[str, Value]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
