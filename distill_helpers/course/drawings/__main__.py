"""Writes all drawings. See the package's docstring."""

from __future__ import annotations

from importlib import import_module

from distill_helpers.course.drawings.canvas import Canvas
from distill_helpers.course.folders import DRAWINGS, notebook_names

__all__ = ["drawing", "main"]


def drawing(notebook: str) -> Canvas:
    """Draw what stands at the head of a notebook, such as "02_temperature"."""
    canvas = import_module(f"{__package__}.{notebook.partition('_')[2]}").draw()
    assert isinstance(canvas, Canvas)
    return canvas


def main() -> None:
    DRAWINGS.mkdir(exist_ok=True)
    for notebook in notebook_names():
        (DRAWINGS / f"{notebook}.svg").write_text(drawing(notebook).svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
