"""Every figure at ``/metrics``: its name, its kind and what it says. ``docs/metrics.md`` is made from this list.

The names after the prefix are vLLM's where vLLM has the figure, so that a dashboard made for one needs nothing but
the other prefix.
"""

from dataclasses import dataclass
from enum import Enum

PREFIX = "glmserve:"

MODEL = "model_name"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
_SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 10.0)


class Kind(str, Enum):
    """As Prometheus calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Meter:
    """One figure."""

    name: str
    """Without the prefix; that of a counter without ``_total`` too."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = (MODEL,)
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """As Prometheus' client library takes it."""
        return PREFIX + self.name

    @property
    def exposed_name(self) -> str:
        """As it is read at ``/metrics``."""
        return self.full_name + ("_total" if self.kind is Kind.COUNTER else "")


RUNNING = Meter("num_requests_running", Kind.GAUGE, "Sequences that the engine computes now.")
WAITING = Meter("num_requests_waiting", Kind.GAUGE, "Sequences that wait in the engine.")
CACHE_USAGE = Meter(
    "kv_cache_usage_perc", Kind.GAUGE, "Share of the KV cache that running sequences have reserved; 1 is all of it."
)
CACHE_FILLED = Meter(
    "kv_cache_filled_perc", Kind.GAUGE, "Share of the KV cache that holds anything, cached prefixes included."
)
PREFIX_QUERIES = Meter("prefix_cache_queries", Kind.COUNTER, "Prompt tokens that were looked for in the prefix cache.")
PREFIX_HITS = Meter("prefix_cache_hits", Kind.COUNTER, "Prompt tokens that were found there.")
DRAFTED = Meter("spec_decode_num_draft_tokens", Kind.COUNTER, "Tokens that were guessed and computed along.")
ACCEPTED = Meter("spec_decode_num_accepted_tokens", Kind.COUNTER, "Guessed tokens that came true.")
RESTARTS = Meter("engine_restarts", Kind.COUNTER, "Times that the engine process died and was started anew.")
RESUMED = Meter("engine_resumed_requests", Kind.COUNTER, "Answers that a fresh engine process went on with.")
READY = Meter("engine_ready", Kind.GAUGE, "1 where requests are taken now, or would have the model loaded; else 0.")

ENGINE_METERS = (
    RUNNING, WAITING, CACHE_USAGE, CACHE_FILLED, PREFIX_QUERIES, PREFIX_HITS, DRAFTED, ACCEPTED, RESTARTS, RESUMED,
    READY,
)  # fmt: skip
"""Asked of the engines when somebody looks; those of an engine process begin at 0 again with the next process."""

RECEIVED = Meter(
    "requests_received", Kind.COUNTER, "Requests for an answer, each of which ends as one of the next four.", ()
)
SUCCESS = Meter(
    "request_success", Kind.COUNTER,
    "Requests that were answered; length: an answer was cut off, stop: none was.", (MODEL, "finished_reason"),
)  # fmt: skip
ABORTED = Meter("request_aborted", Kind.COUNTER, "Requests whose caller hung up.")
REFUSED = Meter(
    "request_refused", Kind.COUNTER, "Requests that were refused (4xx), by the code of the error.", ("reason",)
)
FAILED = Meter(
    "request_failed", Kind.COUNTER, "Requests that the server could not answer (5xx), by the code of the error.",
    (MODEL, "reason"),
)  # fmt: skip
PROMPT_TOKENS = Meter("prompt_tokens", Kind.COUNTER, "Tokens of prompts, cached ones included.")
GENERATION_TOKENS = Meter("generation_tokens", Kind.COUNTER, "Tokens of answers.")
WASTED_TOKENS = Meter(
    "wasted_tokens", Kind.COUNTER, "Tokens of prompts and answers, of those above, of requests that were not answered."
)
TTFT = Meter(
    "time_to_first_token_seconds",
    Kind.HISTOGRAM,
    "From the arrival of a request to its first token.",
    (MODEL,),
    _SECONDS,
)
INTER_TOKEN = Meter(
    "inter_token_latency_seconds", Kind.HISTOGRAM,
    "Between the tokens of an answer; guessed ones that come together count as one.", (MODEL,), _SHORT_SECONDS,
)  # fmt: skip
END_TO_END = Meter(
    "e2e_request_latency_seconds", Kind.HISTOGRAM, "From the arrival of a request that was answered to its end.",
    (MODEL,), _SECONDS,
)  # fmt: skip
QUEUE = Meter(
    "request_queue_time_seconds",
    Kind.HISTOGRAM,
    "That a request waited in the engine before it ran.",
    (MODEL,),
    _SECONDS,
)
KEY_REQUESTS = Meter(
    "key_requests", Kind.COUNTER, "Requests for an answer by API key, where there are keys.", ("key", "outcome")
)
KEY_TOKENS = Meter("key_tokens", Kind.COUNTER, "Tokens of prompts and answers by API key.", ("key",))
HTTP = Meter(
    "http_requests", Kind.COUNTER, "All HTTP requests; the route of an unknown address is other.",
    ("route", "method", "status"),
)  # fmt: skip

REQUEST_METERS = (
    RECEIVED, SUCCESS, ABORTED, REFUSED, FAILED, PROMPT_TOKENS, GENERATION_TOKENS, WASTED_TOKENS,
    TTFT, INTER_TOKEN, END_TO_END, QUEUE, KEY_REQUESTS, KEY_TOKENS, HTTP,
)  # fmt: skip
"""Counted where requests come in."""
