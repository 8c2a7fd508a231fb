"""Sampling by a vLLM server, for models whose sampling dominates (``policy.sampler: vllm``).

The server holds the same base model and is told before each iteration to load the policy's adapter from a folder that
both machines see. It is another engine: its arithmetic is not the trainer's. PPO's old log-probabilities are therefore
the trainer's own, of a pass over the sampled tokens; those that the server reports are compared with them, because a
server with another base, an old adapter or another temperature samples from a distribution that nobody has asked for.

Legend: B responses, R response tokens. Protocol: vLLM's OpenAI-compatible completions with ``return_token_ids`` and its
``/v1/load_lora_adapter`` (VLLM_ALLOW_RUNTIME_LORA_UPDATING=True).
"""

import json
import math
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kellet.config.training import VLLM
from kellet.errors import InputError, KelletError
from kellet.files import content_hash
from kellet.models.devices import Devices
from kellet.models.tokens import end_tokens, pad
from kellet.models.trunk import adapter_tensors, save_adapter
from kellet.policy.rollout import Sampled

KEY = "VLLM_API_KEY"
"""The environment variable that holds the server's key, where it wants one."""
TRIES = 5
"""A request is made so often, with pauses of 1, 2, 4 and 8 s, where the server does not answer or is overloaded."""


class VLLMSampler:
    """Samples B responses with the adapter that the policy has now."""

    def __init__(self, settings: VLLM, temperature: float, folder: Path, devices: Devices) -> None:
        """``folder``: where adapters are written; at the same path on the server's machine."""
        self.settings, self.temperature, self.devices = settings, temperature, devices
        self.folder, self.loaded = folder, ""

    def __call__(
        self, model: Any, tokenizer: Any, queries: Sequence[Sequence[int]], max_new_tokens: int, uniforms: Tensor
    ) -> Sampled:
        """Continue each query until end of sequence or ``max_new_tokens``; row b's seed is made of ``uniforms`` (B, R).

        Raises KelletError where the server does not answer, InputError where it answers what it should not.
        """
        name = self.load(model)

        def ask(row: int) -> tuple[list[int], list[float]]:
            seed = int(float(uniforms[row, 0]) * 2**53)
            return self._completion(name, list(queries[row]), max_new_tokens, seed, end_tokens(tokenizer))

        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            answers = list(pool.map(ask, range(len(queries))))
        batch = pad(queries, [ids for ids, _ in answers], tokenizer.pad_token_id)
        logprobs = torch.zeros(batch.response_mask.shape)
        logprobs[batch.response_mask] = torch.tensor([value for _, values in answers for value in values])
        return Sampled(batch, None, logprobs)

    def load(self, model: Any) -> str:
        """Make the server load the policy's adapter of now; the name that it has there. Every process calls this."""
        tensors = adapter_tensors(model)  # gathered where sharded
        self.folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="writing-", dir=self.folder))
        save_adapter(model, made, tensors=tensors)
        made.chmod(0o755)  # the server may run as somebody else
        name = f"kellet-{content_hash(made)[:24]}"
        place = self.folder / name
        try:
            made.rename(place)
        except OSError:  # another process of this training has written the same bytes
            if not place.is_dir():
                raise
            shutil.rmtree(made)
        if name != self.loaded:
            self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(place.resolve())}, "already been")
            self.devices.agree(name, "the adapter")
            self.unload()
            self.loaded = name
        return name

    def close(self) -> None:
        """Let the server forget the policy's adapter, and remove the folder of adapters where it is empty then."""
        self.unload()
        if self.devices.main and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def unload(self) -> None:
        """Let the server forget the adapter that it has loaded last, and remove it."""
        if self.loaded and self.devices.main:
            self._post("/v1/unload_lora_adapter", {"lora_name": self.loaded}, "cannot be found")
            shutil.rmtree(self.folder / self.loaded)
        self.loaded = ""

    def _completion(
        self, name: str, query: list[int], max_new_tokens: int, seed: int, ends: Sequence[int]
    ) -> tuple[list[int], list[float]]:
        """Token ids and log-probabilities of one response."""
        # every setting is given: what is not would come from the generation config of the server's base
        wanted = {
            "model": name,
            "prompt": query,
            "max_tokens": max_new_tokens,
            "temperature": self.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": seed,
            "stop_token_ids": list(ends),
            "skip_special_tokens": False,
            "logprobs": 0,
            "return_token_ids": True,
        }
        answer = self._post("/v1/completions", wanted)
        try:
            choice = json.loads(answer)["choices"][0]
            ids, values = [int(token) for token in choice["token_ids"]], choice["logprobs"]["token_logprobs"]
            logprobs = [float(value) for value in values]
            prompt, ended = choice.get("prompt_token_ids"), choice["finish_reason"] != "length"
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{self.settings.endpoint} answers a completion without token_ids and logprobs ({error!r}): it is no "
                "vLLM server of a release that knows return_token_ids (0.10 or later)"
            ) from error
        server = self.settings.endpoint
        if len(ids) != len(logprobs) or not 0 < len(ids) <= max_new_tokens or prompt not in (None, query):
            raise InputError(
                f"{server} answers {len(ids)} tokens with {len(logprobs)} log-probabilities, wanted 1 to "
                f"{max_new_tokens}; its prompt has {len(prompt or query)} tokens where {len(query)} were sent"
            )
        if set(ends) & set(ids[:-1]) or ended != (ids[-1] in ends):
            raise InputError(
                f"{server} ends a response at token {ids[-1]} where the policy ends it at "
                f"{' or '.join(map(str, ends))}: its base has another tokenizer or generation config; start it "
                "with the base of this run"
            )
        return ids, logprobs

    def _post(self, path: str, body: Mapping[str, object], accepted: str = "\0") -> str:
        """The text of the server's answer; a refusal that says ``accepted`` is one too."""
        url = self.settings.endpoint.rstrip("/") + path
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (policy.vllm.endpoint is http)
        for tried in range(1, TRIES + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.settings.timeout_s) as answer:  # noqa: S310
                    return str(answer.read().decode())
            except urllib.error.HTTPError as error:
                told = error.read(2_000).decode(errors="replace")
                if accepted in told:
                    return told
                if error.code not in (429, 500, 502, 503, 504) or tried == TRIES:
                    raise InputError(f"{url} answers {error.code}: {told[:300]}{_hint(path, error.code)}") from error
            except (OSError, HTTPException) as error:
                if tried == TRIES:
                    raise KelletError(
                        f"{url} does not answer ({error}); start the vLLM server that policy.vllm.endpoint names "
                        "(docs/use/scale.md), and start again to go on"
                    ) from error
            time.sleep(2.0 ** (tried - 1))
        raise AssertionError("not reached")


def _hint(path: str, code: int) -> str:
    if code in (401, 403):
        return f"; set {KEY} in the environment to the server's key"
    if path == "/v1/load_lora_adapter":
        return (
            "; start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora and a --max-lora-rank of at "
            "least policy.lora.rank, where it sees policy.vllm.adapters"
        )
    return ""


def require_same_distribution(sampled: Tensor, logprobs: Tensor, mask: Tensor, settings: VLLM) -> float:
    """Mean absolute difference, nats per token, of what the server (``sampled``) and the trainer give the same tokens.

    All (B, R). Raises InputError where it is beyond ``settings.max_gap``.
    """
    gap = float((sampled - logprobs)[mask].abs().mean())
    if not math.isfinite(gap) or gap > settings.max_gap:
        raise InputError(
            f"the vLLM server's log-probabilities of its own tokens are {gap:.3g} nats a token from the policy's, over "
            f"policy.vllm.max_gap ({settings.max_gap:g}): it has another base or adapter, or was started without "
            "--logprobs-mode processed_logprobs; nothing was learned from these answers"
        )
    return gap
