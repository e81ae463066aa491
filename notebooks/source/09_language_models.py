# %% [markdown]
# # 09 · Language models
#
# <!-- teaches: the loss of each token without the logits of a batch; teacher targets on disk; SmolLM2 cut to a third and healed, by distributions, by text, on-policy -->
#
# **Distil a causal language model: a loss over every token that never holds the logits, a teacher's targets in a
# fraction of their bytes, and a model that was cut to a third of its layers and has to learn to speak again.**
#
# You will be able to
# - *align* two language models token by token: shift, mask, mean;
# - *compute* the loss and its gradient through the output head without ever holding all logits;
# - *keep* a teacher's distributions on disk, and *say* what truncating them does to the gradient;
# - *prune* a language model and *heal* it, by a teacher's distributions or by text alone;
# - *choose* between forward and reverse KL, and between somebody else's text and the student's own.
#
# **Time:** about 45 minutes of reading and 50 of exercises; the cells run in about two minutes on two CPU cores.
# **You need:** [04 · The distillation loss](04_distillation_loss.ipynb) and
# [07 · Landmark systems](07_landmark_systems.ipynb). **Before:** [08 · API distillation](08_api_distillation.ipynb). On
# [Colab](https://colab.research.google.com/): upload the repository and run the plain-pip lines of the
# [README](../README.md) with `%pip` (see notebook 00).

# %% [markdown]
# ## The question
#
# SmolLM2 has 30 layers. Keep ten of them, and what is left writes noise. You have twelve hundred short passages of
# Grimm's tales to repair it with, and one pass over them. You can let it learn **the text** alone; or, at each token,
# **the teacher's whole distribution**, by forward KL, reverse KL or something between; or let it **write itself**, and
# have the teacher judge what it wrote. **Which of them gives the better model, and what does "better" mean?** Keep a guess:
# on tales that no student reads, the teacher's perplexity is about 30 (e to the mean surprise of their tokens, in nats;
# it may have met Grimm in its own training); what will the best student have?

# %%
import tempfile
import time
from pathlib import Path

import ipywidgets
import pandas as pd
import torch
from IPython.display import HTML
from IPython.utils.capture import capture_output
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import healing
from distill_helpers.course.experiments.healing import LOG, METHODS, PRUNED, TEACHER, healed, summary
from distill_helpers.course.figures import COLOURS, dot_figure, figure, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.memory import peak_tensor_bytes

# %%
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.language_models import render_next_token, render_top_k, target_errors
from distill_helpers.llm import (
    CompletionCollator,
    CompletionDataset,
    compute_token_level_distillation_loss,
    evaluate_language_model,
    on_policy_batch,
    precompute_token_targets,
)
from distill_helpers.llm.output_heads import last_hidden_states, output_head
from distill_helpers.losses import IGNORE_INDEX
from distill_helpers.models import LanguageModel

logging.disable_progress_bar()
with capture_output():  # the loader's own bars would stay in the saved page
    teacher = healing.teacher()
tokenizer = teacher.tokenizer
tales = dh.load_grimm_tales()
print(
    f"{len(tales.train)} tales to learn from, {len(tales.validation)} to choose settings by, {len(tales.test)} to be judged"
    f" by; {len(tokenizer):,} tokens to choose among"
)

# %% [markdown]
# ## A language model is a classifier, once for each token
#
# Everything until now had five classes. A language model has 49,152, and decides again at every position: *given the
# tokens so far, which is next?* What it knows beside the right answer is dark knowledge, as before. Below is a passage of a
# test tale; move the slider along it.

# %%
with capture_output():
    pruned = healing.pruned_student()
windows = healing.windows("test")
passage = windows.token_ids[4]
with torch.no_grad():
    logits = {
        "teacher": teacher.model(torch.tensor([passage])).logits[0],
        "ten layers, not healed": pruned.model(torch.tensor([passage])).logits[0],
    }
slider = {"position": ipywidgets.IntSlider(24, 1, len(passage) - 1, description="position")}


def next_token(position):
    return render_next_token(position, token_ids=passage, logits=logits, text_of=tokenizer.decode)


explorer = live(next_token, **slider)
explorer

# %%
entropies = {name: torch.special.entr(values.softmax(-1)).sum(-1) for name, values in logits.items()}
sure = entropies["teacher"]
for position in (1 + int(sure[8:-1].argmin()) + 8, 1 + int(sure[8:-1].argmax()) + 8):
    slider["position"].value = position
    print(f"position {position}: the teacher's entropy is {sure[position - 1]:.1f} nats")
assert "all others" in explorer.children[-1].value
print("mean over the passage:", ", ".join(f"{name} {values.mean():.1f} nats" for name, values in entropies.items()))
HTML(explorer.children[-1].value)

# %% [markdown]
# At some positions the teacher is nearly certain, at others it spreads its probability over hundreds of tokens, most of it
# behind "all others". Language models' distributions are soft as they are, and we take **T = 1**, as Busbridge et al. do
# (arXiv 2502.08606). The ten layers beside it spread theirs over tokens that have nothing to do with the passage.
#
# ### The loss, token by token
#
# In words: *the logits at position t are about token t + 1; compare the two distributions there, at the tokens of the
# completion and nowhere else, and divide by how many those are.* A token that is not to be learnt has the label −100. In
# symbols, with $M$ the positions whose **next** token counts, and $p_t$ and $q_t$ the teacher's and the student's softmax at T there,
#
# $$L = \frac{T^2}{|M|} \sum_{t \in M} \mathrm{KL}\big(p_t \,\|\, q_t\big), \qquad
# M = \{t : \text{label}_{t+1} \ne -100\}$$
#
# In code:


# %%
def token_level_kl(student_logits, teacher_logits, labels, temperature=1.0):
    student_logits, teacher_logits = student_logits[:, :-1], teacher_logits[:, :-1]  # the last one predicts nothing
    counted = labels[:, 1:] != IGNORE_INDEX  # nothing predicts the first one
    log_q = (student_logits[counted] / temperature).log_softmax(-1)
    log_p = (teacher_logits[counted] / temperature).log_softmax(-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()


pairs = CompletionDataset.from_pairs(
    ["Once upon a time there was", "The king said to the miller:"],
    [" a poor woodcutter who had seven children.", " your daughter shall spin this straw into gold."],
    tokenizer,
)
batch = CompletionCollator(tokenizer)([pairs[0], pairs[1]])
inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
with torch.no_grad():
    of_teacher, of_pruned = teacher.model(**inputs).logits, pruned.model(**inputs).logits
ours = token_level_kl(of_pruned, of_teacher, batch["labels"])
package = compute_token_level_distillation_loss(of_pruned, of_teacher, batch["labels"])["total_loss"]
torch.testing.assert_close(ours, package, rtol=1e-4, atol=1e-5)
print(f"{sum(pairs.n_tokens)} of {batch['labels'].numel()} positions count; the package agrees")

# %% [markdown]
# Three mistakes are easy to make here: no shift (the mask is one place late: the completion's first token is lost, and a
# position behind its end is learnt), a mask that holds prompt or padding, and a *mean of means* when gradients are
# accumulated over several batches, which gives the tokens of short batches more weight. The trainer
# divides by the tokens of the whole accumulated step.
#
# ## Cut it, and watch it break
#
# Which ten layers? Those that change most what passes through them (notebook 07's prune-and-heal, as in ShortGPT's
# *Block Influence*; Minitron heals such models at scale): one minus the cosine between a layer's input and its output. **Predict first:** which layers of a
# language model could go, the first, the middle or the last ones?

# %%
importance = dh.layer_importance(teacher, tales.train[:20], max_length=healing.WINDOW)
kept = sorted(sorted(range(len(importance)), key=lambda i: -importance[i])[: healing.N_LAYERS])
fig, axes = figure("The first two layers and the last change most", height=2.6)
axes.bar(range(len(importance)), importance, color=[COLOURS[0 if i in kept else -1] for i in range(len(importance))])
axes.set(yscale="log", xlabel="layer", ylabel="1 − cosine of input and output")
with_alt_text(fig, f"Influence of each of the 30 layers on a logarithmic scale; the ten largest are layers {kept}.")

# %%
few = CompletionDataset(windows.token_ids[:12], windows.prompt_lengths[:12], tokenizer)
broken = evaluate_language_model(pruned, few, teacher)
parameters = {
    name: sum(p.numel() for p in model.model.parameters()) for name, model in (("30", teacher), ("10", pruned))
}
print(f"30 layers: {parameters['30'] / 1e6:.0f} million parameters; 10 layers: {parameters['10'] / 1e6:.0f} million")
assert broken["teacher_perplexity"] < 60
assert broken["perplexity"] > 10_000
print(f"layers that stay: {kept}")
print(f"perplexity on twelve passages: the teacher {broken['teacher_perplexity']:.0f}, its ten layers above 10,000")

# %% [markdown]
# The first two layers and the last stand out; between them the influences differ little (another choice among those we have
# not tried). A third of the layers is not a third of the model: the embeddings, 28 million, stay. (A model that guessed
# evenly among all tokens would have a perplexity of 49,152.) The layers that are left get inputs that they have never seen.
#
# ## Why the logits do not fit
#
# Before we train: a step needs the student's logits and the teacher's, their softmaxes, and a gradient of the same size.
# For a batch of 8 × 2,048 tokens and a vocabulary of 128,256, **one** such tensor in fp32 has 8.4 GB. The weights of a
# student with half a billion parameters have two.
#
# In words: *the gradient of the divergence with respect to a row of logits depends on that row alone. So make the logits
# of a few rows, turn them into their gradient at once, multiply it back through the head, and throw it away.* In symbols,
# for forward KL with $q = \mathrm{softmax}(W h)$ and a mean over $N$ tokens,
#
# $$\frac{\partial L}{\partial h_t} = \frac{1}{N} W^\top (q_t - p_t), \qquad
# \frac{\partial L}{\partial W} = \frac{1}{N} \sum_t (q_t - p_t)\, h_t^\top$$
#
# In code:


# %%
def fused_forward_kl(hidden, head, teacher_hidden, teacher_head, chunk=64):
    loss, of_hidden, of_head = 0.0, torch.empty_like(hidden), torch.zeros_like(head)
    for rows in torch.arange(len(hidden)).split(chunk):
        log_q = (hidden[rows] @ head.T).log_softmax(-1)  # (chunk, vocabulary), and never more
        log_p = (teacher_hidden[rows] @ teacher_head.T).log_softmax(-1)
        loss += (log_p.exp() * (log_p - log_q)).sum() / len(hidden)
        gradient = (log_q.exp() - log_p.exp()) / len(hidden)
        of_hidden[rows] = gradient @ head
        of_head += gradient.T @ hidden[rows]
    return loss, of_hidden, of_head


batch = CompletionCollator(tokenizer)([few.sequence(row) for row in range(8)])  # all positions: it is about size here
inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
with torch.no_grad():
    states = [last_hidden_states(model.model, **inputs).flatten(0, 1) for model in (pruned, teacher)]
heads = [output_head(model.model).weight.detach() for model in (pruned, teacher)]
hidden, head = states[0].clone().requires_grad_(), heads[0].clone().requires_grad_()
loss = dh.fused_distillation_loss(hidden, head, states[1], heads[1])
loss.backward()
expected = loss.detach(), hidden.grad, head.grad
written_out = fused_forward_kl(states[0], heads[0], states[1], heads[1])
for own, theirs in zip(written_out, expected, strict=True):
    torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-6)
print("loss and both gradients: the package agrees")

# %% [markdown]
# Count the products with a head: two for the logits, two for the gradients. A loss that makes its logits again in the backward
# pass, to save the memory in the usual way, has six. The package's version has closed forms for forward and reverse KL, for
# Jensen–Shannon, and for *skew* KL, which compares one model with a mixture of both (DistiLLM, Ko et al., arXiv 2402.03898).
# It also handles temperature, biases, logits that a tanh keeps below a *cap* (Gemma 2), a vocabulary that is *padded* with
# rows for no token, frozen heads (whose gradient it skips) and half precision. **Predict first:** in fp32 the head of 49,152
# classes has 113 MB, and so has its gradient; logits of 256 tokens have 50 MB, of 512 tokens 101. How many MB does the dense
# loss hold at its worst moment, and how many the fused one with 64 rows at a time, for 256 tokens and for 512?


# %%
def dense(n):
    hidden, head = states[0][:n].clone().requires_grad_(), heads[0].clone().requires_grad_()
    dh.mean_divergence(hidden @ head.T, states[1][:n] @ heads[1].T).backward()


def fused(n):
    hidden, head = states[0][:n].clone().requires_grad_(), heads[0].clone().requires_grad_()
    dh.fused_distillation_loss(hidden, head, states[1][:n], heads[1], chunk_size=64).backward()


peaks, seconds = {}, {}
for name, way in ProgressWidget("both losses").over([("dense", dense), ("fused", fused)]):
    peaks[name] = [peak_tensor_bytes(lambda way=way, n=n: way(n))[1] / 1e6 for n in (256, 512)]
    start = time.perf_counter()
    way(512)
    seconds[name] = time.perf_counter() - start
assert peaks["fused"][1] - peaks["fused"][0] < 0.05 * (peaks["dense"][1] - peaks["dense"][0])
assert seconds["fused"] < 1.3 * seconds["dense"]
print(f"of each the copy of the head and its gradient: {2 * heads[0].numel() * 4 / 1e6:.0f} MB")
pd.DataFrame({f"{name}, MB at most": values for name, values in peaks.items()}, index=["256 tokens", "512"]).round(0)

# %% [markdown]
# Beyond the head and its gradient, the fused loss holds two buffers of 64 rows, plus small temporaries, however many tokens
# there are. The dense loss holds, for 512 tokens, six tensors as large as all logits: both models' logits, both log-softmaxes,
# and what the divergence makes of these. The fused loss has the same four products, but smaller ones, which run slower; the
# assertion allows it 30% more time. `make bench` times it beside other libraries' losses.
#
# ## A teacher on disk
#
# The teacher's forward pass can be made once, like notebook 05's logits. But 49,152 half-precision logits a token are
# 98 kB, and a million tokens 98 GB. Three ways out:
#
# - **the likeliest k, and a bucket**: k + 1 outcomes. The divergence between two distributions can only get smaller when
#   outcomes are merged, and is 0 for equal ones. The usual way, to *renormalise* the k, teaches that all else is impossible;
# - **tokens drawn** from the distribution: each draw a one-hot target. Wrong each time, right on average;
# - **what the head sees**: 576 numbers, from which the teacher's head makes all logits again. Exact, but for their rounding to
#   half precision, which the table leaves out.
#
# The last column averages the gradients of 25 independent targets: noise goes away in it, as it does over the tokens of a
# step, and bias stays. An error is $\lVert g - g_0 \rVert / \lVert g_0 \rVert$ over 240 tokens, $g$ being the gradient at the
# logits and $g_0$ that with all logits. A kept token takes six bytes (id and log-probability), the bucket four; a draw four,
# and four for the teacher's entropy, with which the draws estimate the KL. **Predict first:** with k = 16, which is the nearest
# for one token, and which in that mean: renormalised, bucket or drawn?

# %%
rows = slice(0, 240)
sample_teacher, sample_student = (states[i][rows] @ heads[i].T for i in (1, 0))
k_slider = {"k": ipywidgets.SelectionSlider(options=[1, 4, 16, 64, 256, 1024], value=16, description="k")}


def top_k(k):
    return render_top_k(k, teacher_logits=sample_teacher, student_logits=sample_student, width=heads[1].shape[1])


cache_widget = live(top_k, **k_slider)
cache_widget

# %%
for k in (4, 64, 16):
    k_slider["k"].value = k
    errors = target_errors(k, sample_teacher, sample_student, heads[1].shape[1])
    assert f"{k} likeliest and a bucket" in cache_widget.children[-1].value
    bucket, renormalised, drawn = (
        errors[f"{k} {name}"] for name in ("likeliest and a bucket", "likeliest, renormalised", "drawn")
    )
    assert bucket[2] < renormalised[2]
    assert drawn[3] < 0.3 * drawn[2]
print("the bucket's gradient is nearer than the renormalised one's; only the draws' error goes away in the mean")
HTML(cache_widget.children[-1].value)

# %% [markdown]
# Drawn tokens are a bad target once and, being unbiased for forward KL (and for it alone), a good one in the mean over many,
# which is what training sees (Anshumann et al., arXiv 2503.16870). Truncation's error does not average out; the bucket leaves
# less of it. The percentages are for this broken student: for one that is nearly as good as the teacher the gradient is small, and the
# noise of draws weighs more beside it. And where you have the teacher's head, keeping its input is as good as all logits, at an 85th
# of the bytes here (width over vocabulary). In the package, resumable and memory-mapped:

# %%
cache = Path(tempfile.mkdtemp())
stores = {
    kind: precompute_token_targets(teacher, few, kind, cache_dir=cache, progress=False)
    for kind in ProgressWidget("four ways").over(["dense", "hidden", "top_k", "sampled"])
}
pd.DataFrame({"kB a token": {kind: round(store.bytes_per_token / 1000, 1) for kind, store in stores.items()}})

# %% [markdown]
# ## Whose text: on-policy
#
# A student that learns on somebody else's text has never seen its own mistakes. When it writes by itself, one odd token
# leads to a beginning that no tale had. **On-policy distillation** (GKD, arXiv 2306.13649) trains where the student ends up. In words: *the student samples a completion; the teacher gives its
# distribution at each of its tokens; no gradient goes through the sampling.* In symbols, with $x$ the prompt, $y$ the completion, $D$
# any of the divergences, $\theta$ the student's weights, and for a fraction $\lambda$ of the batches (the others keep the
# tale as $y$),
#
# $$y \sim q_\theta(\cdot \mid x), \qquad L = \frac{1}{|y|} \sum_t D\big(p(\cdot \mid x, y_{<t}) \,\|\, q_\theta(\cdot \mid
# x, y_{<t})\big)$$
#
# In code:


# %%
def sampled_completions(student, prompts, n_tokens, seed):
    torch.manual_seed(seed)
    ids = torch.tensor(prompts)
    for _ in range(n_tokens):
        with torch.no_grad():
            q = student(ids).logits[:, -1].softmax(-1)  # no top-k, no top-p: the student's own distribution
        ids = torch.cat([ids, torch.multinomial(q, 1)], dim=1)
    labels = ids.clone()
    labels[:, : len(prompts[0])] = IGNORE_INDEX  # the prompt is not learnt; what was written says where to compare
    return {"input_ids": ids, "labels": labels}


data = [few.sequence(row) for row in range(3)]
own = on_policy_batch(pruned, CompletionCollator(tokenizer)(data), max_new_tokens=8)
by_hand = sampled_completions(pruned.model, [ids[:16] for ids in few.token_ids[:3]], 8, seed=0)
for name in ("input_ids", "labels"):  # the same prompts, the same positions; other draws
    assert torch.equal(own[name][:, :16], by_hand[name][:, :16])
assert torch.equal(own["labels"] == IGNORE_INDEX, by_hand["labels"] == IGNORE_INDEX)
print("the package's batch has the same prompts, and learns at the same positions")

# %%
with torch.no_grad():
    of_pruned, of_teacher = (model.model(by_hand["input_ids"]).logits for model in (pruned, teacher))
loss = compute_token_level_distillation_loss(of_pruned, of_teacher, by_hand["labels"], divergence="reverse_kl")
print(f"reverse KL where the ten layers ended up: {loss['total_loss']:.0f} nats a token")

# %% [markdown]
# It costs a generation and a live teacher for each step; targets on disk are of no use, since nobody knows beforehand what
# the student will write. A fraction of 0 is all tale, 1 nothing but its own text; early in training its own text
# is noise. (MiniLLM trains on the student's text too, by reverse KL and policy gradients: arXiv 2306.08543.)

# %% [markdown]
# ## Heal it
#
# `LLMDistillationTrainer` is transformers' `Trainer` with this loss: a live teacher or targets from the disk, hard labels
# or soft, on-policy or not, LoRA students through PEFT (the [README](../README.md) has the ten lines that call it). All runs below have
# the same setting: windows of 64 tokens, of which the first 16 are read and the other 48 learnt; 150 steps of eight windows; a
# peak rate of 1e-3, one for all methods, chosen among three on validation tales; none is tuned by itself. Five methods:
#
# - *hard labels*: the tale's own next token, no teacher;
# - *forward KL*, *reverse KL* and *JSD* (β = ½) to the teacher's distribution at each token of the tale (notebook 04);
# - *half on-policy, reverse KL*: in half of the batches the student writes the 48 tokens itself, and learns the teacher's
#   distributions at what it wrote.
#
# Here are the first ten steps of one run, live, with the teacher reading along; the log has them and the 140 that follow.
# **Predict first:** the loss starts near 7 nats a token, and the rate climbs from 0 for the first 15 steps. Is the mean of these
# ten nearer to 7, to 4 or to 1?

# %%
bar = ProgressWidget("ten of 150 steps")
student, early_loss = healed(
    METHODS["forward KL"], seed=0, stop_after=healing.EARLY, cached=False, callbacks=[bar.callback()]
)
log = read_log(LOG)
logged = log[(log["method"] == "forward KL") & (log["seed"] == 0)]["early_loss"].item()
assert abs(early_loss / logged - 1) < 0.03, (early_loss, logged)
after = evaluate_language_model(student, few, teacher)
assert after["forward_kl"] < 0.5 * broken["forward_kl"]
print(f"the mean loss of these ten steps: {early_loss:.0f} nats, the log's within three percent;")
print("ten steps have more than halved the divergence from the teacher on tales that it has not seen")

# %% [markdown]
# Half of the damage is gone before the rate is at its peak. Our guess: what each layer knew is still there, and the first to come
# back is how to read one another. The whole of it, five seeds a method, on every third window of eight tales that no student has
# read. Three judges look at them:
#
# - *perplexity*: how surprising the student finds the tales;
# - *KL to the teacher* at each of their tokens: how far its distribution is from the teacher's, in both directions.
#   If the next tokens were drawn from the teacher, the student's perplexity would be e to the forward KL times the teacher's;
# - *the teacher's perplexity of what it writes* turns the question round: the student continues 32 openings by itself, and
#   the teacher says how surprising it finds that.
#
# **Predict first:** which method wins with which judge?

# %%
order = list(METHODS)
dots = log[log["method"].isin(order)].rename(columns={"method": "model"})
assert (dots.groupby("model").size() == 5).all()
dots = dots.sort_values("model", key=lambda column: column.map(order.index), kind="stable")
mean = dots.groupby("model")[["perplexity", "forward_kl", "written_perplexity", "agreement"]].mean()
teachers_own = log[log["method"] == TEACHER].iloc[0]
fig = dot_figure(
    dots,
    "forward_kl",
    title="Every divergence makes a nearer copy",
    label="KL to the teacher on unseen tales (nats a token)",
    references={"teacher": 0.0},
)
with_alt_text(
    fig,
    "KL to the teacher, a dot a seed. " + ", ".join(f"{name}: {mean.loc[name, 'forward_kl']:.2f}" for name in order),
)

# %%
summary().round(2)

# %%
opening = tokenizer.decode(windows.token_ids[2][: windows.prompt_lengths[2]])
print(f"the opening:\n   {' '.join(opening.split())}…\n")
for name in (TEACHER, PRUNED, *order):
    line = log[log["method"] == name].iloc[0]
    print(f"{name}:\n   …{' '.join(line['writes_2'].split())[:200]}\n")
print("(the same opening and the same random numbers for all: that is why some begin alike)")

# %% [markdown]
# Read it judge by judge, since no row wins with all:
#
# - **On the tales themselves the text alone is as good as forward KL**: 63, twice the teacher's 32. A tale's perplexity asks
#   for the probability of the one token that came next, and that is what hard labels teach.
# - **As a copy of the teacher, the student of hard labels is far off**: 1.8 nats against 1.0. Where the next token is drawn from the
#   teacher's distributions, its perplexity is 5.8 times the teacher's own, that of forward KL's student 2.7 times, less than
#   half. It also shares the likeliest next token in 33% of the places instead of 44%. The tales' perplexity hides all of this.
# - **By *reverse* KL the divergences lie close together**: JSD (1.14), reverse KL, on-policy, forward KL (1.21), with a spread of
#   0.01 between seeds, and hard labels again far behind (1.84). JSD is first or second in both directions.
# - **Sampled at T = 1, reverse KL's and JSD's students write what the teacher finds likelier**: perplexities of 117 and 116, where what
#   forward KL's and hard labels' students write has about 200, and these two cannot be told apart. This is how mode seeking and mode
#   covering (notebook 04) would show: forward KL gives some probability to all that the teacher might say, and a student too small to tell
#   it from nonsense would give some to nonsense as well. Mind the judge: it rewards whoever is sharper or repeats, says nothing of
#   variety, and forward KL's student was not tried at a lower temperature. Reverse KL pays on the tales: 92.
# - **On-policy did not pay here.** On the tales it is a little nearer to the teacher than reverse KL alone (1.31 against 1.37
#   nats), but what it writes, which it was to improve, is judged worse: 168 against 117. One guess: half of its 150 steps went to text of
#   its own, which was noise at first. GKD starts from students that can write already and trains much longer; this is one
#   untuned setting in a short run.
#
# None of them is a model to use: all have read one small book once.
#
# ## When the tokenizers differ
#
# A teacher of another family splits text into other tokens: position t of the one is no position of the other, and token
# 4,711 is another word. Code that only compares vocabulary *sizes* trains on nonsense and says nothing. Here it is refused,
# by the trainer and by what writes targets. Below SmolLM2 pretends to read the help desk's word pieces:

# %%
word_pieces = dh.load_course_model("help-desk-teacher", device="cpu").tokenizer
try:
    precompute_token_targets(LanguageModel(teacher.model, word_pieces), few, "top_k", cache_dir=cache)
except ValueError as refusal:
    print(refusal)
else:
    raise AssertionError("a teacher with another tokenizer was accepted")

# %% [markdown]
# Three things can be done. The teacher can **write**, and the student learn the text (`teacher_completions`; sequence level,
# Kim and Rush, arXiv 1606.07947; or notebook 08). One can **align**: group the tokens of both models into pieces that spell the
# same text, and compare piece by piece. TRL's GOLD and the token aligner of NeMo-RL do so; this package does not. Or one
# compares how *sure* both are, with the probabilities **sorted**: the universal logit distance (ULD, Boizard et al., arXiv
# 2402.12030). It fills the smaller vocabulary up with zeros, pairs the t-th token of the one with the t-th of the other, and
# cuts the longer to the $n$ tokens of the shorter, which is its weakness:
#
# $$\frac{1}{n} \sum_{t \le n} \sum_i \big| p_t^{(i)} - q_t^{(i)} \big|, \qquad p_t^{(1)} \ge p_t^{(2)} \ge \dots$$


# %%
from distill_helpers.llm import universal_logit_distance


def sorted_distance(student_logits, teacher_logits):
    q = student_logits.softmax(-1).sort(descending=True)[0]
    p = teacher_logits.softmax(-1).sort(descending=True)[0]
    missing = p.shape[-1] - q.shape[-1]  # the smaller vocabulary: the student's
    return (torch.nn.functional.pad(q, (0, missing)) - p).abs().sum(-1).mean()


some, fewer = sample_teacher[:32], sample_student[:32, :40_000]
mask = torch.ones(1, 32, dtype=torch.bool)
torch.testing.assert_close(
    sorted_distance(fewer, some), universal_logit_distance(fewer[None], some[None], mask, mask), rtol=1e-4, atol=1e-5
)
shuffled = some[:, torch.randperm(some.shape[1], generator=torch.Generator().manual_seed(0))]
print(f"distance between a teacher and itself with its vocabulary shuffled: {sorted_distance(shuffled, some):.3f}")

# %% [markdown]
# Zero for a shuffled vocabulary: it knows nothing of *which* token. That must come from hard labels beside it.
#
# ## Further on
#
# What this notebook does not measure, with its sources:
#
# - **LoRA and QLoRA students.** Pass a PEFT model to the trainer; the frozen head then costs no gradient. Over weights that
#   bitsandbytes keeps in four bits this is QLoRA (Dettmers et al., arXiv 2305.14314). A student in plain bf16 is no
#   economy: AdamW moves a weight by about its rate, 1e-5, and the next number that bf16 has above 0.05 is 2e-4 away.
# - **Reasoning traces.** DeepSeek-R1's small models are sequence-level distillation: fine-tuned on text, about 600,000 reasoning
#   traces with the right result and 200,000 other answers (arXiv 2501.12948). Whether a result is right is yours to check;
#   which completions were cut off, `teacher_completions` says in `finished`.
# - **Scaling laws.** Given enough compute or data, training without a teacher reaches what distillation reaches. It
#   pays where the teacher exists already or serves many students (Busbridge et al., arXiv 2502.08606).
# - **Quantisation-aware distillation.** The student is the teacher in four bits, and learns from the whole one by KL, to win back
#   what rounding costs (arXiv 2601.20088).
# - **Sampling, bandwidth, many GPUs.** When the student's writing is what takes the time, use
#   TRL's `DistillationTrainer`, which has vLLM write. Where its loss and ours mean the same they are equal to five
#   digits (`tests/llm/test_trl_equality.py`). Mind two differences: no T², and a JSD that is not divided by
#   β(1 − β).
#
# ## Exercises
#
# ### Exercise 09.1 · Find the bug: a loss of draws that teaches nothing (★★★, 15 min)
#
# A teacher *scores* what a student wrote: one log-probability for each token. The mean of $\log q(y) - \log p(y)$ over the
# student's draws $y$ is the reverse KL, so the function below has the right value. But its mean gradient over all draws is 0.
# Write `drawn_loss`, whose mean gradient is that of the reverse KL. (Its value does not matter.)
#
# <details><summary>Hint 1</summary>
#
# $\mathrm{KL}(q\,\|\,p) = \sum_y q(y) \, r(y)$ with $r = \log q - \log p$. The function differentiates $r$ alone.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $\nabla q = q \, \nabla \log q$. So a draw's gradient is $r(y) \, \nabla \log q(y)$, with $r(y)$ as a constant: `detach()`.
#
# </details>
#
# <!-- solution 09.1 -->


# %%
def faulty_drawn_loss(student_logits, teacher_log_prob, drawn):
    log_q = student_logits.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
    return (log_q - teacher_log_prob).mean()


z, log_p = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True), torch.tensor([0.2, 0.3, 0.5]).log()
by_draw = torch.stack([faulty_drawn_loss(z, log_p[[y]], torch.tensor([y])) for y in range(3)])
over_draws = (z[0].softmax(-1).detach() * by_draw).sum()  # each token as often as it is drawn
kl = dh.mean_divergence(z, log_p[None], divergence="reverse_kl")
for name, value in (("mean over draws", over_draws), ("reverse KL", kl)):
    (gradient,) = torch.autograd.grad(value, z)
    print(f"{name}: {value:.2f} nats, gradient {[round(g, 2) + 0.0 for g in gradient[0].tolist()]}")


def drawn_loss(student_logits, teacher_log_prob, drawn):
    """A scalar. student_logits: (tokens, vocabulary); teacher_log_prob: of the drawn tokens, (tokens,); drawn: ids."""
    ...


check("09.1", drawn_loss)

# %% [markdown]
# ### Exercise 09.2 · Reverse KL in chunks (★★★, 20 min)
#
# `hidden` is (tokens, width), `head` (vocabulary, width), `log_p` the teacher's log-probabilities, (tokens, vocabulary). Return
# the gradients of the mean **reverse** KL, $\mathrm{KL}(q \,\|\, p)$, with respect to `hidden` and `head`, without ever having more
# than `chunk_size` rows of logits. Autograd would keep them all, so the check switches it off: find the gradient with respect to a
# row of logits $z$, where $q = \mathrm{softmax}(z)$, on paper first.
#
# <details><summary>Hint 1</summary>
#
# $\partial q_i / \partial z_j = q_i (1[i = j] - q_j)$, and the derivative of $\sum_i q_i (\log q_i - \log p_i)$ with respect to $q_i$
# is $\log q_i - \log p_i + 1$. Multiply and sum over $i$: what becomes of the 1?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With respect to $z_j$ it is $q_j \, (\log q_j - \log p_j - \mathrm{KL})$, with the row's own KL, divided by the tokens. Each chunk
# writes its own rows of the one gradient, and adds to the whole of the other.
#
# </details>
#
# <!-- solution 09.2 -->


# %%
def chunked_gradients(hidden, head, log_p, chunk_size):
    """(gradient of hidden, gradient of head)"""
    ...


check("09.2", chunked_gradients)

# %% [markdown]
# ### Exercise 09.3 · The bucket (★★, 8 min)
#
# `ids` are the teacher's k likeliest tokens, (tokens, k), and `p` their probabilities. Return the forward KL of the k + 1
# outcomes for each token, (tokens,).
#
# <details><summary>Hint 1</summary>
#
# The student's probabilities of the same tokens: `softmax`, then `gather(1, ids)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# What is left, 1 minus the sum, is an outcome like the others, for both.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A sure teacher leaves nothing, and in fp32 its probabilities may sum to 1.0000001: keep what is left from going below a tiny
# number (`clamp`).
#
# </details>
#
# <!-- solution 09.3 -->


# %%
def bucket_kl(student_logits, ids, p):
    """(tokens,)"""
    ...


check("09.3", bucket_kl)

# %% [markdown]
# ### Exercise 09.4 · Will it fit? (★, 6 min)
#
# For a batch of sequences, return a dictionary of bytes: `"logits"` of one model in fp32; and, in half precision, targets
# that are `"dense"`, `"top_k"` (an id of four bytes and a log-probability for each of the k, and a bucket of four bytes for
# each token) and `"hidden"`.
#
# <details><summary>Hint 1</summary>
#
# There are `batch * length` tokens.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Half precision takes two bytes a number, fp32 four.
#
# </details>
#
# <!-- solution 09.4 -->


# %%
def target_bytes(batch, length, vocabulary, width, k):
    """{"logits": …, "dense": …, "top_k": …, "hidden": …}"""
    ...


check("09.4", target_bytes)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("09_language_models"))

# %% [markdown]
# ## The answer

# %%
judges = {
    "perplexity": "the tales' perplexity",
    "forward_kl": "KL to the teacher",
    "written_perplexity": "what it writes",
}
for column, judge in judges.items():
    digits = 1 if column == "forward_kl" else 0
    ranked = mean[column].sort_values()
    print(f"{judge}: teacher {teachers_own[column]:.{digits}f};", end=" ")
    print(", ".join(f"{name} {value:.{digits}f}" for name, value in ranked.items()))

# %% [markdown]
# **It depends on what "better" means, and that is to be chosen before the training.** On the tales the best student has 63 where
# the teacher has 32 and the ten layers had 40,000, and the text alone gets there as well as the teacher's distributions. A
# student that is to *stand in* for the teacher, with its probabilities, wants a divergence: with forward KL, after the same steps,
# its perplexity under the teacher's distributions is less than half of the one that hard labels give. Of one that *writes* at
# T = 1 the teacher finds reverse KL's and JSD's text likelier. Letting it write itself did not pay in 150 steps.
#
# ## Summary
#
# - A language model's loss is a mean over the tokens that count: shift once, mask the prompt, divide by tokens.
# - Logits need never be whole: a chunk of rows becomes its gradient at once. Four products with the heads, not six.
# - Targets on disk: the head's input is exact, top-k needs its bucket, draws are right on average.
# - A pruned model is broken and not lost: one pass over twelve hundred passages takes its perplexity from 40,000 to 63.
# - Any divergence gives a much nearer copy of the teacher than the text alone; perplexity on the text does not show it.
#
# **What the source article says, and what is true**
#
# | it says | true is | evidence |
# |---|---|---|
# | the mask says which tokens are padding | the prompt must not count either, and both masks must be shifted; with left padding its loss learns the first token from a pad | *The loss, token by token* |
# | hard labels are the argmax of the teacher's logits | on somebody else's text that is neither data nor a sampled sequence; hard labels are the text, or what the teacher writes | *The loss, token by token* |
# | T = 4 for language models | T = 1: the distributions are soft as they are | Busbridge et al.; *A language model is a classifier* |
# | teacher and student logits of a batch are compared at once | 8.4 GB a copy at 8 × 2,048 × 128k; a chunk of rows is enough | *Why the logits do not fit* |
# | label smoothing beside distillation | a perfect student's cross-entropy then rises instead of falling | notebook 04 |
# | the trainer supports black-box and QLoRA distillation | its code has neither, and never calls `.train()` | `LLMDistillationTrainer` here has both, under tests |
# | a student of another vocabulary | fails or, truncated, is silently wrong; compare tokenizers, not sizes | *When the tokenizers differ* |
#
# **References.** Agarwal et al. 2023, *GKD*, [arXiv 2306.13649](https://arxiv.org/abs/2306.13649) ·
# Gu et al. 2023, *MiniLLM*, [arXiv 2306.08543](https://arxiv.org/abs/2306.08543) ·
# Kim and Rush 2016, [arXiv 1606.07947](https://arxiv.org/abs/1606.07947) ·
# Anshumann et al. 2025, [arXiv 2503.16870](https://arxiv.org/abs/2503.16870) ·
# Boizard et al. 2024, *ULD*, [arXiv 2402.12030](https://arxiv.org/abs/2402.12030) ·
# Ko et al. 2024, *DistiLLM*, [arXiv 2402.03898](https://arxiv.org/abs/2402.03898) ·
# Men et al. 2024, *ShortGPT*, [arXiv 2403.03853](https://arxiv.org/abs/2403.03853) ·
# Sreenivas et al. 2024, *Minitron*, [arXiv 2408.11796](https://arxiv.org/abs/2408.11796) ·
# Busbridge et al. 2025, [arXiv 2502.08606](https://arxiv.org/abs/2502.08606) ·
# DeepSeek-AI 2025, *R1*, [arXiv 2501.12948](https://arxiv.org/abs/2501.12948).
