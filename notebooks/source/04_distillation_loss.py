# %% [markdown]
# # 04 · The distillation loss
#
# <!-- teaches: from cross-entropy to the whole loss: direction of KL, masks, alpha, bugs to find -->
#
# **You build the distillation loss from cross-entropy and meet four mistakes that raise no error: direction, padding,
# shift and precision.**
#
# You will be able to
# - *build* the loss from cross-entropy, and *say* what each step changes in the gradient;
# - *choose* a direction of KL, and *tell* mode covering from mode seeking;
# - *mask* padding, *shift* a causal model's labels, and *keep* the KL in fp32;
# - *set* alpha by measured errors, for right and for wrong labels;
# - *fix* three faulty losses.
#
# **Time:** about 35 minutes of reading and 30 of exercises; the cells run in about half a minute on two CPU cores.
# **You need:** [00 · Start here](00_start_here.ipynb); the factor T² is derived in [03 · The T²
# factor](03_t_squared.ipynb). **Next:** [05 · Response distillation](05_response_distillation.ipynb). On
# [Colab](https://colab.research.google.com/): see notebook 00.

# %% [markdown]
# ## The question
#
# ![Teacher logits v and student logits z are divided by T, and softmax turns them into two distributions. T squared
# times their KL is weighted by alpha. The cross-entropy of z and the hard label y is weighted by one minus alpha. The
# loss is their sum.](drawings/04_distillation_loss.svg)
#
# Four colleagues measure the loss of the *same* student against the *same* teacher on the *same* 64 help-desk
# messages. They report 0.40, 0.58, 0.27 and 0.26 nats (natural logarithms), and nobody has made an arithmetic error.
#
# **Which *two* of these losses would train the same student?**

# %%
import ipywidgets
import torch
import torch.nn.functional as F
from IPython.display import HTML
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import alpha as alphas
from distill_helpers.course.experiments.fair_arms import chosen_settings
from distill_helpers.course.figures import COLOURS, figure, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.distillation_loss import GRID, bell, fit_bell, mean_and_sd, render_modes, two_peaks
from distill_helpers.course.widgets.simplex import LABEL, TEACHERS, descent, render_simplex
from distill_helpers.models.batching import encode_texts

logging.disable_progress_bar()
desk = dh.load_help_desk()
teacher, student = (dh.load_course_model(f"help-desk-{name}", device="cpu") for name in ("teacher", "student"))
y = torch.tensor(desk.validation.labels[:64])  # hard labels: one of five queues
v, z = (dh.predict_logits(model, desk.validation.texts[:64], max_length=48) for model in (teacher, student))

# %% [markdown]
# Throughout, $v$ are the teacher's logits and $z$ the student's, both (64 messages, 5 queues). Their distributions
# are $p = \mathrm{softmax}(v)$ and $q = \mathrm{softmax}(z)$.
#
# ## Step 1: cross-entropy with a hard label
#
# *The student pays −log of the probability that it gives to the right queue, $y$.* Write the hard label as a
# distribution $h$ that gives the right queue probability 1. The loss is then a sum over all queues, of which one term
# is left:
#
# $$\mathrm{CE}(h, q) = -\sum_k h_k \log q_k = -\log q_y.$$

# %%
h = F.one_hot(y, 5).float()
log_q = torch.log_softmax(z, dim=-1)
hard_ce = -(h * log_q).sum(dim=-1).mean()

package = dh.DistillationLoss(dh.DistillationConfig(alpha=0.0))(z, None, y)
torch.testing.assert_close(hard_ce, package["total_loss"])
print(f"cross-entropy with hard labels: {hard_ce:.2f} nats a message")

# %% [markdown]
# ## Step 2: the same with a soft label
#
# *The sum also works if $h$ is not one-hot.* Replace $h$ by the teacher's distribution:
#
# $$\mathrm{CE}(p, q) = -\sum_k p_k \log q_k.$$
#
# **Predict first:** can this loss reach 0? If not, where does it stop?

# %%
log_p = torch.log_softmax(v, dim=-1)
p = log_p.exp()
soft_ce = -(p * log_q).sum(dim=-1).mean()
torch.testing.assert_close(soft_ce, F.cross_entropy(z, p))  # PyTorch takes soft labels too
perfect = -(p * log_p).sum(dim=-1).mean()  # a student that gives the teacher's probabilities exactly
print(f"cross-entropy with the teacher's labels: {soft_ce:.2f}; of a perfect copy of the teacher: {perfect:.2f}")

# %% [markdown]
# No: it stops at the teacher's own **entropy** $H(p) = -\sum_k p_k \log p_k$. So the loss alone does not say how good
# the copy is.
#
# ## Step 3: subtract the teacher's entropy
#
# *What is left is the Kullback–Leibler divergence* (KL), 0 only where the two agree:
#
# $$\mathrm{KL}(p\,\|\,q) = \sum_k p_k \log\frac{p_k}{q_k} = \mathrm{CE}(p, q) - H(p).$$
#
# **Predict first:** do the losses of steps 2 and 3 pull the student in different directions?

# %%
kl = soft_ce - perfect
torch.testing.assert_close(kl, dh.forward_kl(log_q, log_p).mean())


def gradient_of(loss):
    student_logits = z.clone().requires_grad_()
    return torch.autograd.grad(loss(student_logits), student_logits)[0]


from_ce = gradient_of(lambda s: F.cross_entropy(s, p))
from_kl = gradient_of(lambda s: dh.mean_divergence(s, v))
torch.testing.assert_close(from_ce, from_kl)
torch.testing.assert_close(from_kl, (log_q.exp() - p) / len(z))
print(f"KL(teacher‖student): {kl:.2f}; its gradient is that of step 2, (q − p) / messages")

# %% [markdown]
# No: $H(p)$ does not depend on the student. Cross-entropy with soft labels and KL train **the same student**; KL is
# the better number to look at. With respect to the logits, the gradient is *student minus target*: $q-p$, or $q-h$
# for hard labels.
#
# ## Step 4: temperature, and T²
#
# *Soften both distributions, then undo what that does to the size of the gradient.* Divide both logits by the
# temperature $T$, and multiply the KL by $T^2$. Instead of $(q-p)/T$, the gradient is $T\,(q-p)$, with $p$ and $q$ at
# temperature $T$. Its *size* is the same for all $T$ only where $T$ is large against the spread of the logits
# ([notebook 03](03_t_squared.ipynb)).

# %%
T = 2.0
soft_log_p, soft_log_q = (torch.log_softmax(logits / T, dim=-1) for logits in (v, z))
soft = T**2 * (soft_log_p.exp() * (soft_log_p - soft_log_q)).sum(dim=-1)  # one number per message
torch.testing.assert_close(soft, dh.soft_target_divergence(z, v, temperature=T))

from_soft = gradient_of(lambda s: dh.mean_divergence(s, v, temperature=T))
torch.testing.assert_close(from_soft, T * (soft_log_q.exp() - soft_log_p.exp()) / len(z))
print(f"T² · KL at T = {T:g}: {soft.mean():.2f}; its gradient is T (q − p) / messages")

# %% [markdown]
# ## Step 5: both labels, weighted by alpha
#
# *The teacher gets the weight α, the hard label the rest.* The hard term stays at temperature 1, at which the student
# will be used.
#
# $$L = \alpha\,T^2\,\mathrm{KL}\big(\mathrm{softmax}(v/T)\,\|\,\mathrm{softmax}(z/T)\big)
# + (1-\alpha)\,\mathrm{CE}(h, \mathrm{softmax}(z)).$$

# %%
for alpha in (0.0, 0.7, 1.0):
    by_hand = alpha * soft.mean() + (1 - alpha) * hard_ce
    loss = dh.DistillationLoss(dh.DistillationConfig(temperature=T, alpha=alpha))
    terms = loss(z, v if alpha > 0 else None, y if alpha < 1 else None)
    torch.testing.assert_close(by_hand, terms["total_loss"])
    parts = ", ".join(f"{name} {value:.2f}" for name, value in terms.items())
    print(f"alpha = {alpha}: {parts}")

# %% [markdown]
# At α = 0 the loss needs no teacher: this is ordinary training. At α = 1 it needs no hard labels: unlabelled text
# will do. Both terms are printed unweighted; `task_loss` is the hard one.
#
# **Predict first:** at T = 1, is there *one* label whose cross-entropy has the weighted sum's gradient, whatever the
# student's logits? And the triangle: each point is a distribution over three queues, each corner one queue alone. The
# *unsure* teacher says 30, 60 and 10%, the *sure* one 1, 98 and 1%, the label 100, 0 and 0. Where does a student from
# the middle end, and does T move that point? (Arrows: the pull.)

# %%
alpha = 0.7
whole = gradient_of(
    lambda s: dh.DistillationLoss(dh.DistillationConfig(temperature=1.0, alpha=alpha))(s, v, y)["total_loss"]
)
mixed_label = alpha * p + (1 - alpha) * h
torch.testing.assert_close(whole, gradient_of(lambda s: F.cross_entropy(s, mixed_label)))
print("at T = 1 the sum of two losses is one cross-entropy, with the label α p + (1 − α) h")

dials = {
    "temperature": ipywidgets.SelectionSlider(options=[1, 2, 4, 8, 20], value=1, description="T"),
    "alpha": ipywidgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.1, description="alpha", continuous_update=False),
    "teacher": ipywidgets.Dropdown(options=list(TEACHERS), description="teacher"),
}
for name, probabilities in TEACHERS.items():
    for t in (1, 8):
        end = descent(t, 0.5, name)[-1]
        print(f"{name} teacher, alpha 0.5, T = {t}: the student ends at {end[0]:.0%} Billing")
    on_the_line = 0.5 * torch.tensor(probabilities) + 0.5 * torch.tensor(LABEL)
    torch.testing.assert_close(torch.tensor(descent(1, 0.5, name)[-1]), on_the_line, atol=0.01, rtol=0)
triangle = live(render_simplex, **dials)
triangle

# %% [markdown]
# Yes: at T = 1 alpha only **mixes the labels**, so the student ends on the dashed line between them. At other
# temperatures the two terms use different softmaxes, and no fixed label does the same. **How much T changes depends on
# the teacher**: from T = 1 to 8, the student moves from 65% to 67% Billing if the teacher is unsure, from 50% to 31% if
# it is sure.
#
# ## The direction of KL
#
# KL is not symmetric. In *forward* KL, built above, the teacher's probabilities weigh the terms; in *reverse* KL, the
# student's do:
#
# $$\underbrace{\mathrm{KL}(p\,\|\,q) = \sum_k p_k \log\frac{p_k}{q_k}}_{\text{forward: teacher}\,\|\,\text{student}}
# \qquad
# \underbrace{\mathrm{KL}(q\,\|\,p) = \sum_k q_k \log\frac{q_k}{p_k}}_{\text{reverse: student}\,\|\,\text{teacher}}$$
#
# In PyTorch, `F.kl_div(log_q, p)` is KL(p‖q): log-probabilities first, then probabilities. Pass
# `reduction="batchmean"`; the default, `"mean"`, also divides by the number of classes.

# %%
forward, reverse = dh.forward_kl(log_q, log_p).mean(), dh.reverse_kl(log_q, log_p).mean()
torch.testing.assert_close(forward, F.kl_div(log_q, p, reduction="batchmean"))  # KL(teacher‖student)
torch.testing.assert_close(reverse, F.kl_div(log_p, log_q.exp(), reduction="batchmean"))  # KL(student‖teacher)
print(f"forward KL(teacher‖student) {forward:.2f}, reverse KL(student‖teacher) {reverse:.2f}")

# %% [markdown]
# ### When the student cannot copy the teacher
#
# If the student can match the teacher exactly, both directions lead there. If it cannot, the direction decides **what
# it gives up**. Picture 161 possible answers in a row. The teacher has two peaks (left 40%, right 60%). The student
# is a bell, with a mean and a width but only one peak. We fit it from two starts and keep the better fit:

# %%
two = two_peaks(distance=5.0, right_weight=0.6)  # the teacher's log-probabilities


def fit(divergence, start):
    mean, log_sd = torch.tensor(start, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    optimizer = torch.optim.Adam([mean, log_sd], lr=0.1)
    for _ in range(250):
        optimizer.zero_grad()
        divergence(bell(mean, log_sd), two).backward()
        optimizer.step()
    return bell(mean, log_sd).detach()


for name, divergence in (("forward_kl", dh.forward_kl), ("reverse_kl", dh.reverse_kl)):
    by_hand = min((fit(divergence, start) for start in (-2.0, 2.0)), key=lambda s: divergence(s, two))
    torch.testing.assert_close(by_hand.exp(), fit_bell(two, name).exp(), atol=2e-3, rtol=0)
    mean, sd = mean_and_sd(by_hand)
    print(f"{name}: the student's mean is {mean:.1f}, its standard deviation {sd:.1f}")
print("the teacher's: {:.1f} and {:.1f}".format(*mean_and_sd(two)))

# %%
fig, axes = figure("Forward KL covers both peaks, reverse KL takes one")
axes.fill_between(GRID, two.exp(), color="#BBBBBB", label="teacher")
for colour, style, name in ((COLOURS[0], "-", "forward"), (COLOURS[4], "-.", "reverse")):
    axes.plot(GRID, fit_bell(two, f"{name}_kl").exp(), style, color=colour, linewidth=2, label=f"student, {name} KL")
axes.set_xlabel("answer (arbitrary units)")
axes.set_ylabel("probability of each of 161 answers")
axes.legend(frameon=False)
with_alt_text(
    fig,
    "A teacher with a smaller peak on the left and a larger one on the right. The student fitted by forward KL is a wide"
    " bell over both, highest in the valley between; the one fitted by reverse KL lies on the right peak alone.",
)

# %% [markdown]
# - **Forward KL covers modes (peaks).** $p \log(p/q)$ is large where the teacher's probability is high and the
#   student's low. The bell takes on the teacher's mean and width; its peak lies in the valley.
# - **Reverse KL seeks a mode.** $q \log(q/p)$ is large where the student's probability is high and the teacher's low.
#   The bell takes one peak and drops the other.
#
# A language model, unlike the bell, can have two peaks. Wu et al. (2024, abstract) distil language models and find
# neither property: after enough epochs, both directions reach the same optimum.
#
# Between forward and reverse KL lies the **generalised Jensen–Shannon divergence** (JSD; Agarwal et al. 2023,
# equation 1). With the mixture $m = \beta p + (1-\beta) q$ it is $\beta\,\mathrm{KL}(p\|m) +
# (1-\beta)\,\mathrm{KL}(q\|m)$. This vanishes at β = 0 and 1, so the package divides it by $\beta(1-\beta)$. The
# result runs continuously from forward KL (β = 0) to reverse KL (β = 1).
#
# **Predict first**, then drag: as the peaks move apart, does reverse KL let go of one gradually? (A student *holds* a
# peak if it gives the peak's side of 0 at least half of what the teacher gives.)

# %%
controls = {
    "distance": ipywidgets.FloatSlider(3.0, min=0.0, max=6.0, step=0.5, description="distance"),
    "right_weight": ipywidgets.FloatSlider(0.6, min=0.1, max=0.9, step=0.1, description="right peak"),
    "beta": ipywidgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.1, description="JSD's β"),
}
for control in controls.values():
    control.continuous_update = False  # a fit takes half a second
modes = live(render_modes, **controls)
modes


# %%
def held(row):
    return modes.children[-1].value.split(f">{row}</th>")[1].split("</td></tr>")[0].split("<td>")[-1]


for distance in (3.0, 4.0, 5.0):
    controls["distance"].value = distance
    print(f"distance {distance:g}: forward KL holds {held('forward KL')}, reverse KL {held('reverse KL')}")
for beta in (0.0, 0.3, 0.7, 1.0):
    controls["beta"].value = beta
    print(f"distance 5, β = {beta:g}: the JSD holds {held(f'JSD, β = {beta:g}')}")
    assert held(f"JSD, β = {beta:g}") == held("forward KL" if beta < 0.5 else "reverse KL")

# %% [markdown]
# No, abruptly: at distance 3.5 the reverse-KL student still has 57% right of 0; at 4, practically all. At distance 5,
# the JSD lets go between β = 0.4 and 0.5. Reverse KL drops the *smaller* peak because the best of several starts is
# kept.
#
# **Skew KL** (DistiLLM, Ko et al. 2024, section 3.1) compares the teacher with a mixture of both. The *skew* is the
# teacher's share of it. Skew reverse KL swaps the models. If the student excludes the teacher's favourite, skew KL is
# at most $-\log(\text{skew})$ instead of infinite:

# %%
excluding = torch.tensor([0.0, 0.6, 0.4]).log()
likes = torch.tensor([0.9, 0.05, 0.05]).log()
assert dh.forward_kl(excluding, likes) == torch.inf
bounded = dh.skew_kl(excluding, likes, skew=0.1)
assert bounded <= -torch.tensor(0.1).log()
print(f"the student excludes the teacher's favourite: forward KL is infinite, skew KL {bounded:.2f} (at most 2.30)")
for name, options in (
    ("forward_kl", {}),
    ("skew_kl", {"skew": 0.1}),
    ("skew_reverse_kl", {"skew": 0.1}),
    ("reverse_kl", {}),
):
    mean, sd = mean_and_sd(fit_bell(two, name, **options))
    print(f"  {name:15s} fitted to the two peaks: mean {mean:.1f}, standard deviation {sd:.1f}")

# %% [markdown]
# At skew 0.1 both fits equal plain KL's.
#
# ### What reverse KL is not
#
# The article ([errata](errata.md)) recommends reverse KL for concise outputs. Let the figure's axis be the *length of
# an answer*: 0 is 100 words, one unit 10. The teacher (distance 5) gives 60% long answers. **Predict first:** will
# the reverse-KL student's answers be shorter or longer than the teacher's on average?

# %%
words = {"teacher": two, "forward KL": fit_bell(two, "forward_kl"), "reverse KL": fit_bell(two, "reverse_kl")}
length = {name: 100 + 10 * mean_and_sd(log_p)[0] for name, log_p in words.items()}
spread = {name: 10 * mean_and_sd(log_p)[1] for name, log_p in words.items()}
for name in words:
    print(f"{name:10s} {length[name]:4.0f} words on average, ± {spread[name]:.0f}")
assert length["reverse KL"] > length["teacher"] + 10
assert spread["reverse KL"] < spread["teacher"] / 2

# %% [markdown]
# Longer, by about 20 words: reverse KL seeks the *likelier* answers, here the long ones. Mode seeking makes answers
# **less diverse**, not shorter. MiniLLM's student did drift to short answers (Gu et al. 2023, section 2.2), but
# because a sum over tokens charges long answers more; MiniLLM divides by the length.
#
# ## Masks: what counts
#
# The sequences of a batch are padded to one length. The loss must ignore the padding and divide by the number of real
# tokens. We pad eight real messages of 32 word pieces to 256; teacher and student are language models with random
# weights. **Predict first:** without a [mask](glossary.md#mask), what share of the gradient (its absolute values,
# summed) comes from padding?

# %%
pieces = [ids[:32] for ids in encode_texts(student.tokenizer, desk.validation.texts[:64]) if len(ids) >= 32][:8]
input_ids = torch.full((8, 256), student.tokenizer.pad_token_id)
input_ids[:, :32] = torch.tensor(pieces)
mask = torch.zeros(8, 256, dtype=torch.bool)
mask[:, :32] = True


def untrained(seed):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(student.tokenizer), initializer_range=0.2, **sizes))


small_teacher, small_student = untrained(1), untrained(2)
with torch.no_grad():
    v_tokens, z_tokens = (m(input_ids, attention_mask=mask.long()).logits for m in (small_teacher, small_student))
print(f"logits {tuple(z_tokens.shape)}; {100 * (~mask).double().mean():.1f}% of the positions are padding")

# %%
on_tokens = {}
for name, counted in (("no mask", None), ("mask", mask)):
    logits = z_tokens.clone().requires_grad_()
    dh.mean_divergence(logits, v_tokens, mask=counted, temperature=2.0).backward()
    size = logits.grad.abs().sum(dim=-1)
    share = (size[~mask].sum() / size.sum()).item()
    on_tokens[name] = size[mask].sum().item()
    print(f"{name:8s} {100 * share:4.1f}% of the gradient comes from padding")
print(f"without the mask the real tokens get {on_tokens['mask'] / on_tokens['no mask']:.1f} times less gradient")

# %% [markdown]
# 87.5%, the padding's share of the positions, because with random weights every position pulls about equally hard.
# The student is pulled towards what the teacher says *after a pad*, which means nothing. And a mean over 256
# positions instead of 32 leaves the real tokens an eighth of their gradient.
#
# In the package, a *position* of a sequence labelled `IGNORE_INDEX` (−100) counts in neither term. In classification,
# a *message* with that label learns from the teacher alone. The hard term is still divided by all messages, unlike
# the mean of `F.cross_entropy`: with half the labels missing, it weighs half as much. If nothing counts, loss and
# gradients are 0:

# %%
loss = dh.DistillationLoss(dh.DistillationConfig(temperature=2.0, alpha=0.5))
labels = input_ids.masked_fill(~mask, dh.IGNORE_INDEX)
by_labels = loss(z_tokens, v_tokens, labels)["soft_target_loss"]
torch.testing.assert_close(by_labels, dh.mean_divergence(z_tokens, v_tokens, mask=mask, temperature=2.0))

some = y.clone()
some[:32] = dh.IGNORE_INDEX  # half of the messages have no hard label
terms = loss(z, v, some)
torch.testing.assert_close(terms["soft_target_loss"], soft.mean())  # all 64 learn from the teacher
torch.testing.assert_close(terms["task_loss"], F.cross_entropy(z[32:], y[32:], reduction="sum") / 64)

nothing = z_tokens.clone().requires_grad_()
value = loss(nothing, v_tokens, torch.full_like(labels, dh.IGNORE_INDEX))["total_loss"]
value.backward()
print(f"an empty mask: loss {value.item()}, largest gradient {nothing.grad.abs().max().item()}")
print(f"a plain mean over no positions: {torch.empty(0).mean().item()}")

# %% [markdown]
# ## Sequences: (batch, sequence, vocabulary), and the causal shift
#
# In a language model every position is a classification, with the vocabulary as classes.
#
# In a *[causal](glossary.md#causal-model)* model, position $t$ predicts token $t+1$. The last position has no known
# next token, and no position predicts the first token. So logits lose their last position, labels and masks their
# first. At a position both models predict the same token, so in the soft term the shift only decides *which positions
# count*.
#
# **Predict first:** without the shift, what is the loss of a student that knows every next token?

# %%
knows_next = 20.0 * F.one_hot(input_ids.roll(-1, dims=1), len(student.tokenizer)).float()
for causal in (True, False):
    config = dh.DistillationConfig(alpha=0.0, causal=causal)
    print(f"causal={causal}: {dh.DistillationLoss(config)(knows_next, None, labels)['total_loss'].item():.1f}")

config = dh.DistillationConfig(temperature=2.0, alpha=0.7, causal=True)
counts = mask[:, 1:]  # position t counts where token t + 1 is a token
zs, vs, targets = z_tokens[:, :-1][counts], v_tokens[:, :-1][counts], input_ids[:, 1:][counts]
by_hand = 0.7 * dh.mean_divergence(zs, vs, temperature=2.0) + 0.3 * F.cross_entropy(zs, targets)
torch.testing.assert_close(by_hand, dh.DistillationLoss(config)(z_tokens, v_tokens, labels)["total_loss"])
print(f"{int(mask.sum())} tokens, {len(targets)} of them are predicted: one less for each of the 8 messages")

# %% [markdown]
# Near 20: the student is punished for being right. The models in `transformers` shift *inside* when you pass labels,
# so pass these unshifted; a loss of your own on their logits must do the shift itself.
#
# ## fp32, or the KL turns negative
#
# Near convergence the student's probabilities are almost the teacher's, and the KL is a small sum of large terms of
# both signs. bf16 has 8 significant bits and rounds by up to 0.4%. Here the student's logits are the teacher's plus
# noise, a new draw for each point. We compare the 64 messages and five queues with 16 positions and a vocabulary of
# 32,768, whose random logits are as widely spread as those in notebook 09. **Predict first:** KL is never negative.
# Can a computed KL be negative?


# %%
def in_bf16(student_logits, teacher_logits):
    log_q = torch.log_softmax(student_logits.bfloat16(), dim=-1)
    return F.kl_div(log_q, torch.softmax(teacher_logits.bfloat16(), dim=-1), reduction="batchmean").item()


def exact(student_logits, teacher_logits):
    a, b = (logits.bfloat16().double().log_softmax(dim=-1) for logits in (teacher_logits, student_logits))
    return (a.exp() * (a - b)).sum(dim=-1).mean().item()


def compare_precisions(teacher_logits, n_noises, repeats):
    """Columns: the true KL, computed in bf16, and by the package, which gets bf16 logits and computes in fp32."""
    found = []
    for noise in torch.logspace(0, -2.5, n_noises).repeat_interleave(repeats).tolist():
        near = teacher_logits + noise * torch.randn(teacher_logits.shape, generator=generator)
        package = dh.mean_divergence(near.bfloat16(), teacher_logits.bfloat16()).item()
        found.append((exact(near, teacher_logits), in_bf16(near, teacher_logits), package))
    return torch.tensor(found).T


# %%
generator = torch.Generator().manual_seed(0)
v_vocabulary = 4 * torch.randn(16, 32_768, generator=generator)
measured = {"5 queues": compare_precisions(v, 11, 20), "32,768 tokens": compare_precisions(v_vocabulary, 6, 4)}
for name, (true, half, ours) in measured.items():
    torch.testing.assert_close(ours, true, atol=1e-6, rtol=3e-3)
    off = (half / true - 1).abs()
    far, near, nearest = (off[(low < true) & (true < high)] for low, high in ((0.05, 1), (0.002, 0.01), (0, 1e-3)))
    assert far.max() < 0.1
    assert 0.02 < near.median() < 0.5
    assert nearest.median() > 0.5
    print(
        f"{name}: bf16 is off by {far.max():.1%} at most above 0.05 nats, by {nearest.median():.0%} in the median draw"
        f" below 0.001; the package by {(ours / true - 1).abs().max():.2%} at most in this run"
    )

# %%
fig, axes = figure("Below 0.0004 nats, KL in bf16 means nothing")
for number, (name, (true, half, _)) in enumerate(measured.items()):
    for sign, marker, which in ((1, "o", "positive"), (-1, "x", "negative (its size)")):
        if not (rows := half.sign() == sign).any():
            continue
        colour = COLOURS[(1, 4)[number]]
        axes.plot(true[rows], half[rows].abs(), marker, color=colour, markersize=4, label=f"{name}, {which}")
order = measured["5 queues"][0].argsort()
axes.plot(*measured["5 queues"][[0, 2]][:, order], color=COLOURS[0], linewidth=2, label="package: fp32 inside")
axes.set_xscale("log")
axes.set_yscale("log")
axes.set_xlabel("true KL (nats)")
axes.set_ylabel("KL computed in bf16 (nats)")
axes.legend(frameon=False, fontsize=8)
with_alt_text(
    fig,
    "Computed against true KL, both logarithmic, for five queues and a vocabulary of 32,768. The package lies on the"
    " diagonal. Values computed in bf16 follow it above a hundredth, scatter below, and below a thousandth are many times"
    " too large or negative.",
)

# %% [markdown]
# Yes: below 0.001 nats the median draw is off by several times the KL. For the queues it is often negative; for the
# vocabulary it is too high, from 0.005 nats on. At 0.3 nats, where this page's student stands, bf16 does no harm.
# **Predict first:** is the gradient right near convergence?


# %%
def direction(loss_of, noise):
    generator = torch.Generator().manual_seed(1)
    logits = (v + noise * torch.randn(v.shape, generator=generator)).bfloat16().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(logits), logits)
    exact_gradient = logits.detach().double().softmax(dim=-1) - v.bfloat16().double().softmax(dim=-1)
    return F.cosine_similarity(gradient.double().flatten(), exact_gradient.flatten(), dim=0).item()


for noise in (1.0, 0.003):
    all_bf16 = direction(lambda s: F.kl_div(s.log_softmax(-1), v.bfloat16().softmax(-1), reduction="batchmean"), noise)
    fp32_inside = direction(lambda s: dh.mean_divergence(s, v.bfloat16()), noise)
    assert fp32_inside > 0.999
    assert all_bf16 > 0.99 if noise == 1.0 else all_bf16 < 0.8
    print(f"noise {noise}: cosine with the exact gradient {all_bf16:.1f} in bf16, {fp32_inside:.1f} with fp32 inside")

# %% [markdown]
# No: the gradient is the difference of two nearly equal probabilities, and rounding decides what is left. So the
# package converts logits to fp32 *before* the softmax. The models may stay in bf16.
#
# ## Soft labels pull more steadily
#
# Hinton et al. (section 1) give a reason why soft labels help: "much less variance in the gradient between training
# cases". On notebook 03's digits, each image has a gradient g of its loss with respect to all weights of a 128-unit
# student. The *relative variance* is the mean of ‖g − mean‖² divided by ‖mean‖². Read it as a batch size: such a
# batch has as much noise as signal. A factor such as T² cancels. **Predict first:** by which factor do soft labels at
# T = 1 and at T = 20 lower it? (± is a standard deviation over ten seeds; the table has medians, each label with its
# own students.)

# %%
log = read_log("gradient-variance")
own = log[(log["epochs"] == 0) | (log["measured"] == log["trained_on"])]  # each kind of label with its own students
kinds = list(log["measured"].unique())  # hard labels first
images = own.pivot_table(index=["epochs", "seed"], columns="measured", values="relative_variance")[kinds]
factor = images.loc[0].rdiv(images.loc[0]["hard labels"], axis=0)
for name in kinds[1:]:
    print(f"before training, {name}: {factor[name].mean():.2f} ± {factor[name].std():.2f} times less than hard labels")
images.groupby("epochs").median().round(0)

# %% [markdown]
# The claim holds as far as the labels are soft. Before training, the relative variance is four times lower at T = 20,
# and hardly lower at T = 1, where this teacher's labels are nearly hard. After three epochs, the median at T = 20 is
# less than half of that with hard labels; in eight seeds of ten T = 20 is lower. After 60 epochs, T = 1 is even
# *above* hard labels, in all ten seeds.
#
# ## What alpha does to training
#
# The digits again: students of 128 units, T = 2, ten seeds, learning rate and best epoch chosen on validation. Either
# the hard labels are right, or a fifth of the student's are wrong, or the teacher was trained on these wrong labels
# too. Test and validation labels are right. **Predict first:** in which case does alpha matter most, and which alpha
# is best?

# %%
errors, table = alphas.errors_by_seed(), alphas.summary()
fig, axes = figure("Where labels are wrong, a teacher removes about half of the errors")
for number, labels_are in enumerate(alphas.LABELS):
    mean, sd = errors[labels_are].mean(), errors[labels_are].std()
    style = {"color": COLOURS[(0, 1, 4)[number]], "marker": "os^"[number], "linestyle": ("-", "--", "-.")[number]}
    axes.errorbar(mean.index + 0.012 * (number - 1), mean, yerr=sd, capsize=3, label=labels_are, **style)
axes.set_ylim(bottom=0)
axes.set_xlabel("alpha: weight of the teacher's distribution (the hard label has the rest)")
axes.set_ylabel("errors on 500 test images")
axes.legend(frameon=False, title="hard labels in training")
with_alt_text(
    fig,
    "Errors against alpha, mean and standard deviation over ten seeds. With right labels the line falls a little to alpha 0.3"
    " and rises from there on. With a fifth wrong, errors are highest at alpha 0 and less than half of that from 0.7 on; with a"
    " teacher that learned from wrong labels they fall as well, and are lowest at 0.7 and 0.9.",
)

# %%
bar = ProgressWidget("a teacher and two students")
rates = chosen_settings(read_log("alpha"))["learning_rate"]
for alpha in bar.over([0.0, 0.7]):
    arm = alphas.Arm("20% wrong", alpha)
    trained = alphas.train_students(arm, rates[arm.name, 0], seeds=(0,))[0]
    now, logged = trained.measure_test()["errors"], errors["20% wrong", alpha][0]
    assert abs(now - logged) <= 12, (alpha, now)  # other processors round differently
    print(f"seed 0, a fifth of the labels wrong, alpha {alpha}: {now} errors in this run, {logged:.0f} in the log")
figures = (
    table[["mean", "sd", "more than hard labels", "± 95%", "teacher errors"]].astype(float).round(1).astype(object)
)
figures.where(figures.notna(), "").join(table["learning rate"])

# %% [markdown]
# *More than hard labels*: errors minus those at alpha 0, seed by seed.
#
# - **Right labels:** up to alpha 0.7, ten seeds show no gain and no loss. Alpha 1, the teacher alone, costs 2.8 ± 1.4
#   errors. Label smoothing (a tenth of the label spread over all digits) needs no teacher and *saves* 3.3 ± 1.7
#   errors, more than any alpha.
# - **A fifth wrong:** alpha matters most. Hard labels alone make 28 errors, label smoothing 23, and alpha 0.7 only
#   12, as this teacher learned from right labels.
# - **The teacher misled as well:** the teacher makes 16 errors, and so does its student at alpha 0.7, against 28 at
#   alpha 0. The teacher, larger and trained with dropout and shifted images, was misled less.
#
# Hinton et al. (section 2) generally did best with a considerably lower weight on the hard term. Choose alpha on
# validation labels that you trust; include 0, 1 and label smoothing. The less you trust the training labels, the more
# weight belongs on the teacher.
#
# ## What teacher and student must share
#
# The architectures may differ, because the loss sees only logits:

# %%
for what in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"):
    sizes = [getattr(model.model.config, what) for model in (teacher, student)]
    assert sizes[0] != sizes[1]
    print(f"{what:20s} teacher {sizes[0]:6,}   student {sizes[1]:6,}")
assert teacher.label_names == student.label_names
print(f"the same: {', '.join(student.label_names)}")
try:
    dh.DistillationLoss(dh.DistillationConfig(alpha=1.0))(torch.zeros(4, 5), torch.zeros(4, 6))
except ValueError as error:
    print("five classes against six:", error)

# %% [markdown]
# Teacher and student must agree on what the logits *mean*: the classes and their order, which the loss cannot check.
# Here even the tokenizers differ. Language models must share one: their classes are the vocabulary.
#
# ## Exercises
#
# ### Exercise 04.1 · The gradient of the whole loss (★★, 8 min)
#
# Write the gradient of step 5's mean loss with respect to the student's logits, without autograd.
#
# <details><summary>Hint 1</summary>
#
# Each term's gradient is *student minus target* (steps 3 and 4).
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The soft term: $T\,(\mathrm{softmax}(z/T) - \mathrm{softmax}(v/T))$. The hard term has no temperature. Divide both
# by the number of messages.
#
# </details>
#
# <!-- solution 04.1 -->


# %%
def loss_gradient(z, v, y, temperature, alpha):
    """Gradient of DistillationLoss, (messages, classes). z, v: logits of that shape; y: hard labels, (messages,)."""
    ...


check("04.1", loss_gradient)

# %% [markdown]
# ### Exercise 04.2 · Find the bug: a loss that looks too good (★★, 5 min)
#
# This function should return T² · KL(teacher‖student), averaged over the messages. Fix its two faults in `soft_loss`.
#
# <details><summary>Hint 1</summary>
#
# How many numbers does `.mean()` average? Which model comes first in `F.kl_div`?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.kl_div(log_q, p, reduction="batchmean")` is KL(p‖q), summed over the classes and divided by the messages.
#
# </details>
#
# <!-- solution 04.2 -->


# %%
def faulty_soft_loss(z, v, temperature):
    log_p = torch.log_softmax(v / temperature, dim=-1)
    q = torch.softmax(z / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_p, q, reduction="none").mean()


print(f"should be {soft.mean():.2f}, the faulty function gives {faulty_soft_loss(z, v, T):.2f}")


def soft_loss(z, v, temperature):
    """T² · KL(teacher‖student), mean over the messages: a scalar. z, v: logits, (messages, classes)."""
    ...


check("04.2", soft_loss)

# %% [markdown]
# ### Exercise 04.3 · Find the bug: a loss that shrinks with padding (★★, 8 min)
#
# This function should return the mean KL(teacher‖student) over the positions that count, but its value depends on how
# far the messages are padded. Fix this in `masked_kl`, which must also return 0 if nothing counts and survive NaN
# logits of either model at padded positions.
#
# <details><summary>Hint 1</summary>
#
# What does it divide by? What is NaN times 0?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `z[mask]` keeps only the rows that count, (tokens, vocabulary). Divide a sum by `max(len(…), 1)`.
#
# </details>
#
# <!-- solution 04.3 -->


# %%
def faulty_masked_kl(z, v, mask):
    p, log_q = torch.softmax(v, dim=-1), torch.log_softmax(z, dim=-1)
    per_position = F.kl_div(log_q, p, reduction="none").sum(dim=-1)
    return (per_position * mask).mean()


unpadded = faulty_masked_kl(z_tokens[:, :32], v_tokens[:, :32], mask[:, :32])
for longest in (64, 256):
    part = [tensor[:, :longest] for tensor in (z_tokens, v_tokens, mask)]
    print(f"padded to {longest}: {faulty_masked_kl(*part) / unpadded:.3f} of the loss without padding")


def masked_kl(z, v, mask):
    """KL(teacher‖student), mean over the True positions: a scalar. z, v: (batch, sequence, vocabulary); mask: bool."""
    ...


check("04.3", masked_kl)

# %% [markdown]
# ### Exercise 04.4 · Find the bug: a language model that is punished for being right (★★★, 8 min)
#
# This function should return a causal language model's cross-entropy. It gives a perfect student a high loss, and
# runs only by chance: five positions are left, for five vocabulary entries. Fix its two faults in
# `causal_cross_entropy`.
#
# <details><summary>Hint 1</summary>
#
# Which position should predict token $t$? Which dimension does `F.cross_entropy` take for the classes?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Shift first, then `flatten(0, 1)` the logits and `flatten()` the labels.
#
# </details>
#
# <!-- solution 04.4 -->


# %%
def faulty_causal_cross_entropy(z, labels):
    return F.cross_entropy(z[:, 1:], labels[:, :-1], ignore_index=-100)


sentence = torch.tensor([[0, 1, 2, 3, 4, 1], [2, 2, 0, 4, 3, 1]])  # six tokens out of a vocabulary of five
perfect_student = 20.0 * F.one_hot(sentence.roll(-1, dims=1), 5).float()
print(
    f"a student that knows every next token: {faulty_causal_cross_entropy(perfect_student, sentence):.1f}, should be 0.0"
)


def causal_cross_entropy(z, labels):
    """Mean over the labels that are not −100: a scalar. z: (batch, sequence, vocabulary); labels: (batch, sequence)."""
    ...


check("04.4", causal_cross_entropy)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("04_distillation_loss"))

# %% [markdown]
# ## The answer
#
# **0.58 and 0.27 train the same student**, step for step. Cross-entropy with the teacher's labels (0.58) and
# KL(teacher‖student) (0.27) differ by the teacher's entropy, a constant. Cross-entropy with hard labels (0.40) has
# another target. KL(student‖teacher) (0.26) leads to the same student only if it can copy the teacher exactly.
#
# Training on the teacher's labels alone (notebook 00) has left this student a KL gradient almost perpendicular to the
# hard labels' (cosine 0.1).

# %%
gradients = {
    "0.40": gradient_of(lambda s: F.cross_entropy(s, y)),
    "0.58": from_ce,
    "0.27": from_kl,
    "0.26": gradient_of(lambda s: dh.mean_divergence(s, v, divergence="reverse_kl")),
}
for name, gradient in gradients.items():
    same = torch.allclose(gradient, from_kl, atol=1e-6)
    cosine = F.cosine_similarity(gradient.flatten(), from_kl.flatten(), dim=0)
    print(f"{name}: {'the same gradient as' if same else 'another gradient than'} 0.27, cosine {cosine:.1f}")
untrained = torch.full_like(z, 1 / 5) - torch.stack([h, p])  # student minus target, all queues alike
cosine = F.cosine_similarity(*untrained.flatten(1), dim=0)
print(f"before training: cosine {cosine:.1f} between the gradients of the hard and of the soft labels")

# %% [markdown]
# ## Summary
#
# - Cross-entropy with soft labels and KL differ by a constant and train the same student.
# - The loss is α T² KL of the softened distributions plus 1 − α times the hard label's cross-entropy. At T = 1 alpha
#   mixes the labels.
# - Forward KL covers modes, reverse KL seeks one, where both cannot be had; neither prefers short answers.
# - Mask, divide by the positions that count, shift causal labels, compute in fp32: no error reminds you.
# - With a fifth of the student's hard labels wrong, alpha 0.7, also best by validation, more than halved the errors
#   (28 to 12). With right ones, alpha 1 cost 2.8 ± 1.4 errors.
#
# The article's claims, checked: [Errata](errata.md).
#
# **References.** Hinton, Vinyals, Dean 2015, [arXiv 1503.02531](https://arxiv.org/abs/1503.02531) · Agarwal et al.
# 2023, *GKD*, [arXiv 2306.13649](https://arxiv.org/abs/2306.13649) · Gu et al. 2023, *MiniLLM*, [arXiv
# 2306.08543](https://arxiv.org/abs/2306.08543) · Ko et al. 2024, *DistiLLM*, [arXiv
# 2402.03898](https://arxiv.org/abs/2402.03898) · Wu et al. 2024, *Rethinking Kullback–Leibler Divergence*, [arXiv
# 2404.02657](https://arxiv.org/abs/2404.02657).
