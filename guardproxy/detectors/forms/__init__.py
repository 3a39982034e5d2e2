"""Forms of personal data and secrets: what they look like, and the evidence that something is one."""
