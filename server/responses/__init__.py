"""OpenAI's Responses API: one request after the other, each able to go on from one before."""
