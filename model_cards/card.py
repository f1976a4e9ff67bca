"""A model card from the files of a run: every figure comes from scorecard.json or run.json, none is typed in.

bundle = render_card(Path("runs/ppo"), repo_id="org/name", tag="v1.0.0")
bundle.files     # {"README.md": b"...", "figures/scores.png": b"...", ...}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evals.alignment_tax import tax_rows
from evals.compare import Comparison
from evals.presentation import headlines, markdown_text, parameter_count, short_digest
from model_cards import beside, examples, expenses, more_tables, prompt_shown, score_table
from model_cards.author import author_part, mark_of, words_of_authors
from model_cards.bill_of_materials import BILL, HUB, bill_of_materials
from model_cards.differences import comparison_with_parent, paired_differences
from model_cards.eval_results import eval_results
from model_cards.examples import failing_samples
from model_cards.expenses import expense_lines
from model_cards.facts import Facts, read_facts, task_of, without_place
from model_cards.judges import circular, judged
from model_cards.metadata import license_metadata, metadata
from model_cards.methods import PAPERS, method_words
from model_cards.page_parts import require_same_below
from model_cards.plots import plots
from model_cards.policy_shown import FILE as POLICY
from model_cards.policy_shown import PolicyShown
from model_cards.score_table import Difference, ScoreRow, comparable_score, score_id, score_rows
from model_cards.signer import Signer, sentences, verify_options
from model_cards.training_section import training_section

# transformers' classes by the Hub's task.
AUTO_CLASSES = {
    "text-generation": "AutoModelForCausalLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
}


@dataclass(frozen=True)
class CardBundle:
    """A card and the files that it shows or that stand beside it: path in the repository -> bytes."""

    readme: str
    extras: dict[str, bytes]

    @property
    def files(self) -> dict[str, bytes]:
        return {"README.md": self.readme.encode(), **self.extras}


def render_card(
    run: Path,
    *,
    repo_id: str,
    tag: str,
    space_id: str | None = None,
    endpoint: str | None = None,
    language: str | None = "en",
    signer: Signer | None = None,
    waivers: Mapping[str, str] | None = None,
    policy: PolicyShown | None = None,
) -> CardBundle:
    """The card of a run, or of a bare checkpoint directory, as it will stand in `repo_id` at `tag`.

    `endpoint` is the Hub that it goes to, if not huggingface.co; `language` is what the metadata says (the starter data
    and suites are English); `signer` is who signs the release; `waivers` are
    gates of the release whose refusals were accepted, each with its reason; `policy` is what asked them, if not the default.
    Raises UsageError where the run's files contradict each other.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    facts = read_facts(run)
    name = repo_id.partition("/")[2] or repo_id
    drawn = plots(facts)
    compared = comparison_with_parent(run, facts)
    differences = paired_differences(compared)
    theirs = "" if facts.author is None else author_part(facts.author.body, tag) + "\n"
    environment = Environment(
        loader=PackageLoader("model_cards", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(text=markdown_text, code=_code, short=short_digest)
    body = environment.get_template("card.md.jinja" if facts.author is None else "foreign.md.jinja").render(
        facts=facts,
        name=name,
        repo_id=repo_id,
        tag=tag,
        mark=mark_of(words) if (words := words_of_authors(theirs)) is not None else "",
        space_id=space_id,
        signer=sentences(signer),
        verify_options=verify_options(signer),
        waivers=dict(sorted((waivers or {}).items())),
        policy=None if policy and policy.elsewhere and (facts.copied or facts.run is None) else policy,
        hub=(endpoint or HUB).rstrip("/"),
        elsewhere=None if (endpoint or HUB).rstrip("/") == HUB else (endpoint or "").rstrip("/"),
        method=method_words(facts.run) if facts.run else None,
        parameters=parameter_count(facts.parameters) if facts.parameters else None,
        plots=drawn,
        scores=_scores(facts, differences),
        tables=_tables(facts, compared),
        limits=_limits(facts, differences, compared),
        failing=failing_samples(facts),
        training=training_section(facts),
        glance=_glance(facts),
        auto_class=AUTO_CLASSES.get(task_of(facts.architecture), "AutoModel")
        if not _seq2seq(facts)
        else "AutoModelForSeq2SeqLM",
        seq2seq=_seq2seq(facts),
        prompt=_prompt(facts),
        paper=PAPERS.get(facts.run.method) if facts.run else None,
        bill=BILL,
        expenses=expense_lines(facts),
        markers={
            "scores": (score_table.BEGIN, score_table.END),
            "examples": (examples.BEGIN, examples.END),
            "expenses": (expenses.BEGIN, expenses.END),
            "tax": more_tables.TAX,
            "toxicity": more_tables.TOXICITY,
            "beside": beside.MARKERS,
            "prompt": prompt_shown.MARKERS,
        },
        year=_year(facts),
        key=re.sub(r"[^a-z0-9]+", "_", f"{name}_{tag}".lower()).strip("_"),
    )
    card_url = f"{(endpoint or HUB).rstrip('/')}/{repo_id}/blob/{tag}/README.md"
    values = metadata(facts, name=name, language=language, where=card_url)
    head = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    extras = {plot.path: plot.png for plot in drawn.values()}
    extras.update(eval_results(facts.card) if facts.card else {})
    if policy is not None and policy.content is not None:
        extras[POLICY] = policy.content
    extras[BILL] = bill_of_materials(facts, repo_id=repo_id, tag=tag, endpoint=endpoint)
    ours = re.sub(r"\n{3,}", "\n\n", body).strip()
    if theirs:
        require_same_below(theirs, ours)
    return CardBundle(f"---\n{head}---\n\n{theirs}{ours}\n", extras)


def _scores(facts: Facts, differences: Mapping[str, Difference]) -> dict[str, Any] | None:
    card = facts.card
    if card is None:
        return None
    head = score_rows(card, facts.parent_card, differences, only_headlines=True)
    known = {row.id for row in head}
    rest = [
        row for row in score_rows(card, facts.parent_card, differences, only_headlines=False) if row.id not in known
    ]
    incomparable = facts.parent_card is not None and not any(
        comparable_score(card, facts.parent_card, score) for score in card.scores
    )
    return {
        "head": head,
        "rest": rest,
        "differences": bool(differences),
        "incomparable": incomparable,
        "judged": [line for score in headlines(card.scores) if (line := judged(score, facts))],
        "changed": _changed(head, differences),
        "methods": sorted({score.interval.method for score in card.scores}),
    }


def _tables(facts: Facts, compared: Comparison | None) -> dict[str, Any]:
    """The tables beside the scores, as lines."""
    card, parent = facts.card, facts.parent_card
    if card is None:
        return {}
    toxicity, toxicity_by_kind = more_tables.toxicity_tables(card, parent)
    return {
        "tax": more_tables.tax_lines(card, parent, compared),
        "tax_sentence": more_tables.tax_sentence(card, compared),
        "toxicity": toxicity,
        "toxicity_by_kind": toxicity_by_kind,
        "beside": beside.beside_lines(facts),
        "judges": more_tables.judge_lines(card),
    }


def _changed(rows: Sequence[ScoreRow], differences: Mapping[str, Difference]) -> str | None:
    """What training gained and what it cost, of the headline figures that could be compared; None where none could."""
    compared = {row.id: differences[row.id].verdict for row in rows if row.id in differences}
    if not compared:
        return None
    told = [
        f"{word} on {', '.join(f'`{name}`' for name, verdict in compared.items() if verdict == kind)}"
        for kind, word in (("better", "better"), ("worse", "worse"), ("differs", "different"))
        if kind in compared.values()
    ]
    alike = sum(verdict == "no difference" for verdict in compared.values())
    if not told:
        return f"none of the {alike} headline scores that were compared can be told from the parent's."
    rest = f"; {alike} of {len(compared)} headline scores cannot be told from the parent's" if alike else ""
    return f"{' and '.join(told)} than the parent{rest}."


def _glance(facts: Facts) -> list[tuple[str, str]]:
    """What a reader looks for before anything else, as far as the files say it."""
    config = facts.config
    heads, layers, width = (config.get(key) for key in ("num_attention_heads", "num_hidden_layers", "hidden_size"))
    shape = f" ({layers} layers, width {width}, {heads} heads)" if heads and layers and width else ""
    context = config.get("max_position_embeddings")
    license = license_metadata(facts.base.license if facts.base else None)
    known = {
        "Parameters": f"{facts.parameters:,}" if facts.parameters else None,
        "Architecture": f"{(config.get('architectures') or ['unknown'])[0]}{shape}",
        "Context": f"{context:,} tokens" if isinstance(context, int) else None,
        "Stored as": ", ".join(["safetensors", *facts.stored]),
        "Conversation": ("chat template" if facts.chat_template else "no chat template: it continues text")
        if facts.is_generative
        else None,
        "Licence": license.get("license_name") or license.get("license"),
        "Digest": f"`{facts.digest}`",
    }
    return [(name, value if name == "Digest" else markdown_text(value)) for name, value in known.items() if value]


def _limits(facts: Facts, differences: Mapping[str, Difference], compared: Comparison | None) -> list[str]:
    """What the figures themselves warn of, as sentences in markdown."""
    card = facts.card
    if card is None:
        return ["It has not been scored: nothing is known of its truthfulness, toxicity or helpfulness."]
    found = []
    for score in headlines(card.scores):
        difference = differences.get(score_id(score))
        if difference and difference.verdict == "worse":
            found.append(f"It is worse than its parent on `{score_id(score)}`.")
    found += circular(headlines(card.scores), facts)
    for task, why in sorted(card.failed_tasks.items()):
        found.append(
            f"`{_code(task)}` could not be scored ({markdown_text(without_place(why))}), so nothing is known there."
        )
    limited = [f"`{task.task}` ({task.items})" for task in card.settings.tasks if task.limit is not None]
    if limited:
        found.append(f"Some tasks were scored on a sample of their items: {', '.join(limited)}.")
    if compared is not None and not tax_rows(compared, card):
        found.append(
            "What alignment cost on tasks that it was not for, such as gsm8k or hellaswag, was not measured: the suite has none."
        )
    if card.settings.suite == "starter":
        found.append(
            "It was scored with the starter suite, a few hundred items of the project's own: enough to see a change from the "
            "parent, not to rank it among published models."
        )
    if facts.base and facts.base.note:
        found.append(f"Of the parent: {markdown_text(without_place(facts.base.note))}.")
    return found


def _prompt(facts: Facts) -> list[str]:
    """The chat template written out, for models that converse."""
    return prompt_shown.prompt_lines(facts.folder) if facts.is_generative and not _seq2seq(facts) else []


def _seq2seq(facts: Facts) -> bool:
    """An encoder with a decoder, such as T5: it answers a text instead of continuing it."""
    return facts.is_generative and bool(facts.config.get("is_encoder_decoder"))


def _year(facts: Facts) -> str | None:
    when = facts.run.started if facts.run else facts.card.created if facts.card else None
    return when[:4] if when else None


def _code(text: str) -> str:
    """Text for a code span, also inside a table."""
    return " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") or " "
