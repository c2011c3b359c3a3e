package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

const (
	// What readers and caches are told of objects.
	cacheForEver = "public, max-age=31536000, immutable"
	cacheChecked = "no-cache"

	// listFrom is the number of paths from which listing folders is cheaper
	// than asking for each object.
	listFrom = 2000
	// partSize is that of large files, which are uploaded in parts.
	partSize = 64 << 20
)

// S3 is a store in a bucket of an S3-compatible object store. Catalogs are
// replaced by conditional writes (If-Match, If-None-Match), which the object
// store has to know; [S3.CheckConditions] tells.
type S3 struct {
	core           minio.Core
	bucket, prefix string
	location       string
}

var _ Store = (*S3)(nil)

// NewS3 returns the store at location, s3://bucket/prefix?endpoint=URL&region=R&profile=P.
// What the location does not say comes from the environment and from the files
// of the profile, as the AWS command line reads them: AWS_ENDPOINT_URL_S3,
// AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION, AWS_PROFILE,
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
// AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE; keys at last from the
// machine's role.
func NewS3(location string) (*S3, error) {
	o, err := parseS3(location)
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 2 * parallel
	t.ResponseHeaderTimeout = headTimeout
	t.DisableCompression = true
	client, err := minio.New(o.host, &minio.Options{
		Creds: o.credentials(), Secure: o.secure, Transport: t, Region: o.region, MaxRetries: attempts,
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", location, err)
	}
	return &S3{core: minio.Core{Client: client}, bucket: o.bucket, prefix: o.prefix, location: location}, nil
}

// String returns the location.
func (s *S3) String() string { return s.location }

// Parallel implements Store.
func (s *S3) Parallel() int { return parallel }

func (s *S3) key(path string) string { return s.prefix + path }

// Missing implements Store: a few paths are asked for one by one, of many the
// folders are listed.
func (s *S3) Missing(ctx context.Context, paths []string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var have map[string]bool
	var err error
	if len(paths) >= listFrom {
		have, err = s.listFolders(ctx, paths)
	} else {
		have, err = s.statAll(ctx, paths)
	}
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, p := range paths {
		if !have[p] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func (s *S3) statAll(ctx context.Context, paths []string) (map[string]bool, error) {
	have := make(map[string]bool)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * parallel)
	for _, p := range paths {
		g.Go(func() error {
			_, err := s.core.StatObject(ctx, s.bucket, s.key(p), minio.StatObjectOptions{})
			if err = s.explain("look for "+p, err); errors.Is(err, ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			have[p] = true
			return nil
		})
	}
	return have, g.Wait()
}

// listFolders returns those of paths that are there.
func (s *S3) listFolders(ctx context.Context, paths []string) (map[string]bool, error) {
	want, folders := make(map[string]bool, len(paths)), make(map[string]bool)
	for _, p := range paths {
		want[p] = true
		folders[p[:strings.LastIndexByte(p, '/')+1]] = true
	}
	have := make(map[string]bool, len(paths))
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for f := range folders {
		g.Go(func() error {
			return s.list(ctx, f, func(i Info) error {
				mu.Lock()
				defer mu.Unlock()
				if want[i.Path] {
					have[i.Path] = true
				}
				return nil
			})
		})
	}
	return have, g.Wait()
}

// list calls each for all objects below a folder of the store.
func (s *S3) list(ctx context.Context, folder string, each func(Info) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range s.core.Client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.key(folder), Recursive: true}) {
		if o.Err != nil {
			return s.explain("list "+folder, o.Err)
		}
		if err := each(Info{Path: strings.TrimPrefix(o.Key, s.prefix), Size: o.Size, Time: o.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// List implements Store.
func (s *S3) List(ctx context.Context, kind storepath.Kind, each func(Info) error) error {
	return s.list(ctx, kind.Prefix(), func(i Info) error {
		if k, _, ok := storepath.Parse(i.Path); !ok || k != kind {
			return nil
		}
		return each(i)
	})
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, path string, body io.ReaderAt, size int64) error {
	kind, sum, ok := storepath.Parse(path)
	if !ok || !kind.Immutable() {
		return fmt.Errorf("store %s: %w: no such place", path, ErrRejected)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Blocks are named by their plain bytes, which their writer has hashed.
	if kind != storepath.KindBlock {
		if err := checkHash(path, sum, io.NewSectionReader(body, 0, size)); err != nil {
			return err
		}
	}
	o := minio.PutObjectOptions{ContentType: contentType(path), CacheControl: cacheForEver, PartSize: partSize}
	o.SetMatchETagExcept("*")
	_, err := s.core.Client.PutObject(ctx, s.bucket, s.key(path), io.NewSectionReader(body, 0, size), size, o)
	if err = s.explain("upload "+path, err); errors.Is(err, ErrConflict) {
		return nil // it is there
	}
	return err
}

// Load implements Store. The tag is the ETag.
func (s *S3) Load(ctx context.Context, path string, limit int64) ([]byte, string, error) {
	if _, _, ok := storepath.Parse(path); !ok {
		return nil, "", fmt.Errorf("read %s: %w", path, ErrNotExist)
	}
	pause := firstPause
	for n := 1; ; n++ {
		data, tag, err := s.loadOnce(ctx, path, limit)
		// The library repeats requests, but not bodies that break off.
		if !errors.Is(err, ErrUnreachable) || n == attempts {
			return data, tag, err
		}
		select {
		case <-ctx.Done():
			return nil, "", fmt.Errorf("read %s: %w", path, context.Cause(ctx))
		case <-time.After(pause):
		}
		pause *= 2
	}
}

func (s *S3) loadOnce(ctx context.Context, path string, limit int64) ([]byte, string, error) {
	what := "read " + path
	body, info, _, err := s.core.GetObject(ctx, s.bucket, s.key(path), minio.GetObjectOptions{})
	if err != nil {
		return nil, "", s.explain(what, err)
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, "", s.explain(what, err)
	}
	if int64(len(data)) > limit {
		return nil, "", fmt.Errorf("%s: it has more than %d bytes", what, limit)
	}
	return data, info.ETag, nil
}

// Read implements Store.
func (s *S3) Read(ctx context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, _, err := s.Load(ctx, path, limit)
	if err != nil {
		return nil, err
	}
	if accept != nil {
		if err := accept(data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// Create implements Store.
func (s *S3) Create(ctx context.Context, path string, data []byte, _ string) error {
	if err := creatable(path); err != nil {
		return err
	}
	return s.Replace(ctx, path, data, "")
}

// Replace implements Store.
func (s *S3) Replace(ctx context.Context, path string, data []byte, tag string) error {
	if err := replaceable(path, tag); err != nil {
		return err
	}
	o := minio.PutObjectOptions{ContentType: contentType(path), CacheControl: cacheChecked, DisableMultipart: true}
	if storepath.Versioned(path) {
		o.CacheControl = cacheForEver
	}
	if tag == "" {
		o.SetMatchETagExcept("*")
	} else {
		o.SetMatchETag(strings.Trim(tag, `"`))
	}
	what := "replace " + path
	_, err := s.core.Client.PutObject(ctx, s.bucket, s.key(path), bytes.NewReader(data), int64(len(data)), o)
	err = s.explain(what, err)
	if tag != "" && errors.Is(err, ErrNotExist) {
		err = fmt.Errorf("%s: %w: it is gone", what, ErrConflict)
	}
	if errors.Is(err, ErrConflict) {
		// The library repeats requests whose answer was lost: the second
		// attempt collides with the first.
		if now, _, lerr := s.Load(ctx, path, int64(len(data))); lerr == nil && bytes.Equal(now, data) {
			return nil
		}
	}
	return err
}

// CheckConditions returns an error that wraps ErrRejected if the object store
// ignores conditions, so that two publishers could overwrite each other's
// catalogs.
func (s *S3) CheckConditions(ctx context.Context) (err error) {
	path := storepath.Mark("conditions-" + digest.Of([]byte(time.Now().String())).String()[:16])
	defer func() { err = errors.Join(err, s.Remove(context.WithoutCancel(ctx), []string{path})) }()
	if err := s.Replace(ctx, path, []byte(`{"attempt": 1}`), ""); err != nil {
		return err
	}
	for _, tag := range []string{"", "00000000000000000000000000000000"} {
		if err := s.Replace(ctx, path, []byte(`{"attempt": 2}`), tag); !errors.Is(err, ErrConflict) {
			return errors.Join(err, fmt.Errorf("%s: %w: it ignores conditional writes (If-Match, If-None-Match), so publishers could overwrite each other's catalogs", s, ErrRejected))
		}
	}
	return nil
}

// Remove implements Store.
func (s *S3) Remove(ctx context.Context, paths []string) error {
	for _, p := range paths {
		if err := removable(p); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil || len(paths) == 0 {
		return err
	}
	keys := func(yield func(minio.ObjectInfo) bool) {
		for _, p := range paths {
			if !yield(minio.ObjectInfo{Key: s.key(p)}) {
				return
			}
		}
	}
	results, err := s.core.Client.RemoveObjectsWithIter(ctx, s.bucket, keys, minio.RemoveObjectsOptions{})
	if err != nil {
		return s.explain("remove files", err)
	}
	for r := range results {
		if r.Err != nil && minio.ToErrorResponse(r.Err).Code != minio.NoSuchKey {
			return s.explain("remove "+strings.TrimPrefix(r.ObjectName, s.prefix), r.Err)
		}
	}
	return ctx.Err()
}

// PutPack implements Store.
func (s *S3) PutPack(ctx context.Context, manifest digest.SHA256, body io.ReaderAt, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := pack.Check(io.NewSectionReader(body, 0, size), manifest, size); err != nil {
		return fmt.Errorf("store the boot pack: %w: %w", ErrRejected, err)
	}
	_, err := s.core.Client.PutObject(ctx, s.bucket, s.key(storepath.Pack(manifest)), io.NewSectionReader(body, 0, size), size,
		minio.PutObjectOptions{ContentType: "application/octet-stream", CacheControl: cacheChecked, PartSize: partSize})
	return s.explain("store the boot pack", err)
}

// OpenPack implements Store.
func (s *S3) OpenPack(ctx context.Context, manifest digest.SHA256) (io.ReadCloser, error) {
	body, _, _, err := s.core.GetObject(ctx, s.bucket, s.key(storepath.Pack(manifest)), minio.GetObjectOptions{})
	if err != nil {
		return nil, s.explain("read the boot pack", err)
	}
	return body, nil
}

// StatPack implements Store.
func (s *S3) StatPack(ctx context.Context, manifest digest.SHA256) (Info, error) {
	p := storepath.Pack(manifest)
	o, err := s.core.StatObject(ctx, s.bucket, s.key(p), minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.explain("look for the boot pack", err)
	}
	return Info{Path: p, Size: o.Size, Time: o.LastModified}, nil
}

// RemovePack implements Store.
func (s *S3) RemovePack(ctx context.Context, manifest digest.SHA256) error {
	p, err := s.StatPack(ctx, manifest)
	if err != nil {
		return fmt.Errorf("remove the boot pack: %w", err)
	}
	return s.Remove(ctx, []string{p.Path})
}

func contentType(path string) string {
	if strings.HasSuffix(path, ".json") {
		return "application/json"
	}
	return "application/octet-stream"
}

// explain says what an error means, in this package's terms.
func (s *S3) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	var e minio.ErrorResponse
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w: %w", what, ErrUnreachable, err)
	}
	reason := ErrUnreachable
	switch {
	case e.Code == minio.NoSuchBucket:
		return fmt.Errorf("%s: %w: there is no bucket %s", what, ErrRejected, s.bucket)
	case e.Code == minio.NoSuchKey, e.StatusCode == http.StatusNotFound:
		reason = ErrNotExist
	case e.StatusCode == http.StatusPreconditionFailed, e.StatusCode == http.StatusConflict:
		reason = ErrConflict
	case e.StatusCode == http.StatusUnauthorized, e.StatusCode == http.StatusForbidden, e.Code == "InvalidAccessKeyId", e.Code == "SignatureDoesNotMatch":
		reason = ErrUnauthorized
	case e.StatusCode == http.StatusInsufficientStorage, strings.Contains(e.Code, "Quota"), strings.Contains(e.Code, "StorageFull"), strings.Contains(e.Code, "NoSpace"):
		reason = ErrFull
	case e.StatusCode >= 400 && e.StatusCode < 500, e.StatusCode == http.StatusNotImplemented:
		reason = ErrRejected
	}
	return fmt.Errorf("%s: %w (%d %s: %s)", what, reason, e.StatusCode, e.Code, readable([]byte(e.Message)))
}
