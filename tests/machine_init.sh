#!/bin/sh
# The first process of the machine (see machine.py): finds the file system of the machine around it, and goes on there.
# `site` is the directory that both write to, told by the kernel's command line.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for pass in 1 2 3 4 5; do  # until every module has found those that it needs
  for module in /modules/*.ko; do $b insmod "$module" 2>/dev/null; done
done
$b ip link set lo up
$b ip addr add 10.0.2.15/24 dev eth0
$b ip link set eth0 up
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose root /lower
$b mount -t tmpfs upper /upper
$b mkdir /upper/kept /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/kept,workdir=/upper/work overlay /new
for at in proc sys dev; do $b mount --bind /$at /new/$at; done
$b mount -t tmpfs run /new/run
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 site "/new$site"
$b chroot /new /bin/sh "$site/run.sh"
$b poweroff -f
