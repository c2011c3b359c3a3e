package storetest

import (
	"context"
	"io"
	"time"

	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// recorder keeps what is written to it, to make signed catalogs with the
// publisher's own code.
type recorder struct{ files map[string][]byte }

var _ store.Store = (*recorder)(nil)

func (r *recorder) Missing(_ context.Context, paths []string) ([]string, error) { return paths, nil }
func (r *recorder) Parallel() int                                               { return 1 }
func (r *recorder) String() string                                              { return "memory" }

func (r *recorder) Put(_ context.Context, path string, body io.ReaderAt, size int64) error {
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(body, 0, size), b); err != nil {
		return err
	}
	r.files[path] = b
	return nil
}

func (r *recorder) Load(_ context.Context, path string, _ int64) ([]byte, string, error) {
	b, ok := r.files[path]
	if !ok {
		return nil, "", store.ErrNotExist
	}
	return b, "tag", nil
}

func (r *recorder) Read(ctx context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	b, _, err := r.Load(ctx, path, limit)
	if err != nil {
		return nil, err
	}
	return b, accept(b)
}

func (r *recorder) Replace(_ context.Context, path string, data []byte, _ string) error {
	r.files[path] = data
	return nil
}

func (r *recorder) Create(_ context.Context, path string, data []byte, _ string) error {
	r.files[path] = data
	return nil
}

func (r *recorder) List(_ context.Context, kind storepath.Kind, each func(store.Info) error) error {
	for path, b := range r.files {
		if k, _, _ := storepath.Parse(path); k == kind {
			if err := each(store.Info{Path: path, Size: int64(len(b)), Time: time.Now()}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *recorder) Remove(_ context.Context, paths []string) error {
	for _, p := range paths {
		delete(r.files, p)
	}
	return nil
}

func (r *recorder) PutPack(context.Context, digest.SHA256, io.ReaderAt, int64) error {
	return store.ErrRejected
}

func (r *recorder) OpenPack(context.Context, digest.SHA256) (io.ReadCloser, error) {
	return nil, store.ErrNotExist
}

func (r *recorder) StatPack(context.Context, digest.SHA256) (store.Info, error) {
	return store.Info{}, store.ErrNotExist
}

func (r *recorder) RemovePack(context.Context, digest.SHA256) error { return store.ErrNotExist }
