#!/system/bin/sh
# setprop NAME VALUE: set a system property. ro.* cannot be set; persist.* survive a reboot.

longest_value=91

fail() {
  print -ru2 -- "Failed to set property '$1' to '$2'."
  print -ru2 -- "$3"
  exit 1
}

[ $# -eq 2 ] || { print -u2 "usage: setprop NAME VALUE"; exit 1; }
case $1 in
  ''|.*|*.|*..*|*[!A-Za-z0-9_.@:-]*) fail "$1" "$2" "bad property name" ;;
  ro.*) fail "$1" "$2" "the property is read-only" ;;
  persist.*) folder=/data/property ;;
  *) folder=/dev/__properties__ ;;
esac
[ ${#2} -le $longest_value ] || fail "$1" "$2" "the value is longer than $longest_value characters"

new=$folder/.new.$$
{ print -r -- "$2" > "$new" && mv -f "$new" "$folder/$1"; } 2>/dev/null || {
  rm -f "$new"
  fail "$1" "$2" "cannot write in $folder"
}
