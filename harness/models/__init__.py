"""What is loaded: the model table, weights, tokenizers, corpora, packs."""
