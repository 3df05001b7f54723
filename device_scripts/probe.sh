# Tells everything droidmace wants to know about the phone, in one go.
# Given to the shell as text, so it needs no file on the phone. Each section starts with a line
# "@@droidmace NAME"; droidmace/devices/probe.py reads it. Nothing here writes or needs root.
export PATH="$PATH:/system/bin:/system/xbin:/vendor/bin"

section() {
  echo
  echo "@@droidmace $1"
}

# Services of a busy phone may hang: never wait for one longer than this.
limited() {
  if command -v timeout >/dev/null 2>&1; then timeout 5 "$@"; else "$@"; fi
}

section properties
getprop 2>/dev/null

section id
id -u 2>/dev/null

section kernel
uname -m 2>/dev/null

section uptime
cat /proc/uptime 2>/dev/null

section gles
limited dumpsys SurfaceFlinger 2>/dev/null | grep -m 1 '^ *GLES:'

section gpu_model
cat /sys/class/kgsl/kgsl-3d0/gpu_model 2>/dev/null

section opencl
for file in \
  /system/vendor/lib64/libOpenCL.so /vendor/lib64/libOpenCL.so /system/lib64/libOpenCL.so \
  /system/vendor/lib64/egl/libGLES_mali.so /vendor/lib64/egl/libGLES_mali.so \
  /system/lib64/egl/libGLES_mali.so \
  /system/vendor/lib64/libPVROCL.so /vendor/lib64/libPVROCL.so \
  /system/vendor/lib64/libOpenCL-pixel.so /vendor/lib64/libOpenCL-pixel.so \
  /system/lib64/libOpenCL-pixel.so \
  /system/vendor/lib/libOpenCL.so /vendor/lib/libOpenCL.so /system/lib/libOpenCL.so \
  /system/vendor/lib/egl/libGLES_mali.so /vendor/lib/egl/libGLES_mali.so \
  /system/lib/egl/libGLES_mali.so \
  /system/vendor/lib/libPVROCL.so /vendor/lib/libPVROCL.so \
  /system/vendor/lib/libOpenCL-pixel.so /vendor/lib/libOpenCL-pixel.so \
  /usr/lib/aarch64-linux-gnu/libOpenCL.so /usr/lib/arm-linux-gnueabihf/libOpenCL.so \
  /usr/lib/x86_64-linux-gnu/libOpenCL.so
do
  if [ -e "$file" ]; then echo "$file"; fi
done

# Blocks that this user may take, blocks in all, bytes in a block.
section storage
stat -f -c '%a %b %S' /data/local/tmp 2>/dev/null

section df
df -k /data/local/tmp 2>/dev/null

section battery
limited dumpsys battery 2>/dev/null

section thermal
for zone in /sys/class/thermal/thermal_zone*; do
  if [ -r "$zone/temp" ]; then
    echo "$(cat "$zone/temp" 2>/dev/null) $(cat "$zone/type" 2>/dev/null)"
  fi
done

section end
