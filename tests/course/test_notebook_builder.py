"""From a source to a notebook: solutions folded, widgets as HTML, text carried over without executing."""

import re
from pathlib import Path

import nbformat
import pytest

from distill_helpers.course import notebooks
from distill_helpers.course.notebooks import build, head_of, publish_table, read_source, update_text

SOURCE = """# %% [markdown]
# # A title
#
# <!-- solution 09.1 -->

# %%
print(6 * 7)
"""

WITH_WIDGETS = """# %%
import ipywidgets

from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.widgets import live

for number in ProgressWidget("two steps").over(range(2)):
    print(number)

# %%
live(lambda n: f"<p>n is {n}</p>", n=ipywidgets.IntSlider(3, 0, 9))
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebooks, "SOLUTIONS", tmp_path / "solutions")
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "09_1.py").write_text("def f():\n    return 42\n")
    (tmp_path / "source").mkdir()
    path = tmp_path / "source" / "09_title.py"
    path.write_text(SOURCE)
    return path


def test_a_solution_is_folded_into_its_place(source: Path) -> None:
    text = read_source(source).cells[0].source
    assert "<details><summary>Solution</summary>\n\n```python\ndef f():\n    return 42\n```\n\n</details>" in text
    source.write_text(SOURCE.replace("09.1", "09.2"))
    with pytest.raises(FileNotFoundError, match=r"09_2\.py"):
        read_source(source)


FOLDED = """# %%
import math
from pathlib import Path

# %% [markdown]
# Think of a number. **Predict
# first:** is it even?

# %%
print(math.pi)

# %%
fig, axes = figure("A line")
with_alt_text(fig, "A straight line that rises.")

# %%
slider = live(lambda n: f"<p>{n}</p>", n=ipywidgets.IntSlider())
slider

# %% [markdown]
# It was odd.

# %%
import statistics

print(statistics.mean([1, 2]))
"""


def test_imports_and_drawing_are_folded_and_so_is_what_a_reader_predicts_until_it_is_run(source: Path) -> None:
    source.write_text(FOLDED)
    cells = [cell for cell in read_source(source).cells if cell.cell_type == "code"]
    assert [cell.metadata.get("jupyter", {}) for cell in cells] == [
        {"source_hidden": True},
        {"outputs_hidden": True},
        {"source_hidden": True, "outputs_hidden": True},
        {"source_hidden": True},  # the output of a widget is what one plays with
        {},
    ]
    first = [cell.source.splitlines()[0] for cell in cells]
    assert first[2:4] == ["# This cell draws the figure.", "# This cell makes the widget."]
    assert [line[0] for line in first[:2] + first[4:]] == ["i", "p", "i"]


@pytest.mark.slow
def test_text_is_carried_over_and_changed_code_is_not(source: Path, tmp_path: Path) -> None:
    assert build(source) > 0
    source.write_text(SOURCE.replace("A title", "A better title") + "\n# %% [markdown]\n# The end\n")
    update_text(source)
    notebook = nbformat.read(tmp_path / "09_title.ipynb", as_version=4)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "markdown"]
    assert notebook.cells[0].source.startswith("# A better title")
    assert notebook.cells[1].outputs[0].text == "42\n"
    assert notebook.cells[1].execution_count == 1
    source.write_text(SOURCE.replace("6 * 7", "6 * 8"))
    with pytest.raises(ValueError, match=r"the code of 09_title\.py has changed"):
        update_text(source)


def test_a_changed_quiz_is_carried_over_like_text(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_text('# %%\nprint(1)\n\n# %%\nHTML(render_quiz("09_title"))\n')
    saved = read_source(source)
    outputs = {"text/html": "<h4>an older question</h4>", "text/plain": "<IPython.core.display.HTML object>"}
    saved.cells[0]["outputs"] = [nbformat.v4.new_output("stream", text="1\n")]
    saved.cells[1]["outputs"] = [nbformat.v4.new_output("execute_result", outputs)]
    nbformat.write(saved, tmp_path / "09_title.ipynb")
    monkeypatch.setattr(notebooks, "render_quiz", lambda name: f"<h4>the question of {name}</h4>")
    update_text(source)
    first, quiz = nbformat.read(tmp_path / "09_title.ipynb", as_version=4).cells
    assert first.outputs[0].text == "1\n"
    assert quiz.outputs[0]["data"] == {**outputs, "text/html": "<h4>the question of 09_title</h4>"}


@pytest.mark.slow
def test_a_run_leaves_html_in_the_place_of_widgets_and_nothing_of_a_progress_bar(source: Path, tmp_path: Path) -> None:
    source.write_text(WITH_WIDGETS)
    build(source)
    notebook = nbformat.read(tmp_path / "09_title.ipynb", as_version=4)
    assert "widgets" not in notebook.metadata
    bar, shown = (cell.outputs for cell in notebook.cells)
    assert [(output.output_type, output.text) for output in bar] == [("stream", "0\n1\n")]
    (widget,) = shown
    assert set(widget.data) == {"text/html", "text/plain"}
    assert "<p>n is 3</p>" in widget.data["text/html"]


HEAD = "# # {}\n#\n# <!-- teaches: {} -->\n#\n# about {} minutes of reading\n# and {} of exercises"
WITH_HEADS = {
    "00_first": HEAD.format("00 · The first", "a thing", 5, 7),
    "01_second": HEAD.format("01 · The second", "more", 6, 8),
}


@pytest.fixture
def two_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in WITH_HEADS.items():
        (tmp_path / f"{name}.py").write_text(f"# %% [markdown]\n{text}\n\n# %% [markdown]\n# <!-- map -->\n")
    monkeypatch.setattr(notebooks, "SOURCES", tmp_path)
    return tmp_path


def test_the_map_lists_all_notebooks_and_the_head_keeps_its_phrase_for_tables(two_sources: Path) -> None:
    head, course_map = read_source(two_sources / "01_second.py").cells
    assert "teaches" not in head.source
    assert course_map.source.splitlines()[2:] == [
        "| [00 · The first](00_first.ipynb) | a thing |",
        "| **01 · The second** | more |",
    ]


@pytest.mark.parametrize(
    ("cut", "needed"),
    [("00 · ", "a title"), ("<!-- teaches: a thing -->", "a line '<!-- teaches"), ("reading", "minutes of reading")],
)
def test_a_head_that_lacks_something_says_what(two_sources: Path, cut: str, needed: str) -> None:
    source = two_sources / "00_first.py"
    source.write_text(source.read_text().replace(cut, ""))
    with pytest.raises(ValueError, match=rf"first cell of 00_first\.py needs .*{re.escape(needed)}"):
        head_of(source)


def test_the_readmes_table_is_made_from_the_heads_and_keeps_the_times_of_what_was_not_run(two_sources: Path) -> None:
    readme = two_sources / "README.md"
    readme.write_text("before\n<!-- notebooks -->\n<!-- end notebooks -->\nafter\n")
    publish_table({"01_second": 12.4}, readme)
    publish_table({"00_first": 3.0}, readme)
    first, second = readme.read_text().splitlines()[5:7]
    assert first == "| [00 · The first](notebooks/00_first.ipynb) | a thing | 5 + 7 min | 3 s |"
    assert second == "| [01 · The second](notebooks/01_second.ipynb) | more | 6 + 8 min | 12 s |"
    assert readme.read_text().startswith("before\n")
    assert readme.read_text().endswith("\nafter\n")
    readme.write_text("no marks")
    with pytest.raises(ValueError, match=r"README\.md needs the marks <!-- notebooks --> and <!-- end notebooks -->"):
        publish_table({}, readme)
