"""``convert --verify``: loads the result in a child process and compares it."""
