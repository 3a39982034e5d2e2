"""The model servers, behind a small protocol. Only `exchange` and `app` may import this."""

from guardproxy.upstream.fleet import Fleet, Server
from guardproxy.upstream.http1 import ENDLESS, Pool, Response
from guardproxy.upstream.target import Limits, Target

__all__ = ["ENDLESS", "Fleet", "Limits", "Pool", "Response", "Server", "Target"]
