"""The server keeps what /openapi.json promises, to valid and to invalid requests alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.openapi.checks import UndefinedStatusCode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.conftest import running_server
from tests.support.api import make_app
from tests.support.scripted_engine import ScriptedEngine

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
QUICK = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
OPERATIONS = [
    (path, method, "requestBody" in operation)
    for path, methods in make_app(ScriptedEngine()).openapi()["paths"].items()
    for method, operation in methods.items()
]


@pytest.fixture(scope="module")
def url(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server, whose answers are kept short."""
    log = tmp_path_factory.mktemp("schemathesis") / "log"
    with running_server(str(tiny_gguf), "--max-output-tokens", "4", log=log) as (address, _):
        yield address


@pytest.fixture(scope="module")
def api(url: str) -> BaseSchema:
    """What it says of itself."""
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


def probe(api: BaseSchema, path: str, method: str, mode: GenerationMode) -> None:
    @QUICK
    @given(case=api[path][method].as_strategy(mode))
    def run(case: Case[Any]) -> None:
        case.call_and_validate(checks=CHECKS)

    run()


@pytest.mark.parametrize(("path", "method"), [operation[:2] for operation in OPERATIONS])
def test_valid_requests_get_what_is_promised(api: BaseSchema, path: str, method: str) -> None:
    probe(api, path, method, GenerationMode("positive"))


@pytest.mark.parametrize(("path", "method"), [operation[:2] for operation in OPERATIONS if operation[2]])
def test_invalid_requests_are_refused_as_is_promised(api: BaseSchema, path: str, method: str) -> None:
    probe(api, path, method, GenerationMode("negative"))


def test_a_status_that_is_not_promised_would_be_noticed(url: str) -> None:
    page = httpx.get(f"{url}/openapi.json").json()
    del page["paths"]["/v1/models/{name}"]["get"]["responses"]["404"]
    case = schemathesis.openapi.from_dict(page)["/v1/models/{name}"]["get"].Case(path_parameters={"name": "nobody"})
    with pytest.raises(FailureGroup) as caught:
        case.call_and_validate(base_url=url, checks=[status_code_conformance])
    assert [type(one) for one in caught.value.exceptions] == [UndefinedStatusCode]
