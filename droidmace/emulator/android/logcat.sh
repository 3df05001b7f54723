#!/system/bin/sh
# logcat [-c] [-d] [-t COUNT] [-s] [-b BUFFER] [-v FORMAT] [--pid=PID] [TAG[:PRIORITY]...]
#
# One buffer, a file of lines "MM-DD hh:mm:ss.mmm PID TID PRIORITY TAG: MESSAGE". Without -d or -t
# it goes on with what is added. The format is always threadtime.

log=$ANDROID_LOG_FILE
follow=1 count= silent= clear=
pid='[0-9]+'
while getopts b:cdst:T:v:-: option; do
  case $option in
    b|v) ;;
    c) clear=1 ;;
    d) follow= ;;
    s) silent=1 ;;
    t) follow= count=$OPTARG ;;
    T) count=$OPTARG ;;
    -)
      case $OPTARG in pid=*[!0-9]*|pid=) exit 1 ;; pid=*) pid=${OPTARG#pid=} ;; *) exit 1 ;; esac ;;
    *) exit 1 ;;
  esac
done
shift $((OPTIND - 1))
[ -f "$log" ] || : >> "$log"
[ -n "$clear" ] && { : > "$log"; exit; }
case $count in *[!0-9]*) print -ru2 -- "logcat: '$count' is not a number of lines"; exit 1 ;; esac

# "TAG:P" shows lines of TAG from priority P on; "*:S" and -s silence every other tag.
levels=VDIWEFS
pattern=
for filter; do
  tag=${filter%%:*} level=V
  [ "$tag" = "$filter" ] || level=${filter##*:}
  case $level in [VDIWEFS]) ;; *) print -ru2 -- "logcat: bad priority '$level'"; exit 1 ;; esac
  case $tag in
    '*') [ "$level" = S ] && silent=1 ;;
    ''|*[!A-Za-z0-9_.-]*) print -ru2 -- "logcat: bad tag '$tag'"; exit 1 ;;
    *) pattern="$pattern|^[^:]*:[^:]*:[^ ]+ +$pid +[0-9]+ [$level${levels#*$level}] $tag *:" ;;
  esac
done
if [ -n "$silent" ]; then
  pattern="^\$$pattern"
elif [ "$pid" != '[0-9]+' ]; then
  pattern="^[^:]*:[^:]*:[^ ]+ +$pid "
else
  pattern=
fi

if [ -z "$count" ] && [ -z "$follow" ]; then
  grep -E -- "$pattern" "$log"
elif [ -z "$follow" ]; then
  grep -E -- "$pattern" "$log" | tail -n "$count"
else
  tail -n "${count:-+1}" -f "$log" | grep -E --line-buffered -- "$pattern"
fi
exit 0
