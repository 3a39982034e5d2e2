"""Guard models that are asked over HTTP, a file each: what each is asked and how its answer is read."""
