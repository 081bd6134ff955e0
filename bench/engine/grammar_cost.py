"""Measures the cost of constrained decoding on a vocabulary: the tokenizer, compiling, the mask of each token.

    python -m bench.engine.grammar_cost MODEL.gguf [--answers 20]

The answers are random walks: at each place any allowed token, up to 200 of them. That is harder than what a model
writes, as it visits more of the grammar. Times are of the processor, so that other work beside does not count. Prints
a Markdown table.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np

from glmserve.engine.grammar_backend import Constraint, ConstraintFactory
from glmserve.engine.llama.model_loading import load_vocabulary, stop_ids
from glmserve.engine.params import Grammar, GrammarKind

TOKENS = 200
_PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
_ORDER = {
    "type": "object",
    "properties": {f"field {i}": {"anyOf": [_PERSON, {"type": "null"}]} for i in range(100)},
    "required": [f"field {i}" for i in range(0, 100, 2)],
    "additionalProperties": False,
}
GRAMMARS = {
    "any JSON object": Grammar(GrammarKind.JSON_SCHEMA, '{"type":"object"}'),
    "a schema of 3 fields": Grammar(GrammarKind.JSON_SCHEMA, json.dumps(_PERSON)),
    "a schema of 100 fields, 30 kB": Grammar(GrammarKind.JSON_SCHEMA, json.dumps(_ORDER)),
    "an enum of 1000": Grammar(GrammarKind.JSON_SCHEMA, json.dumps({"enum": [f"value {i}" for i in range(1000)]})),
    "a date": Grammar(GrammarKind.REGEX, r"\d{4}-\d{2}-\d{2}"),
    "arithmetic in Lark": Grammar(GrammarKind.LARK, 'start: n | "(" start ("+" | "*") start ")"\nn: /[0-9]{1,5}/'),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--answers", type=int, default=20)
    arguments = parser.parse_args()
    _, vocab = load_vocabulary(arguments.model)
    factory = ConstraintFactory(vocab, stop_ids(vocab))
    started = time.thread_time()
    factory.warm_up()
    print(f"Tokenizer: {time.thread_time() - started:.2f} s\n")
    print("| grammar | compile | mask, median | 99 % | worst |\n| --- | --- | --- | --- | --- |")
    for name, grammar in GRAMMARS.items():
        started = time.thread_time()
        constraint = factory.make(grammar)
        compiled = time.thread_time() - started
        seconds = [s for seed in range(arguments.answers) for s in _masks(constraint.copy(), random.Random(seed))]
        median, late, worst = 1e6 * np.quantile(seconds, [0.5, 0.99, 1.0])
        print(f"| {name} | {1e3 * compiled:.1f} ms | {median:.0f} µs | {late:.0f} µs | {worst:.0f} µs |")


def _masks(constraint: Constraint, numbers: random.Random) -> list[float]:
    """Return the time of each mask of one answer, applied to a row of logits as in the engine."""
    seconds: list[float] = []
    logits = np.zeros(constraint.allowed().size, np.float32)
    while not constraint.is_over and len(seconds) < TOKENS:
        started = time.thread_time()
        allowed = constraint.allowed()
        np.copyto(logits, -np.inf, where=~allowed)
        seconds.append(time.thread_time() - started)
        constraint.accept(int(numbers.choice(np.flatnonzero(allowed))))
    return seconds


if __name__ == "__main__":
    main()
