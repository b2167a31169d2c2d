"""The table of all addresses."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.urls.converters import StringConverter
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt

from webapp import health, metrics
from webapp.api.routes import api
from webapp.views import account, again, files, logs, nodes, people, queue, staff, submit, task, tasks


class AnyName(StringConverter):
    """A name that people chose elsewhere: anything may stand in it, slashes and line ends too."""

    regex = r"(?s:.+)"


register_converter(AnyName, "name")


def on_demand(view: str) -> Callable[..., HttpResponseBase]:
    """The view of this dotted name, imported by the first request for it.

    What these views need is a sixth of all that a server loads at its start, and most grids never use it.
    """

    def answer(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        found: HttpResponseBase = import_string(view)(request, **arguments)
        return found

    return answer


# Of what is posted to it nothing changes anything, and Flower's pages know no token of ours.
flower = csrf_exempt(on_demand("webapp.views.flower.flower"))

urlpatterns: list[URLPattern | URLResolver] = [
    path("", tasks.task_list, name="tasks"),
    path("tasks/many/", tasks.do_many, name="tasks-many"),
    path("tasks/example/", tasks.example, name="tasks-example"),
    path("tasks/<str:task_id>/", task.task_page, name="task"),
    path("tasks/<str:task_id>/cancel/", task.cancel, name="task-cancel"),
    path("tasks/<str:task_id>/remove/", task.remove, name="task-remove"),
    path("tasks/<str:task_id>/again/", again.again_page, name="task-again"),
    path("tasks/<str:task_id>/file/", files.preview, name="task-file"),
    path("tasks/<str:task_id>/picture/", files.picture, name="task-picture"),
    path("tasks/<str:task_id>/log/<str:stream>/", logs.download, name="task-log"),
    path("submit/", submit.submit_page, name="submit"),
    path("submit/check/", submit.check, name="submit-check"),
    path("nodes/", nodes.node_list, name="nodes"),
    path("nodes/join/", nodes.join, name="nodes-join"),
    path("node/<str:name>/", nodes.node_page, name="node"),
    path("nodes/<str:name>/<str:verb>/", nodes.change, name="node-change"),
    path("queue/", queue.queue_page, name="queue"),
    path("flower/", flower, name="flower"),
    path("flower/<path:path>", flower),
    path("login/", people.ThrottledLogin.as_view(), name="login"),
    path("login/external/", on_demand("webapp.identity.begin"), name="oidc-begin"),
    path("login/external/callback/", on_demand("webapp.identity.back"), name="oidc-callback"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("api/", api.urls),
    path("kolejka/", include("webapp.compat.kolejka.urls")),
    path("health", health.ready, name="health"),
    path("health/live", health.live, name="health-live"),
    path("metrics", metrics.scrape, name="metrics"),
    path("admin/login/", people.operators_login),
    path("account/", account.account, name="account"),
    path("account/sessions/end/", account.end_sessions, name="account-sessions"),
    path("account/share/", account.share, name="account-share"),
    path("account/tokens/<int:token_id>/revoke/", account.revoke, name="account-revoke"),
    path("staff/", staff.overview, name="staff"),
    path("staff/audit/", staff.audit_page, name="staff-audit"),
    path("staff/tokens/", staff.token_page, name="staff-tokens"),
    path("staff/users/<name:name>/", staff.user_page, name="staff-user"),
    path("staff/groups/<name:name>/", staff.group_page, name="staff-group"),
    path("admin/", admin.site.urls),
]

handler400 = "webapp.views.errors.bad_request"
handler403 = "webapp.views.errors.forbidden"
handler404 = "webapp.views.errors.not_found"
handler500 = "webapp.views.errors.broken"
