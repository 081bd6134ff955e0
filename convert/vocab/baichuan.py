"""tokenizer.model of a Baichuan to the vocabulary of a GGUF, and the server's additions to it.

SentencePiece normalises Baichuan's text and finds user-defined pieces before all others. llama.cpp does neither
in the same way, so the table and the wish for a leading space go into the file beside the vocabulary, and the
server's tokenizer does both. The tokens of the two roles, and all reserved ones, are control tokens here: no
text becomes one of them, where the authors' tokenizer turns a typed ``<reserved_102>`` into the user's role.
"""

import base64
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glmserve.convert.checkpoint.config import read_json_object
from glmserve.convert.errors import CorruptFileError, VocabularyError
from glmserve.convert.gguf_format import (
    ASSISTANT_TOKEN_ID,
    NORMALIZER,
    NORMALIZER_TABLE,
    PROMPT_FORMAT,
    SPACE_PREFIX,
    USER_TOKEN_ID,
    FamilyName,
    Metadata,
)
from glmserve.convert.vocab.added_tokens import read_added_tokens, with_added
from glmserve.convert.vocab.chat_templates import baichuan_template
from glmserve.convert.vocab.chatglm import BOS_ID, EOS_ID, PAD_ID, UNKNOWN_ID, check_texts
from glmserve.convert.vocab.tokenizer_model import Piece, PieceType, SentencePieceModel, read_model

_NEVER_TEXT = re.compile(r"<reserved_\d+>|<SEP>|<CLS>")


@dataclass(frozen=True, slots=True)
class RoleIds:
    """The tokens in front of a message."""

    user: int = 195
    assistant: int = 196


def read_role_ids(folder: Path) -> RoleIds:
    """Return the ids that ``generation_config.json`` gives, or the usual ones; raises CorruptFileError."""
    path = folder / "generation_config.json"
    if not path.exists():
        return RoleIds()
    raw = read_json_object(path, "copy it from the original checkpoint")
    usual = RoleIds()
    return RoleIds(
        user=_token_id(path, raw, "user_token_id", usual.user),
        assistant=_token_id(path, raw, "assistant_token_id", usual.assistant),
    )


def baichuan_vocabulary(folder: Path, size: int, roles: RoleIds, family: FamilyName) -> Metadata:
    """Return the tokenizer's GGUF keys, the chat template, how the server prompts, and the authors' sampling.

    Args:
        folder: with tokenizer.model.
        size: rows of the embedding.
        roles: the tokens in front of messages.
        family: which of the two; the first one's prompt has the end token after earlier answers.

    Raises:
        MissingFileError: there is no tokenizer.model.
        VocabularyError: it is not a SentencePiece model, or means something that cannot be put into the file.
    """
    path = folder / "tokenizer.model"
    model = read_model(path)
    _check_meaning(path, model)
    if not max(roles.user, roles.assistant) < len(model.pieces) <= size:
        raise VocabularyError(
            path,
            f"it has {len(model.pieces)} pieces, where config.json has vocab_size {size} and the tokens of the roles "
            f"are {roles.user} and {roles.assistant}; all must be of the same model",
        )
    pieces = with_added(path, _pieces(model, size, roles), read_added_tokens(folder))
    check_texts(path, pieces)
    return {**_tokens(pieces), **_prompt(model, pieces, roles, family), **_normalizer(model), **_sampling(folder)}


def _tokens(pieces: Sequence[Piece]) -> Metadata:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tuple(piece.text for piece in pieces),
        "tokenizer.ggml.scores": tuple(piece.score for piece in pieces),
        "tokenizer.ggml.token_type": tuple(int(piece.type) for piece in pieces),
        "tokenizer.ggml.bos_token_id": BOS_ID,
        "tokenizer.ggml.eos_token_id": EOS_ID,
        # Given, so that llama.cpp does not look for one among the texts of the pieces.
        "tokenizer.ggml.eot_token_id": EOS_ID,
        "tokenizer.ggml.unknown_token_id": UNKNOWN_ID,
        "tokenizer.ggml.padding_token_id": PAD_ID,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        # llama.cpp would put one after every user-defined piece as well; server and template put one in front.
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.remove_extra_whitespaces": False,
    }


def _prompt(model: SentencePieceModel, pieces: Sequence[Piece], roles: RoleIds, family: FamilyName) -> Metadata:
    return {
        "tokenizer.chat_template": baichuan_template(
            pieces[roles.user].text,
            pieces[roles.assistant].text,
            space_prefix=model.add_dummy_prefix,
            end=pieces[EOS_ID].text if family is FamilyName.BAICHUAN else "",
        ),
        PROMPT_FORMAT: family.value,
        USER_TOKEN_ID: roles.user,
        ASSISTANT_TOKEN_ID: roles.assistant,
        SPACE_PREFIX: model.add_dummy_prefix,
    }


def _normalizer(model: SentencePieceModel) -> Metadata:
    if not model.charsmap:
        return {NORMALIZER: "identity"}
    table = base64.b64encode(zlib.compress(model.charsmap, 9)).decode("ascii")
    return {NORMALIZER: model.normalizer or "nmt_nfkc", NORMALIZER_TABLE: table}


def _sampling(folder: Path) -> Metadata:
    """Return the authors' sampling, under the keys that llama.cpp's tools read."""
    path = folder / "generation_config.json"
    if not path.exists():
        return {}
    raw = read_json_object(path, "copy it from the original checkpoint")
    keys: Metadata = {}
    for key, value in (
        ("temp", raw.get("temperature")),
        ("top_p", raw.get("top_p")),
        ("penalty_repeat", raw.get("repetition_penalty")),
    ):
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            keys[f"general.sampling.{key}"] = float(value)
    top_k = raw.get("top_k")
    if isinstance(top_k, int) and not isinstance(top_k, bool) and top_k > 0:
        keys["general.sampling.top_k"] = top_k
    return keys


def _token_id(path: Path, raw: Mapping[str, object], key: str, usual: int) -> int:
    value = raw.get(key, usual)
    if not isinstance(value, int) or isinstance(value, bool) or value <= EOS_ID:
        raise CorruptFileError(path, f"{key} is {value!r} and must be the id of a token")
    return value


def _pieces(model: SentencePieceModel, size: int, roles: RoleIds) -> tuple[Piece, ...]:
    padding = (Piece(f"[PAD{i}]", 0.0, PieceType.UNUSED) for i in range(len(model.pieces), size))
    return tuple(
        replace(piece, type=PieceType.CONTROL)
        if i in (roles.user, roles.assistant) or _NEVER_TEXT.fullmatch(piece.text)
        else piece
        for i, piece in enumerate((*model.pieces, *padding))
    )


def _check_meaning(path: Path, model: SentencePieceModel) -> None:
    """Reject options that neither llama.cpp's tokenizer nor the server's implements."""
    problems = (
        (not model.is_bpe, "it is not a BPE model"),
        (not model.byte_fallback, "it has no byte fallback"),
        (model.remove_extra_whitespaces, "it removes extra spaces"),
        (not model.escape_whitespaces or model.suffix_whitespace, "it marks spaces in an unusual way"),
        ([p.text for p in model.pieces[:3]] != ["<unk>", "<s>", "</s>"], "it does not start with <unk>, <s>, </s>"),
        (sum(p.type is PieceType.BYTE for p in model.pieces) != 256, "it lacks some of the 256 byte pieces"),
    )
    for wrong, what in problems:
        if wrong:
            raise VocabularyError(path, f"{what}; this is not the tokenizer of a Baichuan")
