# %% [markdown]
# # 02 · Temperature
#
# <!-- teaches: what T reveals, which T for which student, and temperature as calibration -->
#
# **One number, the temperature T, decides how sure a teacher looks. See what T changes, which T suits which student,
# and how far T makes a probability trustworthy.**
#
# You will be able to
# - *write* softmax with a temperature, and *predict* what it does to probabilities, ratios and entropy;
# - *find* the temperature at which a file of soft labels was made;
# - *judge* a claim about "the best temperature" with students of four widths and three training lengths;
# - *calibrate* a classifier with one number, and *measure* how well that number holds on later messages.
#
# **Time:** about 30 minutes of reading and 21 of exercises; the cells run in about a minute on two CPU cores. **You
# need:** [00 · Start here](00_start_here.ipynb) and [01 · Dark knowledge](01_dark_knowledge.ipynb). **Next:** [03 ·
# The T² factor](03_t_squared.ipynb). [Colab](https://colab.research.google.com/): see notebook 00.

# %% [markdown]
# ## The question
#
# ![The teacher's probabilities of five queues for one message, at four temperatures. The likeliest queue has 96% at T =
# 0.5, 83% at T = 1, 40% at T = 4 and 25% at T = 16. The order never changes.](drawings/02_temperature.svg)
#
# *"why is my mouse so jumpy …"*, writes a customer. The teacher of the help desk gives the Windows queue 83% and PC
# hardware 16%. Three people use such probabilities:
#
# - an engineer trains a small student on them, and softens them first;
# - a person at the desk sees 83% on a screen, and asks whether 83% of such messages really belong in that queue;
# - a third person receives a file of the teacher's soft labels, made at a temperature that nobody remembers.
#
# **Which temperature does each of them need?**

# %%
import math
import re

import ipywidgets
import torch
from IPython.display import HTML
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import capacity, teacher_label_smoothing, temperature_and_alpha
from distill_helpers.course.experiments.fair_arms import half_width
from distill_helpers.course.figures import COLOURS, figure, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.temperature import render_reliability, render_temperature
from distill_helpers.evaluation import expected_calibration_error

logging.disable_progress_bar()
desk = dh.load_help_desk()
models = {name: dh.load_course_model(f"help-desk-{name}") for name in ("teacher", "student")}

# %% [markdown]
# The teacher and student of notebook 00 read the messages once. Every fourth training message is enough.

# %%
parts = {
    "training": desk.train.subset(range(0, len(desk.train), 4)),
    "validation": desk.validation,
    "test": desk.test,
}
jobs = [(who, part) for part in parts for who in models]
logits = {
    (who, part): dh.predict_logits(models[who], parts[part].texts, max_length=48)
    for who, part in ProgressWidget("teacher and student label").over(jobs)
}
print({name: len(part) for name, part in parts.items()})

# %% [markdown]
# ## Softmax with a temperature
#
# In words: *divide the logits by T, then take the softmax.* In symbols, with logits $z$ and $T > 0$,
#
# $$p_i(T) = \frac{e^{z_i/T}}{\sum_k e^{z_k/T}}.$$
#
# $T = 1$ is the plain softmax. The **entropy** $H = -\sum_i p_i \log_2 p_i$, in bits, measures how evenly a
# distribution is spread: 0 when one class has everything, and $\log_2 5 = 2.32$ when all five are equal. Written out:

# %%
row = 135  # the message of the question, among the validation messages
z = logits["teacher", "validation"][row]
T = 4.0
powers = (z / T).exp()
p = powers / powers.sum()
entropy = -(p * p.log2()).sum()

# The package's divergence softens both sides itself. Against five equal logits it is KL(p‖uniform) = log 5 − H.
from_uniform = dh.soft_target_divergence(torch.zeros_like(z), z, temperature=T, t_squared=False)
torch.testing.assert_close(math.log(5) - from_uniform, entropy * math.log(2))
torch.testing.assert_close(p, torch.softmax(z / T, dim=-1))
print("the lines above give PyTorch's distribution, and the entropy that follows from the package's KL")

# %% [markdown]
# Drag the temperature, then the message. **Predict first:** towards what does the 83% of the first queue (the
# likeliest) fall as T grows? If the first queue is five times as probable as the second at T = 1, how many times as
# probable is it at T = 4?

# %%
controls = {
    "message": ipywidgets.IntSlider(row, 0, len(desk.validation) - 1, description="message"),
    "temperature": ipywidgets.FloatLogSlider(4.0, base=2, min=-2, max=5, step=1, description="T"),
}


def one_message(message, temperature):
    return render_temperature(
        message,
        temperature,
        texts=desk.validation.texts,
        names=desk.label_names,
        logits=logits["teacher", "validation"],
    )


slider = live(one_message, **controls)
slider

# %% [markdown]
# The next cell drags for you.

# %%
first, second = z.topk(2).values.tolist()
for temperature in (0.5, 1.0, 4.0, 16.0):
    controls["temperature"].value = temperature
    p = torch.softmax(z / temperature, dim=-1)
    ratio = math.exp((first - second) / temperature)
    bits = torch.special.entr(p).sum().item() / math.log(2)
    shown = slider.children[-1].value
    assert f"<b>{ratio:.2f}</b>" in shown
    assert f"<b>{bits:.2f}</b> of at most 2.32 bits" in shown
    assert f"<b>{desk.label_names[1]}</b>, at every T" in shown
    print(f"T = {temperature:4}: first queue {p.max():.2f}, {ratio:5.2f} times the second, {bits:.2f} bits")

# %% [markdown]
# - A higher T moves probability from likely queues to unlikely ones. As T grows, each queue tends to a fifth.
# - **The order never changes.** Dividing by a positive number keeps the largest logit the largest, so accuracy stays
#   the same.
# - The ratio of two probabilities is $p_i/p_j = e^{(z_i - z_j)/T}$, because the sum in the denominator cancels. Five
#   times at T = 1 becomes $\sqrt[4]{5} \approx 1.5$ times at T = 4.
#
# ## What T does not do: add information
#
# It is often said that a distribution at a high T *carries more information* about which classes are alike. Take
# logarithms: $\log p_i(T) = z_i/T - c$, with the same $c$ for every class. If you know the distribution and its T,
# you know all differences of the logits, and so the distribution at every other T. **Predict first:** how well can
# the sharp distributions at T = 0.5 be restored from nearly uniform ones at T = 16?

# %%
all_z = logits["teacher", "validation"].double()
almost_uniform = torch.softmax(all_z / 16, dim=-1)
restored = torch.softmax(16 * almost_uniform.log() / 0.5, dim=-1)
error = (restored - torch.softmax(all_z / 0.5, dim=-1)).abs().max().item()
assert error < 1e-9
for temperature in (0.25, 1, 4, 32):
    assert ((all_z / temperature).argsort(-1) == all_z.argsort(-1)).all()
print(f"largest error of a restored probability: {error:.0e} in this run")
print(f"the order of all five queues is the same at every T, in all {len(all_z)} messages")

# %% [markdown]
# Almost exactly, in double precision: T adds no information and removes none. It decides **what the loss looks at**.
#
# ## The labels of a whole training set
#
# **Predict first:** at which T do the teacher's labels of the training messages have the highest entropy? At which T
# does it vary most between messages?

# %%
grid = 2.0 ** torch.arange(-1, 5.25, 0.25, dtype=torch.float64)
z_train = logits["teacher", "training"].double()
entropies = torch.stack([torch.special.entr((z_train / t).softmax(-1)).sum(-1) / math.log(2) for t in grid])
middle = entropies.mean(dim=1)
low, high = entropies.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64), dim=1)

fig, axes = figure("Labels of high T have more bits, and are all alike")
axes.fill_between(grid, low, high, color=COLOURS[3], alpha=0.5, label="eight messages of ten")
axes.plot(grid, middle, color=COLOURS[0], label="mean")
axes.axhline(math.log2(5), color="#444444", linestyle="--", linewidth=1, label="uniform, log₂ 5")
axes.set_xscale("log", base=2)
axes.set_xticks([0.5, 1, 2, 4, 8, 16, 32], ["0.5", "1", "2", "4", "8", "16", "32"])
axes.set_xlabel("temperature T (no unit)")
axes.set_ylabel("entropy of a label (bits)")
axes.legend(frameon=False, loc="lower right")
with_alt_text(
    fig,
    "Mean entropy of the teacher's labels on training messages against T, with the range of eight messages of ten: near"
    " 0 at T = 0.5, rising steeply between 1 and 4, and close to the uniform 2.32 bits with hardly any spread from T = 4 on.",
)

# %%
mean_bits = dict(zip(grid.tolist(), middle.tolist(), strict=True))
spread = dict(zip(grid.tolist(), entropies.std(dim=1).tolist(), strict=True))
assert mean_bits[1.0] < 0.5
assert 1.9 < mean_bits[4.0] < 2.2
assert mean_bits[16.0] > 2.25
assert max(spread, key=spread.get) in [t for t in spread if 1 <= t <= 2]
assert spread[16.0] < 0.05
assert spread[2.0] > 0.15 > 3 * spread[4.0]
for temperature in (1.0, 2.0, 4.0, 16.0):
    print(f"T = {temperature:2.0f}: {mean_bits[temperature]:.1f} bits, standard deviation {spread[temperature]:.2f}")

# %% [markdown]
# The entropy is highest at the highest T, where all labels are nearly uniform and alike. It varies most between T = 1
# and 2. Neither tells you which T is best: what the *student* learns depends on the gradient.
#
# ## What the loss looks at
#
# Sort the five queues of each validation message from the teacher's first to its last. What share of the loss's
# gradient (absolute values) reaches each logit of the finished student? **Predict first:** what share goes to the
# teacher's two *least* likely queues at T = 1, and at T = 16?

# %%
order = logits["teacher", "validation"].argsort(-1, descending=True)
shares = []
for temperature in grid.tolist():
    z_student = logits["student", "validation"].clone().requires_grad_()
    dh.mean_divergence(z_student, logits["teacher", "validation"], temperature=temperature).backward()
    by_rank = z_student.grad.abs().gather(1, order).sum(dim=0)
    shares.append(by_rank / by_rank.sum())
shares = torch.stack(shares)

fig, axes = figure("A high T makes the loss look at all queues alike")
for rank, name in enumerate(("first", "second", "third", "fourth", "last")):
    style = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))[rank]
    axes.plot(grid, 100 * shares[:, rank], color=COLOURS[rank], linestyle=style, label=f"teacher's {name}")
axes.set_xscale("log", base=2)
axes.set_xticks([0.5, 1, 2, 4, 8, 16, 32], ["0.5", "1", "2", "4", "8", "16", "32"])
axes.set_xlabel("temperature T (no unit)")
axes.set_ylabel("share of the gradient (%)")
axes.legend(frameon=False, ncols=2)
with_alt_text(
    fig,
    "Share of the loss's gradient at each of the five queues against T: at T = 0.5 nearly half is at the teacher's first"
    " queue and next to nothing at its last; at T = 32 the five lines lie between 16 and 25%.",
)

# %%
last_two = dict(zip(grid.tolist(), shares[:, 3:].sum(dim=1).tolist(), strict=True))
assert last_two[1.0] < 0.15
assert 0.3 < last_two[16.0] < 0.4
for temperature in (1.0, 16.0):
    print(f"T = {temperature:2.0f}: {100 * last_two[temperature]:.0f}% of the gradient at the two least likely queues")

# %% [markdown]
# (Two equal shares would be 40%.) At a low T the loss says: *get the likely queues right.* At a high T it says: *get
# every logit right, even those of unlikely queues.* In the limit of a high T the loss is, up to a factor, the squared
# difference of the two models' logits, each minus its mean (Hinton et al. 2015, section 2.1).
#
# ## Which temperature for which student?
#
# Hinton et al. (section 3) report on MNIST: with 300 or more units in each of two layers, all temperatures above 8
# gave fairly similar results; with 30 units a layer, 2.5 to 4 worked significantly better than higher or lower ones.
#
# Our small version has scikit-learn's 8×8 digits, a teacher with two layers of 400 units, and students with one layer
# of 8, 16, 32 or 128 units. They learn for 60 or 240 epochs from hard labels, or from the teacher's labels alone at T
# = 1 or 20; 16 and 128 units also for 240 at T = 2, 4 and 8, and for 960 at 1 and 20. Each of ten seeds has its own
# split and teacher; 200 validation images choose learning rate (one of two) and best epoch. **Predict first:** after
# 240 epochs, which width suffers most from T = 20? Which T is best for 128 units?

# %%
table, errors = capacity.summary(), capacity.by_seed()
fig, axes = figure("After 240 epochs, T = 20 costs a narrow student most", height=4.2)
for number, width in enumerate(capacity.WIDTHS):
    values = errors[width, 240].rename(columns={"hard labels": "T = 0.5"})  # hard labels stand at the left
    values.columns = [float(label.removeprefix("T = ")) for label in values.columns]
    mean, sd = values.mean().sort_index(), values.std().sort_index()
    places = mean.index * 1.05 ** (number - 1.5)  # beside each other
    style = {"color": COLOURS[number], "marker": "osD^"[number], "capsize": 3}
    axes.errorbar(places[1:], mean.iloc[1:], sd.iloc[1:], label=f"{width} units", **style)
    axes.errorbar(places[:1], mean.iloc[:1], sd.iloc[:1], **style)
axes.set_xscale("log", base=2)
axes.set_yscale("log")
axes.set_xticks([0.5, *capacity.TEMPERATURES], ["hard\nlabels", "1", "2", "4", "8", "20"])
axes.set_yticks([10, 20, 50, 100], ["10", "20", "50", "100"])
axes.minorticks_off()
axes.set_xlabel("temperature T of the soft labels (no unit)")
axes.set_ylabel("wrong of 500 test images\n(mean ± sd, ten seeds)")
axes.legend(frameon=False, ncols=2)
with_alt_text(
    fig,
    "Test errors after 240 epochs against T for students of 8, 16, 32 and 128 units, mean and standard deviation over"
    " ten seeds, hard labels at the left. Errors rise with T, most at 8 units and hardly at 128.",
)

# %% [markdown]
# The seeds differ a lot, so compare T = 1 and T = 20 *within* each seed. **Predict first:** if the students train
# four times as long, does T = 20 still cost as much?


# %%
def cost(width, epochs):
    """How many more errors of 500 each seed makes at T = 20 than at T = 1."""
    return errors[width, epochs, "T = 20"] - errors[width, epochs, "T = 1"]


print("T = 20 instead of T = 1: more errors of 500 (mean over ten seeds ± its 95% interval)")
for width in capacity.WIDTHS:
    costs = {epochs: cost(width, epochs) for epochs in (60, 240, 960) if (width, epochs) in errors}
    shown = [f"{epochs} epochs {c.mean():+5.1f} ± {half_width(c):4.1f}" for epochs, c in costs.items()]
    print(f"{width:3d} units:  {',  '.join(shown)}")
for epochs in (60, 240, 960):
    more = cost(16, epochs) - cost(128, epochs)
    print(
        f"after {epochs} epochs it costs 16 units {more.mean():.1f} ± {half_width(more):.1f} more errors than 128 units"
    )

# %%
log = read_log(capacity.LOG)
fig, axes = figure("16 units: T = 20 needs longer, and stays behind", height=3.8)
for number, (temperature, style) in enumerate(((1, "-"), (20, "--"))):
    for epochs in (60, 240, 960):
        arm = capacity.Arm(16, temperature, epochs)
        runs = log[(log["phase"] == "result") & (log["arm"] == arm.name)]
        right = torch.tensor(runs["curve"].tolist()).floor().mean(dim=0)  # the figure is right answers and a tie-break
        steps = torch.arange(1, len(right) + 1) * epochs // len(right)
        label = arm.labels if epochs == 60 else None
        axes.plot(steps, 200 - right, style, color=COLOURS[4 * number], label=label)
axes.set_xscale("log")
axes.set_xticks([3, 10, 60, 240, 960], ["3", "10", "60", "240", "960"])
axes.minorticks_off()
axes.set_ylim(0, 40)
axes.set_xlabel("epochs (three trainings for each T, of 60, 240 and 960)")
axes.set_ylabel("wrong of 200 validation\nimages (mean, ten seeds)")
axes.legend(frameon=False)
with_alt_text(
    fig,
    "Validation errors of students of 16 units against epochs, for T = 1 and T = 20 and trainings of 60, 240 and 960"
    " epochs. The curves of T = 20 fall more slowly and end above those of T = 1; they end lower the longer the training.",
)

# %% [markdown]
# Is a narrow student *unable* to do what T = 20 asks for (capacity), or just slow to learn it (optimisation, which
# Stanton et al. hold responsible)? Look at the training images, where nothing has to generalise. The last column is
# the loss at T = 20, the divergence from the teacher times [T²](glossary.md#t²); only the students of T = 20
# minimised it. **Predict first:** do they also get fewer training images wrong?

# %%
columns = ["train errors", "train KL, T = 20"]
print("                              wrong of 1,097 training images   loss at T = 20 (nats)")
for width in (16, 128):
    for epochs in (60, 960):
        for temperature in (1, 20):
            arm = capacity.Arm(width, temperature, epochs)
            wrong, loss = table.loc[arm.name, columns]
            print(f"{arm.name:28s}  {wrong:19.0f} {loss:25.2f}")
for label in ("T = 1", "T = 20"):
    fewer = errors[16, 60, label] - errors[16, 960, label]
    print(f"16 units, {label}: 960 epochs make {fewer.mean():.1f} ± {half_width(fewer):.1f} fewer test errors than 60")

# %% [markdown]
# Now train one seed of the saved log again, live: its teacher, and two students of 16 units for 60 epochs, at T = 1
# and 20. **Predict first:** of 1,097 training images, how many will each get wrong?

# %%
seed, found = 2, {}
for temperature in ProgressWidget("students of the digits").over((1, 20)):
    arm = capacity.Arm(16, temperature, 60)
    student = capacity.train_students(arm, learning_rate=1e-2, seeds=(seed,))[seed].measure_test()
    found[arm.labels] = student["train_errors"]
    known = errors[16, 60, arm.labels]
    assert known.min() - 8 <= student["errors"] <= known.max() + 8
assert found["T = 20"] > 2 * found["T = 1"]
known = capacity.by_seed("train_errors")[16, 60].loc[seed]
print(f"wrong at T = 1 and at T = 20: {found['T = 1']:.0f} and {found['T = 20']:.0f} in this run")
print(f"in the log: {known['T = 1']:.0f} and {known['T = 20']:.0f}")

# %% [markdown]
# (At T = 20 the log's student had learning rate 0.03, this one 0.01.) The log says:
#
# - **The narrower the student, the more T = 20 costs**, on average, after 60 and after 240 epochs. After 960 epochs T
#   = 20 costs 128 units nothing that ten seeds can show, and 16 units about six errors instead of ten, a fall that
#   may be chance.
# - **At T = 20, 60 epochs are too few.** After 960, students of 16 units make fewer errors, and their loss is lower.
#   At T = 1 the gain is smaller than its interval. So a comparison after one short training may partly measure how
#   *fast* students learn at each T: optimisation, not capacity.
# - **The remaining cost looks like a trade-off.** With 16 units, the students of T = 20 reach by far the lower loss
#   at T = 20, but get several times as many training images wrong: fitting unlikely digits seems to cost right
#   answers. After 960 epochs, 128 units can do both.
# - **No T above 1 beats T = 1 beyond chance.** At 128 units (240 epochs) T = 1 is best, by test and validation means.
#   Small students suffer from a high T, as in Hinton's experiments, but T = 4 is not best here.
# - **With these teachers no T beats hard labels**, on average, at any width; with two layers, T = 4 and T = 20 do not
#   either ([01](01_dark_knowledge.ipynb)).
#
# ### And on messages?
#
# The smallest student of [notebook 05](05_response_distillation.ipynb) learns from the help desk's 2,517 training
# messages: from their true queues alone, or from its teacher's labels alone (their weight in the loss,
# [alpha](glossary.md#alpha), is 1) at T = 1, 2, 4 or 8. Each row's learning rate and best epoch were chosen on
# validation; then five seeds ran. *mean* is accuracy in per cent, *difference* the gain over true queues in points;
# *won* counts seeds with a gain; *[NLL](glossary.md#nll)* and *ECE* come below. **Predict first:** how many points
# lie between the best T and the worst?

# %%
messages = temperature_and_alpha.summary()
messages[["mean", "sd", "difference", "± 95%", "won", "NLL", "ECE %", "learning rate", "best epoch"]].round(2)

# %% [markdown]
# - **Soft labels pay, and their T hardly matters.** Depending on T, the teacher's labels bring 2.4 to 3.5 points on
#   average, and win in every seed. Yet T = 4, the best, is only 1.1 ± 1.5 points above T = 8, the worst, and no T
#   differs from another beyond chance.
# - **The probabilities do differ, but T need not be the cause.** NLL is 0.87 and 0.90 at T = 1 and
#   4, and 0.96 and 0.99 at T = 2 and 8: the second pair also chose a learning rate three times as high.
# - T = 2, T = 8 and true queues chose the highest rate tried; a higher one might help.
#
# ## The same knob, another use: calibration
#
# A classifier is **[calibrated](glossary.md#calibration)** if it is right as often as it says: on eight of ten
# messages whose first queue gets 80%. Guo et al. (2017, section 4.2) correct an overconfident classifier after
# training, with one number: *choose the T at which the labels of held-out messages are most probable.* For messages
# $n$ with labels $y_n$,
#
# $$T^* = \arg\min_{T>0}\; -\tfrac1N \sum_n \log \mathrm{softmax}(z_n/T)_{y_n}.$$
#
# What is minimised is the *negative log-likelihood*, NLL, in nats (natural logarithms). As a function of $\beta =
# 1/T$ it is convex. Its slope is zero where two means over the messages agree: the label's logit, and the logit
# expected under softmax(βz). So halve an interval until they do:

# %%
z_val, y_val = logits["teacher", "validation"].double(), torch.tensor(desk.validation.labels)
of_labels = z_val.gather(1, y_val[:, None]).mean()
lowest, highest = 0.0, 10.0  # of beta
for _ in range(60):
    beta = (lowest + highest) / 2
    expected = ((beta * z_val).softmax(-1) * z_val).sum(-1).mean()
    lowest, highest = (beta, highest) if expected < of_labels else (lowest, beta)

fitted = dh.fit_temperature(logits["teacher", "validation"], desk.validation.labels)
assert math.isclose(1 / beta, fitted, rel_tol=1e-5)
assert 1.2 < fitted < 1.4
print(f"ten lines and the package find the same temperature, about {fitted:.1f}")

# %% [markdown]
# This T is above 1: the teacher is too sure of itself. Find this T by hand: drag until the NLL is lowest. The
# **reliability diagram** bins messages by their confidence (the largest probability) and plots each bin's share of
# right answers against its mean confidence. *ECE*, the expected calibration error, is the bins' mean distance from
# the diagonal, weighted by messages. **Predict first:** on which side of the diagonal are the dots at T = 1, and at T
# = 8? Which of NLL, ECE and accuracy will not move?

# %%
T_slider = ipywidgets.FloatSlider(1.0, min=0.5, max=8.0, step=0.05, description="T", readout_format=".2f")


def reliability(temperature):
    return render_reliability(temperature, logits=logits["teacher", "validation"], labels=desk.validation.labels)


diagram = live(reliability, temperature=T_slider)
diagram

# %%
eces = {}
for temperature in (1.0, 8.0, 1.3):
    T_slider.value = temperature
    text = diagram.children[-1].value.split("<p>")[1]
    eces[temperature] = float(re.search(r"ECE ([\d.]+)%", text)[1])
    side = "overconfident" if "overconfident" in text else "underconfident"
    assert "accuracy 84.5%" in text
    print(f"T = {temperature}: {side} on average, ECE {eces[temperature]:.0f}%, accuracy as before")
assert eces[1.3] < eces[1.0] < eces[8.0]

# %% [markdown]
# Most dots lie below the diagonal at T = 1 (overconfident), and above it at T = 8 (underconfident). At T = 1.3, where
# the NLL is lowest, the ECE is hardly lower than at T = 1: dots lie on both sides, and T moves them all one way. On
# average the model is now underconfident: the NLL judges each label, not mean confidence.
#
# ### Fitted on what, tested on what?
#
# T is fitted on the 400 validation messages and judged on the test messages, which are *later* and harder. **Predict
# first:** will the 630 training messages ask for a higher or a lower T than validation? Will the test messages?

# %%
fits = {
    name: dh.fit_temperature(logits["teacher", name], parts[name].labels) for name in ("training", "validation", "test")
}
generator = torch.Generator().manual_seed(0)
again = []
for _ in range(100):  # validation messages drawn with replacement: how far does T move by chance?
    rows = torch.randint(len(y_val), (len(y_val),), generator=generator)
    again.append(dh.fit_temperature(z_val[rows], y_val[rows]))
by_chance = torch.tensor(again).std().item()

assert fits["training"] < 1 < fits["validation"]
assert 0.04 < by_chance < 0.13
assert abs(fits["test"] - fits["validation"]) < 2 * by_chance
print("T that each part asks for:", {name: round(t, 1) for name, t in fits.items()})
print(f"by chance, the T of {len(y_val)} validation messages has a standard deviation of {by_chance:.1f}")

# %% [markdown]
# **Training messages point the wrong way**: the teacher is right on nearly all of them, so they ask it to be *surer*.
# The fit needs errors like those on new messages.
#
# We expected the earlier, easier validation messages to give too low a T for the test. But the two differ by no more
# than chance.
#
# ### Before and after


# %%
def figures(who, part, temperature):
    return dh.classification_metrics(logits[who, part].double() / temperature, parts[part].labels)


before, after, best = (figures("teacher", "test", t) for t in (1.0, fits["validation"], fits["test"]))
kept = (before["nll"] - after["nll"]) / (before["nll"] - best["nll"])
assert after["accuracy"] == before["accuracy"]
assert kept > 0.9
assert 0.085 < before["ece"] < 0.12
assert 0.03 < after["ece"] < 0.06
for name, metrics in (("T = 1", before), ("T from validation", after)):
    print(f"test, {name:18s} NLL {metrics['nll']:.2f} nats, ECE {100 * metrics['ece']:.0f}%")
print(f"T from validation brings {100 * kept:.0f}% of what the best T for the test would bring in NLL")

# %%
fig, axes = figure("One number brings confidence closer to accuracy", width=5.4, height=4.2)
axes.plot([0, 1], [0, 1], color="#444444", linestyle="--", linewidth=1, label="calibrated")
for number, (name, t) in enumerate((("T = 1", 1.0), ("T from validation", fits["validation"]))):
    p_test = (logits["teacher", "test"].double() / t).softmax(-1)
    bins = dh.reliability_bins(p_test, desk.test.labels)
    bins = bins[bins["count"] >= 20]
    axes.plot(bins["confidence"], bins["accuracy"], marker="os"[number], color=COLOURS[number], label=name)
axes.set_xlim(0.2, 1)
axes.set_ylim(0.2, 1.03)
axes.set_xlabel("mean confidence of the bin (share)")
axes.set_ylabel("share that is right, test messages")
axes.legend(frameon=False, loc="upper left")
with_alt_text(
    fig,
    "Reliability diagram on the test messages, bins of 20 messages or more. At T = 1 the line runs below the diagonal;"
    " with the temperature from validation it lies closer to it, but still below between 0.4 and 0.85, and"
    " above it at the right end.",
)

# %% [markdown]
# ### How small an ECE is small?
#
# Even a perfectly calibrated model has an ECE above 0, because each bin's accuracy varies by chance. To see how far
# above, draw labels from the model's own probabilities: for these labels it *is* calibrated. **Predict first:** can
# chance explain the ECE that remains on the test messages?


# %%
def ece_by_chance(part, temperature, draws=50):
    p_part = (logits["teacher", part].double() / temperature).softmax(-1)
    drawn = [torch.multinomial(p_part, 1, generator=generator).squeeze(1).tolist() for _ in range(draws)]
    eces = [expected_calibration_error(p_part.numpy(), labels) for labels in drawn]
    return torch.tensor(eces).quantile(0.95).item()


left = {part: figures("teacher", part, fits["validation"])["ece"] for part in ("validation", "test")}
chance = {part: ece_by_chance(part, fits["validation"]) for part in left}
assert left["validation"] > chance["validation"]
assert left["test"] > chance["test"]
assert best["ece"] > chance["test"]
for part, ece in left.items():
    print(f"{part}: ECE {100 * ece:.1f}%; of 50 calibrated draws, 95% stay below {100 * chance[part]:.0f}% in this run")

# %% [markdown]
# No: 4.8% is clearly more than the 3% that chance explains. The last figure shows why: where the teacher says 0.4 to
# 0.85, it is still too sure, while its surest answers are right more often than it says. No T corrects both.
#
# ### Not the temperature of distillation
#
# In distillation, the logits of *both* models are divided by T during training, and the student answers at T = 1
# afterwards. In calibration, only the finished model's logits are divided, and this division stays. **Predict
# first:** the course's student was distilled at T = 2, above the 1.3 that calibrates its teacher. Is the student
# calibrated?

# %%
student_t = dh.fit_temperature(logits["student", "validation"], desk.validation.labels)
raw, scaled = (figures("student", "test", t) for t in (1.0, student_t))
assert 1.1 < student_t < 1.3
assert 0.08 < raw["ece"] < 0.12
assert scaled["ece"] < 0.8 * raw["ece"]
assert scaled["nll"] < raw["nll"]
print(f"student, test: ECE {100 * raw['ece']:.0f}% at T = 1, {100 * scaled['ece']:.0f}% at its own T = {student_t:.1f}")

# %% [markdown]
# No: the student is overconfident too. So calibrate last, and calibrate the model whose probabilities people read:
# the student.
#
# **Does a calibrated teacher teach better?** Papers disagree. A teacher trained with [label
# smoothing](glossary.md#label-smoothing) ([notebook 01](01_dark_knowledge.ipynb)) can be better calibrated and yet
# teach *worse* students (Müller et al. 2019, sections 3 and 4). Among the teachers of Kim et al. (2025, abstract), a
# lower calibration error goes with a better student. Try the digits: students of 128 units, the teacher's labels
# alone, 240 epochs, ten seeds. Each row names the labels that the *teacher* learned from and the T of its students'
# soft labels; *difference* compares the students with those of the hard-label teacher at the same T. **Predict
# first:** smoothing makes this teacher *worse* calibrated, because it becomes too unsure. Does it also teach worse?

# %%
taught = teacher_label_smoothing.summary()
wide = [arm.name for arm in teacher_label_smoothing.ARMS.values() if (arm.width, arm.epochs) == (128, 240)]
figures_of = {"its ECE %": "teacher's ECE %", "teacher's errors": "teacher's errors of 500", "mean": "students' errors"}
figures_of |= {"difference": "difference", "± 95%": "± 95%"}
taught = taught.loc[wide, list(figures_of)].rename(columns=figures_of).round(1)
taught.rename(lambda name: name.removeprefix("teacher of ").replace(", width 128", "").replace(", 240 epochs", ""))

# %% [markdown]
# **Here smoothing makes the teacher worse calibrated and its students better**: both opposite to Müller's findings,
# and against Kim's trend, on one small data set. (Students of 16 units do not tell the teachers apart.) The smoothed
# teacher also makes fewer errors itself, which may be the reason. The lower ECE would have picked the wrong teacher.
# Choose a teacher by its students' accuracy on validation.
#
# ## Exercises
#
# Each exercise checks itself.

# %% [markdown]
# ### Exercise 02.1 · A softmax that survives (★★, 5 min)
#
# The softmax at the top of this notebook fails for logits of 10,000 at T = 0.01: `exp(1e6)` is infinite, and ∞/∞ is
# NaN. Write a softmax that survives such logits, without `torch.softmax`, `log_softmax` or `logsumexp`.
#
# <details><summary>Hint 1</summary>
#
# Subtracting the same constant from every logit of a message changes none of its probabilities.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which constant makes the largest exponent 0? It differs from message to message: `amax(dim=-1, keepdim=True)`.
#
# </details>
#
# <!-- solution 02.1 -->


# %%
def stable_softmax(logits, temperature):
    """Probabilities at a temperature, (messages, classes), for logits of any size."""
    ...


check("02.1", stable_softmax)

# %% [markdown]
# ### Exercise 02.2 · A file of soft labels without its temperature (★★, 8 min)
#
# The third person has the file and the teacher that made it. Find the temperature from the probabilities `p` and the
# teacher's logits of the same messages. Be suspicious: somebody may have divided the probabilities by T instead of the
# logits, joined two files, or mixed up classes. Return 0.0 if no temperature gives these probabilities to within
# 0.0001.
#
# <details><summary>Hint 1</summary>
#
# $\log p = z/T - c$, with a different $c$ for each message. Subtract each message's mean from both sides, and one
# unknown is left.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Two classes of one message are enough for a candidate. All classes of all messages must agree: recompute the labels
# from the logits, and compare them with `torch.allclose(…, atol=1e-4)`.
#
# </details>
#
# <!-- solution 02.2 -->


# %%
def temperature_of(p, logits):
    """The temperature at which `logits` give the probabilities `p`, both (messages, classes); 0.0 if none does."""
    ...


check("02.2", temperature_of)

# %% [markdown]
# ### Exercise 02.3 · Fit a temperature by hand (★★, 8 min)
#
# From a list of temperatures, return the one at which the labels are most probable.
#
# <details><summary>Hint 1</summary>
#
# Accuracy and the largest probability do not look at how probable the *label* is. The negative log-likelihood does.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.nn.functional.cross_entropy(logits / t, labels)` is the NLL at `t`. `min` takes a `key`.
#
# </details>
#
# <!-- solution 02.3 -->


# %%
def best_of_grid(logits, labels, grid):
    """The temperature of the list `grid` at which the labels are most probable.

    The logits are (messages, classes), the labels (messages,).
    """
    ...


check("02.3", best_of_grid)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("02_temperature"))

# %% [markdown]
# ## The answer
#
# - **The engineer** needs the T at which *this* student does best on validation messages, after training of full
#   length. On our digits no higher T beat T = 1 beyond chance; on messages, T from 1 to 8 made no difference that
#   five seeds can show.
# - **The person at the desk** needs the T that calibrates, fitted on held-out messages: about 1.3 for this teacher. The
#   83% shrinks:

# %%
p_desk = (z.double() / fits["validation"]).softmax(-1).max().item()
assert 0.7 < p_desk < 0.8
p_test, answers = (logits["teacher", "test"].double() / fits["validation"]).softmax(-1).max(-1)
alike = (p_test > 0.7) & (p_test < 0.8)
share_right = (answers == torch.tensor(desk.test.labels))[alike].double().mean().item()
assert share_right < 0.68
print(f"Windows queue: {100 * z.softmax(-1).max():.0f}% at T = 1, {100 * p_desk:.0f}% at the fitted T")
print(f"test messages with 70 to 80% at the fitted T: {100 * share_right:.0f}% right")

# %% [markdown]
# Of such test messages only 62% are right: 75% is nearer the truth than 83%, but still too high.
#
# - **The person with the file** can find its temperature if the teacher is at hand (exercise 02.2). The labels at every
#   other temperature then follow.
#
# ## Summary
#
# - T divides the logits. Order and accuracy stay; the ratio of two probabilities is $e^{(z_i - z_j)/T}$.
# - T adds no information. It decides how much of the gradient goes to the teacher's unlikely classes.
# - Measure what T costs your student: on the digits, in up to 240 epochs, the narrower the student, the more T = 20
#   costs.
# - A T fitted on held-out messages, never on training messages, changes no answer, but brings confidence closer to
#   accuracy: here it nearly halves the ECE on later messages, though not down to chance.
# - The T of distillation is gone after training; the T of calibration stays. Calibrate the student last.
#
# The article's claims, checked: [Errata](errata.md).
#
# **References.** Hinton, Vinyals, Dean 2015, *Distilling the Knowledge in a Neural Network*, [arXiv
# 1503.02531](https://arxiv.org/abs/1503.02531) · Guo et al. 2017, *On Calibration of Modern Neural Networks*, [arXiv
# 1706.04599](https://arxiv.org/abs/1706.04599) · Müller et al. 2019, *When Does Label Smoothing Help?*, [arXiv
# 1906.02629](https://arxiv.org/abs/1906.02629) · Kim et al. 2025, *The Role of Teacher Calibration in Knowledge
# Distillation*, [arXiv 2508.20224](https://arxiv.org/abs/2508.20224) · Stanton et al. 2021, [arXiv
# 2106.05945](https://arxiv.org/abs/2106.05945).
