package tarball_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/tarball"
)

// compress runs a program over data.
func compress(t *testing.T, data []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

// TestDamagedCompression cuts compressed tarballs short, also behind the end of
// the tarball in them, where the checksums are, and turns bits over.
func TestDamagedCompression(t *testing.T) {
	var entries []tar.Header
	for i := range 50 {
		entries = append(entries, tar.Header{Name: fmt.Sprint("f", i), Typeflag: tar.TypeReg, Size: int64(100 * i)})
	}
	plain := archive(t, entries)
	for _, args := range [][]string{{"gzip"}, {"xz"}, {"zstd"}, {"bzip2"}} {
		t.Run(args[0], func(t *testing.T) {
			whole := compress(t, plain, args...)
			if err := read(t, whole, source.Limits{}); err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{len(whole) - 1, len(whole) - 4, len(whole) - 12, len(whole) / 2, 30, 7} {
				if err := read(t, whole[:n], source.Limits{}); !errors.Is(err, source.ErrUnreadable) {
					t.Errorf("the first %d bytes of %d: %v; want ErrUnreadable", n, len(whole), err)
				}
			}
			damaged := bytes.Clone(whole)
			damaged[len(damaged)/2] ^= 0x10
			if err := read(t, damaged, source.Limits{}); !errors.Is(err, source.ErrUnreadable) && !errors.Is(err, source.ErrRefused) {
				t.Errorf("with a bit turned over: %v; want an error", err)
			}
		})
	}
}

// TestWindows has streams that need much memory to decompress refused.
func TestWindows(t *testing.T) {
	plain := archive(t, []tar.Header{{Name: "f", Typeflag: tar.TypeReg}})
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"xz", "--lzma2=dict=1GiB"}, "dictionary"},
		{[]string{"xz", "-9"}, ""},
		{[]string{"zstd", "--long=31", "--ultra", "-22", "--stream-size=4000000000"}, "--long"},
		{[]string{"zstd", "--long=27"}, ""},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			var data []byte
			if strings.Contains(tc.args[1], "31") {
				// A frame that says so: magic, no single segment, a window of 2 GiB.
				data = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0}
			} else {
				data = compress(t, plain, tc.args...)
			}
			err := read(t, data, source.Limits{})
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("read = %v; want %q", err, tc.want)
			}
		})
	}
}

// TestAttributes reads what several programs write about attributes.
func TestAttributes(t *testing.T) {
	const raw = "\x02\x00\x00\x00"
	passwd := "root:x:0:0::/root:/bin/sh\nlisa:x:1001:100::/home/lisa:/bin/sh\n"
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	write := func(name, data string, records map[string]string) {
		t.Helper()
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Size: int64(len(data)), PAXRecords: records, Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	write("libarchive", "", map[string]string{"LIBARCHIVE.xattr.user.a%20b": "AAEC"})
	write("both", "", map[string]string{"LIBARCHIVE.xattr.user.a": "AAEC", "SCHILY.xattr.user.a": "value"})
	write("gnu", "", map[string]string{"SCHILY.xattr.user.a%3Db%25": "c"})
	write("selinux", "", map[string]string{"RHT.security.selinux": "system_u:object_r:etc_t:s0"})
	write("foreign", "", map[string]string{"SCHILY.xattr.system.nfs4_acl": "x", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.acl.ace": "owner@:r::allow"})
	write("numbers", "", map[string]string{"SCHILY.acl.access": "user::rw-,user:1000:rwx,group::r--,mask::rwx,other::---"})
	write("star", "", map[string]string{"SCHILY.acl.access": "user::rw-,user:someone:r--:1000,group::r--,mask::r--,other::---"})
	write("named", "", map[string]string{"SCHILY.acl.access": "user::rw-,user:lisa:r--,group::r--,mask::r--,other::---"})
	write("unknown", "", map[string]string{"SCHILY.acl.access": "user::rw-,user:nobody-here:r--,group::r--,mask::r--,other::---"})
	write("trivial", "", map[string]string{"SCHILY.acl.access": "user::rw-,group::r--,other::---"})
	write("nonsense", "", map[string]string{"SCHILY.acl.access": "everybody may"})
	write("etc/passwd", passwd, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := source.NewBuilder(source.Limits{}, nil)
	defer b.Close()
	if err := tarball.ReadStream(context.Background(), b, &buf, -1, "test", source.Options{TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	acl := func(user, uid, mask string) string {
		return raw + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00" + user + "\x00" + uid + "\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
			"\x10\x00" + mask + "\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	}
	type xattrs = map[string]string
	for name, want := range map[string]xattrs{
		"libarchive": {"user.a b": "\x00\x01\x02"}, "both": {"user.a": "value"}, "gnu": {"user.a=b%": "c"},
		"selinux": {"security.selinux": "system_u:object_r:etc_t:s0\x00"}, "foreign": nil,
		"numbers": {"system.posix_acl_access": acl("\x07", "\xe8\x03", "\x07")},
		"star":    {"system.posix_acl_access": acl("\x04", "\xe8\x03", "\x04")},
		"named":   {"system.posix_acl_access": acl("\x04", "\xe9\x03", "\x04")},
		"unknown": nil, "trivial": nil, "nonsense": nil,
	} {
		if diff := cmp.Diff(want, b.Lookup(name).Xattrs); diff != "" {
			t.Errorf("attributes of %s (-want +got):\n%s", name, diff)
		}
	}
	if m := b.Lookup("numbers").Mode & 0o777; m != 0o670 {
		t.Errorf("mode of a file with a mask = %o; want the mask as the group's", m)
	}
	tree, err := b.Tree()
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, want := range []string{"nfs4_acl", "overlay.opaque", "SCHILY.acl.ace", "nobody-here", "everybody may"} {
		if !strings.Contains(strings.Join(tree.Notes, "\n"), want) {
			t.Errorf("no note about %s in %q", want, tree.Notes)
		}
	}
}

// TestSpoolLeavesZerosOut looks at what a compressed tarball takes on the disk.
func TestSpoolLeavesZerosOut(t *testing.T) {
	const size = 64 << 20
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: size}); err != nil {
		t.Fatal(err)
	}
	content := make([]byte, size)
	copy(content[5_000_001:], "in the middle")
	copy(content[size-3:], "end")
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	spool := source.NewSpool(t.TempDir())
	defer spool.Close()
	b := source.NewBuilder(source.Limits{}, nil)
	in, err := tarball.Decompress(bufio.NewReader(&buf))
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.Entries(context.Background(), b, &tarball.Input{Stream: in, Spool: spool, Name: "test"}); err != nil {
		t.Fatal(err)
	}
	if n := spool.Stored(); n > 16<<10 {
		t.Errorf("%d bytes were kept; want the pages that are not zero", n)
	}
	tree, err := b.Tree()
	if err != nil {
		t.Fatal(err)
	}
	got, err := tree.ReadFile("f", size)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the content is not what was there: %v", err)
	}
}

// TestProgress is told of all bytes and of the total.
func TestProgress(t *testing.T) {
	name := filepath.Join(t.TempDir(), "t.tar")
	data := archive(t, []tar.Header{{Name: "a", Typeflag: tar.TypeReg, Size: 300_000}, {Name: "b", Typeflag: tar.TypeReg, Size: 1}})
	for kind, data := range map[string][]byte{"plain": data, "gzip": compress(t, data, "gzip")} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		b := source.NewBuilder(source.Limits{}, nil)
		var last, total int64
		err := tarball.Read(context.Background(), b, name, source.Options{TempDir: t.TempDir(), Progress: func(d, n int64) {
			if d < last {
				t.Errorf("%s: %d after %d", kind, d, last)
			}
			last, total = d, n
		}})
		if err := errors.Join(err, b.Close()); err != nil {
			t.Fatal(err)
		}
		if total != int64(len(data)) || last < total-4096 || last > total {
			t.Errorf("%s: at %d of %d at last; want %d", kind, last, total, len(data))
		}
	}
}

// TestSilentInput ends with its context while nothing comes.
func TestSilentInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	old := os.Stdin
	os.Stdin = r
	defer func() { os.Stdin = old }()
	ctx, cancel := context.WithCancel(context.Background())
	go cancel()
	b := source.NewBuilder(source.Limits{}, nil)
	defer b.Close()
	if err := tarball.Read(ctx, b, "-", source.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Read = %v; want the context's error", err)
	}
}
