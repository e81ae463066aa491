"""Conversations: in every turn the assistant's tokens count, and no others."""

import pytest
import torch

from distill_helpers.llm import CompletionCollator, CompletionDataset, precompute_token_targets
from distill_helpers.llm.token_level import completion_labels

PLAIN = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
MARKED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}<turn>assistant\n{% generation %}"
    "{{ m.content }}</turn>{% endgeneration %}\n{% else %}<turn>{{ m.role }}\n{{ m.content }}</turn>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
#: As templates of reasoning models: what the assistant wrote before is shortened once the conversation goes on.
FORGETFUL = PLAIN.replace("{{ m.content }}", "{{ m.content if loop.last or m.role == 'user' else m.content[:4] }}")
#: As Qwen3's: reasoning stands before the answer, but only in turns after the last message of the user.
THINKING = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<turn>{{ m.role }}\n{% if m.role == 'assistant' and"
    " loop.index0 > ns.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}</turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
CONVERSATION = [
    {"role": "user", "content": "where is my order"},
    {"role": "assistant", "content": "no sound"},
    {"role": "user", "content": "the screen is black"},
    {"role": "assistant", "content": " my mac"},
]
ONE_TURN = CONVERSATION[:2]


def learnt_text(data, row):
    labels = [label for label in data.sequence(row)["labels"] if label != -100]
    return data.tokenizer.decode(labels, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("template", [PLAIN, MARKED], ids=["plain", "marked"])
@pytest.mark.parametrize("family", ["bpe", "metaspace"])
def test_the_assistants_turns_are_learnt_with_their_ends(make_tokenizer, family, template):
    tokenizer = make_tokenizer(family, begin=True, template=template)
    data = CompletionDataset.from_messages([CONVERSATION, {"messages": ONE_TURN}], tokenizer, column="messages")
    for row, expected in enumerate(("no sound</turn> my mac</turn>", "no sound</turn>")):
        assert learnt_text(data, row).replace(" ", "") == expected.replace(" ", "")
    rendered = tokenizer.apply_chat_template(CONVERSATION, tokenize=True)["input_ids"]
    assert data.token_ids[0] == rendered
    assert rendered.count(tokenizer.bos_token_id) == 1
    assert data.n_tokens == [sum(label != -100 for label in data[row]["labels"]) for row in range(2)]


def test_a_huggingface_data_set_and_a_generator_are_rows(make_tokenizer):
    datasets = pytest.importorskip("datasets")
    tokenizer = make_tokenizer(template=PLAIN)
    expected = CompletionDataset.from_messages([CONVERSATION, ONE_TURN], tokenizer)
    table = datasets.Dataset.from_list([{"chat": CONVERSATION}, {"chat": ONE_TURN}])
    for rows in (table, ({"chat": chat} for chat in (CONVERSATION, ONE_TURN))):
        data = CompletionDataset.from_messages(rows, tokenizer, column="chat")
        assert (data.token_ids, data.learnt) == (expected.token_ids, expected.learnt)


def test_they_are_cut_and_go_through_collator_and_targets(
    make_tokenizer, make_language_model, language_tokenizer, tmp_path
):
    language_tokenizer.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} [SEP]{% endfor %}"
    try:
        data = CompletionDataset.from_messages([CONVERSATION, ONE_TURN], language_tokenizer)
        cut = CompletionDataset.from_messages([CONVERSATION], language_tokenizer, max_length=len(data.token_ids[1]))
    finally:
        language_tokenizer.chat_template = None
    assert cut.token_ids == data.token_ids[1:]
    assert cut.n_tokens == data.n_tokens[1:]
    teacher, options = make_language_model(1), {"cache_dir": tmp_path, "progress": False}
    store = precompute_token_targets(teacher, data, "hidden", **options)
    items = data.with_targets(store)
    batch = CompletionCollator(language_tokenizer)([items[0], items[1]])
    assert len(batch["teacher_targets"]) == len(completion_labels(batch["labels"])) == sum(data.n_tokens)
    every = CompletionDataset(data.token_ids, data.prompt_lengths, language_tokenizer)
    assert sum(every.n_tokens) > sum(data.n_tokens)
    of_every = precompute_token_targets(teacher, every, "hidden", **options)
    assert torch.equal(of_every[0].hidden[0], store[0].hidden[0])
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("template", "row", "message"),
    [
        (None, ONE_TURN, "no chat template"),
        (FORGETFUL, CONVERSATION, "row 1: the chat template renders the conversation differently up to message 1"),
        (PLAIN, CONVERSATION[:1], "row 1 has no turn of the assistant"),
        (PLAIN, "where is my order", "row 1 must be a list of messages, got str"),
        (PLAIN, {"chat": ONE_TURN}, r"row 1 has no column 'messages', only \['chat'\]"),
        (PLAIN, [{"content": "no"}], "row 1 has a message without a role"),
        (
            "{{ raise_exception('roles must alternate') if messages[3] is defined }}" + PLAIN,
            CONVERSATION,
            "row 1: roles",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused_with_its_row(make_tokenizer, template, row, message):
    with pytest.raises(ValueError, match=message):
        CompletionDataset.from_messages([ONE_TURN, row], make_tokenizer(template=template))


def test_a_template_that_drops_earlier_reasoning_is_learnt_turn_by_turn(make_tokenizer):
    tokenizer = make_tokenizer(template=THINKING)
    reasoned = [dict(message) for message in CONVERSATION]
    reasoned[1]["reasoning_content"] = "mac or PC?"
    with pytest.raises(ValueError, match=r"row 1: .* up to message 1 .*pass split_turns=True"):
        CompletionDataset.from_messages([ONE_TURN, reasoned], tokenizer)
    one = CompletionDataset.from_messages([ONE_TURN], tokenizer)
    assert learnt_text(one, 0) == "<think>\n\n</think>\n\nno sound</turn>"
    data = CompletionDataset.from_messages([ONE_TURN, reasoned], tokenizer, split_turns=True)
    assert [learnt_text(data, row) for row in range(len(data))] == [
        "<think>\n\n</think>\n\nno sound</turn>",
        "<think>\nmac or PC?\n</think>\n\nno sound</turn>",
        "<think>\n\n</think>\n\n my mac</turn>",
    ]
    for row, n in enumerate((2, 2, 4)):
        assert data.token_ids[row] == tokenizer.apply_chat_template(reasoned[:n] if row else ONE_TURN)["input_ids"]
    assert "mac or PC?" not in tokenizer.decode(data.token_ids[2])  # what the model sees when it writes the turn


def test_a_marked_template_says_what_of_an_earlier_turn_is_left(make_tokenizer):
    """What the template cuts from earlier turns is neither read nor learnt."""
    marked = MARKED.replace(
        "{{ m.content }}</turn>{% endgen", "{{ m.content if loop.last else m.content[:2] }}</turn>{% endgen"
    )
    data = CompletionDataset.from_messages([CONVERSATION], make_tokenizer(template=marked))
    assert learnt_text(data, 0) == "no</turn> my mac</turn>"
    turns = CompletionDataset.from_messages([CONVERSATION], make_tokenizer(template=marked), split_turns=True)
    assert [learnt_text(turns, row) for row in (0, 1)] == ["no sound</turn>", " my mac</turn>"]


@pytest.mark.parametrize("template", [PLAIN, MARKED], ids=["plain", "marked"])
def test_turns_apart_are_the_turns_together(make_tokenizer, template):
    tokenizer = make_tokenizer(begin=True, template=template)
    whole = CompletionDataset.from_messages([CONVERSATION], tokenizer)
    turns = CompletionDataset.from_messages([CONVERSATION], tokenizer, split_turns=True)
    assert turns.token_ids[1] == whole.token_ids[0]
    assert turns.n_tokens[0] + turns.n_tokens[1] == whole.n_tokens[0]


def test_text_before_the_assistant_that_depends_on_later_turns_is_refused(make_tokenizer):
    counted = "{{ messages | length }} messages\n" + PLAIN
    with pytest.raises(ValueError, match=r"row 0: .* up to message 1"):
        CompletionDataset.from_messages([CONVERSATION], make_tokenizer(template=counted))
    early = PLAIN.replace("{{ bos_token }}", "{{ 'asked ' if add_generation_prompt else '' }}")
    for split_turns in (False, True):
        with pytest.raises(ValueError, match=r"row 0: .* up to message 1"):
            CompletionDataset.from_messages([ONE_TURN], make_tokenizer(template=early), split_turns=split_turns)


def test_a_conversation_whose_answer_is_cut_off_is_refused(make_tokenizer):
    with pytest.raises(ValueError, match="row 0 has no completion"):
        CompletionDataset.from_messages([ONE_TURN], make_tokenizer(template=PLAIN), max_length=5)


def test_flags_must_fit_the_tokens(language_tokenizer):
    with pytest.raises(ValueError, match="an entry for each token"):
        CompletionDataset([[5, 6, 7]], [1], language_tokenizer, learnt=[[True]])
    with pytest.raises(ValueError, match="row 0 has no token to learn"):
        CompletionDataset([[5, 6, 7]], [1], language_tokenizer, learnt=[[True, False, False]])
