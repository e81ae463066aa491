"""Notebook 06: its widgets, its experiment, and the keys of its quiz."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

import distill_helpers as dh
from distill_helpers.course.experiments.feature_terms import RESPONSE, SHARES, TERMS, feature_config
from distill_helpers.course.folders import SOURCES
from distill_helpers.course.logs import read_log
from distill_helpers.course.quiz import Question, load_quiz
from distill_helpers.course.widgets.feature_distillation import (
    MAPS,
    MOST_LAYERS,
    attention_shares,
    entry_pairs,
    render_attention,
    render_layer_map,
)
from distill_helpers.models.text_models import TextClassifier

MESSAGE = "my $5 window & <b> mac"


def tiny_classifier(tokenizer, n_layers=2, seed=0) -> TextClassifier:
    """32 wide, 4 heads, and queries large enough for attention that is not even."""
    model = dh.create_transformer(
        ("a", "b"), len(tokenizer), hidden_size=32, n_layers=n_layers, n_heads=4, max_length=32, seed=seed
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "query" in name or "key" in name:
                parameter.mul_(20)
    return TextClassifier(model, tokenizer)


# Attention


def shares_of(markup: str) -> dict[str, int]:
    found = re.findall(r"<tr><th scope='row'[^>]*>(.*?)</th><td>(\d+)%</td></tr>", markup)
    return {name: int(percent) for name, percent in found}


@pytest.mark.slow
def test_attention_of_every_layer_and_head(small_tokenizer) -> None:
    model = tiny_classifier(small_tokenizer)
    pages = {
        (layer, head): render_attention(MESSAGE, layer, head, model=model) for layer in (0, 1) for head in range(4)
    }
    assert len(set(pages.values())) == 8
    for (layer, head), page in pages.items():
        shares = shares_of(page)
        assert list(shares) == ["[CLS]", "[SEP]", "itself", "the previous token", "the next token", "other tokens"]
        assert 97 <= sum(shares.values()) <= 103
        most = max(shares.values())
        assert re.search(rf"Layer {layer}, head {head}: {most}% on ", page)
        assert "nan" not in page.split("alt=")[1]


def test_attention_shown_is_the_models_own(small_tokenizer) -> None:
    model = tiny_classifier(small_tokenizer)
    ids = small_tokenizer(MESSAGE)["input_ids"]
    model.model.set_attn_implementation("eager")
    with torch.no_grad():
        eager = model.model(input_ids=torch.tensor([ids]), output_attentions=True).attentions[1][0, 3]
    expected = {name: round(100 * share) for name, share in attention_shares(eager).items()}
    assert shares_of(render_attention(MESSAGE, 1, 3, model=model)) == expected


@pytest.mark.slow
def test_a_long_message_is_cut_and_one_word_is_enough(small_tokenizer) -> None:
    model = tiny_classifier(small_tokenizer)
    assert "28 tokens; entropy" in render_attention("window " * 60, 0, 0, model=model)
    assert "tokens; entropy" in render_attention("x", 1, 3, model=model)
    assert render_attention("  ", 1, 3, model=model) == "<p>Type a message.</p>"


@pytest.mark.parametrize(
    ("message", "layer", "head", "named"),
    [
        (MESSAGE, 2, 0, "layer must be from 0 to 1, got 2"),
        (MESSAGE, -1, 0, "layer must be from 0 to 1, got -1"),
        (MESSAGE, 0, 4, "head must be from 0 to 3, got 4"),
        (MESSAGE, 0, -1, "head must be from 0 to 3, got -1"),
    ],
)
def test_attention_refuses_what_does_not_exist(small_tokenizer, message, layer, head, named) -> None:
    with pytest.raises(ValueError, match=named):
        render_attention(message, layer, head, model=tiny_classifier(small_tokenizer))


def test_shares_of_known_attention() -> None:
    n = 5
    assert attention_shares(torch.full((n, n), 1 / n))["[CLS]"] == pytest.approx(1 / n)
    back = torch.zeros(n, n)
    back[torch.arange(n), (torch.arange(n) - 1).clamp(min=0)] = 1
    # Token 1 looks at [CLS] as well as at the token before: the former counts.
    assert attention_shares(back) == pytest.approx(
        {"[CLS]": 2 / 5, "[SEP]": 0, "itself": 0, "the previous token": 3 / 5, "the next token": 0, "other tokens": 0}
    )
    assert sum(attention_shares(torch.rand(7, 7).softmax(dim=-1)).values()) == pytest.approx(1)


# Layer maps


RIGHT = "Embeddings follow embeddings, the last layer the last"


def is_refused(n_student: int, n_teacher: int, mapping: str) -> bool:
    """The package's maps need a teacher of as many layers at least, and the uniform one a whole ratio."""
    if mapping.startswith("article"):
        return False
    return n_student > n_teacher or (mapping == "uniform" and n_teacher % n_student != 0)


@pytest.mark.parametrize("mapping", MAPS)
def test_pairs_over_the_whole_range(mapping: str) -> None:
    for n_student in range(1, MOST_LAYERS + 1):
        for n_teacher in range(1, MOST_LAYERS + 1):
            if is_refused(n_student, n_teacher, mapping):
                with pytest.raises(ValueError, match=r"layers can't be mapped|whole ratio"):
                    entry_pairs(n_student, n_teacher, mapping)
                continue
            pairs = entry_pairs(n_student, n_teacher, mapping)
            assert [s for s, _ in pairs] == list(range(n_student + 1))
            assert all(t <= n_teacher for _, t in pairs)
            if mapping == "article: uniform" and n_student < n_teacher:
                assert pairs[-1][1] < n_teacher


@pytest.mark.slow
@pytest.mark.parametrize("mapping", MAPS)
@pytest.mark.parametrize("n_student", [1, 4, 12])
@pytest.mark.parametrize("n_teacher", [1, 6, 12])
def test_maps_are_drawn_or_refused(n_student: int, n_teacher: int, mapping: str) -> None:
    page = render_layer_map(n_student, n_teacher, mapping)
    assert ("<b>Refused.</b>" in page) == is_refused(n_student, n_teacher, mapping)
    if "<b>Refused.</b>" not in page:
        pairs = entry_pairs(n_student, n_teacher, mapping)
        assert page.count("<tr><th scope='row'") == len(pairs)
        # DistilBERT's choice has both ends; of one layer it is the first, so that nobody follows the last.
        assert (RIGHT in page) == (pairs[0] == (0, 0) and pairs[-1] == (n_student, n_teacher))


@pytest.mark.parametrize(
    ("n_student", "n_teacher", "mapping", "entries", "fault"),
    [
        (6, 12, "article: uniform", [0, 1, 3, 5, 7, 9, 11], "Nobody follows the teacher's last layer, 11"),
        (4, 12, "article: uniform", [0, 2, 5, 7, 10], "Nobody follows the teacher's last layer, 11"),
        (6, 12, "article: last", [6, 7, 8, 9, 10, 11, 12], "The embeddings follow the teacher's layer 5"),
        (6, 4, "article: last", [-2, -1, 0, 1, 2, 3, 4], "Negative entries"),
        (6, 12, "uniform", [0, 2, 4, 6, 8, 10, 12], "the last layer the last"),
        (6, 12, "last", [0, 7, 8, 9, 10, 11, 12], "the last layer the last"),
        (6, 12, "alternating", [0, 1, 3, 5, 8, 10, 12], "the last layer the last"),
    ],
)
def test_maps_that_are_known(n_student, n_teacher, mapping, entries, fault) -> None:
    assert [t for _, t in entry_pairs(n_student, n_teacher, mapping)] == entries
    assert fault in render_layer_map(n_student, n_teacher, mapping)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ((0, 6, "uniform"), "n_student must be from 1 to 12, got 0"),
        ((3, 13, "uniform"), "n_teacher must be from 1 to 12, got 13|n_student must be from 1 to 12, got 13"),
        ((3, 6, "zigzag"), "unknown map 'zigzag'"),
    ],
)
def test_a_map_refuses_what_does_not_exist(parameters, named) -> None:
    with pytest.raises(ValueError, match=named):
        render_layer_map(*parameters)


# The experiment


def test_each_row_of_the_experiment_adds_to_the_response_loss() -> None:
    response = feature_config(RESPONSE)
    assert not response.uses_features
    for name in list(TERMS)[1:]:
        config = feature_config(name)
        assert config.uses_features
        assert (config.alpha, config.temperature, config.response_loss_weight) == (1.0, 2.0, 1.0)
    with pytest.raises(KeyError, match="magic"):
        feature_config("+ magic")


def test_the_log_is_whole() -> None:
    log = read_log("feature-terms")
    assert log.groupby(["terms", "share"])["seed"].apply(sorted).to_dict() == {
        (terms, share): [0, 1, 2, 3, 4] for share, rows in SHARES.items() for terms in rows
    }


def test_the_terms_that_are_asked_again_are_those_that_the_test_accuracies_chose() -> None:
    """So the page has to say that their gains with a tenth of the messages are flattered."""
    log = read_log("feature-terms")
    runs = log[log["share"] == 1.0].pivot_table(index="seed", columns="terms", values="accuracy")
    gains = runs.sub(runs[RESPONSE], axis=0)[list(TERMS)[1:]]
    helped = gains.columns[(gains > 0).all()].tolist()
    assert {*helped, gains.mean().idxmin()} == set(SHARES[0.1]) - {RESPONSE}
    page = (SOURCES / "06_feature_distillation.py").read_text(encoding="utf-8")
    assert "chosen by the test accuracies" in page


def key(name: str) -> str:
    questions: dict[str, Question] = {question.name: question for question in load_quiz("06_feature_distillation")}
    return next(choice.text for choice in questions[name].choices if choice.right)


def test_quiz_first_layer() -> None:
    (_, layer), *_ = dh.layer_map("uniform", 6, 12)
    assert key("first_layer") == f"layer {layer}"


def test_quiz_averaged_heads() -> None:
    before, behind = torch.eye(6).roll(-1, dims=1), torch.eye(6).roll(1, dims=1)
    teacher, student = torch.stack([before, behind]), torch.stack([behind, before])
    assert F.mse_loss(student, teacher) > 0.1
    assert key("averaged_heads") == f"{F.mse_loss(student.mean(dim=0), teacher.mean(dim=0)):g}"


def test_quiz_long_texts() -> None:
    def error(n: int) -> float:
        teacher = torch.full((n,), 0.5 / (n - 1))
        teacher[0] = 0.5
        return float((teacher - 1 / n).square().mean())

    def others(n: int) -> tuple[float, float]:
        """The KL, and the squared error of the scores: an even student's are all 0."""
        scores = torch.zeros(n, dtype=torch.float64)
        scores[0] = math.log(n - 1)  # half of the attention
        p = scores.softmax(0)
        return float((p * (p * n).log()).sum()), float(scores.square().mean())

    assert error(50) / error(500) == pytest.approx(10, abs=1)
    assert key("long_texts") == "it falls to about a tenth"
    (short_kl, short_scores), (long_kl, long_scores) = others(50), others(500)
    questions = {question.name: question for question in load_quiz("06_feature_distillation")}
    assert f"the KL rises from {short_kl:.1f} to {long_kl:.1f} nats" in questions["long_texts"].choices[0].why
    assert long_scores / short_scores == pytest.approx(1 / 4, abs=0.02)


def test_quiz_padding() -> None:
    errors = torch.ones(1, 40)
    share = float(errors[:, 30:].sum() / errors.sum())
    assert key("padding") == {0.25: "a quarter", 0.75: "three quarters"}[share]
    # The package counts none of it.
    mask = torch.arange(40)[None] < 30
    hidden = torch.where(mask[..., None], 0.0, 9.0).expand(1, 40, 4)
    assert float(dh.hidden_state_loss(hidden, torch.zeros(1, 40, 4), mask)) == 0


def test_quiz_classifier(small_tokenizer) -> None:
    student, teacher = (tiny_classifier(small_tokenizer, n).model for n in (1, 2))
    config = dh.DistillationConfig(
        response_loss_weight=0.0, intermediate_layers=True, attention_matching=True, relations=("values",)
    )
    terms = dh.FeatureTerms(config, dh.ModelShape.of(student), dh.ModelShape.of(teacher))
    batch = dict(small_tokenizer([MESSAGE], return_tensors="pt"))
    with dh.capture_features(student) as own, dh.capture_features(teacher) as others:
        student(**batch)
        teacher(**batch)
    torch.stack([value.sum() for value in terms(own, others, batch["attention_mask"]).values()]).sum().backward()
    reached = {name: p.grad is not None and bool(p.grad.abs().max() > 0) for name, p in student.named_parameters()}
    questions = {question.name: question for question in load_quiz("06_feature_distillation")}
    assert (
        "randomly initialised classifier" in questions["classifier"].text
    )  # a copied one may predict something useful
    assert reached["bert.embeddings.word_embeddings.weight"]
    assert not any(there for name, there in reached.items() if name.startswith("classifier"))
    assert sum(name.startswith("classifier") for name in reached) == 2
    assert key("classifier").startswith("nothing useful")


def test_quiz_relation_heads() -> None:
    student, teacher = torch.randn(1, 8, 5, 24), torch.randn(1, 12, 5, 32)
    mask = torch.ones(1, 5)
    assert dh.relation_loss(student, teacher, mask, n_heads=int(key("relation_heads"))).isfinite().all()
    with pytest.raises(ValueError, match="does not divide"):
        dh.relation_loss(student, teacher, mask, n_heads=5)
    with pytest.raises(ValueError, match="8 heads of the student against 12"):
        dh.relation_loss(student, teacher, mask)
