"""Students: sizes by hand, and embeddings and layers that are really the teacher's."""

import copy

import pytest
import torch
from tiny_models import (
    ARCHITECTURES,
    NAMES,
    assert_untouched,
    distances,
    same_weights,
    snapshot,
    student_of,
    tiny_teacher,
)
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BartForSequenceClassification,
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
from distill_helpers.models.architectures import embedding_weight, feed_forward, transformer_layers
from distill_helpers.models.text_models import predict_logits
from distill_helpers.students.creation import narrow_student

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
    logits = predict_logits(student, [*texts[:5], "word " * 100])  # the last is longer than the model can read
    assert logits.shape == (6, 3)
    assert logits.isfinite().all()
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    assert torch.equal(predict_logits(load_text_classifier(tmp_path, device="cpu"), texts[:5]), logits[:5])


@pytest.mark.slow
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
    assert torch.equal(predict_logits(cut_layers(deep, range(4)), texts[:8]), predict_logits(deep, texts[:8]))


def test_a_cut_teacher_is_another_function_that_survives_saving(deep, texts, tmp_path):
    student = cut_layers(deep, [1, 2])
    logits = predict_logits(student, texts[:8])
    assert not torch.allclose(logits, predict_logits(deep, texts[:8]))
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    assert torch.equal(predict_logits(load_text_classifier(tmp_path, device="cpu"), texts[:8]), logits)


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
    logits = predict_logits(teacher, texts[:8])
    assert torch.equal(predict_logits(cut_layers(teacher, range(4)), texts[:8]), logits)
    student = cut_layers(teacher, [1, 3])
    assert_untouched(teacher.model, before)
    for kept, index in zip(transformer_layers(student.model), (1, 3), strict=True):
        assert same_weights(kept, transformer_layers(teacher.model)[index])
    found = predict_logits(student, texts[:8])
    assert not torch.allclose(found, logits, atol=1e-2)
    student.model.save_pretrained(tmp_path)
    # Not through load_text_classifier: AutoTokenizer does not believe that a Qwen has a BERT tokenizer.
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(predict_logits(TextClassifier(loaded, student.tokenizer), texts[:8]), found)


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
    logits = predict_logits(student, texts[:8])
    assert logits.shape == (8, 3)
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    assert torch.equal(predict_logits(load_text_classifier(tmp_path, device="cpu"), texts[:8]), logits)


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
    assert predict_logits(student, texts[:4]).isfinite().all()


def test_lists_with_an_entry_per_layer_are_as_long_as_the_student_is_deep(small_tokenizer, texts):
    student = narrow_student(tiny_teacher("qwen2", small_tokenizer), hidden_size=16, n_layers=2)
    assert student.model.config.layer_types == ["full_attention", "sliding_attention"]
    assert predict_logits(student, texts[:4]).isfinite().all()


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
    with pytest.raises(TypeError, match="GPT2Config has none of intermediate_size, hidden_dim, d_ff"):
        narrow_student(tiny_teacher("gpt2", small_tokenizer), hidden_size=16)
