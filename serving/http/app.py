"""The ASGI app: the layers that a request passes on its way to the service, from the outside to the inside.

    KnownPaths          one name for all unknown paths, no slash at the end of known ones
    request metrics     BentoML's
    tracing, access log BentoML's, if configured
    CORS                BentoML's, if configured, and the service's, with `CORS_ORIGINS`
    AccessAndErrors     redirects; API keys; every error in one shape
    PredictionRoutes    reads, validates and answers predictions; the rest passes on to
    context             BentoML's, for the other routes
    other routes        Swagger UI and /try; BentoML's for health, metrics and schema

`docs/design.md` says why, and what BentoML's layers cost.
"""

import asyncio
import logging
from typing import Any

import bentoml
from starlette.applications import Starlette
from starlette.middleware import Middleware

from serving import page
from serving.dialogs.dialogs import Dialogs
from serving.http.access import Access
from serving.http.bentoml_app import api_methods, middleware_of, name_worker_in_log
from serving.http.middleware import AccessAndErrors, Cors, KnownPaths, known_paths
from serving.http.predictions import PredictionRoutes
from serving.http.swagger import swagger_routes
from serving.scoring.batching import load_classifier
from serving.scoring.monitoring import Monitoring
from serving.settings import read_settings

logger = logging.getLogger("bentoml.service")


def check_start(service: Any) -> None:
    """Check what a service needs, before any worker starts; log how to try it and who has access.

    Puts absolute paths and the model's full tag into the environment, so that all workers use the same ones.

    Raises BentoMLException with one line, which names the variable if its value is wrong.
    """
    settings = read_settings()
    load_classifier(settings.folder_of_model)
    access = Access(settings.keys, settings.open_metrics_and_docs)
    swagger_routes(service, access.needs_key)
    Monitoring.check(settings.monitoring)
    asyncio.run(Dialogs(settings.store_url, settings.history_days).check())
    settings.export_paths()
    logger.info("Try a chat in the browser: /try at the address below")
    logger.info("Access: %s", access)


class PredictionService(bentoml.Service[Any]):
    """A BentoML service that answers predictions before BentoML's own routing."""

    def to_asgi(self, is_main: bool = True) -> Starlette:
        """Return the app that a worker serves.

        Limits are those that BentoML is configured with: `traffic.timeout`, in seconds, and `traffic.max_concurrency`,
        of which each worker gets an equal part.
        """
        name_worker_in_log()
        settings = read_settings()
        access = Access(settings.keys, settings.open_metrics_and_docs)
        app: Starlette = super().to_asgi(is_main)
        app.router.routes[:0] = [*swagger_routes(self, access.needs_key), *page.routes()]
        cors = Middleware(
            Cors,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
        bentoml_parts = middleware_of(app)
        app.user_middleware = [
            Middleware(KnownPaths, known=known_paths(app.routes)),
            *bentoml_parts.outer,
            *([cors] if settings.cors_origins else []),
            Middleware(AccessAndErrors, access=access),
            Middleware(
                PredictionRoutes,
                routes=api_methods(self),
                max_body_bytes=settings.max_body_bytes,
                max_in_flight=bentoml_parts.max_in_flight,
                timeout=bentoml_parts.timeout,
            ),
            *bentoml_parts.inner,
        ]
        return app
