"""Defects that are common in code for distillation, one test for each: what ours must not do.

The tests of the single modules say the same in more detail; this file is the list.
"""

import copy
import logging
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertTokenizerFast,
    LlamaConfig,
    LlamaForSequenceClassification,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from distill_helpers import (
    IGNORE_INDEX,
    DistillationCollator,
    DistillationConfig,
    DistillationDataset,
    DistillationLoss,
    DistillationTrainer,
    FeatureTerms,
    ModelShape,
    TextClassifier,
    attention_score_loss,
    capture_features,
    compare,
    create_transformer,
    evaluate,
    hidden_state_loss,
    layer_map,
    load_text_classifier,
    mean_divergence,
    precompute_teacher_logits,
    relation_loss,
    train_student_with_distillation,
    trim_vocabulary,
)
from distill_helpers.models.architectures import embedding_weight
from distill_helpers.models.text_models import predict_logits


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def train(student, sets, folder, config=None, **settings):
    settings = {"n_epochs": 1, "batch_size": 16, "device": "cpu", "progress": False} | settings
    return train_student_with_distillation(student, *sets, config, output_dir=folder, **settings)


def save(classifier, folder):
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [8, 10])
def test_task_loss_of_sequences_is_not_silently_wrong(length, causal):
    """ "task loss, 3-D logits": an error, or, where the length equals the vocabulary (10), a wrong number."""
    logits, labels = randn(2, length, 10), torch.arange(2 * length).reshape(2, length) % 10
    found = DistillationLoss(DistillationConfig(alpha=0, causal=causal))(logits, None, labels)["total_loss"]
    by_hand = [
        -logits[row, position - causal].log_softmax(-1)[labels[row, position]]
        for row in range(2)
        for position in range(int(causal), length)
    ]
    assert float(found) == pytest.approx(float(torch.stack(by_hand).mean()), rel=1e-5)


def test_padding_has_no_part_in_the_kl():
    """ "KL over flattened tokens": at 87.5% padding, 87.5% of the gradient came from padding."""
    student, teacher = randn(1, 8, 6).requires_grad_(), randn(1, 8, 6, seed=1)
    labels = torch.tensor([[3] + 7 * [IGNORE_INDEX]])
    loss = DistillationLoss(DistillationConfig(alpha=1, temperature=1))(student, teacher, labels)["total_loss"]
    loss.backward()
    assert student.grad[0, 1:].abs().max() == 0
    assert student.grad[0, 0].abs().max() > 0.01
    # Divided by the one position that counts, not by eight.
    expected = F.kl_div(student[0, 0].log_softmax(-1), teacher[0, 0].softmax(-1), reduction="sum")
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_an_empty_mask_is_zero_and_not_nan():
    """ "token-level masks": an empty mask gave NaN."""
    student = randn(2, 3, 5).requires_grad_()
    labels = torch.full((2, 3), IGNORE_INDEX)
    loss = DistillationLoss(DistillationConfig(alpha=0.5))(student, randn(2, 3, 5, seed=1), labels)["total_loss"]
    loss.backward()
    assert loss.detach() == 0
    assert student.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("mapping", "n_student", "layers"),
    [
        ("uniform", 6, [1, 3, 5, 7, 9, 11]),
        ("uniform", 4, [2, 5, 8, 11]),
        ("last", 6, [6, 7, 8, 9, 10, 11]),
    ],
)
def test_the_last_student_layer_meets_the_last_of_the_teacher(mapping, n_student, layers):
    """ "uniform" and "attention mapping": 0, 1, 3, … and 0, 2, 4, …, so that the last teacher layer was never matched.

    "last": the student's embeddings were matched to a teacher layer; here they are no part of a map.
    """
    assert layer_map(mapping, n_student, 12) == tuple(enumerate(layers))


def test_a_student_deeper_than_its_teacher_is_refused():
    """ "last" mapping: more student than teacher layers gave a negative index."""
    for mapping in ("uniform", "last", "alternating"):
        with pytest.raises(ValueError, match="12 student layers can't be mapped to 6"):
            layer_map(mapping, 12, 6)


def test_embeddings_are_a_pair_of_their_own():
    """ "last" mapping: the embeddings counted as a layer."""
    terms = FeatureTerms(DistillationConfig(embedding_loss_weight=1), ModelShape(2, 8, 2), ModelShape(4, 8, 2))
    assert (terms.student_names, terms.teacher_names) == (("embeddings",), ("embeddings",))


def test_unequal_widths_are_an_error_or_projected_and_never_skipped():
    """ "hidden width mismatch": loss 0.0 and no gradient, and the mean counted the skipped layers."""
    with pytest.raises(ValueError, match="needs a projector"):
        hidden_state_loss(randn(1, 3, 4), randn(1, 3, 6), torch.ones(1, 3))
    narrow, wide = (create_transformer(("a", "b"), 50, hidden_size=size).eval() for size in (16, 32))
    terms = FeatureTerms(DistillationConfig(intermediate_layers=True), ModelShape.of(narrow), ModelShape.of(wide))
    batch = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with capture_features(narrow) as student, capture_features(wide) as teacher:
        narrow(**batch)
        wide(**batch)
    terms(student, teacher, batch["attention_mask"])["hidden_loss"].sum().backward()
    for layer in narrow.bert.encoder.layer:
        assert layer.output.dense.weight.grad.abs().sum() > 0


def test_hidden_states_and_attention_at_padding_do_not_count():
    """ "hidden and attention losses": 7.59 where only the padding differed."""
    mask = torch.tensor([[1, 1, 0, 0]])
    state, scores = randn(1, 4, 6), randn(1, 2, 4, 4)
    other_state, other_scores = state.clone(), scores.clone()
    other_state[:, 2:] += 5
    other_scores[:, :, 2:] += 5  # as query
    other_scores[:, :, :, 2:] += 5  # as key
    assert hidden_state_loss(other_state, state, mask) == 0
    assert attention_score_loss(other_scores, scores, mask) == 0


def test_different_heads_are_not_averaged_away():
    """ "different head counts": the mean over heads gave an error of 0 for different heads."""
    a, b = randn(1, 1, 3, 3), randn(1, 1, 3, 3, seed=1)
    mask = torch.ones(1, 3)
    assert attention_score_loss(torch.cat([a, b], 1), torch.cat([b, a], 1), mask) > 0.1
    with pytest.raises(ValueError, match="for unequal numbers of heads use relation_loss"):
        attention_score_loss(torch.cat([a, b], 1), a, mask)
    assert relation_loss(randn(1, 2, 3, 8), randn(1, 4, 3, 8, seed=1), mask, n_heads=4) > 0.1


def test_the_attention_term_does_not_vanish_with_the_length():
    """ "attention scale": the error of probabilities was 7e-4 at length 64, 1.3e-5 at 512."""
    errors = [
        float(attention_score_loss(randn(1, 2, n, n), randn(1, 2, n, n, seed=1), torch.ones(1, n))) for n in (64, 512)
    ]
    assert errors == pytest.approx([2, 2], rel=0.1)


@pytest.mark.parametrize(
    "choices", [{"intermediate_layers": True}, {"attention_matching": True}], ids=["hidden", "attention"]
)
@pytest.mark.slow
def test_features_that_are_asked_for_change_the_weights(make_classifier, make_sets, tmp_path, choices):
    """ "training loop": features requested, never passed; identical weights with them on and off.

    "output_attentions": SDPA, as here, gives an empty tuple, and the attention term was silently 0.
    """
    teacher = make_classifier(seed=1, n_layers=4)
    assert teacher.model.config._attn_implementation == "sdpa"
    off, on = (
        train(make_classifier(), make_sets(), tmp_path / str(i), DistillationConfig(**own), teacher=teacher)
        for i, own in enumerate([{}, choices])
    )
    assert on.history.filter(regex="hidden|attention").min(axis=None) > 0
    name = "bert.encoder.layer.1.attention.self.query.weight"
    assert (off.model.state_dict()[name] - on.model.state_dict()[name]).abs().max() > 1e-5


def test_projectors_are_registered_and_optimised(make_classifier, make_sets, tmp_path):
    """ "projectors": never built, never optimised; a plain list is not registered."""
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    trainer = DistillationTrainer(
        make_classifier().model,
        DistillationConfig(intermediate_layers=True),
        args,
        train_dataset=make_sets()[0],
        teacher=make_classifier(seed=1, n_layers=4, hidden_size=48),
    )
    projectors = {id(parameter) for parameter in trainer.loss_fn.feature_terms.parameters()}
    assert len(projectors) == 4  # two layers, weight and bias
    assert projectors <= {id(p) for group in trainer.create_optimizer().param_groups for p in group["params"]}


@pytest.mark.slow
def test_the_best_student_is_returned_and_saved_with_its_tokenizer(make_classifier, contrary_sets, tmp_path):
    """ "return value": the last student came back, and the tokenizer was not saved."""
    settings = {"n_epochs": 6, "learning_rate": 5e-3, "batch_size": 4, "warmup_ratio": 0.3}
    result = train(make_classifier(), contrary_sets, tmp_path, DistillationConfig(alpha=0), **settings)
    validation = contrary_sets[1]
    batch = DistillationCollator(validation.tokenizer)([validation[i] for i in range(len(validation))])
    labels = batch.pop("labels")
    accuracies = []
    for model in (result.model, load_text_classifier(tmp_path, device="cpu").model):
        with torch.no_grad():
            accuracies.append(float((model(**batch).logits.argmax(-1) == labels).double().mean()))
    history = list(result.history["eval_accuracy"])
    assert accuracies == pytest.approx([max(history)] * 2)
    assert history[-1] < max(history)
    assert load_text_classifier(tmp_path).tokenizer.get_vocab() == result.tokenizer.get_vocab()


def test_a_student_with_accuracy_0_is_saved_too(make_classifier, make_sets, tmp_path):
    """ "return value": accuracy 0 saved nothing."""
    student, (train_set, _) = make_classifier(), make_sets(with_logits=False)
    with torch.no_grad():
        student.model.classifier.bias[4] = 1e4  # always the last class
    validation = DistillationDataset(["one", "two", "three"], [0, 1, 2], None, student.tokenizer)
    result = train(student, (train_set, validation), tmp_path, DistillationConfig(alpha=0), learning_rate=1e-5)
    assert list(result.history["eval_accuracy"]) == [0]
    assert (tmp_path / "model.safetensors").is_file()


def test_the_device_is_picked_and_the_teacher_computes_in_fp32(make_classifier, help_desk, tmp_path):
    """ "precompute": device="cuda" crashed on a CPU, which also computed in fp16, by a deprecated argument."""
    teacher = make_classifier(seed=1)
    folder = save(TextClassifier(copy.deepcopy(teacher.model).half(), teacher.tokenizer), tmp_path)
    texts, said = help_desk.train.texts[:6], []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    transformers_logging.add_handler(handler)
    try:
        logits = precompute_teacher_logits(folder, texts, progress=False)
    finally:
        transformers_logging.remove_handler(handler)
    assert not [message for message in said if "deprecated" in message]
    assert (logits.dtype, logits.device.type) == (torch.float32, "cpu")
    model = copy.deepcopy(teacher.model).half().float()
    expected = predict_logits(TextClassifier(model, teacher.tokenizer), texts)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    half = TextClassifier(model.half(), teacher.tokenizer)
    precompute_teacher_logits(half, texts, device="cpu", progress=False)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_wrong_vocabulary_raises(make_classifier, make_sets, small_tokenizer, base_tokenizer, help_desk, tmp_path):
    """ "tokenizer": one for both models; a wrong vocabulary raised nothing."""
    vocabulary = small_tokenizer.get_vocab()
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    for wrong in (base_tokenizer, BertTokenizerFast(vocab=vocabulary)):
        texts, labels = help_desk.train.texts[:20], help_desk.train.labels[:20]
        data = DistillationDataset(texts, labels, randn(20, 5), wrong, max_length=32)
        with pytest.raises(ValueError, match="another tokenizer than the student's"):
            train(make_classifier(), (data, make_sets()[1]), tmp_path)


def test_the_tokenizer_is_in_the_key_of_the_cache(make_classifier, small_tokenizer, help_desk, tmp_path):
    """ "tokenizer": hash in the cache key."""
    model, texts = make_classifier(seed=1).model, help_desk.train.texts[:3]
    vocabulary = small_tokenizer.get_vocab()
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    for tokenizer in (small_tokenizer, BertTokenizerFast(vocab=vocabulary, model_max_length=32)):
        teacher = TextClassifier(model, tokenizer)
        precompute_teacher_logits(teacher, texts, device="cpu", cache_dir=tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_data_set_is_tokenised_once_and_padded_to_the_batch(base_tokenizer, help_desk):
    """ "dataset": tokenised again in every epoch, and ten tokens padded to 512."""
    texts = [" ".join(text.split()[:6]) for text in help_desk.train.texts[:8]]
    data = DistillationDataset(texts, help_desk.train.labels[:8], None, base_tokenizer)
    ids = base_tokenizer(texts)["input_ids"]
    data.tokenizer = None  # nothing is left to tokenise with
    items = [data[i] for i in range(8)]
    assert [item["input_ids"] for item in items] == ids
    assert data[3]["input_ids"] is items[3]["input_ids"]
    longest = max(map(len, ids))
    assert longest < 30
    assert DistillationCollator(base_tokenizer)(items)["input_ids"].shape == (8, longest)


class SeeArguments(TrainerCallback):
    def on_train_begin(self, args, state, control, **kwargs):
        self.report_to = args.report_to


def test_tracking_is_off_and_not_imported_unless_named(make_classifier, make_sets, tmp_path):
    """ "tracking": importing it failed where it was not installed, used or not."""
    seen, before = SeeArguments(), set(sys.modules)
    train(make_classifier(), make_sets(), tmp_path, callbacks=[seen])
    assert seen.report_to == []
    new = {name.split(".")[0] for name in set(sys.modules) - before}
    assert new & {"wandb", "tensorboard", "mlflow", "comet_ml", "neptune"} == set()


def test_two_vocabularies_are_named_in_the_error():
    """ "vocabulary": 151936 against 152064 gave "shape '[-1, 151936]' is invalid"."""
    loss = DistillationLoss(DistillationConfig(alpha=1))
    with pytest.raises(ValueError, match="the same tokenizer") as error:
        loss(torch.zeros(1, 1, 151936), torch.zeros(1, 1, 152064), torch.zeros(1, 1, dtype=torch.long))
    assert "151936" in str(error.value)
    assert "152064" in str(error.value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kl_near_convergence_is_right_in_half_precision(dtype):
    """ "dtype": the KL of nearly equal bf16 logits came out as −2.2e-3 where 7.8e-5 is true."""
    teacher = (3 * randn(64, 100)).to(dtype)
    student = (teacher.float() + 0.01 * randn(64, 100, seed=1)).to(dtype)
    log_p, log_q = teacher.double().log_softmax(-1), student.double().log_softmax(-1)
    true = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    found = DistillationLoss(DistillationConfig(alpha=1, temperature=1))(student, teacher)["total_loss"]
    assert found.dtype == torch.float32
    assert float(found) > 0
    assert float(found) == pytest.approx(float(true), abs=1e-6)


def test_small_steps_reach_the_weights_of_a_half_precision_checkpoint(make_classifier, make_sets, tmp_path):
    """ "pure bf16 AdamW": at a learning rate of 1e-5, 84% of the parameters were unchanged after 10 steps."""
    model, tokenizer = make_classifier(seed=3)
    folder = save(TextClassifier(model.bfloat16(), tokenizer), tmp_path / "student")
    before = {name: tensor.float() for name, tensor in model.state_dict().items()}
    student = train(folder, make_sets(), tmp_path / "out", learning_rate=1e-5, n_epochs=2, batch_size=8).model
    unchanged = total = 0
    for name, parameter in student.named_parameters():
        assert parameter.dtype == torch.float32
        if "embeddings" not in name:  # most rows there belong to words that no text has
            unchanged += int((parameter == before[name]).sum())
            total += parameter.numel()
    assert unchanged / total < 0.01


def test_the_norms_of_a_llama_do_not_decay(tmp_path):
    """ "weight-decay groups": lists of names missed Llama's norms."""
    model = LlamaForSequenceClassification(
        LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    args = TrainingArguments(output_dir=str(tmp_path), weight_decay=0.1, report_to="none", use_cpu=True)
    groups = DistillationTrainer(model, DistillationConfig(), args).create_optimizer().param_groups
    without = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    norms = {id(parameter) for name, parameter in model.named_parameters() if "norm" in name}
    assert len(norms) == 3
    assert without == norms  # a Llama has no biases


class LargestTensor(TorchDispatchMode):
    """Elements of the largest fp32 tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
                self.elements = max(self.elements, tensor.numel())
        return out


def test_in_chunks_no_fp32_copy_of_all_logits_is_ever_made():
    """ "memory": 8 × 2048 positions × 128k entries in fp32 are 8.4 GB a copy."""
    student, teacher = randn(4, 16, 1000).bfloat16().requires_grad_(), randn(4, 16, 1000, seed=1).bfloat16()
    results = {}
    for chunk_size in (None, 8):
        student.grad = None
        with LargestTensor() as largest:
            loss = mean_divergence(student, teacher, chunk_size=chunk_size, temperature=2.0)
            loss.backward()
        results[chunk_size] = (largest.elements, float(loss.detach()), student.grad)
    assert results[None][0] == 64 * 1000
    assert results[8][0] == 8 * 1000
    assert results[8][1] == pytest.approx(results[None][1], rel=1e-6)
    torch.testing.assert_close(results[8][2], results[None][2])


@pytest.mark.slow
def test_runs_have_seeds(make_classifier, make_sets, tmp_path):
    """ "everywhere": no seeds."""
    runs = [
        train(make_classifier(dropout=0.1), make_sets(), tmp_path / str(i), seed=seed).model
        for i, seed in enumerate([1, 1, 2])
    ]
    weights = [model.bert.pooler.dense.weight for model in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(*(make_classifier(seed=seed).model.classifier.weight for seed in (1, 2)))


def test_more_than_accuracy_is_measured(make_classifier, help_desk):
    """ "everywhere": accuracy only."""
    data = help_desk.test.subset(range(0, 1952, 40))
    student, teacher = make_classifier(seed=1), make_classifier(seed=2)
    rows = [evaluate(student, data, teacher_logits=predict_logits(teacher, data.texts))]
    assert {"accuracy", "macro_f1", "nll", "ece", "agreement", "parameters", "bytes"} <= set(rows[0])
    assert {"macro_f1", "macro_f1_sd", "ece_sd", "agreement_sd", "seeds"} <= set(compare({"student": rows * 3}).columns)


@pytest.mark.slow
def test_a_trimmed_tokenizer_knows_its_words(base_tokenizer, help_desk, tmp_path):
    """ "BertTokenizerFast(vocab_file=…)": maps every word to [UNK] in transformers 5."""
    text = "the graphics card shows a xylophone"
    tokenizer, _ = trim_vocabulary(base_tokenizer, help_desk.train.texts, 1000)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    for known in (tokenizer, again):
        tokens = known.tokenize(text)
        assert tokens[:2] == ["the", "graphics"]
        assert "[UNK]" not in tokens


def test_labels_in_another_order_than_the_teachers_are_refused(make_classifier, help_desk):
    """ "label order": a teacher whose classes stand in another order trains a student that is confidently wrong."""
    teacher, others = make_classifier(), help_desk.label_names[::-1]
    with pytest.raises(ValueError, match="reorder your labels"):
        precompute_teacher_logits(teacher, help_desk.train.texts[:2], device="cpu", label_names=others)
    data = help_desk.test.subset([0])
    with pytest.raises(ValueError, match="the data's classes are"):
        evaluate(teacher, type(data)(data.texts, [0], others))


def test_an_embedding_with_padded_rows_is_no_wrong_vocabulary(make_sets, small_tokenizer, help_desk, tmp_path):
    """ "vocabulary": models often have more rows than their tokenizer has entries; that alone is no error."""
    model = create_transformer(help_desk.label_names, len(small_tokenizer) + 24, hidden_size=16, max_length=32)
    result = train(TextClassifier(model, small_tokenizer), make_sets(), tmp_path)
    assert len(embedding_weight(result.model)) == 424
