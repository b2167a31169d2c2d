# Sourced by the scripts: make sure that a Docker Engine answers. Needs common.sh.

ENGINE_LOG=${ENGINE_LOG:-/var/log/celery-grid-dockerd.log}
ENGINE_WAIT_SECONDS=60

engine_answers() { # a docker client alone proves nothing: the daemon must answer
    command -v docker >/dev/null && timeout 15 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

engine_install() {
    say "installing docker.io (a Docker Engine)"
    # From Debian 13 on the client is a package of its own.
    apt_install docker.io && { command -v docker >/dev/null || apt_install docker-cli; } ||
        die 2 "The Docker Engine could not be installed; see the lines above." \
            "Install one by hand (https://docs.docker.com/engine/install/), then run this again."
}

engine_start() {
    if [ -d /run/systemd/system ]; then
        systemctl start docker || die 2 "The Docker Engine does not start: see  journalctl -u docker"
        return
    fi
    say "starting dockerd in the background (log: $ENGINE_LOG)"
    # A pid file left behind by a crash would stop the daemon if another process has that number now.
    if [ -f /var/run/docker.pid ] && ! grep -qs dockerd "/proc/$(cat /var/run/docker.pid)/comm"; then
        rm -f /var/run/docker.pid
    fi
    # In a session of its own, so that neither Ctrl-C nor the end of this script reaches it.
    setsid --fork dockerd >>"$ENGINE_LOG" 2>&1 </dev/null
}

engine_wait() {
    local deadline=$((SECONDS + ENGINE_WAIT_SECONDS))
    until engine_answers; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 15 "$ENGINE_LOG" >&2 2>/dev/null || true
            die 2 "The Docker Engine was started but does not answer after $ENGINE_WAIT_SECONDS s (log: $ENGINE_LOG)."
        fi
        sleep 0.2
    done
}

engine_advise() { # says exactly what to type, exit 2
    if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
        die 2 "A Docker Engine is here, but you may not use it. Type, then log in again:" \
            "    sudo usermod -aG docker $(id -un)"
    fi
    if command -v dockerd >/dev/null; then
        die 2 "The Docker Engine is installed but does not run. Type:" "    sudo systemctl start docker"
    fi
    die 2 "No Docker Engine answers. On Debian or Ubuntu type, then log in again:" \
        "    sudo apt-get update && sudo apt-get install -y docker.io && sudo usermod -aG docker $(id -un)" \
        "Elsewhere: https://docs.docker.com/engine/install/"
}

docker_engine() { # an engine answers when this returns; otherwise exit 2 with what to type
    engine_answers && return
    if [ -n "${DOCKER_HOST:-}" ]; then
        die 2 "DOCKER_HOST is $DOCKER_HOST, but no engine answers there. Start it, or type:  unset DOCKER_HOST"
    fi
    [ "$(id -u)" = 0 ] || engine_advise
    if ! command -v dockerd >/dev/null; then
        if ! may_install; then engine_advise; fi
        engine_install
        engine_answers && return # the package may have started it
    fi
    # `docker run --init` needs docker-init, which is Debian's tini.
    if ! command -v docker-init >/dev/null && may_install; then apt_install tini; fi
    engine_start
    engine_wait
}
