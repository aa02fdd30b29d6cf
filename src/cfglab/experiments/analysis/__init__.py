"""Statistics: paired comparisons with intervals."""
