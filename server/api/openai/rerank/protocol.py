"""The bodies of requests to a reranker as they come over the wire: Jina's and Cohere's form, and vLLM's for scores."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from glmserve.api.common.base import RequestObject, invalid, parse, text_parts
from glmserve.api.common.field_policy import FieldPolicy, Ignored, Rejected
from glmserve.api.common.fields import AsWhole
from glmserve.http.errors import InvalidRequest, shown

_DOCUMENTS_AT_MOST = 10_000
"""Cohere's bound."""

_IGNORED = (Ignored("user"), Ignored("rid"), Ignored("priority", "callers take turns"), Ignored("metadata"))

_RERANK_POLICY = FieldPolicy(
    ignored=(
        *_IGNORED,
        Ignored("max_chunks_per_doc", "a document is one chunk"),
        Ignored("max_chunk_per_doc", "a document is one chunk"),
        Ignored("overlap_tokens", "a document is one chunk"),
        Ignored("return_len", "usage has the tokens"),
        Ignored("kwargs", "Xinference's client repeats its further fields there"),
        Ignored("truncation", "documents that are too long are always truncated"),
        Ignored("truncate", "documents that are too long are always truncated"),
    ),
    rejected=(
        Rejected("rank_fields", ("text",), "give documents as strings"),
        Rejected("instruction"),
        Rejected("return_embeddings", (False,)),
        Rejected("raw_scores", (False,), "use use_activation: false"),
    ),
)


class DocumentObject(TypedDict):
    """A document as an object."""

    text: str


def _document(value: object, name: str) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if isinstance(value, dict) and text is None and "content" in value:  # vLLM's form, which Dify sends with images
        return "\n".join(text_parts(value["content"], ("text",)))
    if not isinstance(text, str):
        raise invalid(f"{name} must be a string, or an object with its text")
    return text


def _documents(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise invalid("must be a non-empty list of strings, or of objects with text")
    if len(value) > _DOCUMENTS_AT_MOST:
        raise invalid(f"may have at most {_DOCUMENTS_AT_MOST} documents, not {len(value)}")
    return tuple(_document(one, f"document {index}") for index, one in enumerate(value))


def _query(value: object) -> str:
    return _document(value, "the query")


def _texts(value: object) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else _documents(value)


Texts = Annotated[str | tuple[str, ...], BeforeValidator(_texts, json_schema_input_type=str | list[str])]

ModelField = Annotated[str | None, Field(description="Name of the model. Absent or null: the first reranker.")]

UseActivation = Annotated[
    bool | None,
    Field(
        description="Extension: false returns the numbers of the model's head. Default: their sigmoid, between 0 and 1."
    ),
]

PairTokens = Annotated[
    Annotated[int, Field(ge=-1), AsWhole] | None,
    Field(
        description="Extension: truncate the second text of a pair so that both have at most this many tokens. "
        "-1 or absent: the model's context."
    ),
]


class RerankRequest(RequestObject):
    """Body of a request to order documents."""

    policy = _RERANK_POLICY

    model: ModelField = None
    query: Annotated[str, BeforeValidator(_query, json_schema_input_type=str | DocumentObject)] = Field(
        description="The text that documents are compared with, or an object with it."
    )
    documents: Annotated[
        tuple[str, ...], BeforeValidator(_documents, json_schema_input_type=list[str | DocumentObject])
    ] = Field(description=f"1 to {_DOCUMENTS_AT_MOST} texts, or objects with `text`.")
    top_n: Annotated[int, Field(ge=0), AsWhole] | None = Field(
        default=None, description="Return only this many results. Absent, null or 0: all."
    )
    return_documents: bool | None = Field(default=None, description="true: results contain the documents.")
    max_tokens_per_doc: Annotated[int, Field(ge=1), AsWhole] | None = Field(
        default=None, description="Truncate each document to this many tokens."
    )
    truncate_prompt_tokens: PairTokens = None
    use_activation: UseActivation = None


class ScoreRequest(RequestObject):
    """Body of a request for the scores of pairs."""

    policy = FieldPolicy(ignored=(*_IGNORED, Ignored("encoding_format", "scores are numbers")))

    model: ModelField = None
    text_1: Texts = Field(description="A text, or as many texts as text_2 has. One text is paired with each of text_2.")
    text_2: Texts = Field(description=f"A text, or a list of at most {_DOCUMENTS_AT_MOST} texts.")
    truncate_prompt_tokens: PairTokens = None
    use_activation: UseActivation = None

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs. Raises InvalidRequest where there are not as many texts on both sides."""
        second = (self.text_2,) if isinstance(self.text_2, str) else self.text_2
        first = (self.text_1,) if isinstance(self.text_1, str) else self.text_1
        if len(first) == 1:
            first *= len(second)
        if len(first) != len(second):
            raise InvalidRequest(
                f"text_1 has {len(first)} texts and text_2 {shown(len(second))}; text_1 must have one, or as many",
                param="text_1",
            )
        return tuple(zip(first, second, strict=True))


def parse_rerank_request(body: Mapping[str, object]) -> RerankRequest:
    """Return the body as a checked request.

    Raises:
        InvalidRequest: a field is rejected or has a wrong value; ``param`` is its path.
    """
    return parse(RerankRequest, body)


def parse_score_request(body: Mapping[str, object]) -> ScoreRequest:
    """Return the body as a checked request; raises as ``parse_rerank_request`` does."""
    return parse(ScoreRequest, body)
