#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# davit-uninstall — takes the agent of Davit off this machine: says what stays and what goes, asks, tells the control plane, removes.
set -eu

PREFIX=/opt/davit
CONFIG=/etc/davit-agent
ACCOUNT=davit-agent
UNIT=/etc/systemd/system/davit-agent.service
MANAGED='label=davit.managed'

fail() {
    printf 'davit-uninstall: %s\n' "$1" >&2
    exit 1
}

containers() {
    command -v docker >/dev/null 2>&1 || return 0
    docker ps -a --filter "$MANAGED" --format "$1" 2>/dev/null || :
}

list() {
    echo 'goes:'
    for path in "$UNIT" "$PREFIX" "$CONFIG"; do
        [ ! -e "$path" ] || echo "  $path"
    done
    ! id "$ACCOUNT" >/dev/null 2>&1 || echo "  the account $ACCOUNT"
    names=$(containers '{{.Names}} ({{.Status}})')
    if [ -n "$names" ] && [ -n "$CONTAINERS" ]; then
        printf '%s\n' "$names" | sed 's/^/  container /'
    elif [ -n "$names" ]; then
        echo 'stays:'
        printf '%s\n' "$names" | sed 's/^/  container /'
        echo '  their images, volumes and networks'
    else
        echo 'stays: images, volumes and networks'
    fi
}

# The agent says goodbye when it is stopped and finds this file, which is gone when the control plane has heard it.
stop() {
    told=''
    if systemctl is-active --quiet davit-agent.service 2>/dev/null; then
        : >"$CONFIG/leaving"
        chown "$ACCOUNT:" "$CONFIG/leaving"
        systemctl stop davit-agent.service
        [ -e "$CONFIG/leaving" ] || told=yes
    fi
    if [ -n "$told" ]; then
        echo 'the control plane was told'
    else
        echo 'the control plane could not be told; there: davit server rm NAME'
    fi
}

remove() {
    if [ -n "$CONTAINERS" ]; then
        ids=$(containers '{{.ID}}')
        # shellcheck disable=SC2086 # one word each
        [ -z "$ids" ] || docker rm -f $ids >/dev/null || fail 'not all containers could be removed; the agent is stopped, and nothing else was removed'
    fi
    systemctl disable --quiet davit-agent.service 2>/dev/null || :
    rm -f "$UNIT"
    rm -rf "$UNIT.d"
    systemctl daemon-reload 2>/dev/null || :
    systemctl reset-failed davit-agent.service 2>/dev/null || :
    rm -rf "$PREFIX" "$CONFIG"
    if id "$ACCOUNT" >/dev/null 2>&1; then
        if command -v userdel >/dev/null 2>&1; then userdel "$ACCOUNT"; else deluser "$ACCOUNT"; fi
    fi
    if grep -q "^$ACCOUNT:" /etc/group; then
        if command -v groupdel >/dev/null 2>&1; then groupdel "$ACCOUNT"; else delgroup "$ACCOUNT"; fi
    fi
}

main() {
    CONTAINERS='' YES=''
    for word in "$@"; do
        case $word in
        --containers) CONTAINERS=yes ;;
        --yes | -y) YES=yes ;;
        -h | --help) echo 'usage: davit-uninstall [--yes] [--containers]   (--containers: also remove the containers that Davit runs)' && exit 0 ;;
        *) fail "$word is unknown (--help)" ;;
        esac
    done
    [ "$(id -u)" = 0 ] || fail 'only root can do this: run it with sudo'
    if [ -n "$CONTAINERS" ] && ! command -v docker >/dev/null 2>&1; then
        fail 'the program docker is needed to remove containers'
    fi
    list
    if [ -z "$YES" ]; then
        printf 'Remove it? [y/N] '
        read -r answer || answer=''
        case $answer in y | Y | yes) ;; *) fail 'nothing was changed' ;; esac
    fi
    stop
    remove
    echo 'done: davit-agent is off this machine'
}

main "$@"
