"""Sampling: by its seed alone, whole up to the end of sequence, and with the probabilities of the model itself."""

import math

import pytest
import torch

from kellet.config.training import Lora
from kellet.errors import KelletError
from kellet.models.base_model import SPECIAL
from kellet.models.sampling import _draw, draw_uniforms, generate_text, load_policy, sample, sample_states, truncated
from kellet.models.tokens import TokenBatch, encode_prompt, pad
from kellet.models.trunk import add_adapter, response_states, save_adapter
from tests.helpers import tiny
from tests.helpers.tensors import relative_error, response_outputs
from tests.helpers.tiny import perturb

PROMPTS = list(tiny.pairs()["prompt"][:24])
TEXT = tiny.config().text


@pytest.fixture(scope="module")
def trunk():
    model, tokenizer = tiny.base()
    return perturb(add_adapter(model, Lora(rank=2), seed=0).eval()), tokenizer


@pytest.fixture(scope="module")
def queries(trunk):
    # of unequal length: every third prompt is a short one
    return [encode_prompt(trunk[1], prompt[-7:] if n % 3 else prompt, TEXT) for n, prompt in enumerate(PROMPTS)]


def draw(trunk, queries, seed, limit=10):
    uniforms = None if seed is None else draw_uniforms(len(queries), limit, torch.Generator().manual_seed(seed))
    return sample(*trunk, queries, limit, uniforms)


def same(left, right):
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(left, right, strict=True))


@torch.no_grad()
def logprobs(model, batch):
    logits, _ = response_outputs(model, batch)
    return logits.log_softmax(-1).gather(-1, batch.responses[..., None]).squeeze(-1)


def test_the_same_seed_gives_the_same_responses_and_another_seed_others(trunk, queries):
    assert same(draw(trunk, queries, 1), draw(trunk, queries, 1))
    assert not same(draw(trunk, queries, 1), draw(trunk, queries, 2))


def test_greedy_needs_no_seed_and_takes_the_likeliest_token(trunk, queries):
    batch = draw(trunk, queries, None)
    torch.rand(3)  # what the global generator does is no matter
    assert same(batch, draw(trunk, queries, None))
    with torch.no_grad():
        logits, _ = response_outputs(trunk[0], batch)
    gap = logits.max(-1).values - logits.gather(-1, batch.responses[..., None]).squeeze(-1)
    assert float(gap[batch.response_mask].max()) < 1e-4


def test_a_response_counts_up_to_its_first_end_of_sequence(trunk, queries):
    tokenizer = trunk[1]
    batch = draw(trunk, queries, 3)
    lengths = batch.response_mask.sum(1)
    assert lengths.min() < lengths.max()  # both kinds are there
    for ids, mask, cut in zip(
        batch.responses, batch.response_mask, truncated(batch, (tokenizer.eos_token_id,)), strict=True
    ):
        kept = ids[mask].tolist()
        assert mask.tolist() == [True] * len(kept) + [False] * (len(mask) - len(kept))
        assert (tokenizer.eos_token_id in kept) == (not cut)
        assert tokenizer.eos_token_id not in kept[:-1]
        assert (ids[~mask] == tokenizer.pad_token_id).all()
        assert not cut or len(kept) == 10


def test_a_sampled_batch_is_what_pad_would_have_made(trunk, queries):
    batch = draw(trunk, queries, 3)
    kept = [ids[mask].tolist() for ids, mask in zip(batch.responses, batch.response_mask, strict=True)]
    assert same(batch, pad(queries, kept, trunk[1].pad_token_id))


def test_sampling_leaves_the_states_of_a_pass_over_whole_responses(trunk, queries):
    batch, states = sample_states(
        *trunk, queries, 10, draw_uniforms(len(queries), 10, torch.Generator().manual_seed(4))
    )
    with torch.no_grad():
        expected = response_states(trunk[0], batch)
    assert relative_error(states[batch.response_mask], expected[batch.response_mask]) < 2e-5
    assert (states[~batch.response_mask] == 0).all()


def test_a_row_that_has_ended_is_computed_no_further(trunk, queries):
    rows = []

    def note(_, __, inputs):
        if inputs["input_ids"] is not None:  # else it stands in for its output
            rows.append(len(inputs["input_ids"]))

    handle = trunk[0].get_base_model().get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    batch = draw(trunk, queries, 3)
    handle.remove()
    assert rows == batch.response_mask.sum(0).tolist()
    assert rows[-1] < rows[0] == len(queries)


def test_truncated_by_hand():
    responses = [[70, 2], [70, 71], [2]]
    assert truncated(pad([[1]] * 3, responses, 0), (2,)).tolist() == [False, True, False]
    # end of sequence in the query, or as padding, ends nothing
    assert truncated(pad([[1, 2], [1]], [[70], [70, 71]], 2), (2,)).tolist() == [True, True]


def test_the_first_ratio_of_ppo_is_one(trunk, queries):
    batch = draw(trunk, queries, 4)
    sampled = logprobs(trunk[0], batch)
    generator = torch.Generator().manual_seed(0)
    for index in torch.randperm(len(queries), generator=generator).split(7):
        part = batch.rows(index)
        again = logprobs(trunk[0], part)
        ratio = (again - sampled[index, : again.shape[1]]).exp()[part.response_mask]
        assert float((ratio - 1).abs().max()) < 1e-4


def test_a_rows_answer_does_not_depend_on_the_other_rows(trunk, queries):
    limit = 10
    uniforms = draw_uniforms(len(queries), limit, torch.Generator().manual_seed(7))
    together = sample(*trunk, queries, limit, uniforms)
    for part in torch.arange(len(queries)).split(5):
        alone = sample(*trunk, [queries[i] for i in part], limit, uniforms[part])
        texts = [
            [ids[mask].tolist() for ids, mask in zip(batch.responses, batch.response_mask, strict=True)]
            for batch in (alone, together.rows(part))
        ]
        assert texts[0] == texts[1]


def test_the_chances_ends_draw_the_first_and_the_last_token_that_has_a_probability():
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 0.0, -math.inf]]).expand(3, -1)
    # e/(e + 1) = 0.731 of the way belongs to token 1
    assert _draw(logits, torch.tensor([0.0, 0.7310, 0.7311], dtype=torch.float64)).tolist() == [1, 1, 3]
    assert _draw(logits, torch.full((3,), 1 - 2.0**-53, dtype=torch.float64)).tolist() == [3, 3, 3]


def test_sampling_has_the_models_own_probabilities(trunk):
    query = encode_prompt(trunk[1], PROMPTS[0], TEXT)
    n = 4000
    drawn = draw(trunk, [query] * n, 5, limit=1).responses[:, 0]
    with torch.no_grad():
        share = trunk[0](input_ids=torch.tensor([query])).logits[0, -1].softmax(-1)
    likeliest = share.topk(3).indices.tolist()
    for token in likeliest:
        p = float(share[token])
        assert abs(float((drawn == token).float().mean()) - p) < 4 * math.sqrt(p * (1 - p) / n)
    rest = 1 - float(share[likeliest].sum())  # no top-k: what is unlikely comes as often as it should
    result = float((~torch.isin(drawn, torch.tensor(likeliest))).float().mean())
    assert abs(result - rest) < 4 * math.sqrt(rest * (1 - rest) / n)


def test_a_greedy_answer_does_not_depend_on_the_other_rows(trunk):
    together = generate_text(*trunk, PROMPTS, TEXT, seed=None)
    assert generate_text(*trunk, PROMPTS, TEXT, seed=None, batch_size=5) == together
    assert generate_text(*trunk, PROMPTS[3:4], TEXT, seed=None) == together[3:4]


def test_generated_text_follows_its_seed(trunk):
    one, two, other = (generate_text(*trunk, PROMPTS, TEXT, seed=seed) for seed in (1, 1, 2))
    assert one == two != other
    assert len(one) == len(PROMPTS)
    assert not any(special in text for text in one for special in SPECIAL.values())


def test_a_saved_policy_answers_as_before(trunk, tmp_path):
    save_adapter(trunk[0], tmp_path / "adapter")
    loaded = load_policy(tiny.folder() / "base", tmp_path / "adapter")
    assert generate_text(*loaded, PROMPTS, TEXT, seed=1) == generate_text(*trunk, PROMPTS, TEXT, seed=1)
    assert isinstance(draw(loaded, [[1, 40]], 0), TokenBatch)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_named(value):
    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, value, 1.0]])
    with pytest.raises(KelletError, match="logits are not finite"):
        _draw(logits, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert int(_draw(torch.tensor([[0.0, float("-inf")]]), torch.tensor([0.999], dtype=torch.float64))) == 0
