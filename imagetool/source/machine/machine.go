// Package machine knows what of a running machine does not belong into an
// image that many machines boot: its identity, its secrets, what is there only
// while it runs, and the disks it has.
package machine

import (
	"io"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Excludes returns patterns of what stays out (see source.NewExclude).
func Excludes() []string {
	return []string{
		// What is there only while the machine runs.
		"proc/*", "sys/*", "run/*", "tmp/*", "var/tmp/*", "media/*", "mnt/*", "cdrom/*", "lost+found",
		"swapfile", "swap.img", "var/swap", "var/lib/dhcp/*.leases", "var/lib/dhcpcd/*.lease*", "var/lib/NetworkManager/*.lease",
		"var/log/journal/*", "var/cache/apt/archives/*.deb",
		// Who the machine is. Each that boots has to make its own.
		"etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_*_key.pub", "var/lib/dbus/machine-id",
		"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "boot/efi/loader/random-seed", "boot/loader/random-seed",
		"var/lib/systemd/credential.secret", "var/lib/NetworkManager/secret_key", "etc/krb5.keytab",
		// What is nobody else's business: stores are read by everybody.
		"home/*", "root/.ssh", "root/.gnupg", "root/.cache", "root/.*_history", "root/.netrc",
		"etc/NetworkManager/system-connections/*", "etc/wireguard/*.conf", "etc/iwd/*", "var/lib/iwd/*",
	}
}

// Mounts returns where a filesystem of its own belongs to the operating system
// as the root does.
func Mounts() []string { return []string{"usr", "boot", "var", "opt"} }

const maxFile = 1 << 20 // bytes of a file that is changed

// Neutral takes the machine's name for itself and its disks out of the tree
// in b:
//
//   - etc/machine-id is emptied, so that systemd makes a new one at each boot,
//     without taking the boot for the first one (machine-id(5));
//   - the lines of etc/fstab that name local disks become comments: a machine
//     that boots from the network would wait for those.
func Neutral(b *source.Builder) error {
	if e := b.Lookup("etc/machine-id"); e != nil && e.IsRegular() && e.Size > 0 {
		if err := replace(b, e, nil); err != nil {
			return err
		}
		b.Note("/etc/machine-id is left empty")
	}
	e := b.Lookup("etc/fstab")
	if e == nil || !e.IsRegular() || e.Size == 0 || e.Size > maxFile || e.Contents == nil {
		return nil
	}
	r, err := e.Contents.Open(e)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err := r.Close(); err != nil {
		return source.ReadError(e, err)
	}
	if err != nil {
		return source.ReadError(e, err)
	}
	out, changed := fstab(data)
	if changed == 0 {
		return nil
	}
	b.Note("%d lines of /etc/fstab that name local disks are comments now", changed)
	return replace(b, e, out)
}

// replace gives e another content.
func replace(b *source.Builder, e *source.Entry, data []byte) error {
	n := *e
	n.Size, n.Contents, n.Place, n.Inode = int64(len(data)), nil, 0, 0
	if len(data) > 0 {
		n.Contents = source.Text(data)
	}
	return b.Replace(&n)
}

// fstab makes comments of the lines of fstab(5) whose filesystems are on local
// disks, and tells how many.
func fstab(data []byte) (out []byte, changed int) {
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		local := false
		if len(f) > 1 {
			for _, prefix := range []string{"UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID=", "/dev/"} {
				local = local || strings.HasPrefix(f[0], prefix)
			}
			// Swap files are left out with what lies on local disks.
			local = local || len(f) > 2 && f[2] == "swap" && strings.HasPrefix(f[0], "/")
		}
		if local {
			changed++
			out = append(append(out, source.FstabComment...), line...)
			continue
		}
		out = append(out, line...)
	}
	return out, changed
}
