"""ChatGLM2, ChatGLM3, CodeGeeX2 and GLM-4."""
