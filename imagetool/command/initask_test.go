package command_test

import (
	"bytes"
	"fmt"
	"io"
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
)

// dialog is a program on a terminal.
type dialog struct {
	t   *testing.T
	cmd *exec.Cmd
	pty *os.File

	mu   sync.Mutex
	said bytes.Buffer
	more chan struct{}
	end  chan struct{}
}

// converse starts a program on a terminal of its own.
func converse(t *testing.T, program string, args ...string) *dialog {
	t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals: %v", err)
	}
	t.Cleanup(func() { _ = pty.Close() })
	if err := unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(pty.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	d := &dialog{t: t, cmd: exec.Command(program, args...), pty: pty, more: make(chan struct{}, 1), end: make(chan struct{})}
	d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr = tty, tty, tty
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	go func() {
		defer close(d.end)
		buf := make([]byte, 4096)
		for {
			n, err := pty.Read(buf)
			d.mu.Lock()
			d.said.Write(buf[:n])
			d.mu.Unlock()
			select {
			case d.more <- struct{}{}:
			default:
			}
			if err != nil {
				return // EIO once nobody has the terminal
			}
		}
	}()
	return d
}

// text returns what was said until now.
func (d *dialog) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.String()
}

// answer waits for a question and types a line.
func (d *dialog) answer(question, line string) { d.t.Helper(); d.press(question, line+"\n") }

// press waits for a question and presses keys.
func (d *dialog) press(question, keys string) {
	d.t.Helper()
	limit := time.After(2 * time.Minute)
	for !strings.HasSuffix(d.text(), question) {
		select {
		case <-d.more:
		case <-d.end:
			d.t.Fatalf("it ended without asking %q:\n%s", question, d.text())
		case <-limit:
			d.t.Fatalf("it does not ask %q:\n%s", question, d.text())
		}
	}
	if _, err := io.WriteString(d.pty, keys); err != nil {
		d.t.Fatal(err)
	}
}

// wait waits for the end, and returns the exit code.
func (d *dialog) wait() int {
	d.t.Helper()
	select {
	case <-d.end:
	case <-time.After(2 * time.Minute):
		d.t.Fatalf("it does not end:\n%s", d.text())
	}
	_ = d.cmd.Wait()
	return d.cmd.ProcessState.ExitCode()
}

// A person is asked for the store, the title and a passphrase, and nothing
// else; options take the place of answers.
func TestInitAsks(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "imagetool")
	build(t, bin)
	store := filepath.Join(dir, "store")
	d := converse(t, bin, "init", "--config", c.config)
	d.answer("Store: ", "")
	d.answer("Store: ", "  "+store+" ")
	d.answer("Title of the menu [InetBoot]: ", "Example Inc.")
	d.answer("root.key: ", "correct horse")
	d.answer("once more: ", "correct horse")
	if code := d.wait(); code != command.ExitOK || !strings.Contains(d.text(), "catalog version 1") {
		t.Fatalf("init ended with %d:\n%s", code, d.text())
	}
	if out, _ := c.run(command.ExitOK, "menu", "show"); !strings.Contains(out, "Example Inc.") {
		t.Errorf("the menu is %q; want the title that was typed", out)
	}

	other := newTool(t)
	d = converse(t, bin, "init", "--config", other.config, "--to", filepath.Join(dir, "other"), "--no-passphrase")
	if code := d.wait(); code != command.ExitOK || strings.Contains(d.text(), "Title") {
		t.Errorf("init with options ended with %d, and asked:\n%s", code, d.text())
	}
	// A script is not asked, whatever the terminal is that it was started on.
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command(bin, "init", "--config", newTool(t).config)
	cmd.Stdin = null
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != command.ExitUsage || !strings.Contains(string(out), "--to") {
		t.Errorf("init of a script: %v\n%s", err, out)
	}
	// Ctrl-D and Ctrl-C end it, and leave nothing behind.
	for key, want := range map[string]int{"\x04": command.ExitUsage, "\x03": command.ExitInterrupted} {
		gone := newTool(t)
		d = converse(t, bin, "init", "--config", gone.config)
		d.answer("Store: ", filepath.Join(dir, "none"))
		d.press("[InetBoot]: ", key)
		if code := d.wait(); code != want {
			t.Errorf("%q ends init with %d; want %d:\n%s", key, code, want, d.text())
		}
		if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
			t.Errorf("%q left a store", key)
		}
	}
}
