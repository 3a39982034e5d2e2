"""The model server, behind a small protocol. Only `exchange` and `app` may import this."""

from guardproxy.upstream.http1 import Limits, Pool, Response, Target

__all__ = ["Limits", "Pool", "Response", "Target"]
