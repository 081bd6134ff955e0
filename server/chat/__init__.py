"""Messages to token ids and token ids to messages. Pure: no I/O, no llama_cpp but for the tokenizer."""
