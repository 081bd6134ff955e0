"""Every metric of ``/metrics``: name, type and help. ``docs/metrics.md`` is made from this list.

The names after the prefix are vLLM's where vLLM has the metric, so a dashboard for vLLM needs only another prefix.
"""

from dataclasses import dataclass
from enum import Enum

PREFIX = "glmserve:"

MODEL = "model_name"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
_SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 10.0)


class MetricKind(str, Enum):
    """Prometheus metric types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """Definition of one metric."""

    name: str
    """Name without the prefix, and without a counter's ``_total``."""
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = (MODEL,)
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """Name for Prometheus' client library."""
        return PREFIX + self.name

    @property
    def exposed_name(self) -> str:
        """Name at ``/metrics``."""
        return self.full_name + ("_total" if self.kind is MetricKind.COUNTER else "")


RUNNING = MetricSpec("num_requests_running", MetricKind.GAUGE, "Number of sequences the engine is computing.")
WAITING = MetricSpec("num_requests_waiting", MetricKind.GAUGE, "Number of sequences waiting in the engine.")
CACHE_USAGE = MetricSpec(
    "kv_cache_usage_perc",
    MetricKind.GAUGE,
    "Fraction of the KV cache reserved by running sequences, 0 to 1.",
)
CACHE_FILLED = MetricSpec(
    "kv_cache_filled_perc", MetricKind.GAUGE, "Fraction of the KV cache in use, cached prefixes included, 0 to 1."
)
PREFIX_QUERIES = MetricSpec("prefix_cache_queries", MetricKind.COUNTER, "Prompt tokens looked up in the prefix cache.")
PREFIX_HITS = MetricSpec("prefix_cache_hits", MetricKind.COUNTER, "Prompt tokens found in the prefix cache.")
PROMPTS_SAVED = MetricSpec("prompt_disk_saved", MetricKind.COUNTER, "Prompts with their answers that were saved.")
PROMPTS_RESTORED = MetricSpec("prompt_disk_restored", MetricKind.COUNTER, "Saved prompts that were read again.")
DRAFTED = MetricSpec("spec_decode_num_draft_tokens", MetricKind.COUNTER, "Draft tokens of speculative decoding.")
ACCEPTED = MetricSpec("spec_decode_num_accepted_tokens", MetricKind.COUNTER, "Draft tokens that were accepted.")
RESTARTS = MetricSpec("engine_restarts", MetricKind.COUNTER, "Restarts of the engine process after it died.")
RESUMED = MetricSpec(
    "engine_resumed_requests", MetricKind.COUNTER, "Answers continued by a new engine process after a restart."
)
READY = MetricSpec(
    "engine_ready", MetricKind.GAUGE, "1 if the model accepts requests, or would be loaded by one; else 0."
)

ENGINE_METRICS = (
    RUNNING, WAITING, CACHE_USAGE, CACHE_FILLED, PREFIX_QUERIES, PREFIX_HITS, PROMPTS_SAVED, PROMPTS_RESTORED,
    DRAFTED, ACCEPTED, RESTARTS, RESUMED, READY,
)  # fmt: skip
"""Metrics collected at a scrape; counters of an engine process restart at 0 with the next process."""

RECEIVED = MetricSpec(
    "requests_received",
    MetricKind.COUNTER,
    "Requests received; each is then counted in one of the next four metrics.",
    (),
)
SUCCESS = MetricSpec(
    "request_success", MetricKind.COUNTER,
    "Completed requests; length if an answer reached its token limit, else stop.", (MODEL, "finished_reason"),
)  # fmt: skip
ABORTED = MetricSpec("request_aborted", MetricKind.COUNTER, "Requests whose client disconnected.")
REJECTED = MetricSpec("request_refused", MetricKind.COUNTER, "Requests rejected with 4xx, by error code.", ("reason",))
FAILED = MetricSpec(
    "request_failed", MetricKind.COUNTER, "Requests failed with 5xx, by error code.",
    (MODEL, "reason"),
)  # fmt: skip
PROMPT_TOKENS = MetricSpec("prompt_tokens", MetricKind.COUNTER, "Prompt tokens, cached ones included.")
GENERATION_TOKENS = MetricSpec("generation_tokens", MetricKind.COUNTER, "Generated tokens.")
WASTED_TOKENS = MetricSpec(
    "wasted_tokens",
    MetricKind.COUNTER,
    "Prompt and generated tokens of requests that did not complete; part of the two counters above.",
)
TTFT = MetricSpec(
    "time_to_first_token_seconds",
    MetricKind.HISTOGRAM,
    "Time from the arrival of a request to its first token, in seconds.",
    (MODEL,),
    _SECONDS,
)
INTER_TOKEN = MetricSpec(
    "inter_token_latency_seconds", MetricKind.HISTOGRAM,
    "Time between tokens of an answer, in seconds; tokens of one step count as one.", (MODEL,), _SHORT_SECONDS,
)  # fmt: skip
END_TO_END = MetricSpec(
    "e2e_request_latency_seconds", MetricKind.HISTOGRAM, "Time from arrival to end of a completed request, in seconds.",
    (MODEL,), _SECONDS,
)  # fmt: skip
QUEUE = MetricSpec(
    "request_queue_time_seconds",
    MetricKind.HISTOGRAM,
    "Time a request waited in the engine before it ran, in seconds.",
    (MODEL,),
    _SECONDS,
)
KEY_REQUESTS = MetricSpec(
    "key_requests", MetricKind.COUNTER, "Requests by API key and outcome, if keys are set.", ("key", "outcome")
)
KEY_TOKENS = MetricSpec("key_tokens", MetricKind.COUNTER, "Prompt and generated tokens by API key.", ("key",))
BATCH_LINES = MetricSpec(
    "batch_lines", MetricKind.COUNTER, "Lines of batches that were answered, or failed.", ("outcome",)
)
HTTP = MetricSpec(
    "http_requests", MetricKind.COUNTER, "All HTTP requests; route is other for an unknown path.",
    ("route", "method", "status"),
)  # fmt: skip

REQUEST_METRICS = (
    RECEIVED, SUCCESS, ABORTED, REJECTED, FAILED, PROMPT_TOKENS, GENERATION_TOKENS, WASTED_TOKENS,
    TTFT, INTER_TOKEN, END_TO_END, QUEUE, KEY_REQUESTS, KEY_TOKENS, BATCH_LINES, HTTP,
)  # fmt: skip
"""Metrics counted per request in the API process."""

BATCHES_RUNNING = MetricSpec(
    "num_batches_running", MetricKind.GAUGE, "Batches whose input is checked, or whose lines are answered.", ()
)
BATCHES_WAITING = MetricSpec("num_batches_waiting", MetricKind.GAUGE, "Batches that wait for their turn.", ())
BATCH_LINES_LEFT = MetricSpec("num_batch_lines_waiting", MetricKind.GAUGE, "Lines of both that have no answer yet.", ())

BATCH_METRICS = (BATCHES_RUNNING, BATCHES_WAITING, BATCH_LINES_LEFT)
"""Metrics of the batches, collected at a scrape."""
