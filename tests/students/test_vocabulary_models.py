"""Tokenizers of every kind lose entries, and nothing else: trained offline on the course's own messages."""

import copy
import json

import pytest
import transformers as tr
from hypothesis import given, settings, strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from trained_tokenizers import BYTE_LEVEL, BYTES, CHARACTERS, KINDS, UNIGRAM, messages, trained_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from distill_helpers.models.loading import language_model_path
from distill_helpers.students.vocabulary import trim_vocabulary
from distill_helpers.students.vocabulary_models import vocabulary_of

BPE = [*BYTE_LEVEL, *CHARACTERS]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def pipeline_of(tokenizer):
    return json.loads(tokenizer.backend_tokenizer.to_str())


def smallest_size(tokenizer, texts):
    with pytest.raises(ValueError, match=r"size must be at least \d+ \(special and added tokens, and char") as caught:
        trim_vocabulary(tokenizer, texts, 1)
    return int(str(caught.value).split("at least ")[1].split()[0])


def size_between(tokenizer, texts, share):
    low = smallest_size(tokenizer, texts)
    return round(low + share * (len(tokenizer) - low))


def trimmed_to(kind, share, texts=None):
    tokenizer, texts = trained_tokenizer(kind), texts or messages()
    return trim_vocabulary(tokenizer, texts, size_between(tokenizer, texts, share))


def n_tokens(tokenizer, texts):
    return sum(len(ids) for ids in tokenizer(list(texts))["input_ids"])


def n_unknown(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"].count(tokenizer.unk_token_id)


@pytest.mark.parametrize("kind", KINDS)
def test_indices_are_contiguous_and_name_the_same_entries_as_before(kind):
    before = trained_tokenizer(kind)
    size = size_between(before, messages(), 0.4)
    after, kept = trim_vocabulary(before, messages(), size)
    assert len(after) == len(kept) == size < len(before)
    assert sorted(after.get_vocab().values()) == list(range(size))
    assert after.convert_ids_to_tokens(range(size)) == before.convert_ids_to_tokens(kept)
    assert len(set(kept)) == size


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(share=st.floats(0, 1), first=st.integers(0, 20))
@settings(deadline=None, max_examples=4)
def test_a_text_whose_entries_all_stay_has_the_same_tokens(kind, share, first):
    before, corpus = trained_tokenizer(kind), messages()[first : first + 20]
    after, kept = trim_vocabulary(before, corpus, size_between(before, corpus, share))
    words = sorted({word for text in messages() for word in text.split()})
    ids = before(words)["input_ids"]
    whole = [(word, own) for word, own in zip(words, ids, strict=True) if set(own) <= set(kept)]
    assert whole
    for word, own in whole:
        assert [kept[i] for i in after(word)["input_ids"]] == own


@pytest.mark.parametrize("kind", KINDS)
def test_with_all_entries_in_use_kept_the_messages_have_the_same_tokens(kind):
    before = trained_tokenizer(kind)
    after, kept = trim_vocabulary(before, messages(), len(before))
    found = after(list(messages()))["input_ids"]
    assert [[kept[i] for i in ids] for ids in found] == before(list(messages()))["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_half_of_the_entries_cost_few_tokens(kind):
    before, (after, _) = trained_tokenizer(kind), trimmed_to(kind, 0.5)
    assert n_tokens(after, messages()) < 1.35 * n_tokens(before, messages())  # 1.11 to 1.32, by kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_more_entries_never_cost_more_tokens(kind):
    counts = [n_tokens(trimmed_to(kind, share)[0], messages()) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2] > counts[-1] == n_tokens(trained_tokenizer(kind), messages())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(text=ANY_TEXT)
@settings(deadline=None, max_examples=25)
def test_no_text_gets_an_unknown_token_or_another_decoding_in_a_vocabulary_that_can_spell_it(kind, text):
    before = trained_tokenizer(kind)
    after, _ = trim_vocabulary(before, [*messages()[:5], text], smallest_size(before, [*messages()[:5], text]))
    if kind in BYTE_LEVEL or kind == "Llama 2":  # whatever the texts that it was trimmed to
        after, _ = trimmed_to(kind, 0)
    assert n_unknown(after, text) <= n_unknown(before, text)
    assert after.decode(after(text)["input_ids"]) == before.decode(before(text)["input_ids"])


@pytest.mark.parametrize("kind", KINDS)
def test_special_and_added_tokens_keep_their_roles(kind):
    before, (after, kept) = trained_tokenizer(kind), trimmed_to(kind, 0.3)
    assert after.special_tokens_map == before.special_tokens_map
    assert {str(t): repr(t) for t in after.added_tokens_decoder.values()} == {
        str(t): repr(t) for t in before.added_tokens_decoder.values()
    }
    for token in before.added_tokens_decoder.values():
        index = before.convert_tokens_to_ids(token.content)
        assert kept[after.convert_tokens_to_ids(token.content)] == index
        text = f"no {token.content} sound"
        assert [kept[i] for i in after(text)["input_ids"]].count(index) == before(text)["input_ids"].count(index) > 0
        assert after.tokenize(token.content) == before.tokenize(token.content)
    both = after("a", "b", return_token_type_ids=True)
    expected = before("a", "b", return_token_type_ids=True)
    assert [kept[i] for i in both["input_ids"]] == expected["input_ids"]
    assert both["token_type_ids"] == expected["token_type_ids"]
    for skip in (True, False):
        found = after.decode(after("no sound")["input_ids"], skip_special_tokens=skip)
        assert found == before.decode(before("no sound")["input_ids"], skip_special_tokens=skip)


@pytest.mark.parametrize("kind", KINDS)
def test_it_survives_saving(kind, tmp_path):
    after, _ = trimmed_to(kind, 0.3)
    after.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(list(messages()))["input_ids"] == after(list(messages()))["input_ids"]
    assert len(loaded) == len(after)
    assert pipeline_of(loaded) | {"truncation": None} == pipeline_of(after) | {"truncation": None}
    for name in ("special_tokens_map", "padding_side", "model_input_names", "chat_template", "extra_special_tokens"):
        assert getattr(loaded, name) == getattr(after, name) == getattr(trained_tokenizer(kind), name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_teachers_tokenizer_is_not_changed(kind):
    tokenizer = copy.deepcopy(trained_tokenizer(kind))
    trim_vocabulary(tokenizer, messages(), len(tokenizer))
    assert pipeline_of(tokenizer) == pipeline_of(trained_tokenizer(kind))


# Byte-pair encoding


@pytest.mark.parametrize("kind", BPE)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_merges_are_closed_under_the_entries_and_lead_to_each_of_them(kind, share):
    before, (after, _) = vocabulary_of(pipeline_of(trained_tokenizer(kind))), trimmed_to(kind, share)
    model = pipeline_of(after)["model"]
    assert {part for merge in model["merges"] for part in merge} <= model["vocab"].keys()
    assert before.model["merges"] != model["merges"]
    trimmed = vocabulary_of(pipeline_of(after))
    built = [entry for entry in model["vocab"] if before.built_by(entry)]
    assert len(built) > 20
    assert all(trimmed.built_by(entry) == before.built_by(entry) for entry in built)


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_the_symbols_of_all_bytes_stay(kind):
    after, _ = trimmed_to(kind, 0)
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= after.get_vocab().keys()


@pytest.mark.parametrize("kind", ["GPT-2", "Llama 2", "GPT-1", "BPE with a prefix"])
def test_an_entry_is_built_as_the_tokenizers_library_builds_it(kind):
    backend = trained_tokenizer(kind).backend_tokenizer
    vocabulary = vocabulary_of(pipeline_of(trained_tokenizer(kind)))
    built = {entry: vocabulary.built_by(entry) for entry in vocabulary.indices}
    assert sum(map(bool, built.values())) > 300
    for entry in filter(built.get, built):
        if kind == "BPE with a prefix" and entry.startswith("##"):  # the library starts words without the mark
            continue
        word = entry.removesuffix("</w>") if kind == "GPT-1" else entry
        if kind == "GPT-1" and word == entry:
            continue
        assert [token.value for token in backend.model.tokenize(word)] == [entry]


def test_uses_on_the_way_to_an_entry_count():
    # "ab" is never a token of its own, and "abc" cannot be built without it.
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "ab": 4, "abc": 5, "cd": 6}}
    model["merges"] = ["a b", "ab c", "c d"]
    vocabulary = vocabulary_of({"model": model, "normalizer": None, "pre_tokenizer": None})
    assert vocabulary.built_by("abc") == ["ab", "abc"]
    assert vocabulary.by_use({"abc": 5, "cd": 4, "d": 1}) == ["ab", "abc", "cd", "d"]
    assert vocabulary.trimmed(["a", "b", "ab", "abc"])["merges"] == [["a", "b"]]


def test_words_that_llama_3_looks_up_without_merges_are_kept_as_words():
    model = pipeline_of(trained_tokenizer("Llama 3"))
    model["model"]["vocab"]["Ġxylophonist"] = 2000
    model["added_tokens"] = []
    model["post_processor"] = None
    before = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(model)))
    corpus = [" xylophonist"] * 3 + ["mac"]
    after, kept = trim_vocabulary(before, corpus, smallest_size(before, corpus) + 1)
    assert before.tokenize(corpus[0]) == after.tokenize(corpus[0]) == ["Ġxylophonist"]
    assert kept[-1] == 2000


def test_indices_with_a_hole_that_an_added_token_fills():
    backend = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 3}, [("a", "b")]))
    backend.add_tokens(["<x>"])
    before = PreTrainedTokenizerFast(tokenizer_object=backend)
    after, kept = trim_vocabulary(before, ["ab", "a<x>b"], 4)
    text = "ab<x>a"
    assert [kept[i] for i in after(text)["input_ids"]] == before(text)["input_ids"]
    assert sorted(after.get_vocab().values()) == [0, 1, 2, 3]


def test_bytes_to_fall_back_on_stay():
    before, (after, _) = trained_tokenizer("Llama 2"), trimmed_to("Llama 2", 0)
    assert after.convert_ids_to_tokens(after.convert_tokens_to_ids(BYTES)) == BYTES
    assert "☃" not in before.get_vocab()
    assert after.tokenize("☃") == before.tokenize("☃") == ["▁", "<0xE2>", "<0x98>", "<0x83>"]


@pytest.mark.slow
def test_smollm2_trimmed_to_the_help_desk(help_desk):
    path = language_model_path()
    before = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    train, test = list(help_desk.train.texts), list(help_desk.test.texts)
    after, kept = trim_vocabulary(before, train, 5000)
    assert (len(before), len(after), len(kept)) == (49152, 5000, 5000)
    assert n_tokens(after, train) < 1.06 * n_tokens(before, train)  # 4.5% more
    assert n_tokens(after, test) < 1.12 * n_tokens(before, test)  # 9.6% more
    assert all(after.decode(after(text)["input_ids"]) == text for text in test)
    assert after.special_tokens_map == before.special_tokens_map
    messages = [{"role": "user", "content": "no sound"}]
    rendered = [tokenizer.apply_chat_template(messages, tokenize=False) for tokenizer in (before, after)]
    assert rendered[0] == rendered[1]
    everything, all_kept = trim_vocabulary(before, train, len(before))
    assert [[all_kept[i] for i in ids] for ids in everything(train)["input_ids"]] == before(train)["input_ids"]


# Unigram


@pytest.mark.parametrize("kind", UNIGRAM)
def test_scores_stay_and_so_does_what_an_unknown_character_costs(kind):
    before, (after, kept) = trained_tokenizer(kind), trimmed_to(kind, 0.3)
    old, new = pipeline_of(before)["model"], pipeline_of(after)["model"]
    scores = dict(old["vocab"])
    assert all(scores[entry] == score for entry, score in new["vocab"])
    assert min(score for _, score in new["vocab"]) == min(scores.values())
    assert new["vocab"][new["unk_id"]][0] == old["vocab"][old["unk_id"]][0] == before.unk_token
    text = "☃ ☃☃"
    assert n_unknown(before, text) > 0
    assert [kept[i] for i in after(text)["input_ids"]] == before(text)["input_ids"]


def test_an_unknown_token_in_the_middle_of_the_entries():
    entries = [("▁rare", -4.0), ("▁", -2.0), ("a", -3.0), ("<unk>", 0.0), ("b", -9.0)]
    backend = Tokenizer(models.Unigram(entries, unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    before = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    after, kept = trim_vocabulary(before, ["a b"], 4)
    assert kept == [1, 2, 3, 4]
    assert after.tokenize("a☃ b") == ["▁", "a", "☃", "▁", "b"]
    assert n_unknown(after, "a☃ b") == n_unknown(before, "a☃ b") == 1


def test_unigram_with_bytes_to_fall_back_on():
    entries = [("<unk>", 0.0), *((byte, -9.0) for byte in BYTES), ("▁", -2.0), ("a", -3.0), ("é", -4.0), ("▁aé", -5.0)]
    backend = Tokenizer(models.Unigram(entries, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    before = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    after, kept = trim_vocabulary(before, ["a"], 300)
    assert pipeline_of(after)["model"]["byte_fallback"]
    assert len(kept) == 259  # without "é", which the texts don't have, and what holds it
    assert after.tokenize("é") == ["▁", "<0xC3>", "<0xA9>"]


# Entries that cannot be spelled


def test_an_entry_with_a_character_that_has_no_entry_of_its_own_stays():
    entries = [("<unk>", 0.0), ("▁", -2.0), ("n", -3.0), ("e", -3.0), ("▁né", -9.0), ("▁ne", -8.0)]
    backend = Tokenizer(models.Unigram(entries, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    before = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    corpus = ["né", "ne", "ne"]
    after, _ = trim_vocabulary(before, corpus, 5)
    assert after.tokenize("né ne") == ["▁né", "▁", "n", "e"]
    with pytest.raises(ValueError, match="size must be at least 5"):
        trim_vocabulary(before, corpus, 4)


def test_a_wordpiece_whose_characters_stand_in_the_wrong_place_stays():
    words = ["[UNK]", "n", "##n", "e", "##e", "é", "né", "##én", "nene"]  # "é" begins words only
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    before = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    corpus = ["né", "nene", "nene", "eén"]
    after, _ = trim_vocabulary(before, corpus, 8)
    assert after.tokenize("né nene eén") == ["né", "n", "##e", "##n", "##e", "e", "##én"]


# Classes of transformers


def parts_of(kind):
    model = pipeline_of(trained_tokenizer(kind))["model"]
    if model["type"] == "BPE":
        return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}
    entries = model["vocab"]
    return {"vocab": entries if isinstance(entries, dict) else [tuple(entry) for entry in entries]}


CLASSES = {
    "GPT2Tokenizer": ("GPT-2", {}),
    "GPTNeoXTokenizer": ("GPT-2", {}),
    "RobertaTokenizer": ("RoBERTa", {}),
    "DebertaTokenizer": ("GPT-2", {}),
    "Qwen2Tokenizer": ("Qwen", {}),
    "LlamaTokenizer": ("Llama 2", {"add_bos_token": True, "add_eos_token": True}),
    "GemmaTokenizer": ("Llama 2", {}),
    "T5Tokenizer": ("T5", {"extra_ids": 5}),
    "XLMRobertaTokenizer": ("XLM-R", {}),
    "CamembertTokenizer": ("XLM-R", {}),
    "AlbertTokenizer": ("ALBERT", {}),
    "XLNetTokenizer": ("ALBERT", {}),
    "DebertaV2Tokenizer": ("DeBERTa-v2", {"unk_id": 3}),
    "MPNetTokenizer": ("MPNet", {}),
    "DistilBertTokenizer": ("MPNet", {}),
}


@pytest.mark.parametrize("name", CLASSES)
def test_tokenizers_of_transformers_own_classes(name, tmp_path):
    kind, options = CLASSES[name]
    before = getattr(tr, name)(**parts_of(kind), **options)
    texts = list(messages())
    after, kept = trim_vocabulary(before, texts, size_between(before, texts, 0.3))
    full, all_kept = trim_vocabulary(before, texts, len(before))
    assert after.convert_ids_to_tokens(range(len(after))) == before.convert_ids_to_tokens(kept)
    assert [[all_kept[i] for i in ids] for ids in full(texts)["input_ids"]] == before(texts)["input_ids"]
    assert [kept[i] for i in after("a", "b")["input_ids"]] == before("a", "b")["input_ids"]
    for text in texts[:10]:
        assert after.decode(after(text)["input_ids"]) == before.decode(before(text)["input_ids"])
    after.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(texts)["input_ids"] == after(texts)["input_ids"]
    assert loaded.special_tokens_map == after.special_tokens_map == before.special_tokens_map


def test_how_the_last_batch_was_cut_and_padded_is_not_inherited():
    tokenizer = copy.deepcopy(trained_tokenizer("RoBERTa"))
    tokenizer(list(messages()[:3]), truncation=True, max_length=5, padding="max_length")
    after, _ = trim_vocabulary(tokenizer, messages(), 400)
    assert not {"max_length", "stride", "truncation_strategy", "pad_to_multiple_of"} & after.init_kwargs.keys()
    assert after.model_max_length == tokenizer.model_max_length


def template(single, *special):
    tokens = {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in special}
    steps = [{"Sequence": {"id": "A", "type_id": 0}} if part == "$A" else part for part in single]
    steps = [step if isinstance(step, dict) else {"SpecialToken": {"id": step, "type_id": 0}} for step in steps]
    return {"type": "TemplateProcessing", "single": steps, "pair": steps, "special_tokens": tokens}


def test_the_tokens_of_a_template_stay_even_if_they_are_neither_added_nor_used():
    pipeline = pipeline_of(trained_tokenizer("Qwen"))
    vocabulary = pipeline["model"]["vocab"]
    around, unused = ("Ġthe", vocabulary["Ġthe"]), ("Ġand", vocabulary["Ġand"])
    pipeline["post_processor"] = template(["Ġthe", "$A"], around, unused)
    before = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(pipeline)))
    after, kept = trim_vocabulary(before, ["mac"], smallest_size(before, ["mac"]))
    assert kept[after("mac")["input_ids"][0]] == before("mac")["input_ids"][0] == around[1]
    assert unused[1] in kept


def test_a_template_with_a_token_that_does_not_exist_is_refused():
    pipeline = pipeline_of(trained_tokenizer("Qwen"))
    pipeline["post_processor"] = template(["<cls>", "$A"], ("<cls>", 9999))
    before = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(pipeline)))
    with pytest.raises(ValueError, match=r"post-processor of the tokenizer adds token 9999 .*has no such token; give"):
        trim_vocabulary(before, ["mac"], 400)


def test_tokens_added_later_stay():
    before = copy.deepcopy(trained_tokenizer("GPT-2"))
    before.add_tokens(["[url]", AddedToken("<num>", single_word=True), "mac"])
    before.add_special_tokens({"cls_token": "<cls>", "extra_special_tokens": ["<tool>"]})
    after, kept = trim_vocabulary(before, messages(), 400)
    for text in ("see [url]<tool>", "a <num> x<num>", "my mac", "<cls>no"):
        tokens = [token for token in before.tokenize(text) if token in before.get_added_vocab()]
        assert [token for token in after.tokenize(text) if token in before.get_added_vocab()] == tokens
        assert tokens
    assert after.cls_token == "<cls>"
    assert len(kept) == len(after) == 400


# What is refused


def test_pairs_are_texts():
    tokenizer = trained_tokenizer("RoBERTa")
    pairs, apart = [("my mac", "no sound")], ["my mac", "no sound"]
    assert trim_vocabulary(tokenizer, pairs, 280)[1] == trim_vocabulary(tokenizer, apart, 280)[1]


def test_no_texts_are_refused():
    with pytest.raises(ValueError, match="texts is empty; pass the training texts"):
        trim_vocabulary(trained_tokenizer("GPT-2"), [], 500)


def test_a_tokenizer_of_whole_words_is_refused():
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "mac": 1}, unk_token="<unk>"))
    words = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    with pytest.raises(TypeError, match=r"is a WordLevel tokenizer, and a word .*would be unknown; keep the teacher"):
        trim_vocabulary(words, ["mac"], 2)


@pytest.mark.parametrize("tokenizer", [tr.ByT5Tokenizer(), Tokenizer(models.BPE())], ids=["slow", "without a wrapper"])
def test_a_tokenizer_that_is_not_fast_is_refused(tokenizer):
    with pytest.raises(TypeError, match=r"okenizer is no fast tokenizer; load its fast version .*`narrow_student`"):
        trim_vocabulary(tokenizer, ["mac"], 300)


def test_a_tokenizer_that_encodes_or_decodes_in_python_is_refused():
    class Upper(PreTrainedTokenizerFast):
        def _encode_plus(self, text, **kwargs):
            return super()._encode_plus(text.upper(), **kwargs)

    backend = trained_tokenizer("GPT-2").backend_tokenizer
    with pytest.raises(TypeError, match="Upper has its own `_encode_plus`, which a trimmed tokenizer would lose; load"):
        trim_vocabulary(Upper(tokenizer_object=backend), ["mac"], 300)
    clip = tr.CLIPTokenizer(**parts_of("GPT-1"))
    with pytest.raises(TypeError, match="CLIPTokenizer has its own `decode`"):
        trim_vocabulary(clip, ["mac"], 300)


def test_a_step_in_python_is_refused():
    class Halves:
        def pre_tokenize(self, text):
            text.split(lambda _, part: [part[: len(part) // 2], part[len(part) // 2 :]])

    tokenizer = copy.deepcopy(trained_tokenizer("GPT-2"))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Halves())
    with pytest.raises(TypeError, match="has a step in Python, which cannot be saved; keep the teacher's whole"):
        trim_vocabulary(tokenizer, ["mac"], 300)
