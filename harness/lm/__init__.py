"""The lm-eval model: forward passes, decoding, probes, transcripts. It knows no edit."""
