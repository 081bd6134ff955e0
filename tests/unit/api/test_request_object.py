"""One declaration of each field: what a model and its tables say of the fields of a request."""

import pytest

from glmserve.api.common.base import RequestObject, parse
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected
from glmserve.http.errors import InvalidRequest
from glmserve.http.request_record import IGNORED_FIELDS, RequestRecord, enter_request


class Body(RequestObject):
    policy = FieldPolicy((Ignored("user", "nothing is counted"),), (Rejected("audio", (0,), "use text"),))

    text: str | None = None


@pytest.mark.parametrize("policy", [FieldPolicy(ignored=(Ignored("n"),)), FieldPolicy(rejected=(Rejected("n"),))])
def test_a_field_cannot_be_declared_and_be_in_a_table(policy: FieldPolicy) -> None:
    with pytest.raises(TypeError, match=r"Twice declares fields that its policy ignores or rejects: \['n'\]"):
        type("Twice", (Body,), {"__annotations__": {"n": int | None}, "n": None, "policy": policy})


def test_a_field_is_supported_because_the_model_declares_it() -> None:
    record = RequestRecord()
    enter_request(record)
    parse(Body, {"text": "x", "user": 1, "audio": 0, "other": 1})
    assert record.listed == {IGNORED_FIELDS: ["other"]}
    enter_request(RequestRecord())


def test_a_rejected_field_says_what_to_use() -> None:
    with pytest.raises(InvalidRequest, match=r"audio is not supported by this server \(use text\)") as caught:
        parse(Body, {"audio": 1})
    assert caught.value.param == "audio"


def test_the_schema_has_every_known_field_with_its_description() -> None:
    schema = Body.model_json_schema()
    assert set(schema["properties"]) == Body.known_fields()
    assert schema["properties"]["user"] == {"description": "Accepted without effect. Nothing is counted."}
    assert schema["properties"]["audio"]["description"] == "Not supported. Use text."
    assert schema["properties"]["audio"]["anyOf"][0] == {"enum": [0, "", None]}
