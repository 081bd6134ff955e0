"""The process that renders chat templates, which come with model files and may loop or grow without end."""
