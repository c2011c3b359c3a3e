package command_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
)

// nginx serves a folder as Debian's package does out of the box, and returns
// its URL.
func nginx(t *testing.T, dir string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program = "/usr/sbin/nginx"; exec.Command(program, "-v").Run() != nil {
			t.Fatal("nginx is missing: `make deps` installs it")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	conf := filepath.Join(tmp, "nginx.conf")
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	err = os.WriteFile(conf, fmt.Appendf(nil, `%s
daemon off;
worker_processes 1;
pid %s/pid;
error_log %s/error.log;
events { worker_connections 256; }
http {
	access_log off;
	sendfile on;
	client_body_temp_path %s/body; proxy_temp_path %s/proxy; fastcgi_temp_path %s/fastcgi; uwsgi_temp_path %s/uwsgi; scgi_temp_path %s/scgi;
	server { listen %s; root %s; }
}
`, user, tmp, tmp, tmp, tmp, tmp, tmp, tmp, addr, dir), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", conf, "-p", tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	})
	url := "http://" + addr
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(url + "/")
		if err == nil {
			resp.Body.Close()
			return url
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(tmp, "error.log"))
			t.Fatalf("nginx does not answer: %v\n%s", err, log)
		}
	}
}

// A copy made by rsync or cp and served by nginx is a store for clients, and
// for those who look after it.
func TestNginx(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	store, www := filepath.Join(dir, "store"), filepath.Join(dir, "www")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", newSource(t, 1), "--name", "test", "--version", "1", "--blockfs", testtree.Program(t))
	for _, copy := range [][]string{
		{"cp", "-a", store, filepath.Join(www, "cp")},
		{"rsync", "-a", store + "/", filepath.Join(www, "rsync") + "/"},
	} {
		if err := os.MkdirAll(www, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(copy[0], copy[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", copy, err, out)
		}
	}
	base := nginx(t, www)
	for _, name := range []string{"cp", "rsync"} {
		url := base + "/" + name
		out, _ := c.run(command.ExitOK, "verify", "--to", url+"/")
		if !strings.Contains(out, "1 image, ") {
			t.Errorf("verify of the copy by %s says %q", name, out)
		}
		c.run(command.ExitOK, "ls", "--to", url)
		c.run(command.ExitOK, "mirror", url, filepath.Join(dir, "from-"+name))
		c.run(command.ExitStore, "menu", "set", "--timeout", "33", "--to", url) // nginx takes no uploads
		// As blockfs and preboot read it.
		client, err := mirror.New([]string{url}, mirror.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, m, _ := published(t, store)
		for _, f := range m.Root.Files {
			raw, err := client.Read(t.Context(), storepath.Index(f.Index.SHA256), nil, f.Index.Size, nil)
			if err != nil {
				t.Fatal(err)
			}
			x, err := index.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			for i := range x.Len() {
				e := x.Entry(i)
				if e.Zero() {
					continue
				}
				if _, err := client.Read(t.Context(), storepath.Block(e.SHA256), nil, int64(block.MaxStored(e.PlainLen)), func(b []byte) error {
					_, err := block.Decode(nil, b, e.PlainLen, e.SHA256)
					return err
				}); err != nil {
					t.Errorf("block %s of the copy by %s: %v", e.SHA256, name, err)
				}
			}
		}
	}
}
