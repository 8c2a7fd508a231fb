"""Tensors of responses, and how far two are apart."""

from kellet.models.trunk import logits_of, response_states


def response_outputs(model, batch):
    """Logits (B, R, V) that predict each response token, and the hidden states (B, R, H) they came from."""
    states = response_states(model, batch)
    return logits_of(model, states.flatten(0, 1)).unflatten(0, states.shape[:2]), states


def relative_error(result, expected):
    """The largest difference, relative to the largest expected number: rounding grows with the numbers."""
    assert result.shape == expected.shape
    return float((result - expected).detach().abs().max() / expected.detach().abs().max())
