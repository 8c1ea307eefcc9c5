"""What results look like: the terminal's tables, HTML reports, charts."""
