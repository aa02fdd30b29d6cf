"""The run folder: database, image files, cached features. The only place with SQL."""
