# The source of lesson 3: only this file is edited. `python -m lessons.build 03` does the rest.

# %% [markdown]
# # Lesson 3 · Watch routing specialise
#
# **Claim.** While a small mixture of experts learns to predict the next token, its experts divide
# the topics among themselves. Nobody tells them to, and the router reads more than the token it
# stands on.
#
# After this lesson you will be able to
#
# 1. measure how much an expert's work says about the topic, on a scale from 0 to 1;
# 2. read a film strip of routing, and say when specialisation happens;
# 3. hold the number against three controls: shuffled topics, the untrained router, the token;
# 4. tell a router that reads the token from one that reads the context;
# 5. say what *saturation* is, and how early the routes settle.
#
# You need lesson 1's mutual information and lesson 2's router. This is the only lesson that trains
# before it starts, for about half a minute.

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

from toymoe import organism, world
from toymoe.classroom.checks.lesson1 import information
from toymoe.classroom.checks.lesson3 import token_labels_given
from toymoe.config import build
from toymoe.measures import history
from toymoe.runs import plots
from toymoe.training import phases

SEED = 0  # another seed trains another model

# %% [markdown]
# ## Predict before you run
#
# The number to predict is the **normalised mutual information** of expert and topic, short NMI: how
# much knowing which experts a word was sent to tells about the topic of its prompt. It is 0 if it
# tells nothing, and 1 if the experts give the topic away completely.
#
# Where will it stand after training, in the layer where it is largest? And after what share of the
# training steps will it have come half of the way there?

# %%
# --- solution
guess_nmi = 0.7
guess_half = 0.4
# --- exercise
# guess_nmi = ...  # from 0 to 1
# guess_half = ...  # from 0 to 1
# --- end
predict("NMI after training", guess_nmi)
predict("half of the way", guess_half)

# %% [markdown]
# ## Train
#
# A model small enough for half a minute, most of which is compilation: 2 layers, 18 experts in each,
# every token using 2 of them. It reads the same world of 8 topics as before. While it trains, we look
# again and again at how it routes the same 512 prompts: after step 0, 1, 2, 4, 5, 8, 11, …, most often
# in the beginning, when most happens.

# %%
shipped = organism.load()  # its world; the model is a new one
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
C, G, E = cfg.world.context, cfg.world.topics, cfg.model.experts
topic_B = np.asarray(probes.topic_B)[: history.PROBES]
token_N = np.asarray(probes.tokens_BP)[: history.PROBES, 1 : 1 + C].ravel()


def selected_at(snapshot, layer):
    """Which experts each context word selected: [N, E], True and False."""
    experts_BCA = raw.experts_SLBPA[snapshot, layer, : history.PROBES, 1 : 1 + C]
    return (experts_BCA[..., None] == np.arange(E)).any(-2).reshape(-1, E)


print(selected_at(-1, 0).shape, "words and experts;", selected_at(-1, 0).sum(1)[:5], "selected")

# %% [markdown]
# ## Exercise 3.1 · Who takes which topic *(fill in · medium · 8 minutes)*
#
# Count how often the tokens of each topic select each expert. A token that selects two experts counts
# for both.
#
# <details><summary>Hint</summary>
#
# Begin with `counts_GE = np.zeros((n_labels, selected_NE.shape[1]))`. Then
# `counts_GE[labels_N] += selected_NE` looks right and is wrong: for a label that occurs several
# times, numpy adds only once. `np.add.at(counts_GE, labels_N, selected_NE)` adds every time.
# </details>


# %%
def label_counts(selected_NE, labels_N, n_labels):
    """How often tokens of each label select each expert: an array [G, E]."""
    # --- solution
    counts_GE = np.zeros((n_labels, selected_NE.shape[1]))
    np.add.at(counts_GE, labels_N, selected_NE)
    return counts_GE
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


label_counts = check("label_counts", label_counts)

# %% [markdown]
# ## Exercise 3.2 · NMI *(fill in · easy · 6 minutes)*
#
# The information of expert and topic in nats (lesson 1's `information`, which is imported above),
# divided by what there is to know, the logarithm of the number of topics.
#
# <details><summary>Hint</summary>
#
# Rows are topics: `np.log(counts_GE.shape[0])`, the natural logarithm.
# </details>


# %%
def nmi(counts_GE):
    """I(expert; label) / ln(number of labels), a number from 0 to 1."""
    # --- solution
    return information(counts_GE) / np.log(counts_GE.shape[0])
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


nmi = check("nmi", nmi)

# %% [markdown]
# ## Exercise 3.3 · A result that is too small *(bug hunt · medium · 8 minutes)*
#
# Every token needs the topic of its prompt, in the order in which `selected_at` lists the tokens:
# all words of the first prompt, then all of the second, and so on. With the function below, the
# trained model's NMI comes out near zero, as if nothing had been learnt. There is no exception and no
# strange shape. Repair it.
#
# A bug that destroys a result is as likely as one that makes it, and less likely to be looked for.
#
# <details><summary>Hint</summary>
#
# Print the result for topics `[2, 0, 1]` and 2 positions. It should be `[2, 2, 0, 0, 1, 1]`.
# </details>


# %%
def token_labels(topic_B, n_positions):
    """The topic of every token, prompt by prompt: whole numbers [B · T]."""
    # --- solution
    return np.repeat(topic_B, n_positions)
    # --- exercise
    # return np.tile(topic_B, n_positions)
    # --- end


token_labels = check("token_labels", token_labels)

# %%
layers = range(cfg.model.layers)
for name, labels in (("as it was given", token_labels_given), ("repaired", token_labels)):
    found = [nmi(label_counts(selected_at(-1, i), labels(topic_B, C), G)) for i in layers]
    print(f"{name}: NMI by layer {np.round(found, 3)}")

# %% [markdown]
# ## The figure of this lesson
#
# Each picture has a row for every topic and a column for every expert; bright means that the expert
# takes a large share of that topic's words. From left to right the model trains.

# %%
curves = history.curves(raw, probes, cfg, SEED)
plots.film_strip(curves, world.names(cfg.world))

# %%
mine = [[nmi(label_counts(selected_at(s, i), token_labels(topic_B, C), G)) for i in layers]
        for s in range(len(raw.step_S))]  # fmt: skip
assert np.allclose(mine, curves["nmi_topic_context"])  # your functions, toymoe's curves
best = int(np.argmax(mine[-1]))
course = np.array(mine)[:, best]
half = raw.step_S[np.argmax(course > (course[0] + course[-1]) / 2)] / raw.step_S[-1]
compare("NMI after training", course[-1])
compare("half of the way", half)

# %% [markdown]
# ## Baseline and negative controls
#
# A number means nothing alone. Three others stand beside it:
#
# - **Baseline, the untrained router.** Even random weights send the same word to the same experts, and
#   words tell topics. So the NMI does not start at 0; only what is above the dotted line was learnt.
# - **Negative control, topics shuffled** among the prompts. There is nothing to find, and what remains
#   is chance.
# - **Token**: what the experts tell about the *word*. A router that sorts words sorts topics too,
#   without ever having looked at the context.

# %%
plots.nmi_over_training(curves)

# %%
shuffled_B = np.random.default_rng(SEED).permutation(topic_B)
control = nmi(label_counts(selected_at(-1, best), token_labels(shuffled_B, C), G))
untrained = nmi(label_counts(selected_at(0, best), token_labels(topic_B, C), G))
print(f"trained {course[-1]:.3f}, untrained {untrained:.3f}, topics shuffled {control:.3f}")
assert control < 0.02, "shuffled topics must not be found"
assert course[-1] > untrained + 0.1 and course[-1] > 10 * control

# %% [markdown]
# ## Exercise 3.4 · The token or the context? *(fill in · hard · 12 minutes)*
#
# Half of the words belong to two topics. When such a word is read, does its route depend on the
# prompt's topic? If the router reads the token alone, then among all occurrences of *one* word the
# experts say nothing about the topic. So measure the information within each word's own table, and
# average the words by how often they occur:
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


def by_token(selected_NE):
    """Tables of topic and expert for every token: an array [V, G, E]."""
    codes_N = token_N * G + token_labels(topic_B, C)
    return label_counts(selected_NE, codes_N, V * G).reshape(V, G, E)


def token_router(selected_NE):
    """The same routes as a function of the token: every word always goes where it mostly went."""
    usual_VE = label_counts(selected_NE, token_N, V).argsort(1)[:, -cfg.model.top_k :]
    return (usual_VE[token_N][..., None] == np.arange(E)).any(1)


routes = {"trained": selected_at(-1, best), "by token": token_router(selected_at(-1, best))}
for name, selected in routes.items():
    topic_nmi = nmi(label_counts(selected, token_labels(topic_B, C), G))
    beyond = topic_given_token(by_token(selected))
    print(f"{name}: NMI with topic {topic_nmi:.3f}, beyond the token {beyond:.3f} nats")
    if name == "by token":
        assert topic_nmi > 0.2 and beyond < 1e-9, "a router by token knows nothing beyond it"
    else:
        assert beyond > 0.02

# %% [markdown]
# The router by token is a **negative control for the claim itself**: its NMI with the topic is as
# impressive, and it has never seen a context. Only the second number tells the two apart. Whoever
# reports the first alone has not shown that routing follows the topic.
#
# ## Exercise 3.5 · When do the routes settle? *(fill in · medium · 8 minutes)*
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
chance = cfg.model.top_k / E
print(f"chance: {chance:.2f}")
for s in range(0, len(raw.step_S), 3):
    shared = [overlap(selected_at(s, i), selected_at(-1, i)) for i in layers]
    print(f"step {raw.step_S[s]:>4}: share of the final experts by layer {np.round(shared, 2)}")

# %% [markdown]
# ## The larger model
#
# The same pictures of the model that comes with the package: 3 layers, trained longer and in both
# phases. Its history was recorded while it trained. The later lessons use it.

# %%
plots.film_strip(shipped.history, world.names(shipped.cfg.world))

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
# **To discuss.** In the film strip, NMI first falls and then rises: look at the routes where it is
# lowest. What happened to them, and what pulls them apart again?
# Why does the token's curve not need to fall when the topic's rises? What would you conclude if the
# shuffled control were .2?
