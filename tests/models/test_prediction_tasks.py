"""The kind of problem that a model solves: by class and configuration, and refused where they do not say."""

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

from distill_helpers import PredictionTask, load_course_model, prediction_task

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
VISION = {"image_size": 8, "patch_size": 4} | {k: v for k, v in SIZES.items() if k != "vocab_size"}


def bert(n_labels, problem=None, kind="SequenceClassification"):
    config = BertConfig(**SIZES, num_labels=n_labels, problem_type=problem)
    return getattr(transformers, f"BertFor{kind}")(config).eval()


@pytest.mark.parametrize(
    ("n_labels", "problem", "expected"),
    [
        (5, None, "single_label"),
        (2, "single_label_classification", "single_label"),
        (5, "multi_label_classification", "multi_label"),
        (1, "multi_label_classification", "multi_label"),
        (1, None, "regression"),
        (1, "regression", "regression"),
        (3, "regression", "regression"),
    ],
)
def test_problem_type_decides_and_the_number_of_labels_where_it_is_none(n_labels, problem, expected):
    found = prediction_task(bert(n_labels, problem))
    assert found is PredictionTask(expected)
    assert found == expected


@pytest.mark.parametrize("problem", [None, "single_label_classification"])
def test_token_classifiers_classify_tokens(problem):
    assert prediction_task(bert(3, problem, "TokenClassification")) == "token_classification"


def test_images_and_decoders_are_classifiers_too():
    vit = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=3))
    assert prediction_task(vit) == "single_label"
    llama = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**SIZES, num_labels=1))
    assert prediction_task(llama) == "regression"


def test_subclasses_and_wrappers_are_looked_through():
    class Own(BertForSequenceClassification):
        pass

    own = Own(BertConfig(**SIZES, num_labels=1))
    assert prediction_task(own) == "regression"
    assert prediction_task(torch.compile(own)) == "regression"
    assert prediction_task(torch.nn.DataParallel(own)) == "regression"
    multi = bert(4, "multi_label_classification")
    adapted = get_peft_model(multi, LoraConfig(task_type="SEQ_CLS", r=1, target_modules=["query"]))
    assert prediction_task(adapted) == "multi_label"
    tokens = bert(4, kind="TokenClassification")
    assert prediction_task(get_peft_model(tokens, LoraConfig(r=1, target_modules=["query"]))) == "token_classification"


@pytest.mark.parametrize(
    ("n_labels", "problem", "kind", "message"),
    [
        (1, "single_label_classification", "SequenceClassification", "one output, whose softmax is always 1; set"),
        (3, "ranking", "SequenceClassification", "problem_type is 'ranking', which transformers does not know; set"),
        (
            3,
            "multi_label_classification",
            "TokenClassification",
            "one class for each token; set .*problem_type to None",
        ),
        (1, None, "TokenClassification", "BertForTokenClassification has one output for each token"),
        (2, None, "MultipleChoice", "BertForMultipleChoice is no classifier of transformers, .*; use a model whose"),
        (2, None, "MaskedLM", "BertForMaskedLM is no classifier"),
        (2, None, "NextSentencePrediction", "BertForNextSentencePrediction is no classifier"),
        (2, None, "QuestionAnswering", "BertForQuestionAnswering is no classifier"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_remedy(n_labels, problem, kind, message):
    model = bert(n_labels, None, kind)
    model.config.problem_type = problem
    with pytest.raises(ValueError, match=message):
        prediction_task(model)


def test_a_plain_module_is_refused():
    with pytest.raises(ValueError, match="Linear is no classifier of transformers"):
        prediction_task(torch.nn.Linear(2, 2))


def test_a_configuration_that_was_changed_afterwards_is_refused():
    model = bert(5)
    model.config.num_labels = 1
    with pytest.raises(ValueError, match=r"has 1 labels, but the model was built with 5; load the model with"):
        prediction_task(model)


def test_the_courses_student_has_one_class_for_each_message():
    assert prediction_task(load_course_model("help-desk-student", device="cpu").model) is PredictionTask.SINGLE_LABEL
