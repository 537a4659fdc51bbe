#!/bin/sh
# Starts edgepact with secrets that stand in files: a variable NAME_FILE names the file of NAME, so
# that no secret stands in an image, a compose file or a list of processes.
set -eu
for name in EDGEPACT_OPERATOR_TOKEN EDGEPACT_ENROL_TOKEN EDGEPACT_ENROL_TOKENS PGPASSWORD; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        value=$(cat "$file")
        export "$name=$value"
    fi
done
exec edgepact "$@"
