#!/bin/sh
# make-secrets.sh FOLDER [HOST:PORT [SCHEME]]: new passwords for the roles of users.acl, once.
#
# Writes FOLDER/users.acl for Redis (it holds the passwords' SHA-256 only), FOLDER/producer_url, operator_url,
# worker_url and exporter_url with the passwords in them, and FOLDER/grafana_password. Does nothing to files that are there.
set -eu
folder=${1:?usage: make-secrets.sh FOLDER [HOST:PORT [SCHEME]]}
address=${2:-redis:6379}
scheme=${3:-redis}
if [ -e "$folder/users.acl" ]; then
  echo "$folder/users.acl is there already; its passwords stay" >&2
  exit 0
fi
umask 077
mkdir -p "$folder"
# Nobody logs in without a name.
acl='user default off resetpass resetkeys resetchannels -@all'
for role in producer operator worker exporter; do
  password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  digest=$(printf %s "$password" | sha256sum | cut -d' ' -f1)
  line=$(sed -n "s/^user imagequeue-$role on resetpass /user imagequeue-$role on resetpass #$digest /p" "$(dirname "$0")/users.acl")
  acl="$acl
${line:?users.acl has no role $role}"
  printf '%s://imagequeue-%s:%s@%s/0' "$scheme" "$role" "$password" "$address" >"$folder/${role}_url"
done
od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/grafana_password"
printf '%s\n' "$acl" >"$folder/users.acl"
# Readable in containers, whose users have other numbers; the folder's own mode keeps them from this machine's users.
chmod 0444 "$folder"/*
