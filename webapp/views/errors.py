"""The pages of refusals: not found, not allowed, broken."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form came without its token: mostly an old page or cookies that are off."""
    return _page(request, 403, "This form is too old", "Reload the page and send it again; cookies must be allowed.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A request that makes no sense."""
    return _page(request, 400, "The request makes no sense", "")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Something that needs more rights."""
    return _page(request, 403, "You may not do this", "Ask the operator of this grid for the right.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """No such page, or one of somebody else."""
    return _page(request, 404, "There is nothing here", "The address is wrong, or what it names is not yours to see.")


def broken(request: HttpRequest) -> HttpResponse:
    """A fault of the server; the log has the details."""
    return _page(
        request, 500, "The server has a fault", "It is in the server's log. Try again; tell the operator if it stays."
    )


def _page(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    return render(request, "error.html", {"title": title, "text": text, "status": status}, status=status)
