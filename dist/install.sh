#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh — makes this machine a server of a control plane of Davit: programs under /opt/davit, an account, a service.
#
#   as `davit server add` prints it:   (export DAVIT_TOKEN=...; curl ... https://HOST:7440/install.sh | sudo --preserve-env=DAVIT_TOKEN sh -s -- ...)
#   from a directory of a release:     sudo sh install.sh --from DIR [--server HOST:PORT --token-file FILE]
#
# Nothing is installed before the archive was found to be the one of a release that two of three keys have signed (where OpenSSL 3 is
# missing: of the release of the control plane that served this script). Running it again changes nothing that is right already. The whole
# is read before any of it runs.
set -eu

# From where, and the key that must answer there; put in by the control plane that serves this script.
DAVIT_FROM=''
DAVIT_PIN=''

# Public keys of releases (raw Ed25519, hex); put in when a release is made.
RELEASE_KEYS='@RELEASE_KEYS@'

PREFIX=/opt/davit
CONFIG=/etc/davit-agent
ACCOUNT=davit-agent
UNIT=/etc/systemd/system/davit-agent.service
TMP=''
STAGED=''

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    if [ $# -gt 1 ]; then
        printf '  hint: %s\n' "$2" >&2
    fi
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

usage() {
    cat <<'USAGE'
usage: install.sh [OPTIONS]

  --from DIR|URL      where the release is (default: the control plane that served this script)
  --pin sha256//...   the key that must answer at an https URL, instead of the system's certificates
  --server HOST:PORT  enroll at this control plane; the token comes from DAVIT_TOKEN or --token-file
  --mode MODE         direct or tunnel (default direct)
  --token-file FILE   file with the join token
  --force             replace an enrolment that is there
  --skip-signature    without OpenSSL 3 on this machine: go by the checksum alone

examples, as root:
  DAVIT_TOKEN=davit1... sh install.sh --server cp.example.com:7442
  sh install.sh --from ./davit-1.2.0 --server https://davit.example.com --mode tunnel --token-file token
USAGE
}

# shellcheck disable=SC2317 # the trap calls it
clean() {
    [ -z "$TMP" ] || rm -rf "$TMP"
    if [ -n "$STAGED" ]; then
        rm -rf "$STAGED"
        rmdir "$PREFIX/slots" "$PREFIX" 2>/dev/null || :
    fi
}

# --- This machine ---

check_machine() {
    [ "$(id -u)" = 0 ] || fail 'only root can install this' 'run it with sudo'
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s); the agent runs on Linux only"
    case $(uname -m) in
    x86_64 | amd64) PLATFORM=linux-amd64 ;;
    aarch64 | arm64) PLATFORM=linux-arm64 ;;
    *) fail "there is no agent for this kind of processor ($(uname -m)), only for amd64 and arm64" ;;
    esac
    for tool in awk chown cut grep head mktemp sed sha256sum tar wc; do
        have "$tool" || fail "the program $tool is missing"
    done
    if ! have systemctl || [ ! -d /run/systemd/system ]; then
        fail 'this machine does not run systemd' 'unpack the archive of the release and let davit-agent run be started by what you have'
    fi
}

# --- The release ---

# fetch NAME BYTES: into $TMP/NAME, of which more than BYTES is not wanted.
fetch() {
    case $FROM in
    https://*)
        if have curl; then
            set -- "$1" "$2" -fsS --proto '=https' --connect-timeout 20 --max-time 1800
            [ -z "$PIN" ] || set -- "$@" -k --pinnedpubkey "$PIN"
            fetch_to "$1" "$2" curl "$@"
        elif have wget; then
            set -- "$1" "$2" -q -T 20 -t 1 -O -
            if [ -n "$PIN" ]; then
                wget --help 2>&1 | grep -q pinnedpubkey || fail 'the wget of this machine cannot check the key of the control plane' 'install curl'
                set -- "$@" --no-check-certificate "--pinnedpubkey=$PIN"
            fi
            fetch_to "$1" "$2" wget "$@"
        else
            fail 'neither curl nor wget is there' 'install curl'
        fi
        ;;
    *)
        [ -f "$FROM/$1" ] || fail "$FROM/$1 is missing" 'name the directory of a release with --from'
        head -c "$(($2 + 1))" "$FROM/$1" >"$TMP/$1" || fail "$1 could not be copied" "is there room in ${TMPDIR:-/tmp}?"
        ;;
    esac
    [ "$(wc -c <"$TMP/$1")" -le "$2" ] || fail "$1 is larger than it may be"
}

# fetch_to NAME BYTES PROGRAM NAME BYTES OPTION...
fetch_to() {
    name=$1 bytes=$2 program=$3
    shift 5
    { "$program" "$@" "$FROM/$name" || echo "$?" >"$TMP/failed"; } | head -c "$((bytes + 1))" >"$TMP/$name" || : >"$TMP/failed"
    [ ! -e "$TMP/failed" ] || fail "$FROM/$name could not be fetched (see above)" "is the address right, is the line not too old, is there room in ${TMPDIR:-/tmp}?"
}

# The bytes that HEX means.
unhex() {
    # shellcheck disable=SC2059 # octal escapes, nothing else
    printf "$(printf '%s\n' "$1" | sed 's/../& /g' | awk '{
        for (i = 1; i <= NF; i++)
            printf "\\%03o", 16 * (index("0123456789abcdef", substr($i, 1, 1)) - 1) + index("0123456789abcdef", substr($i, 2, 1)) - 1
    }')"
}

# 0: signed by two of the keys. 1: not. 2: this machine cannot tell.
check_signatures() {
    have openssl && openssl pkeyutl -help 2>&1 | grep -q -e '-rawin' || return 2
    good=0
    for key in $RELEASE_KEYS; do
        id=$(unhex "$key" | sha256sum | cut -c 1-16)
        signature=$(sed -n "s/^$id \\([0-9a-f]\\{128\\}\\)\$/\\1/p" "$TMP/release.sig")
        [ -n "$signature" ] || continue
        unhex "302a300506032b6570032100$key" >"$TMP/key"
        unhex "$signature" >"$TMP/signature"
        openssl pkeyutl -verify -pubin -keyform DER -inkey "$TMP/key" -rawin -in "$TMP/release.json" -sigfile "$TMP/signature" \
            >/dev/null 2>&1 || return 1
        good=$((good + 1))
    done
    [ "$good" -ge 2 ]
}

check_release() {
    case $RELEASE_KEYS in
    '' | *[!0-9a-f\ ]*) fail 'this script carries no keys of releases' 'use the install.sh of a release' ;;
    esac
    fetch release.json 16384
    fetch release.sig 4096
    rc=0
    check_signatures || rc=$?
    case $rc in
    0) say 'release: signed by two of three keys' ;;
    1) fail 'the signature of the release does not hold; nothing was installed' 'get the release again, from its makers' ;;
    *)
        # A control plane that served this script is believed in any case; where a script of a release was told to load from is not.
        [ -n "$SKIP" ] || { [ -n "$DAVIT_FROM" ] && [ "$FROM" = "$DAVIT_FROM" ]; } ||
            fail 'the signature cannot be checked: OpenSSL 3 is missing' 'install openssl, or use --skip-signature and go by the checksum alone'
        say 'note: the signature was not checked here, OpenSSL 3 is missing; the checksum is, and updates check both'
        ;;
    esac
    [ "$(wc -l <"$TMP/release.json")" -eq 1 ] || fail 'release.json is not one line'
    VERSION=$(sed -n 's/^{"format":1,"channel":"[a-z0-9.-]*","version":"\([0-9A-Za-z.-]*\)",.*/\1/p' "$TMP/release.json")
    expires=$(sed -n 's/.*,"expires":\([0-9]*\),"files":\[.*/\1/p' "$TMP/release.json")
    if [ -z "$VERSION" ] || [ -z "$expires" ]; then
        fail 'release.json cannot be read'
    fi
    COUNTER=$(sed -n 's/^[^[]*,"counter":\([0-9]*\),.*/\1/p' "$TMP/release.json")
    [ "$(date +%s)" -lt "$expires" ] || fail "the release $VERSION has expired" 'get a newer one, or look at the clock of this machine'
    # shellcheck disable=SC2046 # three words
    set -- $(sed -n "s/.*{\"platform\":\"$PLATFORM\",\"name\":\"\\([0-9A-Za-z.-]*\\)\",\"size\":\\([0-9]*\\),\"sha256\":\"\\([0-9a-f]\\{64\\}\\)\"}.*/\\1 \\2 \\3/p" "$TMP/release.json")
    [ $# -eq 3 ] || fail "the release $VERSION has nothing for $PLATFORM"
    [ "$1" = "davit-$VERSION-$PLATFORM.tar" ] || fail 'release.json names a strange file'
    ARCHIVE=$1
    fetch "$1" "$2"
    [ "$(sha256sum <"$TMP/$1" | cut -d ' ' -f 1)" = "$3" ] || fail "the checksum of $1 is wrong; nothing was installed" 'the download was cut off or changed on its way: try again'
    say "release: davit $VERSION for $PLATFORM, checksum right"
}

# --- Installing ---

# Unpacks beside the other slots and looks whether the programs run here. Until it has its name nothing of it counts.
stage() {
    top=${ARCHIVE%.tar}
    STAGED=$PREFIX/slots/.new-install
    rm -rf "$STAGED"
    mkdir -p "$STAGED" || fail "$PREFIX cannot be written"
    tar -xf "$TMP/$ARCHIVE" -C "$STAGED" --no-same-owner || fail 'the archive could not be unpacked' "is there room in $PREFIX?"
    sed 's/^\([0-9a-f]*\)  [0-7]*  /\1  /' "$STAGED/$top/MANIFEST" >"$TMP/manifest"
    (cd "$STAGED/$top" && sha256sum -c --status "$TMP/manifest") || fail 'what was unpacked is not what the archive says' "is there room in $PREFIX?"
    said=$("$STAGED/$top/davit-agent" version 2>&1) || fail "the program does not run here: $said"
    [ "$said" = "davit-agent $VERSION" ] || fail "the program says that it is \"$said\""
    # The agent notes the highest number of a release that it was shown: no way leads back behind that.
    seen=$(sed -n '1s/^\([0-9]\{1,16\}\)$/\1/p' "$PREFIX/slots/counter" 2>/dev/null || :)
    installed || [ "${COUNTER:-0}" -ge "${seen:-0}" ] ||
        fail "release $VERSION has the number $COUNTER, but this machine knows of $seen: it is an old one; nothing was changed" \
            "get a newer one; if it must be this one: rm $PREFIX/slots/counter"
}

# Is what was unpacked in use already?
installed() {
    current=$(readlink "$PREFIX/current" 2>/dev/null || :)
    [ -n "$current" ] && cmp -s "$PREFIX/$current/MANIFEST" "$STAGED/$top/MANIFEST" &&
        (cd "$PREFIX/$current" && sha256sum -c --status "$TMP/manifest")
}

make_account() {
    if ! id "$ACCOUNT" >/dev/null 2>&1; then
        if have useradd; then
            useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$ACCOUNT"
        elif have adduser; then
            adduser -S -D -H -h /nonexistent -s /sbin/nologin "$ACCOUNT"
        else
            fail "the account $ACCOUNT cannot be made: neither useradd nor adduser is there"
        fi
        say "account: $ACCOUNT"
    fi
    group=$(stat -c %G /var/run/docker.sock 2>/dev/null || echo docker)
    if [ "$group" = root ] || ! grep -q "^$group:" /etc/group; then
        say "note: there is no group of Docker's socket yet; when Docker is installed: usermod -aG docker $ACCOUNT"
    elif ! id -nG "$ACCOUNT" | tr ' ' '\n' | grep -qx "$group"; then
        if have usermod; then usermod -aG "$group" "$ACCOUNT"; else addgroup "$ACCOUNT" "$group"; fi
        say "account: $ACCOUNT is in the group $group, which is as much as root"
    fi
}

# point NAME TARGET: atomically.
point() {
    ln -sfn "$2" "$1.new" && mv -Tf "$1.new" "$1"
}

# From here on no update leads back behind this release either.
note_counter() {
    [ "${COUNTER:-0}" -gt "${seen:-0}" ] || return 0
    echo "$COUNTER" >"$STAGED/counter"
    chown "$ACCOUNT:" "$STAGED/counter"
    mv -Tf "$STAGED/counter" "$PREFIX/slots/counter"
}

place() {
    note_counter
    if installed; then
        say "programs: $VERSION is installed already"
        rm -rf "$STAGED"
    else
        number=1
        while [ -e "$PREFIX/slots/$VERSION-$number" ]; do
            number=$((number + 1))
        done
        mv "$STAGED/$top" "$PREFIX/slots/$VERSION-$number"
        rm -rf "$STAGED"
        chown -R "$ACCOUNT:" "$PREFIX/slots/$VERSION-$number"
        sync
        [ -z "$current" ] || point "$PREFIX/previous" "$current"
        point "$PREFIX/current" "slots/$VERSION-$number"
        CHANGED=yes
        say "programs: $PREFIX/slots/$VERSION-$number"
    fi
    STAGED=''
    # The agent updates itself: it writes the slots and the two names that lead to them.
    chown "$ACCOUNT:" "$PREFIX" "$PREFIX/slots"
    chown -h "$ACCOUNT:" "$PREFIX/current"
    mkdir -p "$PREFIX/bin"
    for program in davit davitd davit-agent; do
        [ ! -e "$PREFIX/current/$program" ] || point "$PREFIX/bin/$program" "../current/$program"
    done
    [ -d "$CONFIG" ] || mkdir -m 0700 "$CONFIG"
    chown "$ACCOUNT:" "$CONFIG"
}

unit() {
    cat <<'DAVIT_UNIT'
@UNIT@
DAVIT_UNIT
}

uninstaller() {
    cat <<'DAVIT_UNINSTALL'
@UNINSTALL@
DAVIT_UNINSTALL
}

# replace FILE MODE: by what comes in, if that is something else.
replace() {
    cat >"$1.new"
    chmod "$2" "$1.new"
    if cmp -s "$1" "$1.new"; then
        rm "$1.new"
    else
        mv "$1.new" "$1"
        CHANGED=yes
    fi
}

make_service() {
    uninstaller | replace "$PREFIX/bin/davit-uninstall" 0755
    unit | replace "$UNIT" 0644
    systemctl daemon-reload
    systemctl enable --quiet davit-agent.service
    say 'service: davit-agent.service, starts with the machine'
}

# --- Enrolling ---

enroll() {
    if [ -z "$SERVER" ]; then
        [ -e "$CONFIG/config.yaml" ] || say "next: $PREFIX/bin/davit-agent enroll ..., chown -R $ACCOUNT: $CONFIG, systemctl start davit-agent"
        return 0
    fi
    if [ -e "$CONFIG/config.yaml" ] && [ -z "$FORCE" ]; then
        say 'enrolment: this machine is enrolled already (--force replaces it)'
        return 0
    fi
    set -- enroll --config-dir "$CONFIG" --server "$SERVER" --mode "$MODE"
    [ -z "$FORCE" ] || set -- "$@" --force
    [ -z "$TOKEN_FILE" ] || set -- "$@" --token-file "$TOKEN_FILE"
    [ -z "$FORCE" ] || systemctl stop davit-agent.service
    if ! "$PREFIX/bin/davit-agent" "$@" </dev/null >"$TMP/said"; then
        # The enrolment that was there is replaced only when the control plane has agreed: the agent goes on with it.
        if [ -n "$FORCE" ] && [ -e "$CONFIG/config.yaml" ]; then
            chown -R "$ACCOUNT:" "$CONFIG"
            systemctl start davit-agent.service || :
        fi
        fail 'the programs are installed, but this machine could not be enrolled (see above)' 'mend it and run this again'
    fi
    head -n 1 "$TMP/said"
    chown -R "$ACCOUNT:" "$CONFIG"
    CHANGED=yes
}

# Does the service run something else than what is installed? An installation that was cut off before its end has not started it anew.
behind() {
    pid=$(systemctl show --property MainPID --value davit-agent.service)
    since=$(systemctl show --property ActiveEnterTimestamp --value davit-agent.service)
    program=$(readlink "/proc/$pid/exe" || :) # some containers do not tell
    if [ -n "$program" ] && [ "$program" != "$(readlink -f "$PREFIX/current/davit-agent")" ]; then
        return 0
    fi
    [ "$(date -d "$since" +%s)" -lt "$(stat -c %Y "$UNIT")" ]
}

start() {
    [ -e "$CONFIG/config.yaml" ] || return 0
    # Made by hand as root, or by a script that was cut off.
    if [ -n "$(find "$CONFIG" ! -user "$ACCOUNT" ! -name policy.yaml 2>/dev/null | head -n 1)" ]; then
        chown -R "$ACCOUNT:" "$CONFIG"
        CHANGED=yes
    fi
    if [ -n "$CHANGED" ] || ! systemctl is-active --quiet davit-agent.service || behind; then
        systemctl restart davit-agent.service || fail 'the service does not start' 'see: journalctl -u davit-agent; /opt/davit/bin/davit-agent doctor'
    fi
    say "done: davit-agent runs; $PREFIX/bin/davit-agent doctor checks this machine, $PREFIX/bin/davit-uninstall removes it"
}

main() {
    FROM=$DAVIT_FROM PIN=$DAVIT_PIN SERVER='' MODE=direct TOKEN_FILE='' FORCE='' SKIP='' CHANGED=''
    while [ $# -gt 0 ]; do
        case $1 in
        --force) FORCE=yes && shift && continue ;;
        --skip-signature) SKIP=yes && shift && continue ;;
        -h | --help) usage && exit 0 ;;
        esac
        [ $# -gt 1 ] || fail "$1: unknown, or its value is missing" 'sh install.sh --help'
        case $1 in
        --from) FROM=$2 PIN='' ;;
        --pin) PIN=$2 ;;
        --server) SERVER=$2 ;;
        --mode) MODE=$2 ;;
        --token-file) TOKEN_FILE=$2 ;;
        *) fail "$1 is unknown" 'sh install.sh --help' ;;
        esac
        shift 2
    done
    case $FROM in
    https://* | /*) ;;
    '') fail 'from where?' 'name the directory of a release with --from' ;;
    *://*) fail "$FROM: only https and directories" ;;
    *) FROM=$PWD/$FROM ;;
    esac
    case $MODE in direct | tunnel) ;; *) fail "$MODE is no mode" 'direct or tunnel' ;; esac
    [ -z "$SERVER" ] || [ -n "$TOKEN_FILE" ] || [ -n "${DAVIT_TOKEN:-}" ] || [ -e "$CONFIG/config.yaml" ] ||
        fail 'the join token is missing' 'in DAVIT_TOKEN (sudo --preserve-env=DAVIT_TOKEN), or in a file named with --token-file'
    umask 022
    check_machine
    trap clean EXIT
    trap 'exit 1' HUP INT TERM
    TMP=$(mktemp -d "${TMPDIR:-/tmp}/davit-install.XXXXXX")
    check_release
    stage
    make_account
    place
    make_service
    enroll
    start
}

main "$@"
