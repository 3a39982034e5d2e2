"""Makes and calibrates the embedded classifiers, from labelled rows."""
