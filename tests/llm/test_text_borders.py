"""One beginning, one end, and completions that join to their prompts, for three families of tokenizers."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from distill_helpers.llm import CompletionDataset, teacher_completions
from distill_helpers.llm.text_borders import continued_text, prompt_token_ids, split_token_ids, text_token_ids
from distill_helpers.models.text_models import LanguageModel

FAMILIES = ["bpe", "metaspace", "wordpiece"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }} {{ m.content }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant {% endif %}"
)
#: Prompts and completions, and what they join to in a tokenizer that keeps blanks.
PAIRS = [
    ("where is", " my order"),
    ("where is my or", "der"),
    ("where is ", "my order"),
    ("where is\n", "my order"),
    ("where is", "\n\n my order"),
    ("where is", "  my order"),
    ("where is:", " my order"),
    ("where is", "."),
    ("(where is", ") my order"),
    ("where is my screen", " "),
]


def decoded(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_prompt_and_completion_join_to_the_text(make_tokenizer, family, pair):
    tokenizer = make_tokenizer(family, begin=True)
    ((prompt, completion),) = split_token_ids(tokenizer, [pair[0]], [pair[1]])
    assert prompt[0] == tokenizer.bos_token_id
    assert decoded(tokenizer, prompt + completion) == decoded(tokenizer, tokenizer("".join(pair))["input_ids"])
    if family != "wordpiece":  # which has no tokens for a word's rest after any other
        assert decoded(tokenizer, prompt + completion) == "".join(pair)
        assert prompt == prompt_token_ids(tokenizer, [pair[0]])[0]  # as it is when it is continued


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_the_same_for_training_and_for_writing(make_tokenizer, family):
    tokenizer = make_tokenizer(family, begin=True, close=True)
    data = CompletionDataset.from_pairs(["where is"], [" my order"], tokenizer)
    prompt = data.token_ids[0][: data.prompt_lengths[0]]
    assert prompt == prompt_token_ids(tokenizer, ["where is"])[0]
    assert tokenizer.eos_token_id not in prompt  # the tokenizer ends each text, but this one is to be continued
    assert data.token_ids[0].count(tokenizer.eos_token_id) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rendered_prompt_has_one_beginning(make_tokenizer, family):
    tokenizer = make_tokenizer(family, begin=True, close=True, template=TEMPLATE)
    messages = [{"role": "user", "content": "where is my order"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    data = CompletionDataset.from_pairs([rendered], ["no sound"], tokenizer)
    whole = CompletionDataset.from_texts([rendered + "no sound</s>", "no sound"], tokenizer)
    for ids in (*data.token_ids, *whole.token_ids, *prompt_token_ids(tokenizer, [rendered, "no"])):
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id
    for ids in whole.token_ids:
        assert ids.count(tokenizer.eos_token_id) == 1
        assert ids[-1] == tokenizer.eos_token_id


def test_a_tokenizer_that_adds_nothing_adds_nothing(make_tokenizer):
    tokenizer = make_tokenizer()
    assert prompt_token_ids(tokenizer, ["<s>no", "no"]) == tokenizer(["<s>no", "no"])["input_ids"]
    assert text_token_ids(tokenizer, ["no sound"]) == tokenizer(["no sound"])["input_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_that_has_an_end_gets_no_second_one(make_tokenizer, family):
    tokenizer = make_tokenizer(family)
    answers = [" no sound", " no sound</s>", " no sound</turn>", " no sound</turn>\n", " no</turn> sound", " no é"]
    data = CompletionDataset.from_pairs(["where is"] * 6, answers, tokenizer)
    end, turn = tokenizer.convert_tokens_to_ids(["</s>", "</turn>"])
    counts = [(ids.count(end), ids.count(turn)) for ids in data.token_ids]
    assert counts == [(1, 0), (1, 0), (0, 1), (0, 1), (1, 1), (1, 0)]
    assert not any(
        ids.count(end) for ids in CompletionDataset.from_pairs(["a"], ["no"], tokenizer, end=False).token_ids
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", [" my order", ", or", "\n no sound", "  two", " "])
def test_what_was_written_joins_to_its_prompt(make_tokenizer, family, text):
    tokenizer = make_tokenizer(family, begin=True)
    for prompt in ("where is", "(", "<turn>user", "where is "):
        ids = prompt_token_ids(tokenizer, [prompt])[0]
        own = split_token_ids(tokenizer, [prompt], [text])[0][1]
        joined = continued_text(tokenizer, ids, own)
        assert decoded(tokenizer, ids) + joined == decoded(tokenizer, ids + own)
        if family != "wordpiece":
            assert joined == text
        if own:  # and becomes the same tokens when it is learnt
            assert split_token_ids(tokenizer, [prompt], [joined])[0][1] == own


def test_completions_keep_their_first_blank(make_tokenizer, help_desk):
    for family in FAMILIES:
        tokenizer = make_tokenizer(family, begin=True)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=16,
            eos_token_id=tokenizer.eos_token_id,
        )
        writer = LanguageModel(LlamaForCausalLM(config).eval(), tokenizer)
        prompts = [" ".join(text.split()[:2]) for text in help_desk.train.texts[:12]]
        texts = teacher_completions(writer, prompts, max_new_tokens=4, temperature=3.0, progress=False)
        for prompt, text in zip(prompts, texts, strict=True):
            again = CompletionDataset.from_pairs([prompt], [text], tokenizer, end=False)
            assert decoded(tokenizer, again.token_ids[0]) == prompt + text
        assert any(text.startswith(" ") for text in texts)
