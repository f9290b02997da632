"""The ASGI app: the layers that a request passes on its way to the service, from the outside to the inside.

    RequestId           the client's X-Request-ID or a new one, for the response and the log
    KnownPaths          one name for all unknown paths
    RequestMetrics      BentoML's metrics of requests
    tracing, access log BentoML's, if configured
    CORS                BentoML's, if configured, and the service's, with `CORS_ORIGINS`
    AccessAndErrors     redirects; API keys; every error in one shape
    PredictionRoutes    reads, validates and answers predictions; the rest passes on to
    other routes        Swagger UI and /try; BentoML's for health, metrics and schema

BentoML's app is left as it is. Its routes are served; its middleware is read but not run, because parts of it cost too
much (`docs/design.md` has the figures) or answer errors in other shapes.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp

from models.classifier import Classifier
from models.weights import ModelError
from serving import page
from serving.dialogs.dialogs import Dialogs
from serving.http.access import Access
from serving.http.bentoml_app import api_methods, name_worker_in_log, read_middleware
from serving.http.middleware import AccessAndErrors, Cors, KnownPaths, known_paths
from serving.http.predictions import PredictionRoutes
from serving.http.request_id import HEADER, RequestId
from serving.http.shutdown import PARENT
from serving.http.swagger import swagger_routes
from serving.memory import check_memory
from serving.scoring.batching import EXAMPLE
from serving.scoring.monitoring import Monitoring
from serving.settings import read_settings

CORS: Mapping[str, Any] = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", "Content-Type", HEADER],
    "expose_headers": ["Retry-After", HEADER],
}

logger = logging.getLogger("bentoml.service")


def check_start(service: Any) -> None:
    """Check what a service needs, before any worker starts; log how to try it and who has access.

    Puts absolute paths and the model's full tag into the environment, so that all workers use the same ones.

    Raises BentoMLException with one line, which names the variable if its value is wrong.
    """
    settings = read_settings()
    folder = settings.folder_of_model
    try:
        Classifier.load(folder).predict([EXAMPLE])
    except ModelError as error:
        raise BentoMLException(f"cannot serve the model: {error}") from None
    except Exception as error:  # whatever it is, every chat would get 500
        raise BentoMLException(f"cannot serve the model: {folder}: {error!r}") from None
    access = Access(settings.keys, settings.open_metrics_and_docs)
    swagger_routes(service, access)
    Monitoring.check(settings.monitoring)
    asyncio.run(Dialogs(settings.store, settings.history_days).check())
    check_memory(settings.workers)
    settings.export_paths()
    os.environ[PARENT] = str(os.getpid())
    logger.info("Try a chat in the browser: /try at the address below")
    logger.info("Access: %s", access)


class PredictionService(bentoml.Service[Any]):
    """A BentoML service that answers predictions before BentoML's app is entered."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Return the app that a worker serves.

        Limits are those that BentoML is configured with: `traffic.timeout`, in seconds, and `traffic.max_concurrency`,
        of which each worker gets an equal part.
        """
        name_worker_in_log()
        settings = read_settings()
        access = Access(settings.keys, settings.open_metrics_and_docs)
        bento: Starlette = super().to_asgi(is_main)
        in_front, limits = read_middleware(bento)
        pages = page.routes(settings.folder_of_model, needs_key=access.needs_key, docs_are_open=access.docs_are_open)
        others = Router(
            [*swagger_routes(self, access), *pages],
            redirect_slashes=False,
            default=bento.router,
            # it starts and stops the service, and takes BentoML's app in place of this router
            lifespan=lambda _: bento.router.lifespan_context(bento),  # type: ignore[arg-type]
        )
        app: ASGIApp = PredictionRoutes(
            ExceptionMiddleware(others),
            routes=api_methods(self),
            max_body_bytes=settings.max_body_bytes,
            **limits,
        )
        app = AccessAndErrors(app, access)
        if settings.cors_origins:
            app = Cors(app, **CORS, allow_origins=settings.cors_origins)
        for middleware in reversed(in_front):  # the first one is the outermost
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return RequestId(KnownPaths(app, known_paths([*others.routes, *bento.routes])))
