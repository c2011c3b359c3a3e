package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/command"
	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

func execute(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	var out, errs lockedBuffer
	c := command.New(strings.NewReader(""), &out, &errs)
	c.SetArgs(args)
	err = c.ExecuteContext(ctx)
	return out.String(), errs.String(), err
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestCat(t *testing.T) {
	dir := t.TempDir()
	data := readtest.Mixed(5<<20+3, 1)
	blob := readtest.Write(t, dir, data)
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer srv.Close()
	for _, store := range []string{dir, srv.URL} {
		out, _, err := execute(t.Context(), "cat", "--store", store, blob.SHA256.String())
		if err != nil || out != string(data) {
			t.Errorf("cat from %s = %d bytes, %v; want the data", store, len(out), err)
		}
	}
	wrong := digest.Blob{SHA256: blob.SHA256, Size: blob.Size}
	raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(storepath.Index(wrong.SHA256))))
	if err != nil {
		t.Fatal(err)
	}
	raw[0] ^= 1
	readtest.WriteFile(t, dir, storepath.Index(wrong.SHA256), raw)
	for _, store := range []string{dir, srv.URL} {
		if out, _, err := execute(t.Context(), "cat", "--store", store, blob.SHA256.String()); !errors.Is(err, digest.ErrMismatch) || out != "" {
			t.Errorf("cat with a changed index from %s = %d bytes, %v; want ErrMismatch", store, len(out), err)
		}
	}
}

func TestIndex(t *testing.T) {
	dir := t.TempDir()
	blob := readtest.Write(t, dir, append(readtest.Noise(300_000, 1), make([]byte, 1<<20)...))
	name := filepath.Join(dir, filepath.FromSlash(storepath.Index(blob.SHA256)))
	out, _, err := execute(t.Context(), "index", "--json", "--blocks", name)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		SHA256  string
		Size    int64
		Entries int
		Zero    int64
		Cutting string
		List    []struct{ Offset, Plain int64 }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.SHA256 != blob.SHA256.String() || r.Size != 300_000+1<<20 || r.Cutting != "pages" || r.Zero < 1<<20-4096 || len(r.List) != r.Entries {
		t.Errorf("index --json = %s", out)
	}
	if out, _, err = execute(t.Context(), "index", name); err != nil || !strings.Contains(out, "1348576 bytes") {
		t.Errorf("index = %s, %v; want it to tell the length of the file", out, err)
	}
	if _, _, err := execute(t.Context(), "index", os.Args[0]); err == nil {
		t.Error("index of a program = nil; want an error")
	}
}

func TestMountAndInterrupt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	dir, at := t.TempDir(), t.TempDir()
	data := readtest.Mixed(2<<20, 2)
	blob := readtest.Write(t, dir, data)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out lockedBuffer
	c := command.New(strings.NewReader(""), &out, &out)
	c.SetArgs([]string{"mount", "--store", dir, "--file", "data=" + blob.SHA256.String(), at})
	done := make(chan error, 1)
	go func() { done <- c.ExecuteContext(ctx) }()
	for !strings.Contains(out.String(), "mounted") {
		select {
		case err := <-done:
			t.Fatalf("mount = %v: %s", err, out.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	got, err := os.ReadFile(filepath.Join(at, "data"))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("ReadFile = %d bytes, %v; want the data", len(got), err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("mount ends with %v; want nil", err)
	}
	if e, err := os.ReadDir(at); err != nil || len(e) != 0 {
		t.Errorf("after the end the folder has %v, %v; want nothing", e, err)
	}
}

func TestBadArguments(t *testing.T) {
	sum := digest.Of(nil).String()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"cat", sum},
		{"cat", "--store", dir, "xyz"},
		{"cat", "--store", dir, sum + ":-1"},
		{"cat", "--store", dir, sum + ":0"},
		{"cat", "--store", dir, sum},
		{"cat", "--store", filepath.Join(dir, "none"), sum},
		{"cat", "--store", dir, "--store", dir, sum},
		{"cat", "--store", "http://127.0.0.1:1/?x", sum},
		{"mount", "--store", dir, dir},
		{"mount", "--store", dir, "--file", sum, dir},
		{"mount", "--store", dir, "--file", "a=" + sum, "--handoff", "x", dir},
		{"mount", "--handoff", filepath.Join(dir, "none"), dir},
		{"init"},
	} {
		if out, _, err := execute(t.Context(), args...); err == nil {
			t.Errorf("%q = nil: %s; want an error", args, out)
		}
	}
}
