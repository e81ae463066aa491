# %% [markdown]
# # 09 · Language models
#
# <!-- teaches: the loss of each token without the logits of a batch; teacher targets on disk; SmolLM2 cut to a third of its layers; when tokenizers differ -->
#
# **Distil a causal language model: compute the loss of every token without ever holding all logits, and store a
# teacher's targets in a fraction of their bytes.**
#
# You will be able to
# - *align* two language models token by token: shift, mask, mean;
# - *cut* a language model to a third of its layers, and *say* which layers matter;
# - *compute* the loss and its gradient through the output head without ever holding all logits;
# - *store* a teacher's distributions on disk, and *say* what truncating them does to the gradient;
# - *recognise* a teacher whose tokens are not the student's.
#
# **Time:** about 35 minutes of reading and 36 of exercises; the cells run in about a minute on two CPU cores. **You
# need:** [04 · The distillation loss](04_distillation_loss.ipynb) and [07 · Landmark
# systems](07_landmark_systems.ipynb). **Before:** [08 · API distillation](08_api_distillation.ipynb). **Next:** [10 ·
# The student writes](10_on_policy_distillation.ipynb). On [Colab](https://colab.research.google.com/): see notebook
# 00, and use the plain-pip lines of the [README](../README.md).

# %% [markdown]
# ## The question
#
# ![Three large squares, 16,384 tokens by 128,256 logits each, 8.4 GB in fp32: the student's logits, the teacher's
# logits and the gradient. Beside them, to scale, a small square: all weights of SmolLM2-135M, 0.5
# GB.](drawings/09_language_models.svg)
#
# SmolLM2, the small language model of notebook 08, chooses each token among 49,152. Today's models choose among
# 128,000 and more, and a batch of 16,000 tokens is nothing special: one copy of its logits takes 8.4 GB. Training
# needs at least three of this size: the student's, the teacher's and a gradient. **How much of the teacher's answer
# must you hold while you train? And how much must you keep if the teacher is to run only once?** Write down a guess:
# in half precision, SmolLM2's probabilities of one next token take 98,304 bytes. How many bytes for each token does a
# student need?

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
# The help desk has five classes. A language model has 49,152 classes, its tokens, and decides again at every
# position: *given the tokens so far, which token is next?* The probabilities of the other tokens are dark knowledge,
# as before. Move the slider along this passage of one of Grimm's tales: the table lists the tokens that the teacher,
# SmolLM2, finds likeliest (␣ is a space, ✓ the tale's own token). Beside the teacher stands a model that we cut out
# of it below: ten of its thirty layers, not *healed* (trained again).

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
# At some positions the teacher is nearly certain. At others, as in this table, it spreads its probability over
# hundreds of tokens, and 71% of it falls under "all others". Language models' distributions are already soft, so we
# take **T = 1**, as Busbridge et al. do (arXiv 2502.08606). The ten layers give about 0% to every token listed.
#
# ### The loss, token by token
#
# In words: *the logits at position t predict token t + 1. Compare both models' distributions where token t + 1
# belongs to the completion, sum, and divide by the number of these positions.* A token that does not count has the
# label −100. In symbols, with $M$ the positions whose **next** token counts, and $p_t$ and $q_t$ the teacher's and
# the student's softmax there, at temperature $T$,
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
# Three mistakes are easy to make here. Without the shift, the mask is one place late: the completion's first token is
# lost, and a position after its end is learnt. Or the prompt or padding counts. Or gradients are accumulated over
# several batches as a *mean of means*, which gives the tokens of a batch with few tokens more weight.
# `LLMDistillationTrainer` divides by the step's counted tokens.
#
# ## Cut it, and watch it break
#
# Which ten layers should stay? We keep those that most change what passes through them, as in notebook 07's
# prune-and-heal. The score is ShortGPT's *Block Influence*: one minus the cosine between a layer's input and its
# output. (Minitron heals such models at scale.) **Predict first:** which layers of a language model could go: the
# first, the middle or the last ones?

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
# The first two layers and the last stand out, and so does layer 24. The other influences differ little; we have not
# tried another choice. The ten layers that stay (blue) leave almost half of the parameters, because the embeddings,
# 28 million, stay too. *[Perplexity](glossary.md#perplexity)* is $e$ to the mean cross-entropy; a model that guessed
# evenly among all tokens would have 49,152. The cut model has more than 10,000: its layers get inputs that they have
# never seen.
#
# ## Why the logits do not fit
#
# A training step needs the student's logits and the teacher's, their softmaxes, and a gradient of the same size. For
# a batch of 8 × 2,048 tokens and a vocabulary of 128,256, **one** such tensor takes 8.4 GB in fp32. All weights of a
# student with half a billion parameters take 2 GB.
#
# The logits come from the **output head**, a matrix $W$ that multiplies the last hidden state $h_t$ of each token
# (576 numbers in SmolLM2). In words: *the gradient of the divergence with respect to a row of logits depends on that
# row alone. So compute the logits of a few rows, turn them into their gradient at once, multiply this gradient back
# through the head, and throw it away.* In symbols, for forward KL at T = 1 with $q_t = \mathrm{softmax}(W h_t)$ and a
# mean over $N$ tokens,
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
# Count the products with a head: two make the logits, and two the gradients. TRL saves this memory by computing both
# models' logits again in the backward pass, which takes six products. **Predict first:** in fp32 the head of 49,152
# classes takes 113 MB, and so does its gradient; the logits of 256 tokens take 50 MB, those of 512 tokens 101. How
# many MB does the *dense* loss (all logits) hold at its worst moment, and how many the *fused* loss (64 rows at a
# time), for 256 tokens and for 512?


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
print(
    f"512 tokens: {seconds['dense']:.1f} s for all logits at once, {seconds['fused']:.1f} s for the fused loss in this run"
)
print(f"either way, a copy of the head and its gradient: {2 * heads[0].numel() * 4 / 1e6:.0f} MB")
pd.DataFrame({f"{name}, MB at most": values for name, values in peaks.items()}, index=["256 tokens", "512"]).round(0)

# %% [markdown]
# Beyond the head and its gradient, the fused loss holds two buffers of 64 rows, plus small temporaries, however many
# tokens there are. The dense loss takes 365 MB more for 256 more tokens. At its worst moment it holds 7¼ times all
# logits: both models' logits, both log-softmaxes, three tensors that the divergence makes of these, and a mask in
# bytes. (The head's copy exists then, its gradient not yet.) The fused loss makes the same four products in smaller
# pieces; the assertion allows it 30% more time. With default chunks, it beats other libraries' losses in `make
# bench`. The package's version has closed-form gradients for forward and reverse KL, Jensen–Shannon, and *skew* KL,
# which compares one model with a mixture of both (DistiLLM, Ko et al., arXiv 2402.03898). It also handles
# temperature, biases, frozen heads, half precision, logits capped by a tanh (Gemma 2) and vocabularies padded with
# rows that no token uses.
#
# ## A teacher on disk
#
# The teacher can run once, and its logits can be stored, as in notebook 05. But the 49,152 logits of one token take
# 98 kB in half precision, and those of a million tokens 98 GB. There are three ways to store less:
#
# - **the k likeliest tokens and a [bucket](glossary.md#bucket)**: the bucket is one more outcome, with the
#   probability of all other tokens together. Merging outcomes can only shrink a divergence; 0 stays 0. The usual way,
#   to *renormalise* the k probabilities, teaches that every other token is impossible;
# - **tokens drawn** from the teacher's distribution: each draw is a one-hot target, wrong each time and right on
#   average;
# - **the head's input**: 576 numbers, from which the teacher's head makes all logits again. This is exact but for
#   rounding to half precision, which the table leaves out.
#
# *Off by* in the table is $\lVert g - g_0 \rVert / \lVert g_0 \rVert$ over 240 tokens, where $g$ is the gradient at
# the student's logits and $g_0$ that with all of the teacher's logits. The last column first averages the gradients
# of 25 independent targets: noise shrinks in this mean, as it does over the tokens of a step, and bias stays. *KL
# seen* is the forward KL that each target shows the student. A kept token takes six bytes (id and log-probability),
# the bucket four, and a draw four; the teacher's entropy, with which draws estimate the KL, takes four more.
# **Predict first:** with k = 16, which gradient is nearest with one target, and which in the mean of 25:
# renormalised, bucket or drawn?

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
print("the bucket's gradient is nearer than the renormalised one's; only the draws' error shrinks in the mean")
HTML(cache_widget.children[-1].value)

# %% [markdown]
# With one target for each token, the 16 drawn tokens are the worst: 42% off. But they are unbiased for forward KL
# (and for it alone), so in the mean of 25 targets 8% are left, and training averages, too (Anshumann et al., arXiv
# 2503.16870). The error of truncation does not average out: 23% stay with renormalised probabilities, and 11% with
# the bucket. These percentages are for a broken student. Near the teacher, the gradient is small, and the noise of
# draws weighs more. If you have the teacher's head, its input is as good as all logits, at an 85th of the bytes
# (width over vocabulary). The package writes these and all logits (default: 64 likeliest tokens or 50 draws),
# resumable, memory-mapped:

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
# A teacher of another family splits text into other tokens. Position t is another place in the text, and token 4,711
# another word. Code that compares only vocabulary *sizes* trains on nonsense and says nothing. Our trainer and
# `precompute_token_targets` refuse such a teacher. Below, SmolLM2 gets the help desk's tokenizer:

# %%
word_pieces = dh.load_course_model("help-desk-teacher", device="cpu").tokenizer
try:
    precompute_token_targets(LanguageModel(teacher.model, word_pieces), few, "top_k", cache_dir=cache)
except ValueError as refusal:
    print(refusal)
else:
    raise AssertionError("a teacher with another tokenizer was accepted")

# %% [markdown]
# There are three ways out. The teacher can **write**, and the student learns from the text (`teacher_completions`;
# *sequence-level* distillation, Kim and Rush, arXiv 1606.07947; or notebook 08). One can **align**: group the tokens
# of both models into pieces that spell the same text, and compare piece by piece. TRL's GOLD and the token aligner of
# NeMo-RL do so; this package does not. Or one can compare how *sure* both models are, with the probabilities
# **sorted**: the universal logit distance (ULD, Boizard et al., arXiv 2402.12030). It pads the smaller vocabulary
# with zeros. Its weakness is that it pairs the t-th token of one model with the t-th of the other, and cuts the
# longer sequence to the $n$ tokens of the shorter. With $p_t^{(i)}$ and $q_t^{(i)}$ the $i$-th largest probabilities
# at the t-th token, the distance is
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
# The distance is 0, because ULD does not know *which* token is likely. Hard labels must teach that. (The cell cuts
# the student's vocabulary to 40,000, so that the sizes differ.)
#
# ## Further on
#
# This notebook does not measure:
#
# - **LoRA and QLoRA students.** Pass a PEFT model to the trainer; its frozen head then costs no gradient. If
#   bitsandbytes keeps the base weights in four bits, this is QLoRA (Dettmers et al., arXiv 2305.14314). Do not train
#   all weights in plain bf16: AdamW moves a weight by about its learning rate, say 1e-5, but bf16 numbers near 0.05
#   are 2e-4 apart.
# - **Reasoning traces.** DeepSeek-R1's small models come from sequence-level distillation: they were fine-tuned on
#   about 600,000 reasoning traces with the right result and 200,000 other answers (arXiv 2501.12948). Whether a
#   result is right is yours to check; `teacher_completions` says in `finished` which completions were not cut off.
# - **Scaling laws.** Given enough compute or data, training without a teacher reaches what distillation reaches.
#   Distillation pays where the teacher exists already or serves many students (Busbridge et al., arXiv 2502.08606).
# - **Quantisation-aware distillation.** The student is the teacher in four bits. It learns by KL from the teacher in
#   full precision, to win back what rounding costs (arXiv 2601.20088).
# - **Fast sampling.** If the student's writing takes most of the time, use TRL's `DistillationTrainer`, which lets
#   vLLM write. Where TRL's loss is defined as ours is, the tests find them equal to a relative 1e-4
#   (`tests/llm/test_trl_equality.py`). Mind two differences: TRL's loss has no T², and its JSD is not divided by β(1
#   − β).
#
# ## Exercises
#
# ### Exercise 09.1 · Reverse KL in chunks (★★★, 20 min)
#
# `hidden` is (tokens, width), `head` is (vocabulary, width), and `log_p`, the teacher's log-probabilities, is
# (tokens, vocabulary). Return the gradients of the mean **reverse** KL, $\mathrm{KL}(q \,\|\, p)$, first with respect
# to `hidden`, then to `head`. Never hold more than `chunk_size` rows of logits. Autograd would keep them all, so the
# check switches it off. First find, on paper, the gradient with respect to one row of logits $z$, where $q =
# \mathrm{softmax}(z)$.
#
# <details><summary>Hint 1</summary>
#
# $\partial q_i / \partial z_j = q_i (1[i = j] - q_j)$, and the derivative of $\sum_i q_i (\log q_i - \log p_i)$ with
# respect to $q_i$ is $\log q_i - \log p_i + 1$. Multiply and sum over $i$: what becomes of the 1?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The gradient with respect to $z_j$ is $q_j \, (\log q_j - \log p_j - \mathrm{KL})$, divided by the number of tokens;
# KL is the row's own. Each chunk fills its own rows of the gradient of `hidden`, and adds to the whole gradient of
# `head`.
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
# `ids` are the teacher's k likeliest tokens, (tokens, k), and `p` their probabilities. The function below
# renormalises `p` and computes a forward KL, as much code does. The cell shows what is wrong with it: a student that
# is **equal to its teacher** gets a loss above 0 (and a gradient). Write `bucket_kl`, which returns the forward KL of
# the k + 1 outcomes for each token, (tokens,). It is 0 for that student.
#
# <details><summary>Hint 1</summary>
#
# You need the student's probabilities of the same tokens: `softmax` over the whole vocabulary, then `gather(1, ids)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The rest, 1 minus the sum, is one more outcome, both for the teacher and for the student.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A sure teacher leaves nothing for the bucket, and in fp32 its probabilities may sum to 1.0000001. Keep the rest from
# falling below a tiny number (`clamp`).
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
# For a batch of sequences, return a dictionary of bytes. `"logits"` are the logits of one model, in fp32. The other
# three are targets in half precision: `"dense"` (all logits), `"top_k"` (for each token of the text, k ids of four
# bytes, k log-probabilities, and a bucket of four bytes) and `"hidden"` (the head's input).
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
# **While you train, you hold a few rows of logits. On disk, you keep 1,152 of the 98,304 bytes, or about a hundred.**
# Each row of logits becomes its gradient at once, so the logits of a whole batch never exist. If you have the
# teacher's head, keep its input, from which it makes all logits again. Without the head, 16 drawn tokens take 68
# bytes and are right on average, for forward KL. The 16 likeliest tokens with a bucket take 100 bytes and serve every
# divergence. But what they leave out is a bias, and no number of tokens averages it away. We compared gradients here,
# and trained no student.
#
# [Notebook 10](10_on_policy_distillation.ipynb) asks which divergence to train with, on whose text, and how far this
# brings the ten layers back.
#
# ## Summary
#
# - A language model's loss is a mean over the tokens that count: shift once, mask the prompt, divide by their number.
# - The logits of a batch never need to exist: each chunk of rows becomes its gradient at once. This takes four
#   products with the heads, not six.
# - On disk, the head's input is exact, the top k need a bucket, and draws are right on average for forward KL.
# - Without two thirds of its layers, SmolLM2 is broken: its perplexity is above 10,000, and the whole model's is 27.
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
