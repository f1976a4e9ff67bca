"""One request to the Hub: who asks, for which repository, with what; and how handlers become routes.

def repo_info(call: Call) -> Response:                 # runs in a thread, so it may touch the disk
    repository = call.repository()                     # or the refusal that its absence deserves
routes = [json_route("/api/{kind:kinds}/{org}/{name}", repo_info)]
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, unquote

from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from release.local_hub.access import require_access
from release.local_hub.bodies import body_blocks
from release.local_hub.callers import caller_of, require_own_name
from release.local_hub.fields import parsed, whole_number
from release.local_hub.refusals import Damaged, Moved, Refusal
from release.local_hub.repository import Repository, passed_over
from release.local_hub.store import Store
from release.local_hub.webhook_delivery import Deliveries

JSON_LIMIT = 2 << 20  # bytes of a request's JSON that is not an upload
URL_PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


KINDS_IN_PATHS = ("models", "datasets", "spaces")


class _Kinds(StringConvertor):
    regex = "|".join(KINDS_IN_PATHS)


register_url_convertor("kinds", _Kinds())


class Call:
    """A request, with the store it is about and the caller who makes it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        require_own_name(request)
        self.store: Store = request.app.state.store
        self.caller = caller_of(request, self.store)
        self.body = b""

    @property
    def deliveries(self) -> Deliveries:
        """What sends this server's webhooks."""
        found: Deliveries = self.request.app.state.deliveries
        return found

    @property
    def endpoint(self) -> str:
        """This server's address as the client wrote it, for the links in answers."""
        return f"{self.request.url.scheme}://{self.request.url.netloc}"

    @property
    def query(self) -> Any:
        return self.request.query_params

    def param(self, name: str) -> str:
        """A part of the path, decoded: a revision such as refs%2Fpr%2F1 arrives as one part."""
        return unquote(str(self.request.path_params[name]))

    @property
    def kind(self) -> str:
        return self.param("kind").removesuffix("s") if "kind" in self.request.path_params else "model"

    @property
    def repo_id(self) -> str:
        return f"{self.param('org')}/{self.param('name')}"

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty object."""
        return parsed(self.body)

    def offers(self, *names: str) -> None:
        """Raises 400 for a parameter of the query that is none of these: an answer as if it had not been asked for misleads."""
        for key in self.query:
            if key.removesuffix("[]") not in names:
                raise Refusal(400, f"This Hub's list does not offer {key[:40]!r}; it knows {', '.join(names)}")

    def number(self, key: str, default: int) -> int:
        """A number of the query. Raises 400 for what is none."""
        text = self.query.get(key)
        found = default if text is None else whole_number(text)
        if found is None:
            raise Refusal(400, f"Not a number: {key}={text[:40]!r}")
        return found

    def repository(self, *, write: bool = False, content: bool = False) -> Repository:
        """The repository in the path. Raises the Hub's refusals for missing, private, gated and foreign ones, and Moved.

        `content`: the answer has what files say, and not only that they are there.
        """
        return self.by_its_name(self.find(self.kind, self.repo_id, write=write, content=content))

    def by_its_name(self, repository: Repository) -> Repository:
        """The repository, where the path has the name that it bears. Raises Moved to the same address under that name, as the
        Hub does for one that was moved."""
        parts = str(self.request.scope["path"]).split("/")
        place = 2 if parts[1] == "api" else 1
        place += parts[place] in KINDS_IN_PATHS
        git = ".git" if self.param("name").endswith(".git") else ""
        asked = f"{self.param('org')}/{self.param('name').removesuffix('.git')}"
        if asked.lower() == repository.id.lower():
            return repository
        org, name = repository.id.split("/")
        location = "/".join([*parts[:place], org, name + git, *parts[place + 2 :]])
        query = self.request.scope["query_string"].decode("latin-1")
        raise Moved(location + (f"?{query}" if query else ""))

    def find(self, kind: str, repo_id: str, *, write: bool = False, content: bool = False) -> Repository:
        try:
            repository = self.store.find(kind, repo_id)
            if repository is not None and repository.private and not self.caller.may_read(repository.namespace):
                repository = None
        except Damaged:
            if self.caller.may_read(repo_id.partition("/")[0]):
                raise  # nobody else is told: it may be private
            repository = None
        except Refusal:
            repository = None  # a name that no repository can have
        if repository is None:
            raise self.missing()
        if content:
            require_access(repository, self.caller, self.web_url(repository))
        if write:
            self.require_write(repository.namespace, f"write to {kind} {repository.id}")
        return repository

    def found(self, kind: str, repo_id: str) -> Repository | None:
        """One among many: None for what is not there, the caller may not see, or cannot be read."""
        try:
            return self.find(kind, repo_id)
        except Refusal:
            return None

    def may_see(self, repository: Repository) -> bool:
        """Whether a list may tell the caller of it."""
        try:
            return self.caller.may_read(repository.namespace) or not repository.private
        except Damaged as error:
            passed_over(repository, error)
            return False

    def missing(self) -> Refusal:
        """Missing and private look the same; to the anonymous both are 401, as a login might help."""
        if self.caller.user is None:
            return Refusal(401, "Invalid username or password.", "RepoNotFound")
        return Refusal(404, "Repository not found", "RepoNotFound")

    def require_user(self) -> str:
        if self.caller.user is None:
            raise Refusal(401, "Invalid username or password.")
        return self.caller.user

    def require_write(self, namespace: str, action: str) -> str:
        """The user's name, if they may write in the namespace with this token."""
        user = self.require_user()
        if not self.caller.may_write(namespace):
            reason = (
                "the token has no write scope" if self.caller.scope != "write" else "it is somebody else's namespace"
            )
            raise Refusal(403, f"You don't have the rights to {action}: {reason}")
        return user

    def require_write_token(self, action: str) -> str:
        """The user's name, if the token may change anything at all."""
        user = self.require_user()
        if self.caller.scope != "write":
            raise Refusal(403, f"You don't have the rights to {action}: the token has no write scope")
        return user

    def web_url(self, repository: Repository) -> str:
        return f"{self.endpoint}/{URL_PREFIX[repository.kind]}{repository.id}"

    def next_link(self, **parameters: str) -> dict[str, str]:
        """The Link header that leads to the next page of this listing."""
        query = [(key, value) for key, value in self.query.multi_items() if key not in parameters]
        text = "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in [*query, *parameters.items()])
        return {"Link": f'<{self.endpoint}{self.request.scope["path"]}?{text}>; rel="next"'}


Handler = Callable[[Call], Response]
StreamHandler = Callable[[Call], Awaitable[Response]]


def json_route(path: str, handler: Handler, methods: tuple[str, ...] = ("GET",), limit: int = JSON_LIMIT) -> Route:
    """A handler that runs in a thread after its body, at most `limit` bytes, has been read."""

    async def endpoint(request: Request) -> Response:
        call = await run_in_threadpool(Call, request)
        if request.method not in {"GET", "HEAD"}:
            call.body = b"".join([block async for block in body_blocks(request, limit)])
        return await run_in_threadpool(handler, call)

    return Route(path, endpoint, methods=list(methods), name=handler.__name__)


def stream_route(path: str, handler: StreamHandler, methods: tuple[str, ...]) -> Route:
    """A handler that reads its body itself, as it arrives."""

    async def endpoint(request: Request) -> Response:
        return await handler(await run_in_threadpool(Call, request))

    return Route(path, endpoint, methods=list(methods), name=handler.__name__)
