"""Public sets by their published layout, one a file. Cases only: nothing is downloaded or kept here."""
