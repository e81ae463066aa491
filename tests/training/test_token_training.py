"""Token classifiers through the trainer, the one call, and evaluation."""

import pytest
import torch
from training_runs import flat, train
from transformers import TrainingArguments
from word_tokenizers import word_tokenizer

import distill_helpers as dh
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.training.checks import choose_metric
from distill_helpers.training.constant_answers import warn_if_nothing_was_learned

NAMES = ("lower", "Upper", "digit")
WORDS = ["the", "miller", "Grey", "stripes", "7", "Update", "daughter", "42", "Screen"]
TEXTS = [[WORDS[(3 * row + i * (row + 1)) % len(WORDS)] for i in range(1 + row % 6)] for row in range(24)]
LABELS = [[2 if word.isdigit() else int(word[0].isupper()) for word in words] for words in TEXTS]
SOME = [[label if (row + i) % 3 else IGNORE_INDEX for i, label in enumerate(r)] for row, r in enumerate(LABELS)]
CONFIG = dh.DistillationConfig(task="token_classification", alpha=0.6, temperature=2.0)
# Its texts are cased, unlike the student's.
TEACHER_TOKENIZER, TOKENIZER = word_tokenizer("bpe"), word_tokenizer("wordpiece")


def tagger(tokenizer=TOKENIZER, seed=0, names=NAMES):
    model = dh.create_transformer(
        names,
        len(tokenizer),
        hidden_size=16,
        n_layers=1,
        max_length=48,
        dropout=0.0,
        seed=seed,
        task="token_classification",
    )
    return dh.TextClassifier(model, tokenizer)


@pytest.fixture(scope="module")
def teacher():
    return tagger(seed=3)


def data(labels, logits, rows=slice(None), tokenizer=TOKENIZER):
    labels = None if labels is None else labels[rows]
    return dh.TokenClassificationDataset(TEXTS[rows], labels, logits, tokenizer)


def trainer_of(student, teacher, dataset, folder, config=CONFIG, **settings):
    args = {"max_steps": 3, "per_device_train_batch_size": 8, "report_to": "none", "save_strategy": "no"} | settings
    return dh.DistillationTrainer(
        student.model,
        config,
        TrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, logging_steps=1, **args),
        teacher=teacher,
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=student.tokenizer,
        data_collator=dh.TokenClassificationCollator(student.tokenizer),
    )


def test_a_live_teacher_teaches_what_its_kept_logits_teach(teacher, tmp_path) -> None:
    logits = dh.precompute_teacher_word_logits(teacher, TEXTS, device="cpu", progress=False)
    weights, logs = [], []
    for live, kept in ((teacher, None), (None, logits)):
        student = tagger()
        trainer = trainer_of(student, live, data(SOME, kept), tmp_path)
        trainer.train()
        weights.append(flat(student.model))
        logs.append(trainer.evaluate())
    torch.testing.assert_close(*weights, rtol=0, atol=1e-6)
    assert not torch.equal(weights[0], flat(tagger().model))
    for name in ("eval_loss", "eval_accuracy", "eval_macro_f1", "eval_nll", "eval_agreement", "eval_kl"):
        assert logs[0][name] == pytest.approx(logs[1][name], abs=1e-6), name


@pytest.mark.slow
def test_the_loss_of_a_step_is_a_mean_over_words_whatever_the_accumulation(teacher, tmp_path) -> None:
    logits = dh.precompute_teacher_word_logits(teacher, TEXTS, device="cpu", progress=False)
    weights = []
    for size, steps in ((8, 1), (4, 2), (2, 4)):
        student = tagger()
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        trainer_of(student, None, data(SOME, logits), tmp_path, **settings).train()
        weights.append(flat(student.model))
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(weights[2], weights[0], rtol=0, atol=1e-5)


def test_the_figures_of_an_evaluation_are_those_of_the_words(teacher, tmp_path) -> None:
    logits, student = dh.precompute_teacher_word_logits(teacher, TEXTS, device="cpu", progress=False), tagger(seed=1)
    log = trainer_of(student, None, data(SOME, logits), tmp_path, per_device_eval_batch_size=5).evaluate()
    own = dh.predict_word_logits(student, TEXTS).logits.double()
    labels = torch.tensor([label for row in SOME for label in row])
    known, log_q, log_p = labels != IGNORE_INDEX, own.log_softmax(-1), logits.logits.double().log_softmax(-1)
    figures = dh.classification_metrics(own[known].float(), labels[known].tolist())
    for name in ("accuracy", "macro_f1", "nll"):
        assert log[f"eval_{name}"] == pytest.approx(figures[name], abs=1e-5), name
    # Of words without a label, too.
    assert log["eval_agreement"] == pytest.approx(float((log_q.argmax(-1) == log_p.argmax(-1)).double().mean()))
    kl = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    assert log["eval_kl"] == pytest.approx(kl, abs=1e-6)
    hard = -log_q[known, labels[known]].sum() / len(labels)
    soft = 4 * float(
        ((p := (logits.logits / 2).double().softmax(-1)) * (p.log() - (own / 2).log_softmax(-1))).sum(-1).mean()
    )
    assert log["eval_loss"] == pytest.approx(0.6 * soft + 0.4 * float(hard), abs=1e-5)


@pytest.mark.slow
def test_one_call_trains_a_student_with_another_tokenizer_than_its_teacher(tmp_path) -> None:
    teacher = tagger(TEACHER_TOKENIZER, seed=3)
    logits = dh.precompute_teacher_word_logits(teacher, TEXTS, device="cpu", progress=False)
    sets = [data(LABELS, logits), data(LABELS[:9], logits.from_texts(logits.by_text()[:9]), slice(9))]
    result = train(tagger(), sets, tmp_path, CONFIG, n_epochs=2, batch_size=8, learning_rate=1e-2)
    assert list(result.history.columns) == [
        "epoch",
        "loss",
        "soft_target_loss",
        "task_loss",
        "eval_loss",
        "eval_accuracy",
        "eval_macro_f1",
        "eval_nll",
        "eval_agreement",
        "eval_kl",
    ]
    assert type(result.model).__name__ == "BertForTokenClassification"
    row = dh.evaluate(result.classifier, sets[1])
    best = result.history.sort_values(["eval_accuracy", "eval_nll"], ascending=[False, True]).iloc[0]
    for name in ("accuracy", "macro_f1", "nll"):
        assert row[name] == pytest.approx(best[f"eval_{name}"], abs=1e-6), name
    loaded = dh.load_text_classifier(tmp_path, device="cpu")
    assert torch.equal(flat(loaded.model), flat(result.model))
    assert loaded.predict(TEXTS).equals(result.classifier.predict(TEXTS))
    with pytest.warns(UserWarning, match="the student is read back"):
        again = train(tagger(), sets, tmp_path, CONFIG, n_epochs=2, batch_size=8, learning_rate=1e-2)
    assert torch.equal(flat(again.model), flat(result.model))


def test_the_same_tokens_of_other_words_are_another_run(tmp_path) -> None:
    one, other = [["the", "miller the"]], [["the miller", "the"]]
    sets = [dh.TokenClassificationDataset(texts, [[0, 1]], None, TOKENIZER) for texts in (one, other)]
    assert sets[0].token_ids == sets[1].token_ids
    config = dh.DistillationConfig(task="token_classification", alpha=0.0)
    train(tagger(), [sets[0], sets[0]], tmp_path, config)
    with pytest.raises(ValueError, match="differs in training words, validation words"):
        train(tagger(), [sets[1], sets[1]], tmp_path, config)


def test_macro_f1_chooses_the_epoch_where_it_is_asked_for(teacher, tmp_path) -> None:
    logits = dh.precompute_teacher_word_logits(teacher, TEXTS, device="cpu", progress=False)
    sets = [data(LABELS, logits), data(LABELS, logits)]
    result = train(tagger(), sets, tmp_path, CONFIG, n_epochs=3, learning_rate=2e-2, metric_for_best_model="macro_f1")
    figures = dh.evaluate(result.classifier, sets[1])
    assert figures["macro_f1"] == pytest.approx(result.history["eval_macro_f1"].max(), abs=1e-9)


def test_what_chooses_the_epoch_by_default() -> None:
    logits = dh.WordLogits.from_texts([torch.randn(len(words), 3) for words in TEXTS])
    assert choose_metric(None, data(SOME, logits), CONFIG, None) == "accuracy"
    assert choose_metric(None, data(None, logits), CONFIG, None) == "agreement"
    with pytest.raises(
        ValueError, match=r"must be one of \['accuracy', 'macro_f1', 'nll', 'agreement', 'kl', 'loss'\]"
    ):
        choose_metric("micro_f1", data(SOME, logits), CONFIG, None)


def test_what_does_not_fit_is_refused_before_the_training(teacher, tmp_path) -> None:
    labelled = data(LABELS, None)
    of_texts = dh.DistillationDataset([" ".join(words) for words in TEXTS], [0] * 24, None, TOKENIZER)
    text_config = dh.DistillationConfig(alpha=0.0)
    token_config = dh.DistillationConfig(task="token_classification", alpha=0.0)
    cases = [
        (labelled, text_config, "classifies tokens, not texts"),
        (of_texts, token_config, "train_dataset has the labels of task='single_label'"),
        (labelled, CONFIG, "train_dataset has no teacher logits and alpha is 0.6"),
        (data([[5] * len(row) for row in LABELS], None), token_config, "label 5, but the student has 3 classes"),
        (
            data(None, dh.WordLogits.from_texts([torch.zeros(len(words), 4) for words in TEXTS])),
            CONFIG,
            "4 teacher classes",
        ),
        (data(LABELS, None, tokenizer=TEACHER_TOKENIZER), token_config, "was tokenised with another tokenizer"),
        (data([[-100] * len(row) for row in LABELS], None), token_config, "no training message has a hard label"),
    ]
    for dataset, config, message in cases:
        with pytest.raises(ValueError, match=message):
            train(tagger(), [dataset, dataset], tmp_path, config)
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="vocabular"):
        train(tagger(), [labelled, labelled], tmp_path, CONFIG, teacher=tagger(TEACHER_TOKENIZER))


def test_a_student_that_answers_one_class_is_told() -> None:
    import pandas as pd

    history = pd.DataFrame({"epoch": [1.0], "eval_accuracy": [0.45], "eval_nll": [1.0]})
    labels = [label for row in LABELS for label in row]
    most = max(labels.count(label) for label in range(3)) / len(labels)
    with pytest.warns(UserWarning, match=rf"always answering 'lower' would reach {most:.1%}"):
        warn_if_nothing_was_learned(NAMES, data(LABELS, None), history.assign(eval_accuracy=most), "accuracy")


def test_hidden_states_are_learned_from_a_live_teacher_of_the_same_tokenizer(teacher, tmp_path) -> None:
    config = dh.DistillationConfig(task="token_classification", alpha=0.5, intermediate_layers=True)
    student = tagger()
    trainer = trainer_of(student, teacher, data(SOME, None), tmp_path, config)
    trainer.train()
    assert trainer.state.log_history[0]["hidden_loss"] > 0
