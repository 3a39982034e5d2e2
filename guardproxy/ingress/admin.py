"""The admin side: metrics, life and readiness, for operations only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from guardproxy.ingress.openapi import document

OK = "ok"


def admin_app(
    registry: Callable[[], CollectorRegistry],
    readiness: Callable[[], Awaitable[dict[str, str]]],
    dialects: Sequence[str],
) -> FastAPI:
    """The application of the admin port.

    Args:
        registry: Gives the registry to export; called for each scrape.
        readiness: What the proxy needs to serve, each `ok` or what is wrong with it.
        dialects: Spoken on the API side, which `/openapi.json` describes.
    """
    app = FastAPI(title="guardproxy admin", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry()), media_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return JSONResponse(document(dialects))

    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        needs = await readiness()
        is_ready = all(state == OK for state in needs.values())
        return JSONResponse(
            {"status": OK if is_ready else "not ready", "needs": needs}, 200 if is_ready else 503
        )

    return app
