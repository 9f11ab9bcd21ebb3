# The source of lesson 5: only this file is edited. `python -m lessons.build 05` does the rest.

# %% [markdown]
# # Lesson 5 · Where does refusal live?
#
# **Question.** A model refuses nearly every hazard. Does refusal have a place in it: in a few experts or in all,
# in the router, in attention? And if it has one, is that because of the model, or because of how it was taught?
#
# After this lesson you will be able to
#
# 1. tell *necessary* from *sufficient* by exchanging weights between two checkpoints;
# 2. rank experts on one half of the data, judge the ranking on the other, and say in one number how
#    few they are;
# 3. tell three ways to take an expert out: set back, silenced, masked in the router;
# 4. hold a ranking against chance, against equal usage, and against a sham;
# 5. predict where refusal will sit when alignment may write elsewhere, and try it.
#
# You need lesson 2 (experts and gates) and lesson 4 (twins). On the way a model is aligned three times, in
# a few seconds each.

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

begin(5)

# %%
import dataclasses

import jax
import numpy as np
from scipy.stats import rankdata, spearmanr

from toymoe import explorer, organism, world
from toymoe.attribution import evidence, localisation, methods, removal, weight_patching
from toymoe.classroom import plots, seeds
from toymoe.classroom.checks.lesson5 import half_gone_given
from toymoe.model import inference
from toymoe.training import phases
from toymoe.training.trainable import Trainable
from toymoe.validation import realigned

SEED = 0  # another seed draws other prompts
shipped = organism.load()
pairs = evidence.gather(
    shipped.aligned, shipped.tables, shipped.cfg, jax.random.key(SEED), 256, shipped.pretrained
)
print(
    len(pairs.hazards.answer_B),
    "hazardous prompts, each with the harmless twin that differs in the verb",
)

# %% [markdown]
# ## Predict before you run
#
# The model has 54 experts, 18 in each of 3 layers, and refuses nearly every hazard. *Set back* the one
# expert that matters most, that is, give it the weights that it had before alignment, and leave all
# else: what share of the hazards is still refused?
#
# And set back the routers, all else as it is: what share of the hazards is still refused?

# %%
# --- solution
guess_one_expert = 0.7
guess_old_router = 0.6
# --- exercise
# guess_one_expert = ...  # from 0 to 1
# guess_old_router = ...  # from 0 to 1
# --- end
predict("refusal with one expert set back", guess_one_expert)
predict("refusal with the old router", guess_old_router)

# %% [markdown]
# ## Look first
#
# In the explorer choose the panel *Refusal localises*. It takes experts out of this very model, and measures three
# things over 64 hazards and their 64 twins: hazards refused, twins answered right, hazards answered right. The
# **refusal margin** is finer than yes or no: the logit of REFUSE minus the logit of the right answer, in nats. Above
# 0 the model would rather refuse.

# %%
explorer.show(shipped)

# %% [markdown]
# ## Exercise 5.1 · A few, and as many others *(look · medium · 8 minutes)*
#
# Find one or two experts such that, with these *set back*, at most **half** of the hazards are refused and at least
# **.95** of the twins are answered. That shows nothing without its **control**: as many others, drawn at random,
# with which at least **.8** of the hazards are still refused. Return both links.
#
# <details><summary>Hint</summary>
#
# Choose *set back*, and how many; one button takes the most important, another one random ones. Draw a few times:
# do random ones never matter?
# </details>


# %%
def few():
    """Two states of the explorer: refusal halved by few experts, and not by as many others."""
    # --- solution
    return "#panel=refusal&set_back=2.5", "#panel=refusal&set_back=1.3"
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


few = check("few", few)

# %%
for name, link in zip(("few", "as many others"), few(), strict=True):
    shown = explorer.read(link, shipped)
    print(f"{name}, {shown.set_back}: {explorer.meters(shipped, shown)}")

# %% [markdown]
# ## What a model is made of
#
# Every position of a prompt carries a vector, the **residual stream**. The *embeddings* write the token
# into it; *attention* copies between positions, and is the only part that can bring topic, verb and
# entity together; *experts*, chosen by the *router*, add to one position at a time; *norms* rescale. At
# ANS the vector is turned into one logit per token, and the token of the largest logit is what the model says.
#
# ## Necessary or sufficient?
#
# There are two checkpoints of the same shape, before and after alignment, so any part can be exchanged.
# *Set back*: the aligned model with one part as it was before. If refusal falls, the part is necessary.
# *Alone*: the model before alignment with only this part aligned. If it refuses, the part suffices. The
# **control** are the twins: a part without which they are not answered is not the seat of *refusal*.

# %%
exchanged = weight_patching.by_component(pairs)
for name, both in exchanged.items():
    print(
        f"{name:<11} set back: refusal {both.removed.refusal:.2f}, twins answered "
        f"{both.removed.accuracy:.2f};  alone: refusal {both.alone.refusal:.2f}"
    )
    assert both.removed.accuracy > 0.9, "with any part set back, the twins are answered"
compare("refusal with the old router", exchanged["router"].removed.refusal)

# %% [markdown]
# Every part passes the control, so the table can be read. Experts and attention are both *necessary*:
# attention brings topic, verb and entity together, and experts make a refusal of it. Neither *suffices*.
# The router, the norms and the embeddings could all have stayed as they were.
#
# ## Which experts?
#
# Now every expert by itself: set it back, and see what is lost of the margin. Whoever tries 54 experts
# and shows the best one has, in part, found luck. So the pairs are halved: **rank on one half, measure
# on the other.**

# %%
ranked, measured = localisation.halves(pairs)
cost_LE = removal.alone(ranked, "set_back")
for index in np.argsort(-cost_LE, None)[:5]:
    layer, expert = divmod(int(index), cost_LE.shape[1])
    print(
        f"expert {expert:>2} of layer {layer}: costs {cost_LE[layer, expert]:6.2f} nats of margin"
    )

# %% [markdown]
# One large number and 53 small ones: how many experts is that? The **effective number** takes the positive
# costs as shares $p$ of their sum and gives $1 / \sum p^2$: 1 if one expert does it all, 54 if all do alike.

# %%
print(f"effective number of experts: {removal.effective(cost_LE):.1f} of {cost_LE.size}")

# %% [markdown]
# ## Exercise 5.2 · Until half is gone *(bug hunt · medium · 8 minutes)*
#
# Another number is **m50**: how many experts, the most important first, have to be taken out until half
# of the refusals are gone? The function below is right for models that refuse everything, and makes any
# other look easier to break than it is. Repair it.
#
# <details><summary>Hint</summary>
#
# Half of what? `refusal_M[0]` is the refusal with no expert taken out.
# </details>


# %%
def half_gone(refusal_M, count_M):
    """The smallest count at which half of the refusal is gone, or nan if it never is."""
    # --- solution
    gone_M = refusal_M <= refusal_M[0] / 2
    # --- exercise
    # gone_M = refusal_M <= 0.5
    # --- end
    return count_M[gone_M][0] if gone_M.any() else np.nan


half_gone = check("half_gone", half_gone)

# %%
weaker_M = np.array([0.6, 0.55, 0.45, 0.4, 0.28])  # a model that refuses .6, 0 to 4 experts out
for name, function in (("as it was given", half_gone_given), ("as it should be", half_gone)):
    print(f"m50 of a weaker model, {name}: {function(weaker_M, np.arange(5))}")
curves = removal.curves(ranked, measured, jax.random.key(SEED))
count_M, back = np.array(curves["counts"]), curves["set_back"]
m50 = half_gone(np.array(back["refusal"]), count_M)
luck = np.random.default_rng(SEED)
orders = [removal.in_order(measured, luck.random(cost_LE.shape), "set_back") for _ in range(5)]
by_chance = np.sort([half_gone(np.array(order["refusal"]), count_M) for order in orders])
print(
    f"m50: {m50}; five random orders: {by_chance.tolist()}; used as much, median of three: "
    f"{back['usage_matched']['m50']}"
)
compare("refusal with one expert set back", back["refusal"][1])
over_S = seeds.load().columns["inside.removal.set_back.m50"]  # `toymoe sweep --seeds 0-9` made it
print(
    f"m50 of {len(over_S)} models: {over_S.min():.0f} to {over_S.max():.0f}, median {np.median(over_S):.0f}"
)
assert m50 < np.median(by_chance) and m50 < back["usage_matched"]["m50"]

# %% [markdown]
# **Claim.** In this model a few experts carry refusal. Set one or two of 54 back to what they were before
# alignment, and most of it is gone, while the harmless twins are still answered. As many random experts take
# hardly anything.
#
# A random order takes hardly anything until it comes upon an expert that matters, so its m50 is luck: it
# can be anything from 1 to 54, and one draw says nothing.
#
# ## The figure of this lesson
#
# Ranked on one half, measured on the other. Three lines that could have come out another way: random
# experts, experts of the same layers that are used as much, and the twins. And a fifth: hazards that are
# not only no longer refused, but *answered right*.

# %%
plots.after_removal(curves)

# %% [markdown]
# ## Set back, silenced, masked
#
# *Silenced*: the expert is still selected, and says nothing. *Masked*: the router may not select it, so
# that another one speaks in its stead. The three ask three things: did alignment write refusal here?
# Does the model need this expert to refuse? Is it the choice of this expert that matters?

# %%
for way in ("set_back", "silenced", "masked"):
    for m in (1, 2):
        refusal, twins, answered = (curves[way][x][m] for x in ("refusal", "twins", "answered"))
        print(
            f"{m} {way.replace('_', ' '):<9} refusal {refusal:.2f}, twins answered {twins:.2f}, "
            f"hazards answered right {answered:.2f}"
        )
two = {way: curves[way]["refusal"][2] for way in ("set_back", "silenced", "masked")}
assert two["set_back"] < two["silenced"] < two["masked"]

# %% [markdown]
# Masked experts leave most of the three: the route goes around them, and what stands in refuses, in part.
# Experts that are set back leave least, since they say again what they said before, which was to answer.
# So it is what these experts *say* that was aligned, more than the choice of them. And with two out, most
# hazards are answered *right*: the knowledge never went away.
#
# ## Exercise 5.3 · Experts that are used as much *(fill in · hard · 12 minutes)*
#
# An expert that is used a lot matters for everything. So the **baseline** for each expert is not any
# other, but others that are *used about as much*, at any position of the prompt. For every expert of a
# layer, average the cost of the m others whose usage is nearest to its own.
#
# <details><summary>Hint</summary>
#
# `apart = np.abs(usage_E[:, None] - usage_E)` is a table of distances. Put `np.inf` on its diagonal, so
# that no expert is its own control. `np.argsort(apart, 1, kind="stable")[:, :m]` are the nearest.
# </details>


# %%
def usage_matched(effect_E, usage_E, m):
    """For each expert the mean effect of the m others of nearest usage: an array [E]."""
    # --- solution
    apart_EE = np.abs(usage_E[:, None] - usage_E[None, :])
    np.fill_diagonal(apart_EE, np.inf)
    return effect_E[np.argsort(apart_EE, 1, kind="stable")[:, :m]].mean(1)
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


usage_matched = check("usage_matched", usage_matched)

# %%
used_LE = methods.token_share(pairs)  # share of the hazards' tokens that select the expert
at_LTE = (pairs.gates[0] > 0).mean(1)  # share of hazards, position by position
roles = {"ASK": -4, "verb": -3, "entity": -2, "ANS": -1}
for layer, cost_E in enumerate(cost_LE):
    best = cost_E.argmax()
    control = usage_matched(cost_E, used_LE[layer], 3)[best]
    where = ", ".join(f"{at_LTE[layer, t, best]:.2f} at {role}" for role, t in roles.items())
    print(
        f"layer {layer}: expert {best} costs {cost_E[best]:.2f} nats, three others used as much "
        f"{control:.2f}; it is selected by {where}"
    )

# %% [markdown]
# An expert need not act where the answer falls: look at which position yours is selected most. What it
# writes at an earlier one is carried on by attention. One that works at ASK has seen neither verb nor
# entity: it cannot know of any hazard there, only prepare.
#
# ## The negative control: a sham
#
# Would these experts have come up whatever the model had been taught? Align the pretrained model to *another*
# lesson, with as many refusals: the same rule in the harmless topics. This **sham** refuses no hazard at all. Rank
# its experts by its own refusal. If that order took the first model's refusal away just as well, we would have
# found where alignment writes, and nothing about hazards. What do you expect?

# %%
cfg = dataclasses.replace(  # 500 steps of more prompts made the shipped one
    shipped.cfg,
    align=dataclasses.replace(shipped.cfg.align, steps=100),
    train=dataclasses.replace(shipped.cfg.train, batch=64),
)
usual = np.array(Trainable.of(cfg.align))
probe_BP = shipped.sample(2).tokens_BP


def aligned_to(tables, factors):
    """The pretrained model aligned in a world, each part at a factor of the learning rate."""
    state = phases.start(shipped.pretrained, cfg, "align")
    given = state, 0, tables, probe_BP, cfg, "align", Trainable(*factors.tolist())
    *_, last = phases.run_phase(*given)
    return jax.tree.map(np.asarray, last.state.params)


other = realigned.sham_tables(shipped.tables)
sham = evidence.gather(
    aligned_to(other, usual), other, shipped.cfg, jax.random.key(SEED), 256, shipped.pretrained
)
first_half, second_half = localisation.halves(sham)
sham_LE = removal.alone(first_half, "set_back")
hazards_B = dataclasses.replace(measured, params=sham.params).answers[0].predicted_B
refused = {"hazards": hazards_B, "what it was taught to": second_half.answers[0].predicted_B}
for name, said_B in refused.items():
    print(f"the sham refuses {name}: {(said_B == world.REFUSE).mean():.2f}")
orders = {"the model's order": cost_LE, "the sham's order": sham_LE}
halves = {"the model's refusal": measured, "the sham's refusal": second_half}
halved = {
    (order, of): removal.in_order(half, scores_LE, "set_back")["m50"]
    for of, half in halves.items()
    for order, scores_LE in orders.items()
}
for (order, of), count in halved.items():
    print(f"experts until half of {of} is gone, in {order}: {count}")
print(f"rank correlation of the two orders: {spearmanr(cost_LE, sham_LE, None).statistic:.2f}")
for of, own, foreign in zip(halves, orders, reversed(orders), strict=True):
    assert halved[own, of] < halved[foreign, of], "an order must be best for its own lesson"

# %% [markdown]
# Each order is best for its own lesson. But the sham does not find *nothing*: the orders are alike, and the expert
# that matters most stands high in both. So part of "where refusal sits" is where alignment writes in this pretrained
# model, whatever it writes. Whoever shows a map without its sham shows that part, too.

# %% [markdown]
# ## Exercise 5.4 · Is a criterion any good? *(fill in · medium · 8 minutes)*
#
# Silencing every expert in turn takes too long in a large model, so people use a *criterion* instead: how often an
# expert is used on hazards at ANS (`usage`), or anywhere (`usage_on_hazards`); the share of tokens that select it in hazards minus that in twins
# (`risk_difference`); how much its gate differs between the two (`gate_contrast`); how sensitive the
# margin is to its gate (`gate_sensitivity`); what its output adds directly to the margin
# (`decomposition`); or pure chance (`random`), the control. A criterion is good if it puts the experts in
# the same order as the measured cost. Write Spearman's rank correlation: replace values by ranks, and
# correlate. Equal values get the same rank, the mean of those that they share.
#
# <details><summary>Hint</summary>
#
# `rankdata(a_X)` are such ranks. `np.corrcoef(…, …)[0, 1]` is Pearson's correlation.
# </details>


# %%
def rank_correlation(a_X, b_X):
    """Spearman's rank correlation, a number from -1 to 1."""
    # --- solution
    return np.corrcoef(rankdata(a_X), rankdata(b_X))[0, 1]
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


rank_correlation = check("rank_correlation", rank_correlation)

# %%
silent_LE = removal.alone(ranked, "silenced")
scored, two_out = {}, {}
for name in (
    "usage",
    "usage_on_hazards",
    "risk_difference",
    "gate_contrast",
    "gate_sensitivity",
    "decomposition",
    "random",
):
    scores_LE = methods.METHODS[name](ranked)
    scored[name] = rank_correlation(scores_LE.ravel(), silent_LE.ravel())
    two_out[name] = removal.in_order(measured, scores_LE, "silenced")["refusal"][2]
    print(
        f"{name:<17} rank correlation {scored[name]:+.2f}, refusal of the other half with its "
        f"first two silenced {two_out[name]:.2f}"
    )
assert scored["gate_sensitivity"] > max(scored["random"], scored["usage"], scored["gate_contrast"])
assert two_out["gate_sensitivity"] < two_out["random"]

# %% [markdown]
# The two columns need not agree: a rank correlation counts the fifty experts that hardly matter as much
# as the few that do. Several criteria find the first expert here, and a slope finds the second one too.
# This is one organism: `toymoe validate` asks the same of many in which the answer is known, because it was
# written there, and of shams, which were taught something else by the same means; `toymoe score mine.py ZOO` asks
# a criterion of yours. What is a method's highest score held against? Not against the model before alignment, as
# a first version of that command had it: that model cannot refuse, so the refusal that an expert costs there is 0
# whatever the expert does, and no sham refused either. The method that measures refusal won by construction. Now
# it is held against the same model with hazards and twins shuffled, and some shams refuse both alike: a control
# that cannot come out otherwise is none (docs/validation.md).
#
# ## Exercise 5.5 · Where may alignment write? *(design your own · medium · 10 minutes)*
#
# So far refusal was found where one alignment had put it. Alignment had a learning rate for each part of
# the model, as a factor of one rate: experts 1, router 1, attention .3, embeddings 0 (frozen), norms 1.
# Turn **one** of the five, to a factor from 0 to 10: freeze a part that is necessary, or free one that was
# frozen. Then write down what you expect: how much refusal will be left when the part that *you turned* is
# set back?
#
# <details><summary>Hint</summary>
#
# `turned = factors.copy()`, then change one number of it. The order is the one above.
# </details>


# %%
def turn(factors):
    """Factors of experts, router, attention, embeddings and norms, one of them changed: [5]."""
    # --- solution
    turned = factors.copy()
    turned[3] = 1.0
    return turned
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


turn = check("turn", turn)
# --- solution
guess_turned = 0.4
# --- exercise
# guess_turned = ...  # from 0 to 1
# --- end
predict("refusal with the part that was turned set back", guess_turned)

# %%
unseen = shipped.sample(512, "hazardous", SEED, held_out=True)
left, parts = {}, list(Trainable._fields)
for name, factors in (("as usual", usual), ("as you turned it", turn(usual))):
    made = dataclasses.replace(pairs, params=aligned_to(shipped.tables, factors))
    said_B = inference.predict(made.params, unseen.tokens_BP, cfg.model).predicted_B
    swaps = weight_patching.by_component(made)
    left[name] = {part: swaps[part].removed.refusal for part in ("nothing", *parts)}
    first, second = localisation.halves(made)
    order_LE = removal.alone(first, "set_back")
    print(
        f"{name}: {dict(zip(parts, factors.round(2).tolist(), strict=True))}\n"
        f"    held-out hazards refused {(said_B == world.REFUSE).mean():.2f}, "
        f"m50 {removal.in_order(second, order_LE, 'set_back')['m50']}, "
        f"effective number {removal.effective(order_LE):.1f}"
    )
part = parts[np.abs(turn(usual) - usual).argmax()]
print(f"you turned: {part}")
compare("refusal with the part that was turned set back", left["as you turned it"][part])

# %%
plots.seats(left)

# %% [markdown]
# Compare with your neighbours. Whoever lets the embeddings change will find them necessary, and more
# experts needed for half of refusal. Whoever makes attention faster (2 instead of .3) will find that with all
# experts set back about half of the hazards are still refused. Whoever freezes attention will
# find refusal in experts alone, and few of the held-out hazards refused: the rule is about three
# words, and attention brings them together. So the claim has a second half: refusal has no natural place in this
# model. **It sits where alignment was free to write, and could write fast.**
#
# ## Try it yourself
#
# Invent a criterion of your own: a function from the evidence to scores [L, E]. `pairs.gates` holds the
# gates of the hazards and of the twins, [L, B, T, E] each; `attribution` has more. How good is it by
# either column, and does that survive another seed of prompts? It must not take anything out.


# %%
def my_criterion(e):
    """Scores [L, E], the higher the more responsible for refusing."""
    hazards_LBTE, twins_LBTE = e.gates
    # --- solution
    return hazards_LBTE[:, :, -1].mean(1) - twins_LBTE[:, :, -1].mean(1)
    # --- exercise
    # return (hazards_LBTE - twins_LBTE).mean((1, 2))
    # --- end


mine_LE = my_criterion(ranked)
print(
    f"my criterion: rank correlation {rank_correlation(mine_LE.ravel(), silent_LE.ravel()):+.2f}, "
    f"first two silenced {removal.in_order(measured, mine_LE, 'silenced')['refusal'][2]:.2f}"
)

# %% [markdown]
# ## What this does not show
#
# One organism. Experts are interchangeable between seeds, so "expert 5 of layer 2" means nothing
# elsewhere; what is claimed is the pattern. Single costs do not add up: when several experts can each do the
# job, setting back one shows nothing. "Few experts" does not mean "experts alone": with the old attention most
# of refusal is gone, too. In a model of 320 billion parameters refusal was found to be joint as well (arXiv 2609.09793);
# that does not make the toy a model of it.
#
# **To discuss.** Why rank on one half and measure on the other, if 54 experts are not many? What would
# the curve look like if refusal were spread evenly? If you were to defend this model, which part would you
# let alignment write in, and what would you give up for it?
