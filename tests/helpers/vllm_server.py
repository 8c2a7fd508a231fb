"""A server that speaks the part of vLLM's protocol that Kellet uses, sampling with Kellet's own model.

The stand-in at the seam of ``policy.sampler``: what a real server answers is recorded by
``tests/policy/test_vllm_sampler.py`` where one is at hand.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from kellet.models.next_token import policy_vs_reference
from kellet.models.sampling import draw_uniforms, sample
from kellet.models.trunk import all_response_states, load_adapter, load_base


class VLLMServer:
    """Serves ``base`` on loopback while the context is open; ``asked`` holds (path, headers, body) of every request."""

    def __init__(self, base, answer=None, temperature=1.0):
        """``answer`` (path, body, answer) -> (status, answer) changes what is answered."""
        self.base, self.temperature, self.change = base, temperature, answer or unchanged
        self.asked, self.adapters, self.lock = [], {}, threading.Lock()

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.asked.append((self.path, dict(self.headers), body))
                    status, told = outer.change(self.path, body, outer.answer(self.path, body))
                data = told.encode() if isinstance(told, str) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, path, body):
        name = body.get("lora_name", body.get("model"))
        if path == "/v1/load_lora_adapter":
            model, tokenizer = load_base(self.base, temperature=self.temperature)
            self.adapters[name] = (load_adapter(model, Path(body["lora_path"])), tokenizer)
            return f"Success: LoRA adapter '{name}' added successfully."
        if path == "/v1/unload_lora_adapter":
            del self.adapters[name]
            return f"Success: LoRA adapter '{name}' removed successfully."
        model, tokenizer = self.adapters[name]
        return {"choices": [completion(model, tokenizer, body)]}


def unchanged(_path, _body, told):
    """What the server answers by itself."""
    return 200, told


@torch.no_grad()
def completion(model, tokenizer, body):
    """One choice as vLLM writes it with ``--logprobs-mode processed_logprobs``."""
    generator = torch.Generator().manual_seed(body["seed"])
    uniforms = draw_uniforms(1, body["max_tokens"], generator)
    batch = sample(model, tokenizer, [body["prompt"]], body["max_tokens"], uniforms)
    states = all_response_states(model, batch)
    logprobs = policy_vs_reference(model, states, states, batch).logprobs
    kept = batch.response_mask[0]
    ids = batch.responses[0][kept].tolist()
    return {
        "token_ids": ids,
        "prompt_token_ids": body["prompt"],
        "logprobs": {"token_logprobs": logprobs[0][kept].tolist()},
        "finish_reason": "stop" if ids[-1] in body["stop_token_ids"] else "length",
    }
