package remote

import (
	"fmt"
	"strings"
)

// The first line that the script writes to standard output, before the
// tarball: this word, the kind of tar, the KiB that the filesystem has in
// use, or 0, and as whom tar reads: root, sudo, or user for none of these.
const greeting = "INETBOOT-TAR"

// script returns what the machine's shell runs (POSIX.1-2017, "Shell Command
// Language"): it looks which tar there is and becomes it. On a machine where
// we are not root, sudo is used if it lets us run tar and asks for no password;
// what else is asked of the machine is asked without it, if need be.
func script(path string, exclude, mounts []string) string {
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	line(`LC_ALL=C; export LC_ALL; umask 077`)
	line(`root=%s`, quote(path))
	line(`as=; who=root`)
	line(`if [ "$(id -u)" != 0 ]; then`)
	line(`  if sudo -n tar --version </dev/null >/dev/null 2>&1; then as='sudo -n'; who=sudo; else who=user; fi`)
	line(`fi`)
	line(`if [ ! -d "$root" ] && ! $as test -d "$root" </dev/null; then echo "$root is not a directory on this machine" >&2; exit 3; fi`)
	line(`case $(tar --version 2>/dev/null </dev/null) in`)
	line(`*"GNU tar"*) kind=gnu ;;`)
	line(`bsdtar*) kind=bsd ;;`)
	line(`*) echo "there is neither GNU tar nor bsdtar on this machine: install one of them there" >&2; exit 4 ;;`)
	line(`esac`)
	// How much it will be is known if the directory is all of a filesystem.
	line(`used=0`)
	line(`set -- $(df -kP "$root" 2>/dev/null </dev/null | tail -n 1)`)
	line(`if [ "$#" = 6 ] && [ "$6" = "$root" ]; then used=$3; fi`)
	// Other filesystems that belong to the operating system, if they are on
	// disks of the machine.
	line(`about() { $as stat "$@" 2>/dev/null </dev/null || stat "$@" 2>/dev/null </dev/null; }`)
	line(`device() { about -c %%d "$1"; }`)
	line(`set -- .`)
	for _, m := range mounts {
		line(`m=%s`, quote(m))
		line(`if [ -d "$root/$m" ] && [ ! -h "$root/$m" ] && [ "$(device "$root/$m")" != "$(device "$root/$m/..")" ]; then`)
		line(`  case $(about -f -c %%T "$root/$m") in`)
		line(`  ext*|xfs|btrfs|msdos|vfat|f2fs|zfs|jfs|reiserfs|squashfs|erofs|overlayfs) set -- "$@" "./$m" ;;`)
		line(`  esac`)
		line(`fi`)
	}
	line(`echo "%s $kind $used $who"`, greeting)
	line(`if [ $kind = bsd ]; then`)
	line(`  exec $as tar --create --file - --format pax --xattrs --acls --one-file-system --directory "$root" "$@" </dev/null`)
	line(`fi`)
	s.WriteString(`exec $as tar --create --file=- --format=pax --numeric-owner --xattrs '--xattrs-include=*' --acls --one-file-system --sparse`)
	s.WriteString(` --anchored --wildcards --no-wildcards-match-slash`)
	for _, p := range exclude {
		fmt.Fprintf(&s, " --exclude=%s", quote("./"+strings.Trim(p, "/")))
	}
	line(` --directory="$root" "$@" </dev/null`)
	return s.String()
}

// quote makes one word of s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
