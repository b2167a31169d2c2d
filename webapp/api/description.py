"""The API's description of itself, with the refusals that every operation of a kind may answer (RFC 9457)."""

from __future__ import annotations

import json
from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from webapp.problems import CONTENT_TYPE

_PROBLEM = {
    "title": "ProblemDetails",
    "type": "object",
    "description": "Why the request was refused (RFC 9457), with more where there is more to say.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "for people"},
        "faults": {
            "type": "array",
            "description": "everything that is wrong with a task or a request, each with its place",
            "items": {
                "type": "object",
                "required": ["path", "message", "hint"],
                "properties": {name: {"type": "string"} for name in ("path", "message", "hint")},
            },
        },
        "missing": {"type": "array", "items": {"type": "string"}, "description": "contents to upload first"},
    },
}
_WORDS = {
    400: "the request cannot be read",
    401: "nobody known asks",
    403: "not allowed to this token",
    404: "there is no such thing, or it is not yours",
    409: "the thing is not in the state that this needs",
    411: "the length of the body is missing",
    412: "it is no longer as If-Match says",
    413: "too large",
    416: "there is no such part of the file",
    422: "the request has faults; all of them are listed",
    503: "try again after Retry-After seconds",
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_BINARY = ("/blobs/", "/files/", "/logs/")


class DescribedAPI(NinjaAPI):
    """An API whose description names refusals too."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self._documents: dict[tuple[str | None, str], OpenAPISchema] = {}

    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        """The OpenAPI document; made once, for it takes a quarter of a second."""
        key = (path_prefix, json.dumps(path_params, sort_keys=True))
        if key not in self._documents:
            self._documents[key] = self._described(path_prefix, path_params)
        return self._documents[key]

    def _described(self, path_prefix: str | None, path_params: dict[str, Any] | None) -> OpenAPISchema:
        schema = super().get_openapi_schema(path_prefix=path_prefix, path_params=path_params)
        schema["components"]["schemas"]["ProblemDetails"] = _PROBLEM
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                _describe(path, method, operation)
        return schema


def _describe(path: str, method: str, operation: dict[str, Any]) -> None:
    responses: dict[int | str, Any] = operation["responses"]
    if method == "get" and any(part in path for part in _BINARY) and 200 in responses:
        responses[200]["content"] = _BYTES
        if "/logs/" not in path:
            responses[206] = {"description": "the part that Range asks for", "content": _BYTES}
    if path.endswith("/events") and "/tasks/" not in path:
        responses[200]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    for status in _refusals(path, method, operation):
        known = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
        responses.setdefault(status, {"description": _WORDS[status], "content": {CONTENT_TYPE: known}})


def _refusals(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    """The statuses with which an operation of this kind may refuse."""
    found = [400, 422, 503]
    found += [401, 403] if operation.get("security") else []
    found += [404] if "{" in path or method != "get" else []
    found += [409] if "{task_id}" in path or method != "get" or "{attempt_id}" in path else []
    found += [416] if method == "get" and any(part in path for part in ("/blobs/", "/files/")) else []
    found += [411, 413] if method in ("post", "put") else []
    found += [412] if any(one["name"] == "If-Match" for one in operation.get("parameters", ())) else []
    return sorted(found)
