"""Reduces a notebook of the course to the cells that its widgets and its quiz need, without changing these cells.

The rule: a code cell is kept if it is a widget's, or the quiz's, or if it is the last one before a kept cell that binds
a name which the kept cell reads. Bytecode says what is read and bound, since its order is the order of execution.
"""

from __future__ import annotations

import ast
import dis
import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import nbformat

__all__ = ["Reduced", "Widget", "needed", "reads_and_binds", "reduce_notebook"]


@dataclass(frozen=True)
class Widget:
    """One `name = live(render, **controls)`.

    Args:
        cell: its position in the reduced notebook.
        name: what the box is bound to.
        render: source of the render function, such as "render_modes".
        controls: source of a dict of the controls by the render function's argument names.
    """

    cell: int
    name: str
    render: str
    controls: str


@dataclass(frozen=True)
class Reduced:
    """A notebook of code cells without outputs, its widgets, and the position of the quiz's cell."""

    notebook: nbformat.NotebookNode
    widgets: tuple[Widget, ...]
    quiz: int


@functools.cache  # a cell is asked for again for each later cell
def reads_and_binds(source: str) -> tuple[set[str], set[str]]:
    """Find the names that a cell takes from elsewhere (built-in ones included), and the names that it binds.

    Raises:
        SyntaxError: a cell that is not plain Python.
    """
    code = compile(source, "cell", "exec")
    reads: set[str] = set()
    binds: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_NAME" and instruction.argval not in binds:
            reads.add(instruction.argval)
        elif instruction.opname == "STORE_NAME":
            binds.add(instruction.argval)
    return reads | (_read_inside(code) - binds), binds


def _read_inside(code: CodeType) -> set[str]:
    """Find the names of the module that functions, classes and comprehensions in the code read."""
    names: set[str] = set()
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            names |= {i.argval for i in dis.get_instructions(inner) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
            names |= _read_inside(inner)
    return names


def needed(sources: list[str], target: int) -> list[int]:
    """Find the positions of the cells that `sources[target]` needs, its own included, in ascending order."""
    wanted, _ = reads_and_binds(sources[target])
    kept = [target]
    for position in reversed(range(target)):
        reads, binds = reads_and_binds(sources[position])
        if wanted & binds:
            kept.append(position)
            wanted = (wanted - binds) | reads
    return kept[::-1]


def reduce_notebook(path: Path) -> Reduced:
    """Reduce an executed notebook.

    Raises:
        ValueError: a notebook without exactly one quiz, or a widget that is not of the form `name = live(render, …)`.
    """
    full = nbformat.read(path, as_version=4)
    cells = [cell for cell in full.cells if cell.cell_type == "code"]
    sources = [cell.source for cell in cells]
    with_widget = [i for i, source in enumerate(sources) if "live" in reads_and_binds(source)[0]]
    quizzes = [i for i, source in enumerate(sources) if "render_quiz" in reads_and_binds(source)[0]]
    if len(quizzes) != 1:
        raise ValueError(f"{path.name} must have one quiz, has {len(quizzes)}")
    kept = sorted(set(itertools.chain.from_iterable(needed(sources, i) for i in (*with_widget, *quizzes))))
    widgets = tuple(_widget(sources[i], kept.index(i)) for i in with_widget)
    code = [nbformat.v4.new_code_cell(sources[i], id=cells[i].id) for i in kept]
    notebook = nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": full.metadata["kernelspec"]})
    return Reduced(notebook, widgets, kept.index(quizzes[0]))


def _widget(source: str, cell: int) -> Widget:
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="live"), args=[render], keywords=keywords),
            ):
                controls = ast.Call(ast.Name("dict", ast.Load()), [], keywords)
                return Widget(cell, name, ast.unparse(render), ast.unparse(controls))
    raise ValueError(f"write the widget of this cell as `name = live(render, **controls)`:\n{source}")
