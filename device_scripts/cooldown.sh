# Waits until the phone's chip is cool enough to be measured.
#
#   sh cooldown.sh LIMIT SECONDS [SETTLED]
#
#   LIMIT    cool enough: the hottest zone on the chip, in thousandths of a degree Celsius
#   SECONDS  it waits no longer than this
#   SETTLED  it has stopped falling when it fell by less than half a degree in so many seconds
#            (default: 30); waiting longer would bring nothing
#
# Prints, at once and then once a second, "UPTIME MILLIDEGREES ZONE", and last one of
#   end cool      at or below the limit
#   end settled   it has stopped falling
#   end time      time is up
#   end blind     the phone shows no such temperature
# A line that cannot be written means that the host is gone. Needs no root, changes nothing.

limit=$1
seconds=$2
settled=${3:-30}
sys=${DROIDMACE_SYS:-/sys}

case $limit,$seconds,$settled in
  ,* | *,, | *,,* | *[!0-9,-]* | *,*-*)
    echo 'cooldown.sh: whole numbers are needed: LIMIT SECONDS [SETTLED]' >&2
    exit 2
    ;;
esac

# The zones on the chip by their usual names; the battery and the case cool far too slowly.
zones=
for zone in "$sys"/class/thermal/thermal_zone*; do
  type=
  { read -r type <"$zone/type"; } 2>/dev/null
  case $type in
    *[bB][aA][tT][tT]* | *[sS][kK][iI][nN]*) ;;
    *[cC][pP][uU]* | *[gG][pP][uU]* | *[sS][oO][cC]* | *[bB][iI][gG]* | *[mM][iI][dD]* | \
      *[lL][iI][tT][tT][lL][eE]* | *[gG]3[dD]* | *[tT][sS][eE][nN][sS]*)
      zones="$zones $zone" ;;
  esac
done

# look: $hottest (empty: none can be read) and $name.
look() {
  hottest= name=
  for zone in $zones; do
    value=
    { read -r value <"$zone/temp"; } 2>/dev/null
    case $value in '' | - | *[!0-9-]* | ?*-* | ????????*) continue ;; esac
    # Some drivers count whole degrees. A sensor that is off reports something impossible.
    if [ "$value" -lt 1000 ] && [ "$value" -gt -1000 ]; then value=$((value * 1000)); fi
    if [ "$value" -le -50000 ] || [ "$value" -ge 200000 ]; then continue; fi
    if [ -z "$hottest" ] || [ "$value" -gt "$hottest" ]; then
      hottest=$value
      { read -r name <"$zone/type"; } 2>/dev/null
    fi
  done
}

start=
lowest=
while :; do
  read -r uptime _ </proc/uptime || exit 1
  now=${uptime%.*}
  look
  if [ -z "$hottest" ]; then echo 'end blind'; exit; fi
  echo "$uptime $hottest $name" || exit 1
  if [ -z "$start" ]; then start=$now; fi
  if [ -z "$lowest" ] || [ "$hottest" -le $((lowest - 500)) ]; then
    lowest=$hottest
    lowest_at=$now
  fi
  if [ "$hottest" -le "$limit" ]; then echo 'end cool'; exit; fi
  if [ $((now - start)) -ge "$seconds" ]; then echo 'end time'; exit; fi
  if [ $((now - lowest_at)) -ge "$settled" ]; then echo 'end settled'; exit; fi
  sleep 1 </dev/null
done
