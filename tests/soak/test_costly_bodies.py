"""Bodies that cost most for their size, in every field of every address that takes one: pauses and memory, measured.

``SOAK_BODIES`` says how many are tried (1,500 unless set), ``--seed`` which ones.
"""

import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.hostile.conftest import Target, running
from tests.hostile.test_costly_bodies import check_cost
from tests.support.costly_bodies import PLAIN, in_every_field

BODIES = int(os.environ.get("SOAK_BODIES", "1500"))
_ = running


@pytest.fixture
def attacked(running: Target) -> Target:
    return running


def test_no_body_keeps_others_waiting(attacked: Target, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    document = attacked.http.get("/openapi.json").json()
    makers = [
        make
        for path in PLAIN
        for within in (True, False)
        for make in in_every_field(path, _fields(document, path), within=within)
    ]
    random = Random(pytestconfig.getoption("--seed"))
    tried = random.sample(makers, min(BODIES, len(makers)))
    costs = []
    for make in tried:
        costs.append(check_cost(attacked, make()))
    attacked.answers()
    print(f"\n{len(tried)} of {len(makers)} bodies; those with the longest pauses:")
    for cost in sorted(costs, key=lambda said: -float(said.partition("a pause of ")[2].split()[0]))[:10]:
        print(f"  {cost}")


def _fields(document: dict[str, Any], path: str) -> dict[str, object]:
    """Return the fields that a body of ``path`` may have, by ``/openapi.json``."""
    operation = document["paths"][path]["post"]
    left = [operation["requestBody"]["content"]["application/json"]["schema"]]
    fields: dict[str, object] = {}
    while left:
        schema = left.pop()
        left += schema.get("anyOf", [])
        if "$ref" in schema:
            left.append(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        fields |= schema.get("properties", {})
    return fields
