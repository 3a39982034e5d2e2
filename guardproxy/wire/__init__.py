"""THE FORMATS. Pure: bytes to values and back."""
