package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/bootsettings"
)

// scriptFile is where the settings' script lies while it runs: in memory,
// whatever the image's root is like.
const scriptFile = stateDir + "/script"

// runScript runs the script of the settings, as the first program in the
// image's root and before its init, so that it works with any init: whatever
// the script writes is there when init looks. The network is up.
//
// The script is a session of its own, which ends with it: what it leaves in
// the background is killed, since nobody would look after it. It returns an
// error only if the settings want the boot to stop.
func (b *booter) runScript(ctx context.Context) error {
	s := b.settings.Script
	if s == nil {
		return nil
	}
	started := time.Now()
	err := b.script(ctx, s, scriptFile)
	if err == nil {
		b.say("the settings' script took %.1f s", time.Since(started).Seconds())
		return nil
	}
	if s.OnFailure == bootsettings.Stop {
		return &failure{"run the settings' script", err, "see what it said above, correct it with `imagetool settings`, or choose another entry of the menu"}
	}
	b.log.Error("the settings' script failed, the boot goes on", "error", err)
	return nil
}

// script runs a script from the given file, which it writes and removes.
func (b *booter) script(ctx context.Context, s *bootsettings.Script, file string) error {
	if err := os.WriteFile(file, []byte(s.Text), 0o700); err != nil {
		return err
	}
	defer os.Remove(file)
	args := []string{file}
	if !strings.HasPrefix(s.Text, "#!") {
		args = []string{"/bin/sh", file}
	}
	limit := s.Limit()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = b.scriptEnvironment()
	out := &scriptLog{say: func(line string) { b.log.Info("script: " + line) }}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second // for what it left that has its output open
	err := cmd.Run()
	if cmd.Process != nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	out.end()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("it has not ended after %v and was killed", limit)
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // the script itself has ended well
	}
	return err
}

// scriptEnvironment returns the environment of the script: the settings', and
// what this boot is.
func (b *booter) scriptEnvironment() []string {
	f := b.facts()
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux",
		"INETBOOT_IMAGE=" + f.Image, "INETBOOT_VERSION=" + f.Version, "INETBOOT_ENTRY=" + f.Entry,
		"INETBOOT_MAC=" + f.MAC, "INETBOOT_IP=" + f.IP, "INETBOOT_UUID=" + f.UUID, "INETBOOT_SERIAL=" + f.Serial,
		"INETBOOT_MIRROR=" + b.h.Mirrors[0], "INETBOOT_BOOT=" + b.h.BootID,
	}
	if b.h.Proxy != "" {
		env = append(env, "http_proxy="+b.h.Proxy, "https_proxy="+b.h.Proxy)
	}
	for name, value := range b.h.Variables {
		env = append(env, name+"="+value)
	}
	for name, value := range b.settings.Environment {
		env = append(env, name+"="+value)
	}
	return env
}

// Bounds for what a script says, in bytes: of one line, and of all of them.
const (
	maxScriptLine = 800
	maxScriptLog  = 64 << 10
)

// scriptLog passes lines on.
type scriptLog struct {
	say func(line string)

	mu   sync.Mutex
	line []byte
	said int
}

func (l *scriptLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range p {
		if c == '\n' || len(l.line) == maxScriptLine {
			l.flush()
		}
		if c != '\n' {
			l.line = append(l.line, c)
		}
	}
	return len(p), nil
}

// end passes on what has no end of line.
func (l *scriptLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

func (l *scriptLog) flush() {
	line := string(bytes.TrimRight(bytes.ToValidUTF8(l.line, []byte("?")), "\r"))
	l.line = l.line[:0]
	if line == "" || l.said > maxScriptLog {
		return
	}
	if l.said += len(line); l.said > maxScriptLog {
		line = "(and more, which is not shown)"
	}
	l.say(line)
}
