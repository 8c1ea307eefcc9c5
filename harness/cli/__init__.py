"""The command line: what argparse knows, and nothing else."""
