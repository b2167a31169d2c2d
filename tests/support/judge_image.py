"""The image in which a judge works: Python, a C++ compiler and the usual tools, of the packages of this very machine.

What ``dpkg`` says belongs to the packages, and to those that they depend on, is packed and imported: seconds instead of
the minutes that fetching them again would take, and no registry or mirror is asked.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping

from tests.support.images import docker, present

IMAGE = "grid-judge"
_TOOLS = ("coreutils", "findutils", "diffutils", "grep", "sed", "dash", "bash", "tar", "gzip", "zip")
PACKAGES = ("python3", "g++", "passwd", *_TOOLS)
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SPARE = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/", "/usr/share/lintian/")
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
_ALTERNATIVE = re.compile(r"[,|]")


def ensure_judge_image() -> str:
    """The name of the image, made when there is none of just these packages in just these versions."""
    known = _installed()
    wanted = sorted(_closure(PACKAGES, known))
    versions = "\n".join(f"{name} {known[name][0]}" for name in wanted)
    image = f"{IMAGE}:{hashlib.sha256(versions.encode()).hexdigest()[:12]}"
    if not present(image):
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                _fill(tar, _paths(wanted))
            file.flush()
            docker("import", "--change", f"ENV {_PATH} LANG=C.UTF-8", "--change", 'CMD ["sh"]', file.name, image)
    return image


def _installed() -> dict[str, tuple[str, str]]:
    """Version and dependencies of every package here."""
    form = r"${Package}\t${db:Status-Status}\t${Version}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    said = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in said.splitlines()]
    return {row[0]: (row[2], row[3]) for row in rows if row[1] == "installed"}


def _closure(names: Iterable[str], known: Mapping[str, tuple[str, str]]) -> set[str]:
    """These packages and all that they need. Raises LookupError when one of them is not here."""
    found: set[str] = set()
    left = list(names)
    if missing := [name for name in left if name not in known]:
        raise LookupError(f"install {' '.join(missing)}")
    while left:
        name = left.pop()
        if name in found or name not in known:  # of alternatives, those that are not here are not it
            continue
        found.add(name)
        left += [word.split()[0].partition(":")[0] for word in _ALTERNATIVE.split(known[name][1]) if word.strip()]
    return found


def _paths(packages: Iterable[str]) -> Iterator[str]:
    said = subprocess.run(["dpkg-query", "-L", *packages], capture_output=True, text=True, check=True).stdout
    lines = (line for line in said.splitlines() if line.startswith("/") and line != "/.")
    return (line for line in dict.fromkeys(lines) if not line.startswith(_SPARE))


def _fill(tar: tarfile.TarFile, paths: Iterable[str]) -> None:
    """Pack the files with what a root file system has besides: links of the merged /usr, accounts, empty folders."""
    for name in _LINKS:
        if os.path.islink(f"/{name}"):
            tar.add(f"/{name}", name)
    for folder, mode in _FOLDERS.items():
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        tar.addfile(entry)
    done = {f"/{name}" for name in (*_LINKS, *_FOLDERS, *_ACCOUNTS)}
    for path in paths:
        # What packages call /bin/sh is /usr/bin/sh where /bin is a link.
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if real in done or not os.path.lexists(real):
            continue
        done.add(real)
        tar.add(real, real.lstrip("/"), recursive=False)
    for name, text in _ACCOUNTS.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))


_FOLDERS = {"tmp": 0o1777, "root": 0o700, "proc": 0o755, "sys": 0o755, "dev": 0o755}
_ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/shadow": b"root:*:1:0:99999:7:::\nnobody:*:1:0:99999:7:::\n",
    "etc/gshadow": b"root:*::\nnogroup:!::\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\nshadow: files\n",
}

if __name__ == "__main__":
    # The suite's set-up.
    print(ensure_judge_image())  # noqa: T201 - people read what a script prints
