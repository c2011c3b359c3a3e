package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/inetboot/inetboot/imagetool/store"
)

// maxAnswer bounds what a person types, in bytes.
const maxAnswer = 4 << 10

// questions asks a person on the terminal that standard input is.
type questions struct {
	in  io.Reader
	out io.Writer
}

// questions returns nil if standard input is no terminal: scripts are never
// asked.
func (a *app) questions() *questions {
	if !isTerminal(os.Stdin) {
		return nil
	}
	return &questions{os.Stdin, a.err}
}

// ask returns what is typed, without spaces around it, or preset for nothing.
func (q *questions) ask(ctx context.Context, text, preset string) (string, error) {
	if preset != "" {
		text += " [" + preset + "]"
	}
	fmt.Fprint(q.out, text+": ")
	type line struct {
		text string
		err  error
	}
	done := make(chan line, 1)
	// When ctx ends the goroutine stays until the process ends.
	go func() {
		text, err := readLine(q.in)
		done <- line{text, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(q.out)
		return "", ctx.Err()
	case l := <-done:
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if l.err != nil {
			fmt.Fprintln(q.out)
			return "", &usageError{fmt.Errorf("nothing was typed: %w", l.err)}
		}
		if l.text == "" {
			return preset, nil
		}
		return l.text, nil
	}
}

// readLine reads one line, a byte at a time: what is behind it is for others.
func readLine(r io.Reader) (string, error) {
	var b []byte
	for len(b) < maxAnswer {
		var one [1]byte
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return strings.TrimSpace(string(b)), nil
		}
		b = append(b, one[0])
	}
	return "", errors.New("the line is too long")
}

// ask fills in what init needs and was not told, as far as a person is there:
// the store, its token if it is a server, and what the menu is called. Who names
// the store knows the options, and is asked nothing.
func (o *initOptions) ask(ctx context.Context, q *questions, titled bool) error {
	if o.to != "" || q == nil {
		return nil
	}
	fmt.Fprintln(q.out, "Where shall the images be published? A directory, which any web server can serve;\nthe URL of an InetBoot server, as it prints it; or s3://BUCKET/PREFIX.")
	var err error
	for o.to == "" {
		if o.to, err = q.ask(ctx, "Store", ""); err != nil {
			return err
		}
	}
	if rest, ok := strings.CutPrefix(o.to, "~/"); ok { // as a shell would
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("store %s: %w", o.to, err)
		}
		o.to = home + "/" + rest
	}
	if store.IsURL(o.to) && o.token == "" && o.tokenFile == "" && os.Getenv(tokenVariable) == "" {
		if o.tokenFile, err = q.ask(ctx, "File with the server's token", ""); err != nil {
			return err
		}
	}
	if !titled {
		o.title, err = q.ask(ctx, "Title of the menu", o.title)
	}
	return err
}
