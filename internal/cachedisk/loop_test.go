package cachedisk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// needRoot skips a test that makes loop devices and mounts.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loop devices and mounts")
	}
}

// image makes a file with a filesystem in it. mkfs is a command line that the
// file's name is appended to.
func image(t *testing.T, size int64, mkfs ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	if len(mkfs) > 0 {
		tool(t, mkfs[0], append(mkfs[1:], name)...)
	}
	return name
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		name = "/usr/sbin/" + name
	}
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// machine is a /sys/class/block and a /dev with the disks of a test.
type machine struct{ sys, dev, dir string }

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{sys: t.TempDir(), dev: t.TempDir(), dir: filepath.Join(t.TempDir(), "mnt")}
	t.Cleanup(func() {
		// Whatever a failed test leaves mounted.
		entries, _ := os.ReadDir(m.dir)
		for _, e := range entries {
			unix.Unmount(filepath.Join(m.dir, e.Name()), unix.MNT_DETACH)
		}
	})
	return m
}

// attach makes an image a disk of the machine and returns its loop device.
func (m machine) attach(t *testing.T, name, img string, loopArgs ...string) string {
	t.Helper()
	node := strings.TrimSpace(tool(t, "losetup", append(loopArgs, "--find", "--show", img)...))
	t.Cleanup(func() { exec.Command("losetup", "-d", node).Run() })
	m.add(t, name, node, img)
	return node
}

// add lists a device that exists already.
func (m machine) add(t *testing.T, name, node, img string) {
	t.Helper()
	st, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	m.list(t, name, st.Size())
	if err := os.Symlink(node, filepath.Join(m.dev, name)); err != nil {
		t.Fatal(err)
	}
}

func (m machine) list(t *testing.T, name string, size int64) {
	t.Helper()
	dir := filepath.Join(m.sys, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{"size": fmt.Sprint(size / 512), "ro": "0"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// fill mounts an image to put things into it.
func fill(t *testing.T, img, fstype string, f func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	tool(t, "mount", "-o", "loop", "-t", fstype, img, dir)
	defer tool(t, "umount", dir)
	f(dir)
}

// mounts returns the lines of /proc/self/mounts for what is below dir.
func (m machine) mounts(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, " "+m.dir) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
