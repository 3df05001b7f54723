#!/system/bin/sh
# mace_run of an emulated phone: the engine that comes with droidmace.
exec /vendor/bin/python3 -m droidmace.engine "$@"
