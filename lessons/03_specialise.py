# The source of lesson 3: only this file is edited. `python -m lessons.build 03` does the rest.

# %% [markdown]
# # Lesson 3 · Watch routing specialise
#
# **Question.** A mixture of experts learns to predict the next token. Nobody tells its router about
# topics. Will the experts divide the topics among themselves, and when? And if they do: does the router
# know what the prompt is about, or only the word it stands on?
#
# After this lesson you will be able to
#
# 1. measure how much an expert's work says about the topic, on a scale from 0 to 1;
# 2. say at which moment of training that happens;
# 3. hold the number against three controls: shuffled topics, the untrained router, the token;
# 4. tell a router that reads the token from one that reads the context;
# 5. say what *saturation* is, and how early the routes settle.
#
# You need lesson 1's mutual information and lesson 2's router. A small model is trained on the way, in
# about half a minute.

# %%
# Run this cell first. Where toymoe is missing, as on Colab, it is installed (one minute).
import importlib.util
import subprocess
import sys

SOURCE = ""  # the address of toymoe's repository or of a wheel, such as git+https://…
if importlib.util.find_spec("toymoe") is None:
    assert SOURCE, "toymoe is not installed here: write its address into SOURCE and run this again"
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", SOURCE])

from toymoe.classroom import begin, check, compare, predict

begin(3)

# %%
import numpy as np

from toymoe import explorer, organism, world
from toymoe.classroom.checks.lesson1 import information
from toymoe.classroom.checks.lesson3 import shuffled_labels_given
from toymoe.config import build
from toymoe.measures import history
from toymoe.runs import plots
from toymoe.training import phases

SEED = 0  # another seed trains another model
shipped = organism.load()  # a trained model, and the history of its training
C, G, E = (shipped.cfg.world.context, shipped.cfg.world.topics, shipped.cfg.model.experts)

# %% [markdown]
# ## Predict before you run
#
# The number to predict is the **normalised mutual information** of expert and topic, short NMI: how
# much knowing which experts a word was sent to tells about the topic of its prompt. It is 0 if it
# tells nothing, and 1 if the experts give the topic away completely.
#
# Where will it stand after training, in the layer in which it is largest in the end? And after what share
# of the steps of pretraining will it first be half as large?

# %%
# --- solution
guess_nmi = 0.7
guess_half = 0.4
# --- exercise
# guess_nmi = ...  # from 0 to 1
# guess_half = ...  # from 0 to 1
# --- end
predict("NMI after training", guess_nmi)
predict("half of that", guess_half)

# %% [markdown]
# ## Look first
#
# The explorer opens with the model that comes with the package: 3 layers of 18 experts, of which every
# token uses 2, and 8 topics. Choose the panel *Routing follows topic*. Each table has a row for every topic and
# a column for every expert; the slider goes through training, first pretraining and then alignment.

# %%
explorer.show(shipped)

# %% [markdown]
# ## Exercise 3.1 · When does it happen? *(look · easy · 5 minutes)*
#
# Find the **first** stop of the slider at which the NMI is at least half of what it is in the end, in the
# layer in which it ends highest. Press *Copy link* and return the link as text.
#
# <details><summary>Hint</summary>
#
# Look at the end first: which layer, and how much? The table beside the curve has the numbers. Stops are
# `#panel=routing&step=0`, `#panel=routing&step=1` and so on.
# </details>


# %%
def halfway():
    """A state of the explorer: the first stop at which NMI is half of its last value. Text."""
    # --- solution
    return "#panel=routing&step=9"
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


halfway = check("halfway", halfway)

# %%
past = shipped.history
stop = explorer.read(halfway(), shipped).step
steps = past["step"][past["phase"] == 0][-1]  # of pretraining
last = past["nmi_topic_context"][-1].max()
compare("NMI after training", last)
compare("half of that", past["step"][stop] / steps)
shuffled = past["nmi_topic_shuffled"][-1].max()
print(f"untrained {past['nmi_topic_context'][0].max():.2f}, topics shuffled {shuffled:.3f}")

# %% [markdown]
# **Claim.** In this model the experts divide the topics among themselves, within the first tenth of
# pretraining; and alignment, which comes later, leaves that as it is. The rest of the lesson asks what such
# a number is worth. Does it happen again in a model of your own? Would it come out where there is
# nothing? And is it the *topic* that the router reads?
#
# ## Exercise 3.2 · NMI *(fill in · easy · 6 minutes)*
#
# Count how often the words of each topic select each expert: a table [G, E]. The information of expert
# and topic in it (lesson 1's `information`, imported above), divided by what there is to know, the
# logarithm of the number of topics, is the NMI.
#
# <details><summary>Hint</summary>
#
# Rows are topics: `np.log(counts_GE.shape[0])`, the natural logarithm.
# </details>


# %%
def label_counts(selected_NE, labels_N, n_labels):
    """How often words of each label select each expert: an array [n_labels, E]."""
    counts = np.zeros((n_labels, selected_NE.shape[1]))
    np.add.at(counts, labels_N, selected_NE)  # counts[labels_N] += … would add once for each label
    return counts


def nmi(counts_GE):
    """I(expert; label) / ln(number of labels), a number from 0 to 1."""
    # --- solution
    return information(counts_GE) / np.log(counts_GE.shape[0])
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


nmi = check("nmi", nmi)

# %% [markdown]
# ## Train your own
#
# A model small enough for half a minute, most of which is compilation: 2 layers, fewer steps, the same
# world. While it trains, we look again and again at how it routes the same 512 prompts, most often
# in the beginning, when most happens.

# %%
SMALLER = {"model.layers": 2, "model.width": 48, "train.batch": 64, "pretrain.notes": 0}
FASTER = {"pretrain.steps": 200, "train.chunk": 50}
cfg = build("default", SEED, SMALLER | FASTER)
keys = phases.keys(SEED)
probes = shipped.sample(history.PROBES + history.HELD_OUT, "mixed", SEED)

state = phases.start(phases.fresh_params(keys.init, cfg), cfg, "pretrain")
raw = history.empty(cfg, probes)
for chunk in phases.run_phase(state, 0, shipped.tables, probes.tokens_BP, cfg, "pretrain"):
    raw = history.append(raw, chunk, "pretrain")
    print(f"step {chunk.step}: loss {chunk.losses_S.mean():.2f}")

# %%
# The context words of the probes: their tokens, their prompts' topics, the experts they selected.
topic_B = np.asarray(probes.topic_B)[: history.PROBES]
topic_N = np.repeat(topic_B, C)  # of every word, prompt by prompt
token_N = np.asarray(probes.tokens_BP)[: history.PROBES, 1 : 1 + C].ravel()
layers = range(cfg.model.layers)


def selected_at(snapshot, layer):
    """Which experts each context word selected: [N, E], True and False."""
    experts_BCA = raw.experts_SLBPA[snapshot, layer, : history.PROBES, 1 : 1 + C]
    return (experts_BCA[..., None] == np.arange(E)).any(-2).reshape(-1, E)


mine = np.array([[nmi(label_counts(selected_at(s, i), topic_N, G)) for i in layers]
                 for s in range(len(raw.step_S))])  # fmt: skip
best = int(np.argmax(mine[-1]))
course = mine[:, best]
half = raw.step_S[np.argmax(course >= course[-1] / 2)] / raw.step_S[-1]
print(
    f"your model: NMI {course[-1]:.2f} in layer {best}, half of that after {half:.2f} of the steps"
)

# %% [markdown]
# ## The figure of this lesson
#
# A **film strip**: each picture has a row for every topic and a column for every expert; bright means that
# the expert takes a large share of that topic's words. From left to right your model trains.

# %%
curves = history.curves(raw, probes, cfg, SEED)
plots.film_strip(curves, world.names(cfg.world))

# %%
assert np.allclose(mine, curves["nmi_topic_context"])  # your function, toymoe's curves

# %% [markdown]
# ## Baseline and negative controls
#
# A number means nothing alone. In the **curve** of NMI against the step, three others stand beside it:
#
# - **Baseline, the untrained router.** Even random weights send the same word to the same experts, and
#   words tell topics. So the NMI does not start at 0; only what is above the dotted line was learnt.
# - **Negative control, topics shuffled** among the prompts. There is nothing to find, and what remains
#   is chance.
# - **Token**: what the experts tell about the *word*. A router that sorts words sorts topics too,
#   without ever having looked at the context.

# %%
plots.nmi_over_training(curves)

# %% [markdown]
# ## Exercise 3.3 · A control that is too kind *(bug hunt · medium · 8 minutes)*
#
# How large is chance? Shuffle the topics and measure again. The function below does that, and what comes
# out is too small: held against it, too much would count as a finding. For the ten words of one prompt are
# not ten independent words. They are alike, and so are their routes. A shuffle may break one thing only,
# the tie between a prompt and its topic; all else must stay. Repair it.
#
# <details><summary>Hint</summary>
#
# First `rng.permutation(topic_B)`, a topic for every prompt; then that topic for each of its words.
# </details>


# %%
def shuffled_labels(topic_B, n_positions, seed):
    """The topics dealt out among the prompts anew, for every word: whole numbers [B · T]."""
    rng = np.random.default_rng(seed)
    # --- solution
    return np.repeat(rng.permutation(topic_B), n_positions)
    # --- exercise
    # return rng.permutation(np.repeat(topic_B, n_positions))
    # --- end


shuffled_labels = check("shuffled_labels", shuffled_labels)

# %%
chance = {}
for name, shuffle in (
    ("as it was given", shuffled_labels_given),
    ("as it should be", shuffled_labels),
):
    draws = [nmi(label_counts(selected_at(-1, best), shuffle(topic_B, C, i), G)) for i in range(5)]
    chance[name] = np.mean(draws)
    print(f"chance, shuffled {name}: {chance[name]:.4f}")
untrained = nmi(label_counts(selected_at(0, best), topic_N, G))
print(f"trained {course[-1]:.3f}, untrained {untrained:.3f}")
assert chance["as it should be"] > 2 * chance["as it was given"], "words of a prompt go together"
assert course[-1] > untrained + 0.1 and course[-1] > 10 * chance["as it should be"]

# %% [markdown]
# ## Exercise 3.4 · One word, two topics *(look · easy · 4 minutes)*
#
# Half of the words belong to two topics. Go back to the explorer: below the tables it shows one such word
# in both, and which experts take it there. If the router read the word alone, both rows would be alike, and
# the experts *in common* 1. Find a word whose topics have at most **.3** in common in some layer. The
# **control** is the untrained router beside it: in that layer it must be at least **.5**. Return the link.
#
# <details><summary>Hint</summary>
#
# There are sixteen such words, in the menu *word*; several will do, and several will not.
# </details>


# %%
def parted():
    """A state of the explorer: a word that goes to other experts in its other topic. Text."""
    # --- solution
    return "#panel=routing&word=fern-glow2"
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


parted = check("parted", parted)

# %%
shown = explorer.read(parted(), shipped)
for which in ("untrained", "pretrained", "aligned"):
    common_L = explorer.in_common(shipped, shown._replace(model=which))
    print(f"{shown.word}, {which:<10}: in common, by layer {common_L.round(2)}")

# %% [markdown]
# ## Exercise 3.5 · The token or the context? *(fill in · hard · 12 minutes)*
#
# One word is an anecdote; now all of them, in your model. If the router reads the token alone, then among
# all occurrences of *one* word the experts say nothing about the topic. So measure the information within
# each word's own table, and average the words by how often they occur:
#
# $$I(\text{expert};\text{topic}\mid\text{token}) = \sum_v p(v)\; I(\text{expert};\text{topic}\mid \text{token}=v)$$
#
# <details><summary>Hint</summary>
#
# `for counts_GE in counts_VGE` goes through the tables of the tokens. `information(counts_GE)` gives
# the nats of one, and p(v) is its share of all counts. Leave out tokens without counts.
# </details>


# %%
def topic_given_token(counts_VGE):
    """I(expert; topic | token) in nats, a number."""
    # --- solution
    share_V = counts_VGE.sum((1, 2)) / counts_VGE.sum()
    return sum(p * information(table) for p, table in zip(share_V, counts_VGE, strict=True) if p)
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


topic_given_token = check("topic_given_token", topic_given_token)

# %%
V = int(token_N.max()) + 1


def by_token(selected_NE, labels_N):
    """Tables of topic and expert for every token: an array [V, G, E]."""
    return label_counts(selected_NE, token_N * G + labels_N, V * G).reshape(V, G, E)


def token_router(selected_NE):
    """The same routes as a function of the token: every word always goes where it mostly went."""
    usual_VE = label_counts(selected_NE, token_N, V).argsort(1)[:, -cfg.model.top_k :]
    return (usual_VE[token_N][..., None] == np.arange(E)).any(1)


def dealt_within(labels_N):
    """Topics shuffled among the occurrences of each word: it is as often in either as before."""
    rng, dealt_N = np.random.default_rng(SEED), labels_N.copy()
    for token in np.unique(token_N):
        its = np.flatnonzero(token_N == token)
        dealt_N[its] = labels_N[rng.permutation(its)]
    return dealt_N


trained = selected_at(-1, best)
beyond = {}
for name, selected, labels in (
    ("trained", trained, topic_N),
    ("untrained", selected_at(0, best), topic_N),
    ("trained, topics shuffled within words", trained, dealt_within(topic_N)),
    ("a router by token", token_router(trained), topic_N),
):
    beyond[name] = topic_given_token(by_token(selected, labels))
    found = nmi(label_counts(selected, labels, G))
    print(f"{name:<38} NMI with topic {found:.3f}, beyond the token {beyond[name]:.3f} nats")
assert beyond["trained"] > 5 * beyond["trained, topics shuffled within words"]
assert beyond["trained"] > beyond["untrained"]

# %% [markdown]
# The router by token is a **negative control for the claim itself**: its NMI with the topic is as
# impressive, and it has never seen a context. Only the second number tells the two apart; and that number has
# its own control, since even shuffled topics leave it a little above 0. Mind the untrained router, too:
# random attention mixes the context in, and so random routes depend on it. Learning adds to that.
#
# ## Exercise 3.6 · When do the routes settle? *(fill in · medium · 8 minutes)*
#
# *Saturation* compares the routes at some step with the final ones on the same prompts: which share of
# a token's experts will it keep? In OLMoE, about 60 % after 1 % of the training (arXiv 2409.02060).
#
# Count only what is selected. With 2 of 18 experts selected, two random routes agree on most
# experts, because both leave them out.
#
# <details><summary>Hint</summary>
#
# `(a_NE & b_NE).sum(1)` counts the shared experts of each token; every token selects
# `a_NE.sum(1)` of them.
# </details>


# %%
def overlap(a_NE, b_NE):
    """Share of a token's selected experts that both runs select, averaged over tokens."""
    # --- solution
    return ((a_NE & b_NE).sum(1) / a_NE.sum(1)).mean()
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


overlap = check("overlap", overlap)

# %%
print(f"chance: {cfg.model.top_k / E:.2f}")
for s in range(0, len(raw.step_S), 3):
    shared = [overlap(selected_at(s, i), selected_at(-1, i)) for i in layers]
    print(f"step {raw.step_S[s]:>4}: share of the final experts by layer {np.round(shared, 2)}")

# %% [markdown]
# ## Try it yourself
#
# Train again with one setting changed, and predict the NMI first: `model.top_k` 1, `model.experts` 8,
# `train.balance` 0 or 0.3, `pretrain.learning_rate` 0.002. Does more
# specialisation make a better model? Compare the losses.

# %%
# Your experiment goes here. A run of 200 steps takes about as long as the one above.
# --- solution
print(f"top-2 of {E}, this run: loss", curves["loss_pretrain"][-20:].mean().round(3))
# --- exercise
# ...
# --- end

# %% [markdown]
# ## What this does not show
#
# One seed, one tiny world. Which expert takes which topic is chance, and in another seed another layer
# may specialise most; claims over seeds come in lesson 8. Topics here are strictly apart and their
# answers contradict each other, which is what makes specialists pay off (arXiv 2208.02813); text on the
# web is not like that, and large models show much smaller numbers (OLMoE: .07 to .22 by layer). And
# that an expert is *used* for a topic does not show that the topic *needs* it: that takes an
# intervention, in lesson 5.
#
# **To discuss.** In the curve, NMI first falls and then rises. Look in the film strip at the routes near the
# step where it is lowest: what happened to them, and what pulls them apart again?
# Why does the token's curve not need to fall when the topic's rises? What would you conclude if the
# shuffled control were .2?
