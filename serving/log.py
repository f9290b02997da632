"""The log: BentoML's lines, with the id of the request that a line is about; as text or, with `LOG_FORMAT`, as JSON.

Ids are not inherited by the tasks that a request starts: such a task may serve other requests too, as a batch does.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from opentelemetry.trace import INVALID_SPAN_CONTEXT, format_span_id, format_trace_id, get_current_span

_own: ContextVar[tuple["asyncio.Task[Any] | None", str]] = ContextVar("own", default=(None, ""))
_OF_ACCESS = re.compile(r"method=(?P<method>[^,]*),path=(?P<path>[^,]*).*\(status=(?P<status>\d+)")


def set_request_id(request_id: str) -> None:
    """Let the lines of the current task be about a request, but not those of tasks that it starts."""
    _own.set((_current_task(), request_id))


def get_request_id() -> str:
    """Return the id of the request that the current task answers; "" for other tasks."""
    task, request_id = _own.get()
    return request_id if task is _current_task() else ""


def of_requests(request_ids: Iterable[str]) -> dict[str, str]:
    """Return the `extra` of a line about work that several requests share: their ids, separated by commas."""
    return {"request_ids": ",".join(dict.fromkeys(request_ids))}


def configure_log(log_format: str) -> None:
    """Give BentoML's log handler the ids of requests and, with `json`, the format."""
    for handler in logging.getLogger("bentoml").handlers:
        handler.addFilter(_name_request)
        if log_format == "json":
            handler.setFormatter(_JsonFormatter(datefmt="%Y-%m-%dT%H:%M:%S%z"))  # as in BentoML's own lines


def _current_task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # a thread without an event loop
        return None


def _name_request(record: logging.LogRecord) -> bool:
    """Name the request of a line in `trace_msg`, with which BentoML's format ends.

    BentoML's own filter, which comes first, has set it to the ids of the trace, or to nothing.
    """
    of_record: dict[str, Any] = vars(record)
    request_id = of_record["request_id"] = of_record.get("request_ids", get_request_id())
    is_own = request_id and request_id == get_request_id()
    of_record["span"] = get_current_span().get_span_context() if is_own else INVALID_SPAN_CONTEXT
    trace = of_record.get("trace_msg", "") if is_own else ""  # otherwise that of whoever has started the task
    of_record["trace_msg"] = f" (request_id={request_id}){trace}" if request_id else ""
    return True


class _JsonFormatter(logging.Formatter):
    """One JSON object for each line. Its fields have the names of BentoML's format, configuration and access log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; what is empty or unknown is left out."""
        known = vars(record)
        message = record.getMessage()
        of_access = _OF_ACCESS.search(message) if record.name == "bentoml.access" else None
        found = of_access.groupdict() if of_access else {"path": known.get("path"), "status": known.get("status")}
        is_traced = known["span"].is_valid
        line = {
            "asctime": self.formatTime(record, self.datefmt),
            "levelname": record.levelname,
            "component": known.get("component", "").strip("[]"),
            "name": record.name,
            "message": message,
            "request_id": known["request_id"],
            "trace_id": format_trace_id(known["span"].trace_id) if is_traced else None,
            "span_id": format_span_id(known["span"].span_id) if is_traced else None,
            **found,
            "status": int(found["status"]) if found["status"] else None,
            "exc_info": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in line.items() if value}, ensure_ascii=False)
