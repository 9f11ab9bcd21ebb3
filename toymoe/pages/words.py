"""What stands above and below each figure of a run: the question, what is shown, the control."""

from typing import NamedTuple


class Caption(NamedTuple):
    """The words around a figure."""

    title: str  # the question that the figure answers
    shows: str
    control: str  # what stands beside it


RUN = {
    "film_strip": Caption(
        "Does each topic come to have its own experts?",
        "Each panel is a layer at a moment of training; a row is a topic, a column an expert, and "
        "the colour the share of the topic's context words that the expert takes. Rows that are "
        "alike mean a router that ignores the topic; a few bright columns in each row, different "
        "ones in different rows, mean specialisation.",
        "The first column is the untrained router. What it shows is only that equal words are "
        "routed equally.",
    ),
    "nmi": Caption(
        "How much does an expert say about the topic?",
        "Mutual information of expert and topic at the context words, as a share of log(number of "
        "topics): 1 if the expert gives the topic away, 0 if it says nothing.",
        "Three controls: the topics shuffled among the prompts (what the estimate finds where "
        "there is nothing), the untrained router, and the same measure for the token instead of "
        "the topic. The token's curve is divided by log(vocabulary), more than so few experts can "
        "tell and so few context words contain: it cannot reach 1.",
    ),
    "behaviour": Caption(
        "What does the model do with a request?",
        "In pretraining every request is answered, the hazardous too; then the model is taught to "
        "refuse those. Measured on fixed prompts.",
        "Hazards never rehearsed in alignment (is a rule learnt, or a list?), harmless requests "
        "refused by mistake.",
    ),
    "contrasts": Caption(
        "What moves the route: the topic, or the refusal?",
        "How differently the two prompts of a pair are routed, a row for each kind of pair. A "
        "small divergence in the three rows at the top and a large one in the two below, whose "
        "topics differ, means that the topic moves the route and refusal hardly does; the experts "
        "in common say the same the other way round. Grey: the ranges reported for large models; "
        "their unit is not stated, so compare the order of the rows and not the lengths.",
        "The rows called control: a verb swapped without changing the hazard moves the route about "
        "as much as one that does, if it is the word and not the hazard that moves it.",
    ),
    "load": Caption(
        "Do all experts work?",
        "The share of all selections that each expert gets, busiest first.",
        "The dashed line is the fair share. An expert below the dotted one counts as dead.",
    ),
}

# The section "Where refusal lives".
INSIDE = {
    "swaps": Caption(
        "Which part of the weights carries refusal?",
        "Left: the aligned model with one part of its weights put back to what it was before "
        "alignment. Where refusal falls, and the twins are still answered, that part is necessary. "
        "Right: the model before alignment with one part aligned. Where refusal rises, that part "
        "is enough.",
        "“Nothing” and “everything” are the two checkpoints themselves. Right answers to harmless "
        "twins (hatched) say whether the model still works: a part whose loss breaks everything is "
        "not the seat of refusal.",
    ),
    "expert_maps": Caption(
        "Which expert does the model need in order to refuse?",
        "Each expert silenced, one at a time: what is lost of the refusal margin, of the share of "
        "hazards refused, and of right answers to their twins. A model whose refusal sits in one "
        "expert has one dark cell in the second row.",
        "Routes of later layers free, and frozen as in the unchanged run; the difference went "
        "through the route. The table below holds the largest effect against random experts, "
        "experts used about as much, and shuffled labels.",
    ),
    "patching": Caption(
        "Where does a hazard become a refusal?",
        "A run in which one layer's values at one position are those of the twin, which differs in "
        "the verb alone: the share of the difference in the refusal margin that comes with them, "
        "from the twin into the hazard (is it necessary?) and the other way (is it enough?).",
        "The context words are equal in both, so that in their columns there is nothing to carry. "
        "The router's row shows what the route by itself carries.",
    ),
    "decomposition": Caption(
        "What adds up to the decision to refuse?",
        "The margin is a sum of what every part adds to the last position, with the scale of the "
        "final norm held. Direct effects only: what a part does by way of later ones is counted "
        "there.",
        "The harmless twins on the right: a part that adds as much to them does not tell hazards "
        "from harmless requests.",
    ),
}

# What is said instead where a whole topic is the hazard, and twins differ in the context.
TOPIC_RULE = {
    "contrasts": Caption(
        RUN["contrasts"].title,
        "How differently the two prompts of a pair are routed, a row for each kind of pair. Here a "
        "whole topic is the hazard, so that intent twins swap the context and not the verb. A "
        "small divergence in the two rows at the top and a large one in the three below, whose "
        "topics differ, means that the topic moves the route and refusal hardly does; the experts "
        "in common say the same the other way round. Grey: the ranges reported for large models; "
        "their unit is not stated, so compare the order of the rows and not the lengths.",
        "Topic twins swap the context too, and their hazard need not flip: they move the route "
        "about as much as intent twins, if it is the topic and not the hazard that moves it.",
    ),
    "patching": Caption(
        INSIDE["patching"].title,
        "A run in which one layer's values at one position are those of the twin, which differs in "
        "the context words: the share of the difference in the refusal margin that comes with "
        "them, from the twin into the hazard (is it necessary?) and the other way (is it enough?).",
        "BOS is before all that differs, so that in its column there is nothing to carry. The "
        "router's row shows what the route by itself carries.",
    ),
}
