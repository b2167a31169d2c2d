"""All operations of the API put together."""

from __future__ import annotations

from webapp import problems
from webapp.api import (
    about,
    again,
    audit,
    blobs,
    events,
    many,
    node,
    nodes,
    notices,
    operating,
    outputs,
    people,
    queue,
    secrets,
    tasks,
)
from webapp.api.description import DescribedAPI

api = DescribedAPI(
    title="celery-grid",
    version="1",
    description="Tasks go in, results with a reason come out. Errors are `application/problem+json`.",
    urls_namespace="api",
    docs_url="/docs",
    openapi_url="/openapi.json",
)
problems.install(api)
for prefix, router in (
    ("/v1/tasks", many.router),  # before those that take any word for the id of a task
    ("/v1/tasks", tasks.router),
    ("/v1/tasks", again.router),
    ("/v1/tasks", outputs.router),
    ("/v1/blobs", blobs.router),
    ("/v1/nodes", nodes.router),
    ("/v1/queue", queue.router),
    ("/v1/node", node.router),
    ("/v1/secrets", secrets.router),
    ("/v1/events", events.router),
    ("/v1", notices.router),
    ("/v1", operating.router),
    ("/v1", audit.router),
    ("/v1", people.router),
    ("/v1", about.router),
):
    api.add_router(prefix, router)
