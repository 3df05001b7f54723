# Runs one program on the phone and says how it ended.
#
#   sh run.sh [-d FOLDER] [-t SECONDS] [-e NAME=VALUE]... -- PROGRAM [ARGUMENT]...
#
#   -d  working folder; its .run folder says what runs there (default: the current one)
#   -t  stop the program after this time, also when nobody listens any more (default: 900)
#   -e  set a variable in the program's environment
#
# The last line of its output is "@@droidmace-run REASON STATUS":
#   exited STATUS    the program ended by itself, with this status (128 + N: signal N)
#   timeout STATUS   it ran longer than allowed and was stopped
#   stopped STATUS   run.sh was told to end (HUP, INT, TERM) and stopped it
#   busy PID         another program runs in this folder; nothing was started (status 75)
#   unusable 126     the folder, or an option, is no good; standard error says why
# Output without such a line is not complete. The exit status is the program's.

folder=.
limit=900

finish() {
  echo
  echo "@@droidmace-run $1 $2"
}

unusable() {
  echo "run.sh: $1" >&2
  finish unusable 126
  exit 126
}

while getopts d:t:e: option; do
  case $option in
    d) folder=$OPTARG ;;
    t) limit=$OPTARG ;;
    e)
      case $OPTARG in
        *=*) ;;
        *) unusable "no value given for $OPTARG" ;;
      esac
      # The value may hold anything; what stands before the first = must be a name.
      case ${OPTARG%%=*} in
        '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) unusable "not a variable: ${OPTARG%%=*}" ;;
      esac
      export "${OPTARG%%=*}=${OPTARG#*=}"
      ;;
    *) unusable "unknown option" ;;
  esac
done
shift $((OPTIND - 1))

case $limit in
  '' | *[!0-9]*) unusable "not a number of seconds: $limit" ;;
esac
if [ $# -eq 0 ]; then unusable "no program given"; fi
cd "$folder" || unusable "cannot go to $folder"

state=.run
holder() {
  cat "$state/pid" 2>/dev/null
}
if ! mkdir "$state" 2>/dev/null; then
  if [ ! -d "$state" ]; then unusable "cannot write to $folder"; fi
  pid=$(holder)
  # Another run.sh may be between its mkdir and its pid.
  if [ -z "$pid" ]; then sleep 1; pid=$(holder); fi
  if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
    finish busy "$pid"
    exit 75
  fi
  # Its process is gone (the phone was restarted, or it was killed): the folder is ours.
  rm -rf "$state"
  mkdir "$state" || unusable "cannot write to $folder"
fi
echo $$ >"$state/pid" || unusable "cannot write to $folder"

reason=exited
child=
watchdog=
killer=

kill_slowly() {
  kill -TERM "$1"
  sleep 2
  kill -KILL "$1"
}

stop() {
  reason=stopped
  if [ -z "$child" ] || [ -n "$killer" ]; then return; fi
  # Its output must not be ours: who reads that waits until the last process has closed it.
  (
    exec >/dev/null 2>&1
    kill_slowly "$child"
  ) &
  killer=$!
}
trap stop HUP INT TERM

# Ready before the program starts: a signal that comes before its trap is set would be lost.
(
  exec >/dev/null 2>&1
  trap 'kill "$nap"; exit 0' HUP INT TERM
  sleep "$limit" &
  nap=$!
  : >"$state/ready"
  wait "$nap"
  : >"$state/timeout"
  kill_slowly "$(cat "$state/child")"
) &
watchdog=$!
spins=0
while [ ! -e "$state/ready" ] && [ $spins -lt 100000 ]; do spins=$((spins + 1)); done

"$@" </dev/null &
child=$!
echo "$child" >"$state/child"
# A signal may have come before there was a child to pass it on to.
if [ "$reason" = stopped ]; then stop; fi

wait "$child"
status=$?
# A trapped signal ends the wait, not the program.
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  status=$?
done
kill -TERM "$watchdog" 2>/dev/null
# It must not meet a later process of the same id.
if [ -n "$killer" ]; then kill -KILL "$killer" 2>/dev/null; fi

if [ -e "$state/timeout" ]; then reason=timeout; fi
rm -rf "$state"
finish "$reason" "$status"
exit "$status"
