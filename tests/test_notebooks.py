"""About the notebooks themselves. That their outputs are right is nbval's to say, in the same run."""

import ast
import base64
import inspect
import io
import json
import re

import ipywidgets
import nbformat
import numpy as np
import pytest
from PIL import Image
from reduced import reduce_notebook

from distill_helpers.course.folders import NOTEBOOKS, ROOT, SOURCES, notebook_names
from distill_helpers.course.notebooks import head_of, read_source, table_of_notebooks
from distill_helpers.course.widgets import FIRST_STATE, WIDGET_VIEW

NAMES = notebook_names()

#: Cells whose output nbval does not compare, or that it skips: notebook → how many, and why that is right.
NOT_COMPARED: dict[str, tuple[int, str]] = {}


@pytest.fixture(params=NAMES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def notebook(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def prose(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_every_notebook_has_a_source_and_the_other_way_round() -> None:
    assert NAMES, "no sources found"
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES


@pytest.mark.slow
def test_notebook_is_made_from_its_source(name: str, notebook: nbformat.NotebookNode) -> None:
    source = read_source(SOURCES / f"{name}.py")
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in source.cells]


def test_notebook_is_valid(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)


def test_executed_from_top_to_bottom_in_a_fresh_kernel(notebook: nbformat.NotebookNode) -> None:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_there_and_clean(notebook: nbformat.NotebookNode) -> None:
    assert len(outputs(notebook)) >= len(code_cells(notebook)) / 2
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.get("text")


def test_no_path_of_a_machine_and_no_warning(notebook: nbformat.NotebookNode) -> None:
    text = json.dumps([notebook.cells, notebook.metadata])
    assert not re.search(r"(/home/|/root/|/Users/|/work/|/tmp/|[A-Z]:\\\\Users)", text)
    assert "Warning" not in json.dumps(outputs(notebook))


def test_no_price_is_read_as_a_formula(notebook: nbformat.NotebookNode) -> None:
    """Some renderers set what stands between two dollar signs as mathematics, even with a backslash before them."""
    price = r"\\\$|\$\d[\d,.]*(?=[ )](?:a|an|and|are|each|for|in|is|of|or|per|times|to|would)\b)"
    assert not re.findall(price, prose(notebook)), "write '3 cents' or '5 dollars'"


def test_pictures_have_alternative_texts(notebook: nbformat.NotebookNode) -> None:
    for output in outputs(notebook):
        if "image/png" in output.get("data", {}):
            assert len(output.metadata.get("image/png", {}).get("alt", "")) >= 20
    assert not re.search(r"!\[\]\(", prose(notebook))


def test_no_picture_is_cut_off(notebook: nbformat.NotebookNode) -> None:
    """Where a title, a label or a note is longer than its figure, there is ink at the edge."""
    for output in outputs(notebook):
        data = output.get("data", {})
        pictures = re.findall(r"data:image/png;base64,([^']+)", str(data.get("text/html", "")))
        for picture in [*pictures, *([data["image/png"]] if "image/png" in data else [])]:
            ink = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")).min(axis=2) < 128
            assert not ink[[0, -1]].any(), output.metadata
            assert not ink[:, [0, -1]].any(), output.metadata


def test_widgets_show_their_first_state(notebook: nbformat.NotebookNode) -> None:
    with_widget = [cell for cell in code_cells(notebook) if re.search(r"\blive\(", cell.source)]
    assert with_widget, "a notebook has at least one widget"
    for cell in with_widget:
        (html,) = [output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]
        assert html.startswith(f"<div class='{FIRST_STATE} ")


def test_no_output_is_a_widget_that_nothing_runs(notebook: nbformat.NotebookNode) -> None:
    assert "widgets" not in notebook.metadata
    classes = {name for name, value in vars(ipywidgets).items() if inspect.isclass(value)}
    for output in outputs(notebook):
        data = output.get("data", {"text/plain": ""})
        assert data, "an empty output, such as a progress bar's"
        assert WIDGET_VIEW not in data
        assert data.get("text/plain", "").partition("(")[0] not in classes


def test_the_map_lists_every_notebook() -> None:
    (cell,) = [
        cell
        for cell in nbformat.read(NOTEBOOKS / "00_start_here.ipynb", as_version=4).cells
        if cell.cell_type == "markdown" and cell.source.startswith("## The map")
    ]
    rows = re.findall(r"(?m)^\| (?:\*\*|\[)(\d\d) · .+?(?:\*\*|\]\((\w+)\.ipynb\)) \| .+ \|$", cell.source)
    assert [number for number, _ in rows] == [name[:2] for name in NAMES]
    assert [link for _, link in rows] == ["", *NAMES[1:]]


@pytest.mark.slow
def test_the_readme_lists_every_notebook() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- notebooks -->\n\n{table_of_notebooks({}, readme)}\n\n<!-- end notebooks -->" in readme


def test_cells_that_nbval_does_not_compare_are_counted_and_justified(
    name: str, notebook: nbformat.NotebookNode
) -> None:
    marked = [cell for cell in code_cells(notebook) if re.search(r"NBVAL_(IGNORE|SKIP|RAISES)", cell.source)]
    assert all("nbval" not in " ".join(cell.metadata.get("tags", [])).lower() for cell in code_cells(notebook))
    allowed, reason = NOT_COMPARED.get(name, (0, ""))
    assert len(marked) == allowed, f"{len(marked)} cells are not compared, {allowed} are justified: {reason}"


def test_length(notebook: nbformat.NotebookNode) -> None:
    assert len(notebook.cells) <= 60
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 25, cell.source[:80]


def test_a_page_has_at_most_3000_words_with_its_hints_and_solutions(notebook: nbformat.NotebookNode) -> None:
    assert len(prose(notebook).split()) <= 3000


def test_sections_that_every_notebook_has(name: str, notebook: nbformat.NotebookNode) -> None:
    text = prose(notebook)
    assert text.startswith(f"# {name[:2]} · ")
    for needed in ("You will be able to", "**Time:**", "colab", "## The question", "redict first", "## Summary"):
        assert needed in text, f"missing: {needed}"
    assert len(re.findall(r"(?m)^### Exercise ", text)) >= 3
    sections = ("## The question", "## Exercises", "## Quiz", "## Summary")
    assert [text.index(f"\n{section}\n") for section in sections] == sorted(
        text.index(f"\n{section}\n") for section in sections
    )
    assert len(re.findall(r"(?m)^- ", text.split("\n## Summary\n")[1].split("\n**")[0])) == 5
    assert "**References.**" in text, "missing: **References.**"
    assert 3 <= len(re.findall(r"^- \*\w+\*", text.split("**Time:**")[0], flags=re.M)) <= 5, "three to five verbs"


def test_the_browser_tests_find_every_widget(name: str, notebook: nbformat.NotebookNode) -> None:
    calls = [
        node
        for cell in code_cells(notebook)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "live"
    ]
    found = reduce_notebook(NOTEBOOKS / f"{name}.ipynb").widgets
    assert len(found) == len(calls), "write each widget as `name = live(render, **controls)`"


def test_links_resolve(name: str, notebook: nbformat.NotebookNode) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(notebook))
    assert targets
    for target in targets:
        if not target.startswith("http"):
            assert (NOTEBOOKS / target.split("#")[0]).exists(), f"{name} links {target}"


@pytest.fixture(scope="module")
def defined_in_the_package() -> set[str]:
    return {
        node.name
        for path in (ROOT / "distill_helpers").rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def test_nothing_of_the_package_is_defined_again(
    notebook: nbformat.NotebookNode, defined_in_the_package: set[str]
) -> None:
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in defined_in_the_package, (
                    f"{node.name} is defined in a notebook and in the package"
                )


def test_the_head_says_how_long_the_exercises_take(name: str) -> None:
    source = SOURCES / f"{name}.py"
    minutes = re.findall(r"(?m)^# ### Exercise .* (\d+) min\)$", source.read_text(encoding="utf-8"))
    assert abs(head_of(source).exercises - sum(map(int, minutes))) <= 2


def test_time_is_published_and_within_bounds(name: str) -> None:
    (line,) = [line for line in (ROOT / "README.md").read_text().splitlines() if f"(notebooks/{name}.ipynb)" in line]
    seconds = re.fullmatch(r"(\d+) s", line.strip("|").split("|")[-1].strip())
    assert seconds, f"no time in the README for {name}; run `make notebooks`"
    assert int(seconds[1]) <= 150


def test_the_source_folder_holds_nothing_else() -> None:
    assert {path.suffix for path in SOURCES.iterdir() if path.is_file()} == {".py"}
