"""OpenAI's API, a folder for each endpoint."""
