#!/bin/bash
# Makes what a guest boots from: a disk with a fresh Debian, Debian's own kernel's modules, the packages in /srv, and a
# small initial file system that mounts it.
#
#   disk.sh ROOT.tar KERNEL-DIRECTORY OUT-DIRECTORY FILE..
#
# The gateway-to-be has three lines, named by their MAC addresses: wan, mgmt (with an address, as an installer finds it) and
# staff; outside and inside are the far ends of wan and staff, for namespaces of the guest. `lab-echo` answers on port 22 as a session would; `lab-agent` runs the test's commands from a serial line;
# `lab-after-closed` and `lab-network-pre` write down what the kernel holds at two moments of the boot.
set -euo pipefail
archive=$1 kernel=$2 out=$3
shift 3
release=$(cat "$kernel/release")
tree=$out/tree
mkdir "$tree"
trap 'rm -rf --one-file-system "$tree" "$out/early"' EXIT

tar -xf "$archive" -C "$tree"
mkdir -p "$tree/usr/lib/modules" "$tree/lab"
cp -a "$kernel/lib/modules/$release" "$tree/usr/lib/modules/"
chroot "$tree" depmod -a "$release"
cp -- "$@" "$tree/srv/"
echo '/dev/vda / ext4 rw,noatime 0 0' >"$tree/etc/fstab"
echo gateway >"$tree/etc/hostname"
: >"$tree/etc/machine-id"

network=$tree/etc/systemd/network
number=1
for name in wan mgmt staff outside inside; do
    printf '[Match]\nMACAddress=52:54:00:00:00:0%d\n[Link]\nName=%s\n' "$number" "$name" >"$network/10-$name.link"
    number=$((number + 1))
done
printf '[Match]\nName=mgmt\n[Network]\nAddress=10.0.2.15/24\nIPv6AcceptRA=no\n' >"$network/20-mgmt.network"

cat >"$tree/lab/agent" <<'AGENT'
#!/bin/sh
# Runs each line that comes in, and answers `RESULT CODE SIZE` and the output.
stty raw -echo </dev/ttyS1
exec 3<>/dev/ttyS1
echo READY >&3
while read -r line <&3; do
    sh -c "$line" >/run/lab.out 2>&1 </dev/null 3>&-
    printf 'RESULT %d %d\n' $? "$(stat -c %s /run/lab.out)" >&3
    cat /run/lab.out >&3
done
AGENT
chmod 755 "$tree/lab/agent"
cp "$(command -v busybox)" "$(command -v wg)" "$tree/lab/"

units=$tree/etc/systemd/system
printf '[Service]\nExecStart=/lab/agent\n[Install]\nWantedBy=multi-user.target\n' >"$units/lab-agent.service"
printf '[Socket]\nListenStream=22\nAccept=yes\n[Install]\nWantedBy=sockets.target\n' >"$units/lab-echo.socket"
printf '[Service]\nExecStart=/bin/cat\nStandardInput=socket\nStandardOutput=socket\n' >"$units/lab-echo@.service"
# probe NAME ORDER..
probe() {
    local name=$1
    shift
    {
        printf '[Unit]\nDefaultDependencies=no\n'
        printf '%s\n' "$@"
        printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "mkdir -p /run/lab; nft list ruleset >/run/lab/%s.nft; ' "$name"
        printf 'ip -brief link >/run/lab/%s.link"\n[Install]\nWantedBy=sysinit.target\n' "$name"
    } >"$units/lab-$name.service"
}
probe after-closed After=sekisho-closed.service Before=sekisho-core.service
probe network-pre After=network-pre.target Wants=network-pre.target 'Before=systemd-networkd.service network.target'
systemctl --root="$tree" --quiet enable systemd-networkd.service lab-agent.service lab-echo.socket lab-after-closed.service \
    lab-network-pre.service
# Emulation is slow; none of these has to do with what is asked.
systemctl --root="$tree" --quiet mask systemd-networkd-wait-online.service getty@tty1.service serial-getty@ttyS0.service \
    systemd-logind.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer man-db.timer e2scrub_reap.service

truncate -s 1G "$out/disk"
mke2fs -q -t ext4 -E root_owner=0:0 -d "$tree" "$out/disk"

early=$out/early
mkdir -p "$early/bin" "$early/new"
cp "$(command -v busybox)" "$early/bin/busybox"
{
    printf '#!/bin/busybox sh\nb=/bin/busybox\n$b mkdir -p /proc /dev\n'
    printf '$b mount -t proc proc /proc\n$b mount -t devtmpfs dev /dev\n'
    # In the order in which they need one another.
    for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
        cp "$(find "$kernel/lib/modules" -name "$module.ko")" "$early/"
        printf '$b insmod /%s.ko || $b poweroff -f\n' "$module"
    done
    printf 'while [ ! -b /dev/vda ]; do $b sleep 0.1; done\n$b mount -t ext4 /dev/vda /new || $b poweroff -f\n'
    printf '$b mount --move /dev /new/dev; $b umount /proc\nexec $b switch_root /new /lib/systemd/systemd\n'
} >"$early/init"
chmod 755 "$early/init"
(cd "$early" && find . | busybox cpio -o -H newc 2>/dev/null) >"$out/initrd"
