"""The preallocated cache against that of transformers, which concatenates."""

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from kellet.models.key_cache import PreallocatedLayer, preallocate
from kellet.models.sampling import draw_uniforms, sample_states
from kellet.models.tokens import encode_prompt
from tests.helpers import tiny
from tests.helpers.tensors import relative_error


def states(tokens, rows=3):
    return torch.randn(2, rows, 2, tokens, 4, generator=torch.Generator().manual_seed(tokens))


def both(tokens):
    """Transformers' cache and a preallocated one after the same five tokens."""
    caches = DynamicCache(), DynamicCache()
    for cache in caches:
        cache.update(*states(5), 0)
    return caches[0], preallocate(caches[1], tokens)


@pytest.mark.parametrize("tokens", [3, 6, 20])  # less than there are, soon full, enough
def test_keys_and_values_are_those_of_transformers(tokens):
    plain, preallocated = both(tokens)
    assert type(preallocated.layers[0]) is PreallocatedLayer
    for added in (1, 1, 4):
        expected, result = (cache.update(*states(added), 0) for cache in (plain, preallocated))
        assert all(torch.equal(left, right) for left, right in zip(result, expected, strict=True))
        assert preallocated.get_seq_length() == plain.get_seq_length()
        assert preallocated.get_mask_sizes(2, 0) == plain.get_mask_sizes(2, 0)
    for cache in (plain, preallocated):
        cache.reorder_cache(torch.tensor([2, 0]))
    expected, result = (cache.update(*states(1, rows=2), 0) for cache in (plain, preallocated))
    assert all(torch.equal(left, right) for left, right in zip(result, expected, strict=True))


def test_a_token_is_written_into_its_place_and_nothing_is_copied():
    _, preallocated = both(20)
    place = preallocated.layers[0].keys.data_ptr()
    for _ in range(3):
        preallocated.update(*states(1), 0)
    assert preallocated.layers[0].keys.data_ptr() == place


def test_what_is_sampled_is_what_transformers_cache_gives(monkeypatch):
    model, tokenizer = tiny.base()
    prompts = tiny.pairs()["prompt"][:12]
    queries = [encode_prompt(tokenizer, prompt, tiny.config().text) for prompt in prompts]
    uniforms = draw_uniforms(12, 10, torch.Generator().manual_seed(0))
    batch, result = sample_states(model, tokenizer, queries, 10, uniforms)
    monkeypatch.setattr("kellet.models.key_cache.preallocate", lambda cache, _: cache)
    plain, expected = sample_states(model, tokenizer, queries, 10, uniforms)
    assert torch.equal(batch.input_ids, plain.input_ids)
    assert relative_error(result, expected) < 1e-5
    assert not batch.response_mask.all()


def test_layers_of_another_kind_stay_what_they_are():
    class Window(DynamicLayer):
        pass

    cache = DynamicCache()
    cache.update(*states(5), 0)
    cache.layers[0].__class__ = Window
    assert type(preallocate(cache, 9).layers[0]) is Window
    assert preallocate(None, 9) is None
