"""The lists of docs/serving.md are complete."""

from pathlib import Path

from glmserve.models.catalog import CATALOG

PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text("utf-8")


def test_every_known_model_and_every_prompt_format_is_named() -> None:
    assert [f"`{entry.name}`" for entry in CATALOG if entry.repository and f"`{entry.name}`" not in PAGE] == []
    assert [entry.prompt_format for entry in CATALOG if f"`{entry.prompt_format}`" not in PAGE] == []
