# Writes down once a second how hot the phone is and how fast its processors run.
#
#   sh monitor.sh FILE [SECONDS [BYTES]]
#
#   FILE     takes the samples; what it held before is lost
#   SECONDS  it ends by itself after so long (default: four hours)
#   BYTES    it ends when FILE holds so much (default: 8 MiB)
#
# FILE and standard output get the same lines; droidmace/devices/samples.py reads them. Standard
# output has its process id before them, "pid NUMBER".
#   droidmace monitor 1
#   column KIND NAME         one for each number of a sample, in their order; KIND holds the unit
#   samples
#   NUMBER NUMBER ...        a sample; "-" is what could not be read; battery_status is 1 charging,
#                            2 discharging, 3 not charging, 4 full
#   end REASON
# A line that cannot be written to standard output means that the host is gone, and that is the end.
# TERM, INT and HUP end it as well. Needs no root: what the phone does not show is left out.

file=$1
seconds=${2:-14400}
bytes=${3:-8388608}
sys=${DROIDMACE_SYS:-/sys}

# The host's end shall be seen as a write that fails, not be died of.
trap '' PIPE
ended=
trap 'ended=stopped' TERM INT HUP

# Not ":", whose failure would be the shell's end.
if ! { true >"$file"; } 2>/dev/null; then
  echo "monitor.sh: cannot write $file" >&2
  exit 73
fi
exec 3>>"$file"
written=0

tell() {
  echo "$1" >&3 || ended=${ended:-full}
  written=$((written + ${#1} + 1))
  { echo "$1"; } 2>/dev/null || ended=${ended:-host-gone}
}

# number FILE: $number is the whole number that FILE holds, or "-". Reading so starts no process.
number() {
  number=
  { read -r number _ <"$1"; } 2>/dev/null
  case $number in
    '' | - | *[!0-9-]* | ?*-* | ????????????????????*) number=- ;;
  esac
}

# add KIND NAME FILE: FILE is read for every sample, if it can be read now.
sources=
source_count=0
add() {
  number "$3"
  if [ "$number" = - ] || [ "$source_count" -ge 64 ]; then return 1; fi
  case $2 in
    *[!A-Za-z0-9_.,:@+-]* | '') tell "column $1 unnamed" ;;
    *) tell "column $1 $2" ;;
  esac
  sources="$sources $3"
  source_count=$((source_count + 1))
}

echo "pid $$"
tell 'droidmace monitor 1'
tell 'column uptime_s'

# A phone has up to a hundred zones, some slow to read: those on the chip, in the hand and of the
# battery are wanted.
for zone in "$sys"/class/thermal/thermal_zone*; do
  type=
  { read -r type <"$zone/type"; } 2>/dev/null
  case $type in
    *[cC][pP][uU]* | *[gG][pP][uU]* | *[sS][oO][cC]* | *[bB][iI][gG]* | *[mM][iI][dD]* | \
      *[lL][iI][tT][tT][lL][eE]* | *[gG]3[dD]* | *[tT][sS][eE][nN][sS]* | *[sS][kK][iI][nN]* | \
      *[bB][aA][tT][tT]*)
      add zone_mc "$type" "$zone/temp" ;;
  esac
done

# In the order of how surely it is the GPU's; Samsung's own file has MHz.
for clock in "$sys"/class/kgsl/kgsl-3d0/gpuclk "$sys"/class/kgsl/kgsl-3d0/devfreq/cur_freq \
  "$sys"/class/devfreq/*kgsl-3d0*/cur_freq "$sys"/class/devfreq/*mali*/cur_freq \
  "$sys"/class/devfreq/*gpu*/cur_freq "$sys"/class/devfreq/*[gG]3[dD]*/cur_freq; do
  if add gpu_hz '' "$clock"; then clock=found; break; fi
done
if [ "$clock" != found ]; then add gpu_mhz '' "$sys/kernel/gpu/gpu_clock"; fi

for policy in "$sys"/devices/system/cpu/cpufreq/policy*; do
  add cpu_khz "${policy##*/}" "$policy/scaling_cur_freq"
done

# charging: $charging is what the battery does, as a number.
charging() {
  word= charging=-
  { read -r word _ <"$supply/status"; } 2>/dev/null
  case $word in
    Charging) charging=1 ;;
    Discharging) charging=2 ;;
    Not) charging=3 ;;
    Full) charging=4 ;;
    *) return 1 ;;
  esac
}

supply=$sys/class/power_supply/battery
asked= status=
if add battery_percent '' "$supply/capacity"; then
  add battery_dc '' "$supply/temp"
  add battery_ua '' "$supply/current_now"
  add battery_uv '' "$supply/voltage_now"
  if charging; then
    status=yes
    tell 'column battery_status'
  fi
elif command -v dumpsys >/dev/null 2>&1; then
  # Where the files are not for us the service tells, but asking costs a process: once a minute.
  asked=yes
  tell 'column battery_percent'
  tell 'column battery_dc'
fi
tell samples

limited() {
  if command -v timeout >/dev/null 2>&1; then timeout 5 "$@"; else "$@"; fi
}

ask_battery() {
  level=- temperature=- before=
  for word in $(limited dumpsys battery 2>/dev/null </dev/null); do
    case $before in
      level:) level=$word ;;
      temperature:) temperature=$word ;;
    esac
    before=$word
  done
  case $level in '' | *[!0-9]*) level=- ;; esac
  case $temperature in '' | *[!0-9]*) temperature=- ;; esac
}

# look: $uptime, and $now in hundredths of a second. Numbers stay small for 32-bit arithmetic, and
# the leading 1 keeps "08" from being read as octal.
look() {
  read -r uptime _ </proc/uptime || return 1
  case $uptime in *.[0-9][0-9]) ;; *) return 1 ;; esac
  now=${uptime%.*}
  now=$(((now % 1000000) * 100 + 1${uptime#*.} - 100))
}

count=0
next=
while [ -z "$ended" ]; do
  look || { ended=no-clock; break; }
  line=$uptime
  for path in $sources; do
    number "$path"
    line="$line $number"
  done
  if [ -n "$status" ]; then
    charging
    line="$line $charging"
  fi
  if [ -n "$asked" ]; then
    if [ $((count % 60)) = 0 ]; then ask_battery; fi
    line="$line $level $temperature"
  fi
  tell "$line"
  count=$((count + 1))
  if [ "$count" -ge "$seconds" ]; then ended=${ended:-time}; fi
  if [ "$written" -ge "$bytes" ]; then ended=${ended:-size}; fi
  if [ -n "$ended" ]; then break; fi
  # Until the next whole second after the first sample; one that was missed is left out.
  if [ -z "$next" ]; then next=$now; fi
  next=$((next + 100))
  look || { ended=no-clock; break; }
  left=$((next - now))
  if [ "$left" -le 0 ] || [ "$left" -gt 100 ]; then
    next=$now
    left=100
  fi
  case $left in
    100) left=1 ;;
    ?) left=0.0$left ;;
    *) left=0.$left ;;
  esac
  # A shell hears a signal while it waits for a job, not while it runs a command.
  sleep "$left" </dev/null >/dev/null 2>&1 3>&- &
  wait $! 2>/dev/null
done
tell "end $ended"
