"""Searching for a guidance, and testing what was found."""
