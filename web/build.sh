#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build.sh DIST PROTO         builds the dashboard and copies it to DIST: what is served
# build.sh --test PROTO       runs its unit tests
# build.sh --can              can this machine build it? If not, says why and fails
# build.sh --embed MODE FROM PROTO OUT.c OUT.bin DEPFILE    the same for the build of davitd (MODE build; prebuilt takes the files in FROM)
# A build lies in the user's cache under the hash of all that goes into it: the next tree takes it from there.
set -euo pipefail
web=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/davit

fail() {
    echo "dashboard: $1" >&2
    exit 1
}

tools() {
    command -v node >/dev/null || fail "Node.js is missing (18 or later: apt-get install nodejs npm)"
    command -v npm >/dev/null || fail "npm is missing (apt-get install npm)"
    command -v protoc >/dev/null || fail "protoc is missing (apt-get install protobuf-compiler)"
    node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)' || fail "Node.js $(node --version) is too old: 18 or later is needed"
}

# What the dashboard is made from, sorted; not what web/dev leaves here.
sources() { # PROTO
    find "$web" \( -name node_modules -o -name dist -o -name gen -o -name 'node-test-*' \) -prune -o -type f -print | LC_ALL=C sort
    find "$1" -name '*.proto' | LC_ALL=C sort
}

packages() {
    "$web/../tools/npm-install" "$web"
}

# A folder to work in: nothing is written where the source lies.
furnish() { # FOLDER
    (cd "$web" && tar -cf - --exclude=./node_modules --exclude=./dist --exclude=./src/gen .) | tar -C "$1" -xf -
    ln -s "$(packages)" "$1/node_modules"
}

# Prints the folder of the built files.
built() { # PROTO
    local proto key folder work
    proto=$(cd "$1" && pwd)
    # By content and by the names within their folders, wherever the tree lies.
    key=$(sources "$proto" | tr '\n' '\0' | xargs -0 sha256sum | sed "s|  $web/|  |; s|  $proto/|  |" | sha256sum | cut -c1-16)
    folder=$cache/web-$key
    mkdir -p "$cache"
    # Two trees that build at once build once.
    exec 9>"$cache/web.lock"
    flock 9
    if [ ! -e "$folder/index.html" ]; then
        tools
        work=$(mktemp -d "$cache/web-part.XXXXXX")
        # shellcheck disable=SC2064  # the name as it is now
        trap "rm -rf '$work'" EXIT
        furnish "$work"
        (cd "$work" && node build.mjs gen "$proto" check bundle) >&2 || fail "it does not build"
        # Old ones: a tree that still wants one builds it again.
        find "$cache" -maxdepth 1 -name 'web-*' -type d -mtime +14 -exec rm -rf {} +
        rm -rf "$folder"
        mv "$work/dist" "$folder"
    fi
    flock -u 9
    echo "$folder"
}

case ${1:-} in
    --can)
        tools
        NPM_LIMIT=90 packages >/dev/null 2>&1 || fail "its packages cannot be fetched with npm"
        ;;
    --test)
        proto=$(cd "${2:?usage: build.sh --test PROTO}" && pwd)
        tools
        work=$(mktemp -d)
        trap 'rm -rf "$work"' EXIT
        furnish "$work"
        (cd "$work" && node build.mjs gen "$proto" test)
        ;;
    --embed)
        mode=$2 from=$3 proto=$4 out=$5 blob=$6 depfile=$7
        if [ "$mode" = build ]; then
            from=$(built "$proto")
            watched=$(sources "$proto" && find "$web/src" "$web/public" "$proto" -type d ! -path '*/gen*')
        else
            watched=$(find "$from")
        fi
        "$web/embed.py" "$from" "$out" "$blob"
        printf '%s: %s\n' "$out" "$(tr '\n' ' ' <<<"${watched// /\\ }")" >"$depfile"
        ;;
    '' | -*)
        echo "usage: build.sh DIST PROTO" >&2
        exit 2
        ;;
    *)
        from=$(built "${2:?usage: build.sh DIST PROTO}")
        rm -rf "$1"
        cp -r "$from" "$1"
        ;;
esac
