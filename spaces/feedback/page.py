"""What happens on the page: notice and consent, then pair after pair, by click or by key. What is to be seen is in parts.py.

build(labelling, live).launch(...)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import gradio as gr
import limits
from display import COPY_PLAIN, plain
from display import shown as literal
from labelling import Labelling, Shown, Who
from parts import Consent, Pair, Question, not_you

if TYPE_CHECKING:
    from live import LiveAnswers

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
# "Not you?" in one tab ends the labeller in all tabs of this browser: else the next one's clicks there would be their votes.
LEFT = "slipway-left"
LEAVE = f"""
() => {{
  window.scrollTo({{top: 0, behavior: 'instant'}});
  setTimeout(() => localStorage.setItem('{LEFT}', String(Date.now())), 200);  // when the labeller is forgotten there
}}
"""
ENDS_WITH_OTHERS = f"""
() => {{
  window.addEventListener('storage', (event) => {{ if (event.key === '{LEFT}') window.location.reload(); }});
}}
"""
OPEN_ALREADY = "This pair was open already: vote on it, then ask."
NOT_PUSHED = " It is on this page's disk; the dataset cannot be written to now, and that is tried again."
TO_TOP = "() => window.scrollTo({top: 0, behavior: 'instant'})"


def build(labelling: Labelling, live: LiveAnswers | None = None) -> gr.Blocks:
    """The page; where nothing prepared is left, `live` answers what a labeller asks.

    Nothing that tells which model wrote an answer is sent to it.
    """
    space = labelling.space
    quiet: dict[str, Any] = {"api_visibility": "undocumented", "show_progress": "hidden"}
    blocks = gr.Blocks(title=space["title"], analytics_enabled=False, fill_width=True)
    with blocks:
        kept = gr.BrowserState({}, storage_key=KEPT_IN_BROWSER, secret=KEPT_IN_BROWSER)
        vote_id = gr.State("")
        gr.Markdown(f"# {literal(space['title'])}", elem_id="title")
        withheld = gr.Markdown(elem_id="withheld")
        consent = Consent.place(space)
        with gr.Column(visible=False, elem_id="finished") as finished:
            thanks = gr.Markdown(elem_id="thanks")
            other_after_thanks = not_you("thanks")
        question, pair = Question.place(), Pair.place()
        # What _consent, _hidden and _show fill in, in this order.
        place = [
            *(consent.column, pair.column, finished, question.column),
            *(question.said, thanks, pair.prompt, *pair.answers, pair.status, pair.own_id),
            *(vote_id, pair.reason, pair.better),
        ]
        blocks.load(None, None, None, js=KEYS)
        blocks.load(None, None, None, js=COPY_PLAIN)
        blocks.load(None, None, None, js=ENDS_WITH_OTHERS)
        blocks.load(lambda: _withheld(labelling), None, withheld, **quiet)
        blocks.load(_opener(labelling), [kept], place, **quiet)
        if live is not None:
            blocks.unload(_leaver(live))
        consent.begin.click(
            _agreement(labelling), [consent.code, consent.kind, consent.agreed], [kept, *place], **quiet
        ).success(None, None, None, js=TO_TOP)
        asks = [question.ask.click, question.text.submit]
        gr.on(asks, _asker(labelling, live), [kept, question.text], [question.text, *place], **quiet)
        others = [pair.not_you.click, question.not_you.click, other_after_thanks.click]
        gr.on(
            others,
            _another_labeller,
            [pair.reason, pair.better],
            [kept, consent.code, consent.kind, consent.agreed, *place],
            **quiet,
        ).then(None, None, None, js=LEAVE)
        for choice, button in pair.buttons.items():
            # "once" would drop a vote that is given while the last one is still being answered; what stands behind a
            # double click is refused by labelling.py.
            button.click(
                _voter(labelling, choice),
                [kept, vote_id, pair.reason, pair.better],
                place,
                trigger_mode="multiple",
                **quiet,
            ).then(None, None, None, js=TO_TOP)
    blocks.queue(max_size=limits.EVENTS_QUEUED, default_concurrency_limit=8)
    return blocks


def _opener(labelling: Labelling) -> Any:
    def open_page(kept: Any) -> list[Any]:
        who = _who(labelling, kept)
        return _consent() if who is None else _show(labelling, who, "")

    return open_page


def _agreement(labelling: Labelling) -> Any:
    def agree(code: str, kind: str | None, agreed: bool) -> list[Any]:
        if not agreed:
            raise _refusal("Without your consent nothing is kept, so there is nothing to do here.")
        try:
            who = labelling.labeller(code, kind)
        except limits.Refused as refused:
            raise _refusal(str(refused)) from refused
        kept = {"code": code, "kind": kind, "notice": labelling.space["notice"]}
        return [kept, *_show(labelling, who, "")]

    return agree


def _another_labeller(reason: str, better: str) -> list[Any]:
    """The browser forgets who votes, and the page begins again with the notice."""
    return [{}, "", None, False, *_consent(emptied=bool(reason or better))]


def _asker(labelling: Labelling, live: LiveAnswers | None) -> Any:
    async def answer(kept: Any, question: str, request: gr.Request) -> AsyncIterator[list[Any]]:
        who = _who(labelling, kept)
        if who is None or live is None:
            yield [question, *_consent()]
            return
        if labelling.opened(who):  # in another tab, or before this page was loaded anew
            yield [gr.skip(), *_show(labelling, who, OPEN_ALREADY)]
            return
        yield [gr.skip(), *_hidden(), "Both are answering ...", *[gr.skip()] * 9]
        try:
            if not labelling.may_ask(who):
                raise limits.Refused("You have given as many votes as this page takes of one labeller.")
            address = live.visitors.address(request.request)
            pair = live.while_there(request.session_hash or "", live.pair(who.labeller, address, plain(question)))
            labelling.open_live(who, await pair)
        except limits.Refused as refused:
            if labelling.opened(who):  # meanwhile, in another tab
                yield [gr.skip(), *_show(labelling, who, OPEN_ALREADY)]
            else:
                yield [gr.skip(), *_hidden(), str(refused), *[gr.skip()] * 9]
            return
        yield ["", *_show(labelling, who, "")]

    return answer


def _leaver(live: LiveAnswers) -> Any:
    async def leave(request: gr.Request) -> None:  # on the event loop, to which the sessions belong
        live.sessions.leave(request.session_hash or "")

    return leave


def _voter(labelling: Labelling, choice: str) -> Any:
    def vote(kept: Any, vote_id: str, reason: str, better: str) -> list[Any]:
        who = _who(labelling, kept)
        if who is None:
            return _consent(emptied=bool(reason or better))
        try:
            labelling.vote(who, vote_id, choice, reason, better)
        except limits.Refused as refused:
            return _show(labelling, who, str(refused), vote_id if reason or better else None)
        except OSError as error:  # a full disk: the labeller must not be thanked for a vote that is not kept
            raise _refusal(f"The vote could not be written, so it does not count: {error.strerror}.") from error
        return _show(labelling, who, _saved(labelling), vote_id if reason or better else None)

    return vote


def _withheld(labelling: Labelling) -> str:
    """Shown to whoever comes, before they agree: that what they are told of the dataset is not so now."""
    why = labelling.log.withheld
    return f"**Votes are not passed on now.** {literal(why)} Until then they stay on this page's disk." if why else ""


def _saved(labelling: Labelling) -> str:
    if labelling.log.withheld:
        return f"Saved on this page's disk, and not passed on. {literal(labelling.log.withheld)}"
    return f"Saved.{NOT_PUSHED if labelling.log.problem else ''}"


def _who(labelling: Labelling, kept: Any) -> Who | None:
    """The labeller that this browser remembers; None where it does not, or agreed to another notice."""
    if not isinstance(kept, dict) or kept.get("notice") != labelling.space["notice"]:
        return None
    try:
        return labelling.labeller(kept.get("code"), kept.get("kind"))
    except limits.Refused:
        return None


def _consent(emptied: bool = False) -> list[Any]:
    typed = ["" if emptied else gr.skip()] * 2
    return [gr.update(visible=True), *[gr.update(visible=False)] * 3, "", *[gr.skip()] * 7, *typed]


def _hidden() -> list[Any]:
    """Only the question is to be seen: of consent, pair, finished and asking."""
    return [*[gr.update(visible=False)] * 3, gr.update(visible=True)]


def _show(labelling: Labelling, who: Who, said: str, typed_at: str | None = None) -> list[Any]:
    """The next pair. Reason and better answer are emptied where something was typed `typed_at` another pair than that.

    Only there: what is sent to them while they are folded away would be applied when they unfold, over the first words typed.
    """
    shown = labelling.next(who)
    emptied = typed_at is not None and (shown is None or shown.vote_id != typed_at)
    typed = ["" if emptied else gr.skip()] * 2
    count = labelling.voted(who)
    votes = f"{count} {'vote' if count == 1 else 'votes'}"
    own = f"Your labeller id: `{who.labeller}`"
    if shown is None and labelling.may_ask(who):
        return [*_hidden(), f"{said} You gave {votes}. {own}".strip(), *[gr.skip()] * 7, *typed]
    if shown is None:
        bye = f"## Thank you\n\nNothing is left for you to judge: you gave {votes}, and all of them are kept.\n\n{own}"
        here = [gr.update(visible=visible) for visible in (False, False, True, False)]
        return [*here, "", bye, *[gr.skip()] * 6, *typed]
    return [
        *[gr.update(visible=visible) for visible in (False, True, False, False)],
        *("", gr.skip()),
        *(_conversation(shown), _answer(shown.a), _answer(shown.b)),
        *(f"{said} You gave {votes}. The keys A, B, T and X vote too.".strip(), own, shown.vote_id, *typed),
    ]


def _answer(answer: dict[str, Any]) -> str:
    """An answer that was cut says so: labellers would take the cut for the model's own end."""
    return literal(answer["text"]) + ("\n\n*(cut at the longest answer)*" if answer.get("cut") else "")


def _conversation(shown: Shown) -> str:
    names = {"user": "Prompt", "assistant": "Earlier answer", "system": "Instruction to the model"}
    return "\n\n".join(f"**{names[turn['role']]}**\n\n{literal(turn['content'])}" for turn in shown.prompt)


def _refusal(text: str) -> gr.Error:
    return gr.Error(text, title="Not yet", duration=6, print_exception=False)
