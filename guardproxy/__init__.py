"""guardproxy: a guardrail proxy for vision-language models.

The way of a request:

    client → ingress.api → wire.chat.parse → exchange → client
                                              │ 1 images.intake     one true picture, written anew
                                              │ 2 detectors, core.judge
                                              │ 3 core.harden       the policy's rules in their slot
                                              │ 4 upstream          the model server
                                              │ 5 outward, core.gate   held until judged

Read `exchange`, `core.verdict` and `core.judge` next.
"""

__version__ = "0.1.0"
