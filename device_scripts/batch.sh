# A batch of samples on the phone: they come as one archive, one program runs on all of them, and
# what it writes goes back as one archive.
#
#   sh batch.sh take BASE NAME
#   sh batch.sh run BASE NAME FOLDER [NAME=VALUE]... -- PROGRAM [ARGUMENT]...
#
# "take" unpacks the archive on standard input as the new folder BASE/NAME. "run" starts the program
# in FOLDER with these variables; it is to write into BASE/NAME/out, whose files are then packed to
# standard output, and BASE/NAME is removed. If the program fails, it stays, for a second look.
#
# Standard output is the program's own until a line that begins with a control character (octal
# 036) that no log holds; the archive, if any, follows that line:
#   droidmace ran STATUS BEGIN END   the program's exit status (128 + N: signal N); seconds since the
#                                    phone started, each may be empty
# Standard error carries such lines, too:
#   droidmace alive                  every two seconds
#   droidmace end STATUS             once: 0, or that of the step that failed
# As with run.sh, a stream without the last was cut off, whatever the transport says. When an "alive"
# can no longer be written the host is gone: the program is killed, and all of BASE removed.

now() {
  # Built in, and so without a process of its own: it would cost more than what is measured.
  read -r up rest </proc/uptime || up=
} 2>/dev/null

ended() {
  # mksh sleeps in its own process and would wait for that to end before it takes a TERM.
  kill -9 "$beat" 2>/dev/null
  wait "$beat" 2>/dev/null
  printf '\036droidmace end %s\n' "$1" >&2
  exit "$1"
}

gone() {
  trap '' TERM HUP
  # The program first: it must not write anew what is removed.
  if [ -n "$main" ]; then
    kill -9 "$main" 2>/dev/null
    wait "$main" 2>/dev/null
  fi
  kill -9 "$beat" 2>/dev/null
  rm -rf "$base"
  exit 143
}

todo=$1 base=$2 place=$2/$3
shift 3
main=
(
  # A write that fails has to be noticed, not died of.
  trap '' PIPE
  while sleep 2 </dev/null >/dev/null 2>&1 && kill -s 0 $$ 2>/dev/null; do
    printf '\036droidmace alive\n' >&2 && continue
    kill -s TERM $$
    exit
  done
) </dev/null &
beat=$!
trap gone TERM HUP

if [ "$todo" = take ]; then
  mkdir -p "$place/out" || ended $?
  # In the background: the shell must hear a TERM while it waits. Its input is spelt out, because
  # a shell gives such commands none.
  exec 3<&0
  tar -x -f - -C "$place" <&3 &
  main=$!
  wait "$main"
  status=$?
  if [ "$status" -ne 0 ]; then rm -rf "$place"; fi
  ended "$status"
fi

cd "$1" || ended $?
shift
while [ "$1" != -- ]; do
  # The value may hold anything; the name was checked by whoever wrote this command line.
  export "${1%%=*}=${1#*=}"
  shift
done
shift

now
began=$up
# A simple command in the background: $! is the program itself, not a shell around it.
"$@" </dev/null &
main=$!
wait "$main"
status=$?
now
printf '\036droidmace ran %s %s %s\n' "$status" "$began" "$up"
if [ "$status" -ne 0 ]; then ended "$status"; fi
tar -c -f - -C "$place/out" . &
main=$!
wait "$main"
status=$?
if [ "$status" -eq 0 ]; then rm -rf "$place" || status=$?; fi
ended "$status"
