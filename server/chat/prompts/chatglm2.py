"""The prompt of ChatGLM2: rounds of question and answer as plain text, one encode for all of it.

The format is that of ``build_prompt`` in the model authors' tokenizer: rounds count from 1, a blank line
between them, and the text ends where the answer starts.
"""

from collections.abc import Sequence


def render(turns: Sequence[tuple[str, str]], query: str) -> str:
    """Return the prompt text for ``query`` after the finished ``turns`` (question, answer)."""
    rounds = [f"[Round {i}]\n\n问：{q}\n\n答：{a}\n\n" for i, (q, a) in enumerate(turns, 1)]
    return "".join(rounds) + f"[Round {len(turns) + 1}]\n\n问：{query}\n\n答："
