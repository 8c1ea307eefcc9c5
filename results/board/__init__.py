"""The leaderboard: ranking, text formats, charts, page."""
