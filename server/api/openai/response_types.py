"""Types of the replies, checked by mypy and published in ``/openapi.json``."""

from typing import Literal

from typing_extensions import NotRequired, TypedDict

from glmserve.chat.tasks.card import TaskObject

Finish = Literal["stop", "length", "tool_calls", "function_call"]


class PromptDetails(TypedDict):
    """Of the prompt tokens."""

    cached_tokens: int


class UsageObject(TypedDict):
    """Token counts of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class TimingsObject(TypedDict):
    """The engine's times in milliseconds, as llama-server reports them: without the network."""

    queue_ms: float
    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float


class FunctionObject(TypedDict):
    """Name and arguments of a call; the arguments are the JSON text of an object."""

    name: str
    arguments: str


class ToolCallObject(TypedDict):
    """A call that the caller is asked to make."""

    id: str
    type: Literal["function"]
    function: FunctionObject


class AssistantMessage(TypedDict):
    """An answer: text, calls, or both."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[ToolCallObject]]
    function_call: NotRequired[FunctionObject]


class TokenLogprobObject(TypedDict):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class ScoredTokenObject(TokenLogprobObject):
    """A token of an answer, with the most probable ones at its place."""

    top_logprobs: list[TokenLogprobObject]


class Logprobs(TypedDict):
    """The tokens of an answer, or of a piece of it."""

    content: list[ScoredTokenObject]
    refusal: None


class ChatChoice(TypedDict):
    """One of the answers."""

    index: int
    message: AssistantMessage
    logprobs: Logprobs | None
    finish_reason: Finish


class ChatCompletion(TypedDict):
    """The whole reply to a request that does not stream."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: UsageObject
    timings: NotRequired[TimingsObject]


class FunctionDelta(TypedDict):
    """A piece of a call; the name comes whole and first."""

    name: NotRequired[str]
    arguments: str


class ToolCallDelta(TypedDict):
    """A piece of one of the calls; the first piece of a call has its id."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionDelta


class ChunkDelta(TypedDict):
    """The part of an answer that a chunk carries."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallDelta]]
    function_call: NotRequired[FunctionDelta]


class ChunkChoice(TypedDict):
    """A piece of one of the answers."""

    index: int
    delta: ChunkDelta
    logprobs: Logprobs | None
    finish_reason: Finish | None


class ChatChunk(TypedDict):
    """The data of an event; where usage is asked for, all chunks but the last have it as null."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChunkChoice]
    usage: NotRequired[UsageObject | None]
    timings: NotRequired[TimingsObject]


class DefaultsObject(TypedDict):
    """Sampling defaults of requests that leave the fields out."""

    temperature: float
    top_p: float
    max_tokens: int


class ModelObject(TypedDict):
    """A served model, or a task that one does."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    aliases: list[str]
    parent: str | None
    kind: Literal["generation", "embedding", "task"]
    context_length: int | None
    state: str
    defaults: DefaultsObject | None
    task: TaskObject | None


class ModelList(TypedDict):
    """All served models, the default one first."""

    object: Literal["list"]
    data: list[ModelObject]
