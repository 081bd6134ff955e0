"""A model under whose name a task is done: the last question of a conversation fills the slot of its prompt."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from glmserve.chat.prompts.messages import Message, PromptError, Role
from glmserve.chat.tasks.task import OutputConstraint, Task, TaskSampling, VariableError, task_name
from glmserve.chat.tools.types import Tool
from glmserve.http.request_context import RequestContext
from glmserve.model_pool.prefixes import pins, task_prompt
from glmserve.model_pool.served_model import NO_OPTIONS, EncodedPrompt, ModelCard, NamedModel, ServedModel
from glmserve.models.catalog import SamplingDefaults

if TYPE_CHECKING:
    from glmserve.upstream.engine import Upstream


class TaskModel(ServedModel):
    """A served model that does one task.

    Each question is a task of its own: what was asked and answered before it is left out, system text stands in
    front of the task's prompt.
    """

    def __init__(self, base: ServedModel, task: Task) -> None:
        """Do ``task`` with the model ``base``, on its host."""
        super().__init__(_card(base.card, task), base.host, base.prompt_format)
        self.base = base
        self.task = task
        self._is_pinned = False

    @property
    def adapter(self) -> str:
        """The engine's name of the model that does it."""
        return self.base.adapter

    @property
    def upstream(self) -> "Upstream | None":
        """The server that runs the model."""
        return self.base.upstream

    @property
    def most_characters(self) -> int:
        """No text of more characters fits into the context."""
        return self.base.most_characters

    @property
    def max_choices(self) -> int:
        """How many answers one request may ask for."""
        return self.base.max_choices

    async def encode(
        self,
        messages: Sequence[Message],
        context: RequestContext,
        tools: Sequence[Tool] = (),
        *,
        continued: bool = False,
        options: Mapping[str, object] = NO_OPTIONS,
    ) -> EncodedPrompt:
        """Return the task's prompt with the last question in it; see ``ServedModel.encode``.

        Raises:
            PromptError: there are tools, or the last message is no question that a slot can be filled with.
            TextTooLong: it is so long that it was not tokenised.
            EngineUnavailable: the model is not ready.
        """
        if tools or continued:
            what = "has no tools" if tools else "begins its answer itself"
            raise PromptError(f"{self.card.name} is a task, which {what}; use the model {self.base.card.name} instead")
        system = [message for message in messages if message.role is Role.SYSTEM]
        question = Message(Role.USER, self.task.fill(self._values(messages)))
        if not system:
            await self.pin()
        return await self.base.encode([*system, question], context, options=options)

    async def pin(self) -> None:
        """Pin the common prefix of the task's prompts, from its first use on."""
        if self._is_pinned or self.upstream is not None:
            return
        self._is_pinned = True
        prompt, tokenizer = task_prompt(self.task, self.adapter), self.tokenizer
        for pin in await asyncio.to_thread(pins, [prompt], self.prompt_format, tokenizer):
            self.host.engine.pin(pin)

    def output_constraint(self, messages: Sequence[Message]) -> OutputConstraint:
        """Return the constraint of the answer; see ``ServedModel.output_constraint``."""
        return self.task.output_constraint(self._values(messages))

    def _values(self, messages: Sequence[Message]) -> Mapping[str, str]:
        if not messages or messages[-1].role is not Role.USER:
            raise PromptError(
                f"{self.card.name} is a task: the last message must have the role user, as it is the task's input"
            )
        slot = self.task.main
        try:
            values = {} if slot is None else {slot: messages[-1].content}
            self.task.fill(values)
        except VariableError as error:
            raise PromptError(
                f"{self.card.name} needs more than a message: {error}. Send its variables to "
                f"/v1/responses, as prompt: {{id: {self.task.id!r}, variables: …}}"
            ) from None
        return values


def task_models(models: Iterable[NamedModel], tasks: Iterable[Task]) -> tuple[TaskModel, ...]:
    """Return each of ``tasks`` as done by each of ``models`` that answers."""
    tasks = tuple(tasks)
    return tuple(TaskModel(model, task) for model in models if isinstance(model, ServedModel) for task in tasks)


def _card(base: ModelCard, task: Task) -> ModelCard:
    return replace(
        base,
        name=task_name(base.name, task.id),
        aliases=tuple(task_name(alias, task.id) for alias in base.aliases),
        parent=base.name,
        defaults=_defaults(base.defaults, task.sampling),
        default_max_tokens=task.sampling.max_tokens or base.default_max_tokens,
    )


def _defaults(base: SamplingDefaults, own: TaskSampling) -> SamplingDefaults:
    return SamplingDefaults(
        temperature=base.temperature if own.temperature is None else own.temperature,
        top_p=base.top_p if own.top_p is None else own.top_p,
        top_k=base.top_k if own.top_k is None else own.top_k,
        repetition_penalty=base.repetition_penalty if own.repetition_penalty is None else own.repetition_penalty,
    )
