# shellcheck shell=sh
# Owns the mounts and the control group of one machine. Runs in a mount namespace of its own: `machine.sh DIRECTORY NAME
# ARGUMENTS OF SYSTEMD-NSPAWN…`. Boots it for each line of its standard input, and ends all of it when there is no more.
set -eu
dir=$1 cgroup=/sys/fs/cgroup/$2
shift 2
trap '' INT TERM HUP

# A view of the one hierarchy, whatever this machine has there; and a /run for what systemd-nspawn notes of machines.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
console=$dir/console
exec 2>>"$console"
mkdir "$dir/root" "$dir/layer"
mount -t tmpfs -o mode=0755 tmpfs "$dir/layer"
mkdir "$dir/layer/upper" "$dir/layer/work"
mount -t overlay -o "lowerdir=/,upperdir=$dir/layer/upper,workdir=$dir/layer/work" overlay "$dir/root"
mkdir "$cgroup"

echo ready
exec >/dev/null
while read -r _; do
    (
        code=0
        sh -c 'echo $$ >"$0/cgroup.procs" && exec systemd-nspawn "$@"' "$cgroup" "$@" </dev/null >>"$console" 2>&1 || code=$?
        echo "helper: it has ended with $code" >>"$console"
    ) &
done

echo 1 >"$cgroup/cgroup.kill"
wait
while [ -d "$cgroup" ]; do
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
done
umount "$dir/root" && umount "$dir/layer" && rm -rf --one-file-system "$dir"
