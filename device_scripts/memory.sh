# Runs one program and tells, while it runs, the most memory that it has had so far.
#
#   sh memory.sh PROGRAM [ARGUMENT]...
#
# The program takes this shell's place: its process id is the shell's, and so are its signals and
# its exit status. A second process looks at it ten times a second, which costs a little of the
# phone's time: not for a process whose time is measured. Standard error carries, each time that it
# has grown:
#   droidmace memory KIB     VmHWM of /proc/PID/status: its largest resident set until then
# What it takes after the last look, a tenth of a second before its end, is not seen. It ends with
# the program.

main=$$
(
  # A write that fails is noticed, not died of.
  trap '' PIPE
  peak=0
  while :; do
    now=
    # One that has ended and is not yet fetched has no such line.
    while read -r name value _; do
      case $name in VmHWM:) now=$value; break ;; esac
    done 2>/dev/null </proc/$main/status
    case $now in '' | *[!0-9]*) exit 0 ;; esac
    if [ "$now" -gt "$peak" ]; then
      peak=$now
      echo "droidmace memory $peak" >&2 || exit 0
    fi
    sleep 0.1 >/dev/null 2>&1 || exit 0
  done
) </dev/null >/dev/null &
exec "$@"
