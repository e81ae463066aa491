# %% [markdown]
# # 10 · The student writes: on-policy distillation
#
# <!-- teaches: whose text a student learns from; the reverse KL from drawn tokens, derived and checked; ten layers of SmolLM2 healed by distributions, by text and by their own writing; a judge that can be fooled; a student as drafter -->
#
# **Let a student write, and let its teacher comment on every token: what this costs, what it repairs, and how to tell
# whether it has repaired anything.**
#
# You will be able to
# - *say* what a student never sees while it learns from somebody else's text;
# - *derive* the estimate of the reverse KL from single drawn tokens, and *check* it against the exact gradient;
# - *heal* a pruned model, first by the teacher's distributions, then on-policy;
# - *split* a teacher's surprise at a text into the writer's doubt and its distance, and *compute* how many tokens a drafter
#   brings in a call.
#
# **Time:** about 35 minutes of reading and 35 of exercises; the cells run in about two minutes on two CPU cores.
# **You need:** [04 · The distillation loss](04_distillation_loss.ipynb) for the two directions of the KL, and
# [09 · Language models](09_language_models.ipynb). On [Colab](https://colab.research.google.com/): upload the repository
# and run the plain-pip lines of the [README](../README.md) with `%pip` (see notebook 00).

# %% [markdown]
# ## The question
#
# ![Two rows. Off-policy, teacher and student read a tale, and the loss compares their distributions of the next token.
# On-policy, the student continues an opening, and the loss compares both models at each token that it wrote. In both
# rows the loss trains the student.](drawings/10_on_policy_distillation.svg)
#
# In notebook 09 we took 20 of SmolLM2's 30 layers away, and what was left wrote noise. Two passes over 1,199 passages of
# Grimm's tales, with the teacher's distribution as the target at each token, make the ten layers write again. You have 60
# more steps, all by reverse KL. In each of them the student can learn from eight passages of the tales. Or it can read only
# the openings of these passages, **write the rest itself**, and learn what the teacher would have said at each token that
# it wrote. **Which of the two makes it write better?** And how would you notice, without reading it all? Keep a guess.

# %%
import ipywidgets
import pandas as pd
import torch
from IPython.display import HTML
from IPython.utils.capture import capture_output
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import healing, on_policy
from distill_helpers.course.experiments.healing import METHODS, healed, summary
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
    tokenizer = healing.teacher().tokenizer
windows = healing.windows("test")
log = read_log(on_policy.LOG)
began = log[log["phase"] == on_policy.START].iloc[0]
print(f"{len(windows)} passages of tales that no student reads; openings of {healing.OPENING} tokens")

# %% [markdown]
# ## Heal it first
#
# What should the ten layers learn from the tales? Five methods, five seeds each, 150 steps of eight passages, one pass over
# all of them. A passage has 64 tokens; the first 16 are read, the other 48 are learnt:
#
# - *hard labels*: the tale's own next token, no teacher;
# - *forward KL*, *reverse KL*, *JSD* (β = ½): the teacher's distribution at each token of the tale;
# - *half on-policy, reverse KL*: in half of the batches the student writes the 48 tokens itself, from the first step on,
#   and learns by reverse KL.
#
# All share one peak learning rate, 1e-3. It was not tuned for each method: runs half as long chose it among 5e-4, 1e-3 and 2e-3
# by the validation tales, and of which method they were is not on record. Here
# are the first ten steps of one run, live; the log has them, and the 140 that follow. **Predict first:** the loss starts
# near 7 nats a token, and the rate rises from 0 for 15 steps. Is the mean of these ten nearer to 7, to 4 or to 1?

# %%
bar = ProgressWidget("ten of 150 steps")
student, early_loss = healed(
    METHODS["forward KL"], seed=0, stop_after=healing.EARLY, cached=False, callbacks=[bar.callback()]
)
runs = read_log(healing.LOG)
logged = runs[(runs["method"] == "forward KL") & (runs["seed"] == 0)]["early_loss"].item()
assert abs(early_loss / logged - 1) < 0.03, (early_loss, logged)
print(f"the mean loss of these ten steps: {early_loss:.0f} nats a token; the log's run began as this one does")

# %% [markdown]
# The repair begins at once, before the rate is at its peak. Three judges look at the finished students (*same next token*,
# the share of places where both find the same token likeliest, says what the KL says):
#
# - *perplexity*: how surprising the student finds tales that it has not read;
# - *KL to the teacher*: how far its distribution is from the teacher's at each token of these tales, KL(p‖q); the column
#   *reverse KL* has KL(q‖p);
# - *the teacher's perplexity of what it writes*: the student continues 32 openings by itself, and the teacher says how
#   surprising it finds that.
#
# **Predict first:** which method wins with which judge?

# %%
shown = ["perplexity", "KL to the teacher", "reverse KL", "same next token %", "teacher's perplexity of what it writes"]
summary()[shown].round(2)

# %% [markdown]
# No method wins with all three:
#
# - **On the tales, the text alone is as good as forward KL**: both have a perplexity of 63, twice the teacher's 32. A
#   tale's perplexity asks only for the token that came next, and that is what hard labels teach.
# - **As a copy of the teacher, hard labels are far off**: a KL of 1.8 nats against 1.0. Perplexity hides this.
# - **The teacher finds what JSD's and reverse KL's students write likelier**: perplexities of 116 and 117. Forward KL
#   and hard labels have 214 and 204, a tie, since their standard deviations over seeds are 18 and 30. A likely reason:
#   forward KL has the student spread its probability over everything that the teacher might say, and a small student
#   then gives some to nonsense as well.
# - **From noise, on-policy is not worth it**: 168, against the 117 of the same reverse KL on the tales. Perhaps because a
#   student that cannot write yet spends half of its 150 steps on noise of its own?
#
# That can be tested: we first heal, and let the student write afterwards.
#
# ## What it never sees
#
# On a tale, every token is predicted from a beginning that Grimm wrote. When the student writes, it predicts from a
# beginning of its own. One odd word, and it is in a place where no tale has ever been, and nothing has taught it what to do
# there. The field calls this **exposure bias**, and expects it to pile up: each mistake leads further away. **Predict
# first:** a student was healed by 300 steps of forward KL. How far is it from the teacher at the first, the second, … the
# 48th token after the opening? On the tales this stays about level. And on its own text: does the distance grow?

# %%
fig, axes = figure("On its own text the distance does not pile up", height=3.2)
places = range(1, 1 + healing.WINDOW - healing.OPENING)
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
# It shrinks: from 1.06 nats over the first eight tokens to 0.76 over the last eight, and in the mean it is smaller
# (0.92) than on the tales (1.04). So there is no sign that mistakes pile up in this student, within 48 tokens after 48
# openings. One caution: after an odd beginning the teacher may be at a loss as well, and two unsure models are not far
# apart. The field is divided: He et al. (arXiv 1905.10617) found that language models recover from their own mistakes,
# Arora et al. (arXiv 2204.01171) that mistakes add up.
#
# What is wrong with this student's text shows elsewhere. Its own perplexity of what it writes is 65; the teacher's of its
# own text is 36. The student is unsure at every token, and what an unsure student draws is often odd: the teacher's
# perplexity of the student's text is 170.
#
# ## Let it write
#
# **On-policy distillation** trains the student where its own writing leads it (GKD, Agarwal et al., arXiv 2306.13649). In
# words: *the student samples a completion; the teacher gives its distribution at each of its tokens; no gradient goes
# through the sampling.* In symbols, with a prompt $x$, a completion $y$, any divergence $D$ and the student's weights
# $\theta$,
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
# The price is a generation and a live teacher in each step. Targets on disk are of no use, since nobody knows beforehand
# what the student will write. `LLMDistillationTrainer(on_policy_fraction=1)` does all of it.
#
# ## How little the teacher has to say
#
# The teacher need not even give its distribution. The reverse KL is a mean over the **student's** draws,
#
# $$\mathrm{KL}(q \,\|\, p) = \sum_y q(y) \log \frac{q(y)}{p(y)} = \mathop{\mathbb{E}}_{y \sim q}\big[\log q(y) - \log
# p(y)\big],$$
#
# so one drawn token $y$, and the teacher's $\log p(y)$ of that token, give an estimate of it. For training we need the
# gradient. With $r(y) = \log q(y) - \log p(y)$ and $\nabla q = q \nabla \log q$,
#
# $$\nabla \sum_y q(y)\, r(y) = \sum_y q(y)\, r(y)\, \nabla \log q(y) + \underbrace{\sum_y q(y) \nabla \log
# q(y)}_{=\,\nabla \sum_y q(y)\,=\,0} = \mathop{\mathbb{E}}_{y \sim q}\big[r(y)\, \nabla \log q(y)\big].$$
#
# In words: *where the student is surer of a drawn token than the teacher, make it less likely, in proportion to how
# much surer it is; where the teacher is surer, make it likelier.* This is the gradient at one position, with the
# beginning as it is. That a token also changes what comes after it is left out, as it is with whole distributions: no
# gradient goes through the sampling of the text. (MiniLLM, Gu et al., arXiv 2306.08543, takes it into account.) In
# code, on six words with made-up logits, for what follows "The girl went into the":


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
# Its mean is exact; a single draw is not. **Predict first:** how many draws until the estimate is off by less than 10%?

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
# Four times as many draws halve the error, so that 10% needs about 540. (That is for this one place and its six words; a
# training step draws some hundreds of tokens, each in a place of its own.) Any server that returns the log-probabilities of
# a text that you send, in the student's tokens, is such a teacher: `LLMDistillationTrainer(target_kind="written")`. If you
# have the teacher's whole distribution, use it, since its gradient has less noise: what is left is which texts the student
# happens to write.
#
# ### Cut off, it leaks
#
# Between one token and the whole distribution there is a third way: the teacher's k likeliest tokens. A common shortcut
# sums $q \log (q/p)$ over these k alone and drops the rest. In words: *the student is charged only for what it does on
# k tokens, and can escape by moving its probability elsewhere.* The derivative of $q \log(q/p)$ with respect to $q$ is
# $\log(q/p) + 1$. As long as the other tokens are free to take what these k give away, it is zero not at $q = p$, but
# at $q = p/e$: **a perfect student is told to keep only 37% of what it had on the k tokens.** Nothing says where the
# other 63% go. One more outcome, a *bucket* for all other tokens, repairs it (notebook 09):

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
# Now the opening question. One student, healed by 300 steps of forward KL, is where every run starts. All runs make 60
# steps of eight sequences, on the same openings in the same order:
#
# - *reverse KL, tales*: the teacher's distribution at each token of the tale;
# - *reverse KL, own text*: the student continues the opening itself, and learns the teacher's distribution at each of its
#   own 48 tokens;
# - *forward KL, tales*: what has healed it, for 60 steps more.
#
# Each way chose its own peak learning rate (1e-4, 3e-4 or 1e-3), and the better of two moments, after 30 or after 60 steps: by
# the reverse KL on what the student writes after openings of validation tales. A seed sets the order of the tales and the
# draws of the training; *difference* is from reverse KL on the tales, and ± 95% is Student's interval of it, seed by seed.
# Four more rows cost no training at all: the student of the start, *sampled at a lower temperature*, its logits divided by
# 0.9, 0.8, 0.7 or 0.6, one sample each. **Predict first:**
# before, the teacher's perplexity of what the student writes is 170. What is it after 60 steps on the tales, what after 60
# steps on its own text, and what at a temperature of 0.8?

# %%
order = list(on_policy.ARMS)
judged = on_policy.judged()
results = judged[judged["phase"] == "result"]
cooler = judged[judged["temperature"] == 0.8].iloc[0]
columns = ["mean", "sd", "difference", "± 95%", "KL on it", "own perplexity of it"]
columns += [
    "tales' perplexity",
    "forward KL on tales",
    "drafts accepted %",
    "learning rate",
    "best epoch",
    "tokens written",
    "seconds",
]
on_policy.summary()[columns].round(2)

# %%
dots = results.rename(columns={"arm": "model"}).sort_values(
    "model", key=lambda column: column.map(order.index), kind="stable"
)
assert (dots.groupby("model").size() == 5).all()
fig = dot_figure(
    dots,
    on_policy.FIGURE,
    title="By this judge a temperature of 0.8 beats every training",
    label="teacher's perplexity of what the student writes",
    references={"before": began[on_policy.FIGURE], "before, at temperature 0.8": cooler[on_policy.FIGURE]},
)
mean = results.groupby("arm").mean(numeric_only=True).loc[order]
with_alt_text(
    fig,
    "Teacher's perplexity of what each student writes, a dot a seed. "
    + ", ".join(f"{name}: {mean.loc[name, 'written_perplexity']:.0f}" for name in order),
)

# %% [markdown]
# Of the trainings, reverse KL on the tales wins in every seed. **And a temperature of 0.8 beats it without a single step**: 50.
# At 0.7 the student even seems to write better than its teacher, whose own text has 36. (None of the trained students was
# sampled at a lower temperature.) So what does this judge see? The
# teacher's surprise at a word $y$ that the student has drawn has two parts:
#
# $$-\log p(y) = \underbrace{-\log q(y)}_{\text{the student's own surprise}} + \underbrace{\log q(y) - \log
# p(y)}_{\text{in the mean the distance}\;\mathrm{KL}(q\|p)}$$
#
# In words: *a teacher is surprised because the writer is unsure, or because the writer is another.* The logarithm of each
# perplexity of the table is such a mean. **Predict first:** which part does each row change?

# %%
parts = judged.groupby("arm")[["surprise", "doubt", "distance"]].agg(["mean", "std"])
parts.loc[[on_policy.START, f"{on_policy.START}, at temperature 0.8", *order]].round(2)

# %% [markdown]
# - **Reverse KL on the tales made it surer, not nearer.** All that the teacher's surprise lost is the student's own doubt: it
#   falls from 4.17 to 3.46 nats, below the 3.58 that the teacher has of its own text. The distance stays about where it was. A
#   lower temperature does the same, and at 0.8 more of it, for nothing: a doubt of 2.92, at about the same distance.
# - **Its own text made it nearer, not surer.** Where its own writing leads, the distance falls from 0.97 to 0.78, and the
#   doubt grows by as much or more. (The table's *KL on it* says 0.92 and 0.80: the same distance, from whole distributions
#   instead of the drawn words alone.) It was trained for this, and chosen by it; no other row is as near.
# - **The loss did it, not the tales.** 60 steps more of forward KL on the same tales leave the student where it was: 178, and
#   a distance of 0.98. (Validation chose its lowest rate; the higher the rate, the larger was the distance on its own text.)
# - On the tales both students of reverse KL lose something: their perplexity rises from 56 to 63 and 69.
#
# So a lower perplexity does not by itself mean better text, and nothing here made this student write well. Nor was it the noise
# at the start that made on-policy lose in the first table: here it starts with words, and still loses by that judge.
#
# Why surer? Reverse KL on the tales makes a student drop what the teacher finds unlikely; 117 against 214 in the first
# table may be the same effect. Why does its own text not do so? No gradient tells the student to write another beginning, since the text is taken as given. MiniLLM counts a token's
# consequences and mixes the teacher into the sampling, and the students of the table further below write well before they
# start. None of these was measured here. (The seconds were taken on a busy machine.)
#
# ### Who judges?
#
# The teacher's perplexity of what a student writes is easy to read, and easy to fool: a parrot that repeats the teacher's
# likeliest word gets a *lower* perplexity than the teacher's own text. So validation chose by the **distance on the
# student's own text**. It charges a writer for being surer than the teacher, and only a copy of the teacher gets 0. It is
# no perfect judge either: a parrot may still come out ahead of an honest, poor student (exercise 10.2), and the two ways
# are judged on different texts. So read what they write:

# %%
opening = tokenizer.decode(windows.token_ids[2][: healing.OPENING])
print(f"the opening:\n   {' '.join(opening.split())}…\n")
for name, text in (
    ("before", began["writes"]),
    ("before, at temperature 0.8", cooler["writes"]),
    *((name, results[results["arm"] == name].iloc[0]["writes"]) for name in order),
):
    print(f"{name}:\n   …{' '.join(text.split())[:200]}\n")

# %% [markdown]
# None of them is a tale. In these samples the one at temperature 0.8 uses ordinary words, the one that learned the tales by reverse KL mostly; the
# others still invent some.
#
# ## What it is worth as a drafter
#
# A student need not replace its teacher. As a **drafter** it writes a few tokens ahead, the teacher reads them all in one
# pass, and accepts each with the probability min(1, p/q). At the first refusal it draws a token itself, from the part
# of p that lies above q. What comes out is distributed exactly as if the teacher had written it (*speculative
# decoding*, Leviathan et al., arXiv 2211.17192). If all drafts are accepted, it adds one token as well. How often is a
# draft accepted? In words: *as often as both distributions overlap.* In symbols, with the *total variation* TV,
#
# $$\sum_y q(y) \min\Big(1, \frac{p(y)}{q(y)}\Big) = \sum_y \min\big(p(y), q(y)\big) = 1 - \mathrm{TV}(p, q), \qquad
# \mathrm{TV} = \tfrac12 \sum_y |p(y) - q(y)|.$$
#
# Below it is measured on the tales. It says what the drafts are worth, not what they cost: the drafter's own passes come on
# top.

# %%
q, p = STUDENT_LOGITS.softmax(-1), TEACHER_LOGITS.softmax(-1)
drawn = torch.multinomial(q, 100_000, replacement=True, generator=torch.Generator().manual_seed(0))
accepted = torch.rand(len(drawn), generator=torch.Generator().manual_seed(1)) < (p / q)[drawn]
overlap = torch.minimum(p, q).sum()
assert abs(accepted.double().mean() - overlap) < 0.01
print(f"six words: {overlap:.2f} of the drafts should be accepted, {accepted.double().mean():.2f} of 100,000 were")
for name, row in (("before", began), *mean.iterrows()):
    print(f"{name}: {1 - row['total_variation']:.0%} of the drafts accepted")

# %% [markdown]
# What on-policy training gains on its own text does not help here: drafts are accepted in 57% of the places before and after
# the tales, and in 55% after its own text. A drafter goes on from text that the teacher has accepted, not from its own.
#
# ## Where the field uses it
#
# | who | what was done | what came out |
# |---|---|---|
# | GKD (Agarwal et al., arXiv 2306.13649) | T5 students of 77 to 800 million parameters write; divergence of choice | on summaries, translations and arithmetic problems 1.7 to 2.1 times the gain of distillation on text that others wrote |
# | MiniLLM (Gu et al., arXiv 2306.08543) | reverse KL, with a token's consequences (a policy gradient); text from a mixture of student and teacher | students of 120 million to 13 billion parameters, preferred to those that learned the teacher's text |
# | Qwen3 (arXiv 2505.09388, section 4.5 and table 21) | 8 billion parameters; first off-policy distillation, then on-policy | AIME '24: 55.0 → 74.4 in 1,800 GPU hours; reinforcement learning from the same start 67.6 in 17,920 |
# | Thinking Machines ([Lu 2025](https://thinkingmachines.ai/blog/on-policy-distillation/)) | sampled-token reverse KL, as derived above | AIME '24: 60% → 70% in about 150 steps |
#
# All of them start from a student that can already do something. Where on-policy runs fail, a cold start by off-policy
# distillation recovers them, say Li et al. (arXiv 2604.13016). That was the order of this page, and for ten layers that
# write as badly as ours it was not enough.
#
# ## Exercises
#
# ### Exercise 10.1 · Find the bug: a loss of draws that teaches nothing (★★, 8 min)
#
# A teacher *scores* what a student wrote: one log-probability for each token. The mean of $\log q(y) - \log p(y)$ over the
# student's draws $y$ is the reverse KL, so the function below has the right value. But its mean gradient over all draws is 0.
# Write `drawn_loss`, a mean over the tokens, whose mean gradient is that of the reverse KL. (Its value does not matter.)
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
# A parrot always writes the teacher's likeliest word, with probability 1. By the teacher's perplexity it beats the teacher
# itself: the cell below shows it. The judge of this page, the reverse KL from the teacher, never puts it before the
# teacher. But before a poor student? Write `parrot_wins`: the share of the places at which the parrot's reverse KL is below
# the student's. The KL is that of whole distributions, no estimate.
#
# <details><summary>Hint 1</summary>
#
# The parrot's distribution is 1 at one word and 0 elsewhere, and 0 log 0 is 0. One term of its KL is left. Which?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The parrot's KL is $-\log \max_y p(y)$. The student's is $\sum_y q(y)\,(\log q(y) - \log p(y))$, one number for each place.
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
# A drafter writes a few tokens ahead; the further ahead, the rarer it is right. `acceptances` are the probabilities with
# which its first, second, … draft is accepted, provided that those before it were. The first refused draft ends the call.
# The teacher adds one token of its own in any case: in place of the refused draft, or after the last one. Return the
# expected number of tokens that come out of a call. Then try it: what do four drafts bring if each is accepted as often as
# our student's, 57%, and what would a fifth one add?
#
# <details><summary>Hint 1</summary>
#
# The first token is certain. With what probability is there a second one? A third?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The sum of the probabilities that there is an i-th token is the expected number of tokens.
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
# **Neither made it write well, and the usual judge does not see the difference.** By the teacher's perplexity the tales win,
# 85 against 181, and a temperature of 0.8 beats both with 50, without any training. The tales made the student surer of what it
# writes, and no nearer to its teacher. Its own text brought it nearer where its own writing leads, 0.80 nats instead of
# 0.92, and left it as unsure as before. You notice it by taking the surprise apart, and by reading.
#
# ## Summary
#
# - A student that learns from others' text is never trained in the places where its own writing leads it.
# - On-policy: the student writes, the teacher comments on each token, and no gradient goes through the sampling.
# - The reverse KL is a mean over the student's draws, so one log-probability of the teacher for each token is enough.
# - The reverse KL over the top k alone has its minimum at p/e: keep a bucket for the rest.
# - A teacher's surprise at a text is the writer's doubt plus its distance from the teacher. Look at both: here on-policy
#   training lessened the distance alone; the tales, by reverse KL, and a lower temperature lessened the doubt alone.
#
# **References.** Agarwal et al. 2023, *GKD*, [arXiv 2306.13649](https://arxiv.org/abs/2306.13649) ·
# Gu et al. 2023, *MiniLLM*, [arXiv 2306.08543](https://arxiv.org/abs/2306.08543) ·
# Qwen Team 2025, *Qwen3*, [arXiv 2505.09388](https://arxiv.org/abs/2505.09388) ·
# Lu and Thinking Machines Lab 2025, [*On-Policy Distillation*](https://thinkingmachines.ai/blog/on-policy-distillation/) ·
# Leviathan et al. 2022, [arXiv 2211.17192](https://arxiv.org/abs/2211.17192) ·
# He et al. 2021, [arXiv 1905.10617](https://arxiv.org/abs/1905.10617) ·
# Arora et al. 2022, [arXiv 2204.01171](https://arxiv.org/abs/2204.01171) ·
# Li et al. 2026, [arXiv 2604.13016](https://arxiv.org/abs/2604.13016).
