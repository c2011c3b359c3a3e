package testtree

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var buildServer = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "inetboot-server-*")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "server")
	b, err := exec.Command("go", "build", "-o", out, "github.com/inetboot/inetboot/server").CombinedOutput()
	if err != nil {
		_ = os.RemoveAll(dir)
		return string(b), err
	}
	return out, nil
})

// Main runs m's tests and removes what tests share.
func Main(m *testing.M) int {
	code := m.Run()
	if out, err := buildServer(); err == nil {
		_ = os.RemoveAll(filepath.Dir(out))
	}
	return code
}

// Server starts the project's server with an empty store as a process of its
// own, and returns its URL, the file with its token and the folder of its
// store. It ends with the test.
func Server(t testing.TB) (url, tokenFile, store string) {
	t.Helper()
	program, err := buildServer()
	if err != nil {
		t.Fatalf("build the server: %v\n%s", err, program)
	}
	data := t.TempDir()
	cmd := exec.Command(program, "--data", data, "--listen", "127.0.0.1:0")
	cmd.Stderr = &testWriter{t: t}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		stop.Stop()
	})
	// The first line of a new server is the command that uses it.
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the server said nothing: %v", err)
	}
	f := strings.Fields(line)
	for i := range f {
		switch {
		case f[i] == "--to" && i+1 < len(f):
			url = f[i+1]
		case f[i] == "--token-file" && i+1 < len(f):
			tokenFile = f[i+1]
		}
	}
	if url == "" || tokenFile == "" {
		t.Fatalf("the server's first line is %q; want --to URL --token-file FILE", line)
	}
	return url, tokenFile, filepath.Join(data, "store")
}

// testWriter keeps what a process says for when its test fails.
type testWriter struct {
	t  testing.TB
	mu sync.Mutex
	b  []byte
	on bool
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.on {
		w.on = true
		w.t.Cleanup(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.t.Failed() {
				w.t.Logf("the server's log:\n%s", w.b)
			}
		})
	}
	if len(w.b) < 64<<10 {
		w.b = append(w.b, p...)
	}
	return len(p), nil
}
