"""Rows of the database as files and batches."""

import json
from collections.abc import Mapping
from sqlite3 import Row

from glmserve.batches.records import Batch, BatchStatus, LineProblem, Purpose, StoredFile, Usage


def file_of(row: Row) -> StoredFile:
    """Return the file of a row."""
    return StoredFile(
        row["number"], row["id"], row["owner"], row["name"], Purpose(row["purpose"]), row["size"], row["created"],
        row["expires"],
    )  # fmt: skip


def facts_of(batch: Batch) -> str:
    """Return the facts of a batch that have no column of their own."""
    facts: Mapping[str, object] = {
        "endpoint": batch.endpoint,
        "window": batch.window,
        "file_seconds": batch.file_seconds,
        "times": {status.value: time for status, time in batch.times.items()},
        "metadata": batch.metadata,
        "problems": [[one.code, one.message, one.line, one.param] for one in batch.problems],
    }
    return json.dumps(facts)


def batch_of(row: Row) -> Batch:
    """Return the batch of a row."""
    facts = json.loads(row["facts"])
    return Batch(
        number=row["number"],
        id=row["id"],
        owner=row["owner"],
        endpoint=facts["endpoint"],
        input_id=row["input"],
        window=facts["window"],
        created=row["created"],
        expires=row["expires"],
        file_seconds=facts["file_seconds"],
        status=BatchStatus(row["status"]),
        times={BatchStatus(name): time for name, time in facts["times"].items()},
        metadata=facts["metadata"],
        problems=tuple(LineProblem(*one) for one in facts["problems"]),
        model=row["model"],
        total=row["total"],
        completed=row["completed"],
        failed=row["failed"],
        usage=Usage(row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]),
        output_id=row["output_id"],
        error_id=row["error_id"],
    )
