"""Where the notebooks lie, with their sources, solutions and quizzes. What belongs to a notebook is found by its name.

The notebook `03_t_squared` has its source in `notebooks/source/03_t_squared.py`, its quiz in
`notebooks/quizzes/03_t_squared.toml`, its solutions in `notebooks/solutions/03_*.py`, and, without the number, its
checks in `course/exercises/t_squared.py`, its widgets in `course/widgets/t_squared.py` and its drawing in
`course/drawings/t_squared.py`. No list names the notebooks.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["DRAWINGS", "NOTEBOOKS", "QUIZZES", "ROOT", "SOLUTIONS", "SOURCES", "notebook_names"]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"
SOLUTIONS = NOTEBOOKS / "solutions"
QUIZZES = NOTEBOOKS / "quizzes"
DRAWINGS = NOTEBOOKS / "drawings"


def notebook_names() -> list[str]:
    """Return the names of all notebooks, such as "03_t_squared", in the order of their numbers."""
    return sorted(path.stem for path in SOURCES.glob("*.py"))
