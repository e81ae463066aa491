"""Notebook 07: its widgets, and the keys of its quiz."""

import inspect
import re

import pytest
import torch
from scipy import stats
from transformers import BertConfig, BertModel

from distill_helpers import alternating_layers, load_course_model, load_help_desk
from distill_helpers.course.experiments.landmarks import EPOCHS, EPOCHS_FROM_RANDOM, N_TRANSFER
from distill_helpers.course.folders import SOURCES
from distill_helpers.course.logs import read_log
from distill_helpers.course.quiz import Question, load_quiz
from distill_helpers.course.widgets.landmark_systems import (
    _LABELS,
    PUBLISHED,
    Shape,
    parameter_counts,
    render_filters,
    render_student,
)
from distill_helpers.landmarks import Training, data_driven
from distill_helpers.llm.message_filters import filter_messages
from distill_helpers.llm.synthetic_data import SyntheticMessage
from distill_helpers.models.architectures import transformer_layers


def bert(shape: Shape) -> BertModel:
    """A BERT of that shape that takes no memory."""
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
    )
    with torch.device("meta"):
        return BertModel(config, add_pooling_layer=False)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("shape", [*PUBLISHED.values(), Shape(1, 48, 1, 50, 1000), Shape(3, 96, 4, 100, 77)])
def test_parameters_are_those_of_a_bert(shape: Shape) -> None:
    model = bert(shape)
    assert parameter_counts(shape) == (count(model.embeddings), count(model.encoder))


@pytest.mark.slow
def test_our_teacher_has_the_shape_that_is_written_down() -> None:
    teacher = load_course_model("help-desk-teacher", device="cpu").model
    embeddings, in_layers = parameter_counts(PUBLISHED["our teacher"])
    assert in_layers == count(transformer_layers(teacher))
    assert 0 < count(teacher) - embeddings - in_layers < 0.01 * count(teacher)  # pooler and head


@pytest.mark.parametrize(
    ("name", "millions"), [("BERT-base", 110), ("DistilBERT, 6-layer MiniLM", 66), ("TinyBERT, 4 layers", 14.5)]
)
def test_published_totals(name: str, millions: float) -> None:
    # The papers count pooler or heads as well.
    assert sum(parameter_counts(PUBLISHED[name])) == pytest.approx(1e6 * millions, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 6, 24])
@pytest.mark.parametrize("width", [48, 312, 1008])
@pytest.mark.parametrize("feed_forward", [48, 1200, 4080])
def test_the_designer_over_its_whole_range(layers: int, width: int, feed_forward: int) -> None:
    for heads, vocabulary in ((1, 1000), (12, 60_000)):
        markup = render_student(layers, width, heads, feed_forward, vocabulary)
        embeddings, in_layers = parameter_counts(Shape(layers, width, heads, feed_forward, vocabulary))
        for number in (embeddings, in_layers, embeddings + in_layers):
            assert f"<td>{number:,}</td>" in markup
        assert re.search(r"<img [^>]*alt='[^']{20,}'", markup)


def test_every_published_shape_has_a_place_for_its_name() -> None:
    assert set(_LABELS) == set(PUBLISHED)


def test_the_designer_says_what_half_the_layers_are() -> None:
    markup = render_student(6, 768, 12, 3072, 30_522)
    cells = [re.findall(r"<td>(.*?)</td>", row)[1] for row in markup.split("<tr>")[2:]]
    assert cells == ["100%", "50%", "61%"]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ((0, 384, 12, 1536, 30_522), "layers must be from 1 to 24, got 0"),
        ((25, 384, 12, 1536, 30_522), "layers .* got 25"),
        ((6, 36, 12, 1536, 30_522), "width .* got 36"),
        ((6, 1020, 12, 1536, 30_522), "width .* got 1020"),
        ((6, 384, 5, 1536, 30_522), "width 384 is not a multiple of heads 5"),
        ((6, 384, 0, 1536, 30_522), "heads must be at least 1, got 0"),
        ((6, 384, 12, 40, 30_522), "feed_forward .* got 40"),
        ((6, 384, 12, 1536, 999), "vocabulary .* got 999"),
    ],
)
def test_the_designer_refuses_what_does_not_exist(parameters: tuple[int, int, int, int, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        render_student(*parameters)


NAMES = ("mac", "windows")
MESSAGES = [
    SyntheticMessage("my old apple printer does not answer the system any more", "mac"),
    SyntheticMessage("my old apple printer does not answer the systems any more", "mac"),
    SyntheticMessage("which program draws <b>the</b> icons on the screen of windows", "windows"),
    SyntheticMessage("too short", "windows"),
    SyntheticMessage("a text that stands in the test set word for word already", "windows"),
]
LOGITS = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.1, 0.9]]).log()
KNOWN = {"test": ["a text that stands in the test set word for word already"]}


def filters(min_confidence: float, max_similarity: float, min_words: int) -> str:
    return render_filters(
        min_confidence, max_similarity, min_words, messages=MESSAGES, logits=LOGITS, names=NAMES, known=KNOWN
    )


def kept(markup: str) -> list[bool]:
    return ["✓" in verdict for verdict in re.findall(r">([✓✗] \w+)</td>", markup)]


@pytest.mark.parametrize(
    ("parameters", "stay"),
    [
        ((0.5, 0.8, 8), [True, False, False, False, False]),
        ((0.0, 0.8, 8), [True, False, True, False, False]),
        ((0.0, 1.0, 8), [True, True, True, False, False]),
        ((0.0, 1.0, 1), [True, True, True, True, False]),
        ((0.85, 1.0, 1), [True, False, False, True, False]),
        ((1.0, 0.5, 12), [False] * 5),
    ],
)
def test_filters_over_their_range(parameters: tuple[float, float, int], stay: list[bool]) -> None:
    markup = filters(*parameters)
    assert kept(markup) == stay
    assert f"<b>{sum(stay)} of 5 messages are kept</b>" in markup
    assert "<td>0.40</td>" in markup  # of the topic asked for, not of the likelier one
    assert "&lt;b&gt;the&lt;/b&gt;" in markup


@pytest.mark.parametrize("parameters", [(-0.1, 0.8, 8), (1.1, 0.8, 8), (0.5, 0.0, 8), (0.5, 1.5, 8), (0.5, 0.8, 0)])
def test_filters_refuse_what_does_not_exist(parameters: tuple[float, float, int]) -> None:
    bad = next(value for value in parameters if value not in (0.5, 0.8, 8))
    with pytest.raises(ValueError, match=rf"{bad}"):
        filters(*parameters)


def test_the_reading_says_what_the_log_says() -> None:
    scores = 100 * read_log("landmarks").pivot_table(index="seed", columns="model", values="accuracy")

    def gain(name: str, other: str) -> tuple[str, str, int]:
        difference = (scores[name] - scores[other]).dropna()
        assert len(difference) == 5
        return (
            f"{abs(difference.mean()):.1f}",
            f"{difference.std() / 5**0.5:.1f}",
            int((difference > 0).sum()),
        )

    wide, narrow, pruned = "hard labels, 2 × 384", "hard labels, 3 × 192", "hard labels, 3 × 384, half the neurons"
    assert gain("DistilBERT", wide)[0] == gain("MiniLM", wide)[0] == "5.5"
    assert gain(f"{wide}, from the teacher", wide) == ("4.6", "0.4", 5)
    assert gain("DistilBERT", f"{wide}, from the teacher")[:2] == ("0.9", "0.5")
    assert gain("MiniLM", f"{wide}, from the teacher")[:2] == ("0.9", "0.3")
    assert gain(f"{narrow}, from the teacher", narrow)[0] == "3.4"
    assert gain("TinyBERT", f"{narrow}, from the teacher")[0] == "1.1"
    assert gain("MiniLMv2", f"{narrow}, from the teacher")[2] == 0
    assert gain("prune and heal", f"{pruned}, from the teacher") == ("1.3", "0.3", 5)
    assert gain("DistilBERT", "DistilBERT from random weights")[:2] == ("5.3", "0.7")
    assert gain("DistilBERT", "DistilBERT without soft targets")[:2] == ("0.2", "0.2")
    assert gain("TinyBERT", "TinyBERT without attention")[:2] == ("0.6", "0.3")
    assert gain("TinyBERT", "TinyBERT without augmentation")[:2] == ("0.3", "0.8")
    assert gain("data-driven (Phi-2)", wide)[:2] == ("1.2", "0.5")
    assert gain("data-driven, topics as asked", wide)[:2] == ("0.6", "0.3")


def test_the_notebook_says_how_long_the_runs_train() -> None:
    assert (EPOCHS, EPOCHS_FROM_RANDOM, N_TRANSFER) == (2, 8, 2500)
    text = (SOURCES / "07_landmark_systems.py").read_text(encoding="utf-8")
    for words in ("2,500 unlabelled texts, two passes for each stage, five seeds", "get eight passes"):
        assert words in text


def key(name: str) -> str:
    questions: dict[str, Question] = {question.name: question for question in load_quiz("07_landmark_systems")}
    return next(choice.text for choice in questions[name].choices if choice.right)


def test_quiz_distilbert_layers() -> None:
    assert key("distilbert_layers") == ", ".join(map(str, alternating_layers(6, 12)))


def test_quiz_half_the_layers() -> None:
    whole, half = (bert(PUBLISHED["BERT-base"]._replace(layers=layers)) for layers in (12, 6))
    assert key("half_the_layers") == f"by about {10 * round(10 * (1 - count(half) / count(whole)))}%"


def test_quiz_heads() -> None:
    few, many = (count(bert(PUBLISHED["our teacher"]._replace(heads=heads))) for heads in (12, 24))
    assert (key("heads") == "nothing") == (few == many)


@pytest.mark.slow
def test_quiz_data_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[tuple] = []
    monkeypatch.setattr("distill_helpers.landmarks.stages.train_stage", lambda *arguments: stages.append(arguments))
    teacher, desk = load_course_model("older-help-desk-teacher", device="cpu"), load_help_desk()
    mac = "comp.sys.mac.hardware"
    written = [
        SyntheticMessage("my old apple powerbook with system seven does not see the external scsi drive any more", mac),
        SyntheticMessage("there is nothing that anybody could say about it before next week or the one after", mac),
    ]
    data_driven(teacher, desk, written, Training(device="cpu", progress=False), real_messages=False, n_layers=1)
    ((_, _, data, config, training),) = stages
    assert data.train.texts == [written[0].text]  # of the second the teacher is not sure
    assert data.train.labels == [desk.label_names.index(mac)]
    assert (config.alpha, training.n_transfer) == (0.0, 0)
    assert key("data_driven").startswith("hard labels: the real messages with theirs, and written messages")
    desk_alone = inspect.signature(data_driven).parameters
    assert (desk_alone["relabel"].default, desk_alone["real_messages"].default) == (True, True)


def test_quiz_splits() -> None:
    new = "my powerbook does not see the external scsi drive since system seven"
    known = {
        "training": ["which program draws the icons on the screen of windows"],
        "validation": ["motif and xlib widgets on an x terminal need a font server"],
        "test": ["is there a converter from one format of images to another"],
    }
    texts = [*(texts[0] for texts in known.values()), new, new]
    messages = [SyntheticMessage(text, "mac") for text in texts]
    found = filter_messages(messages, torch.zeros(5, 1), ("mac",), known=known)
    assert found.rows == [3]
    assert key("splits") == "with training, validation and test messages, and with one another"


def test_quiz_not_shown() -> None:
    reach = stats.t.ppf(0.975, 4) * 0.6
    assert (round(-0.8 - reach, 1), round(-0.8 + reach, 1)) == (-2.5, 0.9)
    assert key("not_shown").startswith("neither")
