"""Published figures that ours are shown beside.

Source: "Understanding Safety-Sensitive Expert Behavior in Mixture-of-Experts LLMs",
arXiv 2605.29708, as known from secondary notes; the unit of the divergence is not stated there.
"""

from .. import hazards

SOURCE = "arXiv 2605.29708"

# Jensen–Shannon divergence between the routes of paired prompts: lowest and highest reported.
CONTRAST_JS = {
    "refuse_vs_answer": (0.0054, 0.0434),
    "refusal_prefix": (0.0098, 0.0346),
    "intent_twins": (0.1006, 0.1006),
    "cross_topic": (0.2282, 0.2362),
    "topic_twins": (0.3379, 0.3379),
}

# Cross-topic, the middle of the range, by intent twins. The two figures are published, the ratio is
# ours, and misleads (docs/metrics.md).
JS_RATIO = sum(CONTRAST_JS["cross_topic"]) / sum(CONTRAST_JS["intent_twins"])

# Share of the eight largest experts in common.
CONTRAST_OVERLAP = {"refuse_vs_answer": (7.18 / 8, 7.92 / 8)}

# What is compared, in words; those called control are ours.
CONTRAST_LABELS = {
    "refuse_vs_answer": "refused against answered, same prompt",
    "refusal_prefix": "refusal prefix added",
    "intent_twins": "verb swapped, hazard flips (intent twins)",
    "cross_topic": "random prompts of different topics",
    "topic_twins": "context swapped, same question (topic twins)",
    "neutral_twins": "control: verb swapped, hazard kept",
    "harmless_twins": "control: as intent twins, in a harmless topic",
    "object_twins": "control: entity swapped, hazard flips",
    "same_topic": "control: random prompts of one topic",
    "word_twins": "control: one context word swapped, same topic",
    "stray_word_twins": "control: one context word swapped for another topic's",
}


def contrast_labels(hazard_rule: str = "conjunction") -> dict[str, str]:
    """``CONTRAST_LABELS`` under any hazard rule, which says what intent twins swap."""
    swapped = hazards.RULES[hazard_rule].swaps
    return CONTRAST_LABELS | {"intent_twins": f"{swapped} swapped, hazard flips (intent twins)"}
