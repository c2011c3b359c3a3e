package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/store/storetest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/s3test"
	"github.com/inetboot/inetboot/internal/storepath"
)

func TestS3(t *testing.T) {
	srv := s3test.Start(t)
	n := 0
	storetest.Run(t, func(t *testing.T) store.Store {
		n++
		st, err := store.NewS3(srv.Bucket(t, "images", fmt.Sprintf("some/store%d", n)))
		if err != nil {
			t.Fatal(err)
		}
		return st
	})
	st, err := store.NewS3(srv.Bucket(t, "bare", ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.CheckConditions(t.Context()); err != nil {
		t.Errorf("CheckConditions() = %v", err)
	}
	// What lies in the bucket is a store for every web server.
	data := []byte("content")
	path := storepath.File(digest.Of(data))
	if err := st.Put(t.Context(), path, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(srv.Dir, "bare", path)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("object = %q, %v; want %q", got, err, data)
	}
	t.Run("refusals", func(t *testing.T) {
		none, err := store.NewS3("s3://no-such-bucket/?endpoint=" + srv.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if err := none.Put(t.Context(), path, bytes.NewReader(data), int64(len(data))); !errors.Is(err, store.ErrRejected) || !strings.Contains(err.Error(), "no-such-bucket") {
			t.Errorf("Put into no bucket = %v; want ErrRejected that names it", err)
		}
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		wrong, err := store.NewS3(srv.Bucket(t, "bare", ""))
		if err != nil {
			t.Fatal(err)
		}
		if err := wrong.Put(t.Context(), path, bytes.NewReader(data), int64(len(data))); !errors.Is(err, store.ErrUnauthorized) {
			t.Errorf("Put with a wrong key = %v; want ErrUnauthorized", err)
		}
	})
}

// An object store that ignores conditions is found out. What is uploaded says
// how long caches may keep it.
func TestS3WithoutConditions(t *testing.T) {
	for k, v := range s3test.Environment() {
		t.Setenv(k, v)
	}
	control := make(map[string]string)
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPut {
			control[r.URL.Path] = r.Header.Get("Cache-Control")
		}
		w.Header().Set("ETag", `"00"`)
	}))
	defer fake.Close()
	st, err := store.NewS3("s3://bucket/?endpoint=" + fake.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.CheckConditions(t.Context()); !errors.Is(err, store.ErrRejected) {
		t.Errorf("CheckConditions() = %v; want ErrRejected", err)
	}
	clear(control)
	data := []byte("content")
	want := map[string]string{"/bucket/" + storepath.Timestamp: "no-cache"}
	for _, p := range []string{storepath.File(digest.Of(data)), storepath.Target("menu.json", digest.Of(data)), storepath.RoleMetadata("root", 1)} {
		want["/bucket/"+p] = "public, max-age=31536000, immutable"
	}
	for p := range want {
		p = strings.TrimPrefix(p, "/bucket/")
		if kind, _, _ := storepath.Parse(p); kind.Immutable() {
			err = st.Put(t.Context(), p, bytes.NewReader(data), int64(len(data)))
		} else {
			err = st.Replace(t.Context(), p, []byte("{}"), "")
		}
		if err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if diff := cmp.Diff(want, control); diff != "" {
		t.Errorf("Cache-Control, -want +got:\n%s", diff)
	}
}

func TestS3Location(t *testing.T) {
	for k, v := range s3test.Environment() {
		t.Setenv(k, v)
	}
	for _, bad := range []string{"s3://", "s3:///prefix", "s3://ab/", "s3://b?x=1", "s3://b?endpoint=ftp://x", "s3://b?endpoint=https://x/path", "s3://user@b/", "s3://b#x"} {
		if st, err := store.NewS3(bad); err == nil {
			t.Errorf("NewS3(%q) = %v; want a refusal", bad, st)
		}
	}
	for _, good := range []string{"s3://bucket", "s3://bucket/a/b/", "s3://bucket?endpoint=minio.example:9000&region=x", "s3://bucket?profile=p"} {
		if st, err := store.Open(good, "", false); err != nil || st.String() != good {
			t.Errorf("Open(%q) = %v, %v", good, st, err)
		}
	}
	// The profile of the AWS files is used.
	dir := t.TempDir()
	srv := s3test.Start(t)
	for _, k := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"} {
		t.Setenv(k, "")
	}
	for name, text := range map[string]string{
		"credentials": "[site]\naws_access_key_id = " + s3test.AccessKey + "\naws_secret_access_key = " + s3test.SecretKey + "\n",
		"config":      "[profile site]\nregion = " + s3test.Region + "\nendpoint_url = " + srv.Endpoint + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	srv.Bucket(t, "bucket", "")
	location, err := store.S3Location("s3://bucket/x", "", "", "site")
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(location, "", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Replace(context.Background(), storepath.RoleMetadata("root", 1), []byte("{}"), ""); err != nil {
		t.Errorf("Replace with a profile = %v", err)
	}
}
