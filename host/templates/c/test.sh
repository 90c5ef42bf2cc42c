#!/bin/sh
# Run by `tidegate test`, which serves the module on a Unix socket.
set -eu

ask() {
    curl --silent --show-error --max-time 10 --unix-socket "$TIDEGATE_TEST_SOCKET" "$@"
}

expect() {
    if [ "$1" != "$2" ]; then
        printf 'expected: %s\nit was:   %s\n' "$2" "$1" >&2
        exit 1
    fi
}

expect "$(ask http://localhost/world)" "Hello from /world"
expect "$(ask -o /dev/null -w '%{http_code} %{content_type}' http://localhost/)" "200 text/plain; charset=utf-8"
echo "all is well"
