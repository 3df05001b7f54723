#!/system/bin/sh
# getprop [NAME [DEFAULT]]: print one system property, or all of them.
#
# A property set at run time is a file named after it (persist.*: kept in /data, others: in RAM);
# those that the phone was built with are lines of build.prop.

volatile=/dev/__properties__
persistent=/data/property
built=/system/build.prop

if [ $# -gt 0 ]; then
  case $1 in
    ''|.*|*[!A-Za-z0-9_.@:-]*) ;;
    *)
      for folder in $volatile $persistent; do
        [ -f "$folder/$1" ] && { cat "$folder/$1"; exit; }
      done
      while IFS= read -r line; do
        case $line in
          "$1="*) print -r -- "${line#*=}"; exit 0 ;;
        esac
      done < $built ;;
  esac
  print -r -- "$2"
  exit 0
fi

{
  for folder in $volatile $persistent; do
    for file in $folder/*; do
      [ -f "$file" ] && print -r -- "[${file##*/}]: [$(<"$file")]"
    done
  done
  while IFS= read -r line; do
    name=${line%%=*}
    [ -f "$volatile/$name" ] || [ -f "$persistent/$name" ] || print -r -- "[$name]: [${line#*=}]"
  done < $built
} | sort
