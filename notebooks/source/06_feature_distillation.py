# %% [markdown]
# # 06 · Feature distillation
#
# <!-- teaches: inside the teacher: hidden states, attention, relations; layer maps, projectors, masks; when features pay -->
#
# **Write every feature loss in ten lines, see what each one teaches and leaves out, and measure which is worth its
# trouble.**
#
# You will be able to
# - *see* where each attention head of the teacher looks;
# - *map* the student's layers to the teacher's, and *project* where widths differ;
# - *build* losses on hidden states, attention, relations and embeddings;
# - *check* which weights each loss trains;
# - *decide* by measurement whether features are worth it.
#
# **Time:** about 40 minutes of reading and 35 of exercises; the cells run in about a minute and a half on two CPU
# cores. **You need:** [04 · The distillation loss](04_distillation_loss.ipynb) and [05 · Response
# distillation](05_response_distillation.ipynb). **Next:** [07 · Landmark systems](07_landmark_systems.ipynb). On
# [Colab](https://colab.research.google.com/): see notebook 00 and the [README](../README.md).

# %% [markdown]
# ## The question
#
# ![A 6-layer teacher, 384 wide, beside a 3-layer student, 192 wide. The student's layers follow teacher layers 1, 3 and
# 5. Hidden states need a projector from 192 to 384. Maps of tokens by tokens have the same size in
# both.](drawings/06_feature_distillation.svg)
#
# So far the student has learned from five numbers a message, the logits of the help-desk teacher. Inside, each of the
# teacher's six layers computes much more: 384 numbers for *each token*, and twelve maps of which token looks at
# which.
#
# These inner values are called **features**. Here a student of three random layers, half as wide, learns from them
# too. **Which of them help: [hidden states](glossary.md#hidden-state), attention, [relations](glossary.md#relation),
# embeddings?** Rank the four now; the answer comes at the end, from five seeds.

# %%
import copy
import math
import tempfile
from pathlib import Path

import ipywidgets
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import HTML, display
from safetensors.torch import load_file
from transformers import PrinterCallback, TrainingArguments
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments.feature_terms import RESPONSE, TERMS, feature_config, summary
from distill_helpers.course.figures import COLOURS, figure, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.feature_distillation import MAPS, entry_pairs, render_attention, render_layer_map
from distill_helpers.models.batching import encode_texts, pad_batch

# %%
logging.disable_progress_bar()
logging.set_verbosity_error()
near = torch.testing.assert_close  # raises where two tensors differ
desk = dh.load_help_desk()
teacher = dh.load_course_model("older-help-desk-teacher", device="cpu")
student = dh.narrow_student(teacher, hidden_size=192, n_layers=3, seed=0)
for name, model in (("teacher", teacher), ("student", student)):
    n_layers, width, n_heads = dh.ModelShape.of(model.model)
    print(f"{name}: {n_layers} layers, {width} wide, {n_heads} heads of {width // n_heads}")

# %% [markdown]
# *Features are compared token by token*, so both models must read the same tokens: `narrow_student` takes over the
# teacher's tokenizer. The word embeddings start as the teacher's, reduced to 192 numbers by PCA; the layers start
# random. This teacher, older than notebook 05's, gets 78.3% of the test messages right, not 80.3%.
#
# ## Looking inside
#
# `capture_features` records what a forward pass computes: the **embeddings** (the first layer's input), each layer's
# output (its **hidden state**), and each layer's **queries, keys and values**, from which attention follows.

# %%
token_ids = encode_texts(teacher.tokenizer, desk.validation.texts[:16], 48)
batch = pad_batch(token_ids, teacher.tokenizer)
mask = batch["attention_mask"].bool()  # (messages, tokens): True where there is a token
with torch.no_grad(), dh.capture_features(teacher.model) as t, dh.capture_features(student.model) as s:
    teacher.model(**batch)
    student.model(**batch)
for name in ("embeddings", "hidden.0", "hidden.5", "queries.5", "values.5"):
    print(f"{name:10s} {tuple(t[name].shape)}")
print(f"{len(t.tensors)} tensors of the teacher; {mask.double().mean():.0%} of the positions are tokens")

# %% [markdown]
# Shapes are (messages, positions, width), and (messages, heads, positions, width) for queries, keys and values.
# Layers are counted from 0. **Predict first:** attention usually comes from `output_attentions=True`. For how many of
# the six layers does it return maps?

# %%
attentions = teacher.model(**batch, output_attentions=True).attentions
print(f"attention implementation {teacher.model.config._attn_implementation!r}: {len(attentions)} maps")
loss = sum((a.mean() for a in attentions), torch.tensor(0.0))
print(f"a loss that sums over the layers: {loss.item()}, and nothing complains")
assert len(attentions) == 0

teacher.model.set_attn_implementation("eager")
with torch.no_grad():
    eager = teacher.model(**batch, output_attentions=True).attentions
teacher.model.set_attn_implementation("sdpa")
pairs = mask[:, None, :, None] & mask[:, None, None, :]  # both are tokens, (messages, 1, queries, keys)
for layer in range(6):
    near(t.attention(layer, mask), eager[layer] * pairs, rtol=1e-4, atol=1e-5)
print("from queries and keys: the attention that the slow, eager implementation reports")

# %% [markdown]
# None. Fast attention (SDPA, the default) never stores its probabilities, and transformers 5 returns an empty tuple,
# over which any sum is 0. Either load the model with `attn_implementation="eager"` and raise an error on an empty
# tuple, or compute attention from recorded queries and keys, as the package does:
#
# $$\text{scores} = \frac{Q K^\top}{\sqrt{d}}, \qquad \text{attention} = \mathrm{softmax}(\text{scores}).$$
#
# $Q$ and $K$ are the queries and keys of one head, (tokens, $d$), with $d=32$ in the teacher. Padded keys get
# $-\infty$ before the softmax.
#
# ### Where does the teacher look?
#
# Type a message of your own, then move the sliders. **Predict first:** is there a head that nearly always looks at
# the *previous* token?

# %%
controls = {
    "message": ipywidgets.Text(
        "My screen stays black since I put a new video card into the PC, and Windows will not start.",
        continuous_update=False,
        description="message",
        layout={"width": "48em"},
    ),
    "layer": ipywidgets.IntSlider(0, 0, 5, description="layer"),
    "head": ipywidgets.IntSlider(0, 0, 11, description="head"),
}


def teacher_attention(message, layer, head):
    return render_attention(message, layer, head, model=teacher)


explorer = live(teacher_attention, **controls)
explorer


# %%
def shown():
    rows = explorer.children[-1].value.split("<tbody>")[1].split("</tbody>")[0].split("</tr>")[:-1]
    return {row.split("</th>")[0].split(">")[-1]: int(row.split("<td>")[1].split("%")[0]) for row in rows}


jobs = {(0, 2): ("the previous token", 75), (1, 8): ("the next token", 30), (1, 11): ("[CLS]", 75)}
for message in ("how do i print from x windows to a laser printer on another host", controls["message"].value):
    controls["message"].value = message
    for (layer, head), (place, percent) in jobs.items():
        controls["layer"].value, controls["head"].value = layer, head
        assert shown()[place] > percent, (message, layer, head, shown())
for (layer, head), (place, percent) in jobs.items():
    print(f"layer {layer}, head {head}: more than {percent}% on {place}, in both messages")
on_cls = [(t.attention(layer, mask)[..., 0].sum(-1) / mask.sum(1, keepdim=True)).mean(0) for layer in range(6)]
print("heads with more than half on [CLS], by layer:", [int((share > 0.5).sum()) for share in on_cls])

# %% [markdown]
# Yes: head 2 of layer 0 gives the *previous* token more than 75%. Head 8 of layer 1 gives the *next* token more than
# 30%. In layers 1 to 4, three to seven of the twelve heads put most of their attention on [CLS], the token before
# every message.
#
# ## Hidden states, and a projector
#
# *Make the student's hidden state equal to the teacher's.* The widths are 192 and 384, so a linear map, the
# **[projector](glossary.md#projector)** $W$, first widens the student's hidden state; it is trained along with the
# student. TinyBERT, a four-layer BERT, uses the squared error (equation 8; the bias $b$ is ours). For a message of
# $n$ tokens with hidden states $h^S_i$ (student) and $h^T_i$ (teacher),
#
# $$L_\text{hidden} = \frac{1}{n} \sum_{i \text{ is a token}} \frac{1}{384}\,\lVert W h^S_i + b - h^T_i \rVert^2.$$


# %%
def mean_over_tokens(per_token, mask):
    return (per_token * mask).sum(dim=1) / mask.sum(dim=1)  # padding neither adds to the sum nor to the count


def squared_error(student_hidden, teacher_hidden, mask):
    return mean_over_tokens((student_hidden - teacher_hidden).square().mean(dim=-1), mask)


torch.manual_seed(0)
projector = torch.nn.Linear(192, 384)
with torch.no_grad():
    projected = projector(s["hidden.2"])
    by_hand = squared_error(projected, t["hidden.5"], mask)
near(by_hand, dh.hidden_state_loss(projected, t["hidden.5"], mask))
print(f"one number for each of {len(by_hand)} messages; mean {by_hand.mean():.2f}")
try:
    dh.hidden_state_loss(s["hidden.2"], t["hidden.5"], mask)
except ValueError as error:
    print("without projector:", error)

# %% [markdown]
# Code that *skips* layers of different widths silently returns a loss of 0.
#
# ### Padding
#
# **Predict first:** both models compute *some* hidden state at padded positions. Pad four messages to 38, 64, 128 and
# 512 positions. What share of the gradient of `F.mse_loss` over all positions falls on padding?

# %%
shares = {}
for longest in (38, 64, 128, 512):
    width = longest - mask.shape[1]
    padded = {name: F.pad(tensor[:4], (0, width)) for name, tensor in batch.items()}  # [PAD] is entry 0
    with torch.no_grad(), dh.capture_features(teacher.model, ["hidden.5"]) as far_t:
        teacher.model(**padded)
    with torch.no_grad(), dh.capture_features(student.model, ["hidden.2"]) as far_s:
        student.model(**padded)
    hidden, wide_mask = projector(far_s["hidden.2"]).detach().requires_grad_(), padded["attention_mask"].bool()
    (plain,) = torch.autograd.grad(F.mse_loss(hidden, far_t["hidden.5"]), hidden)
    size = plain.norm(dim=-1)
    shares[longest] = (size[~wide_mask].sum() / size.sum()).item()
    masked = dh.hidden_state_loss(hidden, far_t["hidden.5"], wide_mask)
    near(masked, by_hand[:4], rtol=1e-3, atol=1e-4)  # however far it is padded
    (clean,) = torch.autograd.grad(masked.mean(), hidden)
    assert clean[~wide_mask].abs().max() == 0
print("the padding's share:", ", ".join(f"{longest}: {share:.0%}" for longest, share in shares.items()))
assert 0.1 < shares[38] < 0.3
assert shares[512] > 0.9

# %% [markdown]
# Nearly a fifth at 38, the longest message of the batch, and more than nine tenths at 512: the student learns to
# imitate nonsense. The masked loss is the same at every length, and its gradient at padded positions is 0.
#
# The package divides by *each message's own* token count, so all messages count equally. It also detaches the teacher
# and sets padded positions to 0 *before* squaring, since infinity times 0 is not a number (exercise 06.2).
#
# ## Which layer follows which
#
# *The student follows every k-th layer, and the last follows the last.* For $n$ layers, `output_hidden_states`
# returns $n+1$ entries, and entry 0 is **the embeddings**, not a layer. Maps that forget this go wrong. In TinyBERT's
# map, the student's entry $m$ follows the teacher's entry $k\,m$; $k$ is the ratio of depths. With layers counted
# from 0, without embeddings, layer $m$ follows layer $k\,(m+1)-1$: the **uniform** map.

# %%
for n_student, n_teacher in ((6, 12), (3, 6), (2, 6)):
    k = n_teacher // n_student
    uniform = tuple((m, k * (m + 1) - 1) for m in range(n_student))
    assert uniform == dh.layer_map("uniform", n_student, n_teacher)
    print(f"{n_student} of {n_teacher}: teacher layers {[layer for _, layer in uniform]}")

# %% [markdown]
# Set the two depths and choose a map: *last* takes the teacher's last layers; *alternating* takes evenly spread
# layers, both ends included, like those that DistilBERT copies. The article that this course corrects
# ([Errata](errata.md)) has two formulas for $n_S$ of $n_T$ layers: *article: uniform* multiplies the student's entry
# by $(n_T+1)/(n_S+1)$ and rounds down; *article: last* takes the teacher's last $n_S+1$. **Predict first:** for 6 of
# 12, what does the student's last layer follow by the first formula? And its embeddings by the second?

# %%
map_controls = {
    "n_student": ipywidgets.IntSlider(3, 1, 12, description="student"),
    "n_teacher": ipywidgets.IntSlider(6, 1, 12, description="teacher"),
    "mapping": ipywidgets.Dropdown(options=MAPS, description="map"),
}
maps = live(render_layer_map, **map_controls)
maps

# %%
for n_student, n_teacher in ((6, 12), (3, 6)):
    map_controls["n_teacher"].value, map_controls["n_student"].value = n_teacher, n_student
    for mapping in MAPS:
        map_controls["mapping"].value = mapping
        followed = [entry for _, entry in entry_pairs(n_student, n_teacher, mapping)]
        verdict = maps.children[-1].value.split("<p><b>")[1].split(".</b>")[0]
        print(f"{n_student} of {n_teacher}, {mapping:16s} entries {followed}: {verdict.lower()}")
map_controls["n_student"].value, map_controls["n_teacher"].value, map_controls["mapping"].value = 4, 6, "uniform"
assert "whole ratio" in maps.children[-1].value
print("4 of 6, uniform: refused")

# %% [markdown]
# For a shallower student, the first formula never reaches the teacher's last layer, from which the teacher's answer
# is made: with 6 of 12, the student's last layer follows entry 11, which is layer 10. The second formula pulls the
# student's *embeddings* towards a layer half-way up. The package pairs embeddings with embeddings, and refuses a
# uniform map unless the ratio is whole.
#
# ## The direction alone: cosine
#
# *Match a vector's direction, not its length.* DistilBERT (section 2) adds $1-\cos(h^S_i,h^T_i)$ to its loss; its
# code compares only the **last** hidden states, 768 wide in both models. Here the student's hidden states first pass
# through the projector.


# %%
def one_minus_cosine(student_hidden, teacher_hidden, mask):
    product = (student_hidden * teacher_hidden).sum(dim=-1)
    cosine = product / (student_hidden.norm(dim=-1) * teacher_hidden.norm(dim=-1))
    return mean_over_tokens(1 - cosine, mask)


by_hand = one_minus_cosine(projected, t["hidden.5"], mask)
near(by_hand, dh.cosine_loss(projected, t["hidden.5"], mask))
near(dh.cosine_loss(5 * projected, t["hidden.5"], mask), by_hand)
print(f"1 − cosine: {by_hand.mean():.2f}, the same for a student five times as long; a random direction gives about 1")

# %% [markdown]
# ## Attention: scores or distributions
#
# *Corresponding heads should look at the same places.* TinyBERT (equation 7) compares the scores **before** the
# softmax, $a_{hij}$ for query $i$ and key $j$ in head $h$, over all pairs of tokens and all $H$ heads:
#
# $$L_\text{scores} = \frac{1}{H\,n^2} \sum_{h} \sum_{i, j \text{ are tokens}} (a^S_{hij} - a^T_{hij})^2.$$
#
# MiniLM (section 3.1) compares the last layer's probabilities, **after** the softmax: one distribution a query. The
# loss is KL(teacher‖student), averaged over heads and queries. Neither loss needs a projector: a map is tokens ×
# tokens at any width.


# %%
def head_scores(features, layer):
    queries, keys = features[f"queries.{layer}"], features[f"keys.{layer}"]
    return queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])


def score_error(student_scores, teacher_scores, mask):
    pairs = mask[:, None, :, None] & mask[:, None, None, :]  # padding neither as query nor as key
    squared = (student_scores - teacher_scores).square().mean(dim=1, keepdim=True)
    return (squared * pairs).sum(dim=(1, 2, 3)) / pairs.sum(dim=(1, 2, 3))


def attention_kl(student_scores, teacher_scores, mask):
    no_key = ~mask[:, None, None, :]  # no token looks at padding
    log_q, log_p = (x.masked_fill(no_key, -1e9).log_softmax(dim=-1) for x in (student_scores, teacher_scores))
    per_query = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean(dim=1)  # mean over the heads
    return mean_over_tokens(per_query, mask)  # and over the queries that are tokens


by_scores, by_kl = (compare(head_scores(s, 2), head_scores(t, 5), mask) for compare in (score_error, attention_kl))
near(by_scores, dh.attention_score_loss(s.attention_scores(2), t.attention_scores(5), mask))
near(by_kl, dh.attention_distribution_loss(s.attention_scores(2), t.attention_scores(5), mask))
print(f"last layers: scores, squared error {by_scores.mean():.1f}; distributions, KL {by_kl.mean():.1f} nats a query")

# %% [markdown]
# ### Why not the squared error of probabilities?
#
# It is the obvious third choice, and the article's. **Predict first:** if the text gets twice as long, what happens
# to each of the three losses?

# %%
words = [token for ids in encode_texts(teacher.tokenizer, desk.train.texts[:40], 48) for token in ids[1:-1]]
first, last = teacher.tokenizer.cls_token_id, teacher.tokenizer.sep_token_id
losses = {}
for length in (16, 32, 64, 128, 256, 512):
    ids = torch.tensor([[first, *words[: length - 2], last]])
    every = torch.ones_like(ids)
    with torch.no_grad(), dh.capture_features(teacher.model) as long_t, dh.capture_features(student.model) as long_s:
        teacher.model(input_ids=ids, attention_mask=every)
        student.model(input_ids=ids, attention_mask=every)
    scores = long_s.attention_scores(2), long_t.attention_scores(5)
    losses[length] = {
        "scores, squared error": dh.attention_score_loss(*scores, every).item(),
        "distributions, KL": dh.attention_distribution_loss(*scores, every).item(),
        "probabilities, squared error": F.mse_loss(*(x.softmax(dim=-1) for x in scores)).item(),
    }
relative = (pd.DataFrame(losses).T / pd.Series(losses[16])).rename_axis("tokens")  # that of 16 tokens is 1
assert relative["probabilities, squared error"][512] < 0.02
assert relative.loc[512, ["scores, squared error", "distributions, KL"]].between(0.5, 4).all()
print("at 512 tokens: " + "; ".join(f"{name} {value:.0e}" for name, value in losses[512].items()))
relative.map(lambda x: f"{x:.1g}" if x < 0.5 else f"{x:.1f}")

# %% [markdown]
# The table gives each loss relative to that at 16 tokens. In long texts, the squared error of probabilities vanishes:
# over ever more keys, each probability shrinks, and its square much more. At 512 tokens, the error of the scores has
# grown by half, and the KL has doubled.
#
# ### Why heads may not be averaged
#
# If the numbers of heads differ, averaging over heads makes the shapes fit. **Predict first:** move every head of the
# teacher's layer 1 one place on: head 9 does what head 8 did. How large is the loss against the original, head by
# head and averaged?

# %%
scores = t.attention_scores(1)
moved = scores.roll(1, dims=1)  # head 9 now does what head 8 did
by_heads = dh.attention_score_loss(moved, scores, mask).mean().item()
averaged = F.mse_loss(moved.mean(dim=1), scores.mean(dim=1)).item()
assert averaged < 1e-9
print(f"squared error of the scores: {by_heads:.0f} by heads, {averaged:.0f} averaged")
print("no head is where it was, and the averaged loss sees none of it")
try:
    dh.attention_score_loss(t.attention_scores(1)[:, :4], t.attention_scores(1), mask)
except ValueError as error:
    print(error)

# %% [markdown]
# The average of a head that looks back and one that looks ahead is a blur that many other pairs share. The package
# refuses unequal numbers of heads, and names the way out: relations.
#
# ## Relations
#
# *Compare how vectors relate within a model, not the vectors.* MiniLM (section 3.2) asks which tokens have similar
# **values** $V$, by a softmax over their products. The loss is again KL(teacher‖student), here of the **relations**
#
# $$R = \mathrm{softmax}\Big(\frac{V V^\top}{\sqrt{d}}\Big), \quad \text{tokens × tokens, for each head.}$$


# %%
def relation_kl(student_vectors, teacher_vectors, mask):
    own = [x @ x.transpose(-1, -2) / math.sqrt(x.shape[-1]) for x in (student_vectors, teacher_vectors)]
    return attention_kl(*own, mask)


by_hand = relation_kl(s["values.2"], t["values.5"], mask)
near(by_hand, dh.relation_loss(s["values.2"], t["values.5"], mask))
print(f"MiniLM's value relations, 12 heads of 16 against 12 of 32: {by_hand.mean():.2f} nats")

# %% [markdown]
# Relations need no projector either, but heads are still compared one by one. **MiniLMv2** (section 3.1), which also
# relates queries and keys, joins a layer's heads and splits the whole width into any number of **relation heads**
# that divides both widths. The numbers of attention heads may then differ. Here the student has four:

# %%
four = dh.create_transformer(teacher.label_names, len(teacher.tokenizer), hidden_size=192, n_layers=3, n_heads=4)
with torch.no_grad(), dh.capture_features(four) as f:
    four(**batch)


def cut_anew(vectors, n_relation_heads):  # (messages, heads, tokens, head width)
    whole = vectors.transpose(1, 2).flatten(start_dim=2)  # (messages, tokens, width)
    return whole.unflatten(-1, (n_relation_heads, -1)).transpose(1, 2)


for kind in ("queries", "keys", "values"):
    by_hand = relation_kl(cut_anew(f[f"{kind}.2"], 24), cut_anew(t[f"{kind}.5"], 24), mask)
    near(by_hand, dh.relation_loss(f[f"{kind}.2"], t[f"{kind}.5"], mask, n_heads=24))
print("MiniLMv2, 24 relation heads: 4 heads of 48 against 12 of 32, of queries, keys and values")
near(cut_anew(t["values.5"], 12), t["values.5"])  # with the model's own number it changes nothing

# %% [markdown]
# ## Embeddings, and all of it together
#
# *Start alike.* TinyBERT (equation 9) also compares the embeddings, with the hidden states' loss and another
# projector. `FeatureTerms` combines all these losses: it builds the projectors and averages over the mapped layers.
# We check it against our own functions:

# %%
everything = dh.DistillationConfig(
    alpha=1.0,
    embedding_loss_weight=1.0,
    intermediate_layers=True,
    cosine_loss_weight=1.0,
    attention_matching=True,
    attention_loss_weight=0.1,
    relations=("values",),
)
shapes = dh.ModelShape.of(student.model), dh.ModelShape.of(teacher.model)
terms = dh.FeatureTerms(everything, *shapes, seed=0)
print("layers:", ", ".join(f"{a} → {b}" for a, b in terms.pairs))
print("projectors:", ", ".join(terms.projectors))

# %%
mapped, W = ((0, 1), (1, 3), (2, 5)), terms.projectors
with torch.no_grad():
    last = W["hidden_2_to_hidden_5"](s["hidden.2"])
    projections = [W[f"hidden_{a}_to_hidden_{b}"](s[f"hidden.{a}"]) for a, b in mapped]
    mine = {
        "embedding_loss": [squared_error(W["embeddings_to_embeddings"](s["embeddings"]), t["embeddings"], mask)],
        "hidden_loss": [
            squared_error(x, t[f"hidden.{b}"], mask) for x, (_, b) in zip(projections, mapped, strict=True)
        ],
        "cosine_loss": [one_minus_cosine(last, t["hidden.5"], mask)],
        "attention_loss": [score_error(head_scores(s, a), head_scores(t, b), mask) for a, b in mapped],
        "relation_loss": [relation_kl(s[f"values.{a}"], t[f"values.{b}"], mask) for a, b in mapped],
    }
    values = terms(s, t, batch["attention_mask"])
    z, v = student.model(**batch).logits, teacher.model(**batch).logits
    loss = dh.DistillationLoss(everything, terms)
    whole = loss(z, v, student_features=s, teacher_features=t, attention_mask=batch["attention_mask"])["total_loss"]
total = dh.mean_divergence(z, v, temperature=everything.temperature)
print(f"the student before its training: response_loss {total:.1f}", end="")
for name, by_layer in mine.items():
    print(f", {name} {values[name].mean():.1f}", end="")
    near(values[name], torch.stack(by_layer).mean(dim=0))
    total = total + everything.feature_weights[name] * values[name].mean()
near(total, whole)
print("\nfive terms, each ours; weighted and added to the response loss, they are DistillationLoss")

# %% [markdown]
# ## What does each term teach?
#
# A loss that is not 0 can leave most of a student untouched, so look at the gradients. **Predict first:** which terms
# train the classifier on top? Which train the last layer's values?

# %%
PARTS = {
    "embeddings": ["embeddings"],
    "layer 0": ["layer.0."],
    "layer 1": ["layer.1."],
    # Not their biases: a key's bias adds the same to all scores of a query, and the softmax takes it out.
    "layer 2: queries, keys": ["layer.2.attention.self.query.weight", "layer.2.attention.self.key.weight"],
    "layer 2: values": ["layer.2.attention.self.value"],
    "layer 2: the rest": ["layer.2.attention.output", "layer.2.intermediate", "layer.2.output"],
    "classifier": ["pooler", "classifier"],
}


def arrives(parameters):
    found = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in parameters]
    return "all" if all(found) else "some" if any(found) else "–"


def named(words):
    return [p for name, p in student.model.named_parameters() if any(word in name for word in words)]


# %%
reach = {}
for terms_on, choices in TERMS.items():
    config = dh.DistillationConfig(alpha=1.0, response_loss_weight=float(terms_on == RESPONSE), **choices)
    alone = dh.FeatureTerms(config, *shapes) if config.uses_features else None
    names = ((), ()) if alone is None else (alone.student_names, alone.teacher_names)
    with dh.capture_features(student.model, names[0]) as own, dh.capture_features(teacher.model, names[1]) as others:
        logits = student.model(**batch).logits
        target = teacher.model(**batch).logits  # with a graph: that nothing flows back is the loss's business
    features = {"student_features": own, "teacher_features": others, "attention_mask": batch["attention_mask"]}
    student.model.zero_grad()
    dh.DistillationLoss(config, alone)(logits, target, **features)["total_loss"].backward()
    reach[terms_on] = {part: arrives(named(words)) for part, words in PARTS.items()}
    reach[terms_on]["projectors"] = arrives(alone.parameters()) if alone and len(alone.projectors) else "has none"
assert all(p.grad is None for p in teacher.model.parameters())
reach = pd.DataFrame(reach).T
assert (reach["classifier"] == "–").sum() == len(TERMS) - 1
assert (reach.drop("+ embeddings")[["embeddings", "layer 0", "layer 1"]] == "all").all(axis=None)
reach

# %% [markdown]
# *All*: every tensor of the part got a gradient; *–*: none did. Despite the +, the rows below the first are feature
# terms *alone*.
#
# - Every term except embeddings trains all of layers 0 and 1, since what layer 2 computes depends on both.
# - In the **last** mapped layer, attention terms train only queries and keys, value relations only values. Neither
#   teaches what the layer does with them.
# - **No feature term trains the classifier**: features alone leave it random. TinyBERT therefore matches predictions
#   last; below, we add the terms to the response loss.
# - The teacher gets no gradient.
#
# ## On and off
#
# The article's training loop *asks* the student for hidden states but passes no features to the loss, so its switch
# `intermediate_layers` changes nothing. Any switch can be tested in seconds: train briefly with it off, twice; on
# with a weight of 0; and on. **Predict first:** which of the four students must be equal, bit for bit?

# %%
few = desk.train.sample(0.02, seed=0)
few_data = dh.DistillationDataset(few.texts, few.labels, None, teacher.tokenizer, 48)


def short_run(**choices):
    start = copy.deepcopy(student.model)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=1,
        per_device_train_batch_size=16,
        learning_rate=1e-3,
        seed=0,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    config = dh.DistillationConfig(alpha=1.0, **choices)
    collate = dh.DistillationCollator(teacher.tokenizer)
    trainer = dh.DistillationTrainer(
        start, config, arguments, teacher=teacher, train_dataset=few_data, data_collator=collate
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


# %%
switches = {
    "off": {},
    "off, again": {},
    "on, weight 0": {"intermediate_layers": True, "hidden_loss_weight": 0.0},
    "on, weight 1": {"intermediate_layers": True},
}
after, trainers = {}, {}
for name in ProgressWidget("four short runs").over(switches):
    trainers[name] = short_run(**switches[name])
    before = {key: value.clone() for key, value in trainers[name].model.state_dict().items()}
    _ = trainers[name].train()
    after[name] = trainers[name].model.state_dict()
for name in list(switches)[1:]:
    same = all(torch.equal(after["off"][key], after[name][key]) for key in after["off"])
    print(f"{name:12s} {'bit-identical with' if same else 'different from'} off")
    assert same == (name != "on, weight 1")

# %% [markdown]
# All but the last are equal, so the switch works.
#
# ### Projectors train, and then go
#
# A projector outside the optimizer stays random, and the student must imitate the teacher through a random map. This
# happens if you forget to add it, or keep it in a plain Python list (exercise 06.4). **Predict first:** how many more
# parameters than before will the saved student have?

# %%
trainer = trainers["on, weight 1"]  # `before` are the weights before its training
optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
for name, parameter in trainer.loss_fn.feature_terms.projectors.named_parameters():
    assert id(parameter) in optimised
    assert not torch.equal(parameter, before[f"distillation_projectors.{name}"])
print(f"{len(trainer.loss_fn.feature_terms.projectors)} projectors, all in the optimizer, and all moved")

taught, folder = trainer.model.eval(), Path(tempfile.mkdtemp())
with torch.no_grad():
    with_projectors = taught(**batch).logits
    dh.remove_projectors(taught)
    assert torch.equal(taught(**batch).logits, with_projectors)
taught.save_pretrained(folder)
saved = load_file(folder / "model.safetensors")
assert not [key for key in saved if "projector" in key]
assert sum(tensor.numel() for tensor in saved.values()) == student.model.num_parameters()
print("saved: as many parameters as before the training, none of a projector; the answers do not change")

# %% [markdown]
# None. `train_student_with_distillation` removes the projectors before it saves.
#
# ## What features cost
#
# Notebook 05 cached the teacher's *logits*, five numbers a message. How much space would the teacher's features take,
# in fp16?

# %%
tokens = sum(map(len, encode_texts(teacher.tokenizer, desk.train.texts, 48))) / len(desk.train)
print(f"{tokens:.0f} tokens a message on average; logits: {5 * 2} bytes a message")
for name in list(TERMS)[1:]:
    needed = dh.FeatureTerms(feature_config(name), *shapes).teacher_names
    print(f"{name:50s} {len(needed):2d} features, {tokens * len(needed) * 384 * 2 / 1000:4.0f} kB a message")

# %% [markdown]
# Thousands of times as much. `precompute_teacher_features` reports the size before it starts and refuses above a
# limit. With `teacher=`, as in `short_run`, the teacher runs beside the student instead, once for every message and
# epoch.
#
# ## Which term is worth it?
#
# We train this notebook's student for six epochs on all 2,517 training messages, without a transfer set. The response
# loss is T² · KL at T = 2. Each further row of the table adds one term, the last row three, with a weight of 1 (0.1
# for attention scores, the largest of the terms printed above). **No weight was tuned**, so each row is *a first
# try*.
#
# The log below comes from `python -m distill_helpers.course.experiments.feature_terms`. **Predict first:** which
# terms help in every seed?

# %%
log = read_log("feature-terms")
fig, axes = figure("On all messages, untuned, no term gains a point", width=7.5, height=4.2)
runs = log[log["share"] == 1.0].pivot_table(index="seed", columns="terms", values="accuracy") * 100
gains = runs.sub(runs[RESPONSE], axis=0).reindex(columns=list(TERMS))
assert gains.shape == (5, len(TERMS))  # five seeds of everything
display(summary().round(1))
for row, terms_on in enumerate(list(TERMS)[1:]):
    axes.plot(gains[terms_on], [row] * len(gains), "o", color=COLOURS[0], alpha=0.6, markersize=5)
    axes.plot(gains[terms_on].mean(), row, "|", color=COLOURS[0], markersize=14, markeredgewidth=2.5)
axes.axvline(0, color="#444444", linestyle="--", linewidth=1)
axes.set_yticks(range(len(TERMS) - 1), [name.replace(", att", ",\natt") for name in list(TERMS)[1:]])
axes.set_ylim(len(TERMS) - 1.5, -0.5)
axes.set_xlabel("gain in test accuracy over response alone, same seed (points)")
axes.set_ylabel("term")
with_alt_text(
    fig,
    "For each of seven additions to the response loss, the change of test accuracy in points against the response loss alone"
    " with the same seed, five seeds each. Most points lie within one and a half of zero, on both sides; those of the hidden"
    " states and of the three terms together lie to the left, but for one.",
)

# %% [markdown]
# The *10%* columns belong to the next section. *Gain* over the response loss alone is taken seed by seed; *won*
# counts the seeds with a gain; *± sd* is the spread over seeds, not notebook 05's 95% interval. In the figure, bars
# are means.
#
# - **No term gains a point on average.** Attention scores gain 0.6 points with a spread of 0.9, and lose in one seed.
#   Value relations gain 0.4 with a spread of 0.3, in every seed. Suppose none of the seven terms helps: in about one
#   table out of six, one of them will still win on all five seeds, by luck.
# - **Hidden states made the student worse** in four seeds of five, and the three terms together in all five. One
#   guess: imitation at every token leaves a narrow student less capacity for the answer.
#
# ### And with a tenth of the messages?
#
# Now the student reads 252 messages instead of 2,517, each four times as often: 40% of the steps. Three rows run
# again: the response alone; value relations, which helped in every seed; and hidden states, which hurt most.
#
# **These two terms were chosen by the test accuracies above** and are judged by the same test messages. Notebook 05
# forbids this, since it flatters a gain. **Predict first:** do features help more or less when messages are few?

# %%
from distill_helpers.course.experiments.feature_terms import run as run_term

for _ in ProgressWidget("one run of fifteen").over(range(1)):
    here = run_term(RESPONSE, 0.1, seed=0)["accuracy"]
of_tenth = log[log["share"] == 0.1].pivot_table(index="seed", columns="terms", values="accuracy")
assert abs(here - of_tenth.loc[0, RESPONSE]) < 0.04, (here, of_tenth.loc[0, RESPONSE])
print(f"the response alone: {here:.1%} in this run, {of_tenth.loc[0, RESPONSE]:.1%} in its line of the log")
changes = 100 * of_tenth.sub(of_tenth[RESPONSE], axis=0).drop(columns=RESPONSE)
for name, gain in changes.items():
    print(f"{name:18s} {gain.mean():+5.1f} points on average, better in {(gain > 0).sum()} of {len(gain)} seeds")

# %% [markdown]
# (Seed 0, run live, is the lowest of five; their mean is 65.0%.) Hidden states now cost nine points on average, and
# hurt in every seed. Value relations gain 1.2 points with a spread of 1.8, which five seeds cannot tell from zero.
#
# So **start with the response loss**, and spend the first effort on more text. If you add a feature term, tune its
# weight on validation messages, over several seeds.
#
# When do features pay? Perhaps *before* there is a task: on general text MiniLM and TinyBERT match features alone.
# TinyBERT's paper fits this: without the losses on hidden states and attention, the mean of four scores falls from
# 75.6 to 56.3 (Table 3), because the layers then learn nothing before the task.
#
# ## Exercises
#
# ### Exercise 06.1 · Find the bug: the layer that nobody follows (★★, 6 min)
#
# Models return `hidden_states` with the embeddings first. The function below should say which teacher entry each
# student entry follows by the uniform map. Correct it in `followed_entries`, and raise a `ValueError` if the ratio of
# depths is not whole.
#
# <details><summary>Hint 1</summary>
#
# What should stand at the two ends of the list? Which ratio gives that?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $k$ is the ratio of *layers*: $n_T / n_S$. TinyBERT's map is $k\,m$ for $m=0,\dots,n_S$.
#
# </details>
#
# <!-- solution 06.1 -->


# %%
def faulty_followed_entries(n_student, n_teacher):
    return [int(entry * (n_teacher + 1) / (n_student + 1)) for entry in range(n_student + 1)]


print("6 of 12:", faulty_followed_entries(6, 12), "  2 of 6:", faulty_followed_entries(2, 6))


def followed_entries(n_student, n_teacher):
    """For each entry 0 … n_student of the student's hidden_states the teacher's entry: a list of whole numbers."""
    ...


check("06.1", followed_entries)

# %% [markdown]
# ### Exercise 06.2 · Find the bug: a loss that changes with what nobody reads (★★, 8 min)
#
# Only *padded* positions of the teacher are changed below, yet the loss changes. Correct the loss in `hidden_loss`:
# one number a message, gradients for student and projector, none for the teacher. Infinite teacher values at padded
# positions must reach neither loss nor gradient.
#
# <details><summary>Hint 1</summary>
#
# Over what does `F.mse_loss` take its mean? What is infinity times 0? And the gradient of infinity squared, times 0?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Set the *difference* to 0 at padded positions (`masked_fill(~mask[..., None], 0.0)`), then square, take the mean
# over the width, sum over the positions and divide by `mask.sum(dim=1)`.
#
# </details>
#
# <!-- solution 06.2 -->


# %%
def faulty_hidden_loss(student, teacher, mask, projector):
    return F.mse_loss(projector(student), teacher)


spoilt = t["hidden.5"].masked_fill(~mask[..., None], 9.0)
for what, target in (("as it is", t["hidden.5"]), ("padding spoilt", spoilt)):
    print(f"{what}: {faulty_hidden_loss(s['hidden.2'], target, mask, projector):.1f}")


def hidden_loss(student, teacher, mask, projector):
    """(messages,). student, teacher: hidden states, (messages, tokens, width); mask: bool, (messages, tokens)."""
    ...


check("06.2", hidden_loss)

# %% [markdown]
# ### Exercise 06.3 · Whose job does a head do? (★★★, 15 min)
#
# For each head of the student, find the teacher's head whose attention is nearest, by KL(teacher‖student). As above,
# padding counts neither as query nor as key, and messages count equally. The numbers of heads may differ, and two
# student heads may share an answer. With student `moved` and teacher `scores`, the answer is `[11, 0, 1, …, 10]`.
#
# <details><summary>Hint 1</summary>
#
# Compare all pairs at once: (messages, student's heads, teacher's heads, queries, keys). `x[:, :, None]` and `x[:,
# None]` make room for the other model's heads.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Follow `attention_kl`: fill padded keys, `log_softmax`, sum over keys, mean over a message's own queries. Then take
# the mean over messages and `argmin` over the teacher's heads.
#
# </details>
#
# <!-- solution 06.3 -->


# %%
def nearest_heads(student, teacher, mask):
    """For each head of the student a head of the teacher: whole numbers, (student's heads,).

    student, teacher: scores, (messages, heads, tokens, tokens); mask: bool, (messages, tokens)."""
    ...


check("06.3", nearest_heads)

# %% [markdown]
# ### Exercise 06.4 · Find the bug: projectors that never learn (★, 4 min)
#
# `projectors` is a plain list of `nn.Linear`. Write `optimizer_for`: its optimizer gets everything that should learn,
# and nothing else.
#
# <details><summary>Hint 1</summary>
#
# Which parameters does an optimizer know? Whose must not be among them?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.nn.ModuleList` registers the modules that it is given; a plain list registers nothing.
#
# </details>
#
# <!-- solution 06.4 -->


# %%
def faulty_optimizer_for(student, projectors, teacher):
    student.projectors = projectors  # so that they go along with the student
    return torch.optim.AdamW(student.parameters(), lr=1e-3)


toy, layers = torch.nn.Linear(192, 5), [torch.nn.Linear(192, 384) for _ in range(3)]
known = {id(p) for group in faulty_optimizer_for(toy, layers, None).param_groups for p in group["params"]}
print(f"projectors in the optimizer: {sum(id(layer.weight) in known for layer in layers)} of {len(layers)}")


def optimizer_for(student, projectors, teacher):
    """An optimizer of everything that should learn. student, teacher: modules; projectors: a list of modules."""
    ...


check("06.4", optimizer_for)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("06_feature_distillation"))

# %% [markdown]
# ## The answer
#
# With all messages, at a first try, none of the four gained a point on average: attention scores and value relations
# gained about half a point, which may be luck, and embeddings nothing; hidden states cost accuracy. With a tenth,
# value relations gained 1.2 points, within their spread, and hidden states cost nine (terms that these test messages
# had chosen).
#
# More text for the *response* was worth 4.9 points to the smaller student of [05](05_response_distillation.ipynb).
#
# ## Summary
#
# - Features are compared token by token: both models read the same tokens, and padding never counts.
# - Entry $m$ follows entry $k\,m$, with the embeddings as entry 0, so the last follows the last.
# - Unequal widths need projectors, which belong in the optimizer but not in the saved model; unequal numbers of heads
#   need relation heads.
# - Test that a term is on: the weights change, gradients arrive, and no loss is silently 0.
# - Start with the response loss: with all messages, no untuned term gained a point.
#
# The article's claims, checked: [Errata](errata.md).
#
# **References.** Jiao et al. 2019, *TinyBERT*, [arXiv 1909.10351](https://arxiv.org/abs/1909.10351) · Sanh et al.
# 2019, *DistilBERT*, [arXiv 1910.01108](https://arxiv.org/abs/1910.01108) · Wang et al. 2020, *MiniLM*, [arXiv
# 2002.10957](https://arxiv.org/abs/2002.10957) · Wang et al. 2020, *MiniLMv2*, [arXiv
# 2012.15828](https://arxiv.org/abs/2012.15828) · Romero et al. 2014, *FitNets* (projectors), [arXiv
# 1412.6550](https://arxiv.org/abs/1412.6550).
