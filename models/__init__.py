"""The catalog of known models, and the embedded one."""
