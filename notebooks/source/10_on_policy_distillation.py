# %% [markdown]
# # 10 · The student writes: on-policy distillation
#
# <!-- teaches: whose text a student learns from; the reverse KL from drawn tokens, derived and checked; ten layers of SmolLM2 healed by distributions, by text and by their own writing; a judge that can be fooled; a student as drafter -->
#
# **Let a student write, and let its teacher comment on every token: what this costs, what it repairs, and how to tell
# whether it repaired anything.**
#
# You will be able to
# - *say* what a student never sees while it learns from others' text;
# - *derive* the reverse KL's gradient from drawn tokens, and *check* it;
# - *heal* a pruned model, first by the teacher's distributions, then on-policy;
# - *split* a teacher's surprise into the writer's doubt and distance, and *compute* how many tokens a drafter yields
#   per call.
#
# **Time:** about 35 minutes of reading and 30 of exercises; the cells run in about two minutes on two CPU cores.
# **You need:** [04 · The distillation loss](04_distillation_loss.ipynb) for the two directions of the KL, and [09 ·
# Language models](09_language_models.ipynb). On [Colab](https://colab.research.google.com/): upload the repository
# and run the plain-pip lines of the [README](../README.md) with `%pip` (see notebook 00).

# %% [markdown]
# ## The question
#
# ![Two rows. Off-policy, teacher and student read a tale, and the loss compares their distributions of the next token.
# On-policy, the student continues an opening, and the loss compares both models at each token that it wrote. In both
# rows the loss trains the student.](drawings/10_on_policy_distillation.svg)
#
# Notebook 09 removed 20 of SmolLM2's 30 layers, and the other ten wrote noise. Two passes over 1,199 passages of
# Grimm's tales, with the teacher's distribution as the target, make them write words again. You have 60 more steps of
# reverse KL. In each, the student can learn from eight passages of the tales. Or it can read only their openings,
# **write the rest itself**, and learn what the teacher would have said at each token. **Which of the two makes it
# write better?** How would you notice without reading everything? Keep a guess.

# %%
import ipywidgets
import pandas as pd
import torch
from IPython.display import HTML
from IPython.utils.capture import capture_output
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import healing, language_model_arms, on_policy
from distill_helpers.course.figures import COLOURS, dot_figure, figure, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import live

# %%
from distill_helpers.course.widgets.on_policy_distillation import (
    STUDENT_LOGITS,
    TEACHER_LOGITS,
    drawn_gradient,
    render_draws,
)
from distill_helpers.llm import CompletionCollator, on_policy_batch
from distill_helpers.llm.token_targets import target_divergence_and_gradient
from distill_helpers.losses import IGNORE_INDEX

logging.disable_progress_bar()
with capture_output():  # the loader's own bars would stay in the saved page
    tokenizer = language_model_arms.teacher().tokenizer
windows = language_model_arms.windows("test")
log = read_log(on_policy.LOG)
began = log[log["phase"] == on_policy.START].iloc[0]
print(f"{len(windows)} passages of tales that no student reads; openings of {language_model_arms.OPENING} tokens")

# %% [markdown]
# ## Heal it first
#
# What should the ten layers learn from the tales? Each arm makes 150 steps of eight passages, one pass over all of
# them. A passage has 64 tokens: the first 16 are read, the other 48 are learnt.
#
# - *hard labels*: the tale's own next token, no teacher;
# - *forward KL* and *reverse KL*: the teacher's distribution at each token of the tale.
#
# Each arm tried four peak learning rates with one seed, and chose by the perplexity of the validation tales; then it
# ran with five other seeds. Here are the first ten steps of one of these runs, live. **Predict first:** the loss
# starts near 7 nats a token, and the rate rises from 0 for 15 steps. Is the mean loss of these ten nearer to 7, to 4
# or to 1?

# %%
bar = ProgressWidget("ten of 150 steps")
runs = read_log(healing.LOG).query("phase == 'result' and arm == 'forward KL'").set_index("seed")
student, early_loss = language_model_arms.healed(
    language_model_arms.FORWARD_KL,
    seed=0,
    steps=healing.STEPS,
    learning_rate=runs.loc[0, "learning_rate"],
    stop_after=language_model_arms.EARLY,
    cached=False,
    callbacks=[bar.callback()],
)
assert abs(early_loss / runs.loc[0, "early_loss"] - 1) < 0.03, (early_loss, runs.loc[0, "early_loss"])
print(f"the mean loss of these ten steps: {early_loss:.0f} nats a token; the log's run began as this one does")

# %% [markdown]
# The repair begins at once, before the rate is at its peak. Three judges look at the finished students:
#
# - *perplexity*: how surprising the student finds tales that it has not read;
# - *KL to the teacher*: how far its distribution is from the teacher's at each token of these tales, KL(p‖q); *reverse
#   KL* is KL(q‖p), and *same next token* the share of places where both find the same token likeliest;
# - *the teacher's perplexity of what it writes*: the student continues 48 openings by itself, and the teacher says how
#   surprising it finds that.
#
# **Predict first:** which arm wins with which judge?

# %%
shown = ["perplexity", "± sd", "KL to the teacher", "reverse KL", "same next token %"]
shown += ["teacher's perplexity of what it writes", "± sd of that", "learning rate"]
healing.summary()[shown].round(2)

# %% [markdown]
# No arm wins with all three judges:
#
# - **On the tales, the text alone is as good as forward KL**: perplexities of 64 and 63, a difference of 0.7 ± 1.8
#   (seed by seed, with its 95% interval). The teacher has 32. (A teacher that first learns from the tales, Minitron's
#   *teacher correction*, was not tried.) Perplexity asks only for the token that came next, and hard labels teach
#   this token.
# - **As copies of the teacher, students of hard labels are far off**: a KL of 1.7 nats instead of 1.0. Perplexity
#   hides this.
# - **The teacher finds text by students of reverse KL likelier**: a perplexity of 110, against 187 for hard labels
#   and 218 for forward KL. Yet on the tales these students are worst, with 92.
#
# Does reverse KL make a student write better, then? First see what else could be wrong with a student's text, and
# later what this judge sees.
#
# ## What it never sees
#
# On a tale, the student predicts every token from a beginning that Grimm wrote; when it writes, from a beginning of
# its own. After one odd word the student is where no tale has been, and nothing has taught it how to go on. So
# mistakes are expected to pile up; the field calls this **[exposure bias](glossary.md#exposure-bias)**. **Predict
# first:** take a student healed by 300 steps of forward KL. On the tales, its distance from the teacher stays near 1
# nat over 48 tokens. Does the distance grow on the student's own text?

# %%
fig, axes = figure("On its own text the distance does not pile up", height=3.2)
places = range(1, 1 + language_model_arms.WINDOW - language_model_arms.OPENING)
for colour, (name, column) in enumerate((("tales", "tales_kl_by_place"), ("own text", "written_kl_by_place"))):
    smooth = pd.Series(began[column]).rolling(8, center=True, min_periods=4).mean()
    axes.plot(places, smooth, color=COLOURS[colour], label=name)
axes.set(
    xlabel="token after the opening (mean of eight neighbours)",
    ylabel="reverse KL to the teacher (nats)",
    ylim=(0, None),
)
axes.legend(frameon=False)
means = {name: began[column] for name, column in (("tales", "reverse_kl"), ("own text", "written_kl"))}
print(", ".join(f"{name}: {value:.2f} nats a token" for name, value in means.items()))
with_alt_text(fig, "Reverse KL at each of 48 tokens after the opening, on tales and on the student's own text.")

# %% [markdown]
# The distance shrinks, from 1.06 nats over the first eight tokens to 0.76 over the last eight, and on average it is
# smaller (0.92) than on the tales (1.04). So mistakes do not seem to pile up within 48 tokens. One caution: after an
# odd beginning the teacher may be unsure as well, and two unsure models are not far apart. He et al. also found that
# language models recover from their mistakes, Arora et al. that mistakes add up.
#
# The student is less sure than its teacher: its own perplexity of what it writes is 65; the teacher's of its own text
# is 39. Yet the teacher's perplexity of the student's text is 170, so being unsure is only part of it.
#
# ## Let it write
#
# **[On-policy](glossary.md#on-policy) distillation** trains the student on what it writes itself (GKD, Agarwal et
# al.). In words: *the student samples a completion; the teacher gives its distribution at each token of it; no
# gradient goes through the sampling.* In symbols, with a prompt $x$, a completion $y$, any divergence $D$ and the
# student's weights $\theta$,
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
    labels[:, : len(prompts[0])] = IGNORE_INDEX  # labels only mark the positions to compare: those after the prompt
    return {"input_ids": ids, "labels": labels}


rows = [windows.sequence(row) for row in range(3)]
own = on_policy_batch(student, CompletionCollator(tokenizer)(rows), max_new_tokens=8)
by_hand = sampled_completions(student.model, [ids[:16] for ids in windows.token_ids[:3]], 8, seed=0)
for name in ("input_ids", "labels"):  # the same prompts, the same positions; other draws
    assert torch.equal(own[name][:, :16], by_hand[name][:, :16])
assert torch.equal(own["labels"] == IGNORE_INDEX, by_hand["labels"] == IGNORE_INDEX)
print("the package's batch has the same prompts, and learns at the same positions")

# %% [markdown]
# Each step has to generate text and run the teacher. Targets cannot be stored.
# `LLMDistillationTrainer(on_policy_fraction=1)` does all of this.
#
# ## How little the teacher has to say
#
# The teacher need not even give its distribution. The reverse KL is a mean over the **student's** draws,
#
# $$\mathrm{KL}(q \,\|\, p) = \sum_y q(y) \log \frac{q(y)}{p(y)} = \mathop{\mathbb{E}}_{y \sim q}\big[\log q(y) - \log
# p(y)\big],$$
#
# so one drawn token $y$ and the teacher's $\log p(y)$ give an estimate. For training we need the gradient. With $r(y)
# = \log q(y) - \log p(y)$ and $\nabla q = q \nabla \log q$,
#
# $$\nabla \sum_y q(y)\, r(y) = \sum_y q(y)\, r(y)\, \nabla \log q(y) + \underbrace{\sum_y q(y) \nabla \log
# q(y)}_{=\,\nabla \sum_y q(y)\,=\,0} = \mathop{\mathbb{E}}_{y \sim q}\big[r(y)\, \nabla \log q(y)\big].$$
#
# In words: *where the student is surer of a drawn token than the teacher, make the token less likely, in proportion
# to the difference; where the teacher is surer, make it likelier.* (This gradient ignores how a token changes what
# follows.) In code, on six words with made-up logits, for what follows "The girl went into the":


# %%
def gradient_of_a_draw(student_logits, teacher_log_prob, drawn):
    log_q = student_logits.log_softmax(-1)
    r = log_q[drawn] - teacher_log_prob
    return r * (torch.eye(len(log_q))[drawn] - log_q.exp())  # the second factor is ∇ log q(y) at the logits


q, log_p = STUDENT_LOGITS.softmax(-1), TEACHER_LOGITS.log_softmax(-1)
over_draws = sum(q[y] * gradient_of_a_draw(STUDENT_LOGITS, log_p[y], y) for y in range(len(q)))
torch.testing.assert_close(over_draws, drawn_gradient(1).exact)
print("each word as often as it is drawn: the mean is the exact gradient of the package's reverse KL")

# %% [markdown]
# The mean is exact; a single draw is not. **Predict first:** how many draws until the estimate is off by less than
# 10%?

# %%
sliders = {
    "n": ipywidgets.SelectionSlider(options=[4**k for k in range(8)], value=4, description="drawn"),
    "seed": ipywidgets.IntSlider(0, 0, 9, description="seed"),
}
draws = live(render_draws, **sliders)
draws

# %%
for n in (4, 64, 1024):
    sliders["n"].value = n
    print(f"{n} drawn: off by {drawn_gradient(n).expected_error:.0%} (root mean square)")
    assert f"{n:,} drawn" in draws.children[-1].value
print(f"10% needs {(drawn_gradient(1).expected_error / 0.1) ** 2:.0f} draws")
HTML(draws.children[-1].value)

# %% [markdown]
# Four times as many draws halve the error, so 10% needs about 540 draws at this one position. Any server that returns
# the log-probabilities of a text, in the student's tokens, can be such a teacher:
# `LLMDistillationTrainer(target_kind="written")`. If you have the whole distribution, use it: its gradient has less
# noise.
#
# ### A loss cut off after k tokens leaks
#
# A common shortcut keeps only the teacher's k likeliest tokens, and sums $q \log (q/p)$ over them. In words: *the
# student is charged only for the k tokens, and can escape by moving probability elsewhere.* The derivative of $q
# \log(q/p)$ with respect to $q$ is $\log(q/p) + 1$. It is zero not at $q = p$, but at $q =
# p/e$, where the other tokens take the rest: **a perfect student is told to keep only 37% of what it had on the k
# tokens.** A *bucket* for all other tokens fixes this (notebook 09):

# %%
teacher_logits = 2 * torch.randn(1, 50, generator=torch.Generator().manual_seed(1))
likeliest = teacher_logits.topk(8).indices
print(f"the teacher's share on its 8 likeliest tokens: {teacher_logits.softmax(-1).gather(1, likeliest).sum():.2f}")
for name, kind in (("with a bucket", dh.TopKTargets), ("cut off", on_policy.TopKWithoutBucket)):
    perfect = teacher_logits.clone()  # begins as a copy of its teacher
    for _ in range(5_000):
        targets = kind.of(teacher_logits, 8, storage_dtype=torch.float32)
        perfect -= target_divergence_and_gradient(perfect, targets, divergence="reverse_kl")[1]
    print(f"{name}: after training, the student's is {perfect.softmax(-1).gather(1, likeliest).sum():.2f}")

# %% [markdown]
# ## More tales, or its own text?
#
# Every run starts from the student that 300 steps of forward KL healed, and makes 60 steps with eight openings each,
# in the same order. The student learns at the 48 tokens after each opening, from whole distributions except in one
# arm:
#
# - *reverse KL, tales*: the tale's own tokens;
# - *reverse KL, own text*: tokens that the student writes itself;
# - *sampled tokens, own text*: the same, but the teacher gives only its log-probability of each;
# - *forward KL, tales*: the tale's own tokens, with the loss that healed the student.
#
# Validation chose each method's peak learning rate (1e-4, 3e-4 or 1e-3), and each run's weights after 30 or 60 steps,
# by the reverse KL on the student's own text. In the table, *mean* is the teacher's perplexity of what the student
# writes (*it*), and *difference* is from reverse KL on the tales, seed by seed. Four more rows need no training: the
# start *at a lower temperature*, logits divided by 0.9–0.6 (one sample). **Predict first:** at the start, the
# teacher's perplexity of what the student writes is 170. What is it after training on the tales, after its own text,
# and at a temperature of 0.8?

# %%
order = list(on_policy.ARMS)
judged = on_policy.judged()
results = judged[judged["phase"] == "result"]
cooler = judged[judged["temperature"] == 0.8].iloc[0]
columns = ["mean", "sd", "difference", "± 95%", "KL on it", "own perplexity of it"]
columns += ["tales' perplexity", "forward KL on tales", "drafts accepted %", "learning rate", "best epoch"]
on_policy.summary()[[*columns, "tokens written"]].round(2).rename(columns={"best epoch": "best step"})

# %%
dots = results.rename(columns={"arm": "model"}).sort_values(
    "model", key=lambda column: column.map(order.index), kind="stable"
)
assert (dots.groupby("model").size() == 5).all()
fig = dot_figure(
    dots,
    on_policy.FIGURE,
    title="A temperature of 0.8 beats every training",
    label="teacher's perplexity of what the student writes",
    references={"start": began[on_policy.FIGURE], "start, at temperature 0.8": cooler[on_policy.FIGURE]},
)
mean = results.groupby("arm").mean(numeric_only=True).loc[order]
with_alt_text(
    fig,
    "Teacher's perplexity of what each student writes, a dot a seed. "
    + ", ".join(f"{name}: {mean.loc[name, 'written_perplexity']:.0f}" for name in order),
)

# %% [markdown]
# Of the trainings, reverse KL on the tales wins with every seed. **And a temperature of 0.8 beats it without a single
# step**: 50. At 0.7 the student seems to write better than its teacher, whose own text has 39. What does this judge
# see? The teacher's surprise at a word $y$ that the student drew has two parts:
#
# $$-\log p(y) = \underbrace{-\log q(y)}_{\text{the student's own doubt}} + \underbrace{\log q(y) - \log
# p(y)}_{\text{on average the distance}\;\mathrm{KL}(q\|p)}$$
#
# In words: *a teacher is surprised because the writer is unsure, or because the writer is not the teacher.* The
# logarithm of each perplexity in the table is the mean surprise. **Predict first:** which part does each row change?

# %%
parts = judged.groupby("arm")[["surprise", "doubt", "distance"]].agg(["mean", "std"])
parts.loc[[on_policy.START, f"{on_policy.START}, at temperature 0.8", *order]].round(2)

# %% [markdown]
# - **Reverse KL on the tales made the student surer, but no nearer to the teacher on what it writes** (on the tales,
#   its reverse KL falls from 1.04 to 0.97). Of the two parts, only the student's own doubt changes: it falls from
#   4.17 to 3.46 nats, below the 3.66 that the teacher has on its own text. A temperature of 0.8 does more of the same
#   for nothing: a doubt of 2.92, at about the same distance.
# - **Its own text made the student nearer, not surer.** On what it writes, the distance falls from 0.97 to 0.78, and
#   the doubt grows by about as much. (*KL on it* says 0.92 and 0.80: the same distance, from whole distributions.)
#   All were chosen by this distance; this one was trained for it. No other is as near.
# - **From one number a token the student learns less**: a KL of 0.90 on its text, 0.10 ± 0.05 farther off than from
#   whole distributions. Validation chose the lowest rate; a lower one might do better.
# - **The tales alone did not make a student surer.** 60 more steps of forward KL on the same tales leave the student
#   where it was: 178, and a distance of 0.98. (At the lowest rate it hardly moved.)
# - All students of reverse KL lose on the tales: their perplexity rises from 56 to 63–69.
#
# So a lower perplexity does not by itself mean better text.
#
# ### Who judges?
#
# The teacher's perplexity of what a student writes is easy to fool: a parrot that repeats the teacher's likeliest
# word gets a *lower* perplexity than the teacher's own text. So validation chose by the **distance on the student's
# own text**, which charges a writer for being surer than the teacher; only a copy of the teacher gets 0. Yet it, too,
# may prefer a parrot to a poor student (exercise 10.2). So read what they write:

# %%
opening = tokenizer.decode(windows.token_ids[2][: language_model_arms.OPENING])
print(f"the opening:\n   {' '.join(opening.split())}…\n")
for name, text in (
    ("start", began["writes"]),
    ("start, at temperature 0.8", cooler["writes"]),
    *((name, results[results["arm"] == name].iloc[0]["writes"]) for name in order),
):
    print(f"{name}:\n   …{' '.join(text.split())[:200]}\n")

# %% [markdown]
# None of them is a tale. The words are ordinary at temperature 0.8, mostly ordinary after reverse KL on the tales,
# and partly invented in the others.
#
# ## What it is worth as a drafter
#
# As a **[drafter](glossary.md#drafter)**, the student writes a few tokens ahead. The teacher reads them all in one
# pass, and accepts each with probability min(1, p/q). At the first refusal the teacher draws a token itself, from the
# part of p that lies above q. The result is distributed exactly as if the teacher had written it (*speculative
# decoding*, Leviathan et al.). In words: *a draft is accepted as often as the two distributions overlap.* In symbols,
# with the *[total variation](glossary.md#total-variation)* TV,
#
# $$\sum_y q(y) \min\Big(1, \frac{p(y)}{q(y)}\Big) = \sum_y \min\big(p(y), q(y)\big) = 1 - \mathrm{TV}(p, q), \qquad
# \mathrm{TV} = \tfrac12 \sum_y |p(y) - q(y)|.$$
#
# We measure this overlap on the tales, in place of a teacher's text; the drafter's own passes cost extra.

# %%
q, p = STUDENT_LOGITS.softmax(-1), TEACHER_LOGITS.softmax(-1)
drawn = torch.multinomial(q, 100_000, replacement=True, generator=torch.Generator().manual_seed(0))
accepted = torch.rand(len(drawn), generator=torch.Generator().manual_seed(1)) < (p / q)[drawn]
overlap = torch.minimum(p, q).sum()
assert abs(accepted.double().mean() - overlap) < 0.01
print(f"six words: {overlap:.2f} of the drafts should be accepted, {accepted.double().mean():.2f} of 100,000 were")
for name, row in (("start", began), *mean.iterrows()):
    print(f"{name}: {1 - row['total_variation']:.0%} of the drafts accepted")

# %% [markdown]
# On-policy training does not help here: drafts are accepted at 57% of the places before training and after training
# on the tales, and at 55% after training on its own text.
#
# ## Where the field uses it
#
# | who | what came out |
# |---|---|
# | GKD (Agarwal et al.) | T5 students of 77 to 800 million parameters; summaries, translations, arithmetic: 1.7 to 2.1 times the gain of distillation on others' text |
# | MiniLLM (Gu et al.) | 120 million to 13 billion parameters; reverse KL with a policy gradient: preferred to students of the teacher's text |
# | Qwen3 (section 4.5, table 21) | 8 billion parameters; on-policy after off-policy; AIME '24 (mathematics): 55.0 → 74.4 in 1,800 GPU hours; reinforcement learning from the same start 67.6 in 17,920 |
# | Thinking Machines ([Lu 2025](https://thinkingmachines.ai/blog/on-policy-distillation/)) | sampled-token reverse KL, as above; AIME '24: 60% → 70% in about 150 steps |
#
# All of them start from a student that can already do something. Where on-policy training fails, off-policy
# distillation beforehand can rescue it (Li et al.). Our student had that, and still writes badly.
#
# ## Exercises
#
# ### Exercise 10.1 · Find the bug: a loss of draws that teaches nothing (★★, 8 min)
#
# A teacher *scores* what a student wrote: one log-probability for each token. Averaged over the student's draws $y$,
# $\log q(y) - \log p(y)$ is the reverse KL, so the function below has the right value. But its mean gradient is 0.
# Write `drawn_loss`, a mean over the tokens, whose mean gradient is that of the reverse KL.
#
# <details><summary>Hint 1</summary>
#
# $\mathrm{KL}(q\,\|\,p) = \sum_y q(y) \, r(y)$ with $r = \log q - \log p$. The function differentiates $r$ alone.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $\nabla q = q \, \nabla \log q$. So a draw's gradient is $r(y) \, \nabla \log q(y)$, with $r(y)$ as a constant:
# `detach()`.
#
# </details>
#
# <!-- solution 10.1 -->


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


check("10.1", drawn_loss)

# %% [markdown]
# ### Exercise 10.2 · Can the parrot win? (★★, 12 min)
#
# A parrot always writes the teacher's likeliest word, with probability 1. The cell below shows that it beats the
# teacher by perplexity; by the reverse KL it never does. Can it beat a poor student? Write `parrot_wins`: the share
# of places at which the parrot's exact reverse KL is below the student's.
#
# <details><summary>Hint 1</summary>
#
# The parrot's distribution is 1 at one word and 0 elsewhere. Which term of its KL is left?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The parrot's KL is $-\log \max_y p(y)$. The student's is $\sum_y q(y)\,(\log q(y) - \log p(y))$, one number for each
# place.
#
# </details>
#
# <!-- solution 10.2 -->


# %%
def perplexity(log_p):
    return (-log_p.mean()).exp()


p = TEACHER_LOGITS.softmax(-1)
parrot = torch.zeros(1000, dtype=torch.long)  # "forest", a thousand times
teachers_own = torch.multinomial(p, 1000, replacement=True, generator=torch.Generator().manual_seed(2))
print(f"the teacher's perplexity of the parrot's text: {perplexity(p.log()[parrot]):.2f}")
print(f"the teacher's own text: {perplexity(p.log()[teachers_own]):.2f}")


def parrot_wins(student_logits, teacher_logits):
    """A share, from 0 to 1. Both logits: (places, vocabulary)."""
    ...


check("10.2", parrot_wins)

# %% [markdown]
# ### Exercise 10.3 · Tokens for a call (★★, 10 min)
#
# `acceptances` are the probabilities that a drafter's first, second, … draft is accepted, given that all before it
# were. The first refused draft ends the call. In any case the teacher adds one token, in place of the refused draft
# or after the last one. Return the expected number of tokens per call. Then try it: what do four drafts bring at our
# student's 57%, and what would a fifth add?
#
# <details><summary>Hint 1</summary>
#
# The first token is certain. With what probability is there a second one? A third?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Add up the probabilities that there is an i-th token.
#
# </details>
#
# <!-- solution 10.3 -->


# %%
def tokens_per_call(acceptances):
    """A number. acceptances: a list of probabilities, one for each draft."""
    ...


check("10.3", tokens_per_call)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("10_on_policy_distillation"))

# %% [markdown]
# ## The answer

# %%
for name in order:
    row = mean.loc[name]
    print(
        f"{name}: teacher's perplexity of what it writes {row['written_perplexity']:.0f}, KL on it {row['written_kl']:.2f}"
    )

# %% [markdown]
# **Neither made the student write well, and the teacher's perplexity cannot tell a surer student from a nearer one.**
# By that judge the tales win, 85 against 181, and a temperature of 0.8 beats both with 50, without any training. Yet
# where it writes, the tales only made the student surer, its own text nearer: 0.80 nats instead of 0.92. You notice
# it by splitting the surprise, and by reading.
#
# ## Summary
#
# - A student that learns from others' text is never trained where its own writing leads.
# - On-policy: the student writes, the teacher comments on each token, and no gradient goes through the sampling.
# - The reverse KL is a mean over the student's draws, so one log-probability of the teacher per token is enough.
# - The reverse KL over the top k alone has its minimum at p/e: keep a bucket for the rest.
# - A teacher's surprise at a text is the writer's doubt plus its distance from the teacher: look at both.
#
# **References.** Agarwal et al. 2023, *GKD*, [arXiv 2306.13649](https://arxiv.org/abs/2306.13649) · Gu et al. 2023,
# *MiniLLM*, [arXiv 2306.08543](https://arxiv.org/abs/2306.08543) · Qwen Team 2025, *Qwen3*, [arXiv
# 2505.09388](https://arxiv.org/abs/2505.09388) · Lu and Thinking Machines Lab 2025, [*On-Policy
# Distillation*](https://thinkingmachines.ai/blog/on-policy-distillation/) · Leviathan et al. 2022, [arXiv
# 2211.17192](https://arxiv.org/abs/2211.17192) · He et al. 2021, [arXiv 1905.10617](https://arxiv.org/abs/1905.10617)
# · Arora et al. 2022, [arXiv 2204.01171](https://arxiv.org/abs/2204.01171) · Li et al. 2026, [arXiv
# 2604.13016](https://arxiv.org/abs/2604.13016).
