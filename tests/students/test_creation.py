"""Students: sizes by hand, vocabularies that lose no word, embeddings and layers that are really the teacher's."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.decomposition import PCA
from tiny_models import ARCHITECTURES, assert_untouched, snapshot, tiny_teacher
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartForSequenceClassification,
    BertTokenizer,
    PreTrainedTokenizerFast,
)

from distill_helpers import (
    TextClassifier,
    create_student,
    create_transformer,
    cut_layers,
    load_text_classifier,
    project_embeddings,
    trim_vocabulary,
)
from distill_helpers.models.architectures import feed_forward, transformer_layers
from distill_helpers.models.batching import predict_logits
from distill_helpers.models.loading import base_encoder_path, embedding_weight
from distill_helpers.students.creation import narrow_student

NAMES = ("graphics", "windows", "mac")
ASCII = [chr(code) for code in range(33, 127)]
ALWAYS_KEPT = 5 + 2 * (94 - 26)  # special tokens; printable characters but capitals, alone and as a continuation


def same_weights(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# create_transformer


@pytest.mark.parametrize(
    ("vocab_size", "hidden", "n_layers", "n_heads", "max_length"), [(300, 32, 2, 4, 64), (77, 24, 1, 3, 10)]
)
def test_parameter_count_by_hand(vocab_size, hidden, n_layers, n_heads, max_length):
    model = create_transformer(
        NAMES, vocab_size, hidden_size=hidden, n_layers=n_layers, n_heads=n_heads, max_length=max_length
    )
    norm, square = 2 * hidden, hidden * hidden + hidden
    embeddings = (vocab_size + max_length + 2) * hidden + norm
    layer = 4 * square + norm + (4 * hidden * hidden + 4 * hidden) + (4 * hidden * hidden + hidden) + norm
    pooler, head = square, 3 * hidden + 3
    assert sum(p.numel() for p in model.parameters()) == embeddings + n_layers * layer + pooler + head
    assert model.config.num_attention_heads == n_heads


def test_it_has_the_classes_and_the_dropout_asked_for_and_is_in_evaluation_mode():
    model = create_transformer(NAMES, 50, hidden_size=16, dropout=0.3)
    assert TextClassifier(model, None).label_names == NAMES
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    assert not model.training


def test_weights_are_a_function_of_the_seed():
    first, again, other = (create_transformer(NAMES, 50, hidden_size=16, seed=seed) for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert not same_weights(first, other)


@pytest.mark.parametrize("name", ["hidden_size", "n_layers", "n_heads", "max_length"])
@pytest.mark.parametrize("value", [0, -4])
def test_sizes_below_one_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        create_transformer(NAMES, 50, **{name: value})


def test_other_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="vocab_size must be at least 1, got 0"):
        create_transformer(NAMES, 0)
    with pytest.raises(ValueError, match="hidden_size 30 is not a multiple of n_heads 4"):
        create_transformer(NAMES, 50, hidden_size=30, n_heads=4)
    with pytest.raises(ValueError, match="distinct label names"):
        create_transformer(("only",), 50)


# trim_vocabulary


@pytest.fixture(scope="module")
def texts(help_desk):
    return help_desk.train.texts[:150]


@pytest.fixture(scope="module")
def trimmed(base_tokenizer, texts):
    return trim_vocabulary(base_tokenizer, texts, 600)


def unknown_words(tokenizer, words):
    return {word for word in words if "[UNK]" in tokenizer.tokenize(word)}


def test_size_is_respected_and_the_old_indices_are_those_of_the_same_tokens(base_tokenizer, trimmed):
    tokenizer, kept = trimmed
    assert len(tokenizer) == len(kept) == 600
    assert tokenizer.convert_ids_to_tokens(range(600)) == base_tokenizer.convert_ids_to_tokens(kept)


def test_special_tokens_stay_and_do_their_work(trimmed):
    tokenizer, _ = trimmed
    assert {tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id} == {
        tokenizer.get_vocab()[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    }
    ids = tokenizer("the screen")["input_ids"]
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["[CLS]", "[SEP]"]


def test_ascii_characters_stay_alone_and_inside_words(base_tokenizer):
    tokenizer, _ = trim_vocabulary(base_tokenizer, ["one"], ALWAYS_KEPT)
    assert len(tokenizer) == ALWAYS_KEPT
    assert unknown_words(tokenizer, ASCII) == set()
    assert unknown_words(tokenizer, [first + second for first in "aZ7" for second in ASCII]) == set()


@pytest.mark.parametrize("size", [ALWAYS_KEPT, 300, 2000])
def test_no_word_of_the_help_desk_becomes_unknown(base_tokenizer, help_desk, size):
    everything = [*help_desk.train.texts, *help_desk.validation.texts, *help_desk.test.texts]
    words = {word for text in everything for word in text.split()}
    tokenizer, _ = trim_vocabulary(base_tokenizer, help_desk.train.texts, size)
    assert unknown_words(tokenizer, words) <= unknown_words(base_tokenizer, words)


@given(
    words=st.lists(
        st.text(st.characters(categories=["L", "M", "N", "P", "S"], exclude_characters="\0"), min_size=1, max_size=8),
        min_size=1,
        max_size=8,
    )
)
@settings(deadline=None, max_examples=40)
def test_no_word_of_any_corpus_in_any_script_becomes_unknown(base_tokenizer, words):
    tokenizer, _ = trim_vocabulary(base_tokenizer, words, 400)
    assert unknown_words(tokenizer, words) <= unknown_words(base_tokenizer, words)


def test_a_german_word_without_its_entry_is_spelled_out(base_tokenizer):
    text = "straße über слово"
    tokenizer, _ = trim_vocabulary(base_tokenizer, [text], 200)
    fewer, _ = trim_vocabulary(base_tokenizer, [text], len(tokenizer) - 3)
    assert "[UNK]" not in base_tokenizer.tokenize(text)
    assert "[UNK]" not in fewer.tokenize(text)


@given(size=st.integers(150, 900), start=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_the_entries_used_most_are_kept(base_tokenizer, help_desk, size, start):
    corpus = help_desk.train.texts[start : start + 40]
    tokenizer, _ = trim_vocabulary(base_tokenizer, corpus, size)
    counts = Counter(token for text in corpus for token in base_tokenizer.tokenize(text))
    optional = {token: n for token, n in counts.items() if len(token.removeprefix("##")) > 1}
    kept = tokenizer.get_vocab().keys() & optional.keys()
    assert len(tokenizer) == min(size, ALWAYS_KEPT + len(optional))
    fewest_kept = min((optional[token] for token in kept), default=np.inf)
    most_dropped = max((n for token, n in optional.items() if token not in kept), default=0)
    assert fewest_kept >= most_dropped


def test_texts_whose_pieces_were_all_kept_are_encoded_as_before(base_tokenizer, help_desk, trimmed):
    tokenizer, kept = trimmed
    words = sorted({word for text in help_desk.test.texts[:300] for word in text.split()})
    whole = [w for w in words if set(base_tokenizer(w, add_special_tokens=False)["input_ids"]) <= set(kept)]
    assert 100 < len(whole) < len(words)  # the test has something to say
    text = " ".join(whole)
    assert [kept[i] for i in tokenizer(text)["input_ids"]] == base_tokenizer(text)["input_ids"]


def test_it_survives_saving(trimmed, texts, tmp_path):
    tokenizer, _ = trimmed
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(texts)["input_ids"] == tokenizer(texts)["input_ids"]


def test_case_and_accents_are_treated_as_before(base_tokenizer):
    vocabulary = [*base_tokenizer.get_vocab(), *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "Für"]
    cased = BertTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, do_lower_case=False, strip_accents=False)
    tokenizer, _ = trim_vocabulary(cased, ["Für Windows für", "Für"], 260)
    assert tokenizer.tokenize("Für")[0] == cased.tokenize("Für")[0] == "Für"
    # Lower case, but accents stay: a German model.
    german = BertTokenizer(vocab={t: i for i, t in enumerate([*vocabulary, "für"])}, strip_accents=False)
    tokenizer, _ = trim_vocabulary(german, ["Für Windows"], 260)
    assert tokenizer.tokenize("FÜR")[0] == german.tokenize("FÜR")[0] == "für"


def test_the_length_limit_is_inherited(base_tokenizer, trimmed):
    assert trimmed[0].model_max_length == base_tokenizer.model_max_length == 512


def test_a_vocabulary_too_small_for_the_characters_is_refused(base_tokenizer):
    with pytest.raises(ValueError, match=f"size must be at least {ALWAYS_KEPT} .*, got 100"):
        trim_vocabulary(base_tokenizer, ["one"], 100)


def test_a_tokenizer_that_is_not_wordpiece_is_refused():
    bpe = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE(vocab={"a": 0, "b": 1}, merges=[])))
    with pytest.raises(TypeError, match="WordPiece"):
        trim_vocabulary(bpe, ["a b"], 500)


# project_embeddings


@pytest.fixture(scope="module")
def base_classifier():
    return load_text_classifier(base_encoder_path(), label_names=NAMES, device="cpu")


def student_of(width, entries):
    return create_transformer(NAMES, entries, hidden_size=width, n_layers=1, n_heads=1)


def distances(embedding):
    return torch.cdist(embedding.double(), embedding.double())


def test_at_the_teachers_width_all_distances_are_kept(base_classifier, trimmed):
    _, kept = trimmed
    student = student_of(384, len(kept))
    share = project_embeddings(student, base_classifier.model, kept)
    source = embedding_weight(base_classifier.model)[kept].detach()
    found = embedding_weight(student).detach()
    assert share == pytest.approx(1)
    torch.testing.assert_close(distances(found), distances(source), atol=1e-4, rtol=1e-4)
    centred = source - source.mean(dim=0)
    torch.testing.assert_close(found @ found.T, centred @ centred.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", [2, 32, 128])
def test_below_it_the_share_of_variance_is_that_of_a_pca(base_classifier, trimmed, width):
    _, kept = trimmed
    student = student_of(width, len(kept))
    share = project_embeddings(student, base_classifier.model, kept)
    pca = PCA(width, svd_solver="full").fit(embedding_weight(base_classifier.model)[kept].detach().double().numpy())
    assert 0 < share < 1
    assert share == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-6)
    variances = embedding_weight(student).detach().double().var(dim=0)  # in order, the first direction first
    np.testing.assert_allclose(variances.numpy(), pca.explained_variance_, rtol=1e-4)


def test_it_is_deterministic_and_touches_nothing_else(base_classifier, trimmed):
    _, kept = trimmed
    before = copy.deepcopy(base_classifier.model.state_dict())
    first, second = student_of(32, len(kept)), student_of(32, len(kept))
    untouched = copy.deepcopy(first.state_dict())
    project_embeddings(first, base_classifier.model, kept)
    project_embeddings(second, base_classifier.model, kept)
    assert same_weights(first, second)
    changed = [name for name, tensor in first.state_dict().items() if not torch.equal(tensor, untouched[name])]
    assert changed == ["bert.embeddings.word_embeddings.weight"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in base_classifier.model.state_dict().items())
    assert embedding_weight(first).requires_grad


def test_the_sign_of_a_component_is_fixed_by_its_largest_entry(make_classifier):
    # Left to the linear-algebra library, it would differ between machines, and with it every student.
    teacher, student = make_classifier(seed=1).model, student_of(8, 100)
    project_embeddings(student, teacher, range(100))
    source = embedding_weight(teacher)[:100].detach()
    directions = (source - source.mean(dim=0)).T @ embedding_weight(student).detach()
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    assert (largest > 0).all()


@pytest.mark.parametrize(
    ("width", "entries", "kept", "message"),
    [
        (16, 100, range(99), "has 100 entries, kept_ids has 99"),
        (64, 100, range(100), "width of 64 from a 100 × 32 embedding"),
        (16, 10, range(10), "width of 16 from a 10 × 32 embedding"),
    ],
    ids=["another vocabulary", "wider than the teacher", "wider than the vocabulary"],
)
def test_sizes_that_do_not_fit_are_refused(make_classifier, width, entries, kept, message):
    with pytest.raises(ValueError, match=message):
        project_embeddings(student_of(width, entries), make_classifier().model, kept)


# create_student


@pytest.fixture(scope="module")
def make_student(base_classifier, texts):
    def make(**options):
        return create_student(base_classifier, texts, **{"vocab_size": 500, "hidden_size": 32, **options})

    return make


def test_a_student_end_to_end(make_student, base_classifier, texts, tmp_path):
    student = make_student(max_length=24)
    assert student.label_names == base_classifier.label_names == NAMES
    assert len(student.tokenizer) == len(embedding_weight(student.model)) == student.model.config.vocab_size == 500
    logits = predict_logits(*student, [*texts[:5], "word " * 100])  # the last is longer than the model can read
    assert logits.shape == (6, 3)
    assert logits.isfinite().all()
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    assert torch.equal(predict_logits(*load_text_classifier(tmp_path, device="cpu"), texts[:5]), logits[:5])


def test_its_embeddings_are_the_teachers_unless_they_are_declined(make_student, base_classifier, texts):
    student, random = make_student(), make_student(teacher_embeddings=False)
    tokenizer, kept = trim_vocabulary(base_classifier.tokenizer, texts, 500)
    expected = student_of(32, len(kept))
    project_embeddings(expected, base_classifier.model, kept)
    assert torch.equal(embedding_weight(student.model), embedding_weight(expected))
    assert student.tokenizer.get_vocab() == tokenizer.get_vocab()
    plain = create_transformer(NAMES, 500, hidden_size=32)
    assert same_weights(random.model, plain)
    assert not torch.equal(embedding_weight(student.model), embedding_weight(random.model))


def test_a_student_is_a_function_of_its_seed(make_student):
    first, again, other = make_student(seed=1), make_student(seed=1), make_student(seed=2)
    assert same_weights(first.model, again.model)
    assert not same_weights(first.model, other.model)


def test_the_options_reach_the_model_and_the_teacher_is_left_alone(make_student, base_classifier):
    config = make_student(n_layers=3, n_heads=4, max_length=24, dropout=0.2).model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size) == (3, 4, 32)
    assert (config.max_position_embeddings, config.hidden_dropout_prob) == (24, 0.2)
    assert base_classifier.tokenizer.model_max_length == 512
    assert len(base_classifier.tokenizer) == 30522


# cut_layers


@pytest.fixture(scope="module")
def deep(make_classifier):
    return make_classifier(seed=5, n_layers=4)


@pytest.mark.parametrize("layers", [[0], [3], [1, 3], [0, 2, 3], (0, 1, 2)])
def test_exactly_these_layers_are_kept(deep, layers):
    student = cut_layers(deep, layers)
    assert len(student.model.bert.encoder.layer) == student.model.config.num_hidden_layers == len(layers)
    for kept, index in zip(student.model.bert.encoder.layer, layers, strict=True):
        assert same_weights(kept, deep.model.bert.encoder.layer[index])
    for part in ("embeddings", "pooler"):
        assert same_weights(getattr(student.model.bert, part), getattr(deep.model.bert, part))
    assert same_weights(student.model.classifier, deep.model.classifier)
    assert student.label_names == deep.label_names


def test_all_layers_are_the_teacher(deep, texts):
    assert torch.equal(predict_logits(*cut_layers(deep, range(4)), texts[:8]), predict_logits(*deep, texts[:8]))


def test_a_cut_teacher_is_another_function_that_survives_saving(deep, texts, tmp_path):
    student = cut_layers(deep, [1, 2])
    logits = predict_logits(*student, texts[:8])
    assert not torch.allclose(logits, predict_logits(*deep, texts[:8]))
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    assert torch.equal(predict_logits(*load_text_classifier(tmp_path, device="cpu"), texts[:8]), logits)


def test_the_teacher_is_not_changed_by_the_cut_nor_by_training_the_student(deep):
    before = copy.deepcopy(deep.model.state_dict())
    student = cut_layers(deep, [0, 3])
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(1)
    assert deep.model.config.num_hidden_layers == len(deep.model.bert.encoder.layer) == 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in deep.model.state_dict().items())


@pytest.mark.parametrize("layers", [[], [4], [0, 4], [-1], [-1, 2], [2, 1], [1, 1]])
def test_layers_that_are_no_ascending_choice_are_refused(deep, layers):
    with pytest.raises(ValueError, match="ascending indices from 0 to 3") as error:
        cut_layers(deep, layers)
    assert str(layers) in str(error.value)


@pytest.mark.parametrize("kind", [*ARCHITECTURES, "qwen2", "gpt2"])
def test_other_architectures_are_cut_as_well(small_tokenizer, texts, tmp_path, kind):
    teacher = tiny_teacher(kind, small_tokenizer)
    before = snapshot(teacher.model)
    logits = predict_logits(*teacher, texts[:8])
    assert torch.equal(predict_logits(*cut_layers(teacher, range(4)), texts[:8]), logits)
    student = cut_layers(teacher, [1, 3])
    assert_untouched(teacher.model, before)
    for kept, index in zip(transformer_layers(student.model), (1, 3), strict=True):
        assert same_weights(kept, transformer_layers(teacher.model)[index])
    found = predict_logits(*student, texts[:8])
    assert not torch.allclose(found, logits, atol=1e-2)
    student.model.save_pretrained(tmp_path)
    # Not through load_text_classifier: AutoTokenizer does not believe that a Qwen has a BERT tokenizer.
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(predict_logits(loaded, student.tokenizer, texts[:8]), found)


def test_an_encoder_decoder_is_refused(small_tokenizer):
    config = BartConfig(vocab_size=400, d_model=16, encoder_layers=2, decoder_layers=3, encoder_ffn_dim=8)
    model = BartForSequenceClassification(config)
    with pytest.raises(TypeError, match="BartForSequenceClassification has an encoder and a decoder"):
        cut_layers(TextClassifier(model, small_tokenizer), [0])
    with pytest.raises(TypeError, match="BartForSequenceClassification has an encoder and a decoder"):
        narrow_student(TextClassifier(model, small_tokenizer), hidden_size=8)


# narrow_student


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_narrow_student_end_to_end(small_tokenizer, texts, tmp_path, kind):
    teacher = tiny_teacher(kind, small_tokenizer)
    before = snapshot(teacher.model)
    student = narrow_student(teacher, hidden_size=16, n_layers=2)
    assert_untouched(teacher.model, before)
    assert type(student.model) is type(teacher.model)
    assert student.tokenizer is teacher.tokenizer
    assert student.label_names == teacher.label_names == NAMES
    config = student.model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (16, 2, 4)
    assert embedding_weight(student.model).shape == (400, 16)
    layers = transformer_layers(student.model)
    assert len(layers) == 2
    assert {feed_forward(layer).down.weight.shape for layer in layers} == {(16, 24)}  # 48 · 16/32
    assert not student.model.training
    logits = predict_logits(*student, texts[:8])
    assert logits.shape == (8, 3)
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    assert torch.equal(predict_logits(*load_text_classifier(tmp_path, device="cpu"), texts[:8]), logits)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_only_its_embeddings_come_from_the_teacher(small_tokenizer, kind):
    teacher = tiny_teacher(kind, small_tokenizer, seed=5)
    student = narrow_student(teacher, hidden_size=16)
    expected = student_of(16, 400)
    project_embeddings(expected, teacher.model, range(400))
    assert torch.equal(embedding_weight(student.model), embedding_weight(expected))
    full = narrow_student(teacher, hidden_size=32)
    found, source = embedding_weight(full.model).detach(), embedding_weight(teacher.model).detach()
    torch.testing.assert_close(distances(found), distances(source), atol=1e-4, rtol=1e-4)
    # At the teacher's own size, all matrices have the teacher's shapes and other values.
    weights = dict(full.model.named_parameters())
    for name, parameter in teacher.model.named_parameters():
        assert weights[name].shape == parameter.shape
        assert parameter.dim() == 1 or not torch.allclose(weights[name], parameter, atol=1e-2)


def test_a_narrow_student_is_a_function_of_its_seed(small_tokenizer):
    teacher = tiny_teacher("llama", small_tokenizer)
    first, again, other = (narrow_student(teacher, hidden_size=16, seed=seed).model for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert not same_weights(first, other)
    assert torch.equal(embedding_weight(first), embedding_weight(other))


@pytest.mark.parametrize(
    ("width", "n_heads", "head_dim", "n_key_value_heads"),
    [(16, None, 4, 2), (16, 2, 8, 1), (24, 3, 8, 1), (24, 6, 4, 3), (20, 5, 4, 1), (16, 1, 16, 1), (32, 8, 4, 4)],
)
def test_heads_that_share_keys_and_values(small_tokenizer, texts, width, n_heads, head_dim, n_key_value_heads):
    teacher = tiny_teacher("llama", small_tokenizer)  # 4 heads, each 2 of which share keys and values
    student = narrow_student(teacher, hidden_size=width, n_heads=n_heads)
    config = student.model.config
    assert (config.num_attention_heads, config.head_dim) == (n_heads or 4, head_dim)
    assert config.num_key_value_heads == n_key_value_heads
    attention = transformer_layers(student.model)[0].self_attn
    assert attention.q_proj.weight.shape == (width, width)
    assert attention.k_proj.weight.shape == (n_key_value_heads * head_dim, width)
    assert predict_logits(*student, texts[:4]).isfinite().all()


def test_lists_with_an_entry_per_layer_are_as_long_as_the_student_is_deep(small_tokenizer, texts):
    student = narrow_student(tiny_teacher("qwen2", small_tokenizer), hidden_size=16, n_layers=2)
    assert student.model.config.layer_types == ["full_attention", "sliding_attention"]
    assert predict_logits(*student, texts[:4]).isfinite().all()


def test_a_narrow_student_has_the_teachers_precision(small_tokenizer):
    teacher = tiny_teacher("llama", small_tokenizer)
    teacher.model.to(torch.bfloat16)
    student = narrow_student(teacher, hidden_size=16)
    assert {parameter.dtype for parameter in student.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        ("bert", {"hidden_size": 64}, "hidden_size must lie between 1 and the teacher's 32, got 64"),
        ("distilbert", {"hidden_size": 0}, "hidden_size must lie between 1 and the teacher's 32, got 0"),
        ("bert", {"hidden_size": 16, "n_layers": 5}, "n_layers must lie between 1 and the teacher's 4, got 5"),
        ("llama", {"hidden_size": 16, "n_layers": 0}, "n_layers must lie between 1 and the teacher's 4, got 0"),
        ("bert", {"hidden_size": 18}, "hidden_size 18 is not a multiple of n_heads 4; change one of them"),
        ("distilbert", {"hidden_size": 16, "n_heads": 3}, "hidden_size 16 is not a multiple of n_heads 3"),
        ("llama", {"hidden_size": 16, "n_heads": 0}, "hidden_size 16 is not a multiple of n_heads 0"),
        ("llama", {"hidden_size": 12}, r"heads of width 3 .* make hidden_size a multiple of 8"),
    ],
)
def test_students_that_the_teacher_cannot_have_are_refused(small_tokenizer, kind, sizes, message):
    with pytest.raises(ValueError, match=message):
        narrow_student(tiny_teacher(kind, small_tokenizer), **sizes)


def test_an_odd_width_of_heads_is_fine_without_rotary_positions(small_tokenizer):
    student = narrow_student(tiny_teacher("bert", small_tokenizer), hidden_size=12)
    assert student.model.config.hidden_size == 12


def test_a_feed_forward_size_that_is_not_known_is_refused(small_tokenizer):
    with pytest.raises(TypeError, match="GPT2Config has none of intermediate_size, hidden_dim"):
        narrow_student(tiny_teacher("gpt2", small_tokenizer), hidden_size=16)
