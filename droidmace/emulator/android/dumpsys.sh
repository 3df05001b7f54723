#!/system/bin/sh
# dumpsys [-l | SERVICE]: state of the services this phone has: battery, SurfaceFlinger.

supply=/sys/class/power_supply

battery() {
  case $(<$supply/battery/status) in
    Charging) status=2 ;;
    Discharging) status=3 ;;
    Full) status=5 ;;
    *) status=1 ;;
  esac
  usb=false
  [ "$(<$supply/usb/online)" = 1 ] && usb=true
  cat <<EOF
Current Battery Service state:
  AC powered: false
  USB powered: $usb
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: $(<$supply/battery/charge_counter)
  status: $status
  health: 2
  present: true
  level: $(<$supply/battery/capacity)
  scale: 100
  voltage: $(($(<$supply/battery/voltage_now) / 1000))
  temperature: $(<$supply/battery/temp)
  technology: $(<$supply/battery/technology)
EOF
}

surface_flinger() {
  print "RenderEngine: GLESRenderEngine"
  print -r -- "GLES: $(</vendor/etc/gles_identity)"
}

services="SurfaceFlinger battery"

case $1 in
  -l)
    print "Currently running services:"
    for service in $services; do print "  $service"; done ;;
  battery) battery ;;
  SurfaceFlinger) surface_flinger ;;
  '')
    for service in $services; do
      print -r -- "-------------------------------------------------------------------------------"
      print "DUMP OF SERVICE $service:"
      "$0" $service
    done ;;
  *) print -ru2 -- "Can't find service: $1" ;;
esac
