"""Every metric of ``/metrics``: name, type and help. ``docs/metrics.md`` is made from this list.

The names after the prefix are vLLM's where vLLM has the figure, so that a dashboard made for one needs nothing but
the other prefix.
"""

from dataclasses import dataclass
from enum import Enum

PREFIX = "glmserve:"

MODEL = "model_name"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
_SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 10.0)


class MetricKind(str, Enum):
    """As Prometheus calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One figure."""

    name: str
    """Without the prefix; that of a counter without ``_total`` too."""
    kind: MetricKind
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
        return self.full_name + ("_total" if self.kind is MetricKind.COUNTER else "")


RUNNING = MetricSpec("num_requests_running", MetricKind.GAUGE, "Sequences that the engine computes now.")
WAITING = MetricSpec("num_requests_waiting", MetricKind.GAUGE, "Sequences that wait in the engine.")
CACHE_USAGE = MetricSpec(
    "kv_cache_usage_perc",
    MetricKind.GAUGE,
    "Share of the KV cache that running sequences have reserved; 1 is all of it.",
)
CACHE_FILLED = MetricSpec(
    "kv_cache_filled_perc", MetricKind.GAUGE, "Share of the KV cache that holds anything, cached prefixes included."
)
PREFIX_QUERIES = MetricSpec(
    "prefix_cache_queries", MetricKind.COUNTER, "Prompt tokens that were looked for in the prefix cache."
)
PREFIX_HITS = MetricSpec("prefix_cache_hits", MetricKind.COUNTER, "Prompt tokens that were found there.")
DRAFTED = MetricSpec("spec_decode_num_draft_tokens", MetricKind.COUNTER, "Tokens that were guessed and computed along.")
ACCEPTED = MetricSpec("spec_decode_num_accepted_tokens", MetricKind.COUNTER, "Guessed tokens that came true.")
RESTARTS = MetricSpec("engine_restarts", MetricKind.COUNTER, "Times that the engine process died and was started anew.")
RESUMED = MetricSpec("engine_resumed_requests", MetricKind.COUNTER, "Answers that a fresh engine process went on with.")
READY = MetricSpec(
    "engine_ready", MetricKind.GAUGE, "1 where requests are taken now, or would have the model loaded; else 0."
)

ENGINE_METERS = (
    RUNNING, WAITING, CACHE_USAGE, CACHE_FILLED, PREFIX_QUERIES, PREFIX_HITS, DRAFTED, ACCEPTED, RESTARTS, RESUMED,
    READY,
)  # fmt: skip
"""Metrics collected at a scrape; counters of an engine process restart at 0 with the next process."""

RECEIVED = MetricSpec(
    "requests_received", MetricKind.COUNTER, "Requests for an answer, each of which ends as one of the next four.", ()
)
SUCCESS = MetricSpec(
    "request_success", MetricKind.COUNTER,
    "Requests that were answered; length: an answer was cut off, stop: none was.", (MODEL, "finished_reason"),
)  # fmt: skip
ABORTED = MetricSpec("request_aborted", MetricKind.COUNTER, "Requests whose caller hung up.")
REFUSED = MetricSpec(
    "request_refused", MetricKind.COUNTER, "Requests that were refused (4xx), by the code of the error.", ("reason",)
)
FAILED = MetricSpec(
    "request_failed", MetricKind.COUNTER, "Requests that the server could not answer (5xx), by the code of the error.",
    (MODEL, "reason"),
)  # fmt: skip
PROMPT_TOKENS = MetricSpec("prompt_tokens", MetricKind.COUNTER, "Tokens of prompts, cached ones included.")
GENERATION_TOKENS = MetricSpec("generation_tokens", MetricKind.COUNTER, "Tokens of answers.")
WASTED_TOKENS = MetricSpec(
    "wasted_tokens",
    MetricKind.COUNTER,
    "Tokens of prompts and answers, of those above, of requests that were not answered.",
)
TTFT = MetricSpec(
    "time_to_first_token_seconds",
    MetricKind.HISTOGRAM,
    "From the arrival of a request to its first token.",
    (MODEL,),
    _SECONDS,
)
INTER_TOKEN = MetricSpec(
    "inter_token_latency_seconds", MetricKind.HISTOGRAM,
    "Between the tokens of an answer; guessed ones that come together count as one.", (MODEL,), _SHORT_SECONDS,
)  # fmt: skip
END_TO_END = MetricSpec(
    "e2e_request_latency_seconds", MetricKind.HISTOGRAM, "From the arrival of a request that was answered to its end.",
    (MODEL,), _SECONDS,
)  # fmt: skip
QUEUE = MetricSpec(
    "request_queue_time_seconds",
    MetricKind.HISTOGRAM,
    "That a request waited in the engine before it ran.",
    (MODEL,),
    _SECONDS,
)
KEY_REQUESTS = MetricSpec(
    "key_requests", MetricKind.COUNTER, "Requests for an answer by API key, where there are keys.", ("key", "outcome")
)
KEY_TOKENS = MetricSpec("key_tokens", MetricKind.COUNTER, "Tokens of prompts and answers by API key.", ("key",))
HTTP = MetricSpec(
    "http_requests", MetricKind.COUNTER, "All HTTP requests; the route of an unknown address is other.",
    ("route", "method", "status"),
)  # fmt: skip

REQUEST_METERS = (
    RECEIVED, SUCCESS, ABORTED, REFUSED, FAILED, PROMPT_TOKENS, GENERATION_TOKENS, WASTED_TOKENS,
    TTFT, INTER_TOKEN, END_TO_END, QUEUE, KEY_REQUESTS, KEY_TOKENS, HTTP,
)  # fmt: skip
"""Counted where requests come in."""
