"""What the command line does without serving traffic."""
