package debianroot

// Variants of mmdebstrap.
const (
	minbase = "minbase" // Essential packages and apt
	extract = "extract" // unpacked, nothing is configured
)

// full is the system of [Tarball].
func full() System {
	return System{
		Name: "debian", Size: "1 GB", variant: minbase,
		packages: []string{
			"linux-image-amd64", "systemd-sysv", "dbus", "udev", "kmod", "openssh-server", "python3",
			"build-essential", "git", "vim", "less", "iproute2", "iputils-ping", "procps", "curl", "ca-certificates",
			"man-db", "rsync", "file", "strace", "python3-dev",
		},
		customize: `set -eu
echo debian > "$1/etc/hostname"
: > "$1/etc/machine-id"
echo 'root:` + Password + `' | chroot "$1" chpasswd
# An ordinary network set-up: any Ethernet link by DHCP.
printf '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n' > "$1/etc/systemd/network/80-dhcp.network"
chroot "$1" systemctl enable systemd-networkd.service
rm -f "$1"/etc/resolv.conf "$1"/var/lib/apt/lists/*_* "$1"/var/cache/apt/*.bin "$1"/var/log/*.log
`,
	}
}

// clean is the end of a customize hook: a password, and nothing that apt kept.
const clean = `
echo 'root:` + Password + `' | chroot "$1" chpasswd
rm -f "$1"/etc/resolv.conf "$1"/var/lib/apt/lists/*_* "$1"/var/cache/apt/*.bin "$1"/var/log/*.log
`

// SysVinit is a system without systemd: sysvinit, Debian's init scripts, and
// ifupdown with a link that is up from the start by DHCP, and so is taken down
// by `ifdown -a` when the system ends.
func SysVinit() System {
	return System{
		Name: "sysvinit", Size: "400 MB", variant: minbase,
		packages: []string{
			"linux-image-cloud-amd64", "sysvinit-core", "initscripts", "orphan-sysvinit-scripts", "udev", "kmod", "ifupdown", "isc-dhcp-client",
			"iproute2", "procps", "curl", "tzdata", "openssh-server", "console-setup",
		},
		customize: `set -eu
echo localhost > "$1/etc/hostname"
printf 'auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n' > "$1/etc/network/interfaces"
echo 'T0:23:respawn:/sbin/getty -L ttyS0 115200 vt100' >> "$1/etc/inittab"
` + clean,
	}
}

// Dracut is a system with systemd whose initramfs is dracut's, with dracut's
// way of going down: it unpacks that initramfs over /run/initramfs and leaves
// the root from there.
func Dracut() System {
	return System{
		Name: "dracut", Size: "400 MB", variant: minbase,
		packages: []string{
			"linux-image-cloud-amd64", "dracut", "systemd-sysv", "dbus", "udev", "kmod", "iproute2", "procps", "curl", "tzdata", "locales",
		},
		customize: `set -eu
echo localhost > "$1/etc/hostname"
: > "$1/etc/machine-id"
printf '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n' > "$1/etc/systemd/network/80-dhcp.network"
chroot "$1" systemctl enable systemd-networkd.service
for k in "$1"/usr/lib/modules/*; do
  release=${k##*/}
  [ -e "$1/boot/initrd.img-$release" ] || chroot "$1" dracut --no-hostonly --quiet "/boot/initrd.img-$release" "$release"
done
` + clean,
	}
}

// BusyBox is a system of two packages: a kernel and BusyBox, which is its
// init, too. No libraries, no package manager, no tools for modules, and no
// depmod(8) has been run; /lib is a directory of its own.
func BusyBox() System {
	return System{
		Name: "busybox", Size: "150 MB", variant: extract,
		packages: []string{"busybox-static"},
		customize: `set -eu
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The kernel alone: its package wants an initramfs, and that wants the rest.
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
(cd "$work" && apt-get download -q "$kernel")
mv bin/busybox "$work/busybox" 2>/dev/null || mv usr/bin/busybox "$work/busybox"
# mmdebstrap has its own use for what stays.
find . -mindepth 1 -maxdepth 1 ! -name tmp ! -name dev ! -name etc ! -name var -exec rm -rf {} +
mkdir -m 755 bin sbin lib proc sys run root usr usr/bin usr/sbin mnt
dpkg-deb --fsys-tarfile "$work"/linux-image-*.deb | tar -x -C "$1" ./boot ./lib
mv "$work/busybox" bin/busybox
chmod 755 bin/busybox
for a in sh mount umount getty login cat echo ls sleep sync ps kill dmesg stty sha256sum wget reboot poweroff halt ip hostname grep sed find awk head; do
  ln -s busybox "bin/$a"
done
ln -s ../bin/busybox sbin/init
rm -f etc/hostname etc/resolv.conf etc/fstab
cat > etc/inittab <<'EOT'
::sysinit:/etc/rc
ttyS0::respawn:/bin/getty -L 115200 ttyS0 vt100
::ctrlaltdel:/bin/reboot
::shutdown:/bin/umount -a -r
EOT
cat > etc/rc <<'EOT'
#!/bin/sh
mount -t proc proc /proc 2>/dev/null
mount -t sysfs sys /sys 2>/dev/null
[ -s /etc/hostname ] && hostname "$(cat /etc/hostname)"
exit 0
EOT
chmod 755 etc/rc
echo 'root:x:0:0:root:/root:/bin/sh' > etc/passwd
echo 'root:x:0:' > etc/group
echo "root:$(openssl passwd -6 -salt inetboot '` + Password + `'):19000:0:99999:7:::" > etc/shadow
chmod 600 etc/shadow
printf 'NAME="BusyBox"\nID=busybox\nPRETTY_NAME="BusyBox on Linux"\n' > etc/os-release
`,
	}
}

// Diskless is a system for machines whose root is on NFS or NBD, without
// InetBoot: systemd, Debian's own initramfs with nbd-client and EROFS in it,
// and a read-only root, on which what is written lies in memory.
func Diskless() System {
	return System{
		Name: "diskless", Size: "400 MB", variant: minbase,
		packages: []string{
			"linux-image-cloud-amd64", "initramfs-tools", "nbd-client", "systemd-sysv", "dbus", "udev", "kmod", "iproute2", "procps", "zstd",
		},
		customize: `set -eu
echo localhost > "$1/etc/hostname"
echo uninitialized > "$1/etc/machine-id"
printf '%s\n' 'tmpfs /tmp tmpfs mode=1777,nosuid,nodev 0 0' 'tmpfs /var tmpfs mode=755 0 0' > "$1/etc/fstab"
# The initramfs sets the link up. It stays as it is, and its lease is renewed.
printf '[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\nKeepConfiguration=yes\n' > "$1/etc/systemd/network/80-root.network"
chroot "$1" systemctl enable systemd-networkd.service
echo erofs >> "$1/etc/initramfs-tools/modules"
chroot "$1" update-initramfs -u
` + clean,
	}
}

// Systems lists the small systems.
func Systems() []System { return []System{SysVinit(), Dracut(), BusyBox()} }
