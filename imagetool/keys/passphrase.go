package keys

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/inetboot/inetboot/internal/keyfile"
)

// askedAtMost is how many times a person is asked for the passphrase of one key.
const askedAtMost = 3

// ErrNoPassphrase is wrapped when a passphrase is needed and there is no way
// to get it.
var ErrNoPassphrase = keyfile.ErrNoPassphrase

// An Asker knows passphrases. Whoever gets one overwrites it after use.
type Asker interface {
	// Passphrase returns the passphrase of the key called name. attempt says
	// how many have been wrong. An Asker that has no other one to offer
	// returns an error that wraps keyfile.ErrPassphrase.
	Passphrase(ctx context.Context, name string, attempt int) ([]byte, error)

	// NewPassphrase returns the passphrase for a key that is made or changed.
	NewPassphrase(ctx context.Context, name string) ([]byte, error)
}

// Terminal asks on the terminal that the process belongs to, without echo,
// whatever standard input and output are.
type Terminal struct{}

var _ Asker = Terminal{}

// Passphrase implements Asker.
func (Terminal) Passphrase(ctx context.Context, name string, attempt int) ([]byte, error) {
	if attempt >= askedAtMost {
		return nil, fmt.Errorf("%s: %w, %d times", name, keyfile.ErrPassphrase, attempt)
	}
	lead := ""
	if attempt > 0 {
		lead = "That is not its passphrase.\n"
	}
	p, err := ask(ctx, lead+"Passphrase of "+name+": ")
	if err == nil && len(p) == 0 {
		err = fmt.Errorf("%w: %s: none was typed", ErrNoPassphrase, name)
	}
	return p, err
}

// NewPassphrase implements Asker.
func (Terminal) NewPassphrase(ctx context.Context, name string) ([]byte, error) {
	p, err := ask(ctx, "New passphrase for "+name+": ")
	if err != nil {
		return nil, err
	}
	if err := checkNew(p); err != nil {
		clear(p)
		return nil, err
	}
	again, err := ask(ctx, "The same once more: ")
	if err == nil && !bytes.Equal(p, again) {
		err = fmt.Errorf("%w: the two differ", ErrNoPassphrase)
	}
	clear(again)
	if err != nil {
		clear(p)
		return nil, err
	}
	return p, nil
}

func checkNew(p []byte) error {
	if err := keyfile.CheckNew(p); err != nil {
		return fmt.Errorf("%w (--no-passphrase leaves the key unencrypted)", err)
	}
	return nil
}

// ask reads a line from the terminal. When ctx ends, the terminal echoes
// again; the goroutine that reads stays until the process ends.
func ask(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: there is no terminal to ask on: use --passphrase-file, $INETBOOT_PASSPHRASE or ssh-agent", ErrNoPassphrase)
	}
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		_ = tty.Close()
		return nil, fmt.Errorf("%w: ask on the terminal: %w", ErrNoPassphrase, err)
	}
	// Before it asks, since people type quickly; and by nobody who reads, since that
	// could be after it echoes again. Lines and Ctrl-C are as usual.
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		mode.Lflag = mode.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
		mode.Iflag |= unix.ICRNL
		err = unix.IoctlSetTermios(fd, unix.TCSETS, mode)
	}
	if err == nil {
		_, err = io.WriteString(tty, prompt)
	}
	if err != nil {
		_ = term.Restore(fd, state)
		_ = tty.Close()
		return nil, fmt.Errorf("%w: ask on the terminal: %w", ErrNoPassphrase, err)
	}
	type answer struct {
		p   []byte
		err error
	}
	done := make(chan answer, 1)
	go func() {
		p, err := readLine(tty)
		done <- answer{p, err}
	}()
	select {
	case <-ctx.Done():
		_ = term.Restore(fd, state)
		_, _ = io.WriteString(tty, "\n")
		return nil, ctx.Err() // tty stays open: it is being read from
	case a := <-done:
		_ = term.Restore(fd, state)
		_, _ = io.WriteString(tty, "\n") // the one that was typed has no echo
		_ = tty.Close()
		if a.err != nil {
			return nil, fmt.Errorf("%w: read from the terminal: %w", ErrNoPassphrase, a.err)
		}
		return a.p, nil
	}
}

// maxLine is how long a line from the terminal may be, in bytes: Linux has no
// longer ones.
const maxLine = 4096

// readLine reads until the end of a line, which is not part of it, or of r.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); len(line) <= maxLine; {
		n, err := r.Read(b)
		switch {
		case n == 1 && b[0] == '\n':
			return line, nil
		case n == 1:
			line = append(line, b[0])
		case err == nil || err == io.EOF:
			return line, nil
		default:
			return nil, err
		}
	}
	return nil, fmt.Errorf("a line of more than %d bytes", maxLine)
}

// Fixed has one passphrase for all keys, from a file or the environment. Read
// is called for each key.
type Fixed struct {
	Read func() ([]byte, error)
	From string // where it comes from, for errors
}

var _ Asker = Fixed{}

// Passphrase implements Asker.
func (f Fixed) Passphrase(_ context.Context, name string, attempt int) ([]byte, error) {
	if attempt > 0 {
		return nil, fmt.Errorf("%s: %w in %s", name, keyfile.ErrPassphrase, f.From)
	}
	p, err := f.Read()
	if err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return nil, fmt.Errorf("%w: %s: %s is empty", ErrNoPassphrase, name, f.From)
	}
	return p, nil
}

// NewPassphrase implements Asker.
func (f Fixed) NewPassphrase(context.Context, string) ([]byte, error) {
	p, err := f.Read()
	if err == nil {
		err = checkNew(p)
	}
	if err != nil {
		clear(p)
		return nil, err
	}
	return p, nil
}

// FromVariable returns an Asker with the passphrase that is in an environment
// variable.
func FromVariable(name string) Fixed {
	return Fixed{From: "$" + name, Read: func() ([]byte, error) { return []byte(os.Getenv(name)), nil }}
}

// FromFile returns an Asker with the passphrase that is the first line of a
// file; - is standard input, /dev/fd/N a descriptor. The file is read once: a
// pipe has it only once. The copy that stays is overwritten by forget.
func FromFile(name string) (f Fixed, forget func(), err error) {
	p, err := keyfile.ReadPassphrase(name)
	if err != nil {
		return Fixed{}, nil, err
	}
	return Fixed{From: name, Read: func() ([]byte, error) { return bytes.Clone(p), nil }}, func() { clear(p) }, nil
}
