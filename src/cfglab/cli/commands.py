"""The application with all of its commands: each of these files adds its own."""

from cfglab.cli import drawing, importing, looking, picture, reading, tuning  # noqa: F401
from cfglab.cli.app import app as app
