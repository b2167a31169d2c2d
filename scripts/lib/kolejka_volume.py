"""Fills the volume from which kolejka-worker takes the Python of its containers, without the Internet.

The worker's own script makes it of an Alpine with packages from the network. That very script runs here, unchanged, in
an image of the same layout with the Python, the C library and the busybox of this machine, and with an ``apk`` that has
nothing left to do. Run by the Python of the environment in which kolejka-worker is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

VOLUME = "kolejka_python"
THEIRS = "theirs"
_LABEL = "celery-grid.bench.content"
_SPARE = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip"}
_LIBRARY = re.compile(r"(/\S+) \(0x")
_APK = b"#!/bin/sh\nexit 0\n"
# The worker calls the loader with "--", as that of musl takes it; that of glibc knows no such word.
_LOADER = b'#!/bin/sh\n[ "$1" = -- ] && shift\nexec "${0%/*}/../usr/lib/ld.so" "$@"\n'


def main() -> int:
    """Make the volume with the image given as the only argument, which is the busybox, unless it is there already.

    One that the worker has made itself is left as it is.
    """
    base = sys.argv[1]
    made_of = (
        _docker("image", "inspect", "--format", "{{.Id}}", base),
        sys.version.encode(),
        Path(__file__).read_bytes(),
    )
    content = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:12]
    if _label() in (content, THEIRS):
        return 0
    image = f"kolejka-alpine:{content}"
    _docker("import", "-", image, given=_with_python(_root_of(base)))
    try:
        _docker("volume", "rm", "--force", VOLUME)
        _docker("volume", "create", "--label", f"{_LABEL}={content}", VOLUME)
        places = ["--volume", f"{VOLUME}:/kolejka_python", "--volume", f"{_script()}:/kolejka_python.sh:ro"]
        _docker("run", "--rm", "--network", "none", *places, image, "/bin/sh", "/kolejka_python.sh")
    finally:
        _docker("rmi", "--force", image)
    return 0


def _script() -> Path:
    found = importlib.util.find_spec("kolejka.worker")
    if found is None or found.origin is None:
        sys.exit("kolejka-worker is not installed in this environment")
    return Path(found.origin).with_name("create_alpine_python3_volume.sh")


def _label() -> str:
    """What the volume was made of by us; empty where there is none."""
    wanted = f'{{{{index .Labels "{_LABEL}"}}}}'
    done = subprocess.run(["docker", "volume", "inspect", "--format", wanted, VOLUME], capture_output=True, check=False)
    return done.stdout.decode().strip() or ("" if done.returncode else THEIRS)


def _docker(*arguments: str, given: bytes | None = None) -> bytes:
    done = subprocess.run(["docker", *arguments], input=given, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"docker {arguments[0]}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def _root_of(image: str) -> bytes:
    container = _docker("create", image, "sh").decode().strip()
    try:
        return _docker("export", container)
    finally:
        _docker("rm", "--force", container)


def _with_python(archive: bytes) -> bytes:
    """The archive with Python where an Alpine has it, so that the worker's launcher finds its loader and libraries."""
    buffer = io.BytesIO(archive)
    binary = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    standard = Path(sysconfig.get_path("stdlib"))
    extensions = list((standard / "lib-dynload").glob("*.so"))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for folder in ("lib", "usr/lib"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        _add(tar, "usr/bin/python3", binary)
        tar.add(standard, f"usr/lib/{standard.name}", filter=_needed)
        for library in _libraries(binary, *extensions):
            loader = library.name.startswith("ld-")
            _add(tar, f"usr/lib/{'ld.so' if loader else library.name}", library)
        for name, text in (("lib/ld-shim.so.1", _LOADER), ("sbin/apk", _APK)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            tar.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    tar.add(os.path.realpath(path), name)


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(entry.name)
    return None if name in _SPARE or name.startswith("config-") or entry.issym() else entry


def _libraries(*binaries: Path) -> Iterator[Path]:
    """What the dynamic loader would load for them, itself included."""
    said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    return (Path(name) for name in dict.fromkeys(_LIBRARY.findall(said)))


if __name__ == "__main__":
    sys.exit(main())
