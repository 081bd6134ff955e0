"""tokenizer.model -> the vocabulary of a GGUF, such that llama.cpp gives the ids that SentencePiece gives.

llama.cpp's SentencePiece tokenizer merges neighbours whose joint text is *any* token, special ones too, even
where special tokens are not to be parsed. A special token called ``sop`` would thus appear wherever a text
says "中sop" ("s" and "op" are pieces), and with special tokens parsed also inside "sophisticated". So special
tokens get names that no two pieces can make, and that is checked for every token that is not ordinary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glmserve.convert.errors import VocabularyError
from glmserve.convert.gguf_format import PROMPT_FORMAT, PROMPT_PREFIX_IDS, FamilyName, Metadata
from glmserve.convert.vocab.added_tokens import read_added_tokens, with_added
from glmserve.convert.vocab.chat_templates import CHATGLM2_TEMPLATE, CHATGLM3_TEMPLATE, CODEGEEX2_TEMPLATE
from glmserve.convert.vocab.tokenizer_model import Piece, PieceType, SentencePieceModel, read_model

CHATGLM2_SPECIALS = ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
"""They follow the pieces in this order; the authors call the last two ``sop`` and ``eop`` (see above)."""

CHATGLM3_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
"""They follow the special tokens in ChatGLM3. The user's turn and a tool's result end an answer."""

UNKNOWN_ID, BOS_ID, EOS_ID, PAD_ID = 0, 1, 2, 0

_TEMPLATES = {
    FamilyName.CHATGLM2: CHATGLM2_TEMPLATE,
    FamilyName.CHATGLM3: CHATGLM3_TEMPLATE,
    FamilyName.CODEGEEX2: CODEGEEX2_TEMPLATE,
}

# Texts that llama.cpp takes for an end of generation whatever their type (src/llama-vocab.cpp); a piece of
# ordinary text among them would end answers early.
_END_LIKE = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
        "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
        "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
        "<｜end▁of▁sentence｜>", "[e~[", "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]",
        "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Pieces, then special tokens, then padding up to the rows of the embedding."""

    family: FamilyName
    pieces: tuple[Piece, ...]
    first_special: int
    """Id of the first special token."""
    add_space_prefix: bool
    """Whether a space goes in front of every text."""

    def special_id(self, text: str) -> int:
        """Return the id of a special token."""
        return self.first_special + _specials_of(self.family).index(text)

    @property
    def prompt_prefix(self) -> tuple[int, ...]:
        """Ids of [gMASK] and sop, which every prompt starts with."""
        return (self.special_id("[gMASK]"), self.special_id("<sop>"))

    @property
    def end_ids(self) -> tuple[int, int, int]:
        """Ids that llama.cpp calls end of sequence, of turn and of message: each of them ends an answer."""
        if self.family is FamilyName.CHATGLM3:
            return (EOS_ID, self.special_id("<|user|>"), self.special_id("<|observation|>"))
        # Given all the same, so that llama.cpp does not look for them among the texts of the pieces.
        return (EOS_ID, EOS_ID, EOS_ID)


def load_vocabulary(path: Path, padded_size: int, family: FamilyName = FamilyName.CHATGLM2) -> Vocabulary:
    """Read ``tokenizer.model`` and complete it to ``padded_size`` tokens.

    Raises:
        MissingFileError: there is no such file.
        CorruptFileError: the list of added tokens makes no sense.
        VocabularyError: it is not a SentencePiece model, or llama.cpp would tokenise differently with it.
    """
    model = read_model(path)
    _check_meaning(path, model, family)
    first_special, specials = len(model.pieces), _specials_of(family)
    pieces = (*model.pieces, *_special_pieces(specials, first_special, padded_size))
    if len(pieces) != padded_size:
        raise VocabularyError(
            path,
            f"it has {first_special} pieces, and with {len(specials)} special tokens "
            f"that is more than padded_vocab_size {padded_size} of config.json; "
            "the two must be of the same model",
        )
    pieces = with_added(path, pieces, read_added_tokens(path.parent))
    check_texts(path, pieces)
    return Vocabulary(family, pieces, first_special, model.add_dummy_prefix)


def vocabulary_metadata(vocabulary: Vocabulary) -> Metadata:
    """Return the tokenizer's GGUF keys, the chat template and how the server prompts."""
    eos, eot, eom = vocabulary.end_ids
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tuple(piece.text for piece in vocabulary.pieces),
        "tokenizer.ggml.scores": tuple(piece.score for piece in vocabulary.pieces),
        "tokenizer.ggml.token_type": tuple(int(piece.type) for piece in vocabulary.pieces),
        "tokenizer.ggml.bos_token_id": BOS_ID,
        "tokenizer.ggml.eos_token_id": eos,
        "tokenizer.ggml.eot_token_id": eot,
        "tokenizer.ggml.eom_token_id": eom,
        "tokenizer.ggml.unknown_token_id": UNKNOWN_ID,
        "tokenizer.ggml.padding_token_id": PAD_ID,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": vocabulary.add_space_prefix,
        "tokenizer.ggml.remove_extra_whitespaces": False,
        "tokenizer.chat_template": _TEMPLATES[vocabulary.family],
        PROMPT_FORMAT: vocabulary.family.value,
        PROMPT_PREFIX_IDS: vocabulary.prompt_prefix,
    }


def _specials_of(family: FamilyName) -> tuple[str, ...]:
    return CHATGLM2_SPECIALS + CHATGLM3_ROLES if family is FamilyName.CHATGLM3 else CHATGLM2_SPECIALS


def _special_pieces(specials: tuple[str, ...], first: int, padded_size: int) -> Iterator[Piece]:
    for text in specials:
        yield Piece(text, 0.0, PieceType.CONTROL)
    for token in range(first + len(specials), padded_size):
        yield Piece(f"[PAD{token}]", 0.0, PieceType.UNUSED)


def _check_meaning(path: Path, model: SentencePieceModel, family: FamilyName) -> None:
    """Reject options that llama.cpp's tokenizer does not implement."""
    problems = (
        (not model.is_bpe, "it is not a BPE model"),
        (not model.byte_fallback, "it has no byte fallback"),
        (bool(model.charsmap), "it normalises text, which llama.cpp does not"),
        # CodeGeeX2 is trained on code, which starts without a space.
        (not model.add_dummy_prefix and family is not FamilyName.CODEGEEX2, "it does not put a space before the text"),
        (model.remove_extra_whitespaces, "it removes extra spaces"),
        (not model.escape_whitespaces or model.suffix_whitespace, "it marks spaces in an unusual way"),
        (
            any(p.type is PieceType.USER_DEFINED for p in model.pieces),
            "it has user-defined pieces, which llama.cpp cuts out of the text before the others",
        ),
        (
            [p.text for p in model.pieces[:3]] != ["<unk>", "<s>", "</s>"],
            "it does not start with <unk>, <s>, </s>",
        ),
        (
            _bytes_of(model) != [f"<0x{byte:02X}>" for byte in range(256)],
            "it lacks some of the 256 byte pieces",
        ),
    )
    for wrong, what in problems:
        if wrong:
            raise VocabularyError(path, f"{what}; this is not the tokenizer of {family.value}")


def _bytes_of(model: SentencePieceModel) -> list[str]:
    return [p.text for p in model.pieces if p.type is PieceType.BYTE]


def check_texts(path: Path, pieces: tuple[Piece, ...]) -> None:
    """Reject texts that llama.cpp gives a meaning of its own.

    Raises:
        VocabularyError: two pieces are equal, ordinary text ends an answer, or text can become a special token.
    """
    ordinary = {p.text for p in pieces if p.type is PieceType.NORMAL}
    seen: set[str] = set()
    for piece in pieces:
        if not piece.text or "\0" in piece.text or piece.text in seen:
            # llama.cpp ends the process when two tokens are equal, and a token at a NUL.
            raise VocabularyError(path, f"piece {piece.text!r} is empty, has a NUL character or appears twice")
        seen.add(piece.text)
        if piece.type in (PieceType.NORMAL, PieceType.USER_DEFINED):
            if piece.text in _END_LIKE:
                raise VocabularyError(path, f"llama.cpp takes the piece {piece.text!r} for the end of an answer")
        elif _can_be_merged(piece.text, ordinary):
            raise VocabularyError(
                path,
                f"text would turn into the special token {piece.text!r} in llama.cpp, because "
                "it can be put together from two pieces",
            )


def _can_be_merged(text: str, ordinary: set[str]) -> bool:
    """Tell whether ``text`` is two neighbours that llama.cpp would join: each one a character or a piece."""
    return any(
        all(len(part) == 1 or part in ordinary for part in (text[:cut], text[cut:])) for cut in range(1, len(text))
    )
