"""Statistics of item scores: aggregates, paired differences, intervals, tests, power, extraction risk."""
