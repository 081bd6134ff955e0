"""Request fields that the dialects share: text, sampling, tools, structured output."""
