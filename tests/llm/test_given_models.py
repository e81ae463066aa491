"""A `LanguageModel`, or a bare model and its tokenizer: every function takes either, and refuses half of one."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from training_runs import arguments

from distill_helpers import DistillationConfig, TextClassifier
from distill_helpers.llm import (
    CompletionCollator,
    CompletionDataset,
    LLMDistillationTrainer,
    evaluate_language_model,
    last_hidden_states,
    on_policy_batch,
    output_head,
    precompute_token_targets,
    teacher_completions,
    write_messages,
)
from distill_helpers.llm.given_models import language_models
from distill_helpers.models.text_models import LanguageModel

QUIET = {"progress": False}


@pytest.fixture
def calls(completions, pairs, help_desk, tmp_path):
    """Each function, called with a model and with what goes with it; what comes back can be compared."""

    def trained(teacher, **tokenizer):
        trainer = LLMDistillationTrainer(
            LanguageModel(calls["student"](), completions.tokenizer),
            DistillationConfig(alpha=1.0),
            arguments(tmp_path, max_steps=2),
            train_dataset=completions,
            teacher=teacher,
            **tokenizer,
        )
        trainer.train()
        return [parameter.tolist() for parameter in trainer.model.parameters()]

    batch = CompletionCollator(completions.tokenizer)([completions[0], completions[1]])
    settings = {"n_per_topic": 2, "batch_size": 2, "max_new_tokens": 3, "topics": help_desk.label_names[:1]}
    calls = {
        "evaluate": lambda model, **t: evaluate_language_model(model, completions, **t),
        "evaluate with a teacher": lambda model, **t: evaluate_language_model(
            LanguageModel(calls["student"](), completions.tokenizer), completions, model, **t
        ),
        "on-policy": lambda model, **t: on_policy_batch(model, batch, max_new_tokens=3, **t)["input_ids"].tolist(),
        "completions": lambda model, **t: teacher_completions(model, pairs[0][:2], max_new_tokens=3, **QUIET, **t),
        "messages": lambda model, **t: write_messages(model, help_desk.train, **settings, **QUIET, **t),
        "targets": lambda model, **t: precompute_token_targets(
            model, completions, cache_dir=tmp_path, device="cpu", **QUIET, **t
        )[0].token_ids.tolist(),
        "trainer": trained,
    }
    return calls


NAMES = ["evaluate", "evaluate with a teacher", "on-policy", "completions", "messages", "targets", "trainer"]


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_give_the_same_and_half_a_form_is_refused(name, calls, make_language_model):
    calls["student"] = lambda: make_language_model(0).model
    pair, call = make_language_model(1), calls[name]
    assert call(pair.model, tokenizer=pair.tokenizer) == call(pair)
    with pytest.raises(ValueError, match=r"a bare LlamaForCausalLM has no tokenizer; pass LanguageModel"):
        call(pair.model)
    with pytest.raises(ValueError, match="has its own tokenizer already; leave out tokenizer="):
        call(pair, tokenizer=pair.tokenizer)
    with pytest.raises(TypeError, match="not the name 'gpt2'; load_language_model"):
        call("gpt2", tokenizer=pair.tokenizer)
    with pytest.raises(TypeError, match="not a TextClassifier"):
        call(TextClassifier(*pair))


def test_an_encoder_writes_no_tokens(make_classifier):
    classifier = make_classifier()
    with pytest.raises(TypeError, match="a BertForSequenceClassification writes no tokens"):
        language_models(classifier.model, tokenizer=classifier.tokenizer)


def test_one_tokenizer_serves_the_bare_of_two_models(make_language_model, completions):
    student, teacher = make_language_model(0), make_language_model(1)
    expected = evaluate_language_model(student, completions, teacher)
    for model, other in ((student.model, teacher), (student, teacher.model), (student.model, teacher.model)):
        assert evaluate_language_model(model, completions, other, tokenizer=student.tokenizer) == expected


def test_a_student_may_be_a_pair_or_bare_or_under_peft(make_language_model, completions, tmp_path, small_tokenizer):
    pair = make_language_model(0)
    options = {"train_dataset": completions, "teacher": make_language_model(1)}
    config, args = DistillationConfig(alpha=1.0), arguments(tmp_path)
    assert LLMDistillationTrainer(pair, config, args, **options).model is pair.model
    assert LLMDistillationTrainer(pair.model, config, args, **options).model is pair.model
    adapted = get_peft_model(make_language_model(0).model, LoraConfig(target_modules=["q_proj"]))
    wrapped = LanguageModel(adapted, pair.tokenizer)
    assert LLMDistillationTrainer(wrapped, config, args, **options).model is adapted
    figures = evaluate_language_model(adapted, completions, tokenizer=pair.tokenizer)
    assert figures == evaluate_language_model(wrapped, completions)
    stranger = type(small_tokenizer)(vocab={"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4})
    with pytest.raises(ValueError, match="another tokenizer than the model's"):
        LLMDistillationTrainer(LanguageModel(pair.model, stranger), config, args, **options)


def test_head_and_hidden_states_take_a_pair(make_language_model):
    pair = make_language_model(0)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(last_hidden_states(pair, input_ids=ids), last_hidden_states(pair.model, input_ids=ids))
    assert output_head(pair).weight is output_head(pair.model).weight


@pytest.mark.parametrize("data", [["no sound"], None])
def test_other_data_than_sequences_is_refused(make_language_model, data, tmp_path):
    model = make_language_model(0)
    for call in (
        lambda: evaluate_language_model(model, data),
        lambda: precompute_token_targets(model, data, cache_dir=tmp_path),
        lambda: LLMDistillationTrainer(model, DistillationConfig(alpha=0.0), arguments(tmp_path), train_dataset=data),
    ):
        with pytest.raises(TypeError, match=rf"{type(data).__name__}.*CompletionDataset\.from_hf"):
            call()


def test_a_data_set_of_another_tokenizer_is_refused(make_language_model, small_tokenizer):
    stranger = type(small_tokenizer)(vocab={"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4})
    with pytest.raises(ValueError, match="another tokenizer than the model's"):
        evaluate_language_model(make_language_model(0), CompletionDataset([[2, 3]], [1], stranger))
