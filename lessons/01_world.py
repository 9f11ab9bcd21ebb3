# The source of lesson 1: only this file is edited. `python -m lessons.build 01` does the rest.

# %% [markdown]
# # Lesson 1 · A small world with topics and hazards
#
# **Claim.** No single token tells whether a request is hazardous, or what its right answer is.
# Only the combination of topic, verb and entity does. So a model that answers and refuses well
# must have put them together.
#
# After this lesson you will be able to
#
# 1. read a prompt of the toy world and say why it is hazardous or harmless;
# 2. compute how much one thing tells about another, as a best guess and in nats;
# 3. say what a *conjunction* is, and why a list of bad words cannot express one;
# 4. make the *twin* of a prompt, the smallest change that flips the hazard;
# 5. find a bug by asking what a wrong result would look like.
#
# You need Python and numpy. You do not need JAX, or anything about transformers.
#
# How the exercises work: fill in a function and run the cell. `check` compares it with another
# implementation on many inputs and says what it found. It never stops the notebook: until your
# function is right, a reference takes its place.

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

begin(1)

# %%
import jax
import numpy as np

from toymoe import organism, world
from toymoe.classroom import plots

SEED = 0  # another seed draws other prompts
shipped = organism.load()  # a trained model and its world; nothing is trained here
cfg, tables = shipped.cfg.world, shipped.tables

# %% [markdown]
# ## The world
#
# A prompt is a few words of a topic and then a question, a verb and an entity:
#
#     BOS  w1 … w10  ASK  verb  entity  ANS
#
# - The **words** come from the prompt's topic. Half of a topic's words are shared with a
#   neighbouring topic: such a word is called `boat-clay1`, for instance.
# - The **right answer** is an arbitrary table of topic, verb and entity. The same question has
#   another answer in every topic.
# - A request is **hazardous** when its topic is a hazardous one *and* its verb is a hazardous verb
#   *and* its entity is hazardous in that topic. These are meaningless tokens: nothing here is
#   really dangerous.
#
# Letters after an underscore name the axes of an array: B stands for prompts, X for the values of a
# token, G for topics or other labels, Y for verbs, Z for entities. So `topic_B` has a number for every
# prompt, and `hazard_GYZ` one for every topic, verb and entity.
#
# Two hazardous prompts and two harmless ones. (*Held out* and *control* in what is printed are for lesson 4.)

# %%
prompts = shipped.sample(20_000, "mixed", SEED)  # numpy arrays, one entry per prompt
for label in (True, False):
    for i in np.flatnonzero(prompts.hazard_B == label)[:2]:
        print(world.show(prompts, tables, cfg, i))

# %% [markdown]
# ## Predict before you run
#
# Imagine that you see a single context word of each prompt, one word out of ten. You guess the
# topic as well as anybody could who knows the world. In what share of the prompts are you right?
# There are eight topics, of which the four hazardous ones come up twice as often as the others.
#
# And if you see nothing but the verb, in what share of the prompts can you say rightly whether the
# request is hazardous? (Without looking at all, "harmless" is right in a little more than half.)
#
# Write both numbers down now. There is nothing to win by being right, and much to learn from being
# wrong.

# %%
# --- solution
guess_topic_from_word = 0.75
guess_hazard_from_verb = 0.8
# --- exercise
# guess_topic_from_word = ...  # your number from 0 to 1
# guess_hazard_from_verb = ...
# --- end
predict("topic from one word", guess_topic_from_word)
predict("hazard from the verb", guess_hazard_from_verb)

# %% [markdown]
# ## Exercise 1.1 · What a word says *(fill in · easy · 6 minutes)*
#
# `counts_XG[x, g]` is the number of prompts in which token x occurs with label g. Turn it into
# P(label | token): every row divided by its sum. A token that never occurs has a row of zeros,
# and keeps it.
#
# <details><summary>Hint</summary>
#
# `total_X1 = counts_XG.sum(1, keepdims=True)` has shape [X, 1], so that it divides row by row. Where
# it is 0, divide by 1 instead: `np.where(total_X1 == 0, 1, total_X1)`.
# </details>


# %%
def posterior(counts_XG):
    """P(label | token), an array [X, G]."""
    # --- solution
    total_X1 = counts_XG.sum(1, keepdims=True)
    return counts_XG / np.where(total_X1 == 0, 1, total_X1)
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


posterior = check("posterior", posterior)


# %% [markdown]
# What do two words of the world say about the topic? One belongs to a single topic, the other is
# shared, and not evenly: of its two topics, the hazardous one comes up more often.


# %%
def counts_of(seen_B, label_B):
    """How often each pair occurs: an array [X, G]."""
    counts = np.zeros((seen_B.max() + 1, label_B.max() + 1))
    np.add.at(counts, (seen_B, label_B.astype(int)), 1)
    return counts


words = world.vocabulary(cfg)
first_word = prompts.tokens_BP[:, 1]
shares = posterior(counts_of(first_word, prompts.topic_B))
topics, bad_G = world.names(cfg), np.asarray(tables.hazard_GYZ).any((1, 2))
one = np.flatnonzero(bad_G[:-1] != bad_G[1:])[0]  # of this topic and the next, one is hazardous
for name in (f"{topics[one]}1", f"{topics[one]}-{topics[one + 1]}1"):
    row = shares[words.index(name)]
    found = {t: round(float(p), 2) for t, p in zip(topics, row, strict=True) if p > 0}
    print(f"{name}: {found}")

# %% [markdown]
# ## Exercise 1.2 · The best guess *(fill in · medium · 8 minutes)*
#
# A rule that sees only the token does best by naming the most frequent label of that token. What
# share of all prompts does it get right?
#
# <details><summary>Hint</summary>
#
# `counts_XG.max(1)` says how often the rule is right in each row. Add up over the rows, and divide
# by the number of prompts. Frequent tokens then count more than rare ones, as they should.
# </details>


# %%
def best_guess(counts_XG):
    """Share of right guesses of the best rule that sees the token alone, a number."""
    # --- solution
    return counts_XG.max(1).sum() / counts_XG.sum()
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


best_guess = check("best_guess", best_guess)

# %%
nothing = np.zeros(len(first_word), int)  # the baseline: the same "token" for every prompt
topic_from_word = best_guess(counts_of(first_word, prompts.topic_B))
hazard_from_verb = best_guess(counts_of(prompts.verb_B, prompts.hazard_B))
compare("topic from one word", topic_from_word)
compare("hazard from the verb", hazard_from_verb)
print(f"baseline, topic:  {best_guess(counts_of(nothing, prompts.topic_B)):.3f}")
print(f"baseline, hazard: {best_guess(counts_of(nothing, prompts.hazard_B)):.3f}")

# %% [markdown]
# ## Exercise 1.3 · The same in nats *(fill in · medium · 10 minutes)*
#
# A best guess sees only whether the favourite is right. **Mutual information** sees every change
# of the odds. With p(x, g) the share of prompts with token x and label g,
#
# $$I = \sum_{x,g} p(x,g)\,\ln\frac{p(x,g)}{p(x)\,p(g)}$$
#
# It is 0 when token and label have nothing to do with each other. It can never exceed the entropy
# of the label, which is what there is to know; for eight topics that is at most ln 8 = 2.08 nats.
# The router of a mixture of experts will be measured with the same formula in lesson 3.
#
# <details><summary>Hint</summary>
#
# Make p by dividing the counts by their sum; p(x) and p(g) are its sums over rows and columns. A
# cell without counts adds nothing (0 · ln 0 = 0): sum only where p > 0.
# </details>


# %%
def information(counts_XG):
    """I(token; label) in nats, a number."""
    # --- solution
    p_XG = counts_XG / counts_XG.sum()
    independent_XG = p_XG.sum(1, keepdims=True) * p_XG.sum(0, keepdims=True)
    there = p_XG > 0
    return (p_XG[there] * np.log(p_XG[there] / independent_XG[there])).sum()
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


information = check("information", information)

# %%
shuffled_B = np.random.default_rng(SEED).permutation(prompts.topic_B)
print(f"one word, topic:           {information(counts_of(first_word, prompts.topic_B)):.3f} nats")
print(f"one word, shuffled topics: {information(counts_of(first_word, shuffled_B)):.3f} nats")

# %% [markdown]
# The second line is a **negative control**. Its topics belong to other prompts, so there is
# nothing to find, and what remains is the size of chance. A number that is not larger than its
# control means nothing.
#
# ## Exercise 1.4 · The hazard rule *(fill in · easy · 6 minutes)*
#
# Write the rule itself: hazardous are the requests whose topic, verb and entity are all three bad,
# where the list of bad entities depends on the topic.
#
# <details><summary>Hint</summary>
#
# `bad_topic_G[topic_B]` looks up every prompt's topic at once. The entity needs both indices,
# `bad_entity_GZ[topic_B, entity_B]`. Between arrays, "and" is `&`.
# </details>


# %%
def is_hazard(topic_B, verb_B, entity_B, bad_topic_G, bad_verb_Y, bad_entity_GZ):
    """Which of B requests are hazardous, an array [B] of True and False."""
    # --- solution
    return bad_topic_G[topic_B] & bad_verb_Y[verb_B] & bad_entity_GZ[topic_B, entity_B]
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


is_hazard = check("is_hazard", is_hazard)

# %%
# The three lists, read off the world's table of hazards.
bad_topic_G = tables.hazard_GYZ.any((1, 2))
bad_verb_Y = tables.hazard_GYZ.any((0, 2))
bad_entity_GZ = tables.hazard_GYZ.any(1)
mine_B = is_hazard(
    prompts.topic_B, prompts.verb_B, prompts.entity_B, bad_topic_G, bad_verb_Y, bad_entity_GZ
)
print(
    "hazardous:", mine_B.mean(), "   same as the world's label:", (mine_B == prompts.hazard_B).all()
)

# %% [markdown]
# ## Exercise 1.5 · Find the bug *(bug hunt · hard · 10 minutes)*
#
# To ask what *two* positions tell together, we need one number for each combination of their
# values. The function below is meant to give 0 … product of the sizes − 1, the first column
# changing fastest. It is right for one column and for two, and wrong for three: different
# combinations get the same number. Repair it.
#
# What would go unnoticed? With colliding numbers the best guess comes out too *low*. A result that
# agrees with what you hoped for deserves the same suspicion as one that does not.
#
# <details><summary>Hint</summary>
#
# Work out by hand what `step` is for sizes 2, 3 and 4. In hours, minutes and seconds, what is one
# hour worth in seconds?
# </details>


# %%
def combine(columns, sizes):
    """One number for each combination of values; columns is a list of arrays [B]."""
    code = 0 * columns[0]
    step = 1
    for column, size in zip(columns, sizes, strict=True):
        code = code + step * column
        # --- solution
        step = step * size
        # --- exercise
        # step = size
        # --- end
    return code


combine = check("combine", combine)

# %% [markdown]
# ## The figure of this lesson
#
# What is the best guess of topic, answer and hazard from each thing that can be seen? "Topic" in
# the last rows means the topic itself, as somebody would know it who has read all ten words. The
# dashed line is the **baseline**, the best guess without looking at all.

# %%
Y, Z, G = cfg.verbs, cfg.entities, cfg.topics
topic, verb, entity = prompts.topic_B, prompts.verb_B, prompts.entity_B
seen = {
    "one context word": first_word,
    "verb": verb,
    "entity": entity,
    "verb + entity": combine([verb, entity], [Y, Z]),
    "topic + verb": combine([topic, verb], [G, Y]),
    "topic + entity": combine([topic, entity], [G, Z]),
    "topic + verb + entity": combine([topic, verb, entity], [G, Y, Z]),
}
labels = {"topic": topic, "answer": prompts.answer_B, "hazard": prompts.hazard_B}
tells = {
    label: {name: best_guess(counts_of(codes, label_B)) for name, codes in seen.items()}
    for label, label_B in labels.items()
}
floors = {label: best_guess(counts_of(nothing, label_B)) for label, label_B in labels.items()}
plots.what_tokens_tell(tells, floors)

# %% [markdown]
# Read the middle panel from top to bottom: neither part of the question gives the answer away, and
# the whole question does not either, because every topic has its own answer. Then the right one: a
# verb or an entity moves the odds of a hazard, and no single token settles it.
#
# **The negative control must fail.** A model that looks at a single position, whichever one, can
# neither answer nor refuse. If one of these assertions broke, the world would have a short cut, and
# the following lessons would measure the short cut instead of the model.

# %%
for position, role in enumerate(world.roles(cfg)[:-3]):
    token_B = prompts.tokens_BP[:, position]
    answered = best_guess(counts_of(token_B, prompts.answer_B))
    judged = best_guess(counts_of(token_B, prompts.hazard_B))
    assert answered < 0.2, f"position {position} ({role}) gives answers away"
    assert judged < 0.85, f"position {position} ({role}) gives hazards away"
everything = tells["answer"]["topic + verb + entity"], tells["hazard"]["topic + verb + entity"]
assert everything == (1, 1), "all three together must settle both"
aligned = shipped.metrics["behaviour"]["aligned"]
print("no single position answers or refuses; all three together do")
print(f"the shipped model answers {aligned['answer_accuracy']:.3f} of the harmless requests")
print(f"and refuses {aligned['refusal']:.3f} of the hazardous ones: it combines them")

# %% [markdown]
# ## Exercise 1.6 · Twins *(break it · medium · 8 minutes)*
#
# To find out what a model does *because of* a hazard, compare two prompts that differ in nothing
# else. Comparing hazardous prompts with any harmless ones would find topics: hazards only occur in
# some of them.
#
# The smallest change is one verb. Which verbs would flip the hazard of a given request, from
# hazardous to harmless or the other way round? Try to break the idea: is there a request whose
# hazard no verb can flip?
#
# <details><summary>Hint</summary>
#
# `hazard_GYZ[topic, :, entity]` is the hazard of the request with each verb in turn. Compare it
# with the hazard of the request as it is.
# </details>


# %%
def flipping_verbs(hazard_GYZ, topic, verb, entity):
    """Which verbs would flip the hazard of one request, an array [Y] of True and False."""
    # --- solution
    return hazard_GYZ[topic, :, entity] != hazard_GYZ[topic, verb, entity]
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end


flipping_verbs = check("flipping_verbs", flipping_verbs)

# %%
count_B = np.array(
    [
        flipping_verbs(tables.hazard_GYZ, *request).sum()
        for request in zip(topic[:2000], verb[:2000], entity[:2000], strict=True)
    ]
)
hazard_B = prompts.hazard_B[:2000]
print(f"hazardous requests with a twin: {(count_B[hazard_B] > 0).mean():.2f}")
print(f"harmless requests with a twin:  {(count_B[~hazard_B] > 0).mean():.2f}")
assert (count_B[hazard_B] > 0).all()
example = int(np.flatnonzero(hazard_B)[0])
one = world.Prompts(*(x[example : example + 1] for x in prompts))
twin, _ = world.intent_twin(jax.random.key(SEED), tables, cfg, one)
print(world.show(one, tables, cfg))
print(world.show(twin, tables, cfg))

# %% [markdown]
# Every hazardous request has a twin. Most harmless ones have none: in a harmless topic, or with a
# harmless entity, no verb makes a hazard. So twins are made starting from the hazardous side.
#
# ## Try it yourself
#
# There are other hazard rules. Take the world with the rule `"trigger"` (one verb makes every
# request hazardous) or `"topic"` (everything is, in some topics), and draw the figure again. Which
# assertion of the negative control breaks? What could a model do in such a world that it cannot do
# in ours?

# %%
other_cfg, other_tables = organism.world_of("trigger")
others = organism.sample(other_cfg, other_tables, 20_000, "mixed", SEED)
# Your experiment goes here.
# --- solution
print("hazard from the verb alone:", best_guess(counts_of(others.verb_B, others.hazard_B)))
# --- exercise
# ...
# --- end

# %% [markdown]
# ## What this does not show
#
# This world has no grammar and no meaning; hazards are drawn at random, and there are a few hundred
# different requests in all. Real requests come in endless variety, real hazards depend on intent
# that no table holds, and real words do give a lot away. What carries over is the way of asking:
# know what a token alone can tell before you call something understanding, and compare twins rather
# than groups that differ in everything at once.
#
# **To discuss.** Why is it not enough to say that the model refuses 99 % of hazards? Which of the
# numbers above would change with twice as many topics? If shared words were abandoned, what would
# the router of the next lessons have left to read?
