# The source of lesson 0: only this file is edited. `python -m lessons.build 00` does the rest.

# %% [markdown]
# # Lesson 0 · From words to logits in twenty minutes
#
# **Claim.** All that this model does with a prompt can be looked at, added up and changed. When one
# verb turns an answer into a refusal, do other experts speak? Guess first, then look.
#
# After this lesson you will be able to
#
# 1. read a prompt, and ask the model in the explorer;
# 2. say what *residual stream*, *expert*, *logit*, *softmax*, *loss* and *checkpoint* mean;
# 3. read ten lines of JAX.
#
# You need Python and numpy. In each exercise you fill in a function and run the cell. `check` says
# what it found; until your function is right, a reference takes its place.

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

begin(0)

# %%
import jax
import jax.numpy as jnp
import numpy as np

from toymoe import explorer, model, organism, world
from toymoe.classroom import plots
from toymoe.classroom.checks.lesson0 import START
from toymoe.organism import seeded

SEED = 0  # another seed draws other prompts for the comparison at the end
shipped = organism.load()  # a trained model and its world
cfg, names = shipped.cfg.model, list(world.vocabulary(shipped.cfg.world))

# %% [markdown]
# ## Words and tokens
#
# Each word of the model's language is one **token**, a number below V. A prompt has ten words of a
# topic between **BOS** (here it begins) and **ASK** (here comes the question), then a verb, an entity,
# and **ANS**: now answer. At each position the model says what comes next; at ANS that is its answer,
# or REFUSE.

# %%
tokens_T = np.array([names.index(word) for word in START.split()])
print(START)
print(*tokens_T)
print(f"{len(names)} tokens in all; {cfg.layers} layers of {cfg.experts} experts")

# %% [markdown]
# ## Predict before you run
#
# In each layer the model has many small parts, the **experts**, and a **router** sends each token to
# two of them. Over three layers, six experts speak at ANS. If the verb is swapped for one that makes
# the request hazardous, how many of the six stay, on average?

# %%
# --- solution
guess_same = 4
# --- exercise
# guess_same = ...  # from 0 to 6
# --- end
predict("experts that stay", guess_same, 0, 6)

# %% [markdown]
# ## The explorer
#
# The next cell opens this very model in your browser, with a hazardous request. *Before alignment* and
# *after alignment* are two **checkpoints**, the model at two moments of its training: first it learned
# to answer everything, then to refuse.

# %%
explorer.show(shipped, tuned=False)

# %% [markdown]
# ## Exercise 0.1 · Make it refuse *(try it · easy · 3 minutes)*
#
# Copy the prompt printed above (BOS … ANS) into the field *or type the whole prompt* and press *Ask*.
# It is answered. Change its verb, and nothing else, until the model refuses. Then press *Copy link*,
# and paste the link below as text: what stands after # is all that the page shows.
#
# <details><summary>Hint</summary>
#
# The verb is in the second menu. `return "#prompt=BOS.boat2…"`. Where the browser does not let a page
# copy, the page shows the link instead; the panel *Code* has it, too, at its end.
# </details>


# %%
def refusing():
    """A state of the explorer: the prompt above with another verb, and it is refused. Text."""
    # --- solution
    return "#prompt=" + START.replace("mark", "copy").replace(" ", ".")
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


refusing = check("refusing", refusing)

# %%
state = explorer.read(refusing(), shipped)
refused_T = explorer.tokens_of(shipped, state)[0]
print(explorer.asked(shipped, state))

# %% [markdown]
# ## The residual stream
#
# Each token starts as D numbers, its *embedding*. They are the **residual stream**: every layer reads
# it and adds to it. First the **attention** heads add what they fetch from earlier positions, then the
# two chosen experts what they make of this one. Nothing is overwritten.
#
# `model.forward` runs the model, and `record` keeps what happens on the way. Letters after an
# underscore name axes: L layers, B prompts, T positions, H heads, E experts, D width, V tokens.

# %%
taps = "head_out", "contribution", "resid_post"
out = model.forward(shipped.aligned, tokens_T[None], cfg, record=taps)
record = {name: np.asarray(array)[:, 0, -1] for name, array in out.record.items()}  # at ANS
for name, array in record.items():
    print(f"{name:13}", array.shape)

# %% [markdown]
# ## Exercise 0.2 · Add it up *(fill in · easy · 3 minutes)*
#
# Given the embedding, and what each head and each expert of each layer adds: what stands in the
# stream in the end?
#
# <details><summary>Hint</summary>
#
# `heads_LHD.sum((0, 1))` sums over layers and heads.
# </details>


# %%
def stream(embed_D, heads_LHD, experts_LED):
    """The residual stream after the last layer, an array [D]."""
    # --- solution
    return embed_D + heads_LHD.sum((0, 1)) + experts_LED.sum((0, 1))
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


stream = check("stream", stream)

# %%
embed_D = shipped.aligned["embed"][tokens_T[-1]]
mine_D = stream(embed_D, record["head_out"], record["contribution"])
print("largest difference from the model:", np.abs(mine_D - record["resid_post"][-1]).max())
print("experts that add something, by layer:", (record["contribution"] != 0).any(-1).sum(-1))
assert np.allclose(mine_D, record["resid_post"][-1], atol=1e-4)

# %% [markdown]
# ## Logits, probabilities, loss
#
# The stream, scaled, times a matrix [D, V] gives one number z for each token, its **logit**. The
# **softmax** makes probabilities of them: $p_v = e^{z_v} / \sum_u e^{z_u}$. Training makes the **loss**
# small: $-\ln p$ of the token that really comes next, in nats.
#
# ## Exercise 0.3 · The loss *(fill in · easy · 4 minutes)*
#
# <details><summary>Hint</summary>
#
# `np.exp` of a large number has no end. Take the largest logit off all of them first: it cancels.
# </details>


# %%
def loss_of(logits_V, token):
    """-ln of the probability of a token, a number in nats."""
    # --- solution
    shifted_V = logits_V - logits_V.max()
    return np.log(np.exp(shifted_V).sum()) - shifted_V[token]
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


loss_of = check("loss_of", loss_of)

# %%
right = int(np.asarray(out.logits_BTV)[0, -1].argmax())
checkpoints = {
    "untrained": seeded.params(shipped.cfg),
    "before alignment": shipped.pretrained,
    "after alignment": shipped.aligned,
}
losses = {}
for name, params in checkpoints.items():
    logits_V = np.asarray(model.forward(params, tokens_T[None], cfg).logits_BTV)[0, -1]
    losses[name] = loss_of(logits_V, right)
    print(f"{name:17} says {names[logits_V.argmax()]:8}  loss of {names[right]}: {losses[name]:.3f}")
print(f"baseline, all {len(names)} tokens alike: loss {np.log(len(names)):.3f}")

# %% [markdown]
# The **baseline** is what knowing nothing costs; the untrained model does no better.
#
# ## Ten lines of JAX
#
# JAX is numpy (`jnp`) with functions that make functions. `jax.grad(f)` gives the slope of f in its
# first argument. `jax.lax.scan(step, x, length=50)` is a loop, fifty times `x, seen = step(x, None)`:
# it gives the last x and all that was seen. `jax.jit(f)` is f, compiled at its first call and fast from
# then on. Arrays are never changed, new ones are made. Here three logits learn to name token 2, by
# going down the slope:


# %%
def loss(logits_V):
    return -jax.nn.log_softmax(logits_V)[2]


def step(logits_V, _):
    return logits_V - 0.5 * jax.grad(loss)(logits_V), loss(logits_V)


train = jax.jit(lambda logits_V: jax.lax.scan(step, logits_V, length=50))
start_V = jnp.array([1.0, 0.0, -1.0])
last_V, losses_S = train(start_V)
print("loss:", *losses_S[::10].round(3))
print("probabilities at the end:  ", jax.nn.softmax(last_V).round(3))
print("probabilities at the start:", jax.nn.softmax(start_V).round(3))
print("slope at the start:        ", jax.grad(loss)(start_V).round(3))

# %% [markdown]
# ## Exercise 0.4 · What grad found *(fill in · medium · 4 minutes)*
#
# This slope can be written without JAX. Compare the last two lines that were printed: what is it for
# token 2, and what for the others?
#
# <details><summary>Hint</summary>
#
# The others' slopes *are* their probabilities: the larger one is, the more it takes from token 2.
# </details>


# %%
def slope_of(logits_V, token):
    """The slope of the loss of a token in each logit, an array [V]."""
    # --- solution
    weights_V = np.exp(logits_V - logits_V.max())
    return weights_V / weights_V.sum() - (np.arange(len(logits_V)) == token)
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


slope_of = check("slope_of", slope_of)

# %%
assert np.allclose(slope_of(np.asarray(start_V), 2), jax.grad(loss)(start_V), atol=1e-5)
print("by hand and by jax.grad: the same")

# %% [markdown]
# ## The figure of this lesson
#
# Your two prompts, and the experts that take each of their tokens.


# %%
def experts_of(tokens_BT):
    """The selected experts of the aligned model, [L, B, T, 2]."""
    return np.asarray(model.forward(shipped.aligned, tokens_BT, cfg).routes.experts_LBTA)


words = [
    names[a] if a == b else f"{names[a]} / {names[b]}"
    for a, b in zip(tokens_T, refused_T, strict=True)
]
both_LBTA = experts_of(np.stack([tokens_T, refused_T]))
plots.experts_by_word(words, both_LBTA, ["answered", "refused"], cfg.experts)

# %% [markdown]
# Up to the verb, rings and dots coincide: the model reads from left to right. Then some differ. Did
# refusal do that? **The negative control** swaps the verb for another *harmless* one, which must fail
# to bring a refusal.

# %%
measured = explorer.pairs(shipped)[1]
harmless = world.Prompts(*map(np.asarray, measured.twins))
other, _ = world.neutral_twin(jax.random.key(SEED), shipped.tables, shipped.cfg.world, harmless)


def stay(a_BT, b_BT):
    """Of the six experts at ANS, how many are the same, on average."""
    a_LBA, b_LBA = (experts_of(tokens)[:, :, -1] for tokens in (a_BT, b_BT))
    return (a_LBA[..., None] == b_LBA[..., None, :]).sum((0, 2, 3)).mean()


def refused(tokens_BT):
    said_B = model.forward(shipped.aligned, tokens_BT, cfg).logits_BTV[:, -1].argmax(-1)
    return float((said_B == world.REFUSE).mean())


swapped = {
    "a hazardous verb": measured.hazards.tokens_BP,
    "a harmless verb": np.asarray(other.tokens_BP),
}
same = {name: stay(harmless.tokens_BP, tokens_BT) for name, tokens_BT in swapped.items()}
for name, tokens_BT in swapped.items():
    print(f"{name}: {same[name]:.2f} of 6 experts stay, refused: {refused(tokens_BT):.2f}")
compare("experts that stay", same["a hazardous verb"])
assert refused(swapped["a hazardous verb"]) > 0.9 > 0.1 > refused(swapped["a harmless verb"])

# %% [markdown]
# The harmless verb moves the experts about as much, and nothing is refused: other experts are no sign
# of refusal. Lessons 4 and 5 go after what is.
#
# ## Try it yourself
#
# Make the model answer your refused prompt *without* touching the prompt: press experts at ANS to
# silence them, or open the panel *Refusal localises*. What is the least that you have to change? The
# cell below says what a state does to 64 hazards and their harmless twins.

# %%
# Your state goes here.
# --- solution
print(explorer.meters(shipped, explorer.read("#model=pretrained", shipped)))
# --- exercise
# ...
# --- end

# %% [markdown]
# ## What this does not show
#
# A number that can be seen is not yet understood. This is one model, of 380 thousand parameters and a
# hundred words; large ones have the same parts, and far more of them.
#
# **To discuss.** What would the model say at ANS if it saw the verb alone? Why is a loss of 0 never
# reached? An expert that nobody selects: does it get a slope?
