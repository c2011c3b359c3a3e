package root_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/root"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
)

// One file has the same tree as two: for the kernel, for erofs-utils, and for
// our own reader. Holes are not written, and in a stream they are zeros.
func TestImage(t *testing.T) {
	ctx := context.Background()
	dir := makeTree(t)
	open := func(src string) *root.Plan {
		t.Helper()
		tree, err := opener.Open(ctx, src, opener.Options{Options: source.Options{TempDir: t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tree.Close() })
		plan, err := root.NewPlan(tree)
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	plan := open(dir)
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var added int64
	size, err := plan.Image(ctx, f, f, func(n int64) { added += n })
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	if added != plan.DataSize() || st.Size != size || st.Blocks*512 > size-4<<20 {
		t.Errorf("the image has %d bytes, %d of them stored, %d were told; want %d, 4 MiB less, and %d", st.Size, st.Blocks*512, added, size, plan.DataSize())
	}
	var stream bytes.Buffer
	if n, err := plan.Image(ctx, &stream, nil, func(int64) {}); err != nil || n != size {
		t.Fatalf("Image() to a stream = %d, %v; want %d", n, err, size)
	}
	written, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(written, stream.Bytes()) {
		t.Errorf("the stream and the file differ: %v", err)
	}
	// Our own reader sees a tree that gives the same image again.
	var again bytes.Buffer
	if _, err := open(name).Image(ctx, &again, nil, func(int64) {}); err != nil || !bytes.Equal(again.Bytes(), stream.Bytes()) {
		t.Errorf("the image of the image is another one: %v", err)
	}
	if _, err := plan.Image(ctx, failing{}, nil, func(int64) {}); err == nil {
		t.Error("a full disk is no error")
	}
	if fsck, err := exec.LookPath("fsck.erofs"); err == nil {
		if out, err := exec.Command(fsck, name).CombinedOutput(); err != nil {
			t.Errorf("fsck.erofs: %v\n%s", err, out)
		}
	}
	if diff := cmp.Diff(describe(t, dir), describe(t, mount(t, name, ""))); diff != "" {
		t.Errorf("source and mounted image differ (-source +image):\n%s", diff)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
