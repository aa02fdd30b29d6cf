"""Every limit on what is read from outside, in one place. Each is checked before the work that it bounds.

What exceeds a limit is refused in one line; what is within them is read in less than `SECONDS`. `docs/schedules.md` and
`docs/runs.md` repeat the numbers for users, and tests compare them. Imports nothing.
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
MAP_VALUES = 1_048_576
"""In one map of scales: latents of 1024 x 1024."""
MAP_LETTERS = 100_000
"""Of the text of one map of scales."""
PLACEHOLDERS = 100
"""In one guidance to tune, and choices in all of them."""
TUNED_LETTERS = 10_000
"""Of a guidance to tune, which is read once for each choice."""
KNOTS = 50
"""Of one placeholder."""

# -- YAML and JSON -----------------------------------------------------------------------------------------------------

DOCUMENT_BYTES = 8 * 1024**2
"""Of a text file that a person writes (prompts, an experiment), and of any YAML or JSON."""
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
PIXELS = 4_096
"""Along one side of an image."""

# -- files -------------------------------------------------------------------------------------------------------------

CONFIG_BYTES = 1_000_000
"""A JSON file of a model's folder (model_index.json, config.json, scheduler_config.json)."""
TOKENIZER_BYTES = 64_000_000
"""A file of a tokenizer: vocab.json, merges.txt, tokenizer.json."""
SEARCH_BYTES = 64_000_000
"""search.json of a tuning folder, which holds every prompt."""
VERSIONS_BYTES = 4_000_000
"""versions.json of a run folder: one entry for each session with new versions."""
SESSION_BYTES = 1_000_000
""".session.json of a run folder, with a line for each worker."""
WEIGHTS_BYTES = 32_000_000_000
"""One file of weights; the largest of Stable Diffusion 1.x and 2.x has 3.5 GB."""
FOLDER_ENTRIES = 1_000
"""Files in one folder of a model."""

# -- prompts -----------------------------------------------------------------------------------------------------------

PROMPTS = 100_000
"""Prompts of one file, and of one experiment."""
PROMPT_CHARACTERS = 10_000
"""Characters of one prompt; a text encoder reads 77 tokens."""
NAME_CHARACTERS = 100
"""Characters of a name that becomes a folder."""

# -- images ------------------------------------------------------------------------------------------------------------

IMAGE_BYTES = 128_000_000
"""The file of an image."""
IMAGE_PIXELS = 4096 * 4096
"""Width times height of an image of a run."""
REAL_PIXELS = 64_000_000
"""Width times height of a real image, for distances to real images."""
PNG_CHUNKS = 20_000
"""Chunks of a PNG file."""
PNG_TEXT_BYTES = 1_048_576
"""One text chunk of a PNG file, decompressed; the record of a batch is one. Pillow has the same limit."""
PNG_TEXTS = 32
"""Text chunks and colour profiles of a PNG file."""

# -- images of other programs ------------------------------------------------------------------------------------------

IMPORT_FILES = 100_000
"""Files in the folders of one import."""
IMPORT_CELLS = 200_000
"""Configurations x prompts x seeds of one import, images that are missing included."""

# -- records (what the PNG file of a run says about the image) ---------------------------------------------------------

LARGEST_SEED = 2**64 - 1
"""Of torch's generators, and of ComfyUI."""
RECORD_VERSIONS = 50
"""Versions that are noted."""

# -- a model's configuration -------------------------------------------------------------------------------------------

MODEL_BLOCKS = 8
"""Blocks of a network, down or up."""
MODEL_LAYERS = 64
"""Layers of a text encoder, and of one block; the largest CLIP has 32."""
MODEL_TRANSFORMERS = 64
"""Layers of all down blocks of a network, with the transformer layers in each; Stable Diffusion 1.x has 8."""
MODEL_STACK = 256
"""Layers or blocks of a transformer or text encoder."""
MODEL_CHANNELS = 16_384
"""Channels of a layer, width of an embedding."""
MODEL_VOCABULARY = 1_000_000
"""Tokens of a vocabulary."""
MODEL_POSITIONS = 16_384
"""Tokens that a text encoder reads at once."""
MODEL_LATENTS = 1_024
"""Width or height of the latents: sample_size of the UNet."""
MODEL_TIMESTEPS = 100_000
"""num_train_timesteps of a scheduler."""
MODEL_DEPTH = 6
"""Lists and mappings within each other in a configuration."""
MODEL_NUMBER = 10**30
"""The largest number in a configuration; tokenizers write 10**30 for 'no limit'."""
