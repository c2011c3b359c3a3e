package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// oddTree adds what trees of operating systems have to src.
func oddTree(t *testing.T, src string) {
	t.Helper()
	testtree.Write(t, src, "usr/bin/tool", []byte("#!/bin/sh\n"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Chmod(filepath.Join(src, "usr/bin/tool"), 0o4755))
	must(os.Link(filepath.Join(src, "usr/bin/tool"), filepath.Join(src, "usr/bin/other-name")))
	must(os.Symlink("../nowhere", filepath.Join(src, "usr/bin/broken")))
	must(os.Mkdir(filepath.Join(src, "closed"), 0o500))
	must(unix.Mkfifo(filepath.Join(src, "fifo"), 0o640))
	testtree.Write(t, src, "odd\nname \xff", []byte("odd"))
	must(unix.Setxattr(filepath.Join(src, "usr/bin/tool"), "user.test", []byte("value\x00x"), 0))
	sparse := filepath.Join(src, "sparse")
	must(os.WriteFile(sparse, []byte("beginning"), 0o644))
	must(os.Truncate(sparse, 10<<20))
	must(os.Chtimes(sparse, time.Unix(1, 5), time.Unix(1, 5)))
	if os.Geteuid() == 0 {
		must(unix.Mknod(filepath.Join(src, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(os.Lchown(filepath.Join(src, "usr/bin/broken"), 12, 34))
		must(os.Lchown(filepath.Join(src, "odd\nname \xff"), 1000, 2000))
	}
}

// describe says of each file of a tree all that has to survive.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	script := `cd "$1" && find . -mindepth 1 -printf '%P|%y|%m|%U:%G|%n|%l|%T@|%s\0' | sed -z 's/|d|\(.*\)|[0-9]*|/|d|\1||/' `
	out, err := exec.Command("sh", "-c", script, "sh", root).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		name, rest, _ := strings.Cut(line, "|")
		if strings.HasPrefix(rest, "d|") { // sizes and links of directories are the filesystem's
			f := strings.Split(rest, "|")
			rest = strings.Join([]string{f[0], f[1], f[2], f[5]}, "|")
		}
		p := filepath.Join(root, name)
		if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			rest += "|" + string(data)
			buf := make([]byte, 100)
			if n, err := unix.Lgetxattr(p, "user.test", buf); err == nil {
				rest += "|" + string(buf[:n])
			}
		}
		all[name] = rest
	}
	return all
}

func TestPullDiffMount(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	store, src, program := filepath.Join(dir, "store"), newSource(t, 1), testtree.Program(t)
	oddTree(t, src)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "1", "--blockfs", program)
	want := describe(t, src)

	c.run(command.ExitUsage, "pull", "test")
	out := filepath.Join(dir, "out")
	c.run(command.ExitOK, "pull", "test", "-o", out)
	if diff := cmp.Diff(want, describe(t, out)); diff != "" {
		t.Errorf("pulled directory, -want +got:\n%s", diff)
	}
	if fi, err := os.Stat(filepath.Join(out, "sparse")); err != nil || fi.Sys().(*syscall.Stat_t).Blocks > 100 {
		t.Errorf("the hole was filled: %v, %v", fi, err)
	}
	c.run(command.ExitOther, "pull", "test", "-o", out) // not empty
	archive := filepath.Join(dir, "out.tar.zst")
	c.run(command.ExitOK, "pull", "test/1/amd64", "-o", archive)
	unpacked := filepath.Join(dir, "unpacked")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("tar", "--xattrs", "--xattrs-include=*", "-xpf", archive, "-C", unpacked).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, b)
	}
	if diff := cmp.Diff(want, describe(t, unpacked)); diff != "" {
		t.Errorf("pulled archive, -want +got:\n%s", diff)
	}
	// What was pulled is the same image again.
	if out, _ := c.run(command.ExitOK, "push", archive, "--name", "test", "--version", "1", "--blockfs", program); !strings.Contains(out, "already there") {
		t.Errorf("push of the pulled archive says %q", out)
	}
	single := filepath.Join(dir, "out.erofs")
	c.run(command.ExitOK, "pull", "test", "-o", single)
	if fi, err := os.Stat(single); err != nil || fi.Sys().(*syscall.Stat_t).Blocks*512 > fi.Size()-9<<20 {
		t.Errorf("the hole was filled in the EROFS: %v, %v", fi, err)
	}
	if out, _ := c.run(command.ExitOK, "push", single, "--name", "test", "--version", "1", "--blockfs", program); !strings.Contains(out, "already there") {
		t.Errorf("push of the pulled EROFS says %q", out)
	}
	image := filepath.Join(dir, "image")
	c.run(command.ExitOK, "pull", "test", "-o", image, "--format", "files")
	for _, f := range []string{"meta", "data", "vmlinuz", "initrd", "manifest.json"} {
		if fi, err := os.Stat(filepath.Join(image, f)); err != nil || fi.Size() == 0 {
			t.Errorf("%s: %v, %v", f, fi, err)
		}
	}
	if b, err := exec.Command("fsck.erofs", "--device="+filepath.Join(image, "data"), filepath.Join(image, "meta")).CombinedOutput(); err != nil && exec.Command("fsck.erofs", "-h").Run() == nil {
		t.Errorf("fsck.erofs: %v\n%s", err, b)
	}

	// A second version.
	testtree.Write(t, src, "etc/new", []byte("new"))
	testtree.Write(t, src, "srv/own3", bytes.Repeat([]byte("other"), 60_000))
	for _, err := range []error{os.Remove(filepath.Join(src, "srv/own5")), os.Chmod(filepath.Join(src, "usr/bin/tool"), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "2", "--blockfs", program)
	text, _ := c.run(command.ExitOK, "diff", "test/1", "test/2")
	for _, line := range []string{"A /etc/new\n", "D /srv/own5\n", "M /srv/own3 (content)\n", "M /usr/bin/tool (mode)\n", "M /usr/bin/other-name (mode)\n", "1 file added, 1 removed, 3 changed\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("diff says\n%s\nwithout %q", text, line)
		}
	}
	js, _ := c.run(command.ExitOK, "diff", "test/1", "test/2", "--summary", "--json")
	var d struct {
		Fetch       int64 `json:"bytes_fetched"`
		FetchBlocks int   `json:"blocks_fetched"`
		Blocks      int   `json:"blocks"`
	}
	if err := json.Unmarshal([]byte(js), &d); err != nil || d.FetchBlocks == 0 || d.FetchBlocks >= d.Blocks || d.Fetch == 0 {
		t.Errorf("diff --json = %s, %v", js, err)
	}
	if text, _ = c.run(command.ExitOK, "diff", "test/1", "test/1", "--content"); !strings.HasPrefix(text, "0 files added, 0 removed, 0 changed\n") || !strings.Contains(text, "fetches 0 of") {
		t.Errorf("diff of the same says %q", text)
	}
	if text, _ = c.run(command.ExitOK, "show", "test/2"); !strings.Contains(text, "menu entry test-2") || !strings.Contains(text, "shared with other images") {
		t.Errorf("show says %q", text)
	}

	// Mounted, in a process of its own, as users would.
	at := filepath.Join(dir, "mnt")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var buf bytes.Buffer
	code := 0
	wg.Go(func() {
		code = command.Run(ctx, []string{"mount", "test/1", at, "--config", c.config}, &buf, &buf)
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Lstat(filepath.Join(at, "fifo")); err == nil {
			break
		}
		if time.Now().After(end) {
			cancel()
			wg.Wait()
			t.Fatalf("nothing is mounted: %d, %s", code, buf.Bytes())
		}
	}
	if diff := cmp.Diff(want, describe(t, at)); diff != "" {
		t.Errorf("mounted, -want +got:\n%s", diff)
	}
	cancel()
	wg.Wait()
	if _, err := os.Lstat(filepath.Join(at, "fifo")); err == nil {
		t.Error("it is still mounted")
	}
}
