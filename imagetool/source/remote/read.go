// Package remote reads a tree from a running machine over ssh: the machine's
// own tar packs it, with numbers of owners, extended attributes and access
// control lists, and the tarball is read as it arrives. Nothing has to be
// installed on the machine but tar, and nothing is written there.
package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/tarball"
)

// Scheme is what names of such sources begin with.
const Scheme = "ssh://"

// Options says more about how to read a machine.
type Options struct {
	// Command is the ssh program with its own options; empty: ssh.
	Command []string
	// Exclude is not even sent (see source.NewExclude).
	Exclude []string
	// Mounts are the paths at which another filesystem is read as well, if
	// it is on a disk of the machine.
	Mounts []string
}

// address is where a machine is.
type address struct{ user, host, port, path string }

// parse takes ssh://[user@]host[:port]/path apart.
func parse(name string) (address, error) {
	u, err := url.Parse(name)
	if err != nil {
		return address{}, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	a := address{host: u.Hostname(), port: u.Port(), path: u.Path, user: u.User.Username()}
	if _, has := u.User.Password(); has {
		return address{}, fmt.Errorf("%w: a password has no place in %s: use a key, or let ssh ask", source.ErrUnreadable, u.Redacted())
	}
	// ssh would take these for options.
	if u.Scheme != "ssh" || a.host == "" || strings.HasPrefix(a.host, "-") || strings.HasPrefix(a.user, "-") || u.RawQuery != "" || u.Fragment != "" {
		return address{}, fmt.Errorf("%w: %q is not of the form ssh://[USER@]HOST[:PORT]/PATH", source.ErrUnreadable, name)
	}
	if strings.IndexByte(a.path, 0) >= 0 {
		return address{}, fmt.Errorf("%w: the path in %q has a zero byte", source.ErrUnreadable, name)
	}
	if a.path = strings.TrimRight(a.path, "/"); a.path == "" {
		a.path = "/"
	}
	return a, nil
}

// command returns the program that connects. It reads the script from its
// standard input, so nothing depends on the login shell's way to quote.
func (a address) command(ctx context.Context, program []string) *exec.Cmd {
	if len(program) == 0 {
		program = []string{"ssh"}
	}
	args := append(program[1:len(program):len(program)],
		"-T", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
	if a.port != "" {
		args = append(args, "-p", a.port)
	}
	if a.user != "" {
		args = append(args, "-l", a.user)
	}
	cmd := exec.CommandContext(ctx, program[0], append(args, "--", a.host, "sh")...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Read adds the tree below a directory of a running machine to b. name is
// ssh://[USER@]HOST[:PORT]/PATH. It stays on one filesystem, but for o.Mounts.
func Read(ctx context.Context, b *source.Builder, name string, o Options, so source.Options) error {
	a, err := parse(name)
	if err != nil {
		return err
	}
	// What was started ends with this function.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := a.command(ctx, o.Command)
	cmd.Stdin = strings.NewReader(script(a.path, o.Exclude, o.Mounts))
	messages := &tail{}
	cmd.Stderr = messages
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %s: is ssh installed? %w", source.ErrUnreadable, name, err)
	}
	who, rerr := readOutput(ctx, b, out, name, so)
	if rerr != nil && (errors.Is(rerr, source.ErrRefused) || errors.Is(rerr, source.ErrNoRoom)) {
		cancel() // the rest is not wanted
		_ = cmd.Wait()
		return rerr
	}
	werr := cmd.Wait()
	lines := messages.lines()
	if err := ctx.Err(); err != nil {
		return err
	}
	var exit *exec.ExitError
	switch {
	case werr == nil && rerr == nil:
	case errors.As(werr, &exit) && exit.ExitCode() == 1 && rerr == nil:
		// GNU tar: "some files differ": they changed while they were read.
		b.Note("%s: some files changed while they were read", a.host)
	case werr != nil && who == asUser:
		return fmt.Errorf("%w: %s: %w: %s; the user there is not root, and sudo is missing, asks for a password, or does not let them run tar: a line for them in sudoers(5) with NOPASSWD: and the path of tar is enough",
			source.ErrUnreadable, name, werr, strings.Join(lines, "; "))
	case werr != nil:
		return fmt.Errorf("%w: %s: %w: %s", source.ErrUnreadable, name, werr, strings.Join(lines, "; "))
	default:
		return rerr
	}
	for _, l := range lines {
		b.Note("%s: %s", a.host, l)
	}
	return nil
}

// asUser is what the script says when neither root nor sudo reads.
const asUser = "user"

// readOutput reads what the script writes, and returns as whom it reads. A login
// shell may have said something before it.
func readOutput(ctx context.Context, b *source.Builder, out io.Reader, name string, so source.Options) (who string, err error) {
	r := bufio.NewReaderSize(out, 1<<20)
	total := int64(-1)
	const most = 200 // lines of a machine that likes to talk
	for i := 0; ; i++ {
		line, err := r.ReadSlice('\n')
		if err != nil || i == most {
			return "", fmt.Errorf("%w: %s: the machine did not begin to send", source.ErrUnreadable, name)
		}
		f := strings.Fields(string(line))
		if len(f) != 4 || f[0] != greeting {
			continue
		}
		if n, err := strconv.ParseInt(f[2], 10, 64); err == nil && n > 0 && n < 1<<50 {
			total = n << 10
		}
		who = f[3]
		break
	}
	return who, tarball.ReadStream(ctx, b, r, total, name, so)
}

// tail keeps the last lines that a program wrote.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const maxTail = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > maxTail {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-maxTail:]...)
	}
	return len(p), nil
}

// lines returns at most twenty lines, made printable.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for line := range bytes.Lines(t.buf) {
		s := strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, strings.ToValidUTF8(string(line), "?"))
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out[max(0, len(out)-20):]
}
