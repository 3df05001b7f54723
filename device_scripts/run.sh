# Runs one program on the phone so that the host knows that it lives and how it ended.
#
#   sh run.sh FOLDER [NAME=VALUE]... -- PROGRAM [ARGUMENT]...
#
# The program runs in FOLDER with these variables. Standard error carries two kinds of marker line,
# each after a control character (octal 036) that no log holds:
#   droidmace alive        every two seconds while the program runs
#   droidmace end STATUS   once: the program's exit status (128 + N: signal N)
# A stream without the second was cut off, whatever the transport says. A first that can no longer
# be written means that the host is gone, and the program is killed: by itself it would go on for as
# long as it prints nothing.

ended() {
  printf '\036droidmace end %s\n' "$1" >&2
  exit "$1"
}

cd "$1" || ended $?
shift
while [ "$1" != -- ]; do
  # The value may hold anything; the name was checked by whoever wrote this command line.
  export "${1%%=*}=${1#*=}"
  shift
done
shift

# A simple command in the background: $! is the program itself, not a shell around it.
"$@" &
main=$!
(
  # A write that fails has to be noticed, not died of.
  trap '' PIPE
  while sleep 2 </dev/null >/dev/null 2>&1; do
    printf '\036droidmace alive\n' >&2 && continue
    kill -9 "$main"
    exit
  done
) &
beat=$!
wait "$main"
status=$?
# mksh sleeps in its own process and would wait for that to end before it takes a TERM.
kill -9 "$beat"
wait "$beat" 2>/dev/null
ended "$status"
