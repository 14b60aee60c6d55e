"""Options of commands, from command lines, YAML files and keyword arguments into checked dataclasses."""
