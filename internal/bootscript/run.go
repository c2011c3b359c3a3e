package bootscript

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Machine is what a script acts on. Errors of its functions are failures of
// the script's command: the script can go on behind ||.
type Machine interface {
	// Print shows a line.
	Print(line string)
	// Fact returns the value of one of Facts; "" if it is not known.
	Fact(name string) string
	// Network returns nil once the store is reached over a network.
	Network(ctx context.Context) error
	// Choose shows a menu and returns the id of the item that is chosen.
	Choose(ctx context.Context, m Menu) (id string, err error)
	// Boot starts another system. It returns only if that fails.
	Boot(ctx context.Context, b Boot) error
	// End carries out "reboot", "poweroff" or "local-disk". It returns only if
	// that fails.
	End(ctx context.Context, action string) error
}

// Menu is what is chosen from.
type Menu struct {
	Title   string
	Items   []Item // at least one, with different ids
	Default string // id of one of them
	Timeout int    // seconds until Default is chosen; below 0: never
}

// Item is one line of a Menu.
type Item struct{ ID, Title string }

// Boot is what is started: an entry of the publisher's menu, or a kernel.
type Boot struct {
	Entry   string   // id; "": Kernel
	Kernel  string   // the image of the catalog that it is part of
	Initrds []string // images of the catalog whose initrds follow one another
	Cmdline string   // for a kernel all options, for an entry those that are added
}

// ErrTime is wrapped when a script took too long.
var ErrTime = errors.New("the script's time is over")

// run is a script on its way.
type run struct {
	program *Program
	machine Machine
	outer   context.Context // without the time limit
	values  map[string]string
	menu    Menu
	boot    Boot
	steps   int
}

// Run carries a script out for at most the given time, in which boots do not
// count. It returns nil when the script ends by itself, and an *Error if a line
// failed.
func (p *Program) Run(ctx context.Context, m Machine, limit time.Duration) error {
	r := &run{program: p, machine: m, outer: ctx, values: make(map[string]string), menu: Menu{Timeout: -1}}
	inner, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: %s", ErrTime, limit))
	defer cancel()
	for at := 0; at < len(p.lines); {
		l := &p.lines[at]
		at++
		err := r.line(inner, l)
		var to jump
		switch {
		case err == nil, errors.Is(err, errFalse):
		case errors.Is(err, errExit):
			return nil
		case errors.As(err, &to):
			at = int(to)
		case l.forgive && inner.Err() == nil && !errors.Is(err, ErrTime):
		default:
			return &Error{l.number, err}
		}
	}
	return nil
}

// line runs a chain: behind && if the last command that ran was done, behind
// || if it failed, or was a condition that does not hold.
func (r *run) line(ctx context.Context, l *line) error {
	var err error
	for i := range l.chain {
		s := &l.chain[i]
		if s.after == ifDone && err != nil || s.after == ifFails && err == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.steps++; r.steps > maxSteps {
			return fmt.Errorf("%w: it has carried out %d commands", ErrTime, maxSteps)
		}
		err = r.step(ctx, s)
		var to jump
		if errors.Is(err, errExit) || errors.As(err, &to) {
			return err
		}
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return err
}

func (r *run) step(ctx context.Context, s *step) error {
	args := make([]string, len(s.args))
	for i, w := range s.args {
		var err error
		if args[i], err = r.expand(w); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	err := commands()[s.name].run(ctx, r, args)
	var to jump
	if err == nil || errors.Is(err, errExit) || errors.As(err, &to) {
		return err
	}
	return fmt.Errorf("%s: %w", s.name, err)
}

// expand puts values in the place of variables. Those that are not set are
// empty.
func (r *run) expand(w word) (string, error) {
	var b strings.Builder
	for _, p := range w {
		text := p.text
		if p.variable {
			if text = r.values[p.text]; slices.Contains(Facts(), p.text) {
				text = r.machine.Fact(p.text)
			}
		}
		if b.Len()+len(text) > maxValue {
			return "", fmt.Errorf("a word of more than %d bytes", maxValue)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func (r *run) set(name, value string) error {
	if len(value) > maxValue {
		return fmt.Errorf("a value of %d bytes, at most %d are allowed", len(value), maxValue)
	}
	if _, ok := r.values[name]; !ok && len(r.values) >= maxVariables {
		return fmt.Errorf("more than %d variables", maxVariables)
	}
	r.values[name] = value
	return nil
}
