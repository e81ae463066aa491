"""A notebook in a page, whose cells are all executed by the menu, as a learner does it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import nbformat
from lab import Kernel, Lab, kernel_of
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request
from reduced import Reduced, reduce_notebook

from distill_helpers.course.folders import NOTEBOOKS

__all__ = ["Opened", "open_and_run", "open_page", "run_all_cells"]

CELLS_TIMEOUT = 240.0
"""Seconds for the cells of one reduced notebook; the slowest takes 50 on two cores."""

EXECUTION_COUNTS = """
[...jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type == "code")
    .map(cell => cell.executionCount)
"""
"""The numbers in front of the code cells; null until a cell has ended. `Lab` shows the application to the page."""


@dataclass(frozen=True)
class Opened:
    """An open notebook.

    Args:
        name: without the ending.
        page, kernel, reduced: what is driven, what answers, what was opened.
        complaints: errors in the page, and addresses outside JupyterLab that it asked for; grows as they come.
    """

    name: str
    page: Page
    kernel: Kernel
    reduced: Reduced
    complaints: list[str]


@contextmanager
def open_and_run(name: str, browser: Browser, lab: Lab) -> Iterator[Opened]:
    """Open the reduced copy of a notebook, such as "02_temperature", in a page of its own, and run all its cells.

    Raises:
        AssertionError: a cell failed, or the cells did not end in time.
    """
    reduced = reduce_notebook(NOTEBOOKS / f"{name}.ipynb")
    file = f"{name}.ipynb"
    nbformat.write(reduced.notebook, lab.root / file)
    with open_page(file, browser, lab) as (page, complaints), kernel_of(lab, file) as kernel:
        run_all_cells(page)
        yield Opened(name, page, kernel, reduced, complaints)


@contextmanager
def open_page(file: str, browser: Browser, lab: Lab) -> Iterator[tuple[Page, list[str]]]:
    """Open a file of JupyterLab's folder without running it; yield the page, and its complaints as in `Opened`."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    complaints = _listen(page, lab)
    try:
        page.goto(lab.address(file), timeout=60_000)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        yield page, complaints
    finally:
        page.close()
        lab.shut_down(file)


def run_all_cells(page: Page) -> None:
    """Run all cells by the menu and wait until they have ended.

    Raises:
        AssertionError: a cell failed, or the cells did not end in time.
    """
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    _wait_for_cells(page)


def _listen(page: Page, lab: Lab) -> list[str]:
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"console: {message.text}")

    def on_error(error: Error) -> None:
        complaints.append(f"uncaught: {error}")

    def on_request(request: Request) -> None:
        if not request.url.startswith((lab.url, "data:", "blob:")):
            complaints.append(f"asked for {request.url}")

    page.on("console", on_console)
    page.on("pageerror", on_error)
    page.on("request", on_request)
    return complaints


def _wait_for_cells(page: Page) -> None:
    deadline = time.monotonic() + CELLS_TIMEOUT
    while True:
        failed = page.locator(".jp-Notebook .jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']")
        assert not failed.count(), f"a cell failed:\n{failed.first.inner_text()}"
        # A folded cell has no prompt to read, so the model is asked.
        counts = page.evaluate(EXECUTION_COUNTS)
        if None not in counts:
            return
        assert time.monotonic() < deadline, f"cells still run: {counts}"
        page.wait_for_timeout(200)
