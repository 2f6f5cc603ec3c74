#!/usr/bin/env bash
# Installs into .venv what `make` needs, from a fresh clone with nothing but a Python and a network.
#   bootstrap.sh FILE.txt   the virtual environment, FILE's pinned packages, and Phasewatch itself
#   bootstrap.sh chromium   the browser of the browser tests, by apt
set -euo pipefail
cd "$(dirname "$0")/../.."

stop() {
    printf 'bootstrap: %s\n' "$@" >&2
    exit 2
}

# Debian packages; only root may install them, anybody else is told the command.
apt_install() {
    local why="$1" package="$2"
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        stop "$why" "Install it and run make again:  sudo apt-get install -y $package"
    fi
    echo "bootstrap: $why Installing $package ..."
    export DEBIAN_FRONTEND=noninteractive
    # A fresh container has no package lists yet, and an old one may have stale lists.
    apt-get install -y -qq "$package" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq "$package" >/dev/null; } ||
        stop "apt-get could not install $package; its own message stands above."
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

case "${1:-}" in
*.txt) install "$1" ;;
chromium) command -v chromium >/dev/null || apt_install "The browser tests need Chromium." chromium ;;
*) stop "usage: bootstrap.sh FILE.txt | chromium" ;;
esac
