#!/usr/bin/env bash
# Installs into .venv what `make` needs, from a fresh clone with nothing but a Python and a network.
#   bootstrap.sh FILE.txt   the virtual environment, FILE's pinned packages, and Phasewatch itself
#   bootstrap.sh WORD ...   what the tests need beside Python, by apt:
#       chromium     the browser of the browser tests
#       kafka        Java and Maven, and with them Kafka's jars into .venv/.kafka
#       redis        redis-server, which is Redis' Sentinel too
#       prometheus   Prometheus and promtool
#       javac        for a subscriber in Java
#       kcat nginx wrk
#       sdks         analytics SDKs for pages, Node and Python with a Node into .venv/.sdks, from PyPI and npm
# On a machine with systemd, Debian's redis-server, prometheus and nginx start their services as they are installed.
# Nothing here uses these services: `systemctl disable --now NAME` ends one that is in the way of `make services`.
set -euo pipefail
cd "$(dirname "$0")/../.."

stop() {
    printf 'bootstrap: %s\n' "$@" >&2
    exit 2
}

# Debian packages; only root may install them, anybody else is told the command.
apt_install() {
    local why="$1"
    local packages=("${@:2}")
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        stop "$why" "Install it and run make again:  sudo apt-get install -y ${packages[*]}"
    fi
    echo "bootstrap: $why Installing ${packages[*]} ..."
    export DEBIAN_FRONTEND=noninteractive
    # A fresh container has no package lists yet, and an old one may have stale lists.
    apt-get install -y -qq "${packages[@]}" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq "${packages[@]}" >/dev/null; } ||
        stop "apt-get could not install ${packages[*]}; its own message stands above."
}

recent_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# The first Python that runs and is recent enough; 3.11 first, because the pinned versions are tested with it.
find_python() {
    local name
    for name in python3.11 python3 python3.12 python3.13; do
        if recent_enough "$name"; then
            echo "$name"
            return
        fi
    done
    return 1
}

make_venv() {
    if recent_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    local python version
    python=$(find_python) || {
        apt_install "Python 3.11 or newer is needed, and there is none on the PATH." python3-venv
        python=$(find_python) ||
            stop "The Python that apt installed is older than 3.11: Debian 12 or newer has one that will do."
    }
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "$python has no ensurepip, which a virtual environment needs." "python$version-venv"
    fi
    "$python" -m venv --clear .venv
}

install() {
    make_venv
    echo "bootstrap: installing $1 into .venv (a minute or two the first time) ..."
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    .venv/bin/python -m pip install --quiet -r "$1" -r requirements-build.txt ||
        stop "pip could not install $1; its own message stands above. Is there a network?"
    # The build tools are pinned above, so nothing unpinned is fetched for the build.
    .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
}

# Notes PROGRAM and its Debian package where the program is missing; sbin is not on everybody's PATH.
needs() {
    PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null && return
    programs+=("$1")
    packages+=("$2")
}

# Kafka 4 runs on Java 17 or newer; Debian's default has been that since Debian 12.
java_is_recent() {
    local version
    version=$(java -version 2>&1 | sed -nE '1s/.*version "([0-9]+).*/\1/p')
    [[ ${version:-0} -ge 17 ]]
}

note_missing() {
    case "$1" in
    chromium) needs chromium chromium ;;
    kafka)
        java_is_recent || needs java-17 default-jre-headless
        needs mvn maven
        ;;
    redis) needs redis-server redis-server ;;
    prometheus) needs promtool prometheus ;;
    javac) needs javac default-jdk-headless ;;
    kcat | nginx | wrk) needs "$1" "$1" ;;
    sdks) ;;
    *) stop "usage: bootstrap.sh FILE.txt | chromium | kafka | redis | prometheus | javac | kcat | nginx | wrk | sdks ..." ;;
    esac
}

# Fetched again only when pom.xml has changed.
fetch_kafka() {
    local folder=.venv/.kafka
    cmp -s deploy/local/pom.xml "$folder/pom.xml" && return
    java_is_recent ||
        stop "Kafka needs Java 17 or newer, and the java on the PATH is older:  sudo update-alternatives --config java"
    echo "bootstrap: fetching Kafka's jars into $folder (54 MB) ..."
    rm -rf "$folder"
    mkdir -p "$folder"
    mvn -q -B -Dstyle.color=never -f deploy/local/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/$folder/libs" ||
        stop "Maven could not fetch what deploy/local/pom.xml names; its own message stands above. Is there a network?"
    cp deploy/local/pom.xml "$folder/pom.xml"
}

# Fetched again only when what names them has changed. A virtual environment of their own, because what they need must
# not meet what Phasewatch needs; npm and the Node it wants come from PyPI too.
fetch_sdks() {
    local folder=.venv/.sdks named=tests/sdks
    local pins=("$named"/{python-requirements.txt,python-older-requirements.txt,package.json,package-lock.json,.npmrc})
    cat "${pins[@]}" | cmp -s - "$folder/pinned" && return
    make_venv
    echo "bootstrap: fetching the SDKs into $folder (500 MB, under a minute) ..."
    .venv/bin/python -m venv --clear "$folder"
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    "$folder/bin/python" -m pip install --quiet -r "$named/python-requirements.txt" &&
        "$folder/bin/python" -m pip install --quiet --no-deps --target "$folder/older" \
            -r "$named/python-older-requirements.txt" ||
        stop "pip could not install the SDKs; its own message stands above. Is there a network?"
    cp "$named"/{package.json,package-lock.json,.npmrc} "$folder"
    # Node brings certificates of its own; a proxy's, which the machine trusts, are not among them.
    local trusted=/etc/ssl/certs/ca-certificates.crt
    [[ -z ${NODE_EXTRA_CA_CERTS:-} && -r $trusted ]] && export NODE_EXTRA_CA_CERTS=$trusted
    (cd -P "$folder" && bin/npm ci --silent) ||
        stop "npm could not install the SDKs; without --silent it says why. Is there a network?"
    cat "${pins[@]}" >"$folder/pinned"
}

install_programs() {
    local word programs=() packages=()
    for word in "$@"; do
        note_missing "$word"
    done
    if [[ ${#packages[@]} -gt 0 ]]; then
        apt_install "Not installed, and needed: ${programs[*]}." "${packages[@]}"
    fi
    if [[ " $* " == *" kafka "* ]]; then
        fetch_kafka
    fi
    if [[ " $* " == *" sdks "* ]]; then
        fetch_sdks
    fi
}

case "${1:-}" in
*.txt) install "$1" ;;
*) install_programs "${@:-}" ;;
esac
