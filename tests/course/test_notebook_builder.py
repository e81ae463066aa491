"""From a source to a notebook: solutions folded, text carried over without executing."""

from pathlib import Path

import nbformat
import pytest

from distill_helpers.course import notebooks
from distill_helpers.course.notebooks import build, publish_times, read_source, update_text

SOURCE = """# %% [markdown]
# # A title
#
# <!-- solution 09.1 -->

# %%
print(6 * 7)
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


def test_times_are_written_into_the_line_that_links_the_notebook(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("| [a](notebooks/a.ipynb) | x | 0 s |\n| [b](notebooks/b.ipynb) | y | 0 s |\n")
    publish_times({"b": 12.4}, readme)
    assert readme.read_text() == "| [a](notebooks/a.ipynb) | x | 0 s |\n| [b](notebooks/b.ipynb) | y | 12 s |\n"
    with pytest.raises(ValueError, match="0 table lines"):
        publish_times({"c": 1.0}, readme)
