"""The commands: what argparse knows, and nothing else."""
