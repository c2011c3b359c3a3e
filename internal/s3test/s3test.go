// Package s3test runs a real S3 server for tests: versitygw, built from the
// module beside this package. The first build takes a minute or two; Go keeps
// the result in its build cache.
package s3test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Keys of the server's only user, and its region.
const (
	AccessKey = "publisher"
	SecretKey = "publisher-secret"
	Region    = "test-1"
)

// Server is a running S3 server.
type Server struct {
	Endpoint string // http://127.0.0.1:PORT
	Dir      string // each folder in it is a bucket, each file an object
	cmd      *exec.Cmd
	out      bytes.Buffer
}

var program = sync.OnceValues(func() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("no source file")
	}
	cmd := exec.Command("go", "tool", "-n", "versitygw")
	cmd.Dir = filepath.Join(filepath.Dir(file), "versitygw")
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build the S3 server: %w: %s", err, errs.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
})

// Start starts a server without buckets. It ends with the test. The
// environment of the test has the server's keys.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Run(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the S3 server said:\n%s", s.out.Bytes())
		}
	})
	if t, ok := t.(interface{ Setenv(key, value string) }); ok {
		for k, v := range Environment() {
			t.Setenv(k, v)
		}
	}
	return s
}

// Environment returns the variables that clients of the server need.
func Environment() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_REGION": Region, "AWS_SESSION_TOKEN": "",
		"AWS_PROFILE": "", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "",
	}
}

// Run starts a server whose buckets are the folders in dir.
func Run(ctx context.Context, dir string) (*Server, error) {
	name, err := program()
	if err != nil {
		return nil, err
	}
	// The server cannot be asked which port it took, so one that was free a
	// moment ago is given to it; if another program was quicker, again.
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, err
		}
		s := &Server{Endpoint: "http://" + addr, Dir: dir}
		s.cmd = exec.Command(name, "--port", addr, "--access", AccessKey, "--secret", SecretKey, "--region", Region,
			"--keep-alive", "--quiet", "--health", "/health", "posix", dir)
		s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := s.cmd.Start(); err != nil {
			return nil, fmt.Errorf("start the S3 server: %w", err)
		}
		err = s.wait(ctx)
		if err == nil {
			return s, nil
		}
		if cerr := s.Close(); cerr != nil || ctx.Err() != nil {
			return nil, errors.Join(err, cerr)
		}
	}
	return nil, errors.New("start the S3 server: no port stays free")
}

func (s *Server) wait(ctx context.Context) error {
	end := time.Now().Add(30 * time.Second)
	for {
		resp, err := http.Get(s.Endpoint + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(end) || s.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return fmt.Errorf("the S3 server does not answer: %w: %s", err, s.out.Bytes())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Close stops the server.
func (s *Server) Close() error {
	// Asked to end, it waits ten seconds for connections that are kept open.
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the S3 server: %w", err)
	}
	_ = s.cmd.Wait() // how it ends after a signal is its own affair
	return nil
}

// Bucket makes a bucket and returns the location of a store in it.
func (s *Server) Bucket(t testing.TB, name, prefix string) string {
	t.Helper()
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return "s3://" + name + "/" + prefix + "?endpoint=" + s.Endpoint
}
