"""Pictures: decoded once, bounded, written anew."""
