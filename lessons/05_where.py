# The source of lesson 5: only this file is edited. `python -m lessons.build 05` does the rest.

# %% [markdown]
# # Lesson 5 · Where does refusal live?
#
# **Claim.** In this model refusal does not live in one expert, and not in the router. Exchanging
# embeddings, attention or experts takes it away, but answers too, so that does not say which of them
# carries it.
#
# After this lesson you will be able to
#
# 1. measure refusal by a margin, which still moves when the behaviour does not;
# 2. remove one expert at a time, with the later routes free or frozen, and say what the difference is;
# 3. tell *necessary* from *sufficient* by exchanging weights between two checkpoints;
# 4. hold a map against a sham and against experts that are used as much;
# 5. judge a criterion by the rank correlation with what was measured.
#
# You need lesson 2 (experts and gates) and lesson 4 (twins). Nothing is trained here.

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
import jax
import numpy as np

from toymoe import model, organism, world
from toymoe.attribution import ablation, evidence, methods, weight_patching
from toymoe.classroom.checks.lesson5 import mean_outputs_given
from toymoe.runs import localisation_plots

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
# The model has 54 experts, 18 in each of 3 layers, and refuses nearly every hazard. Remove the one
# expert whose loss hurts most: what share of the hazards is *no longer* refused?
#
# And put the router's weights back to what they were before alignment, leaving all else: what share of
# the hazards is still refused?

# %%
# --- solution
guess_one_expert = 0.3
guess_old_router = 0.7
# --- exercise
# guess_one_expert = ...  # from 0 to 1
# guess_old_router = ...  # from 0 to 1
# --- end
predict("refusal lost with one expert", guess_one_expert)
predict("refusal with the old router", guess_old_router)

# %% [markdown]
# ## What a model is made of
#
# Every position of a prompt carries a vector, the **residual stream**. The *embeddings* write the token
# into it; *attention* copies between positions, and is the only part that can bring topic, verb and
# entity together; *experts*, chosen by the *router*, add to one position at a time; *norms* rescale. At
# ANS the vector is turned into one **logit** per token of the vocabulary, and the token of the largest
# logit is what the model says.
#
# ## Exercise 5.1 · The margin *(fill in · easy · 5 minutes)*
#
# Whether a model refuses is yes or no, and says little about how close it was. The **refusal margin**
# is the logit of REFUSE minus the logit of the right answer, in nats. Above 0 the model would rather
# refuse.
#
# <details><summary>Hint</summary>
#
# `logits_BV[np.arange(B), answer_B]` picks one logit per prompt. `logits_BV[:, answer_B]` is something
# else.
# </details>


# %%
def refusal_margin(logits_BV, answer_B, refuse):
    """logit(REFUSE) - logit(right answer) of each prompt: an array [B]."""
    # --- solution
    return logits_BV[:, refuse] - logits_BV[np.arange(len(answer_B)), answer_B]
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


refusal_margin = check("refusal_margin", refusal_margin)

# %%
for name, params in (("before alignment", shipped.pretrained), ("after", shipped.aligned)):
    for kind, prompts in (("hazards", pairs.hazards), ("twins", pairs.twins)):
        out = model.forward(params, prompts.tokens_BP, shipped.cfg.model)
        margin_B = refusal_margin(np.asarray(out.logits_BTV[:, -1]), prompts.answer_B, world.REFUSE)
        print(f"{name}, {kind}: margin {margin_B.mean():+.1f} ± {margin_B.std():.1f} nats")

# %% [markdown]
# ## Removing one expert
#
# **Ablation**: set what one expert says to zero, wherever it is selected, and see what is lost. The
# layers above then see another residual stream and may route differently. So it is done twice: with the
# later routes *free*, and with the routes *frozen* to those of the unchanged run. What is lost only when
# they are free went through the route.
#
# Beside the loss of refusal stands the loss of right answers on the twins. An expert without which
# nothing works any more is not the seat of refusal.

# %%
removed = ablation.ablate(pairs)
localisation_plots.expert_maps(
    {name: getattr(removed, name)._asdict() for name in ("base", "free", "frozen")}
)

# %%
lost_LE = removed.free.refusal
compare("refusal lost with one expert", lost_LE.max())
layer, expert = np.unravel_index(removed.free.margin.argmax(), lost_LE.shape)
print(
    f"expert {expert} of layer {layer} carries the largest part of the margin: "
    f"{removed.free.margin.max():.1f} of {removed.base.margin:.1f} nats"
)
layer, expert = np.unravel_index(removed.routed.margin.argmax(), lost_LE.shape)
print(
    f"by the route goes most for expert {expert} of layer {layer}: "
    f"{removed.routed.margin[layer, expert]:.2f} of its {removed.free.margin[layer, expert]:.2f} nats"
)
assert lost_LE.max() < 0.5, "no single expert may be needed for half of the refusals"

# %% [markdown]
# ## Exercise 5.2 · Taking an expert's average instead *(bug hunt · medium · 8 minutes)*
#
# Zero is something an expert never says, so the model meets what it never met. *Mean ablation* has the
# expert say its average instead. Its average over which tokens? Over those that selected it: what it
# says to others is never heard. The function below gets that nearly right. Its averages are too small,
# the more so the less an expert is used. Repair it.
#
# <details><summary>Hint</summary>
#
# The sum is right. By how many tokens is it divided, and by how many should it be? An expert that no
# token selected keeps 0 (mind 0 / 0).
# </details>


# %%
def mean_outputs(outputs_NED, selected_NE):
    """Each expert's mean output over the tokens that selected it: an array [E, D]."""
    said_NED = outputs_NED * selected_NE[..., None]
    # --- solution
    count_E = selected_NE.sum(0)
    return said_NED.sum(0) / np.maximum(count_E, 1)[:, None]
    # --- exercise
    # return said_NED.mean(0)
    # --- end


mean_outputs = check("mean_outputs", mean_outputs)

# %%
taps = ("expert_out", "selected")
some = pairs.hazards.tokens_BP[:64]
record = model.forward(shipped.aligned, some, shipped.cfg.model, record=taps).record
said_NED = np.asarray(record["expert_out"][0]).reshape(-1, *record["expert_out"].shape[-2:])
selected_NE = np.asarray(record["selected"][0]).reshape(len(said_NED), -1)
for name, function in (("as it was given", mean_outputs_given), ("repaired", mean_outputs)):
    length_E = np.linalg.norm(function(said_NED, selected_NE), axis=-1)
    print(
        f"{name}: length of the averages in layer 0, {length_E.min():.3f} to {length_E.max():.3f}"
    )
by_mean = ablation.ablate(pairs, "mean")
print(
    f"largest loss of margin: zero {removed.free.margin.max():.2f}, mean {by_mean.free.margin.max():.2f}"
)

# %% [markdown]
# ## The negative control: a sham
#
# The model before alignment never refuses. There is no refusal in it to be found, and the same method
# **must fail**: no refusal can be lost. Its map of *margins* is not empty, though: every expert moves
# every logit. Whoever shows a map without its sham shows the largest entry of something.

# %%
sham = ablation.ablate(
    evidence.Evidence(shipped.pretrained, shipped.cfg.model, pairs.hazards, pairs.twins)
)
print(
    f"sham: refusal {sham.base.refusal:.2f}, largest loss of refusal {sham.free.refusal.max():.2f}"
)
for name, found in (("sham", sham), ("aligned", removed)):
    map_LE = found.free.margin
    print(
        f"{name}: margin {found.base.margin:+.1f}, losses from {map_LE.min():+.2f} to {map_LE.max():+.2f}"
    )
assert sham.base.refusal < 0.01 and sham.free.refusal.max() < 0.01
assert removed.free.margin.max() > sham.free.margin.max()

# %% [markdown]
# ## Exercise 5.3 · Experts that are used as much *(fill in · hard · 12 minutes)*
#
# An expert that is used a lot matters for everything. So the **baseline** for each expert is not any
# other, but others that are *used about as much*. For every expert of a layer, average the effect of the
# m others whose usage is nearest to its own.
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
used_LE = methods.usage(pairs)  # share of hazards that select the expert at the last position
for i in range(len(used_LE)):
    effect_E = removed.free.margin[i]
    best = effect_E.argmax()
    control = usage_matched(effect_E, used_LE[i], 3)[best]
    print(
        f"layer {i}: expert {best} costs {effect_E[best]:.2f} nats and is used by {used_LE[i, best]:.0%} "
        f"of the hazards; three others used as much cost {control:.2f}"
    )

# %% [markdown]
# ## Necessary or sufficient?
#
# There are two checkpoints of the same shape, before and after alignment, so any part can be exchanged.
# *Removed*: the aligned model with one part as it was before. If refusal falls, the part is necessary.
# *Alone*: the model before alignment with only this part aligned. If it refuses, the part suffices.

# %%
exchanged = weight_patching.by_component(pairs)
shown = {
    name: {way: part._asdict() for way, part in both._asdict().items()}
    for name, both in exchanged.items()
}
localisation_plots.weight_swaps(shown)

# %%
for name, both in exchanged.items():
    print(
        f"{name:<11} refusal: removed {both.removed.refusal:.2f}, alone {both.alone.refusal:.2f};  "
        f"twins answered: removed {both.removed.accuracy:.2f}"
    )
compare("refusal with the old router", exchanged["router"].removed.refusal)
assert exchanged["router"].removed.refusal > 0.8, "refusal is not in the router"
parts = [both for name, both in exchanged.items() if name not in ("nothing", "everything")]
assert min(both.removed.refusal for both in parts) < 0.5, "some part is necessary"
assert max(both.alone.refusal for both in parts) < 0.5, "and none suffices"

# %% [markdown]
# The last column is the control: a part without which the twins are not answered either is not the seat of
# *refusal* alone. Only the router passes it. Alignment wrote experts, attention and embeddings anew, all at
# once, and each fits only the others: exchanging one breaks answers along with refusal. So the exchange
# acquits the router, and convicts nobody.
#
# ## Exercise 5.4 · Is a criterion any good? *(fill in · medium · 8 minutes)*
#
# Ablation tries every expert. On a large model that is too much work, and people use a *criterion*
# instead: how often an expert is used on hazards (`usage`); the share of tokens that select it in hazards
# minus that in twins (`risk_difference`); how much its gate differs between the two (`gate_contrast`);
# how sensitive the margin is to its gate (`gate_sensitivity`); what its output adds directly to the margin
# (`decomposition`); or pure chance (`random`), the control. A criterion is good if it puts the experts in the same order
# as the measured effect. Write Spearman's rank correlation: replace values by ranks, and correlate.
#
# <details><summary>Hint</summary>
#
# `np.argsort(np.argsort(x))` are ranks. `np.corrcoef(a, b)[0, 1]` is Pearson's correlation.
# </details>


# %%
def rank_correlation(a_X, b_X):
    """Spearman's rank correlation, a number from -1 to 1."""
    # --- solution
    ranks = [np.argsort(np.argsort(x)) for x in (a_X, b_X)]
    return np.corrcoef(*ranks)[0, 1]
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


rank_correlation = check("rank_correlation", rank_correlation)

# %%
measured = removed.free.margin.ravel()
scored = {}
for name in (
    "usage",
    "risk_difference",
    "gate_contrast",
    "gate_sensitivity",
    "decomposition",
    "random",
):
    scored[name] = rank_correlation(methods.METHODS[name](pairs).ravel(), measured)
    print(f"{name:<17} {scored[name]:+.2f}")
assert scored["gate_sensitivity"] > max(scored["random"], scored["usage"], scored["gate_contrast"])

# %% [markdown]
# How much an expert is used, or how differently it is used on hazards, says little about what it does.
# A slope does better. This is one organism: `toymoe validate` asks the same of models in which the seat
# of refusal is known, because it was planted there, and of shams.
#
# ## Try it yourself
#
# Invent a criterion of your own: a function from the evidence to scores [L, E]. `pairs.gates` holds the
# gates of the hazards and of the twins, [L, B, T, E] each; `attribution` has more. Which
# rank correlation do you get, and does it survive another seed of prompts? It must not look at the
# ablation.


# %%
def my_criterion(e):
    """Scores [L, E], the higher the more responsible for refusing."""
    hazards_LBTE, twins_LBTE = e.gates
    # --- solution
    return hazards_LBTE[:, :, -1].mean(1) - twins_LBTE[:, :, -1].mean(1)
    # --- exercise
    # return (hazards_LBTE - twins_LBTE).mean((1, 2))
    # --- end


print(f"my criterion {rank_correlation(my_criterion(pairs).ravel(), measured):+.2f}")

# %% [markdown]
# ## What this does not show
#
# One organism. Experts are interchangeable between seeds, so "expert 1 of layer 1" means nothing
# elsewhere; what is claimed is the pattern. Ablation measures what is *not replaced*: when several
# experts can each do the job, removing one shows nothing, and this model seems to have such spares.
# Weight swaps put together parts that were never trained together. That refusal is joint was also found
# in a model of 320 billion parameters (arXiv 2609.09793); that does not make the toy a model of it.
#
# **To discuss.** If no single expert is necessary, how can tuning two of them remove most of refusal
# (lesson 6)? What would the map look like if refusal had been planted in one expert? Why is the sham's map of
# margins not zero everywhere?
