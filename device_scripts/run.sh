# Runs one program on the phone so that the host knows that it lives and how it ended.
#
#   sh run.sh [-t SECONDS] FOLDER [NAME=VALUE]... -- PROGRAM [ARGUMENT]...
#
# The program runs in FOLDER with these variables, for about SECONDS at most: the host has a deadline
# of its own, this one is for a connection that hangs and never ends. Standard error carries two
# kinds of marker line, each after a control character (octal 036) that no log holds:
#   droidmace alive        every two seconds while the program runs
#   droidmace end STATUS   once: the program's exit status (128 + N: signal N)
# A stream without the second was cut off, whatever the transport says. A first that can no longer
# be written means that the host is gone, and the program is killed: by itself it would go on for as
# long as it prints nothing.
#
# What a program has printed into a pipe and not flushed is lost when it aborts. Through a terminal
# nothing is; without one, the phone's log is asked for what the program has written there.

# The shell's own echo writes a line at once. toybox's printf writes byte by byte, and another
# process's line comes between.
lead=$(printf '\036')

limited() {
  if command -v timeout >/dev/null 2>&1; then timeout 5 "$@"; else "$@"; fi
}

ended() {
  echo "${lead}droidmace end $1" >&2
  # A terminal whose session ends throws away what it has not passed on yet.
  if [ -t 2 ]; then sleep 0.2 </dev/null >/dev/null 2>&1 || sleep 1 </dev/null; fi
  exit "$1"
}

deadline=
if [ "$1" = -t ]; then
  deadline=$2
  shift 2
fi
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
    echo "${lead}droidmace alive" >&2 || break
    if [ -n "$deadline" ] && [ $((deadline -= 2)) -le 0 ]; then
      echo 'run.sh: stopped, its time on the phone is up' >&2
      break
    fi
  done
  kill -9 "$main"
) &
beat=$!
wait "$main"
status=$?
# mksh sleeps in its own process and would wait for that to end before it takes a TERM.
kill -9 "$beat" 2>/dev/null
wait "$beat" 2>/dev/null
case $status in
  # ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS: it has crashed by itself.
  132 | 133 | 134 | 135 | 136 | 139 | 159)
    if [ ! -t 1 ] && command -v logcat >/dev/null 2>&1; then
      limited logcat -d -t 40 "--pid=$main" </dev/null >&2 2>/dev/null
    fi
    ;;
esac
ended "$status"
