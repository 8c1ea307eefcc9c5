"""What a model recites of a corpus, as a pack."""
