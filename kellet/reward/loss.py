"""Losses of the reward model: pure functions of rewards.

Legend: P pairs; ``gap`` (P,) is the logit with which the chosen answer is preferred: the difference of the rewards plus
the length term that is dropped when scoring. All losses are means over pairs unless the docstring differs.
"""

from torch import Tensor, nn


def preference_loss(
    gap: Tensor, margin: Tensor | None = None, smoothing: float = 0.0, weight: Tensor | None = None
) -> Tensor:
    """Bradley-Terry with margin m (P,) and labels of which a share ε is wrong; nats, a scalar.

        loss = -(1 - ε) log σ(gap - m) - ε log σ(-(gap - m))

    ``weight`` (P,) multiplies each pair's loss before the mean; weights of mean 1 over all pairs keep its scale.
    Margin: Touvron et al. 2023 (Llama 2), eq. 2. ε: label smoothing, as in conservative DPO (Mitchell 2023).
    """
    logits = gap if margin is None else gap - margin
    loss = -nn.functional.logsigmoid(logits)
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * nn.functional.logsigmoid(-logits)
    return loss.mean() if weight is None else (loss * weight).mean()


def centring_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Mean of (r⁺ + r⁻)² over pairs (P,): rewards of all prompts are about the same zero (Eisenstein et al. 2023)."""
    return (chosen + rejected).square().mean()


def length_loss(quality: Tensor, length_reward: Tensor, length: Tensor) -> Tensor:
    """|ρ(r_Q, length)| - ρ(r_L, length) over the answers of a batch (N,): ODIN, Chen et al. 2024, section 3.2.

    ρ is Pearson's correlation. The length head is drawn to length, the quality head away from it.
    """
    return correlation(quality, length).abs() - correlation(length_reward, length)


def orthogonality_loss(quality_weight: Tensor, length_weight: Tensor) -> Tensor:
    """|cos| of the two heads' weights: ODIN's |W_Q W_Lᵀ| of normalised weights; the two read different directions."""
    return nn.functional.cosine_similarity(quality_weight.flatten(), length_weight.flatten(), dim=0).abs()


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation of (N,) and (N,), a scalar; 0 where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    # clamped above zero before the root, whose slope at zero is infinite
    return (x * y).sum() / (x.square().sum() * y.square().sum()).clamp(min=1e-12).sqrt()
