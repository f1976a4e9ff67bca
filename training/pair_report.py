"""How well scores tell the better answer of a pair from the worse, on pairs that were not trained on: pure functions.

Used of a reward model's scores, and of the implicit rewards of a policy that was trained on preferences (Rafailov et al. 2023).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from training.data import Preference

BINS = 10  # of confidence, from 0.5 to 1
# The chosen answer's length minus the rejected one's, as a share of the longer: upper bounds.
LENGTHS = ((-0.5, "much_shorter"), (-0.1, "shorter"), (0.1, "alike"), (0.5, "longer"), (math.inf, "much_longer"))


def pair_report(
    rows: Sequence[Preference], chosen: Sequence[float], rejected: Sequence[float]
) -> dict[str, float | None]:
    """Accuracy with its interval, calibration, and agreement by difference of length, each under a `heldout_` name.

    `chosen` and `rejected` are the scores of each row's answers. Keys: pairs, accuracy with accuracy_stderr (binomial; None of one
    pair) and accuracy_low and accuracy_high (Wilson, 95%), longer_wins (the baseline that prefers the longer answer; ties half),
    margin, log_loss (of the Bradley-Terry probability, nats), calibration_error, length_correlation (of margins with differences
    of length), and accuracy_chosen_X with pairs_chosen_X for each X of LENGTHS that has pairs.
    """
    n = len(rows)
    margins = [better - worse for better, worse in zip(chosen, rejected, strict=True)]
    right = [_half(margin) for margin in margins]
    accuracy = sum(right) / n
    low, high = wilson(accuracy, n)
    lengths = [len(row.chosen) - len(row.rejected) for row in rows]
    found: dict[str, float | None] = {
        "pairs": float(n),
        "accuracy": accuracy,
        "accuracy_stderr": math.sqrt(accuracy * (1 - accuracy) / n) if n > 1 else None,
        "accuracy_low": low,
        "accuracy_high": high,
        "longer_wins": sum(_half(length) for length in lengths) / n,
        "margin": sum(margins) / n,
        "log_loss": sum(_softplus(-margin) for margin in margins) / n,
        "calibration_error": calibration_error(margins),
        "length_correlation": correlation(margins, lengths),
    }
    for name in (name for _, name in LENGTHS):
        there = [hit for hit, row in zip(right, rows, strict=True) if length_class(row) == name]
        if there:
            found[f"pairs_chosen_{name}"] = float(len(there))
            found[f"accuracy_chosen_{name}"] = sum(there) / len(there)
    return {f"heldout_{key}": value for key, value in found.items()}


def calibration_error(margins: Sequence[float]) -> float:
    """Expected calibration error of sigmoid(margin) as the probability that the first answer is preferred.

    A pair has no order of its own, so each is read from the side that the scores prefer: confidence is sigmoid(|margin|),
    and it is right where the margin is positive (a margin of 0 is half right). In BINS bins of equal width from 0.5 to 1:
    the sum of share * |accuracy - mean confidence| (Guo et al. 2017, equation 3).
    """
    bins: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for margin in margins:
        confidence = math.exp(-_softplus(-abs(margin)))
        bins[min(BINS - 1, int((confidence - 0.5) * 2 * BINS))].append((confidence, _half(margin)))
    return sum(
        abs(sum(hit for _, hit in rows) - sum(confidence for confidence, _ in rows)) for rows in bins if rows
    ) / len(margins)


def length_class(row: Preference) -> str:
    """How the chosen answer's length in characters compares with the rejected one's, in a word of LENGTHS."""
    difference = (len(row.chosen) - len(row.rejected)) / max(len(row.chosen), len(row.rejected))
    return next(name for bound, name in LENGTHS if difference <= bound)


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share of n, which stays within 0 and 1 (Wilson 1927)."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def clustered_auc(good: Sequence[tuple[str, float]], bad: Sequence[tuple[str, float]]) -> tuple[float, float | None]:
    """The probability that a good answer's score is above a bad one's (Mann and Whitney's; ties half), and its standard error.

    Each answer is (prompt, score). Answers to one prompt do not count as independent: the error is Obuchowski's for clusters
    (1997), which without repeated prompts is DeLong's but for n / (n - 1) taken of all answers. It is None where it is not known
    how much other prompts' would differ: where good or bad answers are to one prompt only, and where no place varies, as where
    all good ones are above.
    """
    below, above = sorted(score for _, score in bad), sorted(score for _, score in good)
    auc = 0.0
    sums: dict[
        str, float
    ] = {}  # by prompt: how far its answers' places are from what the AUC says, over each side's count
    for side, others, sign in ((good, below, 1), (bad, above, -1)):
        places = [(bisect_left(others, score) + bisect_right(others, score)) / 2 / len(others) for _, score in side]
        if sign < 0:
            places = [1 - place for place in places]
        auc = sum(places) / len(places)  # the same from either side
        for (prompt, _), place in zip(side, places, strict=True):
            sums[prompt] = sums.get(prompt, 0.0) + (place - auc) / len(side)
    if any(len({prompt for prompt, _ in side}) < 2 for side in (good, bad)) or not any(sums.values()):
        return auc, None
    return auc, math.sqrt(len(sums) / (len(sums) - 1) * sum(value * value for value in sums.values()))


def with_interval(name: str, value: float, stderr: float | None) -> dict[str, float | None]:
    """A metric with its standard error and its 95% interval, under `name`, `name`_stderr, _low and _high; the three are None where
    there is no standard error.
    """
    if stderr is None:
        return {name: value, f"{name}_stderr": None, f"{name}_low": None, f"{name}_high": None}
    reach = 1.959964 * stderr
    return {name: value, f"{name}_stderr": stderr, f"{name}_low": value - reach, f"{name}_high": value + reach}


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation; 0 where one of them does not vary."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    spread = math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
    return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / spread if spread else 0.0


def _half(difference: float) -> float:
    """1 where positive, 0 where negative, one half for a tie."""
    return 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0


def _softplus(x: float) -> float:
    """log(1 + e^x) without overflow; -log sigmoid(m) is softplus(-m)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
