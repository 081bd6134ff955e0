"""How the tiny model is made: tokenizer, texts, network, training, export, evaluation."""
