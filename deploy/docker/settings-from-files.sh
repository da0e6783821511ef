#!/bin/sh
# IMAGEQUEUE_X_FILE=/run/secrets/x becomes IMAGEQUEUE_X=<its content>, and then the command takes our place: a password
# in a file is shown by no `docker inspect`, and its process gets the signals.
set -eu
for variable in $(env | sed -n 's/^\(IMAGEQUEUE_[A-Z_]*\)_FILE=.*/\1/p'); do
  eval "file=\$${variable}_FILE"
  content=$(cat "$file")
  export "$variable=$content"
  unset "${variable}_FILE"
done
exec "$@"
