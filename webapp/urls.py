"""The table of all addresses."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path

from webapp import health, metrics
from webapp.api.routes import api

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/", api.urls),
    path("health", health.ready, name="health"),
    path("health/live", health.live, name="health-live"),
    path("metrics", metrics.scrape, name="metrics"),
    path("admin/", admin.site.urls),
]

handler400 = "webapp.views.errors.bad_request"
handler403 = "webapp.views.errors.forbidden"
handler404 = "webapp.views.errors.not_found"
handler500 = "webapp.views.errors.broken"
