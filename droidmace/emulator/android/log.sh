#!/system/bin/sh
# log [-p PRIORITY] [-t TAG] MESSAGE...: add a line to the log that logcat shows.

priority=I tag=log
while getopts p:t: option; do
  case $option in
    p) priority=$OPTARG ;;
    t) tag=$OPTARG ;;
    *) exit 1 ;;
  esac
done
shift $((OPTIND - 1))
case $priority in
  [vdiwefVDIWEF]) typeset -u priority ;;
  *) print -ru2 -- "log: no priority '$priority'"; exit 1 ;;
esac
print -r -- "$(date '+%m-%d %H:%M:%S').000 $PPID $PPID $priority $tag: $*" >> "$ANDROID_LOG_FILE"
