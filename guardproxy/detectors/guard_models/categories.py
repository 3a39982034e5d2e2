"""Our words for what guard models see: few, so that metrics, records and policies can use them."""

from __future__ import annotations

UNSAFE = "unsafe"
"""Unsafe, of no kind that has a word of its own here; the category of a score that says safe, too."""
CONTROVERSIAL = "controversial"
"""A third state of some guard models: unsafe in some places or eyes. What it means is the policy's to say."""
REFUSAL = "refusal"

CATEGORIES = (
    "violence", "crime", "sexual", "minors", "defamation", "advice", "privacy", "copyright", "weapons", "hate",
    "self_harm", "politics", "code_abuse", "jailbreak", "unethical", "harassment", "profanity", "dangerous",
    "nudity", "drugs", "animal_cruelty", "disaster",
)  # fmt: skip
"""`minors`: sexual exploitation of children. `advice`: specialised advice (medical, legal, financial).
`crime`: not violent. `dangerous`: may cause harm in the real world, such as weapons, terror, self-harm."""
