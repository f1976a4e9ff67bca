"""The Hub as one ASGI application: every route of the protocol, and the pages for people.

app = create_app(Store(Path("hub")))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response

from release.local_hub import (
    card_check,
    routes_access,
    routes_collections,
    routes_commit,
    routes_discussions,
    routes_git,
    routes_lfs,
    routes_lists,
    routes_repos,
    routes_resolve,
    routes_spaces,
    routes_tree,
    routes_webhooks,
    routes_xet,
)
from release.local_hub.answers import ERROR_HANDLERS, HubMiddleware
from release.local_hub.pages import routes as page_routes
from release.local_hub.refusals import Refusal
from release.local_hub.store import Store
from release.local_hub.web import Call, json_route
from release.local_hub.webhook_delivery import Deliveries

NO_SPACES = ("hardware", "templates", "semantic-search")  # what clients ask for beneath /api/spaces, and not by name
ANY = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")


def create_app(
    store: Store,
    ready: str | None = None,
    *,
    reach_private: bool = False,
    answers_to: Callable[[str], bool] | None = None,
) -> Starlette:
    """The application that serves `store`; it prints `ready` when it starts to answer.

    `reach_private`: whether webhooks may lead to this machine and to private networks. `answers_to`: whether it is asked by a
    name of its own (the Host header); without it by every name.
    """
    deliveries = Deliveries(store.root, private=reach_private)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if ready:
            print(ready, flush=True)
        yield
        deliveries.close()

    routes = [
        *routes_repos.routes,
        *routes_lists.routes,
        *routes_tree.routes,
        *routes_commit.routes,
        *routes_lfs.routes,
        *routes_discussions.routes,
        *routes_spaces.routes,
        *routes_access.routes,
        *routes_collections.routes,
        *routes_webhooks.routes,
        *routes_xet.routes,
        *card_check.routes,
        *routes_resolve.routes,
        *routes_git.routes,
        json_route("/api/{kind:kinds}/{rest:path}", unknown_repository, ANY),
        json_route("/api/{rest:path}", unknown, ANY),
        *page_routes.routes,
        json_route("/{rest:path}", unknown, ANY),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(HubMiddleware)],
        exception_handlers=ERROR_HANDLERS,
        lifespan=lifespan,
    )
    app.state.store, app.state.deliveries, app.state.answers_to = store, deliveries, answers_to
    return app


def unknown_repository(call: Call) -> Response:
    """An address beneath /api/models and its like: the repository is missing, or this Hub lacks the feature."""
    org, _, rest = call.param("rest").partition("/")
    if call.kind == "space" and call.param("rest") in NO_SPACES:
        return unknown(call)
    call.find(call.kind, f"{org}/{rest.partition('/')[0]}")
    return unknown(call)


def unknown(call: Call) -> Response:
    refusal = Refusal(404, "This Hub does not offer this address")
    if page_routes.wants_page(call):
        return page_routes.refusal_page(call, refusal)
    raise refusal
