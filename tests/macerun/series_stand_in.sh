#!/bin/sh
# A stand-in for mace_run in a series: its parameter file is a word that says what happens.
file=
for word; do
  case $word in
    --opencl_parameter_file=*) file=${word#*=} ;;
    --output_file=*) output=${word#*=} ;;
  esac
done
what=fine
[ -n "$file" ] && read -r what <"$file"
echo "$what ${MACE_CPP_MIN_VLOG_LEVEL:-0}" >>runs
I="I mace_run.cc:1]"
say() { echo "$I $1"; }
say "model name: tiny"
say "Warm up run"
if [ "${MACE_CPP_MIN_VLOG_LEVEL:-0}" = 3 ]; then
  for key in good_key bad_key; do
    echo "I mace/utils/tuner.h:113] $key: [4, 4, 4, 0]"
  done
fi
case $what in
  retry*)
    if [ "$what" = retry-once ] && [ "${MACE_CPP_MIN_VLOG_LEVEL:-0}" = 3 ]; then :; else
      while :; do
        echo "E opencl_helper.cc:1] error: CL_INVALID_WORK_GROUP_SIZE"
        echo "E mace_run.cc:555] Warmup runtime error, retry ... errcode: Out of resources"
      done
    fi ;;
  create)
    while :; do echo "E mace_run.cc:456] Create engine runtime error, retry ... errcode: x"; done ;;
  crash) kill -SEGV $$ ;;
  killed) kill -KILL $$ ;;
  hang) exec sleep 1000 ;;
  nothing) exit 0 ;;
  flag) echo "ERROR: unknown command line flag 'benchmark'" >&2; exit 1 ;;
esac
say "1st warm up run latency: 1.5 ms"
printf '12345678' | cat - >/dev/null
head -c 40 /dev/zero >"${output}_output"
cat <<TABLE
     capability(CPU)        init      warmup     run_avg
time           0.000       1.000       2.000       3.000
TABLE
say "                    Sort by Run Order"
say "-----"
say "| Op Type | Start | First | Avg(ms) | GMACPS | Output Shape | name |"
say "-----"
say "| Conv2D | 0.0 | 1.0 | ${#what}.5 | 1.0 | [1,2,2,4] | conv_$what |"
[ "$what" = cut ] && exit 0
say "-----"
echo "a driver's chatter on $what" >&2
