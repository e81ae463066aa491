"""Knowledge distillation: a small model learns from a large one. `import distill_helpers as dh`.

A student in five steps, with your own messages and a teacher that you have fine-tuned:

    data = dh.load_csv("train.csv", "test.csv", text_column="message", label_column="queue")
    teacher = dh.load_text_classifier("my-teacher")
    student = dh.create_student(teacher, data.train.texts)
    train, validation = (
        dh.DistillationDataset(
            part.texts, part.labels, dh.precompute_teacher_logits(teacher, part.texts), student.tokenizer
        )
        for part in (data.train, data.validation)
    )
    result = dh.train_student_with_distillation(student, train, validation)
    dh.evaluate(result.classifier, data.test)

What you need, by task:

    read messages                        `load_csv`, `load_hf_dataset`; the course's: `load_help_desk`, `load_banking77`
    load a teacher                       `load_text_classifier`, `load_language_model`
    fine-tune a teacher on hard labels   `fine_tune_teacher`
    keep what the teacher says           `precompute_teacher_logits`, `precompute_teacher_features`
    make a student                       `create_student`, `narrow_student`, `cut_layers`, `prune`
    choose what the student learns from  `DistillationConfig`: temperature, alpha, divergence, features
    find what is wrong before hours pass `preflight`
    train the student                    `train_student_with_distillation`, or `DistillationTrainer` (a `Trainer`)
    judge the student                    `evaluate`, `compare`, `fit_temperature`, `reliability_bins`
    write a loop of your own             `DistillationLoss`, `mean_divergence`, `forward_kl`, `fused_distillation_loss`
    look inside a model                  `capture_features`

A text may be a pair of texts, `(premise, hypothesis)`. `prediction_task(model)` says what a model predicts; besides one
class of several for each text, these tasks go through the same loss, trainer and evaluation:

    several labels, or scores            `DistillationDataset(…, task="multi_label")`, `task="regression"`
    a class for each word                `TokenClassificationDataset`, `precompute_teacher_word_logits`
    sentence embeddings                  `SentenceEncoder`, `precompute_teacher_embeddings`, `fit_pca`
    images                               `ImageDistillationDataset`, `precompute_teacher_image_logits`
    several teachers                     `precompute_combined_logits`, `combine_teacher_logits`, `weights_by_label`

Three packages have a page of their own: `help(distill_helpers.llm)` for causal language models,
`help(distill_helpers.api)` for a teacher behind an API, and `help(distill_helpers.landmarks)` for DistilBERT, TinyBERT,
MiniLM and others as recipes. The names above come from `data`, `models`, `students`, `losses`, `evaluation`, `targets`
and `training`, whose modules have the details.

Importing the package loads nothing: a name brings its libraries when it is first used. The examples in the docstrings
assume `import torch` and `import distill_helpers as dh`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
