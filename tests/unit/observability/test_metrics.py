"""How requests are told apart when they end, and that the list of figures is what is served and documented."""

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from docs.generate.metrics_page import metrics_page
from glmserve.batches.service import BatchOptions
from glmserve.bootstrap.app import ApiOptions
from glmserve.http.request_context import RequestProgress
from glmserve.http.request_record import RequestRecord
from glmserve.observability.collectors import OutcomeKind, RequestOutcome, outcome_of
from glmserve.observability.metric_definitions import BATCH_METRICS, ENGINE_METRICS, REQUEST_METRICS
from tests.support.api import connect, make_app
from tests.support.scripted_engine import ScriptedEngine


@pytest.mark.parametrize(
    ("status", "complete", "rejection", "failed", "end"),
    [
        (200, True, "", False, RequestOutcome(OutcomeKind.SUCCESS, "stop")),
        (200, False, "", False, RequestOutcome(OutcomeKind.ABORTED)),
        (200, True, "engine_died", True, RequestOutcome(OutcomeKind.FAILED, "engine_died")),
        (200, True, "", True, RequestOutcome(OutcomeKind.FAILED, "internal_error")),
        (400, True, "invalid_value", False, RequestOutcome(OutcomeKind.REJECTED, "invalid_value")),
        (405, True, "", False, RequestOutcome(OutcomeKind.REJECTED, "http_405")),
        (429, True, "queue_full", False, RequestOutcome(OutcomeKind.REJECTED, "queue_full")),
        (499, True, "client_closed_request", False, RequestOutcome(OutcomeKind.ABORTED)),
        (503, True, "engine_died", False, RequestOutcome(OutcomeKind.FAILED, "engine_died")),
        (None, False, "", False, RequestOutcome(OutcomeKind.ABORTED)),
    ],
)
def test_the_end_of_a_request(
    status: int | None, complete: bool, rejection: str, failed: bool, end: RequestOutcome
) -> None:
    record = RequestRecord(rejection=rejection, failed=failed, status=status, complete=complete)
    assert outcome_of(record) == end


def test_an_answer_that_was_cut_off_is_distinguished() -> None:
    record = RequestRecord(
        generations=[RequestProgress("m", 1), RequestProgress("m", 1, cut=True)], status=200, complete=True
    )
    assert outcome_of(record) == RequestOutcome(OutcomeKind.SUCCESS, "length")


def test_the_page_is_made_from_the_list() -> None:
    page = Path(__file__).parents[3] / "docs" / "metrics.md"
    assert page.read_text("utf-8") == metrics_page(), "make docs writes it anew"


@pytest.mark.anyio
async def test_every_figure_of_the_list_is_served_and_no_other(tmp_path: Path) -> None:
    options = ApiOptions(batches=BatchOptions(tmp_path))
    async with connect(make_app(ScriptedEngine(), options)) as http:
        reply: httpx.Response = await http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(reply.text)}
    metrics = {metric.full_name: metric for metric in (*ENGINE_METRICS, *REQUEST_METRICS, *BATCH_METRICS)}
    assert {name: family.type for name, family in families.items()} == {
        name: metric.kind.value for name, metric in metrics.items()
    }
    assert {name: family.documentation for name, family in families.items()} == {
        name: metric.help for name, metric in metrics.items()
    }
