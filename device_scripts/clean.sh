# Removes what droidmace has put on the phone, and nothing else.
#
#   sh clean.sh [-f] [FOLDER]
#
#   FOLDER  where droidmace works (default: /data/local/tmp)
#   -f      also when the lock says that a run is under way
#
# Prints each path that it removes. Status 75: a run is under way; nothing was removed.

force=
if [ "$1" = -f ]; then
  force=yes
  shift
fi
base=${1:-/data/local/tmp}

case $base in
  / | [!/]*)
    echo "clean.sh: not a folder that droidmace works in: $base" >&2
    exit 2
    ;;
esac

if [ -d "$base/mace_run.lock" ] && [ -z "$force" ]; then
  echo "clean.sh: a run is under way (or has left $base/mace_run.lock behind)" >&2
  exit 75
fi

status=0
for path in "$base/mace_run" "$base/mace_run.lock" "$base/mace_run.lock.takeover"; do
  # -e does not see a symbolic link to nothing. rm removes a link, not what it points to.
  if [ -e "$path" ] || [ -L "$path" ]; then
    if rm -rf -- "$path"; then echo "$path"; else status=1; fi
  fi
done
exit $status
