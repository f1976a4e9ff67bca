"""The page's parts and what happens in them: notice and consent, then pair after pair, by click or by key.

build(labelling, live).launch(...)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import gradio as gr
import limits
from display import plain
from display import shown as literal
from labelling import BETTER_MOST, CODE_MOST, REASON_MOST, Labelling, Shown, Who
from notice import INSTRUCTIONS, notice

if TYPE_CHECKING:
    from live import LiveAnswers

BUTTONS = {"a": ("A is better", "A"), "b": ("B is better", "B"), "tie": ("Tie", "T"), "both_bad": ("Both bad", "X")}
KEPT_IN_BROWSER = "slipway-labeller"  # of the visitor's own browser: the code, the kind, and the notice agreed to
# Keys vote where no text is being typed. A held key votes once, and a key during a vote is ignored.
KEYS = """
() => {
  const keys = {a: 'vote-a', b: 'vote-b', t: 'vote-tie', x: 'vote-both_bad'};
  if (window.slipwayKeys) return;
  window.slipwayKeys = true;
  document.addEventListener('keydown', (event) => {
    const at = event.target;
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (at.tagName === 'TEXTAREA' || at.tagName === 'INPUT' || at.isContentEditable) return;
    const button = document.getElementById(keys[event.key.toLowerCase()]);
    if (button && button.offsetParent && !button.disabled) { event.preventDefault(); button.click(); }
  });
}
"""
TO_TOP = "() => window.scrollTo({top: 0, behavior: 'instant'})"


def build(labelling: Labelling, live: LiveAnswers | None = None) -> gr.Blocks:
    """The page; where nothing prepared is left, `live` answers what a labeller asks.

    Nothing that tells which model wrote an answer is sent to it.
    """
    space = labelling.space
    blocks = gr.Blocks(title=space["title"], analytics_enabled=False, fill_width=True)
    with blocks:
        kept = gr.BrowserState({}, storage_key=KEPT_IN_BROWSER, secret=KEPT_IN_BROWSER)
        vote_id = gr.State("")
        gr.Markdown(f"# {literal(space['title'])}", elem_id="title")
        with gr.Column(visible=False, elem_id="consent") as consent:
            with gr.Column(min_width=0):
                gr.Markdown(notice(space), elem_id="notice", header_links=False)
                code = gr.Textbox(
                    label="Labeller code",
                    info="The one that you were given, or a word that you will remember. It is kept as a salted hash only.",
                    max_length=CODE_MOST,
                    elem_id="code",
                )
                kind = gr.Radio(
                    [("a person", "person"), ("a script that follows rules", "script")],
                    label="Who votes here?",
                    elem_id="kind",
                )
                agreed = gr.Checkbox(label="I have read this and agree to take part.", elem_id="agreed")
                begin = gr.Button("Begin", variant="primary", elem_id="begin")
            with gr.Column(min_width=0):
                gr.Markdown(f"## How to judge\n{INSTRUCTIONS}", elem_id="instructions")
        with gr.Column(visible=False, elem_id="finished") as finished:
            thanks = gr.Markdown(elem_id="thanks")
        with gr.Column(visible=False, elem_id="asking") as asking:
            question = gr.Textbox(
                label="Ask something",
                info="Two models answer it, which takes some seconds. Then say which answer is better.",
                lines=3,
                max_length=limits.MESSAGE_CHARACTERS,
                elem_id="question",
            )
            ask = gr.Button("Ask both", variant="primary", elem_id="ask")
            asked = gr.Markdown(elem_id="asked")
        with gr.Column(visible=False, elem_id="pair") as pair:
            prompt = gr.Markdown(elem_id="prompt")
            with gr.Row(elem_id="answers", equal_height=True):
                with gr.Column(elem_classes="answer", min_width=0):
                    gr.Markdown("## Answer A")
                    answer_a = gr.Markdown(elem_id="answer-a")
                with gr.Column(elem_classes="answer", min_width=0):
                    gr.Markdown("## Answer B")
                    answer_b = gr.Markdown(elem_id="answer-b")
            with gr.Row(elem_id="votes"):
                buttons = {
                    choice: gr.Button(
                        f"{label} ({key})",
                        elem_id=f"vote-{choice}",
                        variant="primary" if choice in ("a", "b") else "secondary",
                        min_width=0,
                    )
                    for choice, (label, key) in BUTTONS.items()
                }
            status = gr.Markdown(elem_id="status")
            with gr.Accordion("Say why, or write a better answer (optional)", open=False, elem_id="more"):
                reason = gr.Textbox(label="Why", lines=2, max_length=REASON_MOST, elem_id="reason")
                better = gr.Textbox(label="A better answer", lines=4, max_length=BETTER_MOST, elem_id="better")
            with gr.Accordion("How to judge", open=False, elem_id="how"):
                gr.Markdown(INSTRUCTIONS)
            own_id = gr.Markdown(elem_id="own-id")
        place = [
            consent,
            pair,
            finished,
            asking,
            asked,
            thanks,
            prompt,
            answer_a,
            answer_b,
            status,
            own_id,
            vote_id,
            reason,
            better,
        ]

        def open_page(kept: Any) -> list[Any]:
            who = _who(labelling, kept)
            return _consent() if who is None else _show(labelling, who, "")

        def agree(code: str, kind: str | None, agreed: bool) -> list[Any]:
            if not agreed:
                raise _refusal("Without your consent nothing is kept, so there is nothing to do here.")
            try:
                who = labelling.labeller(code, kind)
            except limits.Refused as refused:
                raise _refusal(str(refused)) from refused
            return [{"code": code, "kind": kind, "notice": space["notice"]}, *_show(labelling, who, "")]

        async def answer(kept: Any, question: str) -> AsyncIterator[list[Any]]:
            who = _who(labelling, kept)
            if who is None or live is None:
                yield [question, *_consent()]
                return
            yield [gr.skip(), *_hidden(), "Both are answering ...", *[gr.skip()] * 9]
            try:
                if not labelling.may_ask(who):
                    raise limits.Refused("You have given as many votes as this page takes of one labeller.")
                labelling.open_live(who, await live.pair(who.labeller, plain(question)))
            except limits.Refused as refused:
                yield [gr.skip(), *_hidden(), str(refused), *[gr.skip()] * 9]
                return
            yield ["", *_show(labelling, who, "")]

        quiet: dict[str, Any] = {"api_visibility": "undocumented", "show_progress": "hidden"}
        blocks.load(None, None, None, js=KEYS)
        blocks.load(open_page, [kept], place, **quiet)
        begin.click(agree, [code, kind, agreed], [kept, *place], **quiet).success(None, None, None, js=TO_TOP)
        gr.on([ask.click, question.submit], answer, [kept, question], [question, *place], **quiet)
        for choice, button in buttons.items():
            # "once" would drop a vote that is given while the last one is still being answered; what stands behind a
            # double click is refused by labelling.py.
            button.click(
                _voter(labelling, choice), [kept, vote_id, reason, better], place, trigger_mode="multiple", **quiet
            ).then(None, None, None, js=TO_TOP)
    blocks.queue(max_size=limits.EVENTS_QUEUED, default_concurrency_limit=8)
    return blocks


def _voter(labelling: Labelling, choice: str) -> Any:
    def vote(kept: Any, vote_id: str, reason: str, better: str) -> list[Any]:
        who = _who(labelling, kept)
        if who is None:
            return _consent()
        try:
            labelling.vote(who, vote_id, choice, reason, better)
        except limits.Refused as refused:
            return _show(labelling, who, str(refused), (reason, better))
        except OSError as error:  # a full disk: the labeller must not be thanked for a vote that is not kept
            raise _refusal(f"The vote could not be written, so it does not count: {error.strerror}.") from error
        return _show(labelling, who, "Saved.")

    return vote


def _who(labelling: Labelling, kept: Any) -> Who | None:
    """The labeller that this browser remembers; None where it does not, or agreed to another notice."""
    if not isinstance(kept, dict) or kept.get("notice") != labelling.space["notice"]:
        return None
    try:
        return labelling.labeller(kept.get("code"), kept.get("kind"))
    except limits.Refused:
        return None


def _consent() -> list[Any]:
    return [gr.update(visible=True), *[gr.update(visible=False)] * 3, "", *[gr.skip()] * 9]


def _hidden() -> list[Any]:
    """Only the question is to be seen: of consent, pair, finished and asking."""
    return [*[gr.update(visible=False)] * 3, gr.update(visible=True)]


def _show(labelling: Labelling, who: Who, said: str, typed: tuple[str, str] = ("", "")) -> list[Any]:
    shown = labelling.next(who)
    count = labelling.voted(who)
    votes = f"{count} {'vote' if count == 1 else 'votes'}"
    own = f"Your labeller id: `{who.labeller}`"
    if shown is None and labelling.may_ask(who):
        return [*_hidden(), f"{said} You gave {votes}. {own}".strip(), *[gr.skip()] * 9]
    if shown is None:
        bye = f"## Thank you\n\nNothing is left for you to judge: you gave {votes}, and all of them are kept.\n\n{own}"
        here = [gr.update(visible=visible) for visible in (False, False, True, False)]
        return [*here, "", bye, *[gr.skip()] * 8]
    return [
        *[gr.update(visible=visible) for visible in (False, True, False, False)],
        *("", gr.skip()),
        *(_conversation(shown), literal(shown.a["text"]), literal(shown.b["text"])),
        *(f"{said} You gave {votes}. The keys A, B, T and X vote too.".strip(), own, shown.vote_id, *typed),
    ]


def _conversation(shown: Shown) -> str:
    names = {"user": "Prompt", "assistant": "Earlier answer", "system": "Instruction to the model"}
    return "\n\n".join(f"**{names[turn['role']]}**\n\n{literal(turn['content'])}" for turn in shown.prompt)


def _refusal(text: str) -> gr.Error:
    return gr.Error(text, title="Not yet", duration=10, print_exception=False)
