# %% [markdown]
# # 03 · The T² factor
#
# <!-- teaches: the derivation, every line checked by autograd; where it holds and where not; SGD and AdamW -->
#
# **See why a distillation loss is multiplied by T², where the reason holds, and what the factor does to training.**
#
# You will be able to
# - *derive* the exact gradient of the KL and its high-temperature limit, checked by autograd;
# - *tell* when a temperature is high, and refute "KL(T) ≈ KL(1)/T²";
# - *translate* a loss without T² into one with T²;
# - *predict* what the factor does under SGD and under AdamW;
# - *spot* a missing T² in someone else's code.
#
# **Time:** about 35 minutes of reading and 40 of exercises; the cells run in about a minute on two CPU cores. **You
# need:** [00 · Start here](00_start_here.ipynb) and [02 · Temperature](02_temperature.ipynb). **Next:** [04 · The
# distillation loss](04_distillation_loss.ipynb). On [Colab](https://colab.research.google.com/): see notebook 00.

# %% [markdown]
# ## The question
#
# ![Arrows show the length of the soft loss's gradient for T from 1 to 16. Without T², the arrow at T = 16 is 1/182 as
# long as at T = 1. With T², it is 1.4 times as long.](drawings/03_t_squared.svg)
#
# Two engineers distil the same teacher into the same student at T = 16, from soft labels alone. Both delete the
# factor T² from the loss and change nothing else. One trains with SGD, and her student now does little better than
# guessing. The other trains with AdamW, and his student makes about as many errors as before. **What does T² do, and
# when does it matter?**

# %%
import inspect

import ipywidgets
import pandas as pd
import torch
from IPython.display import HTML

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.exercises.t_squared import SUSPECTS
from distill_helpers.course.experiments import rising_kl, t_squared
from distill_helpers.course.experiments.digits import make_mlp, predict, teacher_for, train_mlp
from distill_helpers.course.experiments.t_squared import Arm, without_t_squared
from distill_helpers.course.figures import COLOURS, figure, with_alt_text
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.t_squared import PAIRS, render_t_squared, soft_target_numbers

near = torch.testing.assert_close  # raises where two tensors differ

# %% [markdown]
# ## The derivation
#
# Take one input with $N$ classes, student logits $z$ and teacher logits $v$. At temperature $T$ their softmaxes are
# $q = \mathrm{softmax}(z/T)$ and $p = \mathrm{softmax}(v/T)$. The cost is the KL divergence, **without any factor**:
#
# $$C = \mathrm{KL}(p\,\|\,q) = \sum_j p_j \log p_j - \sum_j p_j \log q_j.$$
#
# **Line 1.** The first sum does not contain $z$, so $C$ has the same gradient in $z$ as the
# cross-entropy $-\sum_j p_j \log q_j$. Each cell checks the lines above it in double
# precision.

# %%
z = torch.tensor([2.0, 1.0, 0.5, -1.0, -0.5], dtype=torch.float64)
v = torch.tensor([5.0, 3.5, 1.0, 0.0, -2.0], dtype=torch.float64)


def cost(z, v, t):
    log_q, log_p = (z / t).log_softmax(-1), (v / t).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum()


def cross_entropy_of(z, p, t):
    return -(p * (z / t).log_softmax(-1)).sum()


def by_autograd(function, z, *more):
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(function(leaf, *more), leaf)[0]


p = (v / 3).softmax(-1)
near(by_autograd(cost, z, v, 3), by_autograd(cross_entropy_of, z, p, 3))
print("line 1: KL and cross-entropy with p have the same gradient")

# %% [markdown]
# **Line 2.** With $\log q_j = z_j/T - \log\sum_k e^{z_k/T}$,
#
# $$\frac{\partial \log q_j}{\partial z_i} = \frac{\delta_{ij} - q_i}{T}, \qquad \delta_{ij} = 1 \text{ if } i = j,
# \text{ else } 0.$$
#
# The $1/T$ is the inner derivative of $z/T$. Everywhere else, $T$ is hidden inside the softmaxes.

# %%
for T in (0.25, 1.0, 4.0, 100.0):
    q = (z / T).softmax(-1)
    jacobian = torch.autograd.functional.jacobian(lambda z, t=T: (z / t).log_softmax(-1), z)  # row j, column i
    near(jacobian, (torch.eye(5) - q) / T)
print("line 2: the derivative of log q is (δ − q)/T")

# %% [markdown]
# **Line 3.** Put line 2 into line 1, and use $\sum_j p_j = 1$:
#
# $$\frac{\partial C}{\partial z_i} = -\sum_j p_j\,\frac{\delta_{ij} - q_i}{T} = \frac{q_i - p_i}{T}.$$
#
# **Predict first:** at which temperatures does this hold?

# %%
for T in (0.1, 0.5, 1.0, 2.0, 4.0, 32.0, 1000.0):
    exact = ((z / T).softmax(-1) - (v / T).softmax(-1)) / T
    near(by_autograd(cost, z, v, T), exact, rtol=1e-9, atol=1e-15)
    with_factor = by_autograd(lambda z, t: dh.soft_target_divergence(z, v, temperature=t), z, T)
    near(with_factor, T**2 * exact, rtol=1e-3, atol=1e-6)  # the package computes in single precision
print("line 3: (q − p)/T, and T² times it in the package, at every T from 0.1 to 1000")

# %% [markdown]
# At all of them, because nothing was approximated: this $1/T$ is **exact**. A second $1/T$ comes from $q - p$, but
# only at high $T$, where both distributions become flat. There T² undoes both.
#
# **Line 4.** For small $x$, $e^x \approx 1 + x$. With $\bar z$ the mean of the logits,
#
# $$q_i = \frac{e^{(z_i - \bar z)/T}}{\sum_k e^{(z_k - \bar z)/T}} \approx \frac{1 + (z_i - \bar z)/T}{N}.$$
#
# A softmax does not change when the same number is added to all logits (**shift invariance**), so we may subtract the
# mean. The centred logits sum to 0, so the denominator is $N$. The error is of order $1/T^2$: ten times the
# temperature must leave a hundredth of it.

# %%
near((z / 3).softmax(-1), ((z + 7) / 3).softmax(-1))  # shift invariance
assert abs(by_autograd(cost, z, v, 3).sum()) < 1e-15  # so the gradient cannot move the mean
centred = z - z.mean()
errors = {T: ((z / T).softmax(-1) - (1 + centred / T) / 5).abs().max().item() for T in (20, 200, 2000)}
for T, error in errors.items():
    print(f"T = {T:4d}: largest error of line 4 is {error:.1e}")
assert 90 < errors[20] / errors[200] < 110
assert 90 < errors[200] / errors[2000] < 110

# %% [markdown]
# **Line 5.** Line 4, put into line 3 for $q$ and $p$, gives the limit of T² times the gradient. **Line 6.** Near $p =
# q$, $C \approx \frac{1}{2} \sum_j (p_j - q_j)^2/q_j$; line 4, put into this, gives the limit of T² times the cost:
#
# $$T^2\,\frac{\partial C}{\partial z_i} \to \frac{(z_i - \bar z) - (v_i - \bar v)}{N}, \qquad
# T^2\,C \to \frac{\lVert (z - \bar z) - (v - \bar v) \rVert^2}{2\,N}.$$
#
# At high temperature the student's centred logits are pulled towards the teacher's.

# %%
difference = (z - z.mean()) - (v - v.mean())
for T in (10, 100, 1000):
    gradient = by_autograd(cost, z, v, T)
    gradient_off = (T**2 * gradient - difference / 5).norm() / (difference / 5).norm()
    cost_off = abs(T**2 * cost(z, v, T) / (difference.square().sum() / 10) - 1)
    assert 1.3 < gradient_off * T < 1.6  # what is left falls like 1/T
    assert 0.3 < cost_off * T < 0.7
    print(f"T = {T:4d}: gradient {100 * gradient_off:.2f}% off its limit, cost {100 * cost_off:.2f}%")
near(by_autograd(lambda z: ((z - z.mean() - v + v.mean()) ** 2).sum() / 10, z), difference / 5)
print("lines 5 and 6: both limits, and the first is the gradient of the second")

# %% [markdown]
# In the limit the gradient falls like $1/T^2$, and T² cancels that: this is why the factor is T². (The percentages
# fall only like $1/T$: line 4's error is of order $1/T^2$, but $q - p$ itself is of order $1/T$.)
#
# ## The same in numbers
#
# **Predict first:** by which factor does the norm of the gradient $g = (q - p)/T$ fall from T = 1 to 2, and from 16
# to 32? The last column is an article's claim: KL(T) ≈ KL(1)/T².

# %%
temperatures = [1, 2, 4, 8, 16, 32]
numbers = {T: soft_target_numbers(z, v, T) for T in temperatures}
rows = {
    T: {"‖g‖": n.gradient, "T²‖g‖": T**2 * n.gradient, "KL": n.kl, "KL(1)/T²": n.kl_claimed} for T, n in numbers.items()
}
limit = (difference.norm() / 5).item()
rows["∞"] = {"‖g‖": 0.0, "T²‖g‖": limit, "KL": 0.0, "KL(1)/T²": 0.0}
for T in temperatures:
    near(by_autograd(cost, z, v, T).norm().item(), rows[T]["‖g‖"])
table = pd.DataFrame(rows).T.rename_axis("T")
table.map(lambda x: f"{x:.3g}")

# %%
for low, high in ((1, 2), (2, 4), (16, 32)):
    ratio, kl_ratio = (table[column][low] / table[column][high] for column in ("‖g‖", "KL"))
    print(f"from T = {low} to {high}: ‖g‖ falls {ratio:.1f}-fold, KL {kl_ratio:.1f}-fold")

# %% [markdown]
# Only at high temperature does each doubling of T divide the gradient and the KL by about 4. Even with the factor,
# the gradient is **not** the same at every T: T²‖g‖ grows from 0.26 to 0.71. And KL(1)/T² does not approximate the
# KL: at T = 4 it is less than a fifth of the KL.
#
# ## When is a temperature high?
#
# No temperature is high by itself. What counts is $T$ relative to the **spread** of the logits over the classes of
# one input: multiply $z$, $v$ *and* $T$ by the same number, and both softmaxes stay the same.

# %%
for c in (0.1, 3.0, 20.0):
    here, scaled = soft_target_numbers(z, v, 2.0), soft_target_numbers(c * z, c * v, c * 2.0)
    assert abs(scaled.kl - here.kl) < 1e-9
    assert abs(scaled.gradient * c - here.gradient) < 1e-9
print("logits and T times c: the same KL, and the gradient divided by c")

# %% [markdown]
# For real logits, this notebook uses scikit-learn's 1,797 digits of 8 × 8 pixels, a teacher with two layers of 400
# units and students with one layer of 128. The student here learned from hard labels for three epochs. **Predict
# first:** at T = 4, a common choice, what share of its limit does T²‖g‖ reach?

# %%
bar = ProgressWidget("teacher and student")
for _ in bar.over(range(1)):
    data, teacher = teacher_for(0)
    student = train_mlp(make_mlp((128,), seed=0), data.train_images, data.train_labels, epochs=3, seed=0)
V, Z = (predict(model, data.train_images).double() for model in (teacher, student))
spread = V.std(dim=-1, correction=0).median().item()
assert 4 < spread < 7
print(f"{len(V)} training images; the teacher's ten logits have a standard deviation of about {spread:.0f}")

# %%
apart = (Z - Z.mean(-1, keepdim=True)) - (V - V.mean(-1, keepdim=True))
grid = [0.5, 1, 2, 4, 8, 16, 32, 64]
norms = torch.stack([((Z / T).softmax(-1) - (V / T).softmax(-1)).norm(dim=-1) / T for T in grid])
shares = torch.tensor(grid, dtype=torch.float64).square()[:, None] * norms / (apart.norm(dim=-1) / 10)
low, middle, high = (100 * shares.quantile(level, dim=1) for level in (0.1, 0.5, 0.9))
at = dict(zip(grid, middle.tolist(), strict=True))

fig, axes = figure(f"T²‖g‖ overshoots its limit: {at[4]:.0f}% of it at T = 4, {at[32]:.0f}% at T = 32")
axes.fill_between(grid, low, high, color=COLOURS[3], alpha=0.4, label="80% of the images")
axes.plot(grid, middle, "o-", color=COLOURS[0], label="median image")
axes.axhline(100, color="#444444", linestyle="--", linewidth=1, label="high-temperature limit")
axes.set_xscale("log", base=2)
axes.set_xticks(grid, [f"{t:g}" for t in grid])
axes.set_xlabel("temperature T (no unit)")
axes.set_ylabel("T²‖g‖ (% of its limit)")
axes.legend(frameon=False, fontsize=8)
with_alt_text(
    fig,
    "T squared times the gradient's norm as a share of its limit, over the temperature. The median image is far below"
    " the limit at T of one half and one, just below it at 2, above it from 4 to 16, and close to it at 32 and more.",
)

# %%
assert at[1] < 60
assert 120 < at[4] < 170
assert at[8] > at[16] > at[32] > at[64] > 100
assert at[64] < 105
shown = ", ".join(f"{at[T]:.0f}% at T = {T}" for T in (1, 4, 64))
print(f"the median image has reached {shown} in this run")

# %% [markdown]
# The usual temperatures, from 1 to 8, are *not* high for this teacher, whose logits have a standard deviation of
# about 5. In the table, T²‖g‖ climbs to its limit from below; here it first overshoots.
#
# ## A KL that rises with T
#
# "KL(T) ≈ KL(1)/T²" says that the KL falls to a quarter at T = 2. **Predict first:** the student's logits are (10, 0,
# 0, −1, −2), the teacher's (10, 5, 2, −3, −4). What happens to the KL between T = 1 and T = 2?

# %%
z_sure, v_sure = (torch.tensor(values, dtype=torch.float64) for values in PAIRS["both sure of one class"])
print("z =", [int(x) for x in z_sure], " v =", [int(x) for x in v_sure])
for T in (1, 2, 4, 8):
    n = soft_target_numbers(z_sure, v_sure, T)
    print(f"T = {T}: KL {n.kl:.4f}, KL(1)/T² {n.kl_claimed:.4f}")
assert cost(z_sure, v_sure, 2) > 4 * cost(z_sure, v_sure, 1)

# %% [markdown]
# The KL rises more than four-fold. At T = 1 both models give nearly all probability to the first class, and the KL
# hardly sees that they differ about the second. At T = 2 the second class is visible in $p$, but not in $q$.
#
# **Predict first:** for the three-epoch student, on how many training images does the KL rise from T = 1 to T = 2?


# %%
def kl_rows(t):
    return dh.forward_kl((Z / t).log_softmax(-1), (V / t).log_softmax(-1))


rises = (kl_rows(2) > kl_rows(1)).double().mean().item()
assert 0.75 < rises < 0.85
print(f"this student: the KL rises on about {round(100 * rises, -1):.0f}% of the images")
of_ten_seeds = rising_kl.summary()  # of the log: ten seeds, and other students
of_ten_seeds.round(1)

# %% [markdown]
# A rising KL is the rule here. Before training the KL nearly always falls; after three epochs it rises on about 80%
# of the images or more. The table has this share (%) for ten seeds and the ratio of *mean* KLs; a mean can fall
# although most KLs rise. "T = 4" students learn from the teacher. The table's rows are snapshots of a training of 60
# epochs; the student above had three in all. Its learning rate had fallen to 0: hence its lower share.
#
# ### Drag the temperature
#
# The four pairs of logits differ in spread. **Predict first:** for which pairs is KL(1)/T² close to the KL?

# %%
controls = {
    "temperature": ipywidgets.FloatLogSlider(2.0, base=2, min=-2, max=6, step=0.5, description="T"),
    "pair": ipywidgets.Dropdown(options=list(PAIRS), description="logits", layout={"width": "24em"}),
}
explorer = live(render_t_squared, **controls)
explorer

# %%
for pair in PAIRS:
    controls["pair"].value = pair
    z_pair, v_pair = (torch.tensor(values, dtype=torch.float64) for values in PAIRS[pair])
    shown = []
    for T in (1.0, 4.0, 64.0):
        controls["temperature"].value = T
        n = soft_target_numbers(z_pair, v_pair, T)
        share, times = T**2 * n.gradient / n.gradient_limit, n.kl / n.kl_claimed
        assert f"T²·‖g‖ is {100 * share:.0f}%" in explorer.children[-1].value
        assert f"the exact KL is {times:.3g} times as much" in explorer.children[-1].value
        shown.append(f"T = {T:.0f}: {100 * share:.0f}% and {times:.3g}")
    print(f"{pair}: {'; '.join(shown)}")

# %% [markdown]
# Each line gives T²‖g‖ as a share of its limit, and the ratio of the exact KL to KL(1)/T². Above T = 1 that ratio
# stays within about 6% of 1 only for the logits divided by ten: for them, T = 1 is already high.
#
# ## What T² is for: the balance with hard labels
#
# Students often learn from hard labels too, with the loss $\alpha\,T^2\,C + (1-\alpha)\,\mathrm{CE}$. Alpha is the
# teacher's weight, and CE is the cross-entropy at T = 1. If T changes the size of the first term's gradient, T
# changes what alpha means. Hinton et al. claim that with T² the two terms *roughly* keep their relative weight when T
# changes (section 2). **Predict first:** by which factor does the ratio of the two gradients' norms vary over T = 1
# to 32, with T² and without?

# %%
hard = (Z.softmax(-1) - torch.nn.functional.one_hot(data.train_labels, 10)).norm(dim=-1).mean()
without = {T: (norm.mean() / hard).item() for T, norm in zip(grid, norms, strict=True) if 1 <= T <= 32}
with_it = {T: T**2 * ratio for T, ratio in without.items()}
change = {name: max(r.values()) / min(r.values()) for name, r in (("with", with_it), ("without", without))}

fig, axes = figure(f"T = 1 to 32: {change['with']:.1f}-fold change with T², {change['without']:.0f}-fold without")
axes.plot(list(with_it), list(with_it.values()), "o-", color=COLOURS[0], label="with T²")
axes.plot(list(without), list(without.values()), "s--", color=COLOURS[1], label="without T²")
axes.set_xscale("log", base=2)
axes.set_xticks(list(with_it), [f"{t:g}" for t in with_it])
axes.set_yscale("log")
axes.set_xlabel("temperature T (no unit)")
axes.set_ylabel("soft / hard gradient norm")
axes.legend(frameon=False)
with_alt_text(
    fig,
    "Ratio of the soft to the hard gradient's mean norm over the temperature, logarithmic. With T squared it stays"
    " between about one and four; without, it falls from one to a few thousandths.",
)

# %%
assert 2 < change["with"] < 7
assert change["without"] > 150
print(f"the balance moves {change['with']:.1f}-fold with T², {change['without']:.0f}-fold without it in this run")

# %% [markdown]
# *Roughly* is the right word: at the same alpha the teacher still weighs several times as much at T = 4 as at T = 1.
# When you change T, reconsider alpha.
#
# ## Leaving T² out is another alpha and another scale
#
# Write $\alpha C + (1-\alpha)\mathrm{CE}$ as a scale $s$ times a loss *with* T² and another $\alpha'$, and compare
# the two terms:
#
# $$\alpha\,C + (1-\alpha)\,\mathrm{CE} = s\,\big(\alpha'\,T^2 C + (1-\alpha')\,\mathrm{CE}\big)
# \;\Rightarrow\; s\,\alpha'\,T^2 = \alpha,\quad s\,(1-\alpha') = 1-\alpha.$$
#
# Divide the first equation by T² and add it to the second: $s = \alpha/T^2 + 1 - \alpha$. Then $\alpha' = \alpha/(T^2
# s)$.

# %%
T, alpha = 4.0, 0.5
rows_z, rows_v, labels = Z[:64].float(), V[:64].float(), data.train_labels[:64]
q, p = (rows_z / T).log_softmax(-1), (rows_v / T).log_softmax(-1)
C = (p.exp() * (p - q)).sum(-1).mean()
CE = torch.nn.functional.cross_entropy(rows_z, labels)
s = alpha / T**2 + 1 - alpha
other_alpha = alpha / T**2 / s
near(alpha * C + (1 - alpha) * CE, s * (other_alpha * T**2 * C + (1 - other_alpha) * CE))

config, scale = without_t_squared(T, alpha)  # the same, as the package's experiment uses it
assert abs(config.alpha - other_alpha) < 1e-12
assert abs(scale - s) < 1e-12
near(scale * dh.DistillationLoss(config)(rows_z, rows_v, labels)["total_loss"], alpha * C + (1 - alpha) * CE)
print("the loss without T² is s times the package's loss with another alpha")

# %%
settings = {(a, T): without_t_squared(T, a) for a in (0.5, 0.9, 1.0) for T in (1.0, 4.0, 16.0)}
pd.DataFrame(
    [
        {"alpha": a, "T": T, "alpha with T²": f"{c.alpha:.3f}", "scale": f"{s:.3f}"}
        for (a, T), (c, s) in settings.items()
    ]
)

# %% [markdown]
# - **Below alpha = 1** the teacher all but disappears as T grows: at T = 16, alpha = 0.5 without T² is alpha = 0.004
#   with T². The scale tends to 1 − alpha, the hard labels' weight.
# - **At alpha = 1** alpha stays 1, and the whole loss is divided by T².
#
# ## What the optimiser makes of it
#
# **SGD** steps by the learning rate times the gradient, so a loss divided by 256 acts like a learning rate divided by
# 256. **Adam** divides a running mean $m$ of the gradient by the root of a running mean $u$ of its square.
# Multiplying the loss by $c$ gives $c\,m$ and $c^2 u$:
#
# $$\frac{c\,m}{\sqrt{c^2 u} + \varepsilon} = \frac{m}{\sqrt{u} + \varepsilon/c}.$$
#
# The factor survives only beside $\varepsilon$ (10⁻⁸ by default). AdamW's weight decay acts directly on the weights,
# so it does not see the factor. **Predict first:** AdamW trains one student with T² and one without, at alpha = 1 and
# T = 16. Do their final weights differ only by rounding error, or by more?

# %%
x, v_all = data.train_images.double(), V
start = make_mlp((128,), seed=0).double()


def train_by_hand(factor, optimizer, t=16.0, clip=None, **options):
    model = make_mlp((128,), seed=0).double()
    torch.manual_seed(0)
    step = optimizer(model.parameters(), **options)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(32):
            p, log_q = (v_all[rows] / t).softmax(-1), (model(x[rows]) / t).log_softmax(-1)
            loss = factor * (p * (p.log() - log_q)).sum(-1).mean()
            step.zero_grad()
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            step.step()
    return model


def weights(model):
    return torch.cat([w.detach().flatten() for w in model.parameters()])


# %%
SGD, AdamW = torch.optim.SGD, torch.optim.AdamW
cases = {
    "SGD": {"optimizer": SGD, "lr": 0.1},
    "AdamW": {"optimizer": AdamW, "lr": 3e-3},
    "AdamW, eps 1e-16": {"optimizer": AdamW, "lr": 3e-3, "eps": 1e-16},
    "AdamW, clipped": {"optimizer": AdamW, "lr": 3e-3, "clip": 1.0},
    "Adam, L2": {"optimizer": torch.optim.Adam, "lr": 3e-3, "weight_decay": 0.01},
}
images = data.test_images.double()
results = {}
for name, case in ProgressWidget("with and without T²").over(cases.items()):
    pair = [train_by_hand(factor, **case) for factor in (16.0**2, 1.0)]
    between = (weights(pair[0]) - weights(pair[1])).abs()
    moved = (weights(pair[0]) - weights(start)).abs().median()
    a, b = (predict(model, images).argmax(-1) for model in pair)
    results[name] = {
        "largest": between.max().item(),
        "typical": (between.median() / moved).item(),
        "answers": (a != b).sum().item(),
        "kinds": len(b.unique()),
    }

# %%
fig, axes = figure("Without T², SGD changes, AdamW hardly", height=2.9)
for line, result in enumerate(results.values()):
    axes.plot(result["answers"], line, "o", color=COLOURS[line])
    axes.text(result["answers"], line, f"   weights differ by up to {result['largest']:.0e}", va="center", fontsize=8)
axes.set_xlim(-10, 700)
axes.set_yticks(range(len(results)), results)
axes.set_ylim(len(results) - 0.5, -0.5)
axes.set_xlabel("test images, of 500, that get another answer without T²")
axes.set_ylabel("optimiser")
with_alt_text(
    fig,
    "Test images that get another answer if T squared is left out: most of 500 for SGD and for Adam with L2, at most a"
    " few for AdamW, with or without clipping, and none for AdamW with a tiny epsilon.",
)

# %%
plain, exact, clipped = (results[name] for name in ("AdamW", "AdamW, eps 1e-16", "AdamW, clipped"))
assert results["SGD"]["answers"] > 300
assert plain["typical"] < 0.02
assert plain["answers"] <= 3
assert 0.01 < plain["largest"] < 0.5
assert exact["largest"] < 1e-6
assert exact["answers"] == 0
assert clipped["typical"] > 0.04
assert results["Adam, L2"]["answers"] > 300
for name, result in results.items():
    print(f"{name:17s} {round(result['answers'], -1):3d} of 500 answers differ (rounded to tens)")
print(f"Adam, L2, without T²: {results['Adam, L2']['kinds']} kind of answer for all 500 images")
print(f"AdamW: the typical weight differs by {100 * plain['typical']:.0f}% of the distance that training moved it")

# %% [markdown]
# Without T², SGD's steps are 256 times smaller, and most answers differ. Under AdamW hardly any answer differs, but
# some weights differ by up to about 0.1. That is *not* rounding error: leaving T² out sets $c = 1/T^2$ and turns
# $\varepsilon$ into $T^2\varepsilon$, which matters for weights with tiny gradients. With $\varepsilon$ shrunk to
# 10⁻¹⁶, the difference all but vanishes.

# %%
bare = train_by_hand(1.0, AdamW, lr=3e-3, eps=1e-8)
with_larger_eps = train_by_hand(16.0**2, AdamW, lr=3e-3, eps=16**2 * 1e-8)
assert (weights(bare) - weights(with_larger_eps)).abs().max() < 1e-9
faster = train_by_hand(1.0, SGD, lr=16**2 * 0.1)
with_factor = train_by_hand(16.0**2, SGD, lr=0.1)
assert (weights(faster) - weights(with_factor)).abs().max() < 1e-9
print("AdamW without T² at eps is AdamW with T² at T²·eps")
print("SGD without T² at T² times the learning rate is SGD with T²")

# %% [markdown]
# To replace T² under SGD, multiply the learning rate by T² and divide `weight_decay` by T²: torch's SGD adds the
# decay to the gradient.
#
# Two things make the factor matter to Adam again. **Clipping** compares the gradient's norm with a fixed number, so
# the factor decides how often clipping acts. The package's trainer, used from notebook 05 on, clips at 1.0, as in the
# row "AdamW, clipped". **Adam with `weight_decay`** (the row "Adam, L2") adds the decay to the gradient, as an L2
# term would. A gradient 256 times smaller loses against the decay, and the student ends up giving every image the
# same answer.
#
# ## Ten seeds, each with its learning rate
#
# Leaving T² out at the *same* learning rate is unfair: the rate may suit only the loss with T². So each student of a
# saved log (60 epochs, ten seeds) has its rate chosen on its validation images: out of seven under SGD, out of three
# under AdamW. **Predict first:** at alpha 1 and T = 16, at which rate is SGD without T² as good as with it? And
# AdamW?

# %%
wrong = t_squared.by_learning_rate() / 2  # of 200 validation images, in %
fig, axes = figure("Without T², SGD wants 256 times the rate, AdamW the same")
for optimizer, colour in (("SGD", COLOURS[4]), ("AdamW", COLOURS[0])):
    for factor, line in ((True, "o-"), (False, "s--")):
        column = wrong[optimizer, 1.0, 16, factor].dropna()
        label = f"{optimizer}, {'with' if factor else 'without'} T²"
        axes.plot(column.index, column, line, color=colour, label=label)
axes.set_xscale("log")
axes.set_yscale("log")
axes.set_xlabel("learning rate (no unit)")
axes.set_ylabel("wrong validation images (%)")
axes.legend(frameon=False, fontsize=8)
with_alt_text(
    fig,
    "Wrong validation images over the learning rate at T = 16 and alpha 1, mean of ten seeds. SGD without T squared has"
    " the same curve as with it, moved to 256 times the rate. AdamW's two curves lie on each other.",
)

# %%
table = t_squared.summary()
figures = table[["mean", "sd", "more than with T²", "± 95%"]].astype(float).round(1).astype(object)
figures.where(figures.notna(), "").join(table["learning rate"])

# %% [markdown]
# In the figure, 90% wrong means that training broke down. The table gives errors on 500 test images, how many of them
# leaving T² out adds (seed by seed), and the range of the chosen rates.
#
# - **Alpha 1, SGD:** the factor is a learning rate, nothing else. Without T², validation chooses 16 times the rate at
#   T = 4 and 256 times at T = 16. Each of these twenty students makes exactly as many errors as its partner with T².
# - **Alpha 1, AdamW**, clipped or not: mostly the same rates, and no difference that ten seeds can show.
# - **Alpha 0.5:** without T² the teacher has little weight, alpha 0.06 at T = 4 and 0.004 at T = 16. Here that costs
#   no errors that ten seeds can show. AdamW even makes fewer: by 2.8 ± 2.0 at T = 4 (1.7 ± 1.2 if clipped) and by 2.8
#   ± 1.7 at T = 16 (0.6 ± 1.6 if clipped, which may be chance).
#
# Whether T² *pays* depends on what the teacher adds to the hard labels, which are all correct here (notebook 04).
# AdamW mostly chose the highest rate of its grid; a higher one might be better still.
#
# ### A slice of the log, live
#
# SGD trains the first seed's student at T = 16 and alpha 1: with T² at a rate of 0.32, without T² at 0.32 and at 256
# times 0.32.

# %%
live_runs = {}
for factor, times in ProgressWidget("three runs").over([(True, 1), (False, 1), (False, 256)]):
    arm = Arm("SGD", 1.0, 16, factor)
    trained = t_squared.train_students(arm, 0.32 * times, seeds=(0,))[0]
    live_runs[factor, times] = trained.validation, trained.measure_test()["errors"]
(curve, with_it), (_, same_rate), (same_curve, faster_rate) = live_runs.values()
near(torch.tensor(curve), torch.tensor(same_curve), atol=0.5, rtol=0)
assert abs(with_it - faster_rate) <= 1
logged = t_squared.errors_by_seed()["SGD", 1.0, 16, True][0]
assert abs(with_it - logged) <= 8  # other processors round differently
assert 350 < same_rate < 450
print(
    f"with T²: {with_it} errors of 500 in this run, {logged:.0f} in the log; without it: about {round(same_rate, -2)}"
)
print("without T² at 256 times the rate: the validation curve that it has with T²")

# %% [markdown]
# ## Exercises
#
# Each exercise checks itself.
#
# ### Exercise 03.1 · One step of training (★★, 8 min)
#
# A student without a hidden layer has the logits `x @ weights`. Without autograd, take one step of SGD on $T^2 \cdot
# \mathrm{KL}(p\,\|\,q)$, averaged over the images, and return the new weights. Shapes: `x` (images, pixels),
# `weights` (pixels, classes), teacher logits `v` (images, classes).
#
# <details><summary>Hint 1</summary>
#
# Line 3 is the gradient for one image's logits, without T². T²/T = T, and the mean divides by the number of images.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x.T @ gradient_of_the_logits` is the gradient of the weights.
#
# </details>
#
# <!-- solution 03.1 -->


# %%
def soft_step(weights, x, v, temperature, learning_rate):
    """The weights after one step of SGD on T² · mean KL(p‖q): (pixels, classes)."""
    ...


check("03.1", soft_step)

# %% [markdown]
# ### Exercise 03.2 · From which temperature on? (★★★, 12 min)
#
# For each row of logits, return the lowest of the ascending `temperatures` *from which on*, at every temperature
# listed, T²‖g‖ is within `tolerance` of its limit (0.1 is 10% of the limit), or infinity if even the highest is too
# far off. Here g = (q − p)/T for each row.
#
# <details><summary>Hint 1</summary>
#
# Line 5 gives the limit: the norm of the difference of the *centred* logits, divided by the number of classes. In the
# figure of the digits, the median is near the limit at T = 2, but not *from there on*.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Go down from the highest temperature, and track for each row whether all so far were near the limit.
#
# </details>
#
# <!-- solution 03.2 -->


# %%
def high_from(z, v, temperatures, tolerance):
    """The lowest temperature from which on T²‖g‖ stays within the tolerance of its limit, for each row: (rows,)."""
    ...


check("03.2", high_from)

# %% [markdown]
# ### Exercise 03.3 · Spot the missing T² (★★, 10 min)
#
# Three colleagues tried to write the soft loss, the mean over the rows of $T^2 \cdot \mathrm{KL}(p\,\|\,q)$. Read
# their code and note which versions are right. Then write `is_right`, which *measures* whether a function trains a
# student as that loss does. The check tries these three functions and six that you have not seen.
#
# <details><summary>Hint 1</summary>
#
# The gradient must be line 3, times T², divided by the number of rows. Ask autograd for the function's gradient.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Choose T ≠ 1, z ≠ v and more than one row. Compare with a tolerance.
#
# </details>
#
# <!-- solution 03.3 -->

# %%
print("\n\n".join(inspect.getsource(loss).strip() for loss in SUSPECTS.values()))


# %%
def is_right(loss):
    """Whether loss(z, v, temperature) has the gradient of T² · mean KL(p‖q): True or False."""
    ...


check("03.3", is_right)

# %% [markdown]
# ### Exercise 03.4 · Settings from another library (★★★, 10 min)
#
# A library trains with SGD (no weight decay, no clipping) on `hard_weight · CE + (1 − hard_weight) · KL`, with the KL
# at temperature T **without** T². From its `hard_weight`, T and learning rate, return the pair (alpha, learning rate)
# with which SGD makes the same steps on our loss, $\alpha\,T^2\,\mathrm{KL} + (1-\alpha)\,\mathrm{CE}$.
#
# <details><summary>Hint 1</summary>
#
# Their loss gives T²·KL the weight (1 − hard_weight)/T². The two weights must keep their ratio.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Divide both weights by their sum, so that they sum to 1. Then multiply the learning rate by the same sum.
#
# </details>
#
# <!-- solution 03.4 -->


# %%
def translate(hard_weight, temperature, learning_rate):
    """Our (alpha, learning rate) for a loss without T² that SGD trains on."""
    ...


check("03.4", translate)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("03_t_squared"))

# %% [markdown]
# ## The answer
#
# With soft labels alone, T² only scales the loss. Without it, the first engineer's SGD steps at T = 16 were 256 times
# smaller: in effect, she had changed the learning rate. The second engineer's AdamW divides the scale away, except
# beside ε. Once hard labels are mixed in, T² decides what alpha means under any optimiser: without T², raising T
# silently turns the teacher down.
#
# ## Summary
#
# - The gradient of the KL is exactly (q − p)/T at every temperature; with T² it is T·(q − p).
# - The second 1/T needs T well above the spread of the logits; on the digits, T from 1 to 8 is too low.
# - KL(T) is not KL(1)/T²: once a student has begun to learn, the KL rises from T = 1 to 2 on most images.
# - Leaving T² out means another alpha and another scale: translate settings, don't copy them.
# - Under SGD the scale is a learning rate; under AdamW it cancels, but for ε and clipping.
#
# The claims of the article that this course started from, checked: [Errata](errata.md).
#
# **References.** Hinton, Vinyals, Dean: *Distilling the Knowledge in a Neural Network*, 2015, [arXiv
# 1503.02531](https://arxiv.org/abs/1503.02531), section 2 (T²) and 2.1 (equations 2 to 4, the limit) · Kingma and Ba:
# *Adam*, 2015, [arXiv 1412.6980](https://arxiv.org/abs/1412.6980), section 2.1 · Loshchilov and Hutter: *Decoupled
# Weight Decay Regularization*, 2019, [arXiv 1711.05101](https://arxiv.org/abs/1711.05101), section 2.
