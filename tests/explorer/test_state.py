"""States read strictly, and what they show, against whole runs of models that were cut by hand."""

import dataclasses

import jax
import numpy as np
import pytest
from surgery import forward, said, with_expert

from toymoe import explorer, organism, world
from toymoe.attacks import steering
from toymoe.config import ConfigError
from toymoe.explorer import readings, shared
from toymoe.explorer.state import State, shared_words
from toymoe.model import taps
from toymoe.organism import Organism, seeded


@pytest.fixture(scope="module")
def made(taught):
    """An organism that refuses."""
    return Organism(
        taught.cfg, jax.tree.map(np.asarray, taught.tables), taught.pretrained, taught.aligned
    )


def prompt_of(made, row=3):
    _, measured = explorer.pairs(made)
    known = world.vocabulary(made.cfg.world)
    return tuple(known[token] for token in measured.hazards.tokens_BP[row])


# --- reading ------------------------------------------------------------------------------------


def test_a_fragment_an_address_and_nothing(made):
    words = prompt_of(made)
    said = f"model=pretrained&prompt={'.'.join(words)}&silenced=1.2,0.3,1.2&frozen=1&pair=5"
    wanted = State(model="pretrained", prompt=words, silenced=((0, 3), (1, 2)), frozen=True, pair=5)
    for text in (said, f"#{said}", f"file:///a/b.html#{said}", f" https://x.org/e#{said}&\n"):
        assert explorer.read(text, made) == wanted
    assert explorer.read(f"#{said}".replace(",", "%2C"), made) == wanted  # as mail writes it
    for text in ("", "#", "file:///a/b.html", "explorer.html"):
        assert explorer.read(text, made) == State()


def test_every_key_of_a_state_can_be_read(made):
    organism_ = made._replace(history={"step": np.arange(7)})
    word = shared_words(made)[0]
    text = (
        f"panel=patch&model=untrained&silenced=&set_back=0.0&masked=1.1&tuned=4&direction=1"
        f"&frozen=0&pair=63&tap=head_out&way=restored&layer=0&position=2&step=6&word={word}"
    )
    found = explorer.read(text, organism_)
    assert found._replace(prompt=()) == State(
        *("patch", "untrained", (), (), ((0, 0),), ((1, 1),), 4, 1, False, 63),
        *("head_out", "restored", 0, 2, 6, word),
    )


BAD = {
    "silence=1.2": "'silence' is no part of a state: did you mean 'silenced'",
    "what": "'what' is no part of a state",
    "__class__=1": "'__class__' is no part",
    "model=alignd": "model=alignd is not possible: it must be untrained, pretrained, aligned",
    "model=pretrain-150": "a snapshot such as",  # its name is pretrained
    "silenced=2.0": "silenced=2.0 is not possible: it must be experts as layer.expert, from 0.0 to",
    "set_back=0.5": "set_back=0.5",
    "masked=1": "masked=1 ",
    "masked=1.-1": "masked=1.-1",
    "silenced=1.2;0.1": "layer.expert",
    f"silenced={'9' * 5000}.1": "silenced=9999",
    "prompt=BOS.nobody.ANS": "'nobody' is not in the vocabulary",
    "prompt=": "'' is not in the vocabulary",
    "prompt=BOS.ANS": "the prompt of 2 words, BOS.ANS, has an impossible form",
    "prompt=BOS.ASK.lift.key.ANS": "impossible form",  # no word of any topic
    "prompt=BOS.alps1.ASK.key.lift.ANS": "impossible form",
    "prompt=alps1.alps1.ASK.lift.key.ANS": "impossible form",
    "prompt=BOS.alps1.ASK.lift.key.ANS.ANS": "impossible form",
    "prompt=BOS.REFUSE.ASK.lift.key.ANS": "impossible form",
    f"prompt=BOS{'.alps1' * 60}.ASK.lift.key.ANS": "of 65 words",
    "tuned=3": "tuned=3 is not possible: it must be 1 or 4 experts",
    "direction=2": "from 0 to 1",
    "direction=-1": "direction=-1",
    "direction=1e0": "direction=1e0",
    "direction=٣": "direction=٣",
    "frozen=yes": "0 or 1",
    "frozen": "frozen= is not possible",
    "pair=64": "from 0 to 63",
    "tap=resid": "did you mean 'resid_pre'",
    "way=remove": "did you mean 'removed'",
    "position=9": "from 0 to 8",
    "step=0": "left out here",  # it has no history
    "panel=__import__('os')": "one of ask, routing",
    "pair=1&pair=1": "says pair twice",
    "masked=1.0,1.1,1.2,1.3": "4 of 5 experts masked in layer 1",
    "x" * 20_000: "at most 10000 characters",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_bad_state_is_one_sentence(made, text):
    with pytest.raises(ConfigError) as caught:
        explorer.read(text, made)
    said = str(caught.value)
    assert BAD[text] in said and "\n" not in said and len(said) < 400


@pytest.mark.parametrize("given", [None, 3, b"pair=1", ["pair=1"]])
def test_what_is_no_text_is_no_state(made, given):
    with pytest.raises(ConfigError, match="a state is text"):
        explorer.read(given, made)


def test_any_text_is_a_state_or_one_sentence(made):
    rng = np.random.default_rng(0)
    letters = [*"=&.,#%019-", *State._fields, "%00", "BOS", "ANS", "\n", "é", "1.1"]
    read = 0
    for _ in range(2000):
        text = "".join(rng.choice(letters, rng.integers(1, 9)))
        try:
            explorer.read(text, made)
            read += 1
        except ConfigError as error:
            assert "\n" not in str(error) or "\n" in text
    assert 0 < read < 2000


# --- what it shows ------------------------------------------------------------------------------


def meters_of(made, params, edits=lambda tokens_BT: None):
    """The three meters by hand."""
    _, measured = explorer.pairs(made)
    hazards, twins = (
        said(params, made.cfg.model, p, edits(p.tokens_BP))[1]
        for p in (measured.hazards, measured.twins)
    )
    return {
        "refused": pytest.approx((hazards == world.REFUSE).mean()),
        "twins": pytest.approx((twins == measured.twins.answer_B).mean()),
        "answered": pytest.approx((hazards == measured.hazards.answer_B).mean()),
    }


def test_the_unchanged_models(made):
    assert explorer.meters(made, State()) == meters_of(made, made.aligned)
    assert explorer.meters(made, State(model="pretrained")) == meters_of(made, made.pretrained)
    untrained = meters_of(made, seeded.params(made.cfg))
    assert explorer.meters(made, State(model="untrained")) == untrained
    refused = [explorer.meters(made, State(model=x))["refused"] for x in ("pretrained", "aligned")]
    assert refused[1] > refused[0] + 0.5  # so there is something to see


def test_experts_silenced_and_set_back_are_models_cut_by_hand(made):
    chosen = ((0, 1), (1, 3), (1, 0))
    before = made.pretrained["layers"]["experts"]
    for name, theirs in (("silenced", None), ("set_back", before)):
        params = made.aligned
        for at in chosen:
            params = with_expert(params, *at, theirs)
        state = State(**{name: chosen})
        wanted = meters_of(made, params)
        assert explorer.meters(made, state) == wanted
        found = readings.logits(made, state, explorer.pairs(made)[1].hazards.tokens_BP)
        cut = forward(params, explorer.pairs(made)[1].hazards.tokens_BP, made.cfg.model)
        np.testing.assert_allclose(found, cut.logits_BTV[:, -1], atol=2e-4)
        whole = readings.logits(made, State(), explorer.pairs(made)[1].hazards.tokens_BP)
        assert np.abs(found - whole).max() > 0.1


def test_masked_experts_are_selected_by_nobody_and_a_frozen_route_stays(made):
    cfg, masked = made.cfg.model, ((0, 1), (1, 3))
    tokens_BP = explorer.pairs(made)[1].hazards.tokens_BP
    state = State(masked=masked)
    params, edits_of = explorer.model_of(made, state)
    experts = np.asarray(forward(params, tokens_BP, cfg, edits_of(tokens_BP)).routes.experts_LBTA)
    usual = np.asarray(forward(made.aligned, tokens_BP, cfg).routes.experts_LBTA)
    for layer, expert in masked:
        assert not (experts[layer] == expert).any() and (usual[layer] == expert).any()
    frozen = State(masked=masked, silenced=((1, 2),), frozen=True)
    params, edits_of = explorer.model_of(made, frozen)
    experts = forward(params, tokens_BP, cfg, edits_of(tokens_BP)).routes.experts_LBTA
    assert np.array_equal(np.sort(experts), np.sort(usual))
    cut = with_expert(made.aligned, 1, 2, None)

    def by_hand(tokens_BT):
        return taps.Edits(route=taps.freeze(forward(made.aligned, tokens_BT, cfg).routes))

    assert explorer.meters(made, frozen) == meters_of(made, cut, by_hand)


def test_a_direction_projected_out_is_that_of_the_ranked_pairs(made):
    ranked, _ = explorer.pairs(made)
    params = steering.project_out(made.aligned, steering.refusal_direction(ranked, 1))
    assert explorer.meters(made, State(direction=1)) == meters_of(made, params)
    assert explorer.meters(made, State(direction=1)) != explorer.meters(made, State())


def test_changes_come_in_their_order(made, monkeypatch):
    """Tuned, then set back, then the direction: set-back experts are not tuned any more, and are
    projected, too."""
    twice = jax.tree.map(np.copy, made.aligned)
    twice["layers"]["experts"]["down"][1, 1:3] *= 2
    monkeypatch.setattr(shared, "tuned", lambda organism_, n: twice)
    state = State(tuned=4, set_back=((1, 1),), direction=0)
    params, _ = explorer.model_of(made, state)
    down = made.aligned["layers"]["experts"]["down"].copy()
    down[1, 2] *= 2
    down[1, 1] = made.pretrained["layers"]["experts"]["down"][1, 1]
    r = shared.directions(explorer.pairs(made)[0])[0]
    wanted = down - (down @ r)[..., None] * r
    np.testing.assert_allclose(params["layers"]["experts"]["down"], wanted, atol=1e-5)
    params, _ = explorer.model_of(made, State(model="pretrained", tuned=4))
    moved = params["layers"]["experts"]["down"] - made.pretrained["layers"]["experts"]["down"]
    change = twice["layers"]["experts"]["down"] - made.aligned["layers"]["experts"]["down"]
    np.testing.assert_allclose(moved, change, atol=1e-5)


def test_what_a_prompt_is_answered_before_and_after(made):
    _, measured = explorer.pairs(made)
    known = world.vocabulary(made.cfg.world)
    for prompts, row in ((measured.hazards, 3), (measured.twins, 3)):
        words = tuple(known[token] for token in prompts.tokens_BP[row])
        state = State(prompt=words, silenced=((1, 1),))
        found = explorer.asked(made, state)
        assert explorer.tokens_of(made, state).tolist() == [prompts.tokens_BP[row].tolist()]
        assert found.right == known[prompts.answer_B[row]]
        models = made.pretrained, made.aligned, with_expert(made.aligned, 1, 1, None)
        for answer, params in zip(found[1:], models, strict=True):
            margin_B, says_B = said(params, made.cfg.model, prompts)
            assert answer.word == known[says_B[row]]
            assert answer.margin == pytest.approx(margin_B[row], abs=1e-3)
    first = explorer.tokens_of(made, State())
    assert np.array_equal(first, measured.hazards.tokens_BP[:1])


def test_a_note_asks_for_nothing(made):
    words = list(prompt_of(made))
    words[-4] = "NOTE"
    found = explorer.asked(made, explorer.read(f"prompt={'.'.join(words)}", made))
    assert found.right is None and found.aligned.margin is None and found.aligned.word


def test_topics_are_told_by_their_words_and_chains():
    shipped = organism.load()
    prompts = shipped.sample(300, "any", 5)
    C = shipped.cfg.world.context
    found = [readings.topic_of(shipped, row[1 : 1 + C]) for row in prompts.tokens_BP]
    assert np.mean(found == prompts.topic_B) > 0.99
    right = [readings.right_answer(shipped, row) for row in prompts.tokens_BP]
    assert np.mean(right == prompts.answer_B) > 0.99


def test_a_snapshot_needs_its_folder_and_is_the_model_of_its_step(small, small_run):
    made = organism.load(small_run.out)
    state = explorer.read("model=align-3", made)
    with pytest.raises(ConfigError, match="align-3 is in the folder of its run"):
        explorer.model_of(made, state)
    params, _ = explorer.model_of(made, state, str(small_run.out))
    kept = organism.stored.snapshot(small_run.out, small, "align", 3)
    assert np.array_equal(params["unembed"], kept["unembed"])
    experts = [x["layers"]["experts"]["down"] for x in (params, kept, made.aligned)]
    assert np.array_equal(*experts[:2]) and not np.array_equal(*experts[1:])


def test_pairs_are_drawn_once_of_one_organism_and_alike_of_another(made):
    assert explorer.pairs(made)[0] is explorer.pairs(made)[0]
    other = made._replace(history={})
    one, two = (explorer.pairs(x)[1].hazards.tokens_BP for x in (made, other))
    assert one is not two and np.array_equal(one, two)


@pytest.mark.parametrize("way", ["silenced", "masked", "set_back"])
def test_an_expert_that_does_not_exist_is_one_sentence(made, way):
    for wrong in ((0, made.cfg.model.experts), (-1, 0)):
        with pytest.raises(ConfigError, match=r"expert .* of layer .* does not exist: there are"):
            explorer.meters(made, State(**{way: ((0, 1), wrong)}))


def test_a_model_that_tells_nothing_apart_has_no_direction(made):
    deaf = jax.tree.map(np.zeros_like, made.aligned)
    ranked, _ = explorer.pairs(made)
    with pytest.raises(ConfigError, match="no such direction"):
        shared.directions(dataclasses.replace(ranked, params=deaf))
