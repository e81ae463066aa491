"""Names of classes and models, messages and columns come from anywhere: no page that is made of them runs them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch
from api_prices import price
from markdown_it import MarkdownIt
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from distill_helpers import DistillationConfig, TextClassifier, load_course_model
from distill_helpers.api.costs.price_table import PriceTable
from distill_helpers.api.review.sampling import ReviewItem
from distill_helpers.api.review.sheet import ReviewSheet
from distill_helpers.api.review.widget import render_item, render_progress
from distill_helpers.course import quiz, widgets
from distill_helpers.course.figures import dot_figure, figure, figure_html, html_table, probability_bars, with_alt_text
from distill_helpers.course.logs import markdown_table
from distill_helpers.course.widgets import api_distillation, feature_distillation, landmark_systems, language_models
from distill_helpers.course.widgets.response_distillation import render_soft_targets
from distill_helpers.course.widgets.start_here import render_side_by_side
from distill_helpers.course.widgets.t_squared import render_t_squared
from distill_helpers.course.widgets.temperature import render_temperature
from distill_helpers.llm.synthetic_data import SyntheticMessage
from distill_helpers.models.text_models import label_options
from distill_helpers.training.model_card import write_model_card

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><b>',
    "' onmouseover='alert(1)",
    "&amp;",
    "a|b",
    "`code`",
    "two\n\nlines",
    "{{7*7}}",
    "$\\frac{1}$ $",
    "_hidden_",
)

LOGITS = torch.tensor([[2.0, 1.0], [0.5, 1.5], [1.0, 0.2]])


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.text += " ".join(value or "" for name, value in attrs if name == "alt")

    def handle_data(self, data: str) -> None:
        self.text += data


def pair(name: str) -> tuple[str, str]:
    return f"{name} 1", f"{name} 2"


@pytest.fixture(scope="module")
def student() -> TextClassifier:
    return load_course_model("help-desk-student", device="cpu")


def named_student(names: list[str], student: TextClassifier) -> TextClassifier:
    student.model.config.id2label = dict(enumerate(names))
    return student


def filters(name: str) -> str:
    names = pair(name)
    messages = [SyntheticMessage(f"{name} word {i}", names[i % 2]) for i in range(3)]
    known = {f"{name} set": ["known text"]}
    return landmark_systems.render_filters(0.5, 0.9, 1, messages=messages, logits=LOGITS, names=names, known=known)


def next_token(name: str) -> str:
    words = [f"{name} {i}" for i in range(10)]
    return language_models.render_next_token(
        2,
        token_ids=[1, 2, 3],
        logits=dict.fromkeys(pair(name), torch.arange(30.0).view(3, 10)),
        text_of=lambda ids: " ".join(words[i] for i in ids),
    )


def cost(name: str) -> str:
    prices = PriceTable([price(pair(name)[0], provider=name), price(pair(name)[1], provider=name)])
    return api_distillation.render_cost(pair(name)[0], 1000, 50, 10, 0.5, False, prices=prices)


def trust(name: str) -> str:
    p = LOGITS.softmax(-1).numpy()
    return api_distillation.render_trust(1.0, False, probabilities=p, labels=np.array([0, 1, 0]), names=pair(name))


def written_quiz(name: str) -> str:
    name = name.replace("`", "´")  # what stands between backticks is code
    choices = (quiz.Choice(f"{name} a", f"{name} since", True), quiz.Choice(f"{name} b", f"{name} no"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quiz, "load_quiz", lambda _: [quiz.Question("q", f"{name}?", "computed", choices)])
        return quiz.render_quiz(name)


def review(name: str) -> str:
    with TemporaryDirectory() as folder:
        sheet = ReviewSheet(Path(folder) / "v.jsonl", [ReviewItem(f"{name} input", pair(name)[0])], pair(name))
        sheet.judge(0, "wrong", pair(name)[1])
        return render_item(sheet, 0, f"{name} note") + render_progress(sheet)


def picture(name: str) -> str:
    table = pd.DataFrame({"model": pair(name), "seed": [0, 0], "x": [1.0, 2.0]})
    fig = dot_figure(table, "x", title="A title", label="x (m)", references={name: 1.5})
    return figure_html(fig, f"A picture of {name}, and of others.")


def live_widget(name: str) -> str:
    menu = ipywidgets.Dropdown(options=pair(name), description=f"{name} menu")
    text = ipywidgets.Text(f"{name} typed", description=f"{name} text")
    bundle = widgets.live(lambda menu, text: "<p>shown</p>", menu=menu, text=text)._repr_mimebundle_()
    return str(bundle["text/html"])


def markdown_page(markdown: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def log_table(name: str) -> str:
    frame = pd.DataFrame({name: [1.5, None], f"{name} text": pair(name)}, index=[f"{name} x", f"{name} y"])
    return markdown_page(markdown_table(frame, ("", ".1f", "")))


def model_card(name: str) -> str:
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=9, **size, **label_options(pair(name))))
    model.config.model_type = name
    history = pd.DataFrame({"epoch": [1.0], "eval_accuracy": [0.5], "eval_loss": [0.7], "eval_nll": [0.7]})
    with TemporaryDirectory() as folder:
        args = TrainingArguments(output_dir=folder, report_to="none", use_cpu=True)
        path = write_model_card(Path(folder), model, DistillationConfig(), history, args, "accuracy")
        _, header, card = path.read_text(encoding="utf-8").split("---\n", 2)
        assert pair(name)[0] not in header
        return markdown_page(card)


#: What makes HTML or Markdown of names and texts, each as a function of a single name that stands everywhere.
CASES: dict[str, Callable[[str], str]] = {
    "render_cost": cost,
    "render_trust": trust,
    "render_filters": filters,
    "render_next_token": next_token,
    "render_soft_targets": lambda name: render_soft_targets(
        0, 2.0, texts=[f"{name} text"] * 3, labels=[0, 1, 0], names=pair(name), logits=LOGITS
    ),
    "render_temperature": lambda name: render_temperature(
        0, 2.0, texts=[f"{name} text"] * 3, names=pair(name), logits=LOGITS
    ),
    "render_quiz": written_quiz,
    "render_item and render_progress": review,
    "html_table": lambda name: html_table(pair(name), [pair(name), (name, 1)], caption=name, highlight=name),
    "probability_bars": lambda name: probability_bars(pair(name), [[0.5, 0.5]] * 2, pair(f"{name} x"), pair(name)[0]),
    "figure_html and dot_figure": picture,
    "live": live_widget,
    "markdown_table": log_table,
    "write_model_card": model_card,
}
MODEL_CASES: dict[str, Callable[[str, TextClassifier], str]] = {
    "render_side_by_side": lambda name, student: render_side_by_side(
        f"{name} text",
        teacher=named_student([f"{name} {i}" for i in range(5)], student),
        student=named_student([f"{name} {i}" for i in range(5)], student),
    ),
    "render_attention": lambda name, model: feature_distillation.render_attention(f"{name} text", 0, 0, model=model),
}
#: They take numbers, or a choice among names of their own.
WITHOUT_NAMES = {
    "render_bias",
    "render_business_case",
    "render_draws",
    "render_layer_map",
    "render_modes",
    "render_record",
    "render_reliability",
    "render_simplex",
    "render_student",
    "render_t_squared",
    "render_top_k",
}


def assert_same_structure(page: str, harmless: str) -> None:
    assert Structure(page).elements == Structure(harmless).elements


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("case", CASES)
def test_a_hostile_name_adds_no_element_and_no_attribute(case: str, name: str) -> None:
    page = CASES[case](name)
    assert_same_structure(page, CASES[case]("name"))
    if case != "render_quiz":
        assert " ".join(name.split()) in " ".join(Structure(page).text.replace("␣", " ").replace("↵", " ").split())


@pytest.mark.parametrize("case", MODEL_CASES)
@pytest.mark.slow
def test_a_models_hostile_classes_and_tokens_add_none_either(case: str, student: TextClassifier) -> None:
    for name in HOSTILE if case == "render_side_by_side" else ("<b>", "$\\frac{1}$ $"):  # drawing takes a while
        assert_same_structure(MODEL_CASES[case](name, student), MODEL_CASES[case]("name", student))


def test_no_render_function_is_left_out() -> None:
    found = set()
    for module in pkgutil.iter_modules(widgets.__path__, f"{widgets.__name__}."):
        found |= {name for name in importlib.import_module(module.name).__all__ if name.startswith("render_")}
    known = {name for name in (*CASES, *MODEL_CASES) if name in found} | WITHOUT_NAMES
    assert found == known, "give a function that shows names or texts a case here; enter any other in WITHOUT_NAMES"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_choice_among_names_of_its_own_refuses_another_one(name: str) -> None:
    with pytest.raises(ValueError, match="unknown pair"):
        render_t_squared(2.0, name)
    with pytest.raises(ValueError, match="unknown map"):
        feature_distillation.render_layer_map(2, 4, name)


@pytest.mark.slow
def test_an_alternative_text_stays_text() -> None:
    fig, axes = figure("A title")
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    for name in HOSTILE[:4]:
        _, metadata = with_alt_text(fig, f"A picture of {name} in text.")._repr_mimebundle_()
        assert metadata["image/png"]["alt"] == f"A picture of {name} in text."
