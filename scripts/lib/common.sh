# Sourced by the scripts: words for people, and packages of Debian and Ubuntu.

# Where Python is told to keep no bytecode, each of the grid's programs compiles all of its modules at every start.
unset PYTHONDONTWRITEBYTECODE

say() { printf '\033[1m%s\033[0m\n' "== $*" >&2; }

die() { # die STATUS LINE...: print the lines and leave
    local status=$1
    shift
    printf '%s\n' "$@" >&2
    exit "$status"
}

may_install() { # true when we are root on a system with apt
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

APT=(env DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Use-Pty=0 -q)

apt_install() { # apt_install PACKAGE...: quietly; reads the package lists only when that is needed
    "${APT[@]}" install -y --no-install-recommends "$@" >/tmp/celery-grid-apt.$$ 2>&1 ||
        { "${APT[@]}" update && "${APT[@]}" install -y --no-install-recommends "$@"; } >/tmp/celery-grid-apt.$$ 2>&1 ||
        { tail -n 20 /tmp/celery-grid-apt.$$ >&2; rm -f /tmp/celery-grid-apt.$$; return 1; }
    rm -f /tmp/celery-grid-apt.$$
}
