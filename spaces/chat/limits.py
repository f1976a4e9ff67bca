"""What one visitor may ask of this page: sizes, turns, sampling, and the body of a request. How often and how many: visitors.py.

The page runs on a small shared processor. Everything that a visitor can make large has a bound here, and every refusal
is a sentence that says what to do. Nothing in this file knows the model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

MESSAGE_CHARACTERS = 4_000
SYSTEM_CHARACTERS = 1_000
MESSAGES_KEPT = 60  # of a conversation; older ones are left out before the model sees it
CONTEXT_TOKENS = 4_096  # of prompt and answer together, or the model's own context where that is smaller
NEW_TOKENS_LEAST, NEW_TOKENS_DEFAULT, NEW_TOKENS_MOST = 16, 256, 1_024
TEMPERATURE_DEFAULT, TEMPERATURE_MOST = 0.3, 1.5  # at 0.7 a model of 135 M parameters loses the thread
TOP_P_LEAST = 0.05

EVENTS_QUEUED = 64  # gradio's own queue, which also carries the small events of the page's buttons
BODY_BYTES = 2_000_000
BODY_BYTES_READ = 32_000_000  # of a refused body, thrown away: who is cut off in mid-body sees no answer

# The page fetches nothing from elsewhere: a picture or a frame in an answer could tell a stranger who reads it.
CONTENT_POLICY = (
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "frame-src 'none'; object-src 'none'; form-action 'self'"
)

Message = dict[str, str]  # {"role": "user" | "assistant" | "system", "content": text}
Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class Refused(Exception):
    """The page does not answer this message; the text says why and what to do instead."""


class Unavailable(Exception):
    """The model cannot be had; the text says why, for a visitor and for whoever runs the page."""


@dataclass(frozen=True)
class Sampling:
    """How the answer is drawn. Temperature 0 means greedy. Without a seed nobody can draw it again."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int | None = None


def checked_sampling(temperature: object, top_p: object, max_new_tokens: object) -> Sampling:
    """The sliders' values; the API can send anything, so the bounds hold here as well. Raises Refused."""
    return Sampling(
        temperature=_number("temperature", temperature, 0, TEMPERATURE_MOST),
        top_p=_number("top_p", top_p, TOP_P_LEAST, 1),
        max_new_tokens=int(_number("max_new_tokens", max_new_tokens, NEW_TOKENS_LEAST, NEW_TOKENS_MOST)),
    )


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise Refused(f"{name} must be a number from {least:g} to {most:g}.")
    return float(value)


def checked_conversation(message: object, history: object, system_prompt: object) -> tuple[list[Message], int]:
    """The conversation as the model's messages, system prompt first if there is one, and how many older ones were left out.

    At most MESSAGES_KEPT stand before the new message.

    `history` is gradio's: entries with a role and content, a text or a list of {"type": "text", "text": ...}.
    Raises Refused for a message that is empty or too long.
    """
    if not isinstance(message, str) or not message.strip():
        raise Refused("Type a message first.")
    _check_length("This message", message, MESSAGE_CHARACTERS)
    if not isinstance(system_prompt, str):
        raise Refused("The system prompt must be a text.")
    _check_length("The system prompt", system_prompt, SYSTEM_CHARACTERS)
    earlier = [_plain(entry) for entry in history] if isinstance(history, list) else []
    for entry in earlier:
        if entry["role"] == "user":
            _check_length("An earlier message of this conversation", entry["content"], MESSAGE_CHARACTERS)
    answered = _without_unanswered([entry for entry in earlier if entry["content"]])
    recent = answered[-MESSAGES_KEPT:]
    while recent and recent[0]["role"] == "assistant":  # a conversation begins with its user
        recent = recent[1:]
    system = [{"role": "system", "content": system_prompt.strip()}] if system_prompt.strip() else []
    return [*system, *recent, {"role": "user", "content": message}], len(answered) - len(recent)


def _plain(entry: object) -> Message:
    if not isinstance(entry, dict) or entry.get("role") not in ("user", "assistant"):
        raise Refused("A conversation holds messages of the roles user and assistant only. Start a new one.")
    content = entry.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "\n".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str):
        raise Refused("This page takes text only.")
    return {"role": entry["role"], "content": content}


def _without_unanswered(messages: list[Message]) -> list[Message]:
    """Leave out a user's message that the next one follows directly: it was stopped or refused before an answer."""
    roles = [message["role"] for message in messages]
    return [
        message
        for message, role, next_role in zip(messages, roles, [*roles[1:], "user"], strict=False)
        if not (role == "user" and next_role == "user")
    ]


def _check_length(what: str, text: str, most: int) -> None:
    if len(text) > most:
        raise Refused(f"{what} has {len(text):,} characters; the most is {most:,}. Shorten it.")


class GuardedApp:
    """ASGI middleware: refuses bodies over BODY_BYTES before anything parses them, and sends CONTENT_POLICY."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_policy(event: Event) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [
                    *event.get("headers", []),
                    (b"content-security-policy", CONTENT_POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(event)

        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send_with_policy)
            return
        received: list[Event] = []
        size = 0
        while True:
            event = await receive()
            size += len(event.get("body", b""))
            if size <= BODY_BYTES:
                received.append(event)
            else:
                received.clear()
            if size > BODY_BYTES_READ or event["type"] != "http.request" or not event.get("more_body", False):
                break
        if size > BODY_BYTES:
            await _refuse_body(send_with_policy)
            return

        async def replay() -> Event:
            return received.pop(0) if received else await receive()

        await self._app(scope, replay, send_with_policy)


async def _refuse_body(send: Send) -> None:
    text = f'{{"detail": "The request is larger than {BODY_BYTES:,} bytes. Start a new conversation."}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": text})
