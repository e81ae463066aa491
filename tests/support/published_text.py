"""What the course publishes, as tests compare it with the logs: the words of a page, the cells of a results table."""

import re

from distill_helpers.course.folders import ROOT, SOURCES
from distill_helpers.course.logs import RESULTS


def words_of_page(name: str) -> str:
    """The source of a notebook as running text: without the marks of comments, and with single spaces."""
    return " ".join(re.sub(r"(?m)^# ", "", (SOURCES / f"{name}.py").read_text(encoding="utf-8")).split())


def cells_of_table(log: str) -> list[list[str]]:
    """The rows of a log's first table in `data/results`, without its head; the first cell is the row's name."""
    table = (RESULTS / f"{log}.md").read_text(encoding="utf-8").split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def readme_row(log: str) -> str:
    """The row of the README's table of questions that links to the log's table first."""
    [row] = [row for row in (ROOT / "README.md").read_text("utf-8").splitlines() if f"| [{log}](data/results" in row]
    return row
