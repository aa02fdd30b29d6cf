"""Published schedules, one family a file; `cards` has their formulas and sources."""
