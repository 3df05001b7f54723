# A batch of samples on the phone: they come as one stream, one program runs on all of them, and what
# it writes goes back as one archive.
#
#   sh batch.sh take BASE SLOT NAME COUNT BYTES
#   sh batch.sh run BASE CHUNK FOLDER [-k] [NAME=VALUE]... -- PROGRAM [ARGUMENT]...
#
# "take" cuts standard input into COUNT files of BYTES each: BASE/SLOT/NAME_aaaa, NAME_aaab and so on.
# Files of an earlier chunk are written over, those beyond COUNT removed: making and removing
# thousands of files again and again is slow, above all on ext4, which looks at every inode that was
# freed within the last minute before it gives out one.
#
# "run" starts the program in FOLDER with these variables; it is to write into BASE/out/CHUNK, whose
# files are then packed to standard output. They are removed, unless -k keeps them. If the program
# fails they stay, for a second look.
#
# Standard output is the program's own until a line that begins with a control character (octal 036)
# that no log holds; the archive, if any, follows that line:
#   droidmace ran STATUS BEGIN END   the program's exit status (128 + N: signal N); seconds since the
#                                    phone started, each may be empty
# Standard error carries such lines, too:
#   droidmace alive                  every two seconds
#   droidmace end STATUS             once: 0, or that of the step that failed
# As with run.sh, a stream without the last was cut off, whatever the transport says. When one of
# these lines can no longer be written the host is gone: the program is killed, and all of BASE
# removed, as is the folder that it lies in if nothing else does.

# Written by the shell's own echo, at once: see run.sh.
lead=$(printf '\036')

now() {
  # Built in, and so without a process of its own: it would cost more than what is measured.
  read -r up rest </proc/uptime || up=
} 2>/dev/null

ended() {
  # mksh sleeps in its own process and would wait for that to end before it takes a TERM.
  kill -9 "$beat" 2>/dev/null
  wait "$beat" 2>/dev/null
  main=
  # Who cannot be told is gone, and will not remove anything.
  echo "${lead}droidmace end $1" >&2 || gone
  exit "$1"
}

gone() {
  trap '' TERM HUP PIPE
  # The program first: it must not write anew what is removed.
  if [ -n "$main" ]; then
    kill -9 "$main" 2>/dev/null
    wait "$main" 2>/dev/null
  fi
  kill -9 "$beat" 2>/dev/null
  cd /
  rm -rf "$base"
  rmdir "${base%/*}" 2>/dev/null
  exit 143
}

take() {
  mkdir -p "$base/$1" && cd "$base/$1" || return
  # mace_run wants a file of that name, and does not use it.
  : >"$base/unused_$2" || return
  name=$2 count=$3 bytes=$4
  # An earlier chunk's file would pass for the last one of this chunk if fewer arrive.
  set -- "$name"_????
  eval "last=\${$count}"
  if [ -e "$last" ]; then rm -f "$last" || return; else last=; fi
  # In the background: the shell must hear a TERM while it waits. Its input is spelt out, because
  # a shell gives such commands none.
  exec 3<&0
  split -a 4 -b "$bytes" - "${name}_" <&3 &
  main=$!
  wait "$main" || return
  main=
  set -- "$name"_????
  [ -n "$last" ] || eval "last=\${$count}"
  if [ "$(stat -c %s "$last" 2>/dev/null)" != "$bytes" ]; then
    echo "batch.sh: fewer than $count samples of $bytes bytes arrived" >&2
    return 1
  fi
  if [ $# -gt "$count" ]; then
    shift "$count"
    # What is left over would count as a sample.
    rm -f "$@"
  fi
}

todo=$1 base=$2
shift 2
main=
(
  # A write that fails has to be noticed, not died of.
  trap '' PIPE
  while sleep 2 </dev/null >/dev/null 2>&1 && kill -s 0 $$ 2>/dev/null; do
    echo "${lead}droidmace alive" >&2 && continue
    kill -s TERM $$
    exit
  done
) </dev/null &
beat=$!
trap gone TERM HUP PIPE

if [ "$todo" = take ]; then
  take "$@"
  ended $?
fi

out=$base/out/$1
mkdir -p "$out" && cd "$2" || ended $?
shift 2
keep=
if [ "$1" = -k ]; then
  keep=yes
  shift
fi
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
echo "${lead}droidmace ran $status $began $up"
if [ "$status" -ne 0 ]; then ended "$status"; fi
tar -c -f - -C "$out" . &
main=$!
wait "$main"
status=$?
if [ "$status" -eq 0 ] && [ -z "$keep" ]; then rm -rf "$out" || status=$?; fi
ended "$status"
