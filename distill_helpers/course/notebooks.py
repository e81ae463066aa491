"""From `notebooks/source/*.py` to executed notebooks, and their times into the README.

    python -m distill_helpers.course.notebooks [NAME ...]

A notebook is edited in its source, a plain Python file in jupytext's percent format whose diffs can be read; the
`.ipynb` beside it is made from that file here, top to bottom in a fresh kernel, and a test keeps the two in agreement.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

__all__ = ["NOTEBOOKS", "SOLUTIONS", "SOURCES", "build", "read_source", "update_text"]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"
SOLUTIONS = NOTEBOOKS / "solutions"
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read_source(source: Path) -> NotebookNode:
    """The notebook that a source describes, not executed: stable cell ids, the kernel's name and nothing else.

    A line `<!-- solution 01.2 -->` becomes the file `solutions/01_2.py`, folded: the tests run the same file.

    Raises:
        FileNotFoundError: a solution that does not exist.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        if cell.cell_type == "markdown":
            cell["source"] = re.sub(r"(?m)^<!-- solution (\S+) -->$", _folded_solution, cell["source"])
    notebook.metadata = NotebookNode(kernelspec=_KERNEL, language_info={"name": "python"})
    notebook.nbformat_minor = 5
    return notebook


def _folded_solution(mark: re.Match[str]) -> str:
    code = (SOLUTIONS / f"{mark[1].replace('.', '_')}.py").read_text(encoding="utf-8").strip()
    return f"<details><summary>Solution</summary>\n\n```python\n{code}\n```\n\n</details>"


def build(source: Path, timeout_s: int = 300) -> float:
    """Execute a source and save the notebook beside the source folder. Returns the seconds it took.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; nothing is saved.
    """
    notebook = read_source(source)
    start = time.perf_counter()
    client = NotebookClient(
        notebook, timeout=timeout_s, resources={"metadata": {"path": str(NOTEBOOKS)}}, record_timing=False
    )
    client.execute()
    seconds = time.perf_counter() - start
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.validate(notebook)
    nbformat.write(notebook, NOTEBOOKS / f"{source.stem}.ipynb")
    return seconds


def update_text(source: Path) -> None:
    """Carry changed text into the saved notebook and keep its outputs: nothing is executed.

    Raises:
        ValueError: the code has changed too, so the outputs are no longer its own.
    """
    path = NOTEBOOKS / f"{source.stem}.ipynb"
    saved, new = nbformat.read(path, as_version=4), read_source(source)
    old_code, new_code = ([cell for cell in book.cells if cell.cell_type == "code"] for book in (saved, new))
    if [cell.source for cell in old_code] != [cell.source for cell in new_code]:
        raise ValueError(f"the code of {source.name} has changed; execute it, without --text")
    for old, cell in zip(old_code, new_code, strict=True):
        cell["outputs"], cell["execution_count"] = old["outputs"], old["execution_count"]
    saved["cells"] = new.cells
    nbformat.validate(saved)
    nbformat.write(saved, path)


def publish_times(seconds: dict[str, float], readme: Path = ROOT / "README.md") -> None:
    """Write the seconds into the README's table of notebooks: the last cell of the line that links the notebook.

    Raises:
        ValueError: a notebook without a line in the README.
    """
    text = readme.read_text(encoding="utf-8")
    for name, value in seconds.items():
        pattern = rf"(?m)^(\|.*\(notebooks/{re.escape(name)}\.ipynb\).*\|)[^|\n]*\|$"
        text, count = re.subn(pattern, rf"\g<1> {value:.0f} s |", text)
        if count != 1:
            raise ValueError(f"{readme.name} has {count} table lines that link notebooks/{name}.ipynb, expected one")
    readme.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Execute and save the notebooks, and publish their times.")
    parser.add_argument("names", nargs="*", help="such as 05_response_distillation; default all")
    parser.add_argument("--text", action="store_true", help="only carry changed text over; execute nothing")
    arguments = parser.parse_args()
    names = arguments.names
    # What a reader has: no Hub. Kernels inherit it.
    os.environ["HF_HUB_OFFLINE"] = "1"
    sources = [s for s in sorted(SOURCES.glob("*.py")) if not names or s.stem in names]
    missing = set(names) - {s.stem for s in sources}
    if missing:
        raise SystemExit(f"no source for {sorted(missing)} in {SOURCES}")
    if arguments.text:
        for source in sources:
            update_text(source)
        return
    seconds = {}
    for source in sources:
        seconds[source.stem] = build(source)
        print(f"{source.stem}: {seconds[source.stem]:.0f} s", flush=True)
    publish_times(seconds)


if __name__ == "__main__":
    main()
