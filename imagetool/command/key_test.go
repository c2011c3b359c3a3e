package command_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/internal/keyfile"
)

// passphraseFile writes a file as --passphrase-file takes it.
func passphraseFile(t *testing.T, passphrase string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(name, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (c *tool) keyFile() string {
	return filepath.Join(filepath.Dir(c.config), "keys", "targets.key")
}

func TestPassphraseWithoutTerminal(t *testing.T) {
	c := newTool(t)
	store := filepath.Join(t.TempDir(), "store")
	first, second, wrong := passphraseFile(t, "first passphrase"), passphraseFile(t, "second passphrase"), passphraseFile(t, "First passphrase")

	c.run(command.ExitKey, "init", "--to", store, "--passphrase-file", passphraseFile(t, "short"))
	if _, err := os.Stat(c.keyFile()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key is there after an init that was refused: %v", err)
	}
	c.run(command.ExitOK, "init", "--to", store, "--passphrase-file", first)
	if f, err := keyfile.Read(c.keyFile()); err != nil || !f.Encrypted {
		t.Fatalf("the key is %+v, %v; want an encrypted one", f, err)
	}

	if _, errs := c.run(command.ExitKey, "refresh", "--all", "--passphrase-file", wrong); !strings.Contains(errs, "wrong passphrase") || !strings.Contains(errs, ".key") {
		t.Errorf("a wrong passphrase: %q", errs)
	}
	if err := os.Chmod(second, 0o644); err != nil {
		t.Fatal(err)
	}
	c.run(command.ExitKey, "refresh", "--all", "--passphrase-file", second) // others can read it
	if err := os.Chmod(second, 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(command.ExitOK, "refresh", "--all", "--passphrase-file", first)
	t.Setenv("INETBOOT_PASSPHRASE", "first passphrase")
	c.run(command.ExitOK, "refresh", "--expires", "24h")
	c.run(command.ExitUsage, "key", "passphrase", "--new-passphrase-file", second) // which one?
	for _, name := range []string{"root", "targets", "snapshot", "timestamp"} {
		c.run(command.ExitOK, "key", "passphrase", name, "--new-passphrase-file", second)
	}
	_, errs := c.run(command.ExitKey, "refresh", "--all")
	if !strings.Contains(errs, "$INETBOOT_PASSPHRASE") {
		t.Errorf("a wrong passphrase in the environment: %q does not say where it is from", errs)
	}
	t.Setenv("INETBOOT_PASSPHRASE", "")
	c.run(command.ExitUsage, "key", "passphrase", "../targets", "--no-passphrase")
	c.run(command.ExitKey, "key", "passphrase", "other", "--no-passphrase")
	c.run(command.ExitUsage, "key", "passphrase", "--no-passphrase", "--new-passphrase-file", first)
	for _, name := range []string{"root", "targets", "snapshot", "timestamp"} {
		c.run(command.ExitOK, "key", "passphrase", name, "--passphrase-file", second, "--no-passphrase")
	}
	c.run(command.ExitOK, "refresh", "--expires", "24h")
	c.run(command.ExitOK, "ls")
}

func TestKeyList(t *testing.T) {
	c := newTool(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", filepath.Join(t.TempDir(), "store"))
	type key struct {
		ID      string `json:"key_id"`
		Public  string
		Name    string
		Private []struct {
			Where, File string
			Encrypted   bool
		}
	}
	list := func() (out struct {
		Catalog int
		Roles   []struct {
			Role      string
			Version   int
			Expires   time.Time
			Threshold int
			Keys      []key
		}
		Unused []key
	}) {
		t.Helper()
		text, _ := c.run(command.ExitOK, "key", "list", "--json")
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	l := list()
	if len(l.Roles) != 4 || l.Catalog != 1 || l.Unused == nil || len(l.Unused) != 0 {
		t.Fatalf("key list --json = %+v; want four roles", l)
	}
	for i, name := range []string{"root", "targets", "snapshot", "timestamp"} {
		r := l.Roles[i]
		if r.Role != name || r.Version != 1 || r.Threshold != 1 || len(r.Keys) != 1 || time.Until(r.Expires) < 24*time.Hour {
			t.Fatalf("key list --json = %+v; want the role %s with a key", r, name)
		}
		k := r.Keys[0]
		if len(k.ID) != 64 || len(k.Public) != 64 || k.Name != name || len(k.Private) != 1 || k.Private[0].Where != "file" ||
			k.Private[0].File != filepath.Join(filepath.Dir(c.keyFile()), name+".key") || k.Private[0].Encrypted {
			t.Errorf("key list --json = %+v", k)
		}
	}
	if out, _ := c.run(command.ExitOK, "key", "list"); !strings.Contains(out, "NOT ENCRYPTED") || !strings.Contains(out, l.Roles[0].Keys[0].ID[:12]) {
		t.Errorf("key list = %q", out)
	}
	if err := os.Rename(c.keyFile(), c.keyFile()+".away"); err != nil {
		t.Fatal(err)
	}
	c.run(command.ExitOK, "key", "new", "more", "--no-passphrase")
	if l = list(); l.Roles[1].Keys[0].Private == nil || len(l.Roles[1].Keys[0].Private) != 0 || len(l.Unused) != 1 || l.Unused[0].Name != "more" {
		t.Errorf("key list --json without the private key = %+v", l)
	}
}

// pty returns a pseudo-terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close(); _ = slave.Close() })
	return master, slave
}

// screen is what has been shown on a terminal.
type screen struct {
	mu   sync.Mutex
	cond *sync.Cond
	text bytes.Buffer
	read int // how much of it was expected
}

func newScreen(from *os.File) *screen {
	s := &screen{}
	s.cond = sync.NewCond(&s.mu)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.cond.Broadcast()
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// expect waits until want is shown, behind what was expected before.
func (s *screen) expect(t *testing.T, want string) {
	t.Helper()
	late := false
	defer time.AfterFunc(60*time.Second, func() {
		s.mu.Lock()
		late = true
		s.cond.Broadcast()
		s.mu.Unlock()
	}).Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if i := strings.Index(s.text.String()[s.read:], want); i >= 0 {
			s.read += i + len(want)
			return
		}
		if late {
			t.Fatalf("%q is not shown; there is\n%s", want, s.text.String())
		}
		s.cond.Wait()
	}
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// People type passphrases on the terminal, which does not show them, and may
// mistype; standard input and output can be anything else.
func TestPassphraseOnTerminal(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "imagetool")
	build(t, bin)
	c := newTool(t)
	start := func(args ...string) (*exec.Cmd, *os.File, *screen) {
		t.Helper()
		master, slave := pty(t)
		cmd := exec.Command(bin, append(args, "--config", c.config)...)
		cmd.ExtraFiles = []*os.File{slave}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, master, newScreen(master)
	}
	write := func(f *os.File, line string) {
		t.Helper()
		if _, err := f.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	const secret = "correct horse battery"

	cmd, tty, s := start("init", "--to", filepath.Join(dir, "store"))
	s.expect(t, "New passphrase for "+filepath.Join(filepath.Dir(c.keyFile()), "root.key"))
	write(tty, secret)
	s.expect(t, "once more")
	write(tty, secret)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("init: %v\n%s", err, s)
	}
	if strings.Contains(s.String(), "horse") {
		t.Error("the passphrase is shown")
	}

	cmd, tty, s = start("refresh", "--all")
	s.expect(t, "Passphrase of "+filepath.Join(filepath.Dir(c.keyFile()), "root.key"))
	write(tty, "a wrong one")
	s.expect(t, "not its passphrase")
	s.expect(t, "Passphrase of")
	write(tty, secret)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("refresh: %v\n%s", err, s)
	}

	cmd, tty, s = start("refresh", "--all")
	for range 3 {
		s.expect(t, "Passphrase of")
		write(tty, "a wrong one")
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != command.ExitKey {
		t.Errorf("three wrong passphrases: exit code %d; want %d", code, command.ExitKey)
	}

	cmd, tty, s = start("key", "passphrase", "targets")
	s.expect(t, "Passphrase of")
	write(tty, secret)
	s.expect(t, "New passphrase")
	write(tty, "one of the two")
	s.expect(t, "once more")
	write(tty, "the other one")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != command.ExitKey {
		t.Errorf("two different passphrases: exit code %d; want %d", code, command.ExitKey)
	}

	// Ctrl-C while it asks: the terminal echoes again.
	cmd, tty, s = start("refresh", "--all")
	s.expect(t, "Passphrase of")
	before := waitEcho(t, tty, false)
	if _, err := tty.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != command.ExitInterrupted {
		t.Errorf("Ctrl-C: exit code %d; want %d", code, command.ExitInterrupted)
	}
	if after := waitEcho(t, tty, true); before == after {
		t.Error("the terminal's mode has not changed")
	}
	c.run(command.ExitOK, "ls") // the store is fine after all of that
}

// waitEcho waits until the terminal echoes, or not, and returns its mode.
func waitEcho(t *testing.T, tty *os.File, want bool) uint32 {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if (state.Lflag&unix.ECHO != 0) == want {
			return state.Lflag
		}
		if time.Now().After(end) {
			t.Fatalf("the terminal's echo is not %v", want)
		}
		time.Sleep(time.Millisecond)
	}
}
