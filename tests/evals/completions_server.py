"""A small server of OpenAI's completions protocol on loopback, with a real model behind it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = "tiny"


@dataclass
class Served:
    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    key: str | None = None  # what it asks for
    broken: bool = False  # answers 500 to every completion


@contextlib.contextmanager
def serving(model: Any, tokenizer: Any) -> Iterator[Served]:
    """Serve the model until the block ends."""
    import torch

    lock = threading.Lock()

    def complete(prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        ids = torch.tensor([prompt])
        with torch.inference_mode(), lock:
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=body["max_tokens"],
                do_sample=body.get("temperature", 1) > 0,
                top_k=0,
                pad_token_id=0,
            )
            logits = model(made).logits.float().log_softmax(-1)[0]
        tokens = made[0].tolist()
        scores = [None, *(float(logits[place, token]) for place, token in enumerate(tokens[1:]))]
        best = [None, *({"best": float(logits[place].max())} for place in range(len(tokens) - 1))]
        text = tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=True)
        for stop in body.get("stop") or []:
            text = text.split(stop)[0] if stop else text
        whole = {"token_logprobs": scores, "top_logprobs": best}
        return {"text": text, "logprobs": whole if body.get("echo") else None}

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, code: int, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _refused(self) -> bool:
            given = self.headers.get("Authorization", "")
            if served.key is not None and given != f"Bearer {served.key}":
                self._answer(401, {"error": f"wrong key: {given}"})
                return True
            return False

        def do_GET(self) -> None:
            if not self._refused():
                self._answer(200, {"object": "list", "data": [{"id": NAME, "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.asked.append({"path": self.path, **body})
            if self._refused():
                return
            if served.broken:
                self._answer(500, {"error": f"broken for {self.headers.get('Authorization')}"})
                return
            if self.path.endswith("/chat/completions"):
                text = tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
                done = complete(tokenizer.encode(text, add_special_tokens=False), body)
                message = {"role": "assistant", "content": done["text"]}
                self._answer(200, {"choices": [{"index": 0, "message": message}]})
                return
            prompts = body["prompt"]
            prompts = prompts if isinstance(prompts, list) and not isinstance(prompts[0], int) else [prompts]
            ids = [tokenizer.encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
            self._answer(200, {"choices": [{"index": n, **complete(prompt, body)} for n, prompt in enumerate(ids)]})

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
