#!/system/bin/sh
# reboot [-p] [REASON]: restart this phone, or switch it off with -p. Never more than this phone.

request=reboot
[ "$1" = -p ] && request=shutdown
setprop sys.powerctl "$request,$1" || exit 1
# init sees the property once adbd has ended.
pkill -KILL -f 'python.* -m droidmace.emulator.adbd'
