# %% [markdown]
# # 08 · API distillation
#
# <!-- teaches: a teacher that you can only ask: collect, kill, resume; soft labels from log-probabilities; a weak teacher, and what brings its student back; what a strong one loses -->
#
# **Collect the answers of a teacher that you can only ask, turn them into soft labels, and see what a weak teacher
# does to a student, and what helps.**
#
# You will be able to
# - *ask* a local teacher or a provider's with the same code;
# - *kill* a collection at any instant and *resume* it;
# - *turn* log-probabilities, or several answers, into soft labels, and *say* what each way costs a student;
# - *remove* a teacher's label bias without true labels of training messages;
# - *estimate* a job's cost, and *decide* when not to do it.
#
# **Time:** about 40 minutes of reading and 35 of exercises; the cells run in under two minutes on two CPU cores.
# **You need:** [05 · Response distillation](05_response_distillation.ipynb). **Before:** [07 · Landmark
# systems](07_landmark_systems.ipynb). **Next:** [09 · Language models](09_language_models.ipynb). On
# [Colab](https://colab.research.google.com/): see notebook 00, and use the plain-pip lines of the
# [README](../README.md).

# %% [markdown]
# ## The question
#
# ![A teacher behind a wall holds five probabilities. Its likeliest answer as text shows one queue. 20 sampled answers
# show counts. The top 2 log-probabilities show two shares, and nothing of the others. A model of your own shows all
# logits.](drawings/08_api_distillation.svg)
#
# So far we could read the teacher's logits. Now suppose that somebody else's teacher sits behind an API, and was
# never trained on our five queues. **Can a student learn from its answers? How much does it lose against a student of
# our own teacher's logits? How much of this loss do log-probabilities, calibration, a filter, and true labels for one
# message in ten bring back?** Write down a guess, in points of test accuracy: a student trained on all true labels
# has 70, on our own teacher's logits 73.

# %%
import contextlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import ipywidgets
import numpy as np
from IPython.display import HTML
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.api import (
    AnthropicTeacher,
    APIDistillationDataCollector,
    Budget,
    OpenAITeacher,
    estimate_api_distillation_cost,
    load_prices,
    local_server,
    read_journal,
)

# %%
from distill_helpers.api.labels import batch_calibrated, probabilities_from_logprobs, probabilities_from_samples
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import api_doors
from distill_helpers.course.experiments.queue_teacher import (
    ANSWERS,
    examples_of,
    messages_of,
    queue_teacher,
    read_answers,
)
from distill_helpers.course.experiments.weak_teacher import ALONE, ARMS, results, student_of, summary
from distill_helpers.course.figures import COLOURS, dot_figure, figure, probability_bars, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.tasks import Recipe
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.api_distillation import render_cost, render_trust

logging.disable_progress_bar()
work = Path(tempfile.mkdtemp())  # the journals of this notebook; gone with the machine's temporary files
desk = dh.load_help_desk()

# %% [markdown]
# ## A real teacher behind a real API
#
# `local_server` starts llama.cpp's server with SmolLM2, a small language model that follows instructions. The server
# speaks **both dialects**: OpenAI's *Chat Completions* and Anthropic's *Messages*. For a provider, name its model
# instead of `server.model`, drop `base_url` and `api_key`, set `OPENAI_API_KEY` or `ANTHROPIC_API_KEY` and, for newer
# models, `temperature=None`.

# %%
stack = contextlib.ExitStack()  # closed at the end of the notebook
server = stack.enter_context(local_server(threads=1, parallel=1))
question = "Which queue does the message belong to: Graphics, Windows, PC, Mac or Unix? Answer with one word."
settings = {"system_prompt": question, "examples": examples_of(desk), "temperature": 0.0, "max_tokens": 4}
teachers = {
    "OpenAI's": OpenAITeacher(server.model, base_url=server.openai_url, api_key="local", **settings),
    "Anthropic's": AnthropicTeacher(server.model, base_url=server.anthropic_url, api_key="local", **settings),
}
live_messages = messages_of(desk, "test").subset(range(40))
print(live_messages.texts[0])
for dialect, teacher in teachers.items():
    print(f"\n{dialect} dialect asks with: {', '.join(teacher.request('…'))}")

# %% [markdown]
# A `Teacher` turns a text into a *request*, the JSON body that its provider documents, and the response into an
# answer. Besides the question, each request carries **few-shot examples**: fifteen validation messages with their
# queues, as earlier turns. *Unix* stands for X window. **Predict first:** both dialects put the same conversation to
# the same model at temperature 0. Are the answers the same?

# %%
said = {}
for dialect, teacher in ProgressWidget("both dialects").over(list(teachers.items())):
    collector = APIDistillationDataCollector(teacher)
    # One after the other: the order changes what the server has in its cache, and with it the last digits of a near tie.
    collection = collector.collect(live_messages.texts[:3], work / f"{dialect}.jsonl", max_concurrent=1, progress=False)
    said[dialect] = [example.teacher_output for example in collection.examples]
assert said["OpenAI's"] == said["Anthropic's"]
print("three messages, the same words in both dialects; each of them one of", ANSWERS)
assert set(said["OpenAI's"]) <= set(ANSWERS)

# %% [markdown]
# ## Every answer is kept, and none is asked for twice
#
# Answers cost money, so a collector must not lose them. In words: *before asking the next question, write each answer
# to an append-only file, the journal, under a key that says exactly what was asked; a rerun skips the keys that it
# finds.* In symbols, with $H$ a hash over the whole request (*sample* numbers repeated questions),
#
# $$\text{key} = H(\text{model},\ \text{parameters},\ \text{messages},\ \text{sample}), \qquad
# \text{to ask} = \{x : \text{key}(x) \notin \text{journal}\}$$
#
# In code:


# %%
import hashlib

from distill_helpers.api.journal import request_key


def key(request, sample=0):
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))  # the order of entries must not matter
    return hashlib.sha256(f"{canonical}#{sample}".encode()).hexdigest()


def still_to_ask(teacher, texts, journal):
    known = {json.loads(line)["key"] for line in journal.read_text().splitlines()}
    return [text for text in texts if key(teacher.request(text)) not in known]


request = teachers["OpenAI's"].request(live_messages.texts[0])
assert key(request) == request_key(request)
assert still_to_ask(teachers["OpenAI's"], live_messages.texts[:5], work / "OpenAI's.jsonl") == live_messages.texts[3:5]
print("the package's key is this one; of five messages, two are still to be asked")

# %% [markdown]
# ### Kill it
#
# Now a separate process asks about forty messages. Its teacher, `queue_teacher`, is the OpenAI teacher above, but
# also asks for the twenty likeliest tokens at each position, for the next section. Once the journal has some answers,
# we kill the process with SIGKILL. **Predict first:** how many answers are lost, and how many questions does the
# rerun ask again?

# %%
import subprocess

journal = work / "answers.jsonl"
job = f"""
import distill_helpers as dh
from distill_helpers.api import APIDistillationDataCollector, LocalServer
from distill_helpers.course.experiments.queue_teacher import messages_of, queue_teacher
from pathlib import Path
desk = dh.load_help_desk()
server = LocalServer({server.openai_url!r}, "", {server.model!r}, Path(), 0)
collector = APIDistillationDataCollector(queue_teacher(server, desk))
collector.collect(messages_of(desk, "test").texts[:40], {str(journal)!r}, max_concurrent=1, progress=False)
"""
process = subprocess.Popen([sys.executable, "-c", job])
deadline = time.monotonic() + 120
for _ in ProgressWidget("until twelve answers are there").over(range(1)):
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 12:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
process.kill()  # SIGKILL
process.wait()
kept = list(read_journal(journal))
assert all(record.answer is not None for record in kept)
print(f"killed with {len(kept)} answers in this run; each of them can be read")

# %%
teacher = queue_teacher(server, desk)
asked = []


class Watched:
    """The teacher, with a list of what it was asked about."""

    model, failures = teacher.model, teacher.failures
    request, read, close = teacher.request, teacher.read, teacher.close

    async def ask(self, request):
        asked.append(request["messages"][-1]["content"])
        return await teacher.ask(request)


for _ in ProgressWidget("resume").over(range(1)):
    collection = APIDistillationDataCollector(Watched()).collect(
        live_messages.texts, journal, max_concurrent=1, progress=False, budget=Budget(tokens=2_000_000)
    )
records = list(read_journal(journal))
again = {record.input_text for record in kept} & set(asked)
print(f"{len(records)} of 40 messages have an answer; asked again although answered: {len(again)}")
assert len({record.key for record in records}) == len(records) == 40
assert len(asked) == 40 - len(kept)

# %% [markdown]
# No answer in the journal is lost or asked for again. Only calls under way at the kill can be: at most
# `max_concurrent`, here one.
#
# Transient errors are retried. A final failure is recorded with its cause. Refusals and truncated answers are kept
# and marked; where the student learns the text itself (a *free-text job*), neither is a training example. A
# **budget** in dollars or tokens cannot be exceeded, except by the calls that a kill cuts off: the most that a call
# may cost is set aside before the call. No log message contains your API key or a customer's text.
#
# ## Soft labels from an API
#
# OpenAI's API and most servers that speak its dialect return **the log-probabilities of the likeliest tokens** at
# each position (`top_logprobs`, at most 20; Anthropic's API and some models have none). These probabilities belong to
# tokens, not to labels. So: *for each label, add up the probabilities of the tokens that its word begins with; divide
# by the total of all labels; and report the probability that fell on no label.* With $t$ the tokens listed at the
# first position,
#
# $$m_y = \sum_{t\,\text{begins}\,y} p(t), \qquad p(y) = \frac{m_y}{\sum_{y'} m_{y'}}, \qquad
# \text{off-label mass} = 1 - \sum_{y} m_y$$


# %%
def from_first_token(tokens):
    """tokens: (text, log-probability) at the first position."""
    mass = dict.fromkeys(ANSWERS, 0.0)
    for text, logprob in tokens:
        start = text.strip()
        begun = [word for word in ANSWERS if start and word.lower().startswith(start.lower())]
        if len(begun) == 1:  # "P" begins PC; the empty text, the end of the answer, begins all
            mass[begun[0]] += math.exp(logprob)
    total = sum(mass.values())
    return [m / total for m in mass.values()], 1 - total


soft = probabilities_from_logprobs(records, desk.label_names, answers=ANSWERS)
gaps = []
for record in records:
    tokens = [(bytes(t.bytes).decode(errors="replace"), t.logprob) for t in record.answer.top_logprobs[0]]
    by_hand, off = from_first_token(tokens)
    row = soft.inputs.index(record.input_text)
    gaps.append(np.abs(np.array(by_hand) - soft.probabilities[row]).max())
assert max(gaps) < 0.1, max(gaps)
assert np.mean(gaps) < 0.03, np.mean(gaps)
print("ten lines and package agree to a few hundredths")

# %% [markdown]
# The two differ a little: in the package, a single letter such as *P* decides nothing before the next token, and a
# label that no listed token begins gets a little probability, not zero.

# %%
chosen = ipywidgets.IntSlider(0, 0, 39, description="message")
names = [*ANSWERS]


def render_answer(message):
    row = soft.inputs.index(live_messages.texts[message])
    truth = ANSWERS[live_messages.labels[message]]
    bars = probability_bars(names, [soft.probabilities[row]], ["SmolLM2"], truth)
    return f"<p>{live_messages.texts[message]}</p>{bars}<p>Off-label mass: {soft.off_label_mass[row]:.0%}</p>"


shown = live(render_answer, message=chosen)
shown

# %%
chosen.value = 7
assert live_messages.texts[7] in shown.children[-1].value
off_label = soft.off_label_mass.mean()
assert 0.1 < off_label < 0.4, off_label
print(f"mean off-label mass: about {5 * round(20 * off_label)}%")

# %% [markdown]
# **Look at the off-label mass before you train.** About a quarter of this teacher's probability falls on no queue,
# and the renormalised probabilities do not show it.
#
# ### No log-probabilities? Ask several times
#
# Where the API gives none, ask several times at temperature 1, and count the answers that name a label. With $n$ such
# answers, a share $p$ has a standard error of $\sqrt{p(1-p)/n}$. At $n=20$ and $p=0.5$ that is eleven points, for
# twenty times the price: below, the two can differ by 20 points.

# %%
sampler = queue_teacher(server, desk, temperature=1.0, top_logprobs=None)
one = live_messages.texts[:1]
for _ in ProgressWidget("twenty samples").over(range(1)):
    APIDistillationDataCollector(sampler).collect(one, work / "samples.jsonl", n_samples=20, progress=False)
counted = probabilities_from_samples(read_journal(work / "samples.jsonl"), desk.label_names, answers=ANSWERS)
row = soft.inputs.index(one[0])
spread = np.sqrt(soft.probabilities[row] * (1 - soft.probabilities[row]) / 20)
assert (np.abs(counted.probabilities[0] - soft.probabilities[row]) < 5 * spread + 0.05).all()
likeliest = soft.probabilities[row].argmax()
counts, listed = counted.probabilities[0][likeliest], soft.probabilities[row][likeliest]
print(f"{names[likeliest]}: {counts:.0%} of the samples, {listed:.0%} by the log-probabilities in this run")

# %% [markdown]
# ## Are they right? The committed answers
#
# `data/results/queue-teacher.jsonl` has this teacher's answers to 2,517 training, 385 validation and a random 400 of
# the 1,952 test messages (`python -m distill_helpers.course.experiments.queue_teacher`). Do your forty answers agree
# with the file?

# %%
on_test = read_answers("test", desk)
here = np.array([soft.probabilities[soft.inputs.index(text)] for text in live_messages.texts])
difference = np.abs(here - on_test.probabilities[:40])
assert difference.mean() < 0.02, difference.mean()
assert difference.max() < 0.15, difference.max()
print(f"live and committed probabilities differ by {difference.mean():.1e} on average in this run")

# %%
answers = read_answers("train", desk)
right = {
    "the word that was written": (answers.written == answers.labels).mean(),
    "the likeliest queue": (answers.probabilities.argmax(1) == answers.labels).mean(),
}
for way, share in right.items():
    print(f"{way}: {share:.0%} right")
for queue, name in enumerate(ANSWERS):
    print(f"{name:9} written {(answers.written == queue).mean():4.0%}, true {(answers.labels == queue).mean():4.0%}")

# %% [markdown]
# This teacher is weak: guessing would be right in 20% of cases. It calls three messages in five *Unix*, and none
# *Graphics*. That is a **[label bias](glossary.md#label-bias)**, a preference that the teacher has whatever it reads.
#
# ## Take the bias off
#
# In words: *from each label's [log-probability](glossary.md#log-probability), subtract its mean over all messages, so
# that no label is ahead before the message is read.* This needs no true label, only messages in which the classes are
# about equally frequent. In symbols, for $n$ messages $x_i$:
#
# $$p'(y \mid x) \;\propto\; \frac{p(y \mid x)}{\exp\big(\tfrac{1}{n}\sum_i \log p(y \mid x_i)\big)}$$


# %%
def calibrate(p):
    logs = np.log(p)
    weights = np.exp(logs - logs.mean(axis=0))  # the mean over messages, for each label
    return weights / weights.sum(axis=1, keepdims=True)


p = calibrate(answers.probabilities)
np.testing.assert_allclose(p, batch_calibrated(answers.probabilities))
right["calibrated"] = (p.argmax(1) == answers.labels).mean()
surest = np.argsort(-p.max(axis=1))[: len(p) // 2]
right["calibrated, surest half"] = (p.argmax(1) == answers.labels)[surest].mean()
for way in ("calibrated", "calibrated, surest half"):
    print(f"{way}: {right[way]:.0%} right")
print("mean probability:", ", ".join(f"{name} {mean:.2f}" for name, mean in zip(ANSWERS, p.mean(0), strict=True)))

# %% [markdown]
# This is batch calibration (Zhou et al. 2023), except that we average log-probabilities, so only their means become
# exactly equal. It is not notebook 02's calibration by temperature. Where the classes are *not* equally frequent,
# calibration takes a frequent class for a bias, and does harm. Then use `matched_to_prior` with the classes' shares
# from a small labelled sample.
#
# **Predict first:** if only the surest tenth of the calibrated labels (those of highest probability) is kept, how
# many are right, and which queues are left?

# %%
trust = {
    "share": ipywidgets.FloatSlider(1.0, min=0.05, max=1.0, step=0.05, description="keep", readout_format=".0%"),
    "calibrated": ipywidgets.Checkbox(False, description="bias taken off"),
}


def render_surest(share, calibrated):
    return render_trust(
        share, calibrated, probabilities=answers.probabilities, labels=answers.labels, names=tuple(ANSWERS)
    )


surest_first = live(render_surest, **trust)
surest_first

# %%
heights = []
for share, calibrated in ((1.0, False), (1.0, True), (0.5, True), (0.1, True)):
    trust["share"].value, trust["calibrated"].value = share, calibrated
    heights.append(float(surest_first.children[-1].value.split("are right in ")[1].split("%")[0].split(" ")[0]))
assert heights == sorted(heights)
print("labels right (%), raw, calibrated, its surest half, its surest tenth:", *(f"{h:.0f}" for h in heights))

# %% [markdown]
# Filtering costs messages and balance: of the surest tenth's labels, seven in ten are *PC* or *Graphics*, and hardly
# any *Unix*.
#
# ## What it does to a student
#
# The student of [05](05_response_distillation.ipynb) now learns from the answers. For each kind of label, 400 true
# validation labels chose learning rate and best epoch within about 720 steps. **Predict first:** what test accuracy
# does the student reach from (a) the words as written, (b) calibrated soft labels, (c) these with true labels for a
# tenth of the messages? For comparison: a tenth of true labels *alone* gives 57.
#
# The teacher's labels are hard in *as written* and *likeliest queue*, otherwise soft, at T = 2. **Verified** messages
# are taught with their true label too. **Alpha** is the teacher's weight in notebook 04's loss: 1 without verified
# messages, 0 for the true labels alone, and otherwise 0.5 unless the name says 0.1. The loss is a mean over all
# messages. So true labels for a tenth of them have a tenth of the teacher's weight at alpha 0.5, and nine tenths at
# alpha 0.1.
#
# `python -m distill_helpers.course.experiments.weak_teacher` made the log of these students; the next cell trains one
# of (b), for a third of the steps.

# %%
runs = results()
targets, train = student_of(ARMS["calibrated"], seed=0)
for _ in ProgressWidget("one student").over(range(1)):
    recipe = Recipe(epochs=6, learning_rate=1.5e-3, batch_size=64, group_by_length=True)
    student = train(recipe, work / "student").classifier
live_accuracy = dh.evaluate(student, desk.test, max_length=48)["accuracy"]
logged = runs[(runs["arm"] == "calibrated") & (runs["seed"] == 0)]["accuracy"].item()
assert abs(live_accuracy - logged) < 0.06, (live_accuracy, logged)
print(f"calibrated: {live_accuracy:.1%} after 6 epochs in this run; in the log, with the best of 18, {logged:.1%}")

# %%
dots = runs.rename(columns={"arm": "model"}).assign(accuracy=100 * runs["accuracy"])
order = list(dots["model"].unique())
means = dots.groupby("model")["accuracy"].mean()
fig = dot_figure(
    dots,
    "accuracy",
    title="Calibration brings twelve points",
    label="accuracy on the test messages (%)",
    references={"guessing": 20.0},
)
with_alt_text(fig, "Test accuracy, five seeds each. " + ", ".join(f"{m}: {means[m]:.0f}%" for m in order))

# %%
shown = ["mean", "sd", "difference", "± 95%", "macro-F1 %", "ECE %", "teacher right %", "learning rate", "texts"]
summary()[shown].round(1)

# %% [markdown]
# *difference* is from the 251 true labels alone; *macro-F1* averages the queues' F1 scores; *teacher right %* is of
# the kept messages (*texts*; 35 written answers name no queue). In points, with 95% intervals over seeds:
#
# - **Taught the words as written, the student is as wrong as its teacher**: it is right on a third of the messages.
#   Raw probabilities add 1.8 ± 4.8, which is nothing that five seeds could tell from chance.
# - **Calibration is worth twelve points (11.6 ± 2.6).** Of them 7.1 ± 3.8 come with the likeliest queue alone, and
#   4.5 ± 2.3 with the *soft* labels.
# - **The student seems to do better than its teacher.** The calibrated teacher is right in 37% of its 400 test
#   messages (standard error 2.4), its student in 45% of all 1,952. (The teacher's 44% are of the earlier *training*
#   messages.)
# - **The filter makes the labels better, but not the student.** Of the surest half 55% are right instead of 44%, but
#   these messages are half as many, and perhaps easier.
# - **True labels for a tenth of the messages bring the calibrated student four points at alpha 0.5 and twelve at
#   0.1.**
# - **Beside these true labels, we see no gain from the teacher.** Students of the same 251 verified messages and of
#   nothing else have 57. All of the teacher's answers, added to these labels, cost 8.2 ± 1.2 at alpha 0.5, in every
#   seed. At 0.1 the difference is −0.5 ± 3.4, with its surest half −2.2 ± 5.0: five seeds cannot decide. The
#   students' probabilities do get better: an ECE of 10 to 12% in all three rows instead of 24%.
# - A student of the logits of a teacher that was trained for the job has 73.
#

# %%
of = means.to_dict()
assert of["as written"] < of["log-probabilities"] < of["calibrated, likeliest queue"] < of["calibrated"]
assert of["calibrated"] < of["calibrated, 10% verified"] < of[ALONE]
teacher_right = (batch_calibrated(on_test.probabilities).argmax(1) == on_test.labels).mean()
print(f"the calibrated teacher on 400 test messages: {teacher_right:.0%}; its student on all: {of['calibrated']:.0f}%")

# %% [markdown]
# ## What does a strong teacher lose behind an API?
#
# To see what the API alone costs, take a good teacher whose logits we have: one trained on Banking77, bank customers'
# questions with 77 intents, right on 92.6% of its test messages. `python -m
# distill_helpers.course.experiments.api_doors` turns its logits into what an API would let out: log-probabilities,
# answers drawn at temperature 1, or the likeliest intent. We call these *doors*; this page's functions make soft
# labels of them. All students read the same messages for 1,551 steps, each door's learning rate tuned. *answers* and
# *tokens*, with prompt, are per message; *difference* is from all logits. **Predict first:** which doors cost the
# student more than a point?

# %%
doors = api_doors.summary()
doors[["answers", "tokens", "mean", "sd", "difference", "± 95%", "NLL", "ECE %", "learning rate"]].round(2)

# %%
lines = read_log(api_doors.LOG)
fig, axes = figure("One drawn answer teaches least; all end within a point", height=3.6)
for number, door in enumerate(api_doors.ARMS):
    curve = np.array(lines[(lines["phase"] == "result") & (lines["arm"] == door)]["curve"].tolist()).mean(axis=0)
    axes.plot(
        range(1, len(curve) + 1), 100 * curve, ("-", "--", ":")[number % 3], color=COLOURS[number % 5], label=door
    )
axes.set_ylim(60, 90)
axes.set_xlabel("epoch")
axes.set_ylabel("validation accuracy (%)")
axes.legend(frameon=False, fontsize=8)
with_alt_text(
    fig,
    "Validation accuracy over eleven epochs for seven kinds of labels, means of five seeds. All curves rise and"
    " end flat between 85 and 87%; that of one drawn answer is the lowest in the last five epochs.",
)

# %% [markdown]
# - **Only drawing one or five answers costs more than a point on average**: one answer at temperature 1 costs 1.4 ±
#   1.4, and is behind in every seed; five cost 1.1 ± 1.1 for five times the tokens, twenty 0.2 ± 1.1 for twenty
#   times. If such a sure teacher's API gives only text, ask once, at temperature 0: drawn answers are noisier.
# - **Strictly, five seeds cannot tell any door from all logits**: every interval holds 0. The likeliest intent is 0.4
#   ± 1.2 below, twenty log-probabilities 0.0 ± 0.8, five of them 0.5 ± 1.1.
# - **The students' probabilities lose a little**: from all logits to the likeliest intent, the NLL rises from 0.50 to
#   0.53 nats, and to 0.58 with one drawn answer.
# - **The limits:** one teacher, asked about its own training messages; only $T=1$; no more texts or steps.
#
# ## What it costs
#
# In words: *tokens read times the price of reading, plus tokens written times the price of writing; the system prompt
# is read with every message.* **Batch APIs** charge half, if the answers may wait a day. A prompt in the provider's
# **cache** is cheaper too, but it must have at least 512 to 4,096 tokens, depending on the model. Not every model
# combines the two. `load_prices("my-prices.toml")` replaces the package's prices. **Predict first:** 10,000 messages
# of 60 tokens, a prompt of 2,000 tokens, answers of five: what share of the bill is the answers?

# %%
job_controls = {
    "teacher_model": ipywidgets.Dropdown(options=[price.model for price in load_prices()], description="model"),
    "n_examples": ipywidgets.SelectionSlider(options=[100, 1_000, 10_000, 100_000, 1_000_000], value=10_000, description="messages"),
    "system_prompt_tokens": ipywidgets.IntSlider(2_000, 0, 4_000, 100, description="prompt"),
    "output_tokens": ipywidgets.IntSlider(5, 1, 1_000, description="answer"),
    "cached_share": ipywidgets.FloatSlider(0.0, min=0.0, max=1.0, step=0.1, description="cached"),
    "batch": ipywidgets.Checkbox(False, description="batch API"),
}  # fmt: skip
bill = live(render_cost, **job_controls)
bill

# %%
job_controls["batch"].value = True
cost = estimate_api_distillation_cost(10_000, 60, 5, "gpt-4o", system_prompt_tokens=2_000, batch=True)
assert f"${cost['total_cost_usd']:,.2f}" in bill.children[-1].value
print(f"the answers are {cost['output_cost_usd'] / cost['total_cost_usd']:.0%} of the bill")
for bad in ({"teacher_model": "gpt-9"}, {"n_examples": 0}):
    try:
        estimate_api_distillation_cost(**{"n_examples": 10} | bad)
    except ValueError as error:
        print("refused:", str(error).split(";")[0].split(":")[0])

# %% [markdown]
# For a classifier the prompt is the bill: shorten or cache it. `distill_helpers.api.batches` writes and submits
# batches, and merges the results into the journal.
#
# ## Before you use the answers
#
# - **Read the terms.** Providers' terms of service restrict which models you may train on their outputs, above all
#   competing models. Some open models' licences allow it (SmolLM2's is Apache-2.0), others attach conditions. Get the
#   answer in writing before the first call.
# - **Look at a hundred answers.** `distill_helpers.api.review` draws them and keeps your verdicts, which tell you how
#   often the teacher is right.
# - **Mind whose text leaves your machine**: your customers'.
#
# **When not to do it.** When you have a few hundred true labels for a narrow task: beside 251, we saw no gain in
# accuracy from this teacher. When open weights of the same quality exist: their logits are free (notebook 05). When
# the teacher is no better than what you have: measure it first.
#
# ## Exercises
#
# ### Exercise 08.1 · A soft label from samples (★★, 8 min)
#
# `answers` are several answers to one message, `words` the labels' words. An answer names a word if it *is* that
# word; ignore case, and spaces and full stops around the answer. At least one answer names a word. Return the words'
# probabilities, which sum to 1; the share of the answers that named none; and each probability's standard error, over
# the answers that named a word.
#
# <details><summary>Hint 1</summary>
#
# Compare `answer.strip(" .").lower()` with `word.lower()`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With n answers that named a word, p is a count divided by n, and its standard error √(p(1 − p)/n).
#
# </details>
#
# <!-- solution 08.1 -->


# %%
def from_samples(answers, words):
    """(probabilities of the words, share that named none, standard errors)"""
    ...


check("08.1", from_samples)

# %% [markdown]
# ### Exercise 08.2 · What a rerun asks (★★, 10 min)
#
# `wanted` is a list of keys; `lines` are a journal's lines, each a JSON object with a `"key"` and either an
# `"answer"` or a `"failure"` (the other is `null`). Skip the last line if a kill has torn it; for a torn line
# anywhere else, raise a `ValueError`. If a key has several lines, the latest counts. Return the keys that a rerun
# asks, each once, in the order of `wanted`: those without a record and, if `retry_failed`, those whose record is a
# failure.
#
# <details><summary>Hint 1</summary>
#
# Fill a dictionary from key to record line by line. Catch the `ValueError` of `json.loads` on the last line only.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `dict.fromkeys(wanted)` drops repetitions and keeps the order.
#
# </details>
#
# <!-- solution 08.2 -->


# %%
def to_ask(wanted, lines, retry_failed):
    """A list of keys."""
    ...


check("08.2", to_ask)

# %% [markdown]
# ### Exercise 08.3 · A bill (★★, 8 min)
#
# `n` messages go through a batch API, which charges half of every price in `price`. Each request reads the system
# prompt and its text, and writes an answer. A `cached_share` of the *system prompt's* tokens comes from the cache.
# `price` has "input", "cached" and "output", in dollars per **million** tokens. Return dollars.
#
# <details><summary>Hint 1</summary>
#
# Count three kinds of tokens for the whole job: cached, read at the full price, written.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Cached: `n * system_tokens * cached_share`. The texts are never cached; cached tokens are not free.
#
# </details>
#
# <!-- solution 08.3 -->


# %%
def job_cost(n, system_tokens, text_tokens, answer_tokens, cached_share, price):
    """Dollars for the whole job."""
    ...


check("08.3", job_cost)

# %% [markdown]
# ### Exercise 08.4 · Frequent classes are no bias (★★★, 10 min)
#
# Write the calibration for classes of known `shares`: find one factor for each label such that the rows of `p`,
# multiplied by these factors and normalised, have `shares` as their mean. Return these rows. No formula gives the
# factors: approach them in two hundred rounds. `p` is a tensor (messages, labels), `shares` a tensor (labels,).
#
# <details><summary>Hint 1</summary>
#
# A label whose mean is twice its share gets half. That moves the other means too: hence the rounds.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In each round: `p * (shares / p.mean(dim=0))`, then divide each row by its sum.
#
# </details>
#
# <!-- solution 08.4 -->


# %%
def matched(p, shares):
    """(messages, labels): rows sum to 1, the mean over messages is shares."""
    ...


check("08.4", matched)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("08_api_distillation"))

# %% [markdown]
# ## The answer
#
# In points of test accuracy, means of five seeds:

# %%
stack.close()  # the server ends here
for name in order:
    print(f"{name}: {means[name]:.0f}")

# %% [markdown]
# A student does learn from such answers, but even the best one without true training labels, with 45, is 28 points
# below the student of our own teacher's logits. The filter brings nothing back (44). True labels for one message in
# ten bring it to 57, which these labels reach alone. The **way of reading** counts: written answers alone give 32;
# log-probabilities and calibration bring back thirteen of the forty-one lost points. The rest points to the weak
# **teacher**. A teacher that is right and sure loses little behind an API: on Banking77, five seeds cannot tell its
# likeliest intents from all its logits.
#
# ## Summary
#
# - Write each answer to disk, under a key of everything that was asked, before the next question.
# - Log-probabilities give soft labels from one call, samples from many; report the mass that fell on no label.
# - A label bias can be removed without further true labels, if you know how frequent the classes are.
# - A weak teacher makes a weak student: 45 points where 251 true labels alone give 57. Measure the teacher first.
# - The prompt is the bill; read the terms of service before the first call.
#
# The source article's claims, checked: [Errata](errata.md).
#
# **References.** Zhou et al. 2023, *Batch Calibration*, [arXiv 2309.17249](https://arxiv.org/abs/2309.17249) · Ben
# Allal et al. 2025, *SmolLM2*, [arXiv 2502.02737](https://arxiv.org/abs/2502.02737) · [OpenAI: Chat
# Completions](https://platform.openai.com/docs/api-reference/chat) · [Anthropic:
# Messages](https://docs.anthropic.com/en/api/messages).
