"""Authentication: every path needs a key; without one, /health returns only the status."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from glmserve.http.api_keys import ApiKey, ApiKeyStore
from glmserve.http.error_replies import ErrorRenderer
from glmserve.http.errors import InvalidKey
from glmserve.http.request_record import current_request

_KEY_HEADERS = ("x-api-key", "api-key")

OPEN_PATHS = frozenset({"/health"})
"""Paths of monitoring, which need no key."""


class Authorization:
    """Answers 401 to requests without a valid key, and notes the key of the others in the request's record."""

    def __init__(
        self,
        app: ASGIApp,
        keys: ApiKeyStore,
        renderer: ErrorRenderer,
        public: Callable[[Scope], bool],
        *,
        share_prefixes: bool = False,
    ) -> None:
        """Wrap ``app``; ``public`` tells which further requests need no key.

        With ``share_prefixes`` all keys share the whole prefix cache.
        """
        self._share_prefixes = share_prefixes
        self._app = app
        self._keys = keys
        self._renderer = renderer
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or self._public(scope):
            return await self._app(scope, receive, send)
        secrets, record = _presented(Headers(scope=scope)), current_request()
        key = self._find(secrets)
        if key is not None:
            record.key, record.limits = key.id, key.limits
            record.prefix_owner = "" if self._share_prefixes else key.id
        elif scope["path"] in OPEN_PATHS:
            record.is_known = False
        else:
            return await self._renderer.reply(scope, InvalidKey(given=bool(secrets)))(scope, receive, send)
        return await self._app(scope, receive, send)

    def _find(self, secrets: list[bytes]) -> ApiKey | None:
        found = [key for key in map(self._keys.find, secrets) if key is not None]
        return found[0] if found else None


def _presented(headers: Headers) -> list[bytes]:
    """Return the secrets that a request comes with: OpenAI's clients, Anthropic's and Azure's send them differently."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = [token.strip() if scheme.lower() == "bearer" else "", *(headers.get(name, "") for name in _KEY_HEADERS)]
    return [secret.encode("latin-1") for secret in given if secret]
