"""One complete table per model, from MODEL arguments, ``[[models]]`` tables and shared settings. Pure.

Values are raw here, as the sources have them; they are checked afterwards, all in one place.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from glmserve.config.schema import OF_ONE_MODEL, SHARED

Table = Mapping[str, object]


class TableError(ValueError):
    """A setting cannot be distributed to the models; ``field`` is its name."""

    def __init__(self, field: str, message: str) -> None:
        """``message`` continues the sentence that begins with the setting's name."""
        super().__init__(message)
        self.field = field


def model_tables(values: Mapping[str, object]) -> object:
    """Return the table of each model that is served.

    Arguments MODEL choose: each is the name of a table or what that serves, or else a model without one. With none
    of them all tables are served, and with no table the embedded model.

    Raises:
        TableError: a setting of one model is given for several.
    """
    tables = values.get("models", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return tables  # the check that follows says what is wrong with it
    asked = _names(values.get("model"))
    chosen: list[Table] = [_table_of(model, tables) for model in asked] or tables or [{}]
    shared = {key: value for key, value in values.items() if key in SHARED}
    return [{**shared, **table} for table in _with_own(values, chosen)]


def _names(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return [name for name in map(str.strip, value.split(",")) if name]
    return [str(name) for name in value] if isinstance(value, list | tuple) else []


def _table_of(model: str, tables: Sequence[Table]) -> Table:
    named = (table for table in tables if model in (table.get("name"), table.get("model")))
    return next(named, {"model": model})


def _with_own(values: Mapping[str, object], tables: Sequence[Table]) -> Sequence[Table]:
    """Return the tables, the only one completed by the settings outside of it."""
    given = [key for key in OF_ONE_MODEL if values.get(key)]
    if not given:
        return tables
    if len(tables) > 1:
        raise TableError(
            given[0],
            f"this setting is for a single model, and {len(tables)} are served; set it in their [[models]] tables",
        )
    own = {key.removeprefix("model_"): values[key] for key in ("model_name", "alias", "pin") if key in given}
    variants = _variants(_names(values.get("lora")), _names(values.get("prefix")))
    table = {**own, **tables[0]}
    declared = table.get("variants", [])
    if variants:
        table["variants"] = [*declared, *variants] if isinstance(declared, list) else declared
    return [table]


def _variants(lora: Sequence[str], prefix: Sequence[str]) -> list[dict[str, object]]:
    """Return a variant for each name in the ``NAME=FILE`` of both; a file alone is named after itself."""
    variants: dict[str, dict[str, object]] = {}
    for kind, pairs in (("lora", lora), ("prefix", prefix)):
        for pair in pairs:
            name, equals, file = pair.partition("=")
            if not equals:
                name, file = Path(pair).stem, pair
            variant = variants.setdefault(name, {"name": name})
            if kind in variant or not (name and file):
                raise TableError(kind, f"must be NAME=FILE with a name of its own, not {pair!r}")
            variant[kind] = file
    return list(variants.values())
