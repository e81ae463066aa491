# %% [markdown]
# # 09 · Language models
#
# <!-- teaches: the loss of each token without the logits of a batch; teacher targets on disk; SmolLM2 cut to a third of its layers; when tokenizers differ -->
#
# **Distil a causal language model: a loss over every token that never holds the logits, and a teacher's targets in a
# fraction of their bytes.**
#
# You will be able to
# - *align* two language models token by token: shift, mask, mean;
# - *cut* a language model to a third of its layers, and *say* which layers matter;
# - *compute* the loss and its gradient through the output head without ever holding all logits;
# - *keep* a teacher's distributions on disk, and *say* what truncating them does to the gradient;
# - *recognise* a teacher whose tokens are not the student's.
#
# **Time:** about 35 minutes of reading and 36 of exercises; the cells run in about a minute on two CPU cores.
# **You need:** [04 · The distillation loss](04_distillation_loss.ipynb) and
# [07 · Landmark systems](07_landmark_systems.ipynb). **Before:** [08 · API distillation](08_api_distillation.ipynb).
# **Next:** [10 · The student writes](10_on_policy_distillation.ipynb). On
# [Colab](https://colab.research.google.com/): upload the repository and run the plain-pip lines of the
# [README](../README.md) with `%pip` (see notebook 00).

# %% [markdown]
# ## The question
#
# ![Three large squares, 16,384 tokens by 128,256 logits each, 8.4 GB in fp32: the student's logits, the teacher's
# logits and the gradient. Beside them, to scale, a small square: all weights of SmolLM2-135M, 0.5
# GB.](drawings/09_language_models.svg)
#
# SmolLM2 answers every token with 49,152 probabilities. Models of today choose among 128,000 tokens and more, and a batch
# of 16,000 tokens is nothing special: one copy of its logits takes 8.4 GB. Training compares the student's copy with the
# teacher's, and then needs a gradient of the same size. **How much of the teacher's answer do you have to hold while you
# train, and how much do you have to keep if the teacher is to run only once?** Keep a guess: in half precision,
# SmolLM2's probabilities of one next token take 98,304 bytes. How many of them does a student need?

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
from distill_helpers.course.experiments import language_model_arms
from distill_helpers.course.figures import COLOURS, figure, with_alt_text
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
    precompute_token_targets,
)
from distill_helpers.llm.output_heads import last_hidden_states, output_head
from distill_helpers.losses import IGNORE_INDEX
from distill_helpers.models import LanguageModel

logging.disable_progress_bar()
with capture_output():  # the loader's own bars would stay in the saved page
    teacher = language_model_arms.teacher()
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
    pruned = language_model_arms.pruned_student()
windows = language_model_arms.windows("test")
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
importance = dh.layer_importance(teacher, tales.train[:20], max_length=language_model_arms.WINDOW)
kept = sorted(sorted(range(len(importance)), key=lambda i: -importance[i])[: language_model_arms.N_LAYERS])
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
# ### Exercise 09.1 · Reverse KL in chunks (★★★, 20 min)
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
# <!-- solution 09.1 -->


# %%
def chunked_gradients(hidden, head, log_p, chunk_size):
    """(gradient of hidden, gradient of head)"""
    ...


check("09.1", chunked_gradients)

# %% [markdown]
# ### Exercise 09.2 · Find the bug: everything else is impossible (★★, 10 min)
#
# `ids` are the teacher's k likeliest tokens, (tokens, k), and `p` their probabilities. The function below renormalises
# `p` and computes a forward KL, as much code does. The cell shows what is wrong with it: a student that is **equal to
# its teacher** gets a loss above 0, and a gradient. Write `bucket_kl`, the forward KL of the k + 1 outcomes for each
# token, (tokens,), which is 0 for that student.
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
# <!-- solution 09.2 -->


# %%
def faulty_top_k_kl(student_logits, ids, p):
    p = p / p.sum(-1, keepdim=True)
    log_q = student_logits.log_softmax(-1).gather(1, ids)
    return (p * (p.log() - log_q)).sum(-1)


equal = sample_teacher[:4]  # of a student that has its teacher's logits
top = equal.softmax(-1).topk(16)
print(
    "loss of a perfect student:", [round(loss, 1) for loss in faulty_top_k_kl(equal, top.indices, top.values).tolist()]
)


def bucket_kl(student_logits, ids, p):
    """(tokens,)"""
    ...


check("09.2", bucket_kl)

# %% [markdown]
# ### Exercise 09.3 · Will it fit? (★, 6 min)
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
# <!-- solution 09.3 -->


# %%
def target_bytes(batch, length, vocabulary, width, k):
    """{"logits": …, "dense": …, "top_k": …, "hidden": …}"""
    ...


check("09.3", target_bytes)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("09_language_models"))

# %% [markdown]
# ## The answer

# %%
for name, (size, *_) in errors.items():
    print(f"{name}: {size:,.0f} bytes a token")
exact, draws = errors["the head's input"], errors["16 drawn"]
assert exact[2] == 0
assert bucket[3] > draws[3]
print("in the mean of 25 targets, the gradient of 16 draws is nearer than that of the 16 likeliest tokens and a bucket")

# %% [markdown]
# **While you train, you hold a few rows; and of 98,304 bytes you keep 1,152, or about a hundred.** A row of logits
# becomes its gradient at once, so that no batch of logits ever exists. For the disk, what the teacher's head sees is as
# good as all logits, if you have the head. If you have not, 16 drawn tokens take 68 bytes and are right on average, for
# forward KL. The 16 likeliest tokens with a bucket take 100 bytes and serve every divergence, but what they leave out is
# a bias, and no number of tokens averages it away.
#
# What to learn with such a loss, from whose text, and how far it brings the ten layers back, is
# [notebook 10](10_on_policy_distillation.ipynb).
#
# ## Summary
#
# - A language model's loss is a mean over the tokens that count: shift once, mask the prompt, divide by tokens.
# - Logits need never be whole: a chunk of rows becomes its gradient at once. Four products with the heads, not six.
# - Targets on disk: the head's input is exact, top-k needs its bucket, draws are right on average.
# - A model without two thirds of its layers is broken: its perplexity on tales is above 10,000, its teacher's about 30.
# - Equal vocabulary sizes prove nothing: two models can be compared token by token only if their tokenizers are equal.
#
# What the article that this course started from says of this subject, and what is true: [Errata](errata.md).
#
# **References.** Kim and Rush 2016, [arXiv 1606.07947](https://arxiv.org/abs/1606.07947) ·
# Anshumann et al. 2025, [arXiv 2503.16870](https://arxiv.org/abs/2503.16870) ·
# Boizard et al. 2024, *ULD*, [arXiv 2402.12030](https://arxiv.org/abs/2402.12030) ·
# Ko et al. 2024, *DistiLLM*, [arXiv 2402.03898](https://arxiv.org/abs/2402.03898) ·
# Men et al. 2024, *ShortGPT*, [arXiv 2403.03853](https://arxiv.org/abs/2403.03853) ·
# Sreenivas et al. 2024, *Minitron*, [arXiv 2408.11796](https://arxiv.org/abs/2408.11796) ·
# Busbridge et al. 2025, [arXiv 2502.08606](https://arxiv.org/abs/2502.08606) ·
# DeepSeek-AI 2025, *R1*, [arXiv 2501.12948](https://arxiv.org/abs/2501.12948).
