# %% [markdown]
# # 05 · Response distillation
#
# <!-- teaches: the whole job: label once, train by hand and with the package, transfer set, five seeds, your own CSV -->
#
# **You train a student twenty times smaller than its teacher on the teacher's probabilities, first by hand, then with
# the package. You judge such students over five seeds.**
#
# You will be able to
# - *label* text with a teacher once, and keep the labels on disk;
# - *write* the whole training loop yourself, and *check* that the package's trainer gives the same weights;
# - *build* a transfer set from further pieces of the messages;
# - *judge* a student with a three-way split, several seeds and a linear baseline;
# - *distil* with your own data from CSV files.
#
# **Time:** about 40 minutes of reading and 30 of exercises; the cells run in two to three minutes on two CPU cores.
# **You need:** [00 · Start here](00_start_here.ipynb), [03 · The T² factor](03_t_squared.ipynb) and [04 · The
# distillation loss](04_distillation_loss.ipynb), for the loss; [01 · Dark knowledge](01_dark_knowledge.ipynb) and [02
# · Temperature](02_temperature.ipynb) explain the ideas behind it. On [Colab](https://colab.research.google.com/):
# upload the repository and run the plain-pip lines of the [README](../README.md) with `%pip` (see notebook 00).

# %% [markdown]
# ## The question
#
# ![2,517 labelled messages and 20,396 windows cut from them pass through the teacher once, and its logits are stored
# on disk. In every epoch the student reads the texts and the stored logits; the teacher is no longer
# needed.](drawings/05_response_distillation.svg)
#
# A help desk has 2,517 messages with a hard label: the queue that the sender chose. A small model that learns from
# these labels sends about seven messages in ten to the right queue, no more than a linear model. **What helps the
# small model more: better labels for the same messages, or more of the messages' text?** Keep your guess.

# %%
import copy
import math
import tempfile
import warnings
from pathlib import Path

import ipywidgets
import pandas as pd
import torch
from IPython.display import HTML
from transformers import PrinterCallback, TrainingArguments, get_cosine_schedule_with_warmup
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import help_desk_students, label_budget, linear_models
from distill_helpers.course.figures import COLOURS, figure, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.results import linear_baseline
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.response_distillation import render_soft_targets

# %% [markdown]
# ## Three sets of messages, each with one job
#
# - **Training** messages teach the model.
# - **Validation** messages choose, for example the best epoch or the learning rate. Figures on these messages flatter
#   the model, because it was chosen for being good on them.
# - **Test** messages report, and choose nothing.

# %%
logging.disable_progress_bar()
work = Path(tempfile.mkdtemp())  # caches and students of this notebook; gone with the machine's temporary files
desk = dh.load_help_desk()
train, validation, test = desk.train, desk.validation, desk.test
print(f"{len(train)} training, {len(validation)} validation, {len(test)} test messages; five queues")
in_training = set(train.texts)
for name, part in (("validation", validation), ("test", test)):
    print(f"{name} messages whose first 26 words occur in training too: {sum(t in in_training for t in part.texts)}")

# %% [markdown]
# Some people post twice. The thirteen test messages stay, because they belong to the published test set; they can
# move an accuracy by at most two thirds of a point. Validation also flatters because all test messages were written
# *later* than the training messages; the validation messages were not.
#
# ### The line to pass
#
# Measure a linear model first: logistic regression on tf-idf features (word counts in which rare words weigh more).

# %%
linear = dh.classification_metrics(linear_baseline(desk), test.labels)
print(f"tf-idf + logistic regression: {100 * linear['accuracy']:.0f}% of the test messages")

# %% [markdown]
# That model has read 2,517 messages, cut to 26 words. Further down, students also read these messages whole, cut into
# some 20,000 *windows*. A fair baseline must read the windows too, each with the queue of its message. A saved log
# has such models on two kinds of features; validation chose C, an inverse penalty. **Predict first:** how many points
# do the windows bring to tf-idf? And what does a linear model reach on the frozen sentence encoder from which our
# teacher was made?

# %%
lines = linear_models.summary()[["texts", "accuracy %", "difference", "± 95%"]].round(1)
lines[lines.index.str.contains("sender's queue")]

# %% [markdown]
# A student has two lines to pass. **74.4%** is what tf-idf reaches without a teacher, with the windows. A frozen
# encoder with a linear head reaches 73.2% from the messages alone. (*difference*, with its 95% interval over test
# messages, is from the first row of the same features. That row has C = 100 for tf-idf; the 71% above had C = 10.)

# %% [markdown]
# ## The teacher labels everything once
#
# The student sees every message many times, the teacher only once, since the teacher's logits do not change.
# `precompute_teacher_logits` labels the texts in batches and stores the logits on disk. Twenty-six words are seldom
# more than 48 word pieces (tokens), so `max_length=48` cuts next to nothing. **Predict first:** how many forward
# passes will labelling the same messages again need?

# %%
teacher = dh.load_course_model("help-desk-teacher")


def label(texts, progress=False):
    return dh.precompute_teacher_logits(
        teacher,
        texts,
        max_length=48,
        label_names=desk.label_names,
        cache_dir=work / "targets",
        progress=progress,
    )


bar = ProgressWidget("the teacher labels")
targets = {name: label(part.texts) for name, part in bar.over({"train": train, "validation": validation}.items())}

# %%
forward_passes = []
hook = teacher.model.register_forward_hook(lambda *_: forward_passes.append(1))
again = label(train.texts)
hook.remove()
assert torch.equal(again, targets["train"])
print(f"second call: {len(forward_passes)} forward passes, the same logits from disk")

# %% [markdown]
# Each list of texts has a folder in the cache, named by a hash of everything that its logits depend on: weights,
# configuration, tokenizer, texts, length and dtype. So stale logits are never read. But if you add one text, the
# teacher labels the whole list again.

# %%
label([*train.texts[:99], "a message that was not there before"])
print(f"{len(list((work / 'targets').iterdir()))} folders: train, validation, and the changed list")

# %% [markdown]
# ### What the labels say
#
# The **entropy** $-\sum_k p_k \log_2 p_k$ measures, in bits, how much doubt a label expresses: 0 for a hard label,
# $\log_2 5 = 2.32$ for a uniform guess among five queues. **Predict first:** at which temperature does the teacher's
# label have the most bits? Then drag the two sliders.

# %%
controls = {
    "message": ipywidgets.IntSlider(1500, 0, len(train) - 1, description="message"),
    "temperature": ipywidgets.FloatLogSlider(2.0, base=2, min=-1, max=4, step=1, description="T"),
}


def soft_targets(message, temperature):
    return render_soft_targets(
        message,
        temperature,
        texts=train.texts,
        labels=train.labels,
        names=desk.label_names,
        logits=targets["train"],
    )


explorer = live(soft_targets, **controls)
explorer

# %%
v = targets["train"][controls["message"].value]
for temperature in (1.0, 2.0, 4.0, 16.0):
    p = torch.softmax(v / temperature, dim=-1)
    bits = -(p * p.log2()).sum().item()
    controls["temperature"].value = temperature
    assert f"{bits:.2f} of at most 2.32 bits" in explorer.children[-1].value
    print(f"T = {temperature:4.0f}: {bits:.2f} bits")

# %% [markdown]
# Entropy grows with T, up to the 2.32 bits of a uniform guess, which says nothing about the message. So *more bits*
# does not mean *better*. This notebook uses T = 2, untuned.
#
# One likely reason why the label is so sharp at T = 1: the teacher was trained on these very messages:

# %%
right = (targets["train"].argmax(-1) == torch.tensor(train.labels)).double().mean()
assert right > 0.9
print(f"the teacher gives the sender's queue on {right:.0%} of the training messages")

# %% [markdown]
# So at T = 1 its labels for these messages are nearly hard.

# %% [markdown]
# ## The whole pipeline by hand
#
# The student is a transformer with two layers of 128 units. Its vocabulary is trimmed to the 5,000 word pieces that
# are most frequent in the training text, including its windows (`desk.transfer`). Its
# [embeddings](glossary.md#embedding) start as the teacher's, reduced by PCA from 384 to 128 dimensions. Dropout is
# off in this section, so that two loops can be compared exactly.
#
# The loss, in words: *soften both distributions, take T² times their KL divergence, add a little cross-entropy on the
# hard label.* In symbols, for student logits $z$, teacher logits $v$ and hard label $y$,
#
# $$L = \alpha\,T^2\,\mathrm{KL}\big(\mathrm{softmax}(v/T)\,\|\,\mathrm{softmax}(z/T)\big)
# + (1-\alpha)\,\mathrm{CE}(z, y).$$
#
# α is the weight of the teacher's distribution, 1 − α that of the hard label.


# %%
def small_student(dropout):
    return dh.create_student(
        teacher, [*train.texts, *desk.transfer], vocab_size=5000, max_length=48, dropout=dropout, seed=0
    )


start = small_student(dropout=0.0)
ratio = teacher.model.num_parameters() / start.model.num_parameters()
print(f"the student has {start.model.num_parameters():,} parameters, the teacher {ratio:.1f} times as many")
assert ratio >= 20

# %%
quarter = range(0, len(train), 4)  # every fourth message is enough to compare two loops
part = train.subset(quarter)
data = dh.DistillationDataset(part.texts, part.labels, targets["train"][quarter], start.tokenizer)
package_student = copy.deepcopy(start.model)

# %%
arguments = TrainingArguments(
    output_dir=work / "by_hand",
    num_train_epochs=1,
    per_device_train_batch_size=32,
    learning_rate=1e-3,
    lr_scheduler_type="cosine",
    warmup_steps=0.1,  # below 1 it is a share of the steps
    weight_decay=0.01,
    seed=0,
    data_seed=0,  # the order of the batches
    report_to="none",
    save_strategy="no",
    disable_tqdm=True,
    use_cpu=True,
    dataloader_pin_memory=False,
)
config = dh.DistillationConfig(temperature=2.0, alpha=0.7)
trainer = dh.DistillationTrainer(
    package_student, config, arguments, train_dataset=data, data_collator=dh.DistillationCollator(start.tokenizer)
)  # fmt: skip
batches = list(trainer.get_train_dataloader())  # its sampler starts again from the same seed when it trains
print(f"{len(data)} messages in {len(batches)} batches; keys of a batch: {sorted(batches[0])}")

# %% [markdown]
# To end at the trainer's weights, the loop by hand must do what the trainer does: no weight decay on biases and
# norms, a learning rate that rises over the first tenth of the steps and then falls as a cosine, and gradients
# clipped to a norm of 1.

# %%
T, alpha = 2.0, 0.7
student = copy.deepcopy(start.model).train()
matrices = [p for p in student.parameters() if p.dim() >= 2]
vectors = [p for p in student.parameters() if p.dim() < 2]  # biases and norms: no weight decay
groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.1 * len(batches)), len(batches))

for batch in batches:
    z = student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    p = torch.softmax(batch["teacher_logits"] / T, dim=-1)
    log_q = torch.log_softmax(z / T, dim=-1)
    soft = T**2 * (p * (p.log() - log_q)).sum(dim=-1).mean()
    loss = alpha * soft + (1 - alpha) * torch.nn.functional.cross_entropy(z, batch["labels"])
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    schedule.step()

# %% [markdown]
# **Predict first:** how far apart will our student's and the trainer's weights be after an epoch?

# %%
trainer.remove_callback(PrinterCallback)
_ = trainer.train()


def largest_difference(a, b):
    return max((x - y).abs().max().item() for x, y in zip(a.parameters(), b.parameters(), strict=True))


moved = largest_difference(student, start.model)
apart = largest_difference(student, package_student)
assert moved > 1e-3
assert apart < 1e-5, apart
print("the largest weight moved by more than 1e-3; loop and package end within 1e-5 of each other")

# %% [markdown]
# From here on we use the package. It adds the choice of the best epoch, checkpoints, gradient accumulation, mixed
# precision, several processes.
#
# ## Same messages, better labels
#
# We train two students live, for eight epochs each. The first learns from the hard labels (α = 0), the second from
# the teacher's distributions on the *same* messages (α = 1). **Predict first:** which wins, and by how many points?

# %%
test_logits = label(test.texts)
start = small_student(dropout=0.1)


def distil(name, texts, labels, logits, config, epochs):
    result = dh.train_student_with_distillation(
        start,  # a copy of it is trained
        dh.DistillationDataset(texts, labels, logits, start.tokenizer),
        dh.DistillationDataset(validation.texts, validation.labels, targets["validation"], start.tokenizer),
        config,
        n_epochs=epochs,
        output_dir=work / name,
        callbacks=[ProgressWidget(name).callback()],
        progress=False,
        device="cpu",
    )
    return result.classifier, result.history


hard, soft = dh.DistillationConfig(alpha=0.0), dh.DistillationConfig(temperature=2.0, alpha=1.0)
students, histories = {}, {}
for name, config in (("hard labels", hard), ("soft labels", soft)):
    students[name], histories[name] = distil(name, train.texts, train.labels, targets["train"], config, epochs=8)

# %%
live_rows = {name: dh.evaluate(model, test, teacher_logits=test_logits) for name, model in students.items()}
for name, row in live_rows.items():
    print(
        f"{name}: {100 * row['accuracy']:.1f}% in this run, the teacher's answer on {row['agreement']:.0%} in this run"
    )
assert live_rows["soft labels"]["accuracy"] > live_rows["hard labels"]["accuracy"]
assert live_rows["soft labels"]["agreement"] > live_rows["hard labels"]["agreement"]

# %% [markdown]
# In this pair of runs soft labels win on both counts. One pair is no proof. The next figure shows the losses. On hard
# labels the validation loss falls and then rises, since the student learns its messages by heart and grows too sure.
# On soft labels the validation loss falls, then stays flat. (Compare only curves of one colour: cross-entropy and T²
# KL are different losses.)

# %%
fig, axes = figure("On hard labels the validation loss turns, on soft labels it does not")
for colour, (name, history) in zip(COLOURS, histories.items(), strict=False):
    axes.plot(history["epoch"], history["loss"], color=colour, label=f"{name}, training")
    axes.plot(history["epoch"], history["eval_loss"], color=colour, linestyle="--", label=f"{name}, validation")
axes.set_xlabel("epoch")
axes.set_ylabel("loss (hard: cross-entropy; soft: T² KL)")
axes.legend(frameon=False)
with_alt_text(
    fig,
    "Training and validation loss over eight epochs. With hard labels the training loss falls to near zero and the"
    " validation loss turns and rises; with soft labels the training loss falls and the validation loss falls, then stays.",
)

# %% [markdown]
# ## More text
#
# `desk.transfer` holds the **windows**: the whole training messages, cut into pieces of up to 26 words. A window can
# get a label for free in two ways: it *inherits* the queue of its message, or the teacher labels it. (Eight windows
# occur in two queues; the tables leave them out.) Text for the teacher to label is called a **[transfer
# set](glossary.md#transfer-set)**; Beyer et al. 2021 found that very long training matters, on many views of each
# image that the teacher labels anew. A text without a hard label gets the label `IGNORE_INDEX`, and on it the student
# learns from the teacher alone:

# %%
windows = list(desk.transfer[:300])
both = dh.DistillationDataset(
    [*train.texts, *windows],
    [*train.labels, *[dh.IGNORE_INDEX] * len(windows)],
    torch.cat([targets["train"], label(windows)]),
    start.tokenizer,
)
print(f"{len(desk.transfer)} windows in all; {len(both)} texts here, {len(windows)} of them without a hard label")
print("a window:", windows[3])

# %% [markdown]
# ## Tune both arms
#
# Our two live runs used one recipe: one learning rate and eight epochs. That recipe may suit only one **arm**, here
# one kind of labels. On the digits of [notebook 01](01_dark_knowledge.ipynb) we can afford to find out. Hard labels,
# smoothed ones and soft ones at two temperatures get the same three budgets of epochs, and each arm and seed chooses
# its learning rate on its own validation images. **Predict first:** which labels lead to the fewest errors after 60
# epochs, and which at the longest budget?

# %%
of_digits = label_budget.results().pivot_table(index="kind", columns="epochs", values="errors", sort=False)
of_digits.rename_axis(index="errors of 500, mean of 10 seeds").round(1)

# %%
budgets = label_budget.summary()
budgets[["mean", "difference", "± 95%", "won", "learning rate", "steps"]].round(1)

# %% [markdown]
# On the digits, soft labels cost errors at every budget; these runs do not tell why. After 15 epochs, soft labels at
# T = 20 make 6.2 ± 2.9 more errors than hard labels; after 240 epochs, 3.1 ± 2.3 more. So at T = 20 more time may
# halve the disadvantage, but the fall of 3.1 ± 3.4 errors may be chance. The winner needs no teacher: *smoothed*
# labels, which spread a tenth of the label evenly over all classes, make 3.8 ± 2.4 errors fewer than hard labels
# after 240 epochs. (*difference* is from hard labels at the same budget, ± its 95% interval over ten seeds; *won*
# counts seeds with fewer errors; *learning rate*: range chosen.)
#
# So a comparison is fair if
#
# 1. every arm learned from the same texts (unless texts are compared), with whatever labels it can get;
# 2. every arm chose its own learning rate and epochs on validation, from one grid;
# 3. the table shows what each arm spent, and the seeds are paired;
# 4. the conclusion holds at the longest budget.
#
# Now the help desk.
#
# ## The help desk, every arm tuned
#
# There are three kinds of labels: the *sender's queue*, which a window inherits; the *teacher's choice*, the
# teacher's likeliest queue as a hard label; and the *teacher's distribution* at T = 2. Each kind is used with and
# without the windows, which makes six arms. Every arm tried three learning rates (5e-4, 1.5e-3, 4.5e-3) and two
# lengths, 720 and 1,800 steps of 64 texts, rounded to whole epochs. On one seed, validation accuracy chose among the
# six; in every training, the best epoch. Then each arm ran with five other seeds. α is 1 for distributions and 0 for
# hard labels.
#
# The row *teacher* is the course's teacher: every weight of a sentence encoder was trained on the messages, and their
# change was then compressed to low rank (56), small enough to ship (`data/results/teacher-choice.md`). The tables
# come from a saved log.
#
# (*mean* and *sd* are of test accuracy over seeds; *kept* is its share of the teacher's. *NLL* is the mean −log of
# the probability given to the right queue. *ECE* sorts messages into 15 bins by their highest probability, and
# averages the gap between that probability and the share that is right (Guo et al. 2017, equation 3). *agreement* is
# the share of test messages on which a student gives the teacher's answer (Stanton et al. 2021, equation 2). *best
# epoch*, *seconds*: means. In the third table, *text* is the gain from windows, *teacher* of choice over queue,
# *softness* of distribution over choice, *all three* of all; ± is the 95% interval over seeds.)
#
# **Predict first:** which is worth most to the student: the text, the teacher's opinion (its choice), or its doubts
# (softness)?

# %%
table = help_desk_students.summary()
table[["validation %", "mean", "sd", "kept %", "NLL", "ECE %", "agreement %"]].round(2)

# %%
table[["learning rate", "max steps", "best epoch", "texts", "steps", "seconds"]].dropna()

# %%
help_desk_students.factors().round(1)

# %%
log = read_log(help_desk_students.LOG)
runs = log[log["phase"] == "result"]
fig = help_desk_students.accuracy_figure()
with_alt_text(
    fig,
    "Dot plot of test accuracy over five seeds: senders' queues with or without windows, and the teacher's choices and"
    " distributions for the messages lie below tf-idf; its choices and distributions with the windows lie far above it.",
)

# %% [markdown]
# - **The windows need the teacher.** Alone, the windows bring a student of the senders' queues 1.0 ± 1.8 points, and
#   the teacher's choices bring a student of the messages 1.7 ± 1.9: each gain may be next to nothing. With the
#   windows the teacher's choices bring 6.3 ± 1.0, in every seed, which is 4.6 ± 2.2 more than without. One reason may
#   be that a message's queue does not always fit its pieces, whereas the teacher reads the piece itself.
# - **With the windows, the teacher's opinion counts more than its doubts.** Softness adds 0.6 ± 0.3 points there, in
#   all five seeds. (On the messages alone, 1.2 ± 1.8, in 3 of 5 seeds.) Softness does improve the probabilities: with
#   the windows NLL falls from 0.78 to 0.67, in every seed.
# - **The best student keeps 97.1% of its teacher's accuracy, and passes every baseline without a teacher**: 78.0%
#   against the 74.4% of tf-idf on the same text, and the 73.2% of a frozen encoder with a linear head.
# - **Without a teacher, a student of this size isn't worth the trouble**: from the senders' queues it reaches 70.2%,
#   and 71.1% with the windows, where tf-idf has 70.5 and 74.4%.
# - **Validation does not show these differences**: there, the six arms lie between 81.3 and 82.5%. Only validation
#   may choose, yet its choice need not be best for the later test messages: our live runs, with one seed and no
#   tuning, happen to beat the tuned means of the same arms.
# - All four arms with the teacher's labels chose the lowest rate, and the best arm its last epoch in four seeds of
#   five: lower rates, or more steps, might do better.
#
# ## Your own data
#
# Two CSV files with a header, for training and test, are enough. A tenth of the training file becomes the validation
# set, unless you pass one. A text that is also in the test file is left out of training, with a warning. An empty
# text, or a label that training does not have, raises an error that names the row.

# %%
folder = work / "mine"
folder.mkdir()
for name, part in (("train", train.sample(0.2)), ("test", test.sample(0.2))):
    frame = pd.DataFrame({"message": part.texts, "queue": [part.label_names[i] for i in part.labels]})
    frame.to_csv(folder / f"{name}.csv", index=False)

with warnings.catch_warnings(record=True) as said:
    mine = dh.load_csv(folder / "train.csv", folder / "test.csv", text_column="message", label_column="queue")
print(str(said[0].message).replace(f"{folder}/", ""))
print(
    f"{len(mine.train)} training, {len(mine.validation)} validation, {len(mine.test)} test; {len(mine.label_names)} classes"
)

with (folder / "train.csv").open("a") as file:
    file.write(" ,comp.graphics\n")
try:
    dh.load_csv(folder / "train.csv", folder / "test.csv", text_column="message", label_column="queue")
except ValueError as error:
    print(str(error).replace(f"{folder}/", ""))

# %% [markdown]
# The rest is the pipeline above. It writes a folder that transformers can load, with a model card:

# %%
print(sorted(p.name for p in (work / "soft labels").iterdir()))
reloaded = dh.load_text_classifier(work / "soft labels", device="cpu")
before, after = (dh.evaluate(m, validation)["accuracy"] for m in (students["soft labels"], reloaded))
assert before == after
print("loaded again, it gives the same answers")

# %% [markdown]
# ## Exercises
#
# [Notebook 00](00_start_here.ipynb#Exercises) explains how they work.

# %% [markdown]
# ### Exercise 05.1 · Which epoch? (★, 4 min)
#
# `history` is a DataFrame such as `histories["soft labels"]`: a row for each epoch with `epoch`, `loss` (training),
# `eval_loss` and `eval_accuracy` (validation). Somebody has added a column `test_accuracy`. What counts is how many
# messages go to the right queue. Return the number of the epoch whose student you keep. If several epochs are equally
# good, return the earliest.
#
# <details><summary>Hint 1</summary>
#
# You choose by one of the columns. What are the others for?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `history["eval_accuracy"].idxmax()` is the first row with the highest value. You need its `epoch`:
# `history.loc[row, "epoch"]`.
#
# </details>
#
# <!-- solution 05.1 -->


# %%
def best_epoch(history):
    """history: one row per epoch. Returns the number of one epoch."""
    ...


check("05.1", best_epoch)

# %% [markdown]
# ### Exercise 05.2 · A fair difference (★★, 8 min)
#
# A colleague compares hard and soft labels at 60 epochs with one learning rate for both, and reports that hard labels
# win. The argument `runs` has all of his trainings: a DataFrame with the columns `arm` ("hard" or "soft"), `epochs`,
# `learning_rate`, `seed`, and the accuracies `validation` and `test`, as shares. Take the longest budget, and for
# each arm the learning rate with the highest mean validation accuracy over the seeds *in that arm*. Return the gain
# of soft over hard labels on the test messages, as a mean over seeds, in points.
#
# <details><summary>Hint 1</summary>
#
# Keep the rows of the longest budget first. Then take means over seeds, by arm and learning rate.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With `mean = longest.groupby(["arm", "learning_rate"])[["validation", "test"]].mean()`, an arm's choice is
# `mean.loc["soft", "validation"].idxmax()`.
#
# </details>
#
# <!-- solution 05.2 -->


# %%
def fair_difference(runs):
    """runs: one row per training. Returns soft − hard, in points of test accuracy."""
    ...


check("05.2", fair_difference)

# %% [markdown]
# ### Exercise 05.3 · A batch with gaps (★★★, 10 min)
#
# Write the loss of this notebook for a batch in which some labels are `IGNORE_INDEX`. On every row, the student
# learns from the teacher. Rows without a label add nothing to the cross-entropy. **Both** terms are divided by the
# number of *all* rows, so that the weight of a hard label does not depend on how many other rows have one. The
# weights α and 1 − α are the same for every row. A batch without any label is allowed. Use torch alone;
# `IGNORE_INDEX` is −100.
#
# <details><summary>Hint 1</summary>
#
# The soft term is that of the loop above. For the hard term, look at `cross_entropy`'s `ignore_index` and
# `reduction`: by what does its mean divide?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `cross_entropy(z, labels, reduction="sum") / len(z)`; −100 is its default `ignore_index`. Its own mean is 0 / 0 for
# a batch without any label.
#
# </details>
#
# <!-- solution 05.3 -->


# %%
def loss_with_gaps(z, v, labels, temperature, alpha):
    """z, v: student's and teacher's logits, (rows, classes); labels: (rows,). Returns a scalar with gradient."""
    ...


check("05.3", loss_with_gaps)

# %% [markdown]
# ### Exercise 05.4 · A gain over seeds (★★, 6 min)
#
# `new` and `old` are tensors of the accuracies of two kinds of student, as shares, with the same seeds in the same
# order. Return the mean gain and the standard deviation of the gains over seeds (with n − 1), both in points
# (hundredths).
#
# Then try it on two arms of the help desk. The DataFrame `runs` of that section has the columns `arm`, `seed` and
# `accuracy`, ordered by seed within an arm. Turn your selections into tensors with
# `torch.tensor(selection.to_numpy())`: pandas pairs rows by index, and two selections share none.
#
# <details><summary>Hint 1</summary>
#
# A seed sets the start and the batch order of both students. So there is one gain for each seed.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `gain = 100 * (new - old)`. `Tensor.std()` divides by n − 1, NumPy's by n.
#
# </details>
#
# <!-- solution 05.4 -->


# %%
def gain_over_seeds(new, old):
    """Both (seeds,). Returns two numbers: mean and standard deviation of new − old, in points."""
    ...


check("05.4", gain_over_seeds)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("05_response_distillation"))

# %% [markdown]
# ## Summary
#
# - The teacher labels each text once; its logits are kept on disk under a hash of everything that they depend on.
# - The loop by hand is short, and the package's trainer ends at the same weights.
# - With every arm tuned, more text and the teacher's labels pay together on the help desk: 7.8 points, few of them
#   from the teacher's doubts. On the digits the teacher's labels cost errors at every budget.
# - A comparison is fair if every arm had the same texts, and its own learning rate and length, chosen on validation.
# - Judge a student on test messages that chose nothing, over several seeds, beside a linear model.
#
# What the article that this course started from says of this subject, and what is true: [Errata](errata.md).
#
# **References.** Hinton, Vinyals, Dean 2015, [arXiv 1503.02531](https://arxiv.org/abs/1503.02531) · Beyer et al.
# 2021, *A good teacher is patient and consistent*, [arXiv 2106.05237](https://arxiv.org/abs/2106.05237) · Stanton et
# al. 2021, *Does Knowledge Distillation Really Work?*, [arXiv 2106.05945](https://arxiv.org/abs/2106.05945) · Guo et
# al. 2017, *On Calibration of Modern Neural Networks*, [arXiv 1706.04599](https://arxiv.org/abs/1706.04599).
