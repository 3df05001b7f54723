#!/system/bin/sh
# First program of the phone: prepares /data, runs adbd, and passes its exit code on.
#
#   init ADBD-OPTION...
#
# INIT_RESTORE and INIT_SAVE name archives of /data when that is a RAM disk: unpacked now,
# written when adbd has ended. Exit code 75 asks for a reboot.

reboot_requested=75
cd / || exit 1

[ -n "$INIT_RESTORE" ] && { tar -x -C /data -f "$INIT_RESTORE" || exit 74; }
# What an OpenCL compiler left behind when it was killed.
rm -rf /data/misc/opencl
chmod u+rwx /data/local /data/local/tmp /data/media /data/misc /data/property 2>/dev/null
mkdir -p /data/local/tmp /data/media/0 /data/misc/opencl /data/property || exit 73
chmod 0771 /data/local /data/local/tmp
setprop sys.boot_completed 1

# adbd reads its environment for commands from its own configuration; ours stays with us.
/vendor/bin/python3 -m droidmace.emulator.adbd "$@" &
# Its sockets belong to the network of the machine outside: nobody else may hold them, since any
# process on the phone could take them from this shell.
exec 8<&- 9<&-
wait $!
code=$?

case $(getprop sys.powerctl) in
  reboot*) code=$reboot_requested ;;
  shutdown*) code=0 ;;
esac

if [ -n "$INIT_SAVE" ]; then
  # Nobody may write while /data is read: end everything but this script.
  kill -KILL -1 2>/dev/null
  # What tar would stop at: sockets, which mean nothing without their process, and what its owner
  # may not read (it comes back readable).
  find /data -type s -exec rm -f {} +
  find /data -type d ! -perm -700 -exec chmod u+rwx {} \;
  find /data -type f ! -perm -400 -exec chmod u+r {} +
  # A sparse file may claim to be larger than the RAM disk: the limit keeps the archive small.
  (ulimit -f "$INIT_SAVE_BLOCKS" && exec tar -c -C /data -f "$INIT_SAVE" .) || exit 74
fi
exit "$code"
