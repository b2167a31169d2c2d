# Sourced by the scripts: make sure that images are there, with or without a registry. Needs common.sh and a running engine.

PULL_SECONDS=90

image_present() { docker image inspect "$1" >/dev/null 2>&1; }

registry_may_answer() { # false only when Docker Hub is surely out of reach; saves a long wait for a time-out
    local ways
    ways=$(docker info --format '{{.HTTPProxy}}{{.HTTPSProxy}}{{range .RegistryConfig.Mirrors}}{{.}}{{end}}' 2>/dev/null)
    [ -n "$ways" ] || timeout 4 bash -c '</dev/tcp/registry-1.docker.io/443' 2>/dev/null
}

busybox_static() { # busybox_static FOLDER: prints the path of a static busybox; may unpack Debian's package into FOLDER
    local found
    found=$(command -v busybox || true)
    if [ -n "$found" ] && [[ $(ldd "$found" 2>&1) == *"not a dynamic executable"* ]]; then
        printf '%s\n' "$found"
        return
    fi
    # Unpacked, not installed: installing it would remove the package busybox, which others may need.
    command -v apt-get >/dev/null || return 1
    (cd "$1" && chmod 755 . && "${APT[@]}" download busybox-static >/dev/null 2>&1) ||
        { may_install && "${APT[@]}" update >/dev/null 2>&1 &&
            (cd "$1" && "${APT[@]}" download busybox-static >/dev/null 2>&1); } || return 1
    dpkg-deb -x "$1"/busybox-static_*.deb "$1/package"
    find "$1/package" -type f -name busybox -perm -u+x | head -n 1
}

busybox_root() { # busybox_root BUSYBOX FOLDER: lays out the root file system of a minimal image
    local applet
    mkdir -p "$2"/{bin,dev,etc,proc,root,sys,tmp,usr,var}
    chmod 1777 "$2/tmp"
    cp "$1" "$2/bin/busybox"
    chmod 755 "$2/bin/busybox"
    for applet in $("$1" --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$2/bin/$applet"
    done
    ln -s bin "$2/sbin"
    ln -s ../bin "$2/usr/bin"
    ln -s ../bin "$2/usr/sbin"
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/nonexistent:/bin/false' >"$2/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$2/etc/group"
}

busybox_import() { # busybox_import NAME: makes the image NAME from the static busybox, without any registry
    local folder busybox
    folder=$(mktemp -d)
    if busybox=$(busybox_static "$folder") && [ -n "$busybox" ]; then
        busybox_root "$busybox" "$folder/root"
        tar -C "$folder/root" --owner=0 --group=0 --numeric-owner -c . |
            docker import --change 'CMD ["sh"]' \
                --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
                --message 'static busybox of Debian' - "$1" >/dev/null
        rm -rf "$folder"
    else
        rm -rf "$folder"
        die 2 "There is no image $1, no registry answers, and there is no static busybox to make one of. Type:" \
            "    sudo apt-get update && sudo apt-get install -y busybox-static"
    fi
}

image_local() { # image_local NAME: the image NAME made here, whether a registry answers or not
    image_present "$1" && return
    say "making the image $1"
    busybox_import "$1"
}

image_ensure() { # image_ensure NAME: pulls it; if that fails, the local busybox takes its name
    image_present "$1" && return
    if registry_may_answer; then
        say "pulling the image $1"
        if timeout "$PULL_SECONDS" docker pull -q "$1" >/dev/null 2>&1; then return; fi
    fi
    image_local busybox:local
    say "no registry answers: $1 is the local busybox"
    docker tag busybox:local "$1"
}
