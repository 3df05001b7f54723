# Runs one program again and again, each time with another file of tuned parameters, so that the
# host knows which run says what, that it lives, and how each run ended.
#
#   sh series.sh FOLDER PARAMETERS FIRST LAST [NAME=VALUE]... -- PROGRAM [ARGUMENT]...
#
# The program runs in FOLDER with these variables, once for each number from FIRST to LAST, with
# --opencl_parameter_file=PARAMETERS/NUMBER as its last argument where that file is there. An archive
# PARAMETERS.tar is unpacked as the new folder PARAMETERS first. Both output streams carry marker
# lines, each after a control character (octal 036) that no log holds; on one stream a run's own
# output lies between its first two:
#   droidmace begin NUMBER UPTIME        UPTIME: seconds since the phone started, may be empty
#   droidmace end NUMBER STATUS UPTIME   the program's exit status (128 + N: signal N)
#   droidmace alive                      on standard error, every two seconds
#   droidmace failed WHAT                nothing (more) will run
# As with run.sh, when an "alive" can no longer be written the host is gone, and the program is
# killed.

# Written by the shell's own echo, at once: see run.sh.
lead=$(printf '\036')

mark() {
  echo "${lead}droidmace $1"
  echo "${lead}droidmace $1" >&2
}

failed() {
  mark "failed $1"
  exit 1
}

now() {
  # Built in, and so without a process of its own: it would cost more than what is measured.
  read -r up rest </proc/uptime || up=
} 2>/dev/null

cd "$1" || failed folder
parameters=$2 number=$3 last=$4
shift 4
while [ "$1" != -- ]; do
  # The value may hold anything; the name was checked by whoever wrote this command line.
  export "${1%%=*}=${1#*=}"
  shift
done
shift

if [ -e "$parameters.tar" ]; then
  rm -rf "$parameters" && mkdir -p "$parameters" &&
    tar -xf "$parameters.tar" -C "$parameters" && rm -f "$parameters.tar" || failed parameters
fi

(
  # A write that fails has to be noticed, not died of.
  trap '' PIPE
  while sleep 2 </dev/null >/dev/null 2>&1 && kill -s 0 $$ 2>/dev/null; do
    echo "${lead}droidmace alive" >&2 && continue
    kill -s TERM $$
    exit
  done
) &
beat=$!
main=
trap 'kill -9 $main $beat 2>/dev/null; exit 143' TERM HUP

while [ "$number" -le "$last" ]; do
  now
  mark "begin $number $up"
  # A simple command in the background: $! is the program itself, not a shell around it.
  if [ -e "$parameters/$number" ]; then
    "$@" "--opencl_parameter_file=$parameters/$number" &
  else
    "$@" &
  fi
  main=$!
  # Standard error of the shell: mksh tells there of a signal that ended the program.
  wait "$main"
  status=$?
  now
  mark "end $number $status $up"
  number=$((number + 1))
done
# mksh sleeps in its own process and would wait for that to end before it takes a TERM.
kill -9 "$beat"
wait "$beat" 2>/dev/null
exit 0
