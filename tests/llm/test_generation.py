"""A sample is a sample of the model's own distribution, and ends with any of its end tokens."""

import copy

import pytest
import torch
from transformers import GenerationConfig

from distill_helpers.llm import (
    CompletionCollator,
    CompletionDataset,
    on_policy_batch,
    teacher_completions,
    write_messages,
)
from distill_helpers.llm.generation import continuations, end_tokens
from distill_helpers.models.text_models import LanguageModel

#: What the generation settings of a model may hold. Each would change what it writes.
SETTINGS = {
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 6,
    "min_length": 20,
    "bad_words_ids": [[token] for token in range(5, 200)],
    "suppress_tokens": list(range(5, 200)),
    "begin_suppress_tokens": list(range(5, 200)),
    "forced_eos_token_id": 7,
    "forced_bos_token_id": 7,
    "top_k": 1,
    "top_p": 0.01,
    "min_p": 0.99,
    "typical_p": 0.01,
    "epsilon_cutoff": 0.9,
    "eta_cutoff": 0.9,
    "temperature": 0.01,
    "num_beams": 3,
    "sequence_bias": [[[9], 50.0]],
    "exponential_decay_length_penalty": (1, 50.0),
    "guidance_scale": 3.0,
    "prompt_lookup_num_tokens": 2,
    "max_length": 4,
    "max_new_tokens": 1,
    "num_return_sequences": 2,
    "return_dict_in_generate": True,
    "renormalize_logits": True,
    "do_sample": False,
}


@pytest.fixture
def prompts(pairs, language_tokenizer):
    return [ids[:-1] for ids in language_tokenizer(pairs[0][:3])["input_ids"]]


@pytest.fixture
def with_settings(make_language_model):
    """A model whose generation settings hold these entries."""

    def make(**settings):
        model = make_language_model(0)
        for name, value in settings.items():
            setattr(model.model.generation_config, name, value)
        return model

    return make


@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_of_the_models_own_is_used(with_settings, prompts, name, temperature):
    options = {"max_new_tokens": 8, "temperature": temperature, "seed": 3}
    model = with_settings(**{name: SETTINGS[name]})
    kept = copy.deepcopy(model.model.generation_config)
    assert continuations(model, prompts, **options) == continuations(with_settings(), prompts, **options)
    assert model.model.generation_config == kept


def test_an_error_leaves_the_settings_as_they_were(with_settings, prompts, monkeypatch):
    model = with_settings(repetition_penalty=5.0)

    def failing(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(model.model, "generate", failing)
    model.model.train()
    with pytest.raises(KeyboardInterrupt):
        continuations(model, prompts, max_new_tokens=2, temperature=1.0)
    assert model.model.generation_config.repetition_penalty == 5.0
    assert model.model.training


@pytest.mark.slow
def test_everything_that_writes_is_free_of_them(with_settings, completions, help_desk, pairs):
    hostile = {name: SETTINGS[name] for name in ("repetition_penalty", "min_new_tokens", "suppress_tokens", "top_p")}
    batch = CompletionCollator(completions.tokenizer)([completions[row] for row in (0, 3, 5)])
    options = {"max_new_tokens": 6, "temperature": 2.0}

    def written(model):
        texts = teacher_completions(model, pairs[0][:4], batch_size=2, progress=False, **options)
        messages = write_messages(model, help_desk.train, 1, examples_per_prompt=1, progress=False, **options)
        return on_policy_batch(model, batch, **options)["input_ids"].tolist(), list(texts), texts.finished, messages

    assert written(with_settings(**hostile)) == written(with_settings())


def test_a_model_under_an_adapter_is_free_of_them_too(with_settings, prompts):
    from peft import LoraConfig, get_peft_model

    def adapted(**settings):
        model = with_settings(**settings)
        return model._replace(model=get_peft_model(model.model, LoraConfig(target_modules=["q_proj"])).eval())

    options = {"max_new_tokens": 8, "temperature": 0.0}
    expected = continuations(with_settings(), prompts, **options)
    assert continuations(adapted(repetition_penalty=5.0, top_k=1), prompts, **options) == expected


@pytest.mark.parametrize(
    "place",
    [
        lambda model, end: setattr(model.model.generation_config, "eos_token_id", [model.tokenizer.eos_token_id, end]),
        lambda model, end: setattr(model.model.generation_config, "eos_token_id", end),
        lambda model, end: setattr(model.model.config, "eos_token_id", [end]),
        lambda model, end: setattr(model.tokenizer, "eos_token", model.tokenizer.convert_ids_to_tokens(end)),
    ],
)
def test_the_end_tokens_of_all_places_end_a_text(make_language_model, prompts, place):
    model = make_language_model(0)
    model = LanguageModel(model.model, copy.deepcopy(model.tokenizer))
    model.model.generation_config.eos_token_id = None
    free = continuations(model, prompts, max_new_tokens=8, temperature=0)
    assert len(free[0]) == 8
    end = free[0][3]
    place(model, end)
    assert end in end_tokens(model)
    written = continuations(model, prompts, max_new_tokens=8, temperature=0)
    assert written[0] == free[0][: free[0].index(end) + 1]
    texts = teacher_completions(model, [model.tokenizer.decode(prompts[0][1:])], max_new_tokens=8, progress=False)
    assert texts.finished == [True]


def test_there_may_be_no_end_token(make_language_model, prompts):
    model = make_language_model(0)
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.eos_token = tokenizer.pad_token = None
    model = LanguageModel(model.model, tokenizer)
    model.model.config.eos_token_id = model.model.generation_config.eos_token_id = None
    assert end_tokens(model) == []
    assert {len(ids) for ids in continuations(model, prompts, max_new_tokens=4, temperature=1.0)} == {4}


def test_a_prompt_without_a_token_is_refused(make_language_model):
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        continuations(make_language_model(0), [[5], []], max_new_tokens=4, temperature=1.0)


def test_on_policy_prompts_are_continued_at_their_end_whichever_side_is_padded(make_language_model, completions):
    """On the right, a model would go on from the padding of the shorter prompts."""
    data = CompletionDataset(completions.token_ids, [3, 9, *completions.prompt_lengths[2:]], completions.tokenizer)
    student = make_language_model(0)
    written = []
    for side in ("left", "right"):
        tokenizer = copy.deepcopy(student.tokenizer)
        tokenizer.padding_side = side
        batch = CompletionCollator(tokenizer)([data[0], data[1]])
        written.append(on_policy_batch(LanguageModel(student.model, tokenizer), batch, max_new_tokens=5, seed=1))
    assert torch.equal(written[0]["input_ids"], written[1]["input_ids"])
    alone = continuations(student, [data.token_ids[0][:3]], max_new_tokens=5, temperature=0)
    together = continuations(
        student, [ids[:n] for ids, n in zip(data.token_ids, (3, 9), strict=False)], max_new_tokens=5, temperature=0
    )
    assert together[0] == alone[0]


def test_a_generation_config_is_not_needed(make_language_model, prompts):
    model = make_language_model(0)
    expected = continuations(model, prompts, max_new_tokens=3, temperature=0)
    model.model.generation_config = GenerationConfig()
    assert continuations(model, prompts, max_new_tokens=3, temperature=0) == expected
