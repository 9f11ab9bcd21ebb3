# The source of lesson 2: only this file is edited. `python -m lessons.build 02` does the rest.

# %% [markdown]
# # Lesson 2 · Build a mixture-of-experts layer
#
# **Claim.** Left to itself, a router gives much of the work to a few experts and lets others die.
# A small *balance loss* spreads the work, and here the layer fits no worse for it.
#
# After this lesson you will be able to
#
# 1. write a router: logits, softmax, top-k, gates;
# 2. say why OLMoE takes the softmax over all experts first, and does not renormalise the gates;
# 3. find a bug in a router from the way it misbehaves;
# 4. sort tokens by expert, so that only what was selected is computed;
# 5. write the balance loss, and fool it.
#
# You need lesson 1's numpy, and what a matrix product is. JAX is only read here, not written.

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

begin(2)

# %%
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toymoe.classroom import plots
from toymoe.classroom.checks.lesson2 import route_given
from toymoe.model import moe

SEED = 0  # another seed draws other data and other starting weights

# %% [markdown]
# ## The layer
#
# A transformer layer has a part that works on every token by itself: a vector of D numbers goes in,
# one of D numbers comes out. In a *mixture of experts* (MoE) there are E such parts, the **experts**,
# and each token uses only k of them. So the layer knows as much as E experts and costs as much as k.
#
# Who does what is decided by the **router**, one matrix [D, E]:
#
# $$z = x\,W_{router} \qquad p = \mathrm{softmax}(z) \qquad y = \sum_{e\ \in\ \text{top-}k} p_e\ \mathrm{expert}_e(x)$$
#
# z are the *router logits*, one number per expert, and the $p_e$ of the selected experts are their
# **gates**. In names of arrays, N stands for tokens, E for experts and D for the width: `gates_NE`
# has a row for every token and a column for every expert.
#
# ## Predict before you run
#
# We will train a layer of 8 experts, each token using one of them, on data that falls into 8 groups,
# and nothing will tell the router how to share out the work. An expert that gets less than a quarter
# of its fair share is called *dead*. How many of the 8 will be dead, on average?
#
# And which share of the tokens will the busiest expert take? (The fair share is 1/8 = .125.)

# %%
# --- solution
guess_dead = 2
guess_busiest = 0.3
# --- exercise
# guess_dead = ...  # from 0 to 8
# guess_busiest = ...  # from 0 to 1
# --- end
predict("dead experts", guess_dead, 0, 8)
predict("busiest expert", guess_busiest)

# %% [markdown]
# ## Exercise 2.1 · Gates *(fill in · medium · 10 minutes)*
#
# Take the softmax of each token's logits over *all* experts. Then keep the k largest, and set the
# others to 0. Of equal logits, the expert of lower number goes first.
#
# The kept gates then sum to less than 1. That is meant: a token that no expert suits gets little
# from any of them. And it is what lets the router learn when k is 1, as we will see.
#
# <details><summary>Hint</summary>
#
# `np.exp(logits_NE - logits_NE.max(-1, keepdims=True))` is safe for large logits; divide it by its
# sum over the last axis. `best_NA = np.argsort(-logits_NE, -1, kind="stable")[:, :k]` are the numbers
# of the k best experts. Begin with `mask_NE = np.zeros(logits_NE.shape, bool)`, and mark them by
# `np.put_along_axis(mask_NE, best_NA, True, -1)`.
# </details>


# %%
def top_k_gates(logits_NE, k):
    """Gates of the k best experts of each token, 0 elsewhere: an array [N, E]."""
    # --- solution
    weights_NE = np.exp(logits_NE - logits_NE.max(-1, keepdims=True))
    probs_NE = weights_NE / weights_NE.sum(-1, keepdims=True)
    best_NA = np.argsort(-logits_NE, -1, kind="stable")[:, :k]
    mask_NE = np.zeros(logits_NE.shape, bool)
    np.put_along_axis(mask_NE, best_NA, True, -1)
    return np.where(mask_NE, probs_NE, 0)
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


top_k_gates = check("top_k_gates", top_k_gates)

# %%
rng = np.random.default_rng(SEED)
logits_NE = rng.normal(size=(3, 6)) * 1.5
print(top_k_gates(logits_NE, 2).round(3))
theirs = moe.route_from_logits(jnp.array(logits_NE), 2)
print("toymoe selects", *theirs.experts_NA.tolist(), "with the gates")
print(np.asarray(theirs.gates_NA).round(3))

# %% [markdown]
# ## Exercise 2.2 · Mixing *(fill in · easy · 5 minutes)*
#
# Every expert has said something about every token, `outputs_NED`. The layer's answer is the sum
# over experts of gate times output. This is the *reference path*: it computes all experts, so that
# later lessons can ask what an unselected expert would have said.
#
# <details><summary>Hint</summary>
#
# `gates_NE[..., None]` has shape [N, E, 1] and multiplies every number of an expert's output. Or
# `np.einsum("ne,ned->nd", …)`.
# </details>


# %%
def mix(outputs_NED, gates_NE):
    """The layer's answer, an array [N, D]."""
    # --- solution
    return np.einsum("ne,ned->nd", gates_NE, outputs_NED)
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


mix = check("mix", mix)

# %% [markdown]
# ## Exercise 2.3 · The planted bug *(bug hunt · medium · 8 minutes)*
#
# This router passes a quick look: probabilities, the best first, the right shape. Trained with it, a
# model works, though worse than it should, and its answers to one prompt change with the *other
# prompts in the batch*. The cell after it shows this. Find the bug and repair it.
#
# <details><summary>Hint</summary>
#
# Which numbers should compete with each other in the softmax: the experts of one token, or the
# tokens of one expert? `axis=0` runs down the tokens.
# </details>


# %%
def route(x_ND, router_DE, k):
    """The experts of each token, best first: whole numbers [N, k]."""
    logits_NE = x_ND @ router_DE
    weights_NE = np.exp(logits_NE - logits_NE.max())
    # --- solution
    probs_NE = weights_NE / weights_NE.sum(1, keepdims=True)
    # --- exercise
    # probs_NE = weights_NE / weights_NE.sum(0, keepdims=True)
    # --- end
    return np.argsort(-probs_NE, axis=1, kind="stable")[:, :k]


route = check("route", route)

# %%
x_ND, router_DE = rng.normal(size=(200, 8)), rng.normal(size=(8, 6)) + rng.normal(size=6)
for name, router in (("as it was given", route_given), ("repaired", route)):
    together = router(x_ND, router_DE, 2)
    alone = np.concatenate([router(x[None], router_DE, 2) for x in x_ND])
    changed = (together != alone).any(1).mean()
    print(f"{name}: {changed:.0%} of the tokens go elsewhere when they are alone")
assert changed == 0

# %% [markdown]
# ## Exercise 2.4 · Grouping *(fill in · hard · 10 minutes)*
#
# Computing all experts wastes most of the work. The *grouped path* sorts the tokens by their expert,
# so that each expert multiplies one block of rows. For that it needs two lists: the tokens in order
# of their expert (within an expert in their old order), and where each expert's tokens begin.
#
# For the experts `[2, 0, 2, 1]` of four tokens, the order is `[1, 3, 0, 2]`, and with four experts
# the starts are `[0, 1, 2, 4]`: the last one has no tokens.
#
# <details><summary>Hint</summary>
#
# `np.argsort(…, kind="stable")` keeps the old order among equals.
# `np.bincount(experts_N, minlength=n_experts)` gives the group sizes; a group begins after the sizes
# of all earlier ones (`np.cumsum`, minus its own).
# </details>


# %%
def group(experts_N, n_experts):
    """The tokens by expert, and where each expert's tokens begin: whole numbers [N] and [E]."""
    # --- solution
    size_E = np.bincount(experts_N, minlength=n_experts)
    return np.argsort(experts_N, kind="stable"), np.cumsum(size_E) - size_E
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


group = check("group", group)

# %%
# Both paths give the same, and the second one computes an eighth.
experts = {"gate_up": rng.normal(size=(8, 16, 32)) / 4, "down": rng.normal(size=(8, 16, 16)) / 4}
x_ND = rng.normal(size=(256, 16))
found = moe.route(jnp.array(x_ND), jnp.array(rng.normal(size=(16, 8))), 1)
experts_N, gates_N = np.asarray(found.experts_NA)[:, 0], np.asarray(found.gates_NA)[:, 0]
gates_NE = np.where(np.arange(8) == experts_N[:, None], gates_N[:, None], 0)
by_reference = mix(np.asarray(moe.expert_outputs(x_ND, experts)), gates_NE)

order, start = group(experts_N, 8)
by_group = np.zeros_like(by_reference)
for e, (first, end) in enumerate(zip(start, [*start[1:], 256], strict=True)):
    rows = order[first:end]
    if len(rows):
        mine = {name: matrices[e : e + 1] for name, matrices in experts.items()}
        said = np.asarray(moe.expert_outputs(x_ND[rows], mine))[:, 0]
        by_group[rows] = gates_N[rows, None] * said
print("largest difference of the two paths:", np.abs(by_group - by_reference).max())
assert np.allclose(by_group, by_reference, atol=1e-4)

# %% [markdown]
# ## Exercise 2.5 · The balance loss *(fill in · medium · 8 minutes)*
#
# An expert that is chosen more often learns more, becomes better, and is chosen more often. To work
# against that, the Switch Transformer adds a loss (equation 4 of arXiv 2101.03961):
#
# $$E \sum_e f_e\,P_e$$
#
# $f_e$ is the share of all selections that expert e gets, and $P_e$ its mean probability over all
# tokens. Both sum to 1. If both are even, the loss is 1; if one expert takes all with certainty, it
# is E. The selections are yes or no and have no slope, so it is through P that the router learns.
#
# <details><summary>Hint</summary>
#
# A token selects k experts, so `selected_NE.mean(0)` sums to k: divide by
# `selected_NE.sum(1).mean()`.
# </details>


# %%
def balance_loss(probs_NE, selected_NE):
    """The balance loss, a number."""
    # --- solution
    share_E = selected_NE.mean(0) / selected_NE.sum(1).mean()
    return probs_NE.shape[1] * (share_E * probs_NE.mean(0)).sum()
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


balance_loss = check("balance_loss", balance_loss)

# %% [markdown]
# ## The experiment
#
# Data in eight groups, each with a center and a matrix of its own: x lies near its group's center,
# and the right answer is x times the group's matrix. One expert per group would be ideal, but nobody
# tells the layer which group a token belongs to.
#
# **Baseline**: a layer with a single expert of the same size, which costs the same per token. If
# experts help, eight of them must beat it.

# %%
D, F, GROUPS, N, STEPS = 16, 16, 8, 128, 400


def data(key, center_GD, matrix_GDD):
    k_group, k_noise = jax.random.split(key)
    group_N = jax.random.randint(k_group, (N,), 0, GROUPS)
    x_ND = center_GD[group_N] + 0.5 * jax.random.normal(k_noise, (N, D))
    return x_ND, jnp.einsum("nd,ndk->nk", x_ND, matrix_GDD[group_N])


@partial(jax.jit, static_argnames="E")
def train(seed, weight, E):
    """Squared error [steps] and each expert's share of the tokens [steps, E]."""
    keys = jax.random.split(jax.random.key(seed), 6)
    world = (
        jax.random.normal(keys[0], (GROUPS, D)),
        jax.random.normal(keys[1], (GROUPS, D, D)) / D**0.5,
    )
    params = {
        "router": jax.random.normal(keys[2], (D, E)) / D**0.5,
        "experts": {
            "gate_up": jax.random.normal(keys[3], (E, D, 2 * F)) / D**0.5,
            "down": jax.random.normal(keys[4], (E, F, D)) / F**0.5,
        },
    }
    optimiser = optax.adam(5e-3)

    def loss(params, x_ND, y_ND):
        r = moe.route(x_ND, params["router"], 1)
        said_ND = moe.reference_moe(x_ND, params["experts"], r.experts_NA, r.gates_NA)
        error = ((said_ND - y_ND) ** 2).mean()
        balance = moe.load_balance_loss(r.probs_NE, r.experts_NA)
        return error + weight * balance, (error, moe.selected(r.experts_NA, E).mean(0))

    def step(state, i):
        params, opt_state = state
        batch = data(jax.random.fold_in(keys[5], i), *world)
        grads, seen = jax.grad(loss, has_aux=True)(params, *batch)
        updates, opt_state = optimiser.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), seen

    return jax.lax.scan(step, (params, optimiser.init(params)), jnp.arange(STEPS))[1]


WEIGHTS, SEEDS = (0.0, 0.1), range(SEED, SEED + 4)
shares = {weight: [] for weight in WEIGHTS}  # at the end, by seed
errors = {weight: [] for weight in WEIGHTS}
for weight in WEIGHTS:
    for seed in SEEDS:
        error_S, share_SE = train(seed, weight, 8)
        errors[weight].append(float(error_S[-50:].mean()))
        shares[weight].append(np.asarray(share_SE[-50:].mean(0)))
single = np.mean([train(seed, 0.0, 1)[0][-50:].mean() for seed in SEEDS])


def dead(share_E):
    return int((share_E < 0.25 / len(share_E)).sum())


busiest = {weight: np.mean([x.max() for x in shares[weight]]) for weight in WEIGHTS}
for weight in WEIGHTS:
    by_seed = [dead(x) for x in shares[weight]]
    print(f"balance {weight}: error {np.mean(errors[weight]):.3f}, dead experts by seed {by_seed}")
    print(f"             busiest expert {busiest[weight]:.2f}")
print(f"baseline, one expert: error {single:.3f}")
compare("dead experts", np.mean([dead(x) for x in shares[0.0]]))
compare("busiest expert", busiest[0.0])

# %% [markdown]
# ## The figure of this lesson

# %%
plots.load_by_balance(shares)

# %%
assert np.mean([dead(x) for x in shares[0.0]]) >= 1 > np.mean([dead(x) for x in shares[0.1]])
assert np.mean(errors[0.1]) < 1.2 * np.mean(errors[0.0]) < single

# %% [markdown]
# ## The negative control: gates that sum to 1
#
# Many models divide the gates by their sum. With k = 1 the only gate is then always exactly 1,
# whatever the router says. What slope does the error have in the router's weights? The claim that a
# router learns through its gate **must fail** here, and it does: what is left is rounding.


# %%
def router_slope(normalise):
    """Largest slope of the squared error in any weight of a top-1 router."""
    x_ND = jax.random.normal(jax.random.key(SEED), (64, D))
    y_ND = jnp.roll(x_ND, 1, 1)

    def error(router_DE):
        r = moe.route(x_ND, router_DE, 1, normalise)
        return ((moe.reference_moe(x_ND, small, r.experts_NA, r.gates_NA) - y_ND) ** 2).mean()

    small = {name: jnp.array(matrices) for name, matrices in experts.items()}
    router_DE = jax.random.normal(jax.random.key(SEED + 1), (D, 8))
    return float(jnp.abs(jax.grad(error)(router_DE)).max())


print("gates as they are:  ", router_slope(False))
print("gates that sum to 1:", router_slope(True))
assert router_slope(True) < 1e-5 * router_slope(False)

# %% [markdown]
# ## Exercise 2.6 · Fool the balance loss *(break it · medium · 8 minutes)*
#
# A low balance loss does not prove that the load is balanced. Write router logits that send *every*
# token to expert 0 (top-1), while the loss stays below 1.01, nearly its value under perfect balance.
#
# Then say in a sentence why nobody who trains a model looks at the balance loss alone.
#
# <details><summary>Hint</summary>
#
# If f is 1 for expert 0, the loss is E · P₀. How large must P₀ be, and how large a lead does expert 0
# need to win the top-1?
# </details>


# %%
def fool(n_tokens, n_experts):
    """Logits [N, E] that send every token to expert 0, with a balance loss below 1.01."""
    # --- solution
    return np.where(np.arange(n_experts) == 0, 1e-4, 0.0) * np.ones((n_tokens, 1))
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


fool = check("fool", fool)

# %%
logits_NE = fool(100, 8)
selected_NE = top_k_gates(logits_NE, 1) > 0
probs_NE = top_k_gates(logits_NE, 8)
print("share of expert 0:", selected_NE[:, 0].mean())
print("balance loss:     ", balance_loss(probs_NE, selected_NE))

# %% [markdown]
# ## Try it yourself
#
# Change one thing in the experiment and predict first: two experts per token (the 1 in
# `moe.route(x_ND, params["router"], 1)`), sixteen experts for eight groups, a balance weight of 1 or of 0.001, groups of very different size.
# When does balance *cost* something? A balance loss wants equal work for all; what if the world does
# not have equal work for all?

# %%
# Your experiment goes here.
# --- solution
strong = [train(seed, 3.0, 8)[0][-50:].mean() for seed in SEEDS[:2]]
print(f"balance 3.0: error {np.mean(strong):.3f}")
# --- exercise
# ...
# --- end

# %% [markdown]
# ## What this does not show
#
# The groups here are equally large and clearly apart, which suits a balance loss. In language, topics
# are neither, and strong balance is known to push routers towards uniform routing that knows nothing
# (arXiv 2505.22323). Four seeds are few. And flat load does not mean that experts *specialise*: two
# real models with equally flat load differ a hundredfold in what their experts know about the topic.
# That needs another measure, which is the next lesson's.
#
# **To discuss.** Why does the layer not simply learn to use all experts, if that fits better? What
# would a router learn if gates were renormalised with k = 2? Why must a dispatch never drop tokens if
# you want to compare two models?
