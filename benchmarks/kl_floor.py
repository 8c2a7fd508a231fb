"""The KL that bfloat16 shows where there is none, with and without logits in float32, beside the same in float32.

    python benchmarks/kl_floor.py models/smollm2-135m-instruct --temperature 0.5

The table of docs/measured/precision.md: a row for each number format and size of the random adapter
(kellet/policy/floor.py), on the same responses of the float32 reference.
"""

import argparse

import torch

from kellet.config.run import Config
from kellet.config.training import BaseLM
from kellet.models import kl
from kellet.models.next_token import policy_vs_reference
from kellet.models.sampling import draw_uniforms, sample
from kellet.models.tokens import TokenBatch, encode_prompts
from kellet.models.trunk import add_adapter, all_response_states, load_base, use_adapter
from kellet.policy import floor

PROMPTS = (
    "My card has not arrived yet, what can I do?",
    "How do I top up my account by bank transfer?",
    "Why was my payment declined yesterday in the shop?",
    "I want to change my PIN.",
)
ROWS = (("float32", True), ("bfloat16", False), ("bfloat16", True))


@torch.no_grad()
def measure(base: str, config: Config, settings: BaseLM, size: float, batch: TokenBatch | None) -> TokenBatch:
    """Print a row of the table; return the responses, which are sampled where ``batch`` is None."""
    model, tokenizer = load_base(base, settings, temperature=config.text.temperature)
    model = add_adapter(model, config.policy.lora, 0).eval()
    if batch is None:
        queries = encode_prompts(tokenizer, PROMPTS, config.text) * 4
        limit = config.text.max_response_tokens
        uniforms = draw_uniforms(len(queries), limit, torch.Generator().manual_seed(0))
        batch = sample(model, tokenizer, queries, limit, uniforms)
    with use_adapter(model, None):
        reference = all_response_states(model, batch)
    floor.SMALL = size
    with floor._hardly_an_adapter(model, torch.Generator().manual_seed(1)):
        states = all_response_states(model, batch)
    nats = policy_vs_reference(model, states, reference, batch).kl_full
    response = float(kl.per_response(nats, batch.response_mask).mean())
    token = float(nats.sum() / batch.response_mask.sum())
    logits = "float32" if settings.full_precision_output else "bfloat16"
    print(f"| {settings.dtype} | {logits} | {size:g} | {response:.5f} | {token:.6f} |", flush=True)
    return batch


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--tokens", type=int, default=48)
    given = parser.parse_args()
    text = {
        "max_prompt_tokens": 96,
        "max_response_tokens": given.tokens,
        "temperature": given.temperature,
        "chat": True,
    }
    config = Config.model_validate({"name": "floor", "text": text})
    print("| base | logits | adapter's size | nats a response | nats a token |\n|---|---|---|---|---|")
    batch: TokenBatch | None = None
    for dtype, full in ROWS:
        for size in (1e-5, 1e-4, 1e-3):
            settings = BaseLM.model_validate({"dtype": dtype, "full_precision_output": full})
            batch = measure(given.base, config, settings, size, batch)


if __name__ == "__main__":
    main()
