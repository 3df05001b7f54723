# Removes what droidmace has put on the phone, and nothing else.
#
#   sh clean.sh [-f] [FOLDER]
#
#   FOLDER  where droidmace works (default: /data/local/tmp)
#   -f      also when the lock says that a run is under way
#
# Prints each path that it removes. Status 75: a run is under way; nothing was removed. Frequency
# governors that a killed run has left pinned are put back first, by governor.sh beside this file;
# without that, what says how they were stays, and the status is 1.

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
left=
for path in "$base/mace_run.governors" "$base"/mace_run.governors.taken-*; do
  if [ -e "$path" ]; then left=yes; fi
done
if [ -n "$left" ]; then
  here=${0%/*}
  if [ "$here" = "$0" ]; then here=.; fi
  if ! sh "$here/governor.sh" restore "$base/mace_run.governors" >&2; then
    echo "clean.sh: the governors are still pinned: run governor.sh restore $base/mace_run.governors" >&2
    status=1
  fi
fi

for path in "$base/mace_run" "$base/mace_run.lock" "$base/mace_run.lock.takeover" \
  "$base/mace_run.monitor" "$base/mace_run.governors.new" "$base/mace_run.governors.watched"; do
  # -e does not see a symbolic link to nothing. rm removes a link, not what it points to.
  if [ -e "$path" ] || [ -L "$path" ]; then
    if rm -rf -- "$path"; then echo "$path"; else status=1; fi
  fi
done
exit $status
