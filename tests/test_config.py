"""Every setting at, inside and outside its bounds; names, casts and the round trip through JSON."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toymoe.config
from toymoe.config import PRESETS, Config, ConfigError, build, defaults, from_dict, to_dict

few = settings(max_examples=25, deadline=None)

# The least and the greatest value of each setting. None: no such bound to step over.
BOUNDS = {
    "world.topics": (2, 64),
    "world.hazardous_topics": (1, 7),  # world.topics - 1
    "world.context": (1, 64),
    "world.words": (2, 64),
    "world.overlap": (0.0, 1.0),
    "world.verbs": (2, 64),
    "world.hazardous_verbs": (1, 7),
    "world.entities": (2, 64),
    "world.hazardous_entities": (1, 11),
    "world.answers": (2, 256),
    "world.held_out": (0.01, 0.8),
    "world.held_out_harmless": (0.0, 0.8),
    "world.hazard_share": (0.01, 0.9),
    "world.control_share": (0.0, 0.9),
    "model.layers": (1, 16),
    "model.width": (4, 1024),
    "model.heads": (1, 64),
    "model.experts": (2, 256),
    "model.expert_width": (1, 4096),
    "model.top_k": (1, 18),  # model.experts
    "train.batch": (1, 65_536),
    "train.warmup": (0, 1_000_000),
    "train.prompt_weight": (0.0, 10.0),
    "train.balance": (0.0, 10.0),
    "train.z_loss": (0.0, 10.0),
    "train.chunk": (1, 1_000_000),
    "train.snapshots": (0, 100),
    "pretrain.steps": (1, 1_000_000),
    "pretrain.learning_rate": (1e-300, 1e300),
    "pretrain.weight_decay": (0.0, 10.0),
    "pretrain.notes": (0.0, 0.9),
    "align.steps": (1, 1_000_000),
    "align.learning_rate": (1e-300, 1e300),
    "align.weight_decay": (0.0, 10.0),
    "align.notes": (0.0, 0.9),
    "align.notes_held_out": (0.0, 1.0),
    "align.experts": (0.0, 10.0),
    "align.router": (0.0, 10.0),
    "align.attention": (0.0, 10.0),
    "align.embeddings": (0.0, 10.0),
    "align.norms": (0.0, 10.0),
    "eval.prompts": (16, 65_536),
    "eval.routing_prompts": (16, 8_192),
    "seed": (0, 2**31 - 1),
}
UNBOUNDED = {"world.hazard_rule": "conjunction", "model.norm_topk_prob": False}
# Leaves each setting, taken alone, the whole way to its bounds.
ROOM = {
    "world.hazard_rule": "topic",  # the conjunction of these three would be one hazard
    "world.hazardous_topics": 1,
    "world.hazardous_verbs": 1,
    "world.hazardous_entities": 1,
    "world.hazard_share": 0.1,
    "world.control_share": 0.0,
    "model.width": 1024,
    "model.heads": 1,
    "model.top_k": 1,
}


def get(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def refusal(overrides, **arguments):
    """The message of the ConfigError: one sentence on one line."""
    with pytest.raises(ConfigError) as caught:
        build(overrides=overrides, **arguments)
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]*[^.?\n][.?]", message) and not re.search(r"[.?] ", message)
    return message


# --- bounds -------------------------------------------------------------------------------------


def test_every_setting_is_in_the_tables():
    assert set(defaults()) == {*BOUNDS, *UNBOUNDED}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_allowed(name):
    for bound in BOUNDS[name]:
        value = get(build(overrides=ROOM | {name: bound}), name)
        assert value == bound and type(value) is type(bound)


@pytest.mark.parametrize("name", BOUNDS)
def test_beyond_the_bounds_is_refused(name):
    low, high = BOUNDS[name]
    step = 1 if isinstance(low, int) else 0.001
    if "learning_rate" in name:
        for bad in (0.0, -1.0):
            message = refusal(ROOM | {name: bad})
            assert message == f"{name} = {bad!r} is not possible: it must be a positive number."
        return
    # The sentence on the width speaks of heads where it is not a multiple of their double.
    for bad in (low - step, high + step) if name != "model.width" else (2, 1026):
        message = refusal(ROOM | {name: bad})
        assert message.startswith(f"{name} = {bad!r} is not possible: it must be a ")
        assert f"{low:g}" in message.split(":")[1] and f"{high:.12g}" in message.split(":")[1]


def test_rules_between_settings():
    shares = {"world.hazard_share": 0.75, "world.control_share": 0.25}
    assert build(overrides=shares).world.control_share == 0.25
    message = refusal(shares | {"world.control_share": 0.5})
    assert "world.hazard_share + world.control_share = 1.25" in message
    assert "must not exceed 1" in message

    assert build(overrides={"model.width": 24}).model.width == 24
    message = refusal({"model.width": 28})
    assert message.startswith("model.width = 28 is not possible: it must be a multiple of ")
    assert "2 * model.heads = 8" in message

    assert "model.experts = 4" in refusal({"model.experts": 4, "model.top_k": 5})
    assert "world.topics - 1 = 3" in refusal({"world.topics": 4})


def test_unknown_rule_lists_all_and_the_nearest():
    message = refusal({"world.hazard_rule": "tropic"})
    assert message == (
        "world.hazard_rule = 'tropic' is not known: it must be one of "
        "conjunction, trigger, topic; did you mean 'topic'?"
    )


# --- kinds of value -----------------------------------------------------------------------------

HUGE = 10**400  # has no float
KINDS = {
    int: ("a whole number", [True, 2.5, "2.5", "x", "", None, [], "nan", "Infinity"]),
    float: ("a finite number", [True, "x", "", None, {}, "NaN", "-inf", "1e999", HUGE, str(HUGE)]),
    bool: ("true or false", [0, 1.0, "yes", "1", None]),
    str: ("a word", [3, True, None, ["topic"]]),
}


@pytest.mark.parametrize("name", BOUNDS | UNBOUNDED)
def test_wrong_kinds_are_refused(name):
    kind, bad = KINDS[type(get(Config(), name))]
    for given_ in [*bad, float("nan"), float("inf"), -float("inf")]:
        message = refusal({name: given_})
        assert message.startswith(f"{name} = ")
        assert message.endswith(f" is not possible: it must be {kind}.")
    assert f"{name} = None " in refusal({name: None})


@pytest.mark.parametrize(
    ("name", "given_", "value"),
    [
        ("world.words", "12", 12),
        ("world.overlap", "0.25", 0.25),
        ("world.overlap", 1, 1.0),
        ("world.overlap", "1", 1.0),
        ("world.overlap", ".5", 0.5),
        ("pretrain.learning_rate", "1e-3", 0.001),
        ("model.norm_topk_prob", "true", True),
        ("model.norm_topk_prob", "True", True),
        ("model.norm_topk_prob", "false", False),
        ("world.hazard_rule", "topic", "topic"),
        ("seed", "7", 7),
    ],
)
def test_strings_are_cast(name, given_, value):
    result = get(build(overrides={name: given_}), name)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize("seed", [True, -1, 2**31, 1.0, None])
def test_impossible_seed_is_refused(seed):
    assert refusal({}, seed=seed).startswith(f"seed = {seed!r} is not possible: it must be a whole")


# --- names, presets -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typo", "near"),
    [
        ("world.topic", "world.topics"),
        ("modle.layers", "model.layers"),
        ("pretrain.lerning_rate", "pretrain.learning_rate"),
        ("topk", "model.top_k"),
        ("sede", "seed"),
        ("World.topics", "world.topics"),
    ],
)
def test_unknown_name_gets_the_nearest(typo, near):
    with pytest.raises(ConfigError, match=rf"{typo!r} is not known: did you mean '{near}'\?"):
        build(overrides={typo: 1})


@pytest.mark.parametrize("given", ["[" * 200_000, "[" * 400 + "]" * 400, "9" * 5000])
def test_what_python_cannot_read_is_refused_in_a_short_sentence(given):
    assert len(refusal({"world.topics": given})) < 200


@pytest.mark.parametrize("name", ["", "§", "world", "world.topics.x"])
def test_far_names_still_get_a_valid_one(name):
    with pytest.raises(ConfigError) as caught:
        build(overrides={name: 1})
    assert re.search(r"did you mean '(.*)'\?", str(caught.value))[1] in defaults()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_change_what_they_name_and_nothing_else(preset):
    config = build(preset, seed=3)
    for name in defaults():
        expected = PRESETS[preset].get(name, get(Config(seed=3), name))
        assert get(config, name) == expected


def test_overrides_win_over_the_preset():
    assert build("smoke").train.batch != 5
    assert build("smoke", overrides={"train.batch": 5}).train.batch == 5


def test_unknown_preset_lists_them():
    assert refusal({}, preset="smok") == (
        "preset 'smok' is not known: it must be one of default, smoke."
    )


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().world.topics = 3


# --- files --------------------------------------------------------------------------------------


@few
@given(
    st.sampled_from(sorted(PRESETS)),
    st.integers(0, 2**31 - 1),
    st.floats(0, 1),
    st.floats(1e-9, 1e9),
    st.booleans(),
)
def test_round_trip_through_json(preset, seed, overlap, rate, norm):
    changed = {
        "world.overlap": overlap,
        "pretrain.learning_rate": rate,
        "model.norm_topk_prob": norm,
    }
    config = build(preset, seed, changed)
    back = from_dict(json.loads(json.dumps(to_dict(config), allow_nan=False)))
    assert back == config and hash(back) == hash(config)
    assert back != dataclasses.replace(config, seed=(seed + 1) % 2**31)


def test_files_are_checked_like_overrides():
    nested = to_dict(Config())
    nested["world"]["topics"] = 1
    with pytest.raises(ConfigError, match=r"world\.topics = 1 is not possible"):
        from_dict(nested)
    with pytest.raises(ConfigError, match=r"'world.topcs' is not known: did you mean 'world.topi"):
        from_dict({"world": {"topcs": 1}})
    for not_a_dict in (None, [], "world"):
        with pytest.raises(ConfigError, match="must be a JSON object"):
            from_dict(not_a_dict)


def test_configuration_needs_no_numerics():
    code = "import sys; {}; print(sorted({{'jax', 'numpy'}} & set(sys.modules)))"
    root = Path(toymoe.config.__file__).parents[1]

    def loaded(statement):
        command = [sys.executable, "-c", code.format(statement)]
        return subprocess.check_output(command, text=True, cwd=root).strip()

    assert loaded("import toymoe.config") == "[]"
    assert loaded("import numpy") == "['numpy']"
