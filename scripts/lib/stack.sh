# Sourced by scripts/compose: the folder of a stack, with its settings, secrets, images and tokens. Needs common.sh.

STACK_DIR=${STACK_DIR:-/var/lib/celery-grid/stack}
# What may be set in the environment; the file `env` in the folder keeps it for the next time.
STACK_KEYS=(STACK_NAME STACK_NODES STACK_NODE_OPTIONS STACK_BIND STACK_PORT STACK_BROKER_PORT STACK_BROKER_HOST
    STACK_FLOWER_PORT STACK_PUBLIC_URL STACK_FLOWER_URL STACK_NODE_SERVER STACK_ALLOWED_HOSTS STACK_LEASE_SECONDS
    STACK_ALLOW_NETWORK STACK_HEALTH_INTERVAL STACK_STOP_GRACE STACK_BASE_IMAGE STACK_GRID_IMAGE STACK_POSTGRES_IMAGE
    STACK_REDIS_IMAGE)
OFFICIAL_BASE=python:3.11-slim-bookworm
OFFICIAL_POSTGRES=postgres:17-bookworm
OFFICIAL_REDIS=redis:7.2-bookworm

compose_command() { # sets $program: Docker Compose as a plugin or as a program, whichever is here
    if docker compose version >/dev/null 2>&1; then
        program=(docker compose)
    elif command -v docker-compose >/dev/null || { may_install && apt_install docker-compose; }; then
        program=(docker-compose)
    else
        die 2 "Docker Compose is missing. Type:  sudo apt-get install -y docker-compose"
    fi
}

compose() { # compose ARGUMENT...: on this stack
    local files=(--file compose/compose.yaml)
    # Only there has a container control groups of its own, unless told otherwise; Compose 1.29 does not know how.
    [ "$(docker info --format '{{.CgroupVersion}}')" != 2 ] || files+=(--file compose/cgroup-v2.yaml)
    "${program[@]}" --project-name "$STACK_NAME" --project-directory compose --env-file "$STACK_DIR/env" \
        "${files[@]}" "$@"
}

private() { # private FILE MODE: writes standard input there at once
    local draft
    draft=$(mktemp "$1.XXXXXX")
    cat >"$draft"
    chmod "$2" "$draft"
    mv -f "$draft" "$1"
}

secret() { od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'; }

stack_folders() {
    mkdir -p "$STACK_DIR" 2>/dev/null || die 2 "You may not write to $STACK_DIR: be root, or set STACK_DIR."
    STACK_DIR=$(cd "$STACK_DIR" && pwd -P)
    # Files in here are bound into containers one by one, so their users may read them; nobody else comes this far.
    install -d -m 0700 "$STACK_DIR/secrets" "$STACK_DIR/tokens" "$STACK_DIR/nodes"
}

stack_load() { # what an earlier `up` has noted
    [ -f "$STACK_DIR/env" ] || die 2 "There is no stack in $STACK_DIR. Start one:  scripts/compose up"
    STACK_DIR=$(cd "$STACK_DIR" && pwd -P)
    stack_read
}

stack_read() { # the noted settings, where the environment does not say otherwise
    local line key
    [ -f "$STACK_DIR/env" ] || return 0
    while IFS= read -r line; do
        key=${line%%=*}
        [[ " ${STACK_KEYS[*]} " == *" $key "* ]] || continue
        [ -n "${!key:-}" ] || printf -v "$key" %s "${line#*=}"
    done <"$STACK_DIR/env"
}

stack_settings() { # stack_settings NODES: what was said now, else noted, else the default; noted for the next time
    stack_read
    STACK_NAME=${STACK_NAME:-celery-grid}
    STACK_NODES=${1:-${STACK_NODES:-1}}
    STACK_BIND=${STACK_BIND:-127.0.0.1}
    STACK_PORT=${STACK_PORT:-8080}
    STACK_BROKER_PORT=${STACK_BROKER_PORT:-6379}
    STACK_BROKER_HOST=${STACK_BROKER_HOST:-$STACK_BIND}
    STACK_FLOWER_PORT=${STACK_FLOWER_PORT:-5555}
    STACK_PUBLIC_URL=${STACK_PUBLIC_URL:-http://$STACK_BIND:$STACK_PORT}
    STACK_FLOWER_URL=${STACK_FLOWER_URL:-http://$STACK_BIND:$STACK_FLOWER_PORT/flower/}
    STACK_NODE_SERVER=${STACK_NODE_SERVER:-http://$STACK_BIND:$STACK_PORT}
    STACK_ALLOWED_HOSTS=${STACK_ALLOWED_HOSTS:-localhost,127.0.0.1,web,$STACK_BIND}
    stack_note
}

stack_note() {
    local key
    {
        echo "# Settings of scripts/compose; what the environment says at the next  scripts/compose up  comes before them."
        echo "STACK_DIR=$STACK_DIR"
        for key in "${STACK_KEYS[@]}"; do [ -z "${!key:-}" ] || echo "$key=${!key}"; done
    } | private "$STACK_DIR/env" 0644
}

stack_official() {
    STACK_BASE_IMAGE=${STACK_BASE_IMAGE:-$OFFICIAL_BASE}
    STACK_POSTGRES_IMAGE=$OFFICIAL_POSTGRES
    STACK_REDIS_IMAGE=$OFFICIAL_REDIS
}

stack_images() { # those that nobody named are made here
    local line kind made
    made=$(BASE_IMAGE=${STACK_BASE_IMAGE:-} compose/images/build)
    while IFS= read -r line; do
        kind=STACK_$(echo "${line%%=*}" | tr '[:lower:]' '[:upper:]')_IMAGE
        case "${!kind:-}" in "" | celery-grid*:*) printf -v "$kind" %s "${line#*=}" ;; esac
    done <<<"$made"
    stack_note
}

stack_secrets() { # made once; the addresses follow the settings
    local one
    for one in secret_key postgres_password redis_password flower_password; do
        [ -s "$STACK_DIR/secrets/$one" ] || secret | private "$STACK_DIR/secrets/$one" 0444
    done
    local database redis flower
    database=$(cat "$STACK_DIR/secrets/postgres_password")
    redis=$(cat "$STACK_DIR/secrets/redis_password")
    flower=$(cat "$STACK_DIR/secrets/flower_password")
    kept database_url <<<"postgres://grid:$database@postgres:5432/grid"
    kept broker_url <<<"redis://:$redis@redis:6379/0"
    kept node_broker_url <<<"redis://:$redis@$STACK_BROKER_HOST:$STACK_BROKER_PORT/0"
    kept flower_auth <<<"grid:$flower"
    kept redis_conf <<EOF
bind * -::*
requirepass $redis
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
EOF
}

kept() { # kept NAME: standard input as a secret, in the file that containers hold while it is the same
    local text
    text=$(cat)
    [ "$(cat "$STACK_DIR/secrets/$1" 2>/dev/null)" = "$text" ] || private "$STACK_DIR/secrets/$1" 0444 <<<"$text"
}

shared() { case $(findmnt --noheadings --output PROPAGATION --target "$1") in *shared*) ;; *) return 1 ;; esac; }

stack_share() { # what a node's container mounts has to be seen by the engine: the nodes' folder has to be shared
    shared "$STACK_DIR/nodes" && return
    [ "$(id -u)" = 0 ] || die 2 "Mounts on this machine are private. Type, and again after each start of the machine:" \
        "    sudo mount --bind $STACK_DIR/nodes $STACK_DIR/nodes && sudo mount --make-shared $STACK_DIR/nodes"
    mount --bind "$STACK_DIR/nodes" "$STACK_DIR/nodes"
    mount --make-shared "$STACK_DIR/nodes"
}

stack_tokens() { # for the operator and each node that has none yet
    local number name wanted=() said
    for ((number = 1; number <= STACK_NODES; number++)); do
        [ -s "$STACK_DIR/tokens/$(node_name "$number")" ] || wanted+=(--node "$(node_name "$number")")
    done
    [ ${#wanted[@]} -gt 0 ] || [ ! -s "$STACK_DIR/client.toml" ] || return 0
    said=$(compose exec -T web grid-entrypoint manage gridinit "${wanted[@]}")
    # The first answer alone has the password.
    [ -s "$STACK_DIR/operator.json" ] || private "$STACK_DIR/operator.json" 0600 < <(field '{"user": said["user"], "password": said["password"]}' <<<"$said")
    private "$STACK_DIR/client.toml" 0600 <<EOF
[grid]
server = "$STACK_PUBLIC_URL"
token = "$(field 'said["user_token"]' <<<"$said")"
EOF
    for name in "${wanted[@]}"; do
        [ "$name" = --node ] || private "$STACK_DIR/tokens/$name" 0400 < <(field "said['node_tokens']['$name']" <<<"$said")
    done
}

node_name() { echo "${STACK_NAME}-$1"; }

field() { # field EXPRESSION: of the JSON on standard input, called `said`
    python3 -c "import json, sys; said = json.load(sys.stdin); out = $1; print(out if isinstance(out, str) else json.dumps(out))"
}

stack_forget() { # everything that `up` has made in the folder
    local nodes=$STACK_DIR/nodes
    while mountpoint --quiet "$nodes"; do umount "$nodes"; done
    rm -rf "${nodes:?}" "$STACK_DIR"/{secrets,tokens,outside} "$STACK_DIR"/{env,client.toml,operator.json}
    rmdir "$STACK_DIR" 2>/dev/null || true
}
