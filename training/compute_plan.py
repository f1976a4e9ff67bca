"""How much model and data a compute budget buys, and what its training costs: pure mathematics, no torch.

    law = SCALING_LAWS["besiroglu"]
    law.optimum(5.76e23)             # (7.2e10 parameters, 1.3e12 tokens)
    shape_for(7e10, vocabulary=32768)

Everything here is arithmetic on published formulas; `python -m training plan` prints it. N is parameters, D is tokens, C is
FLOPs. A parameter costs 2 FLOPs a token forwards and 4 backwards, so that C = 6 N D (Kaplan et al. 2020, section 2.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FORWARD, TRAINING = 2, 6  # FLOPs for each parameter and token: forwards, and forwards with backwards


@dataclass(frozen=True)
class ScalingLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, approach 3 of Hoffmann et al. 2022 (section 3.3), with a fit's five numbers."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    source: str

    def loss(self, parameters: float, tokens: float) -> float:
        """The predicted cross-entropy in nats a token."""
        return float(self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta)

    @property
    def exponent(self) -> float:
        """a in N_opt ~ C^a: beta / (alpha + beta) (Hoffmann et al. 2022, equation 4)."""
        return self.beta / (self.alpha + self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of least loss under C = 6 N D (Hoffmann et al. 2022, equation 4).

        N = G (C/6)^a and D = (C/6)^b / G, with G = (alpha A / (beta B))^(1 / (alpha + beta)), b = 1 - a.
        """
        parameters = self._scale() * (flops / TRAINING) ** self.exponent
        return parameters, flops / TRAINING / parameters

    def budget(self, parameters: float) -> float:
        """The FLOPs at which a model of this size is the optimum: `optimum` solved for C."""
        return float(TRAINING * (parameters / self._scale()) ** (1 / self.exponent))

    def _scale(self) -> float:
        ratio = self.alpha * self.A / (self.beta * self.B)
        return float(ratio ** (1 / (self.alpha + self.beta)))


SCALING_LAWS = {
    "besiroglu": ScalingLaw(
        1.8172, 482.01, 2085.43, 0.3478, 0.3658, "Besiroglu et al. 2024, a new fit to the data of Hoffmann et al. 2022"
    ),
    "hoffmann": ScalingLaw(
        1.6934, 406.4, 410.7, 0.3392, 0.2849, "Hoffmann et al. 2022, with the exponents of the paper's TeX source"
    ),
    "hoffmann-rounded": ScalingLaw(
        1.69, 406.4, 410.7, 0.34, 0.28, "Hoffmann et al. 2022, as its text rounds them (section D.3)"
    ),
}


@dataclass(frozen=True)
class Shape:
    """A Llama-like decoder: RMSNorm, rotary positions, grouped-query attention (Ainslie et al. 2023), SwiGLU."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    tied: bool  # the output projection is the embedding's matrix

    @property
    def layer_parameters(self) -> int:
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.width * self.feed_forward + 2 * self.width

    @property
    def embedding_parameters(self) -> int:
        return self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.embedding_parameters + self.layers * self.layer_parameters + self.width

    def attention_share(self, context: int) -> float:
        """FLOPs of queries with keys and weights with values, which 6 N D leaves out, as a share of 6 N.

        12 * layers * heads * head_dim * context a token (Chowdhery et al. 2022, appendix B), halved for causal attention
        reaches half of the context on average.
        """
        return 6 * self.layers * self.heads * self.head_dim * context / (TRAINING * self.parameters)


def shape_for(parameters: float, vocabulary: int) -> Shape:
    """The shape whose size is nearest to `parameters`, among those of a usual proportion.

    Loss depends weakly on the ratio of width to depth (Kaplan et al. 2020, section 3.1), so size decides first: of the
    shapes within 4% of the best, the one whose width / layers is nearest to the usual is taken: 64 at 1e8 parameters,
    rising to 100 at 7e9 (Chinchilla and Llama 3 70B have 102). Heads are 64 wide below a width of 2048, else 128; three
    to eight queries share a key, or more with eight keys.

    Raises ValueError where even two layers of the least width have more parameters.
    """
    rise = min(1.0, max(0.0, math.log(parameters / 1e8) / math.log(7e9 / 1e8)))
    usual = 64 * (100 / 64) ** rise
    found: list[tuple[float, float, Shape]] = []
    for width in [*range(64, 2048, 64), *range(2048, 4096, 512), *range(4096, 131072, 1024)]:
        shape = _shape(2, width, vocabulary, tied=parameters < 1e9)
        layers = round((parameters - shape.embedding_parameters - width) / shape.layer_parameters)
        if layers < 2 or (shape.kv_heads < 8 and shape.heads > 8 * shape.kv_heads):
            continue
        shape = _shape(layers, width, vocabulary, shape.tied)
        away = abs(math.log(width / layers / usual))
        if away < math.log(4):
            found.append((abs(shape.parameters / parameters - 1), away, shape))
    if not found:
        raise ValueError(f"no decoder with a vocabulary of {vocabulary} has {parameters:.3g} parameters")
    best = min(error for error, _, _ in found)
    return min((away, error, shape) for error, away, shape in found if error <= best + 0.04)[2]


def _shape(layers: int, width: int, vocabulary: int, tied: bool) -> Shape:
    head_dim = 128 if width >= 2048 else 64
    heads = width // head_dim
    most = max(1, min(heads // 3, 8))  # 8 as Llama 3 has it at every size
    kv_heads = next(count for count in range(most, 0, -1) if heads % count == 0)
    feed_forward = math.ceil(8 * width / 3 / 128) * 128  # as many parameters as a plain layer of 4 times the width
    return Shape(layers, width, heads, kv_heads, head_dim, feed_forward, vocabulary, tied)


@dataclass(frozen=True)
class Gpu:
    """Peak dense matrix products in bfloat16 with float32 sums, and memory, as the maker's data sheet states them."""

    flops: float  # FLOP/s
    memory: float  # bytes


GPUS = {
    "a100-40gb": Gpu(312e12, 40e9),
    "a100-80gb": Gpu(312e12, 80e9),
    "b200": Gpu(2250e12, 192e9),
    "h100-pcie": Gpu(756e12, 80e9),
    "h100-sxm": Gpu(989e12, 80e9),
    "h200": Gpu(989e12, 141e9),
    "l4": Gpu(121e12, 24e9),
    "l40s": Gpu(362e12, 48e9),
    "mi300x": Gpu(1307e12, 192e9),
    "rtx-3090": Gpu(71e12, 24e9),
    "rtx-4090": Gpu(165e12, 24e9),
}


def flops_of(gpu: Gpu, count: int, hours: float, utilisation: float) -> float:
    """What `count` GPUs do in so many hours at this share of their peak (model-FLOPs utilisation)."""
    return gpu.flops * count * hours * 3600 * utilisation


def hours_for(flops: float, gpu: Gpu, count: int, utilisation: float) -> float:
    return flops / (gpu.flops * count * 3600 * utilisation)


@dataclass(frozen=True)
class PostTraining:
    """How much instruction tuning follows. Defaults: InstructGPT's data (Ouyang et al. 2022, table 6, appendix C)."""

    sft_examples: int = 12_725
    sft_epochs: int = 2  # InstructGPT took 16, and saw the validation loss overfit after one
    pairs: int = 33_207
    episodes: int = 256_000
    ppo_epochs: int = 1
    example_tokens: int = 512  # of prompt and answer together


def sft_flops(parameters: float, plan: PostTraining) -> float:
    """6 N for every token of every epoch."""
    return TRAINING * parameters * plan.sft_examples * plan.sft_epochs * plan.example_tokens


def reward_flops(parameters: float, plan: PostTraining) -> float:
    """6 N for every token of both answers, once (one epoch: more overfits, Ouyang et al. 2022, appendix C.2)."""
    return TRAINING * parameters * plan.pairs * 2 * plan.example_tokens


def ppo_flops(policy: float, reward_model: float, plan: PostTraining) -> float:
    """PPO as training/ppo.py does it, a value head on the policy's trunk.

    A token is sampled (2 N), gets its log-probability and value (2 N) and its reference's (2 N), is read by the reward model
    (2 N_r), and is trained on in each epoch (6 N).
    """
    each = 3 * FORWARD * policy + FORWARD * reward_model + TRAINING * policy * plan.ppo_epochs
    return each * plan.episodes * plan.example_tokens
