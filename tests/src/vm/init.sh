#!/bin/sh
# The guest's first process: prepares the system, runs the programs in order, reports, powers off.
# Whatever fails before the first report leaves the report incomplete, which the host takes for an error.
export PATH=/usr/sbin:/usr/bin HOME=/root TMPDIR=/tmp LANG=C RUST_BACKTRACE=1

die() { echo "init: $*"; sync; poweroff -f; }

mount -t proc proc /proc || die proc
mount -t sysfs sysfs /sys || die sysfs
mount -t devtmpfs devtmpfs /dev || die devtmpfs
exec > /dev/ttyS0 2>&1 < /dev/null
mkdir -p /dev/pts /dev/shm /run /tmp /root /var
mount -t devpts devpts /dev/pts || die devpts
for directory in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $directory || die $directory; done
chmod 755 /run
mkdir -p /run/netns /run/vm
ln -s /run /var/run
ln -s /proc/self/fd /dev/fd
ip link set lo up || die lo
modprobe -a $(cat /vm/loaded) || die modules

exec 3<> /dev/ttyS1
stty raw -echo <&3 || die ttyS1
echo "sekisho-vm 1 $(uname -r)" >&3

count=0
for program in /vm/programs/*; do
    [ -e "$program" ] || continue
    name=${program##*/*:}
    seconds=$(cat "/vm/seconds/${program##*/}")
    timeout -s KILL "$seconds" "$program" > "/run/vm/$count" 2>&1 3>&- < /dev/null
    code=$?
    # A program's children may still write: what is announced is what was copied.
    tail -c 262144 "/run/vm/$count" > /run/vm/tail
    echo "program $name $code $(stat -c %s /run/vm/tail)" >&3
    cat /run/vm/tail >&3
    rm "/run/vm/$count"
    count=$((count + 1))
done
echo "done $count" >&3
# Closing waits until the line has sent everything.
exec 3>&-
poweroff -f
