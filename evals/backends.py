"""What answers requests: our prefix tree, or a backend of lm-eval's, taken from its registry.

    backend = Backend("hf", Weights(...), seed=0)
    backend.scorer(prepared)(requests)         # [[(-7.25, False), (-3.5, True)], ...]
    backend.writer(prepared)(requests)         # [[{"text": "...", "tokens": 17, "stopped": "end"}], ...]

`slipway` computes each distinct token once and generates by training.decoding. `hf`, `vllm` and `openai-endpoint` are
lm-eval's own, with their ways of batching, sampling and stopping; a scorecard says which answered, and two are compared only
where the same did.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from evals.endpoint import EndpointError, Served
from evals.harness import Request, quietly
from evals.keys import hide_keys
from evals.known_answers import KnownAnswers
from evals.vllm_backend import for_bos, load_vllm
from training.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evals.evaluated import Evaluated, Weights
    from evals.prepare import Prepared

OWN = "slipway"
NEEDS = {
    "vllm": ("vllm", "pip install vllm (it needs a GPU; docs/evals.md has the build for CPUs)"),
    "openai-endpoint": ("tenacity", "pip install tenacity"),
}
Writer = Callable[[list[Request]], list[list[Any]]]


def require_installed(backend: str) -> None:
    """Raise UsageError where the package that a backend stands on is not there."""
    package, install = NEEDS.get(backend, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise UsageError(
            f"the backend {backend} needs the package {package}",
            where=f"--backend {backend}",
            expected=f"{package} to be importable",
            found="no such package in this environment",
            next_step=install,
        )


@dataclass
class Backend:
    """One backend for all tasks of a run; models are loaded when they are first asked."""

    name: str
    source: Weights | Served
    seed: int
    known: KnownAnswers = field(default_factory=KnownAnswers)  # what earlier tasks of the run have asked
    _lms: dict[Any, Any] = field(default_factory=dict)

    @property
    def asked(self) -> Evaluated | Served:
        """What is evaluated: a checkpoint, or a model that somebody serves."""
        return self.source if isinstance(self.source, Served) else self.source.evaluated

    def scorer(self, prepared: Prepared) -> ChoiceScorer:
        """What scores choices of this task."""
        scorer = ChoiceScorer(self._lm(prepared), "" if self.name == OWN else self.engine(prepared), self._asking)
        scorer.keep_shared(prepared.requests)
        return scorer

    def writer(self, prepared: Prepared) -> Writer:
        """What writes texts for this task, by a backend of lm-eval's."""
        chat = isinstance(self.source, Served) and prepared.settings.chat_template
        generation = dict(prepared.task.generation)
        if self.name == "hf" and generation.get("do_sample"):
            generation.setdefault("top_k", 0)  # what the task does not ask for; transformers would take 50
        if self.name == "hf" and (stops := self.stops_of_turns(prepared)):
            generation["eos_token_id"] = stops

        def write(requests: list[Request]) -> list[list[Any]]:
            lm = self._lm(prepared)
            found: list[list[Any]] = [[] for _ in requests]
            for sample in range(prepared.samples):
                settings = {**generation, **self._seeded(lm, requests, sample)}
                asked = [SimpleNamespace(args=(_prompt(request, chat), dict(settings))) for request in requests]
                with quietly(), self._asking():
                    texts = lm.generate_until(asked, disable_tqdm=True)
                for texts_so_far, text in zip(found, texts, strict=True):
                    texts_so_far.append(self._as_answer(text, int(generation["max_gen_toks"])))
            return found

        return write

    def stops_of_turns(self, prepared: Prepared) -> list[int]:
        """Where the answers of this task end, if that is at a turn's end that the checkpoint's configs do not name; else []."""
        if isinstance(self.source, Served) or self.name == "vllm" or not prepared.task.generates:
            return []
        stops = self.source.evaluated.stop_tokens(prepared.settings.chat_template)
        return stops if stops != self.source.evaluated.stop_tokens(False) else []

    def engine(self, prepared: Prepared) -> str:
        """Which of lm-eval's backends answers this task, by its name in lm-eval's registry."""
        return f"lm-eval's {self._registered(prepared)}"

    def _registered(self, prepared: Prepared) -> str:
        if not isinstance(self.source, Served):
            return self.name
        return "local-chat-completions" if prepared.settings.chat_template else "local-completions"

    def _lm(self, prepared: Prepared) -> Any:
        """lm-eval's model of this task. Only our own is made anew for each task, for it checks itself on its requests."""
        if self.name == OWN:
            return self._loaded(prepared)
        # An engine of vLLM's takes what memory there is, so there is one; it makes its batches itself.
        key = (
            "vllm" if self.name == "vllm" else (self._registered(prepared), prepared.batch_size, prepared.settings.bos)
        )
        if key not in self._lms:
            self._lms[key] = self._loaded(prepared)
        return for_bos(self._lms[key], prepared.settings.bos) if self.name == "vllm" else self._lms[key]

    def _loaded(self, prepared: Prepared) -> Any:
        bos = {"add_bos_token": False} if prepared.settings.bos == "none" else {}
        with quietly():
            from lm_eval.api.registry import get_model

            if isinstance(self.source, Served):
                return _client(get_model, self._registered(prepared), self.source, prepared.batch_size, self.seed)
            evaluated = self.source.evaluated
            if self.name == "vllm":
                path = str(evaluated.checkpoint.path)
                return load_vllm(get_model, path, self.source.dtype, evaluated.context, self.seed)
            return load_lm(self.source.model, evaluated.tokenizer, prepared.batch_size, self.name, **bos)

    def _seeded(self, lm: Any, requests: Sequence[Request], sample: int) -> dict[str, Any]:
        """Make the randomness of one sample of a batch depend on both and the seed, not on what was asked before."""
        name = "\n".join([str(self.seed), str(sample), *(request.item for request in requests)])
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 2**31
        if self.name == "vllm":
            return {"seed": number}
        if self.name == "hf":
            import torch

            torch.manual_seed(number)
        else:
            lm._seed = number  # what lm-eval sends with each request
        return {}

    def _as_answer(self, text: str, most: int) -> dict[str, Any]:
        tokens = (self.source if isinstance(self.source, Served) else self.source.evaluated).count(text)
        stopped = None if tokens is None else "length" if tokens >= most else "end or stop string"
        return {"text": text, "tokens": tokens, "stopped": stopped}

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Say what an endpoint failed at, without the key."""
        if not isinstance(self.source, Served):
            yield
            return
        import requests

        try:
            yield
        except (requests.RequestException, KeyError, TypeError, IndexError, AssertionError) as error:
            lacking = not isinstance(error, requests.RequestException)
            raise EndpointError(
                "the endpoint's answer lacks what the task needs" if lacking else "the endpoint failed to answer",
                where=self.source.url,
                expected="texts, or log-probabilities of the prompt's own tokens (echo with logprobs) for choices",
                found=hide_keys(f"{type(error).__name__}: {error}"[:300]),
                next_step="serve the model with a server that gives them, or choose other tasks"
                if lacking
                else "look at the server's log, then run the same command again: what was answered is kept",
            ) from error


class ChoiceScorer:
    """From requests to the (log-likelihood, is greedy) of each of their choices, by an LM of lm-eval's."""

    def __init__(
        self, lm: Any, engine: str = "", asking: Callable[[], contextlib.AbstractContextManager[None]] | None = None
    ) -> None:
        self.lm, self._engine = lm, engine
        self._asking = asking or contextlib.nullcontext

    def __call__(self, requests: Sequence[Request]) -> list[list[tuple[float, bool]]]:
        with quietly(), self._asking():
            answers = iter(
                self.lm.loglikelihood([one for request in requests for one in request.instances], disable_tqdm=True)
            )
        return [[next(answers) for _ in request.instances] for request in requests]

    def keep_shared(self, requests: Sequence[Request]) -> None:
        """Compute what all these requests begin with only once, in however many calls they come."""
        contexts = [str(one.args[0]) for request in requests for one in request.instances]
        if hasattr(self.lm, "likelihoods") and contexts and min(contexts):
            first, last = (self.lm.tok_encode(context) for context in (min(contexts), max(contexts)))
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
            self.lm.likelihoods.keep([token for token, _ in same])

    @property
    def engine(self) -> str:
        """How log-likelihoods were computed: "prefix tree", "plain: REASON", or which of lm-eval's backends did."""
        return self._engine or str(getattr(self.lm, "engine", ""))


def load_lm(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, backend: str = OWN, **options: Any
) -> Any:
    """An LM of lm-eval's around a loaded model, `slipway` or `hf`; the log-softmax is in float32 in both."""
    with quietly():
        from lm_eval.api.registry import get_model

        import evals.prefix_tree  # noqa: F401 - registers slipway

        return get_model(backend)(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=batch_size,
            softmax_dtype="float32",
            **options,
        )


def _client(get_model: Callable[[str], Any], registered: str, served: Served, batch_size: int, seed: int) -> Any:
    chat = registered == "local-chat-completions"
    counted = served.tokenizer_name is not None and not chat
    return get_model(registered)(
        model=served.name,
        base_url=f"{served.url}/{'chat/completions' if chat else 'completions'}",
        tokenizer=served.tokenizer_name if counted else None,
        tokenizer_backend="huggingface" if counted else "none",
        tokenized_requests=counted,
        batch_size=1 if chat else batch_size,
        max_length=served.context,
        seed=seed,
    )


def _prompt(request: Request, chat: bool) -> Any:
    prompt = request.instances[0].args[0]
    if not chat:
        return prompt
    from lm_eval.models.api_models import JsonChatStr

    return JsonChatStr(prompt)
