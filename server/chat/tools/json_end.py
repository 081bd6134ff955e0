"""Where a JSON value ends in a text that comes in pieces."""


class JsonEnd:
    """Follows one JSON object or array, character by character, to the bracket that closes it."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.found = False
        """Whether the value is complete."""

    def feed(self, text: str) -> int:
        """Return how many characters of ``text`` still belong to the value."""
        for position, character in enumerate(text):
            if self._ends_with(character):
                self.found = True
                return position + 1
        return len(text)

    def _ends_with(self, character: str) -> bool:
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
            return False
        if character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth <= 0
        return False
