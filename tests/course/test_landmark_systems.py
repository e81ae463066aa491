"""Notebook 07: its widgets, and the keys of its quiz."""

import inspect
import re

import pandas as pd
import pytest
import torch
from published_text import readme_row
from scipy import stats
from transformers import BertConfig, BertModel

from distill_helpers import alternating_layers, load_course_model, load_help_desk
from distill_helpers.course.experiments import landmark_ablations
from distill_helpers.course.experiments.fair_arms import paired_gain
from distill_helpers.course.experiments.landmark_arms import WIDE
from distill_helpers.course.experiments.landmarks import LOG, gains, gains_at_the_other_rate, summary
from distill_helpers.course.folders import ROOT, SOURCES
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


PAGE = " ".join(re.sub(r"(?m)^# ?", "", (SOURCES / "07_landmark_systems.py").read_text(encoding="utf-8")).split())


def with_interval(line: pd.Series) -> str:
    return f"{line['difference']:.1f} ± {line['± 95%']:.1f}".replace("-", "−")


def test_the_page_says_what_the_log_of_the_systems_says() -> None:
    for name, line in gains().iterrows():
        assert with_interval(line) in PAGE, name
    for name in ("DistilBERT", "MiniLM"):
        assert with_interval(gains_at_the_other_rate().loc[name]) in PAGE, name


def test_what_page_and_readme_say_of_accuracies_is_what_the_log_says() -> None:
    table, log = summary(), read_log(LOG)
    doubted, at_random = f"hard labels, {WIDE}", f"hard labels, {WIDE}, random weights"
    other = 100 * log.loc[log["phase"] == "other rate", "accuracy"].mean()
    by_seed = 100 * log[log["phase"] == "result"].pivot_table(index="seed", columns="arm", values="accuracy")
    by_seed["other rate"] = 100 * log[log["phase"] == "other rate"].set_index("seed")["accuracy"]
    kept = {name: f"{share:.1f}" for name, share in table["kept %"].items()}
    copied = with_interval(pd.Series(paired_gain(by_seed, "other rate", at_random)))
    for said in (
        f"DistilBERT's keeps {kept['DistilBERT']}% of the teacher's accuracy, MiniLM's and the pruned student"
        f" {kept['MiniLM']}%. Five seeds cannot tell them apart (DistilBERT − MiniLM:"
        f" {with_interval(pd.Series(paired_gain(by_seed, 'DistilBERT', 'MiniLM')))} points). TinyBERT's keeps"
        f" {kept['TinyBERT']}%",
        f"hard labels reach {other:.1f}% instead of {table.loc[doubted, 'accuracy %']:.1f}%",
        f"random weights ({table.loc[at_random, 'accuracy %']:.1f}%), {copied} points of"
        f" {table.loc['DistilBERT', 'accuracy %'] - table.loc[at_random, 'accuracy %']:.1f}, belongs to the copied",
    ):
        assert said in PAGE, said
    for rival in ("MiniLM", "prune and heal"):
        lead = paired_gain(by_seed, "DistilBERT", rival)
        assert lead["difference"] < lead["± 95%"], "page and README: five seeds cannot tell them apart"
    assert kept["MiniLM"] == kept["prune and heal"]
    validation = log[log["phase"] == "choice"].pivot_table(index="arm", columns="learning_rate", values="validation")
    apart = (400 * (validation[5e-4] - validation[1.2e-3])).round().abs()
    assert apart[doubted] == 1
    assert (apart[["hard labels, 3 × 192", "hard labels, 3 × 384, half the neurons"]] >= 4).all()
    line = readme_row(LOG)
    for said in (
        f"they keep {kept['DistilBERT']}, {kept['MiniLM']} and {kept['prune and heal']}% of the teacher's accuracy",
        f"TinyBERT's keeps {kept['TinyBERT']}% with an eighth",
        f"gains {with_interval(gains_at_the_other_rate().loc['DistilBERT'])} points",
        f"and {with_interval(gains().loc['DistilBERT'])} at the one",
        f"the copied embeddings, layers and head themselves bring {copied}.",
        f"gains {with_interval(gains().loc['data-driven (Phi-2)'])} (",
    ):
        assert said in line, said


def test_the_page_says_what_the_log_of_the_ablations_says() -> None:
    table = landmark_ablations.summary().dropna(subset="difference")
    assert list(table.index) == list(landmark_ablations.ABLATIONS)
    for name, line in table.iterrows():
        said = with_interval(line)
        assert (f"+{said}" if line["difference"] > 0 else said.removeprefix("−")) in PAGE, name
    bounds = table["difference"].abs() - table["± 95%"]
    assert list(table.index[bounds < 0]) == ["DistilBERT without soft targets"]
    by_seed = landmark_ablations.accuracies()
    across = {
        "which is {} points ahead on the test": ("DistilBERT", landmark_ablations.AT_THE_OTHER),
        "would have seemed to bring {} points": ("DistilBERT", "DistilBERT without soft targets"),
    }
    for said, pair in across.items():
        assert said.format(with_interval(pd.Series(paired_gain(by_seed, *pair)))) in PAGE
    kept = f"{by_seed['TinyBERT'].mean() / summary().loc['teacher', 'accuracy %']:.1%}"
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"TinyBERT's whole recipe keeps {kept} of" in PAGE
    assert f"({kept} with twice the texts, of which the matched attention brings" in readme
    assert with_interval(table.loc["TinyBERT without attention"]).removeprefix("−") in readme


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
    teacher, desk = load_course_model("help-desk-teacher", device="cpu"), load_help_desk()
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
    assert key("data_driven").startswith("hard labels: real messages with their own labels, and written messages")
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
