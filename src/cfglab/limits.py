"""Every limit on what is read, in one place. Each is checked before the work that it bounds.

Text of a schedule or guidance, JSON, YAML and placeholders are refused in one line where they exceed one of these; what
is within them is read in less than `SECONDS`. `docs/schedules.md` and `docs/runs.md` repeat the numbers.
"""

SECONDS = 2.0
"""The time that a reader may take on any input, good or bad, on one idle core."""

# -- text of schedules and guidance ------------------------------------------------------------------------------------

TEXT_LETTERS = 500_000
TEXT_DEPTH = 100
"""Parts inside parts, as brackets and words after a dot make them."""
LEVELS = 48
"""Schedules made of schedules: a text or JSON of so many is within TEXT_DEPTH and JSON_DEPTH."""
PARTS = 300
"""Shapes, numbers and words in one schedule."""
FIELDS = 100
"""Named fields of one shape, word or transform."""
DIGITS = 400
"""Of one number: the largest float has 309 before its point."""
NAME_LETTERS = 100
"""Of a name for which a similar one is looked up."""
NAMES = 1_000
"""Names among which a similar one is looked up."""
SCALES = 10_000
"""In one list of scales."""
TRANSFORMS = 100
"""In one guidance."""
PLACEHOLDERS = 100
"""In one guidance to tune, and choices in all of them."""
TUNED_LETTERS = 10_000
"""Of a guidance to tune, which is read once for each choice."""
KNOTS = 50
"""Of one placeholder."""

# -- YAML and JSON -----------------------------------------------------------------------------------------------------

DOCUMENT_BYTES = 8 * 1024**2
DOCUMENT_DEPTH = 30
"""Lists and mappings inside each other in YAML."""
JSON_DEPTH = 100
"""Lists and objects inside each other in JSON."""
DOCUMENT_NODES = 100_000
"""Values, lists and mappings in all; what an alias stands for counts each time."""

# -- experiments -------------------------------------------------------------------------------------------------------

STEPS = 10_000
SETTINGS = 10_000
"""The product of the axes of all groups, with the settings written out."""
VALUES = 1_000_000
"""Settings times steps: w is computed for each before a run begins."""
PIXELS = 16_384
"""Along one side of an image."""
