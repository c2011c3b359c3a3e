package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/store/storetest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

func TestDir(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		st, err := store.NewDir(t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		return st
	})
}

func TestDirMustExist(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := store.NewDir(dir, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("NewDir(missing) = %v; want ErrNotExist", err)
	}
	if _, err := store.NewDir(dir, true); err != nil {
		t.Errorf("NewDir(missing, create) = %v", err)
	}
}

func TestDirLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	st, err := store.NewDir(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("x")
	path := storepath.File(digest.Of(data))
	if err := st.Put(context.Background(), path, failing{}, 10); err == nil {
		t.Fatal("Put of a body that fails succeeded")
	}
	if err := st.Put(context.Background(), storepath.Block(digest.Of(data)), failing{}, 10); err == nil {
		t.Fatal("Put of a body that fails succeeded")
	}
	var files []string
	err = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, p)
		}
		return err
	})
	if err != nil || len(files) != 0 {
		t.Errorf("files after failed Puts: %v, %v; want none", files, err)
	}
}

// failing is a body that breaks after a few bytes.
type failing struct{}

func (failing) ReadAt(p []byte, off int64) (int, error) {
	if off > 4 {
		return 0, errors.New("broken")
	}
	return copy(p, "abcd"), errors.New("broken")
}

func TestDirReplacesEmptyFiles(t *testing.T) {
	dir := t.TempDir()
	st, err := store.NewDir(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("content")
	path := storepath.File(digest.Of(data))
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, path), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if missing, err := st.Missing(context.Background(), []string{path}); err != nil || len(missing) != 1 {
		t.Errorf("Missing(an empty file) = %v, %v; want it", missing, err)
	}
	if err := st.Put(context.Background(), path, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("file = %q, %v; want %q", got, err, data)
	}
}

func TestDirFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	st, err := store.NewDir(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1<<20)
	path := storepath.File(digest.Of(data))
	if err := st.Put(context.Background(), path, bytes.NewReader(data), int64(len(data))); !errors.Is(err, store.ErrFull) {
		t.Errorf("Put on a full disk = %v; want ErrFull", err)
	}
	if missing, err := st.Missing(context.Background(), []string{path}); err != nil || len(missing) != 1 {
		t.Errorf("Missing() = %v, %v; want the file", missing, err)
	}
}

func TestHTTPErrors(t *testing.T) {
	data := []byte("x")
	path := storepath.File(digest.Of(data))
	for _, tc := range []struct {
		status int
		body   string
		want   error
		says   string
		tries  int64
	}{
		{http.StatusUnauthorized, `{"message":"wrong token"}`, store.ErrUnauthorized, "wrong token", 1},
		{http.StatusForbidden, "", store.ErrUnauthorized, "403", 1},
		{http.StatusUnprocessableEntity, `{"error":"wrong hash"}`, store.ErrRejected, "wrong hash", 1},
		{http.StatusRequestEntityTooLarge, "too\nlarge\x1b[31m", store.ErrRejected, "too large", 1},
		{http.StatusInsufficientStorage, "disk full", store.ErrFull, "disk full", 1},
		{http.StatusPreconditionFailed, "", store.ErrConflict, "412", 1},
		{http.StatusNotFound, "", store.ErrNotExist, "404", 1},
		{http.StatusTeapot, "", store.ErrUnreachable, "418", 1},
	} {
		var tries atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tries.Add(1)
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		}))
		st, err := store.NewHTTP(srv.URL, "t")
		if err != nil {
			t.Fatal(err)
		}
		err = st.Put(context.Background(), path, bytes.NewReader(data), 1)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("Put answered by %d = %q; want %v that says %q", tc.status, err, tc.want, tc.says)
		}
		if got := tries.Load(); got != tc.tries {
			t.Errorf("Put answered by %d was tried %d times; want %d", tc.status, got, tc.tries)
		}
		srv.Close()
	}
}

func TestHTTPTriesAgain(t *testing.T) {
	data := bytes.Repeat([]byte("content"), 10000)
	path := storepath.File(digest.Of(data))
	var tries atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || r.URL.Path != "/base/"+path || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("request %s %s, Authorization %q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
		}
		switch tries.Add(1) {
		case 1:
			w.WriteHeader(http.StatusBadGateway)
		case 2: // the connection breaks in the middle of the upload
			_, _ = io.CopyN(io.Discard, r.Body, 100)
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = c.Close()
			}
		default:
			got, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("body of the last attempt: %d bytes, %v; want %d", len(got), err, len(data))
			}
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer srv.Close()
	st, err := store.NewHTTP(srv.URL+"/base/", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Put(context.Background(), path, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Errorf("Put() = %v", err)
	}
	if got := tries.Load(); got != 3 {
		t.Errorf("%d attempts; want 3", got)
	}
}

func TestOpen(t *testing.T) {
	if _, err := store.Open("ftp://example.org/", "", true); err == nil {
		t.Error("Open(ftp://) succeeded")
	}
	st, err := store.Open("http://example.org/x/", "", false)
	if err != nil || st.String() != "http://example.org/x" {
		t.Errorf("Open(http://) = %v, %v", st, err)
	}
}
