"""The page that says what the server takes and gives: complete, and made from the types that the code uses."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, create_model
from typing_extensions import TypedDict

from glmserve.http.errors import ModelNotFound
from glmserve.http.openapi import documented, openapi_of
from tests.support.api import make_app
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio


class Body(BaseModel):
    text: str


class Reply(TypedDict):
    length: int


def page_of(*routes: tuple[str, object, object]) -> dict[str, Any]:
    app = FastAPI(openapi_url=None)
    for path, reply, body in routes:
        app.add_api_route(path, lambda: None, methods=["POST"], **documented(reply, body, errors=(ModelNotFound,)))
    return openapi_of(app, app.routes)


async def test_the_page_is_served_and_every_reference_leads_somewhere(http: httpx.AsyncClient) -> None:
    page = (await http.get("/openapi.json")).json()
    assert page["info"]["title"] == "glmserve"
    references = json.dumps(page).split('"$ref": "#/components/schemas/')[1:]
    assert {name.partition('"')[0] for name in references} <= set(page["components"]["schemas"])


def test_every_route_says_what_it_gives_and_every_posted_body_what_it_is() -> None:
    page = make_app(ScriptedEngine()).openapi()
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            what = f"{method} {path}: documented(…) is missing"
            assert "500" in operation["responses"], what
            for content in operation["responses"]["200"]["content"].values():
                assert content.get("schema") or content["itemSchema"], what
            assert ("requestBody" in operation) == (method == "post" and not path.endswith("/cancel")), what


def test_a_route_is_documented_by_its_types_and_errors() -> None:
    page = page_of(("/measure", Reply, Body))
    operation = page["paths"]["/measure"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Body"}
    assert set(operation["responses"]) == {"200", "400", "401", "404", "413", "429", "431", "500", "503", "504"}
    assert "model_not_found" in operation["responses"]["404"]["description"]
    assert set(page["components"]["schemas"]) == {"Body", "Reply", "ErrorEnvelope", "ErrorObject"}


def test_two_types_of_one_name_are_a_mistake() -> None:
    other = create_model("Body", number=(int, ...))
    with pytest.raises(ValueError, match="two schemas have the name Body"):
        page_of(("/one", Reply, Body), ("/two", Reply, other))


async def test_a_chat_request_is_described_with_the_fields_that_are_not_honoured(http: httpx.AsyncClient) -> None:
    fields = (await http.get("/openapi.json")).json()["components"]["schemas"]["ChatRequest"]
    assert fields["properties"]["best_of"]["anyOf"][0] == {"enum": [1, "", None]}
    assert fields["properties"]["user"]["description"] == "Accepted without effect."
    assert "x-glmserve-ignored-fields" in fields["additionalProperties"]["description"]
