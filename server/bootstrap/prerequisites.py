"""Things that settings only refer to: the file of API keys, and the extra that traces need.

A fault there should show before anything is loaded or converted, so this is quick to import.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

from glmserve.bootstrap.plans import AssemblyError
from glmserve.config.schema import Settings
from glmserve.http.api_keys import ApiKeyStore, parse_keys
from glmserve.http.request_record import Limits

if TYPE_CHECKING:
    from glmserve.http.middleware.request_log import SpanWriter


def check_prerequisites(settings: Settings) -> None:
    """Look for all that ``settings`` refer to.

    Raises:
        AssemblyError: a key is not written as one, their file cannot be read, or what traces need is not installed.
    """
    read_keys(settings)
    if settings.tracing:
        span_maker()


def limits_of(settings: Settings) -> Limits:
    """Return the limits of a key that does not say its own."""
    return Limits(settings.key_requests, settings.key_tokens, settings.key_concurrent)


def read_keys(settings: Settings) -> ApiKeyStore:
    """Return the keys of the settings and of their file. Raises AssemblyError."""
    file, limits = settings.api_key_file, limits_of(settings)
    try:
        lines = [] if file is None else file.read_text("utf-8").splitlines()
        given, in_file = parse_keys(settings.api_key, limits, "--api-key"), parse_keys(lines, limits, str(file))
        if file is not None and not in_file:
            raise AssemblyError(f"{file}: there is no key in it")
        if settings.api_key and not given:
            raise AssemblyError("--api-key: there is no key in it")
        return ApiKeyStore(given + in_file)
    except OSError as error:
        raise AssemblyError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise AssemblyError(str(error)) from None


def span_maker() -> "Callable[[], SpanWriter]":
    """Return the factory of span writers.

    Raises AssemblyError where the extra is not installed.
    """
    try:
        from glmserve.observability.otel import RequestSpans, exporter  # noqa: PLC0415 - not even imported where nobody asks for it
    except ImportError as error:
        raise AssemblyError(f"--tracing needs the extra otel: pip install 'glmserve[otel]' ({error})") from None
    return lambda: RequestSpans(exporter(), version("glmserve"))
