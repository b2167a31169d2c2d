"""Images for tests, made with ``docker import``: no registry is asked.

``busybox:local`` is the static busybox; ``grid-test:local`` has in addition, under ``/bin``, the programs of
``tests/support/programs`` (when a C compiler is there):

- ``child_memory``: a child eats memory until it is killed, the program exits 0
- ``forker``: forks until it is refused, says how often, exits 0
- ``burner PROCESSES SECONDS``: spins in several processes
- ``stubborn``: ignores SIGTERM and leaves a grandchild in its own session, prints ``ready``
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BUSYBOX = "busybox:local"
TEST_IMAGE = "grid-test:local"
PROGRAMS = Path(__file__).parent / "programs"
_MAKE_BUSYBOX = Path(__file__).resolve().parents[2] / "scripts" / "lib" / "busybox-image"
_SUID = "suid/"
_LABEL = "celery-grid.test.content"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def docker(*arguments: str, given: bytes | None = None) -> bytes:
    """What the docker command prints; raises CalledProcessError, with the engine's words as a note, when it fails."""
    try:
        return subprocess.run(["docker", *arguments], input=given, capture_output=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr.decode(errors="replace"))
        raise


def present(name: str) -> bool:
    """Whether the engine has an image of this name."""
    done = subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False)
    return done.returncode == 0


def ensure_busybox() -> str:
    """The name of the image with the static busybox, made if it is not there."""
    with _one_at_a_time():
        subprocess.run([_MAKE_BUSYBOX, BUSYBOX], check=True)
    return BUSYBOX


def ensure_test_image() -> str:
    """The name of the image with busybox and the helper programs, made again when their sources have changed."""
    return ensure_image(TEST_IMAGE, PROGRAMS)


def ensure_image(name: str, programs: Path, suid: Collection[str] = ()) -> str:
    """The image ``name`` with busybox and the C programs of a folder, made again when their sources have changed.

    The programs ``suid`` are there twice, under ``/bin`` and as set-user-ID programs of root under ``/suid``.
    """
    ensure_busybox()
    with _one_at_a_time():
        content = _content_hash(programs)
        if not (present(name) and _label(name) == content):
            files = compiled(programs)
            doubles = {f"{_SUID}{program}": files[f"bin/{program}"] for program in suid if files}
            import_image(name, files | doubles, label=content)
    return name


def import_image(name: str, files: Mapping[str, bytes], *, label: str = "") -> None:
    """Make the image ``name``: busybox with these executable files of root added (paths relative to the root)."""
    changes = ['CMD ["sh"]', f"ENV {_PATH}", f"LABEL {_LABEL}={label or 'none'}"]
    options = [word for change in changes for word in ("--change", change)]
    docker("import", *options, "-", name, given=_with_files(_root_of(BUSYBOX), files))


def compiled(folder: Path = PROGRAMS) -> dict[str, bytes]:
    """Each program of ``folder`` as a static executable under ``bin/``; nothing when there is no C compiler for it."""
    programs = {}
    with tempfile.TemporaryDirectory() as scratch:
        for source in _sources(folder):
            target = Path(scratch) / source.stem
            options = ["-static", "-O1", "-Wall", "-Wextra", "-Werror"]
            try:
                subprocess.run(["gcc", *options, "-o", target, source], check=True)
            except FileNotFoundError:
                return {}
            programs[f"bin/{source.stem}"] = target.read_bytes()
    return programs


@contextmanager
def tagged(name: str, image: str = BUSYBOX) -> Iterator[str]:
    """A second name for a local image, taken away at the end; an image that has the name already is left as it is."""
    if present(name):
        yield name
        return
    docker("tag", image, name)
    try:
        yield name
    finally:
        docker("rmi", "--no-prune", name)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Several test processes want the same image: the first makes it, the others find it."""
    with (Path(tempfile.gettempdir()) / "celery-grid-test-images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sources(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.c"))


def _content_hash(programs: Path) -> str:
    """Changes with the sources and with the image below."""
    digest = hashlib.sha256(docker("image", "inspect", "--format", "{{.Id}}", BUSYBOX))
    for source in _sources(programs):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _label(name: str) -> str:
    wanted = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
    return docker("image", "inspect", "--format", wanted, name).decode().strip()


def _root_of(image: str) -> bytes:
    """The image's root file system as a tar archive."""
    container = docker("create", image, "sh").decode().strip()
    try:
        return docker("export", container)
    finally:
        docker("rm", "--force", container)


def _with_files(archive: bytes, files: Mapping[str, bytes]) -> bytes:
    """The archive with executable files added at its end."""
    buffer = io.BytesIO(archive)
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o4755 if name.startswith(_SUID) else 0o755
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
