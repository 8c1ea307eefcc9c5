"""The commands: what each declares, checks and prints. A module is imported when its command is chosen."""
