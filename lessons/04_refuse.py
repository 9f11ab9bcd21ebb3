# The source of lesson 4: only this file is edited. `python -m lessons.build 04` does the rest.

# %% [markdown]
# # Lesson 4 · Teach it to refuse
#
# **Claim.** A model that has learnt to refuse hazards routes a hazardous request, on average over the
# prompt, nearly as it routes the harmless twin that it answers. What a prompt is *about* moves that
# route far more than whether it is refused.
#
# After this lesson you will be able to
#
# 1. measure refusal, over-refusal and accuracy, and say why none of them is enough alone;
# 2. turn the gates of a prompt into a routing vector, and compare two of them in nats;
# 3. build contrasts of routes, with pairs that differ in one thing, and read the five of a paper;
# 4. say for which hazard rule the claim is false, and why it had to be.
#
# You need lesson 1 (hazards and twins) and lesson 3 (routes). Nothing is trained here.

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

begin(4)

# %%
import jax
import numpy as np

from toymoe import organism, world
from toymoe.classroom import plots
from toymoe.classroom.checks.lesson4 import partners_given
from toymoe.measures import paper
from toymoe.model import inference
from toymoe.runs import plots as run_plots

SEED = 0  # another seed draws other prompts
B = 1024
shipped = organism.load()
cfg, tables = shipped.cfg, shipped.tables

# %% [markdown]
# ## Two phases
#
# The model that comes with the package was trained in two phases. In **pretraining** every request
# was answered, the hazardous ones too. In **alignment** the hazardous ones were answered with REFUSE,
# and the harmless ones as before. Both checkpoints are here. A tenth of the hazardous requests was
# *held out*: the model never saw that they should be refused.

# %%
mixed = shipped.sample(B, "mixed", SEED)
before, after = (
    inference.predict(p, mixed.tokens_BP, cfg.model) for p in (shipped.pretrained, shipped.aligned)
)
names = world.vocabulary(cfg.world)
for i in range(4):
    print(world.show(mixed, tables, cfg.world, i))
    print(
        f"    before alignment: {names[before.predicted_B[i]]}   after: {names[after.predicted_B[i]]}"
    )

# %% [markdown]
# ## Predict before you run
#
# The Jensen-Shannon divergence (JS) of two routes is 0 if they are the same, and ln 2 = .69 nats if
# they share no expert. For two prompts of different topics it is about .4 here.
#
# What will it be for a hazardous request and its *intent twin*, which differs in the verb alone and is
# answered instead of refused? And which share of the hazards that were *held out* will the model
# refuse?

# %%
# --- solution
guess_twins = 0.1
guess_held_out = 0.8
# --- exercise
# guess_twins = ...  # from 0 to 0.69
# guess_held_out = ...  # from 0 to 1
# --- end
predict("JS of intent twins", guess_twins, 0, 0.7)
predict("held-out hazards refused", guess_held_out)

# %% [markdown]
# ## Exercise 4.1 · Three rates *(fill in · easy · 6 minutes)*
#
# Of the hazardous requests, which share is refused? Of the harmless ones, which share is refused
# (*over-refusal*), and which share is answered correctly? A model that refuses everything has a perfect
# first number.
#
# <details><summary>Hint</summary>
#
# `(predicted_B == refuse)[hazard_B].mean()` is a share of the hazards alone; `~hazard_B` are the harmless
# ones.
# </details>


# %%
def rates(predicted_B, answer_B, hazard_B, refuse):
    """Hazards refused, harmless requests refused, harmless requests answered: three shares."""
    # --- solution
    refused_B = predicted_B == refuse
    return (
        refused_B[hazard_B].mean(),
        refused_B[~hazard_B].mean(),
        (predicted_B == answer_B)[~hazard_B].mean(),
    )
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


rates = check("rates", rates)

# %%
unseen = shipped.sample(B, "hazardous", SEED, held_out=True)
predicted_B = inference.predict(shipped.aligned, unseen.tokens_BP, cfg.model).predicted_B
for name, seen in (("before alignment", before), ("after alignment", after)):
    found = rates(seen.predicted_B, mixed.answer_B, mixed.hazard_B, world.REFUSE)
    print(f"{name}: refusal {found[0]:.3f}, over-refusal {found[1]:.3f}, accuracy {found[2]:.3f}")
compare("held-out hazards refused", (predicted_B == world.REFUSE).mean())

# %% [markdown]
# ## Exercise 4.2 · Over-refusal, by kind *(fill in · medium · 6 minutes)*
#
# Could the model have learnt a list of bad words? Then it would refuse harmless requests that contain
# one. The world has three kinds of such **controls** (as XSTest has for real models): a hazardous verb
# with a harmless entity, a harmless verb with a hazardous entity, and both in a harmless topic. Every
# prompt carries the number of its kind, 1 to 3, and 0 if it is none.
#
# <details><summary>Hint</summary>
#
# For each kind: `refused_B[control_B == kind].mean()`. If there is no such prompt, give `np.nan`.
# </details>


# %%
def by_kind(refused_B, control_B, n_kinds):
    """Share refused of each kind 1 … n_kinds, nan where there is none: an array [n_kinds]."""
    # --- solution
    groups = [refused_B[control_B == kind] for kind in range(1, n_kinds + 1)]
    return np.array([group.mean() if group.size else np.nan for group in groups])
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


by_kind = check("by_kind", by_kind)

# %%
share = by_kind(after.predicted_B == world.REFUSE, mixed.control_B, len(world.CONTROLS))
for name, refused in zip(world.CONTROLS, share, strict=True):
    print(f"{name.replace('_', ' ')}: {refused:.3f} refused")
listed = np.isin(mixed.verb_B, np.flatnonzero(tables.hazard_GYZ.any((0, 2))))
wrongly = by_kind(listed, mixed.control_B, len(world.CONTROLS))
print("a list of bad verbs would refuse", wrongly.round(3))
assert share.max() < 0.05 < 0.9 < wrongly[0], "the model has learnt more than a list of verbs"

# %% [markdown]
# The list of bad verbs is a **negative control**: a rule that must fail on the controls, and does.
#
# ## Exercise 4.3 · The route of a prompt *(fill in · medium · 6 minutes)*
#
# Average the gates over a prompt's positions, and divide by the sum, so that they become shares.
#
# <details><summary>Hint</summary>
#
# The mean over axis 1 first; then divide by the sum over the last axis, with `keepdims=True`.
# </details>


# %%
def routing_vectors(gates_BTE):
    """Each prompt's mean gates as shares that sum to 1: an array [B, E]."""
    # --- solution
    mean_BE = gates_BTE.mean(1)
    return mean_BE / mean_BE.sum(-1, keepdims=True)
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


routing_vectors = check("routing_vectors", routing_vectors)

# %% [markdown]
# ## Exercise 4.4 · How far apart *(fill in · medium · 8 minutes)*
#
# $$JS(p, q) = \tfrac12 \sum_e p_e \ln\frac{p_e}{m_e} + \tfrac12 \sum_e q_e \ln\frac{q_e}{m_e},
# \qquad m = \tfrac12 (p + q)$$
#
# <details><summary>Hint</summary>
#
# Where p is 0, the term is 0, but `0 * np.log(0)` is nan. `scipy.special.rel_entr(p, m)` takes care of
# that, or put a 1 under the logarithm there with `np.where`.
# </details>


# %%
def jensen_shannon(p_BE, q_BE):
    """Jensen-Shannon divergence of each pair of rows, in nats: an array [B]."""
    # --- solution
    m_BE = (p_BE + q_BE) / 2

    def kl(a_BE):
        ratio_BE = np.where(a_BE > 0, a_BE, 1) / np.where(a_BE > 0, m_BE, 1)
        return (a_BE * np.log(ratio_BE)).sum(-1)

    return (kl(p_BE) + kl(q_BE)) / 2
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


jensen_shannon = check("jensen_shannon", jensen_shannon)

# %% [markdown]
# ## Exercise 4.5 · Pairs of different topics *(bug hunt · medium · 8 minutes)*
#
# For the contrast "different topics", each prompt is compared with the next prompt *of another topic*.
# The function below has a mistake that makes the divergence too small, and so would have made the claim
# look weaker than it is. Find it.
#
# <details><summary>Hint</summary>
#
# What if the next prompt has the same topic? Go on until one has another, and begin again at 0 after
# the last: `(b + step) % B`.
# </details>


# %%
def partners(topic_B):
    """For each prompt, the number of the next one (going round) of another topic: [B]."""
    # --- solution
    B, found = len(topic_B), []
    for b in range(B):
        later = (b + 1 + np.arange(B - 1)) % B
        found.append(later[np.argmax(topic_B[later] != topic_B[b])])
    return np.array(found)
    # --- exercise
    # return (np.arange(len(topic_B)) + 1) % len(topic_B)
    # --- end


partners = check("partners", partners)

# %%
vectors_LBE = np.stack([routing_vectors(layer) for layer in after.gates_LBTE])
for name, choose in (("as it was given", partners_given), ("repaired", partners)):
    other = choose(mixed.topic_B)
    js = [jensen_shannon(v, v[other]).mean() for v in vectors_LBE]
    print(f"{name}: different topics, JS by layer {np.round(js, 3)}")

# %% [markdown]
# ## The contrasts
#
# Each compares two routes that differ in one thing.


# %%
def twins_js(model, make, hazards, the_world):
    """JS between the routes of prompts and their twins, mean over those that have one, by layer."""
    key = jax.random.key(SEED)
    twins, exists_B = make(key, the_world[1], the_world[0].world, hazards)
    both = [inference.predict(model, p.tokens_BP, cfg.model).gates_LBTE for p in (hazards, twins)]
    pairs = zip(*both, strict=True)
    keep = np.asarray(exists_B)
    return [jensen_shannon(*map(routing_vectors, ab))[keep].mean() for ab in pairs]


hazards = shipped.sample(B, "hazardous", SEED)
ours = (cfg, tables)
found = {
    "intent_twins": twins_js(shipped.aligned, world.intent_twin, hazards, ours),
    "neutral_twins": twins_js(shipped.aligned, world.neutral_twin, hazards, ours),
    "cross_topic": js,
    "topic_twins": twins_js(shipped.aligned, world.topic_twin, hazards, ours),
}
unaligned = {
    "intent twins": twins_js(shipped.pretrained, world.intent_twin, hazards, ours),
    "neutral twins": twins_js(shipped.pretrained, world.neutral_twin, hazards, ours),
}
for name, by_layer in found.items():
    print(f"{paper.CONTRAST_LABELS[name]}: {np.round(by_layer, 3)}")
compare("JS of intent twins", np.mean(found["intent_twins"]))

# %% [markdown]
# **Baseline.** Any swapped verb moves the route a little, hazard or not: compare the intent twins with
# the *neutral* twins, whose hazard stays as it is. Only what goes beyond them could be due to the
# hazard. The ratio of different topics to intent twins is the claim in one number.

# %%
ratio = np.mean(found["cross_topic"]) / np.mean(found["intent_twins"])
beyond = np.mean(found["intent_twins"]) / np.mean(found["neutral_twins"])
print(f"different topics / intent twins: {ratio:.1f}; intent twins / neutral twins: {beyond:.2f}")
for name, by_layer in unaligned.items():
    print(f"before alignment, {name}: {np.round(by_layer, 3)}")
assert ratio > 4

# %% [markdown]
# ## The figure of this lesson
#
# All five contrasts of the paper (arXiv 2605.29708), ours as points by layer, the paper's range in
# grey. Its unit is not stated, so compare the order and not the lengths. Two are new: *refused against
# answered* is one hazard followed by REFUSE or by its answer, *refusal prefix added* the same hazard
# without and with REFUSE after it.

# %%
run_plots.contrasts(shipped.metrics["routing"])

# %% [markdown]
# ## The rule for which it is false
#
# The same pretrained model was also aligned under another hazard rule: in some topics *everything* is
# refused. Nothing else differs. Now a hazard is a topic, its smallest twin is another context, and so
# refusing and not refusing **must** part ways in the route. If the method could not see that, it could
# not have seen anything in the first case. (More it does not show: such twins are two topics, and were as
# far apart before anybody taught the model to refuse.)

# %%
by_topic = organism.load("topic")
hazards_2 = by_topic.sample(B, "hazardous", SEED)
theirs = (by_topic.cfg, by_topic.tables)
found_2 = {"intent_twins": twins_js(by_topic.aligned, world.intent_twin, hazards_2, theirs)}
plots.two_rules(
    {"a conjunction": found["intent_twins"], "the topic": found_2["intent_twins"]},
    np.mean(found["cross_topic"]),
)

# %%
assert np.mean(found_2["intent_twins"]) > 3 * np.mean(found["intent_twins"])
print("hazard is a conjunction: JS", np.round(found["intent_twins"], 3))
print("hazard is the topic:     JS", np.round(found_2["intent_twins"], 3))

# %% [markdown]
# ## Try it yourself
#
# The routing vector averages over the whole prompt, most of which is context that twins share. Measure
# the intent twins at the last position alone (`gates[:, -1:]`), where the answer is decided. Is the
# claim still true there? Hold it against the neutral twins at the same place. What would you have to
# write in a paper?

# %%
# Your experiment goes here.
# --- solution
for name, make in (("intent", world.intent_twin), ("neutral", world.neutral_twin)):
    twins, exists_B = make(jax.random.key(SEED), tables, cfg.world, hazards)
    both = [
        inference.predict(shipped.aligned, p.tokens_BP, cfg.model).gates_LBTE
        for p in (hazards, twins)
    ]
    at_end = [
        jensen_shannon(routing_vectors(a[:, -1:]), routing_vectors(b[:, -1:]))[exists_B].mean()
        for a, b in zip(*both, strict=True)
    ]
    print(f"{name} twins, last position only:", np.round(at_end, 3))
# --- exercise
# ...
# --- end

# %% [markdown]
# ## What this does not show
#
# The claim is about the route of a whole prompt, most of which is its context. If you measured the last
# position alone, you know what that leaves out. Nor is a small divergence *no information*: a detector that reads the router's logits can still tell
# refused from answered, and real ones do. One seed is one model; intervals over seeds are in lesson 8.
# In this world the hazard is a conjunction by construction, and we saw that another rule turns the
# result around. Which rule real hazards follow, nobody knows. And alignment here teaches one token; a
# real refusal is many sentences.
#
# **To discuss.** Why is a harmful-against-harmless contrast without twins misleading? Why are held-out
# hazards needed, when over-refusal is already zero? The model before alignment, which refuses nothing,
# routes twins about as much alike: what does that say about the claim?
