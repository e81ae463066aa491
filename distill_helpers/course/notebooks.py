"""From `notebooks/source/*.py` to executed notebooks, and from their heads to the README's table.

    python -m distill_helpers.course.notebooks [NAME ...]

A notebook is edited in its source, a plain Python file in jupytext's percent format whose diffs can be read. The
`.ipynb` is made from the source here, top to bottom in a fresh kernel, and a test keeps the two in agreement.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from distill_helpers.course.folders import NOTEBOOKS, ROOT, SOLUTIONS, SOURCES
from distill_helpers.course.logs import replace_between_marks
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import WIDGET_VIEW

__all__ = [
    "Head",
    "build",
    "course_map",
    "head_of",
    "publish_table",
    "read_source",
    "table_of_notebooks",
    "update_text",
]

_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
#: What a cell makes that has one of these calls.
_MAKES = {"live(": "makes the widget", "with_alt_text(": "draws the figure"}
_TEACHES = r"(?m)^<!-- teaches: (.+) -->\n+"


@dataclass(frozen=True)
class Head:
    """What a notebook's first cell says of it, for the tables that list all notebooks.

    Args:
        name: of the source's file, such as "03_t_squared".
        title: with its number, such as "03 · The T² factor".
        teaches: what the notebook teaches, in a phrase.
        reading, exercises: minutes.
    """

    name: str
    title: str
    teaches: str
    reading: int
    exercises: int


def head_of(source: Path) -> Head:
    """Read the head of a source.

    Raises:
        ValueError: the first cell lacks its title, its line `<!-- teaches: … -->` or its minutes.
    """
    text = jupytext.read(source, fmt="py:percent").cells[0].source
    patterns = {
        "a title '# 03 · The T² factor'": r"\A# (\d\d · .+)",
        "a line '<!-- teaches: a phrase -->'": _TEACHES,
        "the words 'about 35 minutes of reading and 25 of exercises'": (
            r"about (\d+) minutes\s+of\s+reading\s+and\s+(\d+)\s+of\s+exercises"
        ),
    }
    found: list[str] = []
    for what, pattern in patterns.items():
        match = re.search(pattern, text)
        if match is None:
            raise ValueError(f"the first cell of {source.name} needs {what}")
        found += match.groups()
    title, teaches, reading, exercises = found
    return Head(source.stem, title, teaches, int(reading), int(exercises))


def read_source(source: Path) -> NotebookNode:
    """Make the notebook that a source describes, without executing it: stable cell ids and the kernel's name.

    A line `<!-- solution 01.2 -->` becomes the file `solutions/01_2.py`, folded; the tests run the same file. A line
    `<!-- map -->` becomes `course_map`. Folded are also the code that imports or draws, and the outputs of which a
    reader is asked for a prediction.

    Raises:
        FileNotFoundError: a solution that does not exist.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        if cell.cell_type == "markdown":
            text = re.sub(r"(?m)^<!-- solution (\S+) -->$", _folded_solution, re.sub(_TEACHES, "", cell["source"]))
            cell["source"] = re.sub(r"(?m)^<!-- map -->$", lambda _: course_map(source), text)
    _fold(notebook.cells)
    notebook.metadata = NotebookNode(kernelspec=_KERNEL, language_info={"name": "python"})
    notebook.nbformat_minor = 5
    return notebook


def _fold(cells: list[NotebookNode]) -> None:
    """Fold code that teaches nothing, and outputs that would give a prediction away.

    Of folded code JupyterLab shows the first line, so that line says what the cell is for: a figure's title would be
    the answer. An output opens when its cell is run. A widget's stays open: it shows its first state, and the question
    is about the others.
    """
    asked = False
    for cell in cells:
        if cell.cell_type == "markdown":
            asked = "**Predict first:**" in " ".join(cell.source.split())
            continue
        makes = next((words for call, words in _MAKES.items() if call in cell.source), None)
        hidden = {
            "source_hidden": makes is not None or _only_imports(cell.source),
            "outputs_hidden": asked and "live(" not in cell.source,
        }
        if makes:
            first = f"# This cell {makes}.\n"
            cell["source"] = first + cell.source.removeprefix(first)  # an edited notebook that became a source has it
        if any(hidden.values()):
            cell.metadata["jupyter"] = {name: True for name, folded in hidden.items() if folded}


def _only_imports(code: str) -> bool:
    return all(isinstance(statement, ast.Import | ast.ImportFrom) for statement in ast.parse(code).body)


def _folded_solution(mark: re.Match[str]) -> str:
    code = (SOLUTIONS / f"{mark[1].replace('.', '_')}.py").read_text(encoding="utf-8").strip()
    return f"<details><summary>Solution</summary>\n\n```python\n{code}\n```\n\n</details>"


def course_map(here: Path) -> str:
    """Make a Markdown table of all notebooks beside a source, with links; the source's own notebook is printed bold."""
    lines = ["| notebook | what it teaches |", "|---|---|"]
    for source in sorted(here.parent.glob("*.py")):
        head = head_of(source)
        title = f"**{head.title}**" if source == here else f"[{head.title}]({head.name}.ipynb)"
        lines.append(f"| {title} | {head.teaches} |")
    return "\n".join(lines)


def build(source: Path, timeout_s: int = 600) -> float:
    """Execute a source and save the notebook beside the source folder.

    Returns:
        The seconds that the execution took.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; nothing is saved.
    """
    notebook = read_source(source)
    start = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=timeout_s,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,  # or a print that came late would stand in an output of its own, by chance
    )
    client.execute()
    seconds = time.perf_counter() - start
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell["outputs"] = _without_widgets(cell["outputs"])
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.validate(notebook)
    nbformat.write(notebook, NOTEBOOKS / f"{source.stem}.ipynb")
    return seconds


def _without_widgets(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Take the running widgets out of outputs, and outputs out of the list that are empty then.

    A page prefers a widget to the HTML beside it, even where no kernel runs the widget: JupyterLab would print "Error
    displaying widget: model not found".
    """
    for output in outputs:
        if "data" in output:
            output["data"].pop(WIDGET_VIEW, None)
    return [output for output in outputs if output.get("data", True)]


def update_text(source: Path) -> None:
    """Carry changed text and the quiz over into the saved notebook and keep its outputs. Nothing is executed.

    Raises:
        ValueError: the code has changed too, so that the saved outputs are not the outputs of this code.
    """
    path = NOTEBOOKS / f"{source.stem}.ipynb"
    saved, new = nbformat.read(path, as_version=4), read_source(source)
    old_code, new_code = ([cell for cell in book.cells if cell.cell_type == "code"] for book in (saved, new))
    if [cell.source for cell in old_code] != [cell.source for cell in new_code]:
        raise ValueError(f"the code of {source.name} has changed; execute it, without --text")
    for old, cell in zip(old_code, new_code, strict=True):
        cell["outputs"], cell["execution_count"] = old["outputs"], old["execution_count"]
        if cell.source.endswith(f'HTML(render_quiz("{source.stem}"))'):
            (output,) = cell["outputs"]
            output["data"]["text/html"] = render_quiz(source.stem)  # text as well, in a file of its own
    saved["cells"] = new.cells
    nbformat.validate(saved)
    nbformat.write(saved, path)


def table_of_notebooks(seconds: dict[str, float], readme: str) -> str:
    """Make the README's table of notebooks.

    Args:
        seconds: how long the notebooks ran that have just been executed, by name.
        readme: the README's text; a notebook that is not in `seconds` keeps the time that it has there, if any.
    """
    lines = [
        "| notebook | what it teaches | reading + exercises | running, 2 cores |",
        "|---|---|---|---|",
    ]
    for head in map(head_of, sorted(SOURCES.glob("*.py"))):
        link = f"(notebooks/{head.name}.ipynb)"
        earlier = re.search(rf"(?m)^\|.*{re.escape(link)}.*\| (\d+ s) \|$", readme)
        ran = f"{seconds[head.name]:.0f} s" if head.name in seconds else earlier[1] if earlier else "–"
        lines.append(f"| [{head.title}]{link} | {head.teaches} | {head.reading} + {head.exercises} min | {ran} |")
    return "\n".join(lines)


def publish_table(seconds: dict[str, float], readme: Path = ROOT / "README.md") -> None:
    """Write the table of notebooks between its marks in the README. See `table_of_notebooks`.

    Raises:
        ValueError: a README without the marks.
    """
    replace_between_marks(readme, "notebooks", table_of_notebooks(seconds, readme.read_text(encoding="utf-8")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Execute and save the notebooks, and write the README's table of them."
    )
    parser.add_argument("names", nargs="*", help="such as 05_response_distillation; default all")
    parser.add_argument("--text", action="store_true", help="only carry changed text over; execute nothing")
    arguments = parser.parse_args()
    names = arguments.names
    # What a new reader has: no Hub, and nothing solved. Kernels inherit the variables.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["DISTILL_HELPERS_RECORD"] = str(NOTEBOOKS / "my-record-of-nothing.txt")
    sources = [s for s in sorted(SOURCES.glob("*.py")) if not names or s.stem in names]
    missing = set(names) - {s.stem for s in sources}
    if missing:
        raise SystemExit(f"no source for {sorted(missing)} in {SOURCES}")
    for source in sources:
        head_of(source)  # a lack in a head is reported before minutes of execution
    seconds = {}
    for source in sources:
        if arguments.text:
            update_text(source)
        else:
            seconds[source.stem] = build(source)
            print(f"{source.stem}: {seconds[source.stem]:.0f} s", flush=True)
    publish_table(seconds)


if __name__ == "__main__":
    main()
