"""The admin side: metrics, life and readiness, for operations only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


def admin_app(registry: Callable[[], CollectorRegistry], is_ready: Callable[[], Awaitable[bool]]) -> FastAPI:
    """The application of the admin port.

    Args:
        registry: Gives the registry to export; called for each scrape.
        is_ready: Whether the proxy can serve.
    """
    app = FastAPI(title="guardproxy admin", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry()), media_type=CONTENT_TYPE_LATEST)

    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        ready = await is_ready()
        body = '{"status":"ok"}' if ready else '{"status":"not ready"}'
        return Response(body, 200 if ready else 503, media_type="application/json")

    return app
