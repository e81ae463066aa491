"""Saved pages in a browser: what a widget shows before its kernel runs, and what a run leaves in the saved file."""

import json
import shutil
import time
from pathlib import Path

import nbformat
import pytest
from lab import Lab, kernel_of
from opened import open_page, run_all_cells
from playwright.sync_api import Browser, Locator, Page, expect
from reduced import reads_and_binds

from distill_helpers.course.drawings.canvas import WIDTH
from distill_helpers.course.folders import DRAWINGS, NOTEBOOKS
from distill_helpers.course.notebooks import read_source
from distill_helpers.course.widgets import FIRST_STATE, WIDGET_VIEW

pytestmark = pytest.mark.slow

#: The notebook with the fewest seconds; its widget has two pictures.
NAME = "03_t_squared"
NEWS, BROKEN = "official Jupyter news", "Error displaying widget"

SOURCE = """# %%
import ipywidgets

from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.widgets import live

# %% [markdown]
# **Predict first:** what does it print?

# %%
for number in ProgressWidget("three steps").over(range(3)):
    print("step", number)

# %%
box = live(lambda n: f"<p>n is {n}</p>", n=ipywidgets.IntSlider(3, 0, 9))
box
"""


def test_before_the_first_run_a_widget_shows_its_first_state(browser: Browser, lab: Lab) -> None:
    shutil.copy(NOTEBOOKS / f"{NAME}.ipynb", lab.root)
    shutil.copytree(DRAWINGS, lab.root / DRAWINGS.name, dirs_exist_ok=True)
    cells = nbformat.read(NOTEBOOKS / f"{NAME}.ipynb", as_version=4).cells
    with_widget = [
        number
        for number, cell in enumerate(cells)
        if cell.cell_type == "code" and "live" in reads_and_binds(cell.source)[0]
    ]
    assert with_widget
    with open_page(f"{NAME}.ipynb", browser, lab) as (page, complaints):
        drawing = page.locator("img[src*='drawings']")
        expect(drawing).to_be_visible()
        assert drawing.evaluate("e => e.complete && e.naturalWidth") == WIDTH
        prediction = next(n for n, cell in enumerate(cells) if cell.metadata.get("jupyter", {}).get("outputs_hidden"))
        expect(scroll_to(page, prediction).locator(".jp-OutputPlaceholder")).to_be_visible()
        for number in with_widget:
            expect(scroll_to(page, number).locator(".jp-InputPlaceholder")).to_be_visible()
            state = scroll_to(page, number).locator(f".{FIRST_STATE}")
            expect(state).to_be_visible()
            assert all(image.evaluate("e => e.complete && e.naturalWidth > 0") for image in state.locator("img").all())
            assert state.locator("li").count() >= 1
        expect(page.get_by_text(BROKEN)).to_have_count(0)
        expect(page.get_by_text(NEWS)).to_have_count(0)
        assert complaints == []


def test_a_run_shows_the_live_widget_and_leaves_no_dead_output_in_the_saved_file(
    browser: Browser, lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "small.py").write_text(SOURCE)
    file = lab.root / "small.ipynb"
    nbformat.write(read_source(tmp_path / "small.py"), file)
    with open_page(file.name, browser, lab) as (page, complaints), kernel_of(lab, file.name):
        run_all_cells(page)
        expect(page.locator(".widget-vbox")).to_be_visible()
        expect(page.locator(".jp-OutputArea .widget-hprogress")).to_have_count(0)
        expect(page.get_by_text("step 2")).to_be_visible()  # it was folded, for the reader to predict
        page.locator(".widget-vbox [role=slider]").press("Home")
        expect(page.locator(".widget-vbox").get_by_text("n is 0")).to_be_visible()
        saved_at = file.stat().st_mtime
        page.keyboard.press("ControlOrMeta+s")
        wait_until_saved(file, saved_at)
        expect(page.get_by_text(NEWS)).to_have_count(0)
        assert complaints == []
    cells = json.loads(file.read_text())["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    assert sum(WIDGET_VIEW in data for data in shown) == 1
    assert "IntProgress" not in json.dumps(shown)
    with open_page(file.name, browser, lab) as (page, complaints):
        # As the reader left it: the settings of `make course` save the widget's state.
        expect(page.locator(".widget-vbox").get_by_text("n is 0")).to_be_visible()
        expect(page.get_by_text(BROKEN)).to_have_count(0)
        assert complaints == []


def scroll_to(page: Page, number: int) -> Locator:
    """Bring a cell of the open notebook on the screen; JupyterLab draws outputs only near the window."""
    cell = page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{number}']")
    for _ in range(100):
        if cell.locator(".jp-OutputArea-output, .jp-OutputPlaceholder").count():
            break
        page.locator(".jp-Notebook .jp-WindowedPanel-outer").evaluate("panel => panel.scrollBy(0, 500)")
        page.wait_for_timeout(50)
    cell.scroll_into_view_if_needed()
    return cell


def wait_until_saved(file: Path, before: float) -> None:
    deadline = time.monotonic() + 30
    while file.stat().st_mtime == before:
        assert time.monotonic() < deadline, "not saved in time"
        time.sleep(0.1)
