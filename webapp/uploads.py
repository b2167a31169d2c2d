"""From what a form brings to a task: the files go into a folder of their own, which is read as any task folder is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from django.contrib.auth.models import User
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParser
from django.utils.datastructures import MultiValueDict

from grid.core import intake
from grid.core.conf import conf
from grid.core.people import access
from grid.folder import MAX_SPEC_BYTES, SPEC_NAMES, Overrides, Package, read_folder
from tasks.errors import Fault, SpecError
from tasks.jsontext import parse_json
from webapp.archives import JUNK, Box, Caps, unpack
from webapp.taskform import Filled, description, with_names

CAPS = Caps()


class FolderParser(MultiPartParser):
    """Keeps the relative paths that browsers send for the files of a folder; Django cuts them to the last name.

    Each upload is called by a number instead, and ``paths`` tells what the browser called it: a name that nobody has
    checked and that is used only through ``webapp.archives``.
    """

    def __init__(self, paths: dict[str, str], *args: Any) -> None:
        super().__init__(*args)
        self._paths = paths

    def sanitize_file_name(self, file_name: str) -> str | None:
        """The number of the upload, or None for an empty field."""
        if super().sanitize_file_name(file_name) is None:
            return None
        number = f"{len(self._paths):06d}"
        self._paths[number] = file_name
        return number


def keep_paths(request: HttpRequest) -> dict[str, str]:
    """Have the body of ``request`` parsed with paths; call it before anything looks at POST, which fills the dict."""
    paths: dict[str, str] = {}
    request.parse_file_upload = partial(_parse, request, paths)  # type: ignore[method-assign]
    return paths


def _parse(
    request: HttpRequest, paths: dict[str, str], meta: dict[str, Any], post_data: Any
) -> tuple[QueryDict, MultiValueDict[str, UploadedFile[Any]]]:
    return FolderParser(paths, meta, post_data, request.upload_handlers, request.encoding or "utf-8").parse()


@contextmanager
def a_box() -> Iterator[Box]:
    """A folder for one submit, gone afterwards."""
    around = conf().dir / "uploads"
    around.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=around) as folder:
        yield Box(Path(folder), CAPS)


def put_files(box: Box, files: list[UploadedFile[Any]], paths: dict[str, str]) -> None:
    """The files of a form, each under the path that the browser gave."""
    for file in files:
        box.file(paths.get(file.name or "", file.name or ""), file.chunks())


def put_archive(box: Box, archive: UploadedFile[Any]) -> None:
    """What is in an archive."""
    if archive.file is None:
        raise SpecError([Fault("archive", "is empty")])
    unpack(archive.file, archive.size or 0, box)


def packed(box: Box, filled: Filled) -> tuple[str, Package]:
    """The name of the folder in the box, empty for the box itself, and the task in it.

    What was filled in goes on top of the description there. Raises SpecError with all faults of both.
    """
    folder = _task_folder(box.root)
    described = _described(folder)
    base = _description_in(folder) if described and not filled.spec.strip() else None
    made = description(filled, base)
    if not described:
        names = {one.name: None for one in sorted(folder.iterdir()) if one.name != JUNK}
        made = with_names(made, names, adding=filled.adding)
    return folder.name if folder != box.root else "", read_folder(folder, Overrides(description=made))


def send_files(package: Package, owner: User, now: datetime) -> None:
    """Store those files of the task that are not stored yet."""
    for sha256 in access.missing_blobs(owner, package.files, now):
        intake.upload(owner, package.files[sha256].chunks(), sha256, now)


def stem(name: str) -> str:
    """The name of an archive as the name of a task: without folders and endings."""
    return PurePosixPath(name.replace("\\", "/")).name.split(".")[0]


def _task_folder(root: Path) -> Path:
    """The task folder in the box: the root, or the one folder that everything is in."""
    if not _described(root):
        inner = [one for one in root.iterdir() if one.name != JUNK]
        if len(inner) == 1 and inner[0].is_dir():
            return inner[0]
    return root


def _described(folder: Path) -> bool:
    return any((folder / name).is_file() for name in SPEC_NAMES)


def _description_in(folder: Path) -> dict[str, object]:
    path = next(folder / name for name in SPEC_NAMES if (folder / name).is_file())
    if path.stat().st_size > MAX_SPEC_BYTES:
        raise SpecError([Fault(path.name, f"is larger than {MAX_SPEC_BYTES} bytes", "put contents into files")])
    return parse_json(path.read_bytes())
