# Keeps the processors' clocks up while something is measured, where the phone permits it.
#
#   sh governor.sh hold STATE [SECONDS]   until it is told to stop (TERM, INT, HUP), its host is
#                                         gone, or so long (default: one hour)
#   sh governor.sh restore STATE          what a hold has left behind, if any
#
# STATE is a file that holds the old values as long as they are not in force. They are put back
#   * by the hold itself when it ends, however it is told to,
#   * by a watchdog in a session of its own when the hold was killed,
#   * by the next hold or restore when that was killed as well. A phone that restarts forgets them.
#
# Lines on standard output, read by droidmace/devices/governors.py:
#   pid NUMBER            of the hold itself
#   pinned FILE OLD       is at "performance" now and was at OLD
#   kept FILE OLD WHY     could not be changed
#   recovered             the values that an earlier hold had left were put back
#   ready                 all was tried
#   alive                 every two seconds; if it cannot be written, the host is gone
#   restored | failed     the end: whether the old values are in force again
#
# Writes directly where it may, else through su. Not being permitted is no failure.
# As a text given to the shell it finds itself in $script; as a file it reads it.

command=$1
state=$2
seconds=${3:-3600}
sys=${DROIDMACE_SYS:-/sys}
: "${script:=$(cat "$0")}"

trap '' PIPE

say() {
  { echo "$1"; } 2>/dev/null
}

limited() {
  if command -v timeout >/dev/null 2>&1; then timeout 10 "$@"; else "$@"; fi
}

# born PID: $born is when that process started (in ticks since boot); false if it has ended.
born() {
  born= stat=
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # After the name, which may hold anything: state, 18 more fields, start time.
  set -- ${stat##*) }
  case $1 in Z | X) return 1 ;; esac
  shift 19
  born=$1
}

# The state file may be written by whoever may hold: nothing of it gets near a shell unchecked.
is_governor_file() {
  case $1 in
    *[!A-Za-z0-9_.,:@/-]* | */../*) return 1 ;;
    "$sys"/devices/system/cpu/*/scaling_governor) ;;
    "$sys"/class/devfreq/*/governor | "$sys"/class/kgsl/*/governor) ;;
    *) return 1 ;;
  esac
}

is_governor() {
  case $1 in '' | *[!A-Za-z0-9_.-]*) return 1 ;; esac
  [ ${#1} -le 64 ]
}

# value FILE: $value is its first word.
value() {
  value=
  { read -r value _ <"$1"; } 2>/dev/null
}

# find_way FILE: $way says how FILE can be written: direct, su -c (as most su have it), su 0 (as
# Android's own has it), or not at all.
way=
find_way() {
  if [ -w "$1" ]; then way=direct; return; fi
  if [ -n "$way" ] && [ "$way" != direct ]; then return; fi
  way=none
  # By its path: a toybox that has a su of its own would have timeout run that.
  su=$(command -v su 2>/dev/null)
  if [ -n "$su" ]; then
    # It may ask the phone's owner, and nobody may be there.
    if [ "$(limited "$su" -c 'id -u' 2>/dev/null </dev/null)" = 0 ]; then
      way='su -c'
    elif [ "$(limited "$su" 0 id -u 2>/dev/null </dev/null)" = 0 ]; then
      way='su 0'
    fi
  fi
}

# put FILE GOVERNOR: write it and look whether it is in force.
put() {
  find_way "$1"
  case $way in
    direct) { echo "$2" >"$1"; } 2>/dev/null ;;
    'su -c') limited "$su" -c "echo '$2' >'$1'" </dev/null >/dev/null 2>&1 ;;
    'su 0') limited "$su" 0 sh -c "echo '$2' >'$1'" </dev/null >/dev/null 2>&1 ;;
  esac
  value "$1"
  [ "$value" = "$2" ]
}

# put_back FILE: the old values out of a state file; it is removed when all are in force.
put_back() {
  failed=
  while read -r kind path old _; do
    if [ "$kind" = governor ] && is_governor_file "$path" && is_governor "$old"; then
      # What is gone (a core that was switched off) needs nothing.
      if [ -e "$path" ]; then put "$path" "$old" || failed=yes; fi
    fi
  done <"$1"
  [ -z "$failed" ] && rm -f "$1"
}

# busy PID START: that process lives, and is another one.
busy() {
  [ "$1" != $$ ] && born "$1" && [ "$born" = "$2" ]
}

# owner FILE: $pid and $start of who answers for a state file: the hold that wrote it, or whoever
# has taken it, which then stands in its name.
owner() {
  pid= start= kind=
  case $1 in
    *.taken-*)
      start=${1##*.taken-}
      pid=${start%-*}
      start=${start#*-}
      ;;
    *) { read -r kind pid start _ <"$1"; } 2>/dev/null ;;
  esac
  case $pid in '' | *[!0-9]*) pid=0 ;; esac
}

# give_back: undo whatever nobody living answers for. Files are taken by renaming them, so that each
# is undone once. Status 1: values could not be put back; 2: somebody else is at it.
give_back() {
  result=0
  for left in "$state" "$state".taken-*; do
    [ -e "$left" ] || continue
    owner "$left"
    if busy "$pid" "$start"; then
      [ "$result" = 1 ] || result=2
      continue
    fi
    mv "$left" "$mine" 2>/dev/null || continue
    if put_back "$mine"; then
      gave_back=yes
    else
      mv "$mine" "$state"
      result=1
    fi
  done
  return "$result"
}

# recover: what an earlier hold has left. False: it lives, or could not be undone.
recover() {
  gave_back=
  tries=0
  give_back
  result=$?
  # One that ends just now is waited for.
  while [ "$result" = 2 ] && [ "$tries" -lt 20 ]; do
    sleep 0.1 </dev/null
    tries=$((tries + 1))
    give_back
    result=$?
  done
  if [ -n "$gave_back" ]; then say recovered; fi
  return "$result"
}

# watch PID START: when that hold is gone without having put the old values back, do it.
watch() {
  trap '' HUP INT TERM
  true >"$state.watched"
  life=$seconds
  while busy "$1" "$2"; do
    # It has a limit of its own; one that is past it hangs.
    if [ "$life" -lt -5 ]; then kill -9 "$1" 2>/dev/null; fi
    sleep 1 </dev/null
    life=$((life - 1))
  done
  tries=0
  while [ "$tries" -lt 60 ]; do
    give_back
    [ $? = 1 ] || return 0
    sleep 2 </dev/null
    tries=$((tries + 1))
  done
}

# plan FILE AVAILABLE: note FILE for pinning unless there is no need or no way.
wanted= broken=
plan() {
  value "$1"
  if [ -z "$value" ]; then return; fi
  old=$value
  if ! is_governor_file "$1" || ! is_governor "$old"; then return; fi
  if [ "$old" = performance ]; then say "kept $1 $old already there"; return; fi
  governors=performance
  { read -r governors <"$2"; } 2>/dev/null
  case " $governors " in
    *' performance '*) ;;
    *) say "kept $1 $old the phone has no such governor"; return ;;
  esac
  find_way "$1"
  if [ "$way" = none ]; then say "kept $1 $old not permitted"; return; fi
  wanted="$wanted $1"
  { echo "governor $1 $old" >&3; } 2>/dev/null || broken=yes
}

hold() {
  # Until the old values are back, a signal is a wish.
  ended=
  trap 'ended=yes' TERM INT HUP
  if ! recover; then
    say "kept - - another hold is under way, or could not be undone"
    say ready
    return
  fi
  # Not ":", whose failure would be the shell's end.
  if ! { true >"$state.new"; } 2>/dev/null; then
    say "kept - - cannot write $state"
    say ready
    return
  fi
  exec 3>"$state.new"
  { echo "holder $$ $mine_born" >&3; } 2>/dev/null || broken=yes
  for policy in "$sys"/devices/system/cpu/cpufreq/policy*; do
    plan "$policy/scaling_governor" "$policy/scaling_available_governors"
  done
  for gpu in "$sys"/class/kgsl/kgsl-3d0/devfreq "$sys"/class/devfreq/*mali* \
    "$sys"/class/devfreq/*gpu* "$sys"/class/devfreq/*[gG]3[dD]*; do
    plan "$gpu/governor" "$gpu/available_governors"
  done
  exec 3>&-
  if [ -n "$broken" ]; then
    # What could not be undone is not done.
    say "kept - - cannot write $state"
    wanted=
  fi
  if [ -z "$wanted" ]; then
    rm -f "$state.new"
    say ready
    return
  fi
  # From the next line on there is something to undo, and from the one after it someone to do it.
  rm -f "$state.watched"
  mv "$state.new" "$state"
  script=$script $detached sh -c 'eval "$script"' governor.sh watch "$state" "$seconds" $$ "$mine_born" \
    </dev/null >/dev/null 2>&1 3>&- &
  # Until it is there, a hold that is killed would leave the values to the next one.
  tries=0
  while [ ! -e "$state.watched" ] && [ "$tries" -lt 250 ]; do
    sleep 0.02 </dev/null
    tries=$((tries + 1))
  done
  if [ ! -e "$state.watched" ]; then
    say "kept - - no watchdog could be started"
    say ready
    return
  fi
  rm -f "$state.watched"
  for path in $wanted; do
    value "$path"
    old=$value
    if put "$path" performance; then
      say "pinned $path $old"
    else
      say "kept $path $old the phone refused it"
    fi
  done
  say ready
  left=$seconds
  while [ -z "$ended" ] && [ "$left" -gt 0 ] && [ -e "$state" ]; do
    if [ $((left % 2)) = 0 ]; then say alive || break; fi
    # A shell hears a signal while it waits for a job, not while it runs a command.
    sleep 1 </dev/null >/dev/null 2>&1 &
    wait $! 2>/dev/null
    left=$((left - 1))
  done
}

if command -v setsid >/dev/null 2>&1; then detached=setsid; else detached=; fi

born $$ || born=0
mine_born=$born
mine=$state.taken-$$-$mine_born

case $command in
  hold)
    say "pid $$"
    hold
    if [ -n "$wanted" ]; then
      trap '' TERM INT HUP
      give_back
      if [ $? = 1 ]; then say failed; exit 1; fi
    fi
    say restored
    ;;
  restore)
    if ! recover; then say failed; exit 1; fi
    say restored
    ;;
  watch)
    watch "$4" "$5"
    ;;
  *)
    echo 'governor.sh: hold STATE [SECONDS] | restore STATE' >&2
    exit 2
    ;;
esac
exit 0
