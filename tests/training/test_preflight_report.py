"""`preflight` names what is wrong: a sound pair has no findings, and each planted fault has its own."""

import copy

import pytest
import torch
from byte_tokenizer import byte_tokenizer
from peft import LoraConfig, get_peft_model
from tiny_models import NAMES, tiny_config, tiny_model
from transformers import AutoConfig, AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.batching import encode_texts, pad_batch
from distill_helpers.models.text_models import LanguageModel, TextClassifier, predict_logits
from distill_helpers.training.batch_checks import check_lengths
from distill_helpers.training.preflight_report import PreflightReport, preflight

TEXTS = ["my screen stays black", "how do i send the second parcel back to you", "thank you very much", "no sound"]


@pytest.fixture(scope="module")
def byte_level(help_desk):
    return byte_tokenizer([*help_desk.train.texts[:100], *TEXTS])


def classifier(tokenizer, seed=0, n_layers=2, **changes):
    config = tiny_config("bert", len(tokenizer), n_layers)
    for name, value in changes.items():
        setattr(config, name, value)
    return TextClassifier(tiny_model(config, seed), tokenizer)


def language_model(tokenizer, seed=0, rows=None, **options):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows or len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
        **options,
    )
    return LanguageModel(LlamaForCausalLM(config).eval(), tokenizer)


def class_batch(pair, labels=(0, 1, 2, 0)):
    """As `DistillationCollator` makes it, with the pair's own logits."""
    batch = pad_batch(encode_texts(pair.tokenizer, TEXTS), pair.tokenizer)
    return batch | {"labels": torch.tensor(labels), "teacher_logits": predict_logits(pair, TEXTS)}


def completion_batch(tokenizer, prompt=3):
    """As `CompletionCollator` makes it: the first tokens do not count, the end-of-text token does."""
    ids = [[*row, tokenizer.eos_token_id] for row in tokenizer(TEXTS)["input_ids"]]
    batch = pad_batch(ids, tokenizer)
    place = batch["attention_mask"].cumsum(dim=1)
    counts = (place > prompt) & batch["attention_mask"].bool()
    batch["labels"] = batch["input_ids"].where(counts, IGNORE_INDEX)
    return batch


def named(report):
    return {finding.check for finding in report.findings}


def test_a_sound_pair_of_classifiers_has_no_findings(small_tokenizer):
    teacher, student = classifier(small_tokenizer, 0, 3), classifier(small_tokenizer, 1)
    for batch in (TEXTS, class_batch(teacher)):
        assert preflight(teacher, student, batch).findings == ()
    config = DistillationConfig(temperature=4.0, alpha=0.5, divergence="reverse_kl", intermediate_layers=True)
    report = preflight(teacher, student, class_batch(teacher), config)
    assert report.findings == ()
    report.raise_for_errors()
    assert repr(report) == f"PreflightReport({len(report.checks)} checks, nothing found)"


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_sound_pair_of_language_models_has_no_findings(byte_level, side):
    tokenizer = copy.deepcopy(byte_level)
    tokenizer.padding_side = side
    report = preflight(language_model(tokenizer), language_model(tokenizer, 1), completion_batch(tokenizer))
    assert report.findings == ()


def test_neither_model_is_changed(small_tokenizer):
    teacher, student = classifier(small_tokenizer), classifier(small_tokenizer, 1)
    student.model.train()
    before = [copy.deepcopy(pair.model.state_dict()) for pair in (teacher, student)]
    preflight(teacher, student, class_batch(teacher))
    assert (teacher.model.training, student.model.training) == (False, True)
    for pair, weights in zip((teacher, student), before, strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in pair.model.state_dict().items())
        assert all(parameter.grad is None for parameter in pair.model.parameters())


def dropout_in_the_teacher(teacher, student, batch):
    for module in teacher.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    teacher.model.train()


def other_label_order(teacher, student, batch):
    student.model.config.id2label = dict(enumerate(reversed(NAMES)))


def other_classes(teacher, student, batch):
    student.model.config.id2label = dict(enumerate(("graphics", "windows", "linux")))


def other_problem_type(teacher, student, batch):
    teacher.model.config.problem_type = "multi_label_classification"


def other_pad_id(teacher, student, batch):
    student.model.config.pad_token_id = 7


def half_precision(teacher, student, batch):
    student.model.bfloat16()


def frozen(teacher, student, batch):
    student.model.requires_grad_(False)


def shared_layer(teacher, student, batch):
    student.model.bert.encoder.layer[0] = teacher.model.bert.encoder.layer[0]


def cached_in_another_order(teacher, student, batch):
    batch["teacher_logits"] = batch["teacher_logits"].flip(0)


def label_out_of_range(teacher, student, batch):
    batch["labels"][2] = 3


def nan_weight(teacher, student, batch):
    with torch.no_grad():
        teacher.model.classifier.bias[1] = torch.nan


def cut_embedding(teacher, student, batch):
    student.model.resize_token_embeddings(50)


def too_long(teacher, student, batch):
    long = torch.full((4, 60), 7)
    batch |= {"input_ids": long, "attention_mask": torch.ones_like(long)}


def padding_not_masked(teacher, student, batch):
    forward = student.model.forward
    student.model.forward = lambda input_ids, attention_mask: forward(input_ids, torch.ones_like(input_ids))


def no_gradient(teacher, student, batch):
    forward = student.model.forward

    def detached(**inputs):
        outputs = forward(**inputs)
        outputs.logits = outputs.logits.detach()
        return outputs

    student.model.forward = detached


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (dropout_in_the_teacher, "dropout"),
        (other_label_order, "label order"),
        (other_classes, "label order"),
        (other_problem_type, "problem type"),
        (half_precision, "dtypes"),
        (frozen, "trainable weights"),
        (shared_layer, "shared weights"),
        (cached_in_another_order, "cached logits"),
        (label_out_of_range, "labels"),
        (nan_weight, "finite logits"),
        (cut_embedding, "embedding rows"),
        (too_long, "positions"),
        (padding_not_masked, "batch independence"),
        (no_gradient, "gradient"),
    ],
)
def test_a_fault_of_a_pair_of_classifiers_is_named(small_tokenizer, fault, check):
    teacher, student = classifier(small_tokenizer), classifier(small_tokenizer, 1)
    batch = class_batch(teacher)
    fault(teacher, student, batch)
    report = preflight(teacher, student, batch)
    assert check in named(report)
    assert {f.severity for f in report.findings if f.check == check} == {"error"}
    assert all(f.reason and f.remedy for f in report.findings)
    with pytest.raises(ValueError, match=f"error: {check}: "):
        report.raise_for_errors()


def test_a_padding_token_that_the_configuration_denies_is_named(small_tokenizer):
    teacher, student = classifier(small_tokenizer), classifier(small_tokenizer, 1)
    other_pad_id(teacher, student, {})
    (finding,) = preflight(teacher, student, TEXTS).findings
    assert (finding.check, finding.severity) == ("padding token", "warning")  # BERT does not look for it
    decoders = [TextClassifier(tiny_model(tiny_config("gpt2", 400, 1), seed), small_tokenizer) for seed in (0, 1)]
    assert preflight(*decoders, TEXTS).findings == ()
    other_pad_id(*decoders, {})
    (finding,) = preflight(*decoders, TEXTS).findings
    assert (finding.check, finding.severity) == ("padding token", "error")
    assert (
        "pads with token 0, but by its configuration this GPT2ForSequenceClassification looks for 7" in finding.reason
    )


@pytest.mark.parametrize(("kind", "limit"), [("roberta", 510), ("bert", 512)])
def test_positions_are_those_that_the_model_has_learned(small_tokenizer, kind, limit):
    size = {"vocab_size": 400, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = AutoConfig.for_model(kind, **size, intermediate_size=8, pad_token_id=0, num_labels=3)
    config.max_position_embeddings = limit + (1 if kind == "roberta" else 0)  # a row for padding
    pair = TextClassifier(AutoModelForSequenceClassification.from_config(config).eval(), small_tokenizer)
    ids = torch.full((2, limit + 1), 7)
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    found = list(check_lengths("student", pair, {"input_ids": ids, "attention_mask": mask}))
    assert [(f.check, f.severity) for f in found] == [("positions", "error")]
    assert f"row 1 has {limit + 1} tokens, and the student has {limit} positions" in found[0].reason
    mask[1, limit:] = 0
    assert list(check_lengths("student", pair, {"input_ids": ids, "attention_mask": mask})) == []


def test_positions_that_are_not_learned_only_warn(byte_level):
    pair = language_model(byte_level, max_position_embeddings=8)
    ids = torch.full((1, 9), 7)
    (finding,) = check_lengths("student", pair, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert finding.severity == "warning"


def test_language_models_without_a_padding_token_can_be_checked_on_texts(byte_level):
    tokenizer = with_another(byte_level, pad_token=None)
    report = preflight(language_model(byte_level), LanguageModel(language_model(byte_level, 1).model, tokenizer), TEXTS)
    assert {"padding token"} <= named(report)
    assert report.errors == ()


def test_each_finding_of_dropout_is_seen_in_two_passes_too(small_tokenizer):
    teacher, student = classifier(small_tokenizer), classifier(small_tokenizer, 1)
    dropout_in_the_teacher(teacher, student, {})
    assert {"dropout", "teacher against itself"} <= named(preflight(teacher, student, TEXTS))


def test_a_gradient_that_reaches_the_teacher_is_named(small_tokenizer):
    teacher, student = classifier(small_tokenizer), classifier(small_tokenizer, 1)
    shared_layer(teacher, student, {})
    reasons = [f.reason for f in preflight(teacher, student, TEXTS).findings if f.check == "gradient"]
    assert "the gradient reaches" in reasons[0]


def test_a_student_that_is_its_teacher_has_no_gradient(small_tokenizer):
    teacher = classifier(small_tokenizer)
    student = TextClassifier(copy.deepcopy(teacher.model), small_tokenizer)
    (finding,) = preflight(teacher, student, TEXTS).findings
    assert (finding.check, finding.severity) == ("gradient", "warning")
    assert "nothing left to learn" in finding.reason


def test_labels_against_which_the_teacher_is_worse_than_chance(small_tokenizer, help_desk):
    teacher, student = classifier(small_tokenizer), classifier(small_tokenizer, 1)
    texts = help_desk.train.texts[:40]
    logits = predict_logits(teacher, texts, max_length=24)
    batch = pad_batch(encode_texts(small_tokenizer, texts, 24), small_tokenizer)
    for shift, expected in ((0, set()), (1, {"labels"})):
        batch["labels"] = (logits.argmax(dim=1) + shift) % 3
        assert named(preflight(teacher, student, batch)) == expected


def test_an_adapter_that_is_off_is_named(small_tokenizer):
    teacher, student = classifier(small_tokenizer), classifier(small_tokenizer, 1)
    adapted = get_peft_model(student.model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    student = TextClassifier(adapted, small_tokenizer)
    assert "adapters" not in named(preflight(teacher, student, TEXTS))
    adapted.disable_adapter_layers()
    assert "adapters" in named(preflight(teacher, student, TEXTS))


def test_vocabularies_of_language_models(byte_level, help_desk):
    other = byte_tokenizer(help_desk.train.texts[200:300])
    report = preflight(language_model(byte_level), language_model(other, 1), TEXTS)
    assert "vocabularies" in named(report)


def test_padded_rows_are_counted(byte_level):
    n = len(byte_level)
    report = preflight(
        language_model(byte_level, rows=n + 28), language_model(byte_level, 1), completion_batch(byte_level)
    )
    (finding,) = report.findings
    assert (finding.check, finding.severity) == ("padded rows", "warning")
    assert f"the teacher's has {n + 28} rows, 28 of them padding" in finding.reason
    assert finding.remedy == f"pass vocab_size={n}, so that only rows of tokens are compared"


def with_another(tokenizer, **changes):
    tokenizer = copy.deepcopy(tokenizer)
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"chat_template": "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"}, "chat templates"),
        ({"chat_template": None}, "chat templates"),
        ({"eos_token": "<pad>"}, "end of text"),
        ({"pad_token": None}, "padding token"),
    ],
)
def test_a_tokenizer_that_differs_is_named(byte_level, changes, check):
    teacher, student = language_model(byte_level), language_model(byte_level, 1)
    student = LanguageModel(student.model, with_another(byte_level, **changes))
    assert check in named(preflight(teacher, student, completion_batch(byte_level)))


def shifted(batch):
    batch["labels"] = torch.cat([batch["labels"][:, 1:], torch.full((len(batch["labels"]), 1), IGNORE_INDEX)], dim=1)


def padding_counts(batch):
    batch["labels"] = batch["input_ids"].clone()


def everything_counts(batch):
    batch["labels"] = batch["input_ids"].where(batch["attention_mask"].bool(), IGNORE_INDEX)


def nothing_counts(batch):
    batch["labels"].fill_(IGNORE_INDEX)


def end_does_not_count(batch):
    batch["labels"][batch["input_ids"] == 1] = IGNORE_INDEX


def other_tokens(batch):
    counted = batch["labels"] != IGNORE_INDEX
    batch["labels"][counted] = (batch["labels"][counted] + 3) % 300


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (shifted, "they were shifted already"),
        (padding_counts, "padding tokens count"),
        (everything_counts, "every token counts, prompts included"),
        (nothing_counts, "no token counts"),
        (end_does_not_count, "does not learn to stop"),
        (other_tokens, "labels are other tokens than those of their positions"),
    ],
)
def test_a_fault_of_the_mask_is_named(byte_level, fault, says):
    batch = completion_batch(byte_level)
    fault(batch)
    report = preflight(language_model(byte_level), language_model(byte_level, 1), batch)
    assert any(f.check == "mask" and says in f.reason for f in report.findings), report


def test_two_kinds_of_models_and_an_empty_batch_are_refused(small_tokenizer, byte_level):
    pair, other = classifier(small_tokenizer), language_model(byte_level)
    with pytest.raises(TypeError, match="the teacher is a TextClassifier, the student a LanguageModel"):
        preflight(pair, other, TEXTS)
    with pytest.raises(TypeError, match="must be TextClassifier or LanguageModel, got BertForSequenceClassification"):
        preflight(pair.model, pair, TEXTS)
    with pytest.raises(ValueError, match="must have input_ids"):
        preflight(pair, pair, {"labels": torch.tensor([1])})
    with pytest.raises(ValueError, match="row 1"):
        preflight(pair, pair, ["one", " "])


def test_the_report_says_each_finding_on_a_line(small_tokenizer):
    teacher, student = classifier(small_tokenizer), classifier(small_tokenizer, 1)
    other_pad_id(teacher, student, {})
    frozen(teacher, student, {})
    report = preflight(teacher, student, TEXTS)
    assert isinstance(report, PreflightReport)
    assert "\n  error: trainable weights: no weight of the student is trainable; call " in repr(report)
    assert "\n  warning: padding token: the student's tokenizer pads with 0, and its configuration says 7; " in repr(
        report
    )
