# The source of lesson 8: only this file is edited. `python -m lessons.build 08` does the rest.

# %% [markdown]
# # Lesson 8 · Is it real?
#
# **Claim.** What lessons 3 to 5 found about *kinds of parts* holds in all ten of these models: routing reads the
# topic, and refusal needs what alignment wrote into experts, a few above all, and into attention, but hardly
# what it wrote into the router. One finding holds in nine seeds of ten. And *which* expert matters most,
# and in which layer, is an accident.
#
# After this lesson you will be able to
#
# 1. give a median over seeds an interval, without assuming a bell curve;
# 2. say what one measurement is, and not count prompts as if they were models;
# 3. express a finding against its control as an effect size;
# 4. pick a cherry, and notice when somebody else has;
# 5. match the experts of two models, and tell a match from luck.
#
# You need the findings of lessons 3 to 5, of which each is recalled here.

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

begin(8)

# %%
import numpy as np
from scipy.optimize import linear_sum_assignment

from toymoe import organism
from toymoe.classroom import plots, seeds
from toymoe.classroom.checks.lesson8 import uncertainty_given

SEED = 0  # another seed draws other resamples and other shuffles
rng = np.random.default_rng(SEED)
swept = seeds.load()
column, S = swept.columns, len(swept.seeds)
print(f"{S} models, trained from the seeds {swept.seeds}")

# %% [markdown]
# ## The models
#
# A *seed* decides everything that is drawn at random: the world's answers and hazards, the starting
# weights, the order of the prompts. The table that comes with the package holds what a sweep found on
# each model. `toymoe sweep --seeds 0-9 --out DIR` makes such a folder, in about ten minutes, and
# `seeds.collect(Path(DIR))` reads the same table from it.
#
# The **baseline** is what papers often show: one model. Here is that of the first seed.

# %%
# How much of the refusal margin is lost without one expert, the worst of each layer: [S, L].
margin_S1 = column["inside.ablation.base.margin"][:, None]
lost_SL = column["inside.ablation.free.margin"].max(-1) / margin_S1
first, last = lost_SL[:, 0], lost_SL[:, -1]
for layer, lost in enumerate(lost_SL[0]):
    print(f"layer {layer}: without the expert that matters most, {lost:.2f} of the margin is lost")
assert lost_SL[0].argmax() == lost_SL.shape[1] - 1, "what follows describes the first model"

# %% [markdown]
# It seems clear: the expert that refusal hangs on most lies in the last layer, where the answer is about
# to be given. One could even say why.
#
# ## Predict before you run
#
# In what share of the models does the last layer's expert matter more than the first layer's?
#
# And we will pair each expert of one model with one of another model so that their preferences for
# topics agree as well as possible. If the preferences were the same, their correlation would be 1.
# What will it be on average?

# %%
# --- solution
guess_last = 0.9
guess_match = 0.3
# --- exercise
# guess_last = ...  # from 0 to 1
# guess_match = ...  # from -1 to 1
# --- end
predict("models in which the last layer matters more", guess_last)
predict("correlation of matched experts", guess_match, -1, 1)

# %% [markdown]
# ## Exercise 8.1 · An interval without a formula *(fill in · medium · 9 minutes)*
#
# How well is a median over S seeds known? Draw S seeds *with replacement*, take the median, and do so
# many times. The middle 95 % of these medians are the **bootstrap interval**. `picks_RS` holds the
# seeds drawn in each of R resamples.
#
# <details><summary>Hint</summary>
#
# `values_S[picks_RS]` has shape [R, S], a resample in each row. Take `np.median` along axis 1, and of
# these `np.percentile(…, [2.5, 97.5])`. Two numbers are returned
# with a comma between them.
# </details>


# %%
def interval(values_S, picks_RS):
    """The 95 % bootstrap interval of the median, two numbers."""
    # --- solution
    low, high = np.percentile(np.median(values_S[picks_RS], axis=1), [2.5, 97.5])
    return low, high
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


interval = check("interval", interval)

# %%
picks_RS = rng.integers(0, S, (2000, S))
left = {part: column[f"inside.swaps.{part}.removed.refusal"] for part in seeds.PARTS}
print("refusal left with one kind of part set back to what it was before alignment:")
for part, left_S in left.items():
    low, high = interval(left_S, picks_RS)
    print(f"{part:10} median {np.median(left_S):.2f}, 95 % interval {low:.2f} to {high:.2f}")
compare("models in which the last layer matters more", (last > first).mean())
print("seed by seed:", *("last" if so else "first" for so in last > first))

# %% [markdown]
# The first five models agree with the one that you saw. Who stops after five has five out of five, and
# is wrong about most of the next five.
#
# The parts speak more clearly. In all ten models refusal is gone with the old experts, at most .28 is left with the
# old attention, and .98 or more with the old router: it needs the experts and the attention that alignment made.
# Ten that agree are not all models: of thirty runs in three environments, the old router leaves .50 in the worst
# (`INSTRUCTOR.md`). (The line of the embeddings is no finding: the recipe does not let alignment write there, so that
# setting them back changes nothing.)

# %% [markdown]
# ## Exercise 8.2 · What is one measurement? *(bug hunt · medium · 8 minutes)*
#
# `right_SN[s, n]` says whether model s got prompt n right. What is the standard error of the mean? The
# version below was meant to answer for *models like these*. It gives a wonderfully small number, the
# smaller the more prompts are used, even if there are only three models. Find the mistake in the
# reasoning, and repair it.
#
# <details><summary>Hint</summary>
#
# A thousand prompts put to three models are three measurements of what models do. First take each
# seed's mean, `right_SN.mean(1)`; its standard deviation (`ddof=1`) over the root of the number of
# *seeds* is what was meant.
# </details>


# %%
def uncertainty(right_SN):
    """Standard error of the mean over seeds, a number."""
    # --- solution
    mean_S = right_SN.mean(1)
    return mean_S.std(ddof=1) / len(mean_S) ** 0.5
    # --- exercise
    # values = right_SN.ravel()
    # return values.std(ddof=1) / len(values) ** 0.5
    # --- end


uncertainty = check("uncertainty", uncertainty)

# %%
# How often does "mean ± 2 standard errors" hold the truth? Drawn: models whose rates differ a little.
true_rate, hits = 0.8, {"as it was given": 0, "repaired": 0}
for _ in range(500):
    rate_S1 = np.clip(true_rate + 0.1 * rng.normal(size=(10, 1)), 0, 1)
    right_SN = (rng.random((10, 1000)) < rate_S1).astype(float)
    for name, error in (("as it was given", uncertainty_given), ("repaired", uncertainty)):
        hits[name] += abs(right_SN.mean() - true_rate) < 2 * error(right_SN)
for name, count in hits.items():
    print(f"{name}: the interval holds the truth in {count / 500:.0%} of the cases")

# %% [markdown]
# ## Exercise 8.3 · How large is it? *(fill in · easy · 6 minutes)*
#
# A finding and its control come from the same models, so take their difference in each seed. The mean
# of the differences, divided by their standard deviation (`ddof=1`), is the **effect size**: how many
# of the usual differences between seeds lie between finding and control. Below 1, a single seed often
# shows the opposite; above 3, hardly ever.
#
# <details><summary>Hint</summary>
#
# `change_S = finding_S - control_S`, then `.mean()` and `.std(ddof=1)`.
# </details>


# %%
def effect(finding_S, control_S):
    """Paired effect size, a number."""
    # --- solution
    change_S = finding_S - control_S
    return change_S.mean() / change_S.std(ddof=1)
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


effect = check("effect", effect)

# %%
js = {
    (when, pairs): column[f"routing.contrasts.{when}.{pairs}.js"].mean(1)
    for when in ("untrained", "aligned")
    for pairs in ("cross_topic", "same_topic", "intent_twins")
}
two = int(np.flatnonzero(column["inside.removal.counts"][0] == 2)[0])
set_back = "inside.removal.set_back"
findings = {
    "L3: the topic shows in the experts (NMI)": (
        column["routing.nmi_topic.context"].max(1),
        "untrained",
        column["routing.nmi_topic_untrained"].max(1),
    ),
    "L4: routes differ between topics (JS, nats)": (
        js["aligned", "cross_topic"],
        "hazard and twin",
        js["aligned", "intent_twins"],
    ),
    "L4: hazards never seen are refused": (
        column["behaviour.aligned.refusal_held_out"],
        "before alignment",
        column["behaviour.pretrained.refusal_held_out"],
    ),
    "L5: refusal lost with the old experts": (1 - left["experts"], "router", 1 - left["router"]),
    "L5: refusal lost, two experts set back": (
        1 - column[f"{set_back}.refusal"][:, two],
        "two random ones",
        1 - column[f"{set_back}.random.refusal"][:, two],
    ),
    "?: hazards on their twin's route, refused": (
        column["inside.route.hazards.refused"],
        "twins on hazards'",
        column["inside.route.twins.refused"],
    ),
    "?: margin lost, one expert of the last layer": (last, "first layer", first),
}
for name, (values_S, control, others_S) in findings.items():
    agree = (values_S > others_S).mean()
    size = effect(values_S, others_S)
    print(f"{name:44} against {control:17} effect {size:6.1f}, larger in {agree:.0%} of the seeds")
for name, pairs in (("twins", "intent_twins"), ("of the same topic", "same_topic")):
    ratio = [
        np.median(js[when, "cross_topic"] / js[when, pairs]) for when in ("untrained", "aligned")
    ]
    print(
        f"JS across topics ÷ {name:17} untrained {ratio[0]:4.1f}, aligned {ratio[1]:4.1f} (medians)"
    )
kept = column["inside.swaps.experts.removed.accuracy"].min()
print(f"harmless twins answered with the old experts: at least {kept:.2f}")

# %% [markdown]
# **A control that fits.** Routes differ more between topics than between a hazard and its twin, in every
# seed. But so they do in models that have *learnt nothing*, and there by a larger factor (first line of
# ratios): a random router separates words, and a hazard and its twin share all words but one. That line alone does not
# show that routing has learnt the topic. Held against prompts of the *same* topic it does (second line). With
# the old experts, on the other hand, the twins are answered as before (last line): what is lost is refusal.
#
# **Comparisons that cannot fail.** "Before alignment" nobody had taught the model to refuse anything, so the
# third line could not have come out otherwise. The experts that are set back could have failed: they were
# ranked on other prompts than those they are judged by. A line that cannot fail says
# *how much*, not *whether*: before you are impressed by 100 %, ask what could have made it less.
#
# **Nine of ten.** The first line with a question mark is lesson 4's finding that a hazard is still refused on
# its twin's route. In one seed it is the other way round: there the route decides more than the request. A
# reader of a single model would have met it with a chance of one in ten, and would have written another lesson.
#
# ## Exercise 8.4 · Pick a cherry *(break it · easy · 6 minutes)*
#
# Two people write about the last line, one for the claim that refusal hangs on the last layer, one against
# it. Each shows a single model. Which ones? Return the position of the seed that speaks most for
# finding > control, and of the one that speaks most against it.
#
# <details><summary>Hint</summary>
#
# `np.argmax` and `np.argmin` of the difference. `int(…)` makes plain numbers of them.
# </details>


# %%
def cherry_pick(finding_S, control_S):
    """The positions of two seeds: the friend's choice, and the enemy's."""
    # --- solution
    change_S = finding_S - control_S
    return int(change_S.argmax()), int(change_S.argmin())
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


cherry_pick = check("cherry_pick", cherry_pick)

# %%
friend, enemy = cherry_pick(last, first)
for who, s in (("friend", friend), ("enemy", enemy)):
    print(
        f"the {who} shows seed {swept.seeds[s]}: margin lost without one expert of the last layer "
        f"{last[s]:.2f}, of the first {first[s]:.2f}"
    )
places = set(column["inside.ablation.free.margin"].reshape(S, -1).argmax(1).tolist())
print(f"the expert of largest effect: {len(places)} places in {S} seeds")

# %% [markdown]
# The first **negative control**, one seed cherry-picked, fails as it should: with one model, each of
# the two is "right".
#
# ## Are they the same experts?
#
# "Expert 1 of layer 1 matters most" says nothing about another model, since numbers are given by
# chance. Perhaps there is *an* expert in every model that does the same work? Each expert has a
# profile: the share of every topic's tokens that it takes. Two experts are alike if their profiles
# correlate.

# %%
profiles_SLGE = swept.topic_expert_SLGE
L, G, E = profiles_SLGE.shape[1:]


def correlations(a_GE, b_GE):
    """Correlation of each expert's profile in a with each in b, [E, E]; 0 for a flat profile."""
    z = []
    for x_GE in (a_GE, b_GE):
        x_GE = x_GE - x_GE.mean(0)
        length_E = np.linalg.norm(x_GE, axis=0)
        z.append(x_GE / np.where(length_E > 1e-9, length_E, np.inf))
    return z[0].T @ z[1]


between = [
    (profiles_SLGE[a, layer], profiles_SLGE[b, layer])
    for a in range(S)
    for b in range(a)
    for layer in range(L)
]
by_number = np.mean([np.diag(correlations(a, b)).mean() for a, b in between])
print(f"experts of the same number in two models: correlation {by_number:.2f}")

# %% [markdown]
# ## Exercise 8.5 · Match them *(fill in · medium · 8 minutes)*
#
# Give each expert of one model a partner in the other, each partner once, so that the *sum* of the
# scores is as large as possible. Taking the best first can fail: the first pair may spoil two others.
# The Hungarian method finds the best of all E! pairings.
#
# <details><summary>Hint</summary>
#
# `linear_sum_assignment(score_EE, maximize=True)` from `scipy.optimize` gives the rows and their
# partners. The rows are in order.
# </details>


# %%
def match(score_EE):
    """The partner of each row, an array [E] of whole numbers."""
    # --- solution
    _, partner_E = linear_sum_assignment(score_EE, maximize=True)
    return partner_E
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


match = check("match", match)


# %%
def matched(a_GE, b_GE):
    """Mean correlation of matched experts."""
    score_EE = correlations(a_GE, b_GE)
    return score_EE[np.arange(E), match(score_EE)].mean()


compare("correlation of matched experts", np.mean([matched(a, b) for a, b in between]))

# %% [markdown]
# That looks like a discovery: in every model the same experts, in another order! Before you write it
# up, try it where there is nothing to find, with the topics of one of the models shuffled.

# %%
shuffled = np.mean([matched(a, b[rng.permutation(G)]) for a, b in between])
print(f"matched, topics of one model shuffled: {shuffled:.2f}")

# %% [markdown]
# ## Exercise 8.6 · Judge by what was left out *(fill in · medium · 6 minutes)*
#
# The best of E! pairings is always good, at what it was chosen for. So choose by half of the topics,
# and judge by the other half. `fit_EE` are the correlations over the first half, `test_EE` over the
# second. What is the mean test score of the pairs that the fit scores choose?
#
# <details><summary>Hint</summary>
#
# `match(fit_EE)` gives a partner for each row. Which entries of `test_EE` are those pairs?
# </details>


# %%
def left_out(fit_EE, test_EE):
    """Mean test score of the pairs that fit_EE matches, a number."""
    # --- solution
    return test_EE[linear_sum_assignment(fit_EE, maximize=True)].mean()
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


left_out = check("left_out", left_out)

# %% [markdown]
# And a **positive control**, where there *is* something to find: the shipped model shortly before
# the end of its training and at the end, with the experts of one of the two renumbered at random. They
# are the same experts, so a good method must find them.

# %%
history = organism.load().history
print(f"alignment, steps {history['step'][-3]} and {history['step'][-1]}")
both_LGE = []
for counts_LGE in (history["topic_expert"][-3], history["topic_expert"][-1]):
    both_LGE.append(counts_LGE / counts_LGE.sum(-1, keepdims=True))
new_LE = np.array([rng.permutation(E) for _ in range(L)])
same = [(both_LGE[0][layer], both_LGE[1][layer][:, new_LE[layer]]) for layer in range(L)]
found = [
    (order_E[match(correlations(a, b))] == np.arange(E)).mean()
    for order_E, (a, b) in zip(new_LE, same, strict=True)
]
print("experts that the matching finds again, by layer:", np.round(found, 2))


def halves(a_GE, b_GE):
    """Test score of a matching by half of the topics, mean of both ways round."""
    even, odd = (correlations(a_GE[i::2], b_GE[i::2]) for i in (0, 1))
    return (left_out(even, odd) + left_out(odd, even)) / 2


alike = {}
for pair, models in (("two seeds", between), ("one model, twice", same)):
    alike[pair] = {
        "by number": np.mean([np.diag(correlations(a, b)).mean() for a, b in models]),
        "matched": np.mean([matched(a, b) for a, b in models]),
        "matched, topics shuffled": np.mean(
            [matched(a, b[rng.permutation(G)]) for a, b in models for _ in range(10)]
        ),
        "matched, other topics": np.mean([halves(a, b) for a, b in models]),
    }

# %% [markdown]
# ## The figure of this lesson

# %%
rows = {
    name: (values_S, interval(values_S, picks_RS), control, others_S, interval(others_S, picks_RS))
    for name, (values_S, control, others_S) in findings.items()
}
plots.over_seeds(rows, alike)

# %% [markdown]
# **The negative controls must fail.** Experts of the same number have nothing in common; matched ones
# correlate, and just as well with shuffled topics; on topics left out next to nothing remains. One model,
# looked at twice, keeps much more of it. And what one seed shows of layers, another denies.

# %%
settled = [
    effect(values, others) for name, (values, _, others) in findings.items() if name[0] == "L"
]
assert min(settled) > 0.8, "the findings of lessons 3 to 5 must not drown in their spread"
assert all((values > others).all() for n, (values, _, others) in findings.items() if n[0] == "L")
change_S = last - first
assert change_S[friend] > 0 > change_S[enemy], "a cherry can be picked on either side"
two, one = alike["two seeds"], alike["one model, twice"]
assert abs(two["by number"]) < 0.2, "numbers mean nothing"
assert two["matched"] - two["matched, topics shuffled"] < 0.1, "matching alone proves nothing"
assert two["matched, other topics"] < 0.25, "on topics left out nothing may remain"
assert one["matched, other topics"] > two["matched, other topics"] + 0.2
print(f"on topics left out: two seeds {two['matched, other topics']:.2f}", end=", ")
print(f"one model, looked at twice {one['matched, other topics']:.2f}")

# %% [markdown]
# ## Try it yourself
#
# `column` holds more: refusal with one part *alone* aligned, the number of experts to set back until half
# of the refusal is gone (`inside.removal.set_back.m50`), NMI by layer. Find a statement that is true of
# the first seed and of no other. Then find one you would bet on for seed 10, and train it, one to two
# minutes (`toymoe run --seed 10 --out runs/seed-10`). Or make a sweep of your own under another hazard
# rule, five minutes or more (`toymoe sweep --set world.hazard_rule=topic --seeds 0-4 --out runs/topic`),
# read it with `seeds.collect(Path("runs/topic"))` in the place of
# `seeds.load()`, and run the notebook again: which line of the figure turns round?

# %%
# Your experiment goes here.
# --- solution
best_S = column["routing.nmi_topic.context"].argmax(1)
counts = {f"layer {layer}": int((best_S == layer).sum()) for layer in range(L)}
print("the layer in which the topic shows most:", counts)
# --- exercise
# ...
# --- end

# %% [markdown]
# ## What this does not show
#
# Seeds are not the only thing that could have been otherwise. All these models share one size, one
# training recipe and one kind of world, whose settings were tuned by people who looked at such
# numbers. An interval over seeds says nothing about another width, another language, or a real model, and seeds
# that agree prove nothing where the answer could not have been another one: the first version of `toymoe validate`
# printed 1.00 for a method that no sham of its could contradict (lesson 5, docs/validation.md).
# It is also an interval for each line by itself: among twenty findings at 95 %, one is expected to be
# luck. And topics of two seeds have no more in common than their number, so "no common experts" was
# to be expected *here*; models trained on the same language may well have some.
#
# **To discuss.** Ten seeds agree: how sure are you of the eleventh? Which findings of papers that you
# know rest on one model? When is it fair to compare experts across models, and by which profile?
