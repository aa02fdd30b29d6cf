"""What an experiment is: configurations, prompts, cells, YAML documents."""
