"""The examples of a task and the judgement of their answers, under /v1/tasks/{id}."""

from collections.abc import Mapping
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from glmserve.api.common.base import ListOf, RequestObject, parse
from glmserve.chat.tasks.judge import judge
from glmserve.chat.tasks.judgement_object import ExampleList, JudgementObject, examples_object, judgement_object
from glmserve.chat.tasks.task import Task
from glmserve.http.errors import InvalidRequest, PromptNotFound
from glmserve.http.offload import off_loop, read_request
from glmserve.http.openapi import Tag, documented

_ONE = "/v1/tasks/{task_id}"


class JudgeRequest(RequestObject):
    """Answers to the examples of a task."""

    answers: ListOf[str] = Field(description="An answer to each example, in their order.")


def create_router(tasks: Mapping[str, Task]) -> APIRouter:
    """Return the routes for ``tasks``."""
    router = APIRouter()

    @router.get(f"{_ONE}/examples", **documented(ExampleList, errors=(PromptNotFound,), tag=Tag.TEXT))
    async def examples(task_id: str) -> JSONResponse:
        """List the examples of a task with their right answers, and the fields that are judged."""
        return JSONResponse(examples_object(_find(tasks, task_id)))

    @router.post(f"{_ONE}/judge", **documented(JudgementObject, JudgeRequest, errors=(PromptNotFound,), tag=Tag.TEXT))
    async def judge_answers(task_id: str, request: Request) -> JSONResponse:
        """Compare answers to the examples of a task with the right ones."""
        task = _find(tasks, task_id)
        body = await read_request(request, partial(parse, JudgeRequest))
        if len(body.answers) != len(task.examples):
            raise InvalidRequest(
                f"must have an answer to each of the {len(task.examples)} examples, not {len(body.answers)}",
                param="answers",
            )
        judgement = await off_loop(partial(judge, task.fields, task.examples, body.answers))
        return JSONResponse(judgement_object(task, judgement))

    return router


def _find(tasks: Mapping[str, Task], task_id: str) -> Task:
    if task_id not in tasks:
        raise PromptNotFound(task_id, tuple(tasks))
    return tasks[task_id]
