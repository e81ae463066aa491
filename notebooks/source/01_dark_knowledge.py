# %% [markdown]
# # 01 · Dark knowledge
#
# <!-- teaches: what a soft label says and a hard one does not; a digit that the student has never seen; the sender's label against the teacher's, over seeds -->
#
# **What a teacher's probabilities say that a label does not: tested on real messages, and on a digit that the student
# has never seen.**
#
# You will be able to
# - *compare* what a hard and a soft label do to a student's logits;
# - *count* the bits that a label gives about the class;
# - *test* claims about soft labels;
# - *explain* how a student knows a digit that it was never shown;
# - *correct* the bias that a missing class leaves behind.
#
# **Time:** about 35 minutes of reading and 32 of exercises; the cells run in one to two minutes on two CPU cores.
# **You need:** [00 · Start here](00_start_here.ipynb). **Next:** [02 · Temperature](02_temperature.ipynb). On
# [Colab](https://colab.research.google.com/): see notebook 00.

# %% [markdown]
# ## The question
#
# ![A handwritten 5, 8 by 8 pixels. Its hard label puts everything on the 5. The teacher's soft label at T = 4 puts 60%
# on the 5 and 27% on the 3.](drawings/01_dark_knowledge.svg)
#
# A small network learns to read handwritten digits from a teacher's probabilities. Every image of a 3 is removed
# first: **the network never sees a 3, and no hard label names one.** The test images include 51 threes. How many of
# them does the network get right?
#
# Help-desk messages come first, the digits later.

# %%
import itertools
import math
import random

import ipywidgets
import numpy as np
import pandas as pd
import torch
from IPython.display import HTML
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import digits, help_desk_students, label_budget, withheld_digit
from distill_helpers.course.experiments.fair_arms import paired_gain
from distill_helpers.course.experiments.linear_models import LABELS, TEXTS
from distill_helpers.course.figures import COLOURS, dot_figure, figure, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.dark_knowledge import render_bias
from distill_helpers.course.widgets.response_distillation import render_soft_targets
from distill_helpers.data.augmentation import drop_words

# %%
logging.disable_progress_bar()
logging.set_verbosity_error()  # else the Trainer remarks on checkpoints that are saved within a second
desk = dh.load_help_desk()
texts, labels = desk.test.texts, torch.tensor(desk.test.labels)
queues = [name.split(".", 1)[1] for name in desk.label_names]
teacher = dh.load_course_model("help-desk-teacher")

bar = ProgressWidget("the teacher labels")
batches = [texts[i : i + 244] for i in range(0, len(texts), 244)]
teacher_logits = torch.cat([dh.predict_logits(teacher, batch, max_length=48) for batch in bar.over(batches)]).double()
right = teacher_logits.argmax(-1) == labels
in_training = set(desk.train.texts)
known = sum(text in in_training for text in texts)
print(
    f"{len(texts)} test messages; the teacher has seen none of them, but for {known} that occur in the training set too"
)

# %% [markdown]
# We use test messages because on training messages, a teacher's probabilities mostly repeat the labels
# ([05](05_response_distillation.ipynb)).
#
# ## A hard and a soft label
#
# The queue that a sender chose is the message's **hard label** $y$. A **logit** $v_k$ is the score that the teacher's
# last layer gives queue $k$. The teacher's **soft label** is its probabilities $p = \mathrm{softmax}(v/T)$ at a
# temperature $T$. Drag the sliders. **Predict first:** does a higher $T$ ever change which queue comes first?

# %%
controls = {
    "message": ipywidgets.IntSlider(32, 0, len(texts) - 1, description="message"),
    "temperature": ipywidgets.FloatLogSlider(1.0, base=2, min=-1, max=4, step=1, description="T"),
}


def both_labels(message, temperature):
    return render_soft_targets(
        message, temperature, texts=texts, labels=desk.test.labels, names=desk.label_names, logits=teacher_logits
    )


explorer = live(both_labels, **controls)
explorer

# %%
for temperature in (1.0, 4.0):
    controls["temperature"].value = temperature
    first, second = (teacher_logits[32] / temperature).softmax(-1).topk(2).indices.tolist()
    print(
        f"T = {temperature:.0f}: first {queues[first]}, second {queues[second]}; the sender chose {queues[labels[32]]}"
    )
    assert f"teacher at T = {temperature:g}" in explorer.children[-1].value
HTML(explorer.children[-1].value)

# %% [markdown]
# Never: dividing all logits by $T$ keeps their order.
#
# Message 32 is about a driver for a PC's graphics card. Its hard label says only *graphics*. At $T = 1$ the teacher
# says Windows, perhaps graphics or PC hardware, and neither Mac nor X. (*Right* means: as the sender chose.
# [Entropy](glossary.md#entropy) is explained in *How many bits?*)
#
# ## What a soft label changes in training
#
# *The gradient at the logit of a class is the student's probability of the class minus the label's.* For
# [cross-entropy](glossary.md#cross-entropy) (CE), student logits $z$, $q = \mathrm{softmax}(z)$ and $T = 1$ ($[k =
# y]$: 1 if true, else 0),
#
# $$\frac{\partial\,\mathrm{CE}(z, y)}{\partial z_k} = q_k - [k = y], \qquad
# \frac{\partial\,\mathrm{KL}(p\,\|\,q)}{\partial z_k} = q_k - p_k.$$
#
# Take an untrained student that gives every queue 0.2. The hard label pushes the four other queues down by the same
# 0.2. The soft label pushes a queue up if the teacher gives it more than 0.2, and down if less. **Predict first:** on
# how many messages in a hundred does the teacher give its second choice more than 0.2?

# %%
student = dh.load_course_model("help-desk-student")
v, y = teacher_logits[:64].float(), labels[:64]
z = dh.predict_logits(student, texts[:64]).clone().requires_grad_()

q = z.softmax(dim=-1)
p = v.softmax(dim=-1)
by_hand = {
    "hard": q - torch.nn.functional.one_hot(y, 5),
    "soft": q - p,
}

for name, alpha in (("hard", 0.0), ("soft", 1.0)):
    loss = dh.DistillationLoss(dh.DistillationConfig(temperature=1.0, alpha=alpha))
    (gradient,) = torch.autograd.grad(len(z) * loss(z, v, y)["total_loss"], z)
    torch.testing.assert_close(gradient, by_hand[name].detach())
print("both gradients are the package's")

second = teacher_logits.softmax(-1).sort(-1)[0][:, -2]
share = (second > 0.2).double().mean()
assert 0.11 < share < 0.17, share
print(f"more than 0.2 for a second queue at T = 1: on {100 * share:.0f} messages in a hundred")

# %% [markdown]
# ## How many bits?
#
# Hinton, Vinyals and Dean (2015, section 1) write that soft targets of high entropy provide "much more information
# per training case" and less variance in the gradient ([04](04_distillation_loss.ipynb)). "Information" can mean two
# things.
#
# 1. **Bits about the sender's queue.** The five queues are about equally frequent, so your doubt before any label is
#    $\log_2 5 = 2.32$ bits. A hard label removes all of it. A soft label leaves $-\log_2 p_y$ bits, where $p_y$ is
#    its probability for the sender's queue.
# 2. **Entropy**, $-\sum_k p_k \log_2 p_k$, is the doubt that a label *states*. It is not information: a uniform label
#    has the most entropy and tells nothing. If the teacher's percentages were right, its labels would leave, on
#    average, as much doubt as they state.
#
# **Predict first:** which is larger, the doubt that the teacher states or the doubt that it leaves?

# %%
p = teacher_logits.softmax(dim=-1)
prior = labels.bincount().double() / len(labels)
doubt_before = -(prior * prior.log2()).sum().item()
doubt_left = -p.gather(1, labels[:, None]).log2().mean().item()
doubt_stated = -(p * p.log2()).sum(dim=-1).mean().item()
nll = dh.classification_metrics(teacher_logits, desk.test.labels)["nll"]
assert math.isclose(doubt_left, nll / math.log(2), rel_tol=1e-6)  # the package's NLL, in bits

assert 0.85 < doubt_left < 0.95
assert 0.45 < doubt_stated < 0.53
print(f"doubt before a label: {doubt_before:.2f} bits; a hard label removes all of it")
print(f"a soft label leaves {doubt_left:.2f} bits, so it removes {doubt_before - doubt_left:.2f}")
print(f"and it states {doubt_stated:.2f} bits of doubt")

# %% [markdown]
# The teacher leaves almost twice as much doubt as it states: it is **overconfident**.
#
# ## Which queues does the teacher find alike?
#
# For each queue, average the soft labels of its messages. A second table, not shown, has the **confusions**: how
# often the teacher's first choice is each other queue.


# %%
def by_queue(values, rows):
    """Mean of `values` over the messages of each queue, among `rows`: (queues, queues)."""
    return torch.stack([values[rows & (labels == k)].mean(dim=0) for k in range(5)]).numpy()


every = torch.ones_like(right)
alike = by_queue(p, every)
confused = by_queue(torch.nn.functional.one_hot(p.argmax(-1), 5).double(), every)
pd.DataFrame(100 * alike, index=queues, columns=queues).round().astype(int)

# %% [markdown]
# Rows are the senders' queues; the numbers are mean probabilities in per cent, at $T = 1$. Rank the 20 entries off
# the diagonal. **Predict first:** do the confusions give the same ranking? (A rank correlation of 1 means: exactly.)

# %%
off_diagonal = ~np.eye(5, dtype=bool)


def rank_correlation(a, b):
    return pd.Series(a[off_diagonal]).corr(pd.Series(b[off_diagonal]), method="spearman")


def renamings_as_good(a, b):
    """Among all 120 ways to rename the queues of `b`: how many agree with `a` as well as the true one."""
    orders = map(list, itertools.permutations(range(5)))
    return sum(rank_correlation(a, b[np.ix_(order, order)]) >= rank_correlation(a, b) - 1e-9 for order in orders)


alike_when_right = by_queue(p, right)
assert rank_correlation(alike, confused) > 0.9
assert 0.6 < rank_correlation(alike_when_right, confused) < 0.9
print(f"{len(texts)} messages, {int((~right).sum())} of them wrong, 20 ordered pairs of queues")
print(f"soft labels of all messages against confusions: {rank_correlation(alike, confused):.2f}")
print(f"soft labels of the messages that it gets right: {rank_correlation(alike_when_right, confused):.2f}")
print(f"renamings that agree as well as this: {renamings_as_good(alike_when_right, confused)} of 120")

# %%
fig, axes = figure("Where the teacher hesitates on some messages, it errs on others")
x, height = 100 * alike_when_right[off_diagonal], 100 * confused[off_diagonal]
axes.scatter(x, height, color=COLOURS[0])
for true, named in [(3, 2), (2, 3), (1, 2), (4, 0)]:
    spot = (100 * alike_when_right[true, named], 100 * confused[true, named])
    axes.annotate(f"{queues[true]} → {queues[named]}", spot, (4, 4), textcoords="offset points", fontsize=8)
axes.set_xlim(0, 1.35 * x.max())
axes.set_ylim(0, 1.12 * height.max())
axes.set_xlabel("mean probability of the other queue, messages answered rightly (%)")
axes.set_ylabel("messages sent to the other queue (%)")
with_alt_text(
    fig,
    "Scatter plot of 20 ordered pairs of queues: the more probability the teacher gives to another queue on messages"
    " that it answers rightly, the more often it names that queue wrongly. Mac hardware to PC hardware is highest.",
)

# %% [markdown]
# They nearly do. But for 0.98, a wrong answer raises one entry in both tables. The 0.79 is fair: **the soft labels
# come only from messages that the teacher gets right, the confusions only from messages that it gets wrong.** They
# still agree. Because twenty pairs of five queues are not independent, Mantel's test renames the queues of one table
# in all $5! = 120$ ways. Only the true naming fits this well: a p-value of 1/120.
#
# ## Five lessons of a soft label, tested
#
# The [article](errata.md) that this course started from reads five lessons in one soft label, (0.62, 0.21, 0.09,
# 0.05, 0.03) at $T = 4$: (1) a large share means a similar class, (2) a smaller one an overlapping class, (3) a small
# lead a near border, (4) the smallest share a distant class; (5) the top share is the teacher's
# [confidence](glossary.md#confidence).
#
# ### Lessons 1, 2 and 4: the larger a class's share, the nearer it is
#
# We measure similarity without the teacher, as the cosine between two queues' mean word counts, rare words weighted
# up ([tf-idf](glossary.md#tf-idf)). **Predict first:** will word counts agree with the table above, both directions
# averaged?


# %%
def word_similarity(part):
    vectors = TfidfVectorizer().fit(desk.train.texts).transform(part.texts).toarray()
    means = np.stack([vectors[np.array(part.labels) == k].mean(axis=0) for k in range(5)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means @ means.T


words, words_of_test = word_similarity(desk.train), word_similarity(desk.test)
symmetric = (alike + alike.T) / 2
assert rank_correlation(symmetric, words) > 0.7
assert 0.3 < rank_correlation(symmetric, words_of_test) < 0.7
for name, similarity in (("training", words), ("test", words_of_test)):
    agreement = f"rank correlation {rank_correlation(symmetric, similarity):.1f}"
    print(f"words of the {name} messages: {agreement}, {renamings_as_good(symmetric, similarity)} of 120 namings")

# %% [markdown]
# With the words of the training messages, from which the teacher learned, only the true naming agrees so well. The
# words of the test messages prove little: some wrong namings agree as well.
#
# A sharper test asks: is the second class right more often than by chance *when the first is wrong*, and the third
# when both are wrong? **Predict first:** how often is the least likely class the true one?

# %%
given, order = p.sort(dim=-1, descending=True)
place = (order == labels[:, None]).double().mean(dim=0)  # share of messages whose queue is 1st, 2nd, …
assert place[1] / place[1:].sum() > 0.5  # a quarter by chance
assert place[2] / place[2:].sum() > 0.5  # a third by chance
assert 0.003 < place[4] < 0.02
print(f"first choice wrong: the second is right in {100 * place[1] / place[1:].sum():.0f}% of cases (chance: 25%)")
print(f"first two wrong: the third is right in {100 * place[2] / place[2:].sum():.0f}% (chance: 33%)")
print(f"the least likely queue is right on {100 * place[4]:.1f}% of messages (chance: 20%)")
assert place[4] > 2 * given[:, 4].mean()
print(f"the teacher gives this queue {100 * given[:, 4].mean():.2f}% on average")

# %%
fig, axes = figure("The teacher's order is right, its percentages are too sure")
positions = np.arange(5)
axes.bar(positions - 0.2, 100 * given.mean(dim=0).numpy(), 0.4, color=COLOURS[0], label="probability it gives")
axes.bar(positions + 0.2, 100 * place.numpy(), 0.4, color=COLOURS[1], label="messages on which it is right")
axes.set_yscale("log")
axes.set_ylim(0.1, 150)
axes.set_xticks(positions, ["first", "second", "third", "fourth", "last"])
axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
axes.set_xlabel("the teacher's choice")
axes.set_ylabel("share (%, logarithmic)")
axes.legend(frameon=False)
with_alt_text(
    fig,
    "Bars on a logarithmic axis for the teacher's first to last choice: what it gives them and how often they are right"
    " both fall at each step, but from the second choice on they are right more often than it says, by a larger factor at each step.",
)

# %% [markdown]
# Lessons 1, 2 and 4 hold **on average over messages**: the lower a class ranks, the less often it is the true one. A
# single label may still be wrong.
#
# ### Lesson 3: a small lead means that the border is near
#
# The **margin** of a message is the first class's lead in probability over the second. If lesson 3 holds, the teacher
# must be wrong more often at small margins, and a small change must carry more messages across. We take every second
# message, drop each word with probability 0.1, and ask the teacher again. **Predict first:** in the quarter with the
# smallest margins, how many in a hundred change sides (another first choice)? And in the other three?

# %%
top_two, _ = p.topk(2)
margin = (top_two[:, 0] - top_two[:, 1]).numpy()
quarter = np.searchsorted(np.quantile(margin, [0.25, 0.5, 0.75]), margin)
rng = random.Random(0)
rows = np.arange(0, len(texts), 2)
shortened = [drop_words(texts[i], 0.1, rng) for i in rows]
bar = ProgressWidget("the teacher reads again")
halves = bar.over([shortened[i : i + 244] for i in range(0, len(shortened), 244)])
again = torch.cat([dh.predict_logits(teacher, half, max_length=48) for half in halves])
flipped = (again.argmax(-1) != p.argmax(-1)[rows]).double().numpy()
wrong_share = [float((~right).numpy()[quarter == k].mean()) for k in range(4)]
flip_share = [float(flipped[quarter[rows] == k].mean()) for k in range(4)]
assert wrong_share == sorted(wrong_share, reverse=True)
assert wrong_share[0] > 0.4
assert wrong_share[3] < 0.05
assert flip_share[0] > 2 * max(flip_share[1:])
for what, shares in (("wrong", wrong_share), ("change sides", flip_share)):
    print(f"{what}, from the smallest margins to the largest:", *(f"{100 * share:.0f}%" for share in shares))

# %%
fig, axes = figure("Near the border more messages are wrong, and more change sides")
axes.bar(np.arange(4) - 0.2, [100 * share for share in wrong_share], 0.4, color=COLOURS[0], label="wrong")
axes.bar(
    np.arange(4) + 0.2,
    [100 * share for share in flip_share],
    0.4,
    color=COLOURS[1],
    label="other answer, words dropped",
)
axes.set_xticks(range(4), ["smallest", "small", "large", "largest"])
axes.set_xlabel("lead of the first class over the second, in quarters of the messages")
axes.set_ylabel("messages (%)")
axes.legend(frameon=False)
with_alt_text(
    fig,
    "Bars for four quarters of the messages by margin: about half of the messages with the smallest margin are wrong,"
    " almost none with the largest; the share that changes its answer when words are dropped is several times larger in"
    " the first quarter than in the others.",
)

# %% [markdown]
# Lesson 3 holds too, though the border is the *teacher's*, not a person's.
#
# ### Lesson 5: "0.62 confident"
#
# The article takes 0.62 for the teacher's confidence. But 0.62 is the probability **at $T = 4$**. The logits behind
# it are known up to a constant: $v = 4 \log p$. **Predict first:** what does the same teacher say at $T = 1$? At $T =
# 4$ our teacher gives no queue more than about a half. Where it gives one 0.48 or more, how often is it right?

# %%
soft = torch.tensor([0.62, 0.21, 0.09, 0.05, 0.03], dtype=torch.float64)
v = 4 * soft.log()
assert torch.allclose((v / 4).softmax(-1), soft)
print("T = 4:", [round(value, 4) for value in (v / 4).softmax(-1).tolist()])
print("T = 1:", [round(value, 4) for value in v.softmax(-1).tolist()])
highest = (teacher_logits / 4).softmax(-1).amax(-1)
half = highest >= 0.48
assert highest.max() < 0.55
assert half.sum() > 300
assert right[half].double().mean() > 0.95
print(f"our teacher at T = 4: at most {highest.max():.2f} for one queue")
print(f"of the messages with 0.48 and more it gets {100 * right[half].double().mean():.0f}% right", end=", ")
print(f"and at T = 1 it gives that queue {100 * p.amax(-1)[half].mean():.0f}%")

# %% [markdown]
# So the top share at $T = 4$ is not the teacher's confidence: where ours says "a half", it is almost always right.
# Distillation chooses $T$ to soften labels; [02](02_temperature.ipynb) measures the $T$ at which confidence matches
# accuracy.
#
# ## A digit that the student has never seen
#
# This experiment is in section 3 of Hinton, Vinyals and Dean's paper: the teacher learns all ten digits, and the
# student learns from its probabilities on images without any 3.
#
# We use scikit-learn's 8×8 digits: 1,097 for training, 200 for [validation](glossary.md#validation), 500 for the
# test. **Predict first:** on images of which digits does the teacher make the 3 its second choice?

# %%
seed, log = 0, withheld_digit.results()
for _ in ProgressWidget("the digits' teacher").over([seed]):
    data, digit_teacher = digits.teacher_for(seed)
v_digits = digits.predict(digit_teacher, data.train_images)
second_is_3 = v_digits.topk(2).indices[:, 1] == 3
of_ten = np.array(log.loc[log["arm"] == withheld_digit.TEACHER, "second_choice_3"].tolist())
n_images = data.train_labels.bincount().tolist()
print("training images on which a 3 is the second choice, ten teachers ± sd:")
for digit in (2, 5, 9, 8, 7, 1):
    here, spread = int(second_is_3[data.train_labels == digit].sum()), of_ten[:, digit].std(ddof=1)
    assert abs(here - of_ten[0, digit]) < 2 * spread + 1, (digit, here)
    print(f"  {digit}: {of_ten[:, digit].mean():3.0f} ± {spread:2.0f} of {n_images[digit]}")

# %%
fig, axes = figure("The 2s, 5s and 9s that the teacher finds most like a 3", height=3.6)
p_digits, ticks = 100 * (v_digits / 4).softmax(dim=-1), {}
chosen = [(k, row) for k in (2, 5, 9) for row in (p_digits[:, 3] * (data.train_labels == k)).topk(2).indices.tolist()]
for place, (digit, row) in enumerate(chosen):
    left = 12 * place
    axes.bar(left + np.arange(10), p_digits[row], color=[COLOURS[1] if k == 3 else COLOURS[0] for k in range(10)])
    image = data.train_images[row].view(8, 8)
    axes.imshow(image, cmap="gray_r", extent=(left, left + 9, 68, 118), aspect="auto")
    ticks[left + digit] = f"a {digit}"
axes.set_xlim(-2, left + 11)
axes.set_ylim(0, 122)
axes.set_xticks(list(ticks), list(ticks.values()))
axes.set_yticks([0, 20, 40, 60])
axes.set_xlabel("probability of each digit, from 0 to 9; orange: that of the 3")
axes.set_ylabel("soft label at T = 4 (%)")
with_alt_text(
    fig,
    "Six images of digits, two 2s, two 5s and two 9s, each above the ten bars of its soft label: the digit itself has"
    " the highest bar, and the 3 the second highest.",
)

# %% [markdown]
# Above all on 2s, 5s and 9s. A student that never saw a 3 may learn to recognise it from **how much such images
# resemble one**.
#
# The students have two hidden layers of 128 units; soft labels are made at $T = 20$. The results of ten seeds are
# saved; the next cell trains three students of seed 0 again, two for later. Validation errors choose each student's
# learning rate, training length and best epoch in it (*Tune both [arms](glossary.md#arm)*,
# [05](05_response_distillation.ipynb)). Validation images of 3s have no say: they would favour students that know the
# 3.
#
# **Predict first:** train a student on hard labels, with every 3 removed. How many of the 51 test threes will it
# miss? And a student on soft labels?

# %%
soft_no_3s, even_no_3s, hard_no_3s = (
    f"{kind}, no 3s" for kind in ("soft labels", "soft labels without the ranking", "hard labels")
)
soft_7_8 = "soft labels, only 7s and 8s, chosen by all digits"
live_arms = [soft_no_3s, even_no_3s, soft_7_8]
validation_logits, test_logits = {}, {}
for arm in ProgressWidget("three students").over(live_arms):
    validation_logits[arm], test_logits[arm] = withheld_digit.student_logits(arm, seed)

on_3s, on_all, on_3s_corrected, on_all_corrected = (
    log.pivot_table(index="seed", columns="arm", values=name)
    for name in ("errors_on_3s", "errors", "errors_on_3s_corrected", "errors_corrected")
)
for arm in live_arms:
    here = digits.error_count(test_logits[arm], data.test_labels)
    assert abs(here - on_all.loc[seed, arm]) <= 2 * on_all[arm].std() + 1, (arm, here)
    print(f"{arm}: {here} errors of 500 in this run, {on_all.loc[seed, arm]:.0f} in the log")


def spread_of(values):
    return f"{values.mean():.0f} ± {values.std():.0f}"


for arm in (hard_no_3s, soft_no_3s):
    print(f"{arm}: misses {spread_of(on_3s[arm])} of 51 threes (ten seeds ± sd)")

# %%
z, threes = test_logits[soft_no_3s], data.test_labels == 3
known = (threes & (z.argmax(-1) == 3)).nonzero().flatten()[:8]
strip = torch.nn.functional.pad(data.test_images[known].view(-1, 8, 8), (1, 1, 1, 1), value=0.5)
fig, axes = figure("This student has never seen a 3. It recognises these", height=1.9)
axes.imshow(torch.cat(list(strip), dim=1), cmap="gray_r")
chances, choices = z[known].softmax(-1).topk(2)
names = [f"{100 * c[0]:.0f}%\nthen {i[1]}" for c, i in zip(chances, choices, strict=True)]
axes.set_xticks([10 * k + 4.5 for k in range(len(known))], names)
axes.set_yticks([])
axes.set_xlabel("the student's probability of 3, and its second choice")
axes.set_ylabel("8 pixels")
with_alt_text(
    fig,
    "Eight images of handwritten threes, each with the probability that the student gives to 3 and the digit that it"
    " finds second.",
)

# %% [markdown]
# ### Is it the order of the wrong digits, or just the softness?
#
# A soft label is less extreme than a hard one, and it ranks the wrong classes. To see which of these matters, keep
# the teacher's highest probability and **share the rest evenly** among the other nine digits. **Predict first:** how
# many threes does a student of such labels miss?

# %%
T = withheld_digit.TEMPERATURE
v_no_3s = v_digits[data.train_labels != 3]
p_20 = (v_no_3s / T).softmax(dim=-1)
highest, first = p_20.max(dim=-1, keepdim=True)
even = ((1 - highest) / 9).expand_as(p_20).scatter(1, first, highest)
torch.testing.assert_close((withheld_digit.without_ranking(v_no_3s, T) / T).softmax(dim=-1), even)

ranked_bits, even_bits = (torch.special.entr(label).sum(-1).mean() / math.log(2) for label in (p_20, even))
assert ranked_bits < even_bits < 1.01 * ranked_bits
print(f"mean entropy: {ranked_bits:.1f} bits with the ranking, {even_bits:.1f} without")
for arm in (soft_no_3s, even_no_3s):
    print(f"{arm}: misses {spread_of(on_3s[arm])} of 51")

# %% [markdown]
# All of them, in every seed, although both kinds of labels have about the same entropy. So the student above knew its
# threes from the **ranking** of the wrong digits. This is what Hinton calls *dark knowledge*: what the probabilities
# of the wrong classes say.
#
# ### The bias of a missing class
#
# The student hardly ever saw a label whose first class is a 3, so it gives that class too low a logit. The remedy is
# to add to this logit the **bias** that leaves the fewest validation errors. Apart from the teacher's training, only
# this step needs labelled 3s. **Predict first:** each student gets its own best bias. Will that make up for the
# missing ranking?

# %%
for arm in (soft_no_3s, even_no_3s):
    bias = withheld_digit.best_bias(validation_logits[arm], data.validation_labels, (3,))
    raised = test_logits[arm].clone()
    raised[:, 3] += bias
    torch.testing.assert_close(raised, withheld_digit.raise_bias(test_logits[arm], (3,), bias))
    here = int((raised.argmax(dim=-1) != data.test_labels)[threes].sum())
    assert abs(here - on_3s_corrected.loc[seed, arm]) <= 2 * on_3s_corrected[arm].std() + 1, (arm, here)
for arm in (hard_no_3s, soft_no_3s, even_no_3s):
    low, high = on_3s_corrected[arm].min(), on_3s_corrected[arm].max()
    print(f"{arm}, bias corrected: misses {spread_of(on_3s_corrected[arm])} of 51, from {low:.0f} to {high:.0f}")

# %% [markdown]
# It does not: in every seed, the student with the ranking finds more threes. The student without it now finds half of
# them, perhaps those that fit no other digit well.
#
# Drag the bias. The second student in the menu learned from 7s and 8s alone, and one bias is added to all eight
# missing digits. Validation images of *all* digits chose its epoch; those of 7s and 8s would stop it too early.
# **Predict first:** what happens to the other digits at a bias of 10?

# %%
sliders = {
    "bias": ipywidgets.FloatSlider(0.0, min=0.0, max=10.0, step=0.25, description="bias"),
    "student": ipywidgets.Dropdown(options=[soft_no_3s, soft_7_8], description="student"),
}


def bias_of(bias, student):
    missing = withheld_digit.ARMS[student].missing
    return render_bias(bias, logits=test_logits[student], labels=data.test_labels, missing=missing)


playground = live(bias_of, **sliders)
playground

# %%
for name in sliders["student"].options:
    sliders["student"].value, missing = name, withheld_digit.ARMS[name].missing
    gone, counts = torch.isin(data.test_labels, torch.tensor(missing)), []
    for value in (0.0, 2.0, 10.0):
        sliders["bias"].value = value
        raised = withheld_digit.raise_bias(test_logits[name], missing, value)
        counts.append([digits.error_count(raised[group], data.test_labels[group]) for group in (gone, ~gone)])
        assert f"<td>{sum(counts[-1])}</td></tr></tbody>" in playground.children[-1].value
    on_missing, on_others = zip(*counts, strict=True)
    assert on_missing[0] > on_missing[1] >= on_missing[2]
    assert on_others[0] <= on_others[1] < on_others[2]
    lost, made = (" → ".join(map(str, errors)) for errors in (on_missing, on_others))
    print(f"{name}, bias 0 → 2 → 10: errors on the missing digits {lost}, on the others {made} in this run")

# %% [markdown]
# A bias adds no knowledge. It moves a border, and 10 moves it too far. The paper chose its bias, 3.5, on the *test*
# set.
#
# ### Beside the paper
#
# The paper used MNIST (60,000 training images), so compare the direction of each effect, not its size. Hard labels
# without 3s are not in the paper. *Errors on 3s* are per cent of the threes, *errors* of all test images; *corrected*
# means with the bias.

# %%
per_cent = {"errors": 5, "errors_corrected": 5, "errors_on_3s": 0.51, "errors_on_3s_corrected": 0.51}  # of images
hinton = [  # section 3 of the paper, as shares of 10,000 test images or 1,010 threes
    (withheld_digit.TEACHER, "errors", "0.67"),
    (soft_no_3s, "errors", "2.06"),
    (soft_no_3s, "errors_on_3s", "13.2"),
    (soft_no_3s, "errors_corrected", "1.09"),
    (soft_no_3s, "errors_on_3s_corrected", "1.4"),
    (soft_7_8, "errors", "47.3"),
    (soft_7_8, "errors_corrected", "13.2"),
]
effects = {
    "hard labels without 3s: misses every 3": on_3s[hard_no_3s] == 51,
    "soft labels without 3s: gets more than half of the 3s right": on_3s[soft_no_3s] < 25.5,
    "its bias corrected: fewer errors on 3s": on_3s_corrected[soft_no_3s] < on_3s[soft_no_3s],
    "its bias corrected: fewer errors in all": on_all_corrected[soft_no_3s] < on_all[soft_no_3s],
    "only 7s and 8s, bias corrected: fewer errors": on_all_corrected[soft_7_8] < on_all[soft_7_8],
}
for name, holds in effects.items():
    print(f"{int(holds.sum()):2d} of {len(holds)} seeds: {name}")
figures = [(*row, log.loc[log["arm"] == row[0], row[1]] / per_cent[row[1]]) for row in hinton]
lines = [(arm, name.replace("_", " "), theirs, f"{v.mean():.1f} ± {v.std():.1f}") for arm, name, theirs, v in figures]
pd.DataFrame(lines, columns=["network", "figure", "Hinton et al. (%)", "here, ten seeds ± sd (%)"]).set_index("network")

# %% [markdown]
# **Only the fourth effect fails, in 2 seeds of 10.**
#
# ## With all ten digits: does a soft label beat a hard one?
#
# The labels are now hard, *smoothed* (nine tenths on the class and a tenth spread over all ten, no teacher), or the
# teacher's at two temperatures. For each [budget](glossary.md#budget) (15, 60 and 240 epochs), every kind and seed
# chooses its learning rate and best epoch. **Predict first:** the paper's student makes half as many errors with soft
# labels as without (74 and 146 of 10,000). Does ours, whatever the budget?

# %%
budget = label_budget.results()
errors = budget.pivot_table(index="epochs", columns="kind", values="errors", aggfunc=["mean", "std"])
fig, axes = figure("Hard labels beat soft ones, and smoothed labels beat both")
for number, (kind, colour, marker) in enumerate(zip(label_budget.KINDS, COLOURS, "os^D", strict=False)):
    mean, deviation = errors["mean", kind], errors["std", kind]
    place = mean.index * 1.06 ** (number - 1.5)
    axes.errorbar(place, mean, deviation, marker=marker, color=colour, capsize=3, label=kind)
axes.set_xscale("log")
axes.set_xticks(label_budget.EPOCHS, [str(epochs) for epochs in label_budget.EPOCHS])
axes.minorticks_off()
axes.set_ylim(bottom=0)
axes.set_xlabel("epochs of the training (its learning rate falls until the last)")
axes.set_ylabel("errors of 500 (mean ± sd)")
axes.legend(frameon=False, fontsize=8)
with_alt_text(
    fig,
    "Errors of 500 test images after 15, 60 and 240 epochs: smoothed labels lowest, hard labels in the middle, soft"
    " labels at T = 4 and T = 20 highest.",
)

# %%
fair = label_budget.summary()
for epochs in label_budget.EPOCHS:
    print(f"{epochs} epochs: hard labels {errors.loc[epochs, ('mean', 'hard labels')]:.1f} errors of 500;", end=" ")
    print("differences from them, with 95% intervals:")
    for kind in list(label_budget.KINDS)[1:]:
        row = fair.loc[label_budget.Arm(kind, epochs).name]
        print(f"    {kind:19s} {row['difference']:+.1f} ± {row['± 95%']:.1f}; fewer errors in {row['won']} seeds")

# %%
longest = budget[budget["epochs"] == label_budget.EPOCHS[-1]]
fig, axes = figure("Hard labels reach their minimum early, soft labels late")
for kind, colour, marker in zip(label_budget.KINDS, COLOURS, "os^D", strict=False):
    runs = longest[longest["kind"] == kind]
    wrong = 200 - np.array(runs["curve"].tolist()).astype(int)  # right answers plus a fraction, of 200 images
    at = int(runs["every"].iloc[0]) * np.arange(1, wrong.shape[1] + 1)
    axes.plot(at, wrong.mean(axis=0), marker=marker, markersize=4, color=colour, label=kind)
axes.set_ylim(bottom=0)
axes.set_xlabel("epoch")
axes.set_ylabel("errors of 200 validation images")
axes.legend(frameon=False, fontsize=8)
with_alt_text(
    fig,
    "Mean validation errors along the longest training: those of hard labels fall quickly and rise again, those of soft"
    " labels fall more slowly, are flat from epoch 150 on and end slightly lower; smoothed labels are lowest throughout.",
)

# %% [markdown]
# **At every budget, soft labels lead to about three to six more errors of 500 than hard ones, and smoothed labels to
# three to four fewer.** On the validation images, the mean errors of hard labels are lowest early and those of soft
# labels late; after the last epoch, the two do not differ beyond chance (at T = 20, 0.5 ± 2.2 fewer errors of 200).
# More time would hardly help them: 240 epochs instead of 60 save less than one test error.
#
# These runs do not tell why soft labels lose. The teacher has little to give: it makes 10.5 errors, students of hard
# labels 11 to 12. The paper's student also learned from hard labels; ours does not. Only the learning rates 0.003 and
# 0.01 were tried.
#
# ## The sender's label, the teacher's choice, the teacher's doubts
#
# Back to the help desk, with a saved log of students tuned on validation messages
# ([05](05_response_distillation.ipynb)). These students read the first 26 words of the 2,517 training messages, or
# also 20,388 **[windows](glossary.md#window)**: the whole messages, cut into pieces of 8 to 26 words. Each window
# inherits its sender's queue. The labels are the sender's queue, the teacher's choice (again a hard label), or the
# teacher's distribution at $T = 2$, with its doubts. The teacher is this page's, right on 80.3% of the test messages.
# **Predict first:** which is worth more, the teacher's choice or its doubts?

# %%
log_of_desk = read_log(help_desk_students.LOG).query("phase == 'result'")
accuracy = 100 * log_of_desk.pivot_table(index="seed", columns="arm", values="accuracy")
rows = {}
for of_texts in TEXTS:
    sender, choice, doubts = (f"{kind}, {of_texts}" for kind in LABELS)
    rows[of_texts] = {kind: f"{accuracy[f'{kind}, {of_texts}'].mean():.1f}" for kind in LABELS}
    for name, more, less in (
        ("choice, not sender", choice, sender),
        ("doubts, not choice", doubts, choice),
        ("doubts, not sender", doubts, sender),
    ):
        gain = paired_gain(accuracy, more, less)
        rows[of_texts][f"gain: {name}"] = f"{gain['difference']:.1f} ± {gain['± 95%']:.1f} ({gain['won']})"
print(f"a window that inherits {queues[desk.transfer_labels[7678]]}: {desk.transfer[7678]}")
pd.DataFrame.from_dict(rows, orient="index")

# %% [markdown]
# Means of five seeds: accuracies (%), and gains of the first-named labels over the second; *doubts* is the
# distribution. ± is a 95% [interval](glossary.md#interval); brackets count the seeds with a gain.
#
# - **With the windows the teacher's labels bring 6.9 ± 1.1 points**, in every seed, nearly all of them by its choice:
#   6.3 ± 1.0. Its doubts add 0.6 ± 0.3. The window above says nothing about the queue that it inherits; the teacher
#   judges the window itself.
# - **On the messages alone they bring 2.9 ± 2.9**, at the edge of what five seeds can show. The five gains go from
#   −0.1 to 5.8 points.
# - With the teacher's labels, the lowest learning rate won; a lower one might help.
#
# ## Exercises
#
# Each exercise checks itself.
#
# ### Exercise 01.1 · The runner-up, where the teacher is unsure (★★, 8 min)
#
# Take the messages on which the teacher's first choice is wrong, and halve them by its probability for this choice at
# $T = 1$. Write `runner_up_rates(logits, labels)`: the share of messages whose second choice is right, in the less sure
# half and in the surer half. (If their number is odd, the surer half has one more.)
#
# <details><summary>Hint 1</summary>
#
# `logits.argsort(dim=-1, descending=True)` gives the classes of each message from first to last choice. Select the rows
# whose first column is not the label.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `softmax`, `amax` and `argsort` of these rows put them in the order of certainty.
#
# </details>
#
# <!-- solution 01.1 -->


# %%
def runner_up_rates(logits, labels):
    """Two numbers in [0, 1], from logits (messages, classes) and labels (messages,)."""
    ...


check("01.1", runner_up_rates)

# %% [markdown]
# ### Exercise 01.2 · Labels of an unknown temperature (★★, 8 min)
#
# `soft` and `known` are two files of soft labels by the same teacher for the same messages in the same order. `known`
# was made at `temperature`. Write `made_at(soft, known, temperature)`: the temperature at which `soft` was made. No
# probability is 0.
#
# <details><summary>Hint 1</summary>
#
# In each row, `soft.log()` equals the logits divided by T, up to a constant, which disappears when you subtract the
# row's mean.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# What is left of one file equals what is left of the other, times one number. A sum of products divided by a sum of
# squares finds it.
#
# </details>
#
# <!-- solution 01.2 -->


# %%
def made_at(soft, known, temperature):
    """A number. soft, known: probabilities (messages, classes); known was made at `temperature`."""
    ...


check("01.2", made_at)

# %% [markdown]
# ### Exercise 01.3 · Which labels tell most? (★, 6 min)
#
# Write `most_telling(logits, labels, temperatures)`: return the T whose labels leave the least doubt, on average over
# the messages, and how many bits they remove. All classes are equally frequent, but there need not be five.
#
# <details><summary>Hint 1</summary>
#
# The bits removed are the doubt before, $\log_2$ of the number of classes, minus the doubt that is left.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Write the bits at one T as a function, and give it to `max(temperatures, key=...)`.
#
# </details>
#
# <!-- solution 01.3 -->


# %%
def most_telling(logits, labels, temperatures):
    """Two numbers, T and bits, from logits (messages, classes), labels (messages,) and a list of temperatures."""
    ...


check("01.3", most_telling)

# %% [markdown]
# ### Exercise 01.4 · Choose a bias, and report it (★★, 10 min)
#
# Write `corrected_errors(validation, test, digit, biases)`. For the digit's logit, choose the bias that leaves the
# fewest errors, on images that keep the test honest. Return the bias and the number of test errors with it. The
# biases are in ascending order; in a tie, take the smallest.
#
# <details><summary>Hint 1</summary>
#
# Which images may choose? And errors on which digits count?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Let a function `errors(logits, labels, bias)` raise the digit's column of `logits.clone()` and count where the
# argmax is not the label. `min(biases, key=...)` takes the first of equals.
#
# </details>
#
# <!-- solution 01.4 -->


# %%
def corrected_errors(validation, test, digit, biases):
    """Two numbers: the bias, and the errors with it. validation, test: each (logits, labels)."""
    ...


check("01.4", corrected_errors)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("01_dark_knowledge"))

# %% [markdown]
# ## The answer
#
# On average, the student of soft labels gets 42 of the 51 threes right, and misses 9, without having seen one:

# %%
parts = {}
for name, arm in (("hard labels", hard_no_3s), ("soft, no ranking", even_no_3s), ("soft labels", soft_no_3s)):
    parts |= {name: on_3s[arm], f"{name}, bias corrected": on_3s_corrected[arm]}
table = pd.concat([pd.DataFrame({"model": n, "seed": v.index, "missed": v.to_numpy()}) for n, v in parts.items()])
fig = dot_figure(
    table,
    "missed",
    title="Soft labels teach most of the unseen 3s",
    label="missed threes of 51 (a dot for each seed, a bar at the mean)",
    references={"all of them": 51},
)
ranges = "; ".join(f"{name} {missed.min():.0f} to {missed.max():.0f}" for name, missed in parts.items())
with_alt_text(fig, f"Missed threes of 51 by students that learned without threes, over ten seeds: {ranges}.")

# %% [markdown]
# ## Summary
#
# - A hard label pushes every wrong class towards 0; a soft label gives each class its own target.
# - A soft label tells less about the sender's queue than a hard one, but something about the other queues. Entropy is
#   stated doubt, not information.
# - The order of a soft label is right on average, and a small lead means a near border. Do not trust the percentages
#   unchecked.
# - A student can learn a digit that it never saw from the ranking of the wrong digits: it misses 9 ± 4 of 51 threes,
#   or 4 ± 2 with its bias corrected. Without the ranking it misses all of them, or 26 ± 6 with the bias corrected
#   (mean ± sd, ten seeds).
# - On the help desk the teacher's labels beat the senders' by 6.9 points where windows are read, and by 6.3 if they are
#   made hard. On all ten digits, soft labels lose to hard ones at every budget; smoothed ones, which need no teacher,
#   beat both.
#
# The article's claims, checked: [Errata](errata.md).
#
# **References.** Hinton, Vinyals, Dean 2015, *Distilling the Knowledge in a Neural Network*, [arXiv
# 1503.02531](https://arxiv.org/abs/1503.02531), sections 1 and 3 · Mantel 1967, Cancer Research 27.
