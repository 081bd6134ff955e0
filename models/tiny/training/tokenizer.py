"""The tokenizer: SentencePiece BPE with the settings of ChatGLM2's own, and the encoding of prompts."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2

VOCAB_SIZE = 1652
SPECIAL_TOKENS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
END = 2


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt and of the answer that follows it, the end token included."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def train_tokenizer(sentences: Iterable[str], path: Path) -> None:
    """Train on ``sentences`` (no line breaks in them) and write ``tokenizer.model`` to ``path``."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        character_coverage=0.98,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        byte_fallback=True,
        split_digits=True,
        split_by_number=True,
        split_by_whitespace=True,
        split_by_unicode_script=True,
        allow_whitespace_only_pieces=True,
        max_sentencepiece_length=16,
        hard_vocab_limit=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=2,
        minloglevel=1,
    )
    path.write_bytes(_with_dummy_prefix(model.getvalue()))


def _with_dummy_prefix(model: bytes) -> bytes:
    """Turn the dummy prefix on, which training had off: only the first line of a prompt has it."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    proto.normalizer_spec.add_dummy_prefix = True
    return bytes(proto.SerializeToString())


class Tokenizer:
    """Encodes prompts the way the service does: the special ids, then one encode of the whole text."""

    def __init__(self, path: Path) -> None:
        self._processor = spm.SentencePieceProcessor(model_proto=path.read_bytes())
        size = self._processor.get_piece_size()
        self.prefix = (size + SPECIAL_TOKENS.index("[gMASK]"), size + SPECIAL_TOKENS.index("sop"))
        self._line = lru_cache(maxsize=20_000)(self._encode_line)
        self._joint = len(self._processor.encode("\n"))

    def encode(self, text: str) -> tuple[int, ...]:
        """Encode ``text`` as a whole; line by line, which is the same since no piece spans a line break."""
        first, *rest = text.split("\n")
        ids = list(self._processor.encode(first))
        for line in rest:
            ids.extend(self._line(line))
        return tuple(ids)

    def encode_pair(self, prompt: str, answer: str) -> Encoded:
        """Encode a prompt and its answer; the answer's ids are those that continue the prompt's."""
        alone, whole = self.encode(prompt), self.encode(prompt + answer)
        continues = whole[: len(alone)] == alone
        tail = whole[len(alone) :] if continues else self._line(answer)[1:]
        return Encoded(self.prefix + alone, (*tail, END))

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids after a prompt; an end token and what follows it are left out."""
        kept: list[int] = []
        for token in ids:
            if token == END:
                break
            kept.append(token)
        return str(self._processor.decode(kept))

    def _encode_line(self, line: str) -> tuple[int, ...]:
        """Encode a line break and the line after it, without the dummy prefix."""
        return tuple(self._processor.encode("\n" + line)[self._joint - 1 :])
