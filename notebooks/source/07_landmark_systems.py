# %% [markdown]
# # 07 · Landmark systems
#
# <!-- teaches: DistilBERT, TinyBERT, MiniLM, Phi-2 and prune-then-heal as recipes that run, beside what their papers say -->
#
# **Run the recipes of DistilBERT, TinyBERT, MiniLM, Phi-2 and prune-then-heal on your own teacher, and compare what
# the papers report with what we measure here.**
#
# You will be able to
# - *say* what each system did, and where a common summary of it is wrong;
# - *run* each recipe on your own teacher, and *read* its heart in ten lines;
# - *count* a student's parameters before you build it;
# - *filter* messages that a language model wrote;
# - *judge* an ablation by its paired differences over seeds.
#
# **Time:** about 40 minutes of reading and 30 of exercises; the cells run in about two minutes on two CPU cores.
# **You need:** [05 · Response distillation](05_response_distillation.ipynb), and [06 · Feature
# distillation](06_feature_distillation.ipynb) for the feature losses. **Next:** [08 · API
# distillation](08_api_distillation.ipynb). On [Colab](https://colab.research.google.com/): see notebook 00.

# %% [markdown]
# ## The question
#
# ![A timeline. DistilBERT, 2019, copies layers. TinyBERT, 2019, MiniLM and MiniLMv2, 2020, match hidden states,
# attention or relations. Phi-1 and Phi-2, 2023, learn from text that larger models wrote or selected. Minitron and
# Llama 3.2, 2024, are pruned and healed with logits. Gemma 2, 2024, is trained on a teacher's
# distributions.](drawings/07_landmark_systems.svg)
#
# Our teacher has six layers, 384 wide. You want a student with about a third of its layer parameters, or fewer. The
# course's article has a table of five landmark systems. **Which of their recipes loses least here, and which part of
# it does the work: the copied weights, the soft targets, or the matched attention?** Keep a guess.


# %%
import itertools
import math
import tempfile
import warnings
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import HTML
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers.utils import logging

import distill_helpers as dh
from distill_helpers.course.exercises import check
from distill_helpers.course.experiments import freezing, landmark_ablations, landmarks
from distill_helpers.course.figures import COLOURS, dot_figure, figure, with_alt_text
from distill_helpers.course.logs import read_log
from distill_helpers.course.progress import ProgressWidget
from distill_helpers.course.quiz import render_quiz
from distill_helpers.course.widgets import live
from distill_helpers.course.widgets.landmark_systems import PUBLISHED, parameter_counts, render_filters, render_student

# %%
from distill_helpers.landmarks import Training, distilbert, tinybert
from distill_helpers.llm import SyntheticMessage, filter_messages, write_messages
from distill_helpers.models import load_language_model

logging.disable_progress_bar()
work = Path(tempfile.mkdtemp())  # students of this notebook; gone with the machine's temporary files
desk = dh.load_help_desk()
teacher = dh.load_course_model("help-desk-teacher", device="cpu")

# %% [markdown]
# ## What a student costs
#
# A transformer's parameters sit in its **embeddings**, which grow with vocabulary × width, and in its **layers**,
# which grow with depth × width². For a width $w$ and $f$ feed-forward neurons, a layer has
#
# $$4\,(w^2 + w) + (2\,w f + f + w) + 4\,w$$
#
# parameters: four matrices of the attention, two of the feed-forward half, two norms. The number of heads plays no
# part.
#
# **Predict first:** DistilBERT keeps 6 of BERT-base's 12 layers and all of its embeddings. What share of BERT-base is
# left? In TinyBERT (4 layers, 312 wide), which has shrunk by the larger factor, the layers or the whole model?

# %%
sizes = {
    "layers": ipywidgets.IntSlider(6, 1, 24, description="layers"),
    "width": ipywidgets.IntSlider(768, 48, 1008, 12, description="width"),
    "heads": ipywidgets.SelectionSlider(options=[1, 2, 3, 4, 6, 12], value=12, description="heads"),
    "feed_forward": ipywidgets.IntSlider(3072, 48, 4080, 48, description="neurons"),
    "vocabulary": ipywidgets.SelectionSlider(options=[1_000, 5_000, 15_000, 30_522, 50_265], value=30_522, description="vocabulary"),
}  # fmt: skip
designer = live(render_student, **sizes)
designer

# %%
bert = parameter_counts(PUBLISHED["BERT-base"])
for name in ("DistilBERT, 6-layer MiniLM", "TinyBERT, 4 layers", "our teacher"):
    shape = PUBLISHED[name]
    for size, value in shape._asdict().items():
        sizes[size].value = value
    embeddings, layers = parameter_counts(shape)
    assert f"<td>{layers:,}</td>" in designer.children[-1].value
    whole, inside = (embeddings + layers) / sum(bert), layers / bert[1]
    print(f"{name}: {whole:.0%} of BERT-base as a whole, {inside:.0%} of its layers", end=" ")
    print(f"({1 / whole:.1f} and {1 / inside:.1f} times smaller)")

# %% [markdown]
# - **DistilBERT** is 39% smaller (40% in its paper), and has 50% of the layers' parameters, the kind of figure that
#   MiniLM's abstract quotes.
# - **TinyBERT** is 7.6 times smaller (7.5 in its paper), and its layers nearly 19 times: two thirds of it are
#   embeddings.
# - **Our teacher** is half embeddings. The students below keep its vocabulary, so we compare the parameters in the
#   *layers*, where the time goes.
#
# ## Row 1 · DistilBERT
#
# *The paper* (sections 2 and 3) gives the student half of BERT-base's layers, **initialised from the teacher's own**,
# and three losses: soft targets, masked language modelling, and the cosine between hidden states. Their code has T =
# 2, matches only the last hidden states, and copies layers 0, 2, 4, 7, 9, 11, not 1, 3, 5, 7, 9, 11 as the article
# says.
#
# In words: *spread the student's layers evenly over the teacher's, first and last included.* In symbols, student
# layer $i$ of $n$, counted from 0, takes layer $i\,\frac{N-1}{n-1}$ of the teacher's $N$, rounded to the nearest,
# halves down. In code:


# %%
def evenly_spread(n, n_teacher):
    step = (n_teacher - 1) / (n - 1)
    return [math.ceil(i * step - 0.5) for i in range(n)]


for n, n_teacher in ((6, 12), (3, 6), (2, 6)):
    assert evenly_spread(n, n_teacher) == dh.alternating_layers(n, n_teacher)
    print(f"{n} of {n_teacher}: {evenly_spread(n, n_teacher)}")

# %% [markdown]
# The triple loss in words: *five parts soft targets, two parts the task, one part the direction of the last hidden
# states.* The weights are those of the paper's code. In the symbols of notebook 04, with the cosine averaged over
# each message's tokens:
#
# $$L = \tfrac{5}{8}\,T^2\,\mathrm{KL}(p\,\|\,q) + \tfrac{2}{8}\,\mathrm{CE}(z, y)
# + \tfrac{1}{8}\,\big(1 - \cos(h_{\text{student}}, h_{\text{teacher}})\big), \qquad T = 2$$

# %%
student = dh.cut_layers(teacher, dh.alternating_layers(2, 6))
inputs = teacher.tokenizer(desk.train.texts[:16], padding=True, truncation=True, max_length=48, return_tensors="pt")
y, real = torch.tensor(desk.train.labels[:16]), inputs["attention_mask"].bool()
with torch.no_grad(), dh.capture_features(teacher.model) as in_teacher:
    v = teacher.model(**inputs).logits
with torch.no_grad(), dh.capture_features(student.model) as in_student:
    z = student.model(**inputs).logits

soft = 2**2 * F.kl_div((z / 2).log_softmax(-1), (v / 2).softmax(-1), reduction="batchmean")
task = F.cross_entropy(z, y)
apart = 1 - F.cosine_similarity(in_student["hidden.1"], in_teacher["hidden.5"], dim=-1)
cosine = ((apart * real).sum(dim=1) / real.sum(dim=1)).mean()  # a mean over each message's own tokens
triple = (5 * soft + 2 * task + 1 * cosine) / 8

# alpha divides the response's 7/8 between soft and hard: 5/7 of 7/8 is 5/8.
config = dh.DistillationConfig(temperature=2.0, alpha=5 / 7, response_loss_weight=7 / 8, cosine_loss_weight=1 / 8)
terms = dh.FeatureTerms(config, dh.ModelShape.of(student.model), dh.ModelShape.of(teacher.model))
features = {"student_features": in_student, "teacher_features": in_teacher, "attention_mask": inputs["attention_mask"]}
package = dh.DistillationLoss(config, terms)(z, v, y, **features)
assert torch.allclose(triple, package["total_loss"])
print("the ten lines and the package agree; terms:", ", ".join(list(package)[1:]))

# %% [markdown]
# The recipe is one call. Here it reads a tenth of the messages and 250 windows: enough to show a large effect, not to
# measure it.
#
# **Predict first:** with `from_teacher=False`, the same call starts from random weights. How many points are the
# copied weights worth here?


# %%
tenth = dh.TextSplits(
    desk.train.sample(0.1, seed=0),
    desk.validation.subset(range(0, len(desk.validation), 4)),
    desk.test.subset(range(0, len(desk.test), 4)),
    desk.transfer,
)
quick = {"epochs": 2, "learning_rate": 5e-4, "n_transfer": 250, "max_length": 48, "device": "cpu", "progress": False}


def accuracy(student):
    return dh.evaluate(student, tenth.test, max_length=48)["accuracy"]


short = {"copied, not trained": accuracy(dh.cut_layers(teacher, dh.alternating_layers(2, 6)))}
for start in ProgressWidget("two students").over(("teacher", "random")):
    training = Training(output_dir=work / start, cache_dir=work / "targets", **quick)
    with warnings.catch_warnings(record=True) as said:
        student = distilbert(teacher, tenth, training, n_layers=2, from_teacher=start == "teacher")
    short[start] = accuracy(student.classifier)

# %%
for name, score in short.items():
    print(f"{name}: {score:.0%} of these messages in this run")
print("the package warned of the last one:", str(said[0].message).split(":")[0])
assert short["teacher"] > short["copied, not trained"] + 0.1
assert short["copied, not trained"] > short["random"] + 0.1
assert short["random"] < 0.3

# %% [markdown]
# After so few steps the random student still guesses. The copied layers give a **head start**; the full runs below
# measure its worth.
#
# ## Row 2 · TinyBERT
#
# *The paper* (section 3) distils on Wikipedia first, then on the task's augmented texts. We copy the second part, in
# **two stages**. Stage 1 matches embeddings, hidden states and attention scores on a uniform map of layers (equations
# 7 to 9). Stage 2 matches the predictions at T = 1 (equation 10). The teacher is BERT-**base**, not BERT-large as in
# the article.
#
# Notebook 06 has the losses of stage 1; only the order is new: *first be like the teacher inside, then say what the
# teacher says.* In code, on 64 messages:


# %%
def dataset(part):
    logits = dh.precompute_teacher_logits(teacher, part.texts, max_length=48, device="cpu", progress=False)
    return dh.DistillationDataset(part.texts, part.labels, logits, teacher.tokenizer, max_length=48)


few = dh.TextSplits(desk.train.subset(range(64)), desk.validation.subset(range(32)), desk.test)
like_the_teacher = dh.DistillationConfig(
    response_loss_weight=0.0, intermediate_layers=True, attention_matching=True, embedding_loss_weight=1.0
)
say_what_it_says = dh.DistillationConfig(temperature=1.0, alpha=1.0)

# %%
student = dh.narrow_student(teacher, n_layers=3, hidden_size=96, seed=0)
once = {"n_epochs": 1, "learning_rate": 1e-3, "device": "cpu", "progress": False}
for stage, config in enumerate((like_the_teacher, say_what_it_says)):
    student = dh.train_student_with_distillation(
        student,
        dataset(few.train),
        dataset(few.validation),
        config,
        output_dir=work / f"stage {stage}",
        teacher=teacher if config.uses_features else None,  # it runs beside the student
        **once,
    ).classifier

training = Training(
    epochs=1, learning_rate=1e-3, n_transfer=0, max_length=48, live_teacher=True, output_dir=work / "tinybert",
    device="cpu", progress=False,
)  # fmt: skip
recipe = tinybert(teacher, few, training, n_layers=3, hidden_size=96)
for a, b in zip(student.model.parameters(), recipe.model.parameters(), strict=True):
    assert torch.allclose(a, b, atol=1e-6)
print("two stages by hand and one call of tinybert: the same weights")

# %% [markdown]
# ## Row 3 · MiniLM
#
# *The paper* (section 3) matches **only the last layer**: its [attention
# distributions](glossary.md#attention-distribution) and, new in this paper, the *relations of its values*, softmax(v
# vᵀ/√d). So the student may have any depth. Version 2 (section 3.1 of its paper) matches relations of queries, keys
# and values, cut into the same number of **relation heads** in both models. So the student may have any number of
# attention heads.
#
# In words: *join a token's heads, and cut the result into pieces, the relation heads. In each piece, take a token's
# products with all tokens: their softmax says which tokens are alike. The loss is the KL between teacher and
# student.*
#
# **Predict first:** the student below is half as wide as the teacher. Both are cut into 24 relation heads. How wide
# is one in each?


# %%
student = dh.narrow_student(teacher, n_layers=3, hidden_size=192, n_heads=6, seed=0)
with torch.no_grad(), dh.capture_features(student.model) as in_student:
    student.model(**inputs)


def relations(vectors, n):  # (messages, heads, tokens, head width)
    joined = vectors.transpose(1, 2).flatten(start_dim=2)  # (messages, tokens, width)
    pieces = joined.unflatten(-1, (n, -1)).transpose(1, 2)  # (messages, n, tokens, width / n)
    alike = (pieces @ pieces.transpose(-1, -2) / pieces.shape[-1] ** 0.5).masked_fill(~real[:, None, None, :], -1e9)
    return alike.log_softmax(dim=-1), pieces.shape[-1]


log_q, narrow = relations(in_student["values.2"], 24)
log_p, wide = relations(in_teacher["values.5"], 24)
kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean(dim=1)  # (messages, tokens)
by_hand = (kl * real).sum(dim=1) / real.sum(dim=1)
package = dh.relation_loss(in_student["values.2"], in_teacher["values.5"], inputs["attention_mask"], n_heads=24)
assert torch.allclose(by_hand, package, rtol=1e-4)
print(f"a relation head is {narrow} numbers wide in the student, {wide} in the teacher; both give tokens × tokens")

# %% [markdown]
# `minilm(teacher, data, version=1)` and `version=2` run this stage and then fine-tune on hard labels. Students as
# wide as the teacher start from copied layers, narrower ones from random layers, so do not compare the two MiniLM
# rows of the table below.
#
# ## Row 4 · Phi-2, or distillation through data
#
# According to *its announcement and its data summary*, Phi-2 learned from **text that GPT-3.5 wrote and web text that
# GPT-4 judged**, starting from the knowledge of the *smaller* Phi-1.5. The article calls this distillation, but these
# sources describe no teacher's distribution.
#
# We can copy the pipeline: *a language model writes, filters keep what is worth learning from, a student learns from
# the labels.* Our writer, SmolLM2 with 135 million parameters, is a poor one. Here it continues a list of real
# messages by four:


# %%
from IPython.utils.capture import capture_output

mac = "comp.sys.mac.hardware"
for step in ProgressWidget("load, write").over(("load", "write")):
    if step == "load":
        with capture_output():  # the loader's own bars would stay in the saved page
            writer = load_language_model(device="cpu")
    else:
        written = write_messages(
            writer,
            desk.train,
            n_per_topic=4,
            topics={mac: "Apple Macintosh hardware"},  # the class, and what the writer is told
            max_new_tokens=20,
            seed=1,
            progress=False,
        )
print(f"{len(written)} messages; the filters' widget shows them")

# %% [markdown]
# Among them we *plant* five faulty messages and a good one. A message is kept if *it is long enough, does not loop,
# is not nearly equal to a known or already kept text, and the teacher agrees with the topic that was asked for.* In
# code:


# %%
scsi = "my powerbook does not see the external scsi drive since system seven"
planted = {
    "a test message": (desk.test.texts[0], desk.label_names[desk.test.labels[0]]),
    "a training message and one word": (f"{desk.train.texts[0]} please", desk.label_names[desk.train.labels[0]]),
    "a loop": ("the mac and the mac and the mac and the mac and the mac", mac),
    "about something else": ("motif and xlib widgets on an x terminal need a font server", mac),
    "good": (scsi, mac),
    "good, said again": (scsi.replace("the", "an"), mac),
}
messages = [*written, *(SyntheticMessage(*message) for message in planted.values())]
logits = dh.precompute_teacher_logits(teacher, [m.text for m in messages], max_length=48, device="cpu", progress=False)

# %%
known = {"training": desk.train.texts, "validation": desk.validation.texts, "test": desk.test.texts}
everything = [text for texts in known.values() for text in texts]
vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform([m.text for m in messages] + everything)
similar = (vectors[: len(messages)] @ vectors.T).toarray() >= 0.8  # pieces of words in common; rows have length 1
kept = []
for row, (text, topic) in enumerate(messages):
    words, agrees = text.split(), logits[row].softmax(-1)[desk.label_names.index(topic)] >= 0.5
    loops = len(set(words)) < 0.5 * len(words)
    copies = similar[row, len(messages) :].any() or similar[row, kept].any()
    if len(words) >= 8 and not loops and not copies and agrees:
        kept.append(row)

found = filter_messages(messages, logits, desk.label_names, known=known)
assert kept == found.rows
survivors = [name for name, message in planted.items() if message in found.messages]
assert survivors == ["good"]
print("of the planted messages one is left:", *survivors)

# %% [markdown]
# Drag the limits and read the messages. **Predict first:** which planted message comes back when the teacher's
# judgement is switched off (confidence 0)? Which ones when only identical texts count as repetitions (similarity 1)?

# %%
limits = {
    "min_confidence": ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="confidence"),
    "max_similarity": ipywidgets.FloatSlider(0.8, min=0.05, max=1, step=0.05, description="similarity"),
    "min_words": ipywidgets.IntSlider(8, 1, 20, description="words"),
}


def filtered(min_confidence, max_similarity, min_words):
    return render_filters(
        min_confidence, max_similarity, min_words, messages=messages, logits=logits, names=desk.label_names, known=known
    )


desk_filter = live(filtered, **limits)
desk_filter


# %%
def planted_that_stay():
    lines = [line for line in desk_filter.children[-1].value.split("<tr>") if "✓ kept" in line]
    return [name for name, message in planted.items() if any(message[0] in line for line in lines)]


limits["min_confidence"].value = 0.0
print("no judgement:", planted_that_stay())
limits["min_confidence"].value, limits["max_similarity"].value = 0.5, 1.0
print("only equal messages count:", planted_that_stay())
limits["max_similarity"].value = 0.8

# %% [markdown]
# A copied test message does the most harm: the student looks better than it is.
#
# `data_driven(teacher, data, messages)` therefore compares the written messages with all three sets. It then trains a
# student with random weights on real and written messages, with hard labels alone. The writer often misses its topic,
# so **the teacher relabels** the written messages (`relabel=True`) and keeps those of which it is at least 80% sure.
#
# ## Row 5 · Prune, then heal
#
# The article's fifth system is Mistral 7B, but Mistral's report names no teacher and no distillation. **Minitron**
# (Llama 3.1 8B to 4B, for example) and **Llama 3.2** 1B and 3B (model card) were [pruned](glossary.md#pruning) and
# then trained on logits. **Gemma 2** 2B and 9B learned from logits without pruning.
#
# Our recipe ranks by activations alone: *a layer matters more, the more it changes the direction of hidden states; a
# neuron, the larger its outputs.*


# %%
texts = desk.train.texts[:64]
inputs = teacher.tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
real = inputs["attention_mask"].bool()
states = ["embeddings", *(f"hidden.{i}" for i in range(6))]
neurons = [f"bert.encoder.layer.{i}.intermediate" for i in range(6)]
with torch.no_grad(), dh.capture_features(teacher.model, states, modules=neurons) as seen:
    teacher.model(**inputs)

turned = [
    (1 - F.cosine_similarity(seen[before], seen[after], dim=-1))[real].mean()
    for before, after in itertools.pairwise(states)
]
active = [seen[name][real].abs().mean(dim=0) for name in neurons]

layers = dh.layer_importance(teacher, texts, max_length=48)
assert torch.allclose(torch.stack(turned), torch.tensor(layers), rtol=1e-3)
for by_hand, package in zip(active, dh.feed_forward_importance(teacher, texts, max_length=48), strict=True):
    assert torch.allclose(by_hand, package.float(), rtol=1e-3, atol=1e-6)
order = sorted(range(6), key=lambda i: -layers[i])
print("importance of the layers:", ", ".join(f"{i}: {layers[i]:.2f}" for i in order))

# %% [markdown]
# **Predict first:** cut away three of the six layers and half of the neurons in the other three, and train nothing.
# The teacher gets eight test messages in ten right; chance would be two. How many does the cut model get right?


# %%
pruned = dh.prune(teacher, texts, n_layers=3, feed_forward_size=768, max_length=48)
parts = [sum(p.numel() for p in model.model.bert.encoder.parameters()) for model in (pruned, teacher)]
assert parts[0] / parts[1] < 0.34
cuts = {
    "the teacher, whole": teacher,
    "half of its neurons": dh.prune(teacher, texts, feed_forward_size=768, max_length=48),
    "half of its layers, the important ones": dh.prune(teacher, texts, n_layers=3, max_length=48),
    "half of its layers, evenly spread": dh.cut_layers(teacher, dh.alternating_layers(3, 6)),
    "half of both, by importance": pruned,
}
left = {
    name: dh.evaluate(model, desk.test, max_length=48)["accuracy"]
    for name, model in ProgressWidget("five cuts").over(list(cuts.items()))
}
for name, score in left.items():
    print(f"{name}: {score:.0%} of the test messages in this run")
assert left["half of its layers, evenly spread"] > left["half of its layers, the important ones"] + 0.05

# %% [markdown]
# The importance score keeps the last three layers. **Before [healing](glossary.md#healing), these are seven points
# worse than layers 0, 2 and 5**. `prune_and_heal` then trains the pruned student on the teacher's logits alone (α =
# 1).
#
# ## Which recipe loses least?
#
# Each arm **reads about 20,000 texts**: DistilBERT, for example, in four passes over the 2,517 training messages and
# 2,500 windows; MiniLM's in two passes for its relations and four for labels, over the messages; hard labels in eight
# over messages. With one seed, each arm chose one of two learning rates on the validation messages. The table has
# five other seeds, at their best validation epochs.
#
# A recipe must beat **hard labels for the same shape and the same start**: copied or pruned layers, random layers on
# the teacher's embeddings, or (data-driven) random weights. **Predict first:** which recipes will, and by how much?

# %%
table = landmarks.summary()
runs = read_log(landmarks.LOG).query("phase == 'result'")
names = {arm: arm.replace("3 × 384, half the neurons", "pruned") for arm in landmarks.ARMS}
dots = pd.DataFrame({"model": runs["arm"].map(names), "accuracy": 100 * runs["accuracy"]})
dots["model"] = pd.Categorical(dots["model"], list(names.values()))
picture = dot_figure(
    dots.sort_values("model", kind="stable").astype({"model": str}),
    "accuracy",
    title="DistilBERT, MiniLM and pruning lose least",
    label="test accuracy (%), a dot for each seed",
    references={"teacher": table.loc["teacher", "accuracy %"]},
)
with_alt_text(
    picture,
    "Test accuracy of six systems and of the same shapes on hard labels, a dot for each seed, the teacher as a line."
    f" Means in per cent: {', '.join(f'{name} {mean:.1f}' for name, mean in table['accuracy %'].items())}.",
)

# %%
shown = table.loc[:, :"one message, ms"].astype({"layers' parameters": int})
shown = shown.round({"of teacher's": 2, **dict.fromkeys(shown.columns[3:], 1)})
shown = shown.join(table[["texts", "texts read", "steps", "best epoch"]])
shown.astype(object).where(shown.notna(), "–")

# %% [markdown]
# *Student* is layers × width. *Gain* is the accuracy minus that of the arm's hard labels; *won* counts seeds with a
# gain. *Agreement* is how often student and teacher agree.
#
# **Predict first:** would more texts change the picture?

# %%
fig, axes = figure("At 20,000 texts TinyBERT and MiniLMv2 are still improving")
drawn = ("DistilBERT", "prune and heal", "hard labels, 2 × 384", "MiniLMv2", "TinyBERT")
for arm, colour, shape in zip(drawn, COLOURS, "osD^v", strict=False):
    curve = 100 * np.mean(runs.loc[runs["arm"] == arm, "curve"].tolist(), axis=0)
    begin = 10 if len(landmarks.ARMS[arm].stages) == 2 else 0  # the stage on features comes before
    axes.plot(np.linspace(begin, 20, len(curve) + 1)[1:], curve, marker=shape, color=colour, label=arm)
axes.set_xlabel("texts read (thousands)")
axes.set_ylabel("validation accuracy (%)")
axes.set_xticks([0, 5, 10, 15, 20])
axes.legend(frameon=False, fontsize=8)
with_alt_text(
    fig,
    "Mean validation accuracy of five arms along 20,000 texts. DistilBERT, prune and heal and hard labels are flat over"
    " the last 5,000; MiniLMv2 rises by nearly five points, TinyBERT, which begins at 10,000, by nearly ten.",
)

# %% [markdown]
# TinyBERT and MiniLMv2 spend half of their texts on features. TinyBERT is still improving fast and MiniLMv2 slowly, so
# both rows hold for this budget alone.
#
# **Three recipes lose least**: DistilBERT's keeps 98.7% of the teacher's accuracy, MiniLM's and the pruned student
# 97.8%. Five seeds cannot tell them apart (DistilBERT − MiniLM: 0.7 ± 1.6 points). TinyBERT's keeps 94.1% with an
# eighth of the layers' parameters.
#
# **How much a recipe adds to copied layers depends on its baseline's learning rate.** For hard labels from copied
# layers, validation chose a rate of 1.2e-3 over 5e-4 by one message out of 400. Over these hard labels DistilBERT gains
# 4.3 ± 0.6 points and MiniLM 3.5 ± 1.9. But at 5e-4, the rate of both recipes, hard labels reach 77.6% instead of
# 75.0%, and the gains shrink:

# %%
landmarks.gains_at_the_other_rate().round(1)

# %% [markdown]
# So DistilBERT's recipe adds 1.7 ± 0.8 points, and MiniLM's 0.9 ± 1.1, which may be nothing. **Most of the way up
# from random weights (72.4%), 5.2 ± 3.1 points of 6.9, belongs to the copied embeddings, layers and head.**
#
# The other shapes' baselines chose their rate by four messages or more, the one with random weights by a single one.
# **Prune and heal** gains 2.0 ± 1.1: the teacher's labels on twice the texts repair the cut better. **TinyBERT**
# gains 1.2 ± 0.6. Two gains may be nothing: MiniLMv2's 0.7 ± 1.5 (its baseline has 12 heads instead of 6) and the
# **data-driven** student's 1.4 ± 3.8: it read 1,508 of the 2,560 messages.
#
# GLUE, SQuAD 2, MNLI and MMLU are benchmarks: compare the pattern, not the digits.

# %%
papers_say = {
    "DistilBERT": ("0.50 of layers, 0.60 of all", "96.9% of GLUE (77.0 of 79.5)"),
    "TinyBERT": ("0.05 of layers, 0.13 of all", "96.8% of GLUE"),
    "MiniLM": ("0.50 of layers", "over 99% of SQuAD 2 and several GLUE tasks"),
    "MiniLMv2": ("0.50 of layers", "scores, no share: SQuAD 2 76.3, MNLI 84.2"),
    "data-driven (Phi-2)": ("no teacher", "–"),
    "prune and heal": ("0.53 without embeddings", "93% of MMLU (60.5 of 65.3)"),
}
beside = pd.DataFrame.from_dict(papers_say, orient="index", columns=["paper: size", "paper: kept"])
beside["here: size of layers"] = table["of teacher's"].round(2)
beside["here: kept %"] = table["kept %"].round(1)
beside

# %% [markdown]
# (DistilBERT: README of its code; TinyBERT: Table 1; MiniLM: abstract; MiniLMv2: 6 × 768 from BERT-base, development
# sets; Minitron: Llama-3.1-Minitron-4B-Width against Llama 3.1 8B, Table 1 of version 1. The shares "of layers" are
# our count.)
#
# ## Do the papers' ablations hold here?
#
# An ablation leaves one part out and is tuned like the whole recipe. TinyBERT and its ablations read 40,000 texts
# here, because TinyBERT's curve still rises at 20,000; without stage 1, all of them go to stage 2.
#
# Runs with the same seed share the order of the messages and, where they start alike, the starting weights. So take
# the **difference for each seed** first, then its mean. The papers' figures are points of GLUE averages (DistilBERT:
# nine tasks, Table 4; TinyBERT: four scores, Table 3).
#
# **Predict first:** in the papers all five ablations cost points. Which costs are large enough to be shown here?

# %%
papers = {
    "DistilBERT without soft targets": "−3.0",
    "DistilBERT without cosine": "−1.5",
    "DistilBERT from random weights": "−3.7",
    "TinyBERT without attention": "lower, in Table 3",
    "TinyBERT without stage 1": "−19.3",
}
with_whole = landmark_ablations.summary()
ablations = with_whole.loc[list(papers), ["mean", "beside", "difference", "± 95%", "worse in"]]
lower, upper = (ablations["difference"] + sign * ablations["± 95%"] for sign in (-1, 1))
ablations["direction"] = "not shown"
ablations.loc[upper < 0, "direction"] = "holds"
ablations.loc[lower > 0, "direction"] = "the other way"
held = [*ablations.index[ablations["direction"] == "holds"]]
ablations.insert(0, "paper", pd.Series(papers))
print(f"the whole recipes: DistilBERT {with_whole.loc['DistilBERT', 'mean']:.1f}%,", end=" ")
print(
    f"TinyBERT {with_whole.loc['TinyBERT', 'mean']:.1f}% (at 20,000 texts {table.loc['TinyBERT', 'accuracy %']:.1f}%)"
)
ablations.round(1)

# %%
fig, axes = figure(
    f"{len(held)} of {len(ablations)} parts {'is' if len(held) == 1 else 'are'} shown to be missed here", height=3.4
)
scores = landmark_ablations.accuracies()
for line, name in enumerate(ablations.index):
    colour, difference = COLOURS[line // 3], scores[name] - scores[ablations.loc[name, "beside"]]
    axes.plot(difference, [line] * len(difference), "o", color=colour, alpha=0.6, markersize=5)
    axes.plot([difference.mean()], [line], "|", color=colour, markersize=18, markeredgewidth=2.5)
axes.axvline(0, color="#444444", linestyle="--", linewidth=1)
axes.set_yticks(range(len(ablations)), ablations.index)
axes.invert_yaxis()
axes.set_xlabel("change of accuracy without the part, same seed (points)")
axes.set_ylabel("ablation")
with_alt_text(
    fig,
    "Differences of accuracy for five ablations, a dot for each seed, mean marked, zero as a dashed line. In points: "
    + ", ".join(f"{name} {line['difference']:+.1f} ± {line['± 95%']:.1f}" for name, line in ablations.iterrows()),
)

# %% [markdown]
# *Beside* is what a row is compared with. *Not shown*: the interval has zero; the part may be useful.
#
# - **Random weights cost DistilBERT most, as in the paper**: 3.4 ± 2.2 points.
# - **TinyBERT's matched attention is missed, and so is its stage 1 as a whole**: without them 1.3 ± 0.7 and 1.6 ± 1.3
#   points are lost. The paper's 19 points for stage 1 ("w/o Trm", which unlike ours keeps the embeddings' term)
#   include the paper's general stage on Wikipedia, which without these losses teaches the layers nothing; we have no
#   such stage.
# - **Soft targets are not shown to be missed**: 1.1 ± 1.3 points. **The cosine is not missed at all**: without it,
#   +0.5 ± 0.3.
# - **The learning rate matters again.** The recipes without soft targets and without the cosine chose 1.2e-3, so the
#   table compares them with the whole recipe at 1.2e-3. In a tie on validation, the whole recipe had taken 5e-4,
#   which is 1.5 ± 0.9 points ahead on the test. Each at its chosen rate, the soft targets would have seemed to bring
#   2.6 ± 0.8 points.
#
# TinyBERT's whole recipe keeps 96.6% of the teacher's accuracy at 40,000 texts.
#
# ## May copied layers be frozen?
#
# The article says never. But Distil-Whisper freezes the encoder that it copies (Gandhi et al. 2023), because a frozen
# part costs no backward pass. We freeze parts of DistilBERT's student, which copies embeddings, layers and head, for
# half of the steps or for all. Everything else is as in the table above. **Predict first:** how many points does each
# row lose?

# %%
frozen = freezing.summary()
frozen[["mean", "beside", "difference", "± 95%", "won", "time %", "learning rate"]].round(1)

# %% [markdown]
# *Beside* is the whole recipe at a row's rate; *time %* is of its steps' time.
#
# - **Embeddings and layers frozen for all of the steps cost 10.9 ± 0.8 points.**
# - **Frozen for half of the steps, they cost nothing that five seeds can show**: the difference is +0.7 ± 1.2.
# - **Embeddings frozen for all of the steps cost 0.9 ± 0.7 points**, for half of the steps 0.5 ± 0.8.
#
# So "never" is too strong. Freeze copied parts to save time, and release them half-way.
#
# ## Exercises
#
# ### Exercise 07.1 · Count a layer (★★, 6 min)
#
# Pruning may take whole heads. Count the parameters of one layer of BERT whose heads together are `inner` wide: six
# linear layers, each with a bias, and two norms. The formula above is for `inner = width`.
#
# <details><summary>Hint 1</summary>
#
# A linear layer from `a` to `b` has `a * b + b` parameters. A norm has a weight and a bias of the width.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Queries, keys and values go from width to inner; the attention's output goes back.
#
# </details>
#
# <!-- solution 07.1 -->


# %%
def layer_parameters(width, inner, neurons):
    """Parameters: an integer. width: of the hidden states; inner: of all heads; neurons: of the feed-forward half."""
    ...


check("07.1", layer_parameters)

# %% [markdown]
# ### Exercise 07.2 · Find the bug: a filter that lets the test set in (★★, 8 min)
#
# `faulty_clean` should return the rows of the written messages that may stay, but is wrong in three ways. Fix it in
# `clean`: a message must not stand in `held_out`; the teacher's probability *of the topic asked for* must be at least
# `min_confidence`; and of equal messages that pass, the first stays.
#
# <details><summary>Hint 1</summary>
#
# A teacher can be sure of the wrong topic, and nothing in the function looks at `held_out`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# One loop: skip a row for any of the three reasons; only a row that is *kept* makes a later one a repetition.
#
# </details>
#
# <!-- solution 07.2 -->


# %%
def faulty_clean(texts, probabilities, asked, held_out, min_confidence):
    rows = [row for row in range(len(texts)) if probabilities[row].max() >= min_confidence]
    return [row for row in rows if texts.index(texts[row]) == row]


# %%
def clean(texts, probabilities, asked, held_out, min_confidence):
    """Rows that stay, a list. probabilities: the teacher's, a tensor (messages, topics); asked: the topic's column for
    each message; held_out: a set of texts."""
    ...


check("07.2", clean)

# %% [markdown]
# ### Exercise 07.3 · Cut neurons out (★★, 7 min)
#
# A feed-forward half computes `down @ gelu(up @ x + bias)`. Keep its `n` most important neurons, in any order,
# and return the three smaller tensors.
#
# <details><summary>Hint 1</summary>
#
# Neuron `i` is row `i` of `up` and entry `i` of `bias`. Where is it in `down`?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `importance.topk(n).indices` are the neurons, and can index any dimension of a tensor.
#
# </details>
#
# <!-- solution 07.3 -->


# %%
def smaller_feed_forward(up, bias, down, importance, n):
    """Three tensors, (n, width), (n,), (width, n), from (neurons, width), (neurons,), (width, neurons)."""
    ...


check("07.3", smaller_feed_forward)

# %% [markdown]
# ### Exercise 07.4 · A paired difference (★★, 8 min)
#
# Two recipes were run with several seeds, not all of them the same. Over the seeds that both have, return the mean of
# *without minus full* and its standard error.
#
# <details><summary>Hint 1</summary>
#
# Take the difference for each common seed first.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The standard error is the sample standard deviation (`statistics.stdev`) of the differences, divided by the root of
# their number.
#
# </details>
#
# <!-- solution 07.4 -->


# %%
def paired_difference(full, without):
    """(mean, standard error), in points. full, without: accuracy in per cent by seed, two dictionaries."""
    ...


check("07.4", paired_difference)

# %% [markdown]
# ## Quiz
#
# Open a choice to see whether it is right, and why.

# %%
HTML(render_quiz("07_landmark_systems"))

# %% [markdown]
# ## The answer

# %%
kept = table.loc[list(landmarks.SYSTEMS), "kept %"].sort_values(ascending=False)
print("kept of the teacher's accuracy:", ", ".join(f"{name} {share:.0f}%" for name, share in kept.items()))
suspects = {
    "the copied weights": "DistilBERT from random weights",
    "the soft targets": "DistilBERT without soft targets",
    "the matched attention": "TinyBERT without attention",
}
for suspect, name in suspects.items():
    line = ablations.loc[name]
    print(f"without {suspect}: {line['difference']:+.1f} ± {line['± 95%']:.1f} points, {line['direction']}")

# %% [markdown]
# **DistilBERT's recipe, MiniLM's and pruning lose least, and at 20,000 texts the copied weights do most of the
# work**: hard labels alone reach 77.6% from copied embeddings, layers and head, and 72.4% from random weights.
# DistilBERT's recipe adds 1.7 points, and its *soft targets* are not shown to be missed. For the narrow student,
# which copies no layers, the *matched attention* brings 1.3 points.
#
# ## Summary
#
# - Half the layers are not half the model: embeddings stay. Ask of every ratio which parameters it counts.
# - DistilBERT copies layers, TinyBERT matches layer by layer, MiniLM matches the last layer, Phi-2 learns from
#   filtered text, prune-then-heal cuts and repairs with logits.
# - Compare a recipe with hard labels for its own shape *and its own start*, at the same budget, over seeds.
# - An ablation holds where paired differences over seeds say so.
# - Filter written messages against *all* splits before you train on them.
#
# The article's claims, checked: [Errata](errata.md).
#
# **References.** Sanh et al. 2019, *DistilBERT*, [arXiv 1910.01108](https://arxiv.org/abs/1910.01108) · Jiao et al.
# 2019, *TinyBERT*, [arXiv 1909.10351](https://arxiv.org/abs/1909.10351) · Wang et al. 2020, *MiniLM*, [arXiv
# 2002.10957](https://arxiv.org/abs/2002.10957) · Wang et al. 2020, *MiniLMv2*, [arXiv
# 2012.15828](https://arxiv.org/abs/2012.15828) · Gunasekar et al. 2023, *Textbooks Are All You Need*, [arXiv
# 2306.11644](https://arxiv.org/abs/2306.11644) · Microsoft Research 2023,
# [*Phi-2*](https://www.microsoft.com/en-us/research/blog/phi-2-the-surprising-power-of-small-language-models/) ·
# Jiang et al. 2023, *Mistral 7B*, [arXiv 2310.06825](https://arxiv.org/abs/2310.06825) · Sreenivas et al. 2024, *The
# Minitron Approach*, [arXiv 2408.11796](https://arxiv.org/abs/2408.11796) · Gandhi et al. 2023, *Distil-Whisper*,
# [arXiv 2311.00430](https://arxiv.org/abs/2311.00430) · Gemma Team 2024, *Gemma 2*, [arXiv
# 2408.00118](https://arxiv.org/abs/2408.00118).
