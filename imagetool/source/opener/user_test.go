package opener_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/inetboot/inetboot/imagetool/testtree"
)

// TestAnybody pushes a tarball with device nodes, files of others and protected
// attributes as a user who could make none of them, and as root: it is the
// same image.
func TestAnybody(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	src, _ := oddRoot(t)
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // others have to get there
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	take := func(from, name string, mode os.FileMode) string {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.WriteFile(to, data, mode); err != nil {
			t.Fatal(err)
		}
		return to
	}
	self, program := take(os.Args[0], "imagetool", 0o755), take(testtree.Program(t), "blockfs", 0o755)
	tarball := take(makeTar(t, src), "t.tar", 0o644)
	var roots []string
	for _, user := range []uint32{0, 65534} {
		home, err := os.MkdirTemp(dir, "home")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(home, int(user), int(user)); err != nil {
			t.Fatal(err)
		}
		tool := func(args ...string) []byte {
			t.Helper()
			cmd := exec.Command(self, append(args, "--config", home+"/conf.json")...)
			cmd.Dir = home
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, asTool + "=1"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
			var out, messages bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &messages
			if err := cmd.Run(); err != nil {
				t.Fatalf("as user %d: imagetool %s: %v\n%s", user, strings.Join(args, " "), err, messages.Bytes())
			}
			return out.Bytes()
		}
		tool("init", "--no-passphrase", "--to", home+"/store")
		var res struct {
			Manifest struct{ Root json.RawMessage }
		}
		if err := json.Unmarshal(tool("push", tarball, "--name", "x", "--version", "1", "--blockfs", program, "--json", "--tmp", home), &res); err != nil {
			t.Fatal(err)
		}
		roots = append(roots, string(res.Manifest.Root))
	}
	if roots[0] != roots[1] || len(roots[0]) < 100 {
		t.Errorf("the root is\n%s as root and\n%s as somebody else", roots[0], roots[1])
	}
}
