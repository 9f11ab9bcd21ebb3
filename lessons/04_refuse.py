# The source of lesson 4: only this file is edited. `python -m lessons.build 04` does the rest.

# %% [markdown]
# # Lesson 4 · Teach it to refuse
#
# **Question.** A model that answered everything is taught to refuse what is hazardous. When it refuses,
# do its words take another route, through other experts? And if they do: is it the route that decides?
#
# After this lesson you will be able to
#
# 1. measure refusal, over-refusal and accuracy, and say why none of them is enough alone;
# 2. turn the gates of a prompt into a routing vector, and compare two of them in nats;
# 3. build contrasts of routes, and hold them against a router that has learnt nothing;
# 4. tell a difference between routes from a cause, by exchanging routes;
# 5. say for which hazard rule refusal does show in the route, and why it had to.
#
# You need lesson 1 (hazards and twins) and lesson 3 (routes, and what NMI says of them). Nothing is
# trained here.

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

from toymoe import explorer, organism, world
from toymoe.attribution import evidence, route_patching
from toymoe.classroom import plots, seeds
from toymoe.classroom.checks.lesson4 import partners_given
from toymoe.measures import paper
from toymoe.model import inference

SEED = 0  # another seed draws other prompts
B = 1024
shipped = organism.load()
cfg, tables = shipped.cfg, shipped.tables

# %% [markdown]
# ## Two phases
#
# The model that comes with the package was trained in two phases. In **pretraining** every request
# was answered, the hazardous ones too. In **alignment** the hazardous ones were answered with REFUSE,
# and the harmless ones as before. Both checkpoints are here. A twelfth of the hazardous requests was
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
# answered instead of refused? Which share of the hazards that were *held out* will the model refuse?
# And if every hazard goes, at every word and in every layer, through exactly the experts that its twin
# goes through: what share is refused then?

# %%
# --- solution
guess_twins = 0.1
guess_held_out = 0.8
guess_on_route = 0.5
# --- exercise
# guess_twins = ...  # from 0 to 0.69
# guess_held_out = ...  # from 0 to 1
# guess_on_route = ...  # from 0 to 1
# --- end
predict("JS of intent twins", guess_twins, 0, 0.7)
predict("held-out hazards refused", guess_held_out)
predict("hazards refused on their twin's route", guess_on_route)

# %% [markdown]
# ## Look first
#
# The explorer asks this very model. *Draw a hazard* does that; the page says what is right, why, and whether
# alignment ever asked this request; *Swap the verb for its twin* makes the intent twin.

# %%
explorer.show(shipped)

# %% [markdown]
# ## Exercise 4.1 · A hazard nobody asked *(look · easy · 5 minutes)*
#
# Whoever learns by heart refuses what was asked in training. Find a hazard that alignment **never asked**, that
# the model refuses all the same, and whose twins are answered right. The **control** stands beside it: before
# alignment the same request was answered. Return the link.
#
# <details><summary>Hint</summary>
#
# Draw until the page says *and alignment never asked it*, as it does of one hazard in a dozen; or try verbs and
# entities one after the other in a topic with a !.
# </details>


# %%
def unasked():
    """A state of the explorer: a held-out hazard, refused, whose twins are answered. Text."""
    # --- solution
    words = "fern1 fern2 echo-fern2 fern2 fern3 fern2 fern2 echo-fern2 fern4 fern-glow1"
    return f"#prompt=BOS.{words.replace(' ', '.')}.ASK.melt.rope.ANS"
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


unasked = check("unasked", unasked)

# %%
asked = explorer.asked(shipped, explorer.read(unasked(), shipped))
print("right:", asked.right)
for name, said in (("before alignment", asked.pretrained), ("after alignment", asked.aligned)):
    print(f"{name}: {said.word}, refusal margin {said.margin:+.1f} nats")

# %% [markdown]
# ## Exercise 4.2 · Three rates *(fill in · easy · 6 minutes)*
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
held_out = shipped.sample(B, "hazardous", SEED, held_out=True)
predicted_B = inference.predict(shipped.aligned, held_out.tokens_BP, cfg.model).predicted_B
for name, seen in (("before alignment", before), ("after alignment", after)):
    found = rates(seen.predicted_B, mixed.answer_B, mixed.hazard_B, world.REFUSE)
    print(f"{name}: refusal {found[0]:.3f}, over-refusal {found[1]:.3f}, accuracy {found[2]:.3f}")
compare("held-out hazards refused", (predicted_B == world.REFUSE).mean())

# %% [markdown]
# ## Exercise 4.3 · Over-refusal, by kind *(fill in · medium · 6 minutes)*
#
# Could the model have learnt a list of bad words? Then it would refuse harmless requests that contain
# one. The world has three kinds of such **controls** (as XSTest has for real models): a hazardous verb
# with a harmless entity, a harmless verb with a hazardous entity, and both in a harmless topic. Every
# prompt carries the number of its kind, 1 to 3, and 0 if it is none.
#
# <details><summary>Hint</summary>
#
# `for kind in range(1, n_kinds + 1)`: `refused_B[control_B == kind].mean()`. If there is no such
# prompt, give `np.nan`.
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
assert share.max() < 0.05 < wrongly.max(), "the model has learnt more than a list of verbs"

# %% [markdown]
# The list of bad verbs is the **baseline**: a model that had learnt no more would look like that.
#
# ## Exercise 4.4 · The route of a prompt *(fill in · medium · 6 minutes)*
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
# ## Exercise 4.5 · How far apart *(fill in · medium · 8 minutes)*
#
# $$JS(p, q) = \tfrac12 \sum_e p_e \ln\frac{p_e}{m_e} + \tfrac12 \sum_e q_e \ln\frac{q_e}{m_e},
# \qquad m = \tfrac12 (p + q)$$
#
# <details><summary>Hint</summary>
#
# Begin with `m_BE = (p_BE + q_BE) / 2`. Where p is 0, the term is 0, but `0 * np.log(0)` is nan.
# `rel_entr(p_BE, m_BE)` from `scipy.special` takes care of that. Or put a 1 there for p *and* for m
# with `np.where`: an expert that neither of the two uses has m = 0.
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
# ## Exercise 4.6 · Pairs of different topics *(bug hunt · medium · 8 minutes)*
#
# For the contrast "different topics", each prompt is compared with the next prompt *of another topic*.
# The function below has a mistake that makes the divergence too small, as if the topic moved the route less
# than it does. Find it.
#
# <details><summary>Hint</summary>
#
# What if the next prompt has the same topic? Go on until one has another. A number that has gone past
# the last prompt begins again at 0 with `% len(topic_B)`.
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
for name, choose in (("as it was given", partners_given), ("as it should be", partners)):
    other = choose(mixed.topic_B)
    js = [jensen_shannon(v, v[other]).mean() for v in vectors_LBE]
    print(f"{name}: different topics, JS by layer {np.round(js, 3)}")

# %% [markdown]
# ## The contrasts
#
# Each compares routes that differ in one thing, in three models: with random weights, before alignment,
# and after it. The **baselines** are below each line: prompts of one topic for those of two, and for the
# intent twins two kinds of twins whose hazard stays as it is: the *neutral* ones, another hazardous verb in the
# same request, and the *harmless* ones, the very words that intent twins exchange, in a topic where neither request
# is a hazard. Only what goes beyond them can be due to the topic, or to the hazard.


# %%
def twins_of(make, prompts, the_world):
    """Prompts and their twins, those that have one."""
    its_cfg, its_tables = the_world
    twins, exists_B = make(jax.random.key(SEED), its_tables, its_cfg.world, prompts)
    keep = np.asarray(exists_B)
    return [world.Prompts(*(np.asarray(x)[keep] for x in p)) for p in (prompts, twins)]


def in_a_harmless_topic(pair):
    """Twins, asked in a topic in which neither of the two is a hazard."""
    *moved, exists_B = world.harmless_pair(jax.random.key(SEED), tables, cfg.world, *pair)
    keep = np.asarray(exists_B)
    return [world.Prompts(*(np.asarray(x)[keep] for x in p)) for p in moved]


def gates_of(params, prompts):
    """The gates of some prompts, [L, B, T, E]."""
    return inference.predict(params, prompts.tokens_BP, cfg.model).gates_LBTE


def js_of(a_LBTE, b_LBTE):
    """JS of pairs of routes, mean over the pairs, by layer."""
    pairs = zip(a_LBTE, b_LBTE, strict=True)
    return np.array([jensen_shannon(*map(routing_vectors, ab)).mean() for ab in pairs])


hazards = shipped.sample(B, "hazardous", SEED)
ours = (cfg, tables)
intent = twins_of(world.intent_twin, hazards, ours)
neutral = twins_of(world.neutral_twin, hazards, ours)
harmless = in_a_harmless_topic(intent)
order = np.argsort(mixed.topic_B, kind="stable")
next_B, alike_B = np.roll(order, -1), mixed.topic_B[order] == mixed.topic_B[np.roll(order, -1)]
models = {
    "untrained": organism.seeded.params(cfg),
    "before alignment": shipped.pretrained,
    "after": shipped.aligned,
}
found, at_ans, forks = {}, {}, {}
for which, params in models.items():
    gates = gates_of(params, mixed)
    both, kept, moved = (
        [gates_of(params, p) for p in pair] for pair in (intent, neutral, harmless)
    )
    found[which] = {
        "cross_topic": js_of(gates, gates[:, partners(mixed.topic_B)]),
        "same_topic": js_of(gates[:, order[alike_B]], gates[:, next_B[alike_B]]),
        "intent_twins": js_of(*both),
        "neutral_twins": js_of(*kept),
        "harmless_twins": js_of(*moved),
    }
    at_ans[which] = [js_of(a[:, :, -1:], b[:, :, -1:]) for a, b in (both, moved)]
    forks[which] = [[(g[:, :, -1] > 0).mean(1) for g in pair] for pair in (both, moved)]

# %%
print(f"{'JS in nats, mean over layers':<48}", *(f"{which:>17}" for which in models))
for name in found["after"]:
    values = [found[which][name].mean() for which in models]
    print(f"{paper.CONTRAST_LABELS[name]:<48}", *(f"{x:17.3f}" for x in values))
ratios = {
    name: {
        which: found[which]["cross_topic"].mean() / found[which][below].mean() for which in models
    }
    for name, below in (
        ("different topics ÷ one topic", "same_topic"),
        ("different topics ÷ intent twins", "intent_twins"),
    )
}
for layer in range(cfg.model.layers):
    ratios[f"intent ÷ harmless twins, at ANS alone, layer {layer}"] = {
        which: a_L[layer] / b_L[layer] for which, (a_L, b_L) in at_ans.items()
    }
for name, by_model in ratios.items():
    print(f"{name:<48}", *(f"{x:17.2f}" for x in by_model.values()))
compare("JS of intent twins", found["after"]["intent_twins"].mean())
across, twins, *_, last = ratios.values()
assert across["after"] > 3 * across["untrained"], "the route has learnt to tell topics"
assert twins["untrained"] > max(twins["before alignment"], twins["after"]), "this one has not"
assert last["after"] > 1.5 * last["before alignment"], "alignment has moved the route of twins"

# %% [markdown]
# So what a prompt is *about* moves its route far more than whether it is refused: did you expect that?
#
# **A number that misleads.** Different topics ÷ intent twins says it in one number, and it is large. But it is largest in the *untrained* model. A random router already tells words apart; twins
# have all words but one in common, and prompts of two topics only a few. Training lowers the ratio,
# since the route begins to depend on the whole request. A number that is at its best where nothing has
# been learnt says nothing about learning, nor about refusal. Different topics ÷ one topic does: random
# weights do not reach it, and it hardly changes when the model is taught to refuse.
#
# ## The fork at ANS
#
# The last lines of the table are less comfortable. At ANS, where the answer is decided, alignment has
# moved intent twins apart in the last layer, twice as far as the same words do where nothing is hazardous; a mean
# over layers hides it. So look at the experts one by one: which
# share of the hazards selects each at ANS, and which share of their twins? The largest gap of a layer is
# its *fork*. The control is the gap of the same words in a harmless topic. Why not that of neutral twins? Both
# of them are hazards, with the same verbs on either side: their gap is 0 but for luck, whatever the router does.

# %%
for which in ("before alignment", "after"):
    (hazards_LE, twins_LE), (a_LE, b_LE) = forks[which]
    for layer, gap_E in enumerate(np.abs(hazards_LE - twins_LE)):
        e = gap_E.argmax()
        print(
            f"{which}, layer {layer}: expert {e} is selected by {hazards_LE[layer, e]:.2f} of the hazards "
            f"and {twins_LE[layer, e]:.2f} of their twins; largest gap in a harmless topic "
            f"{np.abs(a_LE - b_LE)[layer].max():.2f}"
        )
gap, control = (np.abs(np.subtract(*pair)).max() for pair in forks["after"])
before = np.abs(np.subtract(*forks["before alignment"][0])).max()
assert gap > 1.5 * max(before, control), "what alignment did, and not the words"

# %% [markdown]
# ## Does the route decide?
#
# A difference between routes may be the cause of refusing, or its shadow. To tell them apart, exchange
# the routes and leave all else: the hazard keeps its words, but selection and gates, in every layer and
# at every position, are those of its twin. If the route carried refusal, these hazards would be
# answered, and twins on the route of their hazard refused. The **negative control** is a route as foreign
# as that, on which nothing about the hazard changes: that of the neutral twin.


# %%
def exchanged(params, pair):
    """Of prompts on the route of their twins, and the other way round: what is refused."""
    return route_patching.exchanged(evidence.Evidence(params, cfg.model, *pair))


foreign = twins_of(world.neutral_twin, intent[1], ours)
swapped = exchanged(shipped.aligned, intent)
hazards_control, harmless_control = (
    exchanged(shipped.aligned, pair)["hazards"] for pair in (neutral, foreign)
)
for name, route, rates_there in (
    ("hazards", "their own", swapped["hazards"]["own"]),
    ("hazards", "a neutral twin's", hazards_control),
    ("hazards", "their harmless twin's", swapped["hazards"]),
    ("harmless twins", "their own", swapped["twins"]["own"]),
    ("harmless twins", "a neutral twin's", harmless_control),
    ("harmless twins", "their hazard's", swapped["twins"]),
):
    print(
        f"{name:<14} on {route + ' route':<27}: refused {rates_there['refused']:.2f}, "
        f"answered right {rates_there['answered']:.2f}"
    )
compare("hazards refused on their twin's route", swapped["hazards"]["refused"])
assert swapped["hazards"]["refused"] > swapped["twins"]["refused"], (
    "words count more than the route"
)
assert swapped["twins"]["refused"] > harmless_control["refused"], "but the route is not innocent"

# %%
over = seeds.load()  # what `toymoe sweep --seeds 0-9` found in ten models
for name, column in (("hazards on their twin's", "hazards"), ("twins on their hazard's", "twins")):
    found_S = over.columns[f"inside.route.{column}.refused"]
    print(
        f"{name} route, {len(found_S)} models: refused {found_S.min():.2f} to {found_S.max():.2f}, "
        f"median {np.median(found_S):.2f}"
    )

# %% [markdown]
# **Claim.** What a prompt is *about* moves its route far more than whether it is refused. And the route
# does not decide: most hazards are still refused when they are sent along the route of the harmless
# twin that is answered.
#
# Nor is the route innocent. Some harmless requests are refused on any foreign route, but on their
# hazard's more of them: it leads through the expert of the fork, and lesson 5 finds what that expert does.
#
# ## The figure of this lesson
#
# The contrasts of a paper (arXiv 2605.29708), its range in grey, and our controls: each of the three
# models, mean over layers. The paper does not state its unit, so compare the order and not the lengths.
# Two are new: *refused against answered* is one hazard followed by REFUSE or by its answer, *refusal
# prefix added* the same hazard without and with REFUSE after it.

# %%
plots.contrasts(shipped.metrics["routing"]["contrasts"])

# %% [markdown]
# ## The rule under which it shows
#
# The same pretrained model was also aligned under another hazard rule: in some topics *everything* is
# refused. Nothing else differs. Now a hazard is a topic, its smallest twin is another context, and so
# refusing and not refusing should part ways in the route. If the method could not see that, it could
# not have seen anything in the first case either. What do you expect of the exchanged routes here?

# %%
by_topic = organism.load("topic")
hazards_2 = by_topic.sample(B, "hazardous", SEED)
intent_2 = twins_of(world.intent_twin, hazards_2, (by_topic.cfg, by_topic.tables))
found_2 = js_of(*(gates_of(by_topic.aligned, p) for p in intent_2))
plots.two_rules(
    {"a conjunction": found["after"]["intent_twins"], "the topic": found_2},
    found["after"]["cross_topic"].mean(),
)

# %%
before_2 = js_of(*(gates_of(by_topic.pretrained, p) for p in intent_2))
swapped_2 = exchanged(by_topic.aligned, intent_2)
print("hazard is a conjunction: JS", np.round(found["after"]["intent_twins"], 3))
print(
    "hazard is the topic:     JS", np.round(found_2, 3), "before alignment", np.round(before_2, 3)
)
for name, other in (("hazards", "twin"), ("twins", "hazard")):
    print(f"{name} on their {other}'s route: refused {swapped_2[name]['refused']:.2f}")
assert found_2.mean() > 3 * found["after"]["intent_twins"].mean()
assert swapped_2["hazards"]["refused"] > swapped_2["twins"]["refused"], "shown, and yet not carried"

# %% [markdown]
# These twins are two topics, and were as far apart before anybody taught the model to refuse. And here is
# the warning of this lesson: their routes could hardly differ more, yet exchanging them does not exchange
# refusing and answering. What *tells* refused from answered need not be what *decides*.
#
# ## Try it yourself
#
# Break the claim. Find a kind of twin, or another hazard rule's model, whose hazards are refused least on
# the twin's route, or whose twins are refused most on the hazard's: `world.object_twin` swaps the
# entity, `world.topic_twin` the context. Hold it against the neutral twins. Does it matter how far apart
# the routes are at ANS?

# %%
# Your experiment goes here.
# --- solution
for name, make in (("intent", world.intent_twin), ("object", world.object_twin)):
    pair = twins_of(make, hazards, ours)
    routes = [gates_of(shipped.aligned, p)[:, :, -1:] for p in pair]
    there = exchanged(shipped.aligned, pair)
    print(
        f"{name} twins: JS at ANS {js_of(*routes).round(2)}, hazards refused "
        f"{there['hazards']['refused']:.2f}, twins refused {there['twins']['refused']:.2f}"
    )
# --- exercise
# ...
# --- end

# %% [markdown]
# ## What this does not show
#
# That most hazards are refused on another route does not say that *no* expert matters: the experts of
# that route still see the hazard's words, and lesson 5 finds few that matter much. Nor is a small divergence
# *no information*: a detector that reads the router's logits can tell refused from answered, and real
# ones do. An exchanged route is one that the model never met. One seed is one model; intervals over
# seeds are in lesson 8. In this world the hazard is a conjunction by construction. Which rule real
# hazards follow, nobody knows. And alignment here teaches one token; a real refusal is many sentences.
#
# **To discuss.** Why is a harmful-against-harmless contrast without twins misleading? Why are held-out
# hazards needed, when over-refusal is already zero? What would the contrasts have to look like for you to
# say that refusing *is* a route, and what would you exchange to be sure?
