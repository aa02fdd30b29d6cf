"""Charts and tables for the terminal."""
