package bootscript

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// command is one word of the language.
type command struct {
	least, most int // arguments; most below 0: any number
	usage       string
	check       func(args []word) error // of what is known before the script runs
	run         func(ctx context.Context, r *run, args []string) error
}

// errFalse is a condition that does not hold.
var errFalse = errors.New("the condition does not hold")

// errExit ends a script that has come to its end.
var errExit = errors.New("exit")

// jump is returned by goto.
type jump int

func (jump) Error() string { return "goto" }

func commands() map[string]command {
	first := func(args []word) error { return checkVariable(args[0]) }
	end := func(action string) command {
		return command{0, 0, "", nil, func(ctx context.Context, r *run, _ []string) error { return r.machine.End(ctx, action) }}
	}
	return map[string]command{
		"echo": {0, -1, "[TEXT...]", nil, func(_ context.Context, r *run, args []string) error {
			r.machine.Print(strings.Join(args, " "))
			return nil
		}},
		"set": {1, -1, "NAME [VALUE...]", first, func(_ context.Context, r *run, args []string) error {
			return r.set(args[0], strings.Join(args[1:], " "))
		}},
		"isset": {1, 1, "${NAME}", nil, func(_ context.Context, _ *run, args []string) error {
			return holds(args[0] != "")
		}},
		"iseq": {2, 2, "A B", nil, func(_ context.Context, _ *run, args []string) error {
			return holds(args[0] == args[1])
		}},
		"goto":  {1, 1, "LABEL", nil, runGoto},
		"sleep": {1, 1, "SECONDS", nil, runSleep},
		"exit":  {0, 0, "", nil, func(context.Context, *run, []string) error { return errExit }},
		"network": {0, 1, "[SECONDS]", nil, func(ctx context.Context, r *run, args []string) error {
			if len(args) > 0 {
				n, err := number(args[0])
				if err != nil {
					return err
				}
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(n)*time.Second)
				defer cancel()
			}
			return r.machine.Network(ctx)
		}},
		"menu": {1, -1, "TITLE...", nil, func(_ context.Context, r *run, args []string) error {
			r.menu = Menu{Title: strings.Join(args, " "), Timeout: -1}
			return nil
		}},
		"item":       {2, -1, "ID TITLE...", nil, runItem},
		"choose":     {1, 5, "[--default ID] [--timeout SECONDS] NAME", checkChoose, runChoose},
		"kernel":     {1, -1, "IMAGE [OPTION...]", nil, runKernel},
		"initrd":     {1, 1, "IMAGE", nil, runInitrd},
		"module":     {1, 1, "IMAGE", nil, runInitrd},
		"boot":       {0, -1, "[ENTRY [OPTION...]]", nil, runBoot},
		"reboot":     end("reboot"),
		"poweroff":   end("poweroff"),
		"local-disk": end("local-disk"),
	}
}

func holds(b bool) error {
	if b {
		return nil
	}
	return errFalse
}

func runGoto(_ context.Context, r *run, args []string) error {
	at, ok := r.program.labels[args[0]]
	if !ok {
		return fmt.Errorf("there is no label %q", args[0])
	}
	return jump(at)
}

func runSleep(ctx context.Context, _ *run, args []string) error {
	n, err := number(args[0])
	if err != nil {
		return err
	}
	t := time.NewTimer(time.Duration(n) * time.Second)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func runItem(_ context.Context, r *run, args []string) error {
	switch {
	case !validName(args[0]):
		return fmt.Errorf("%q is no id of an item", args[0])
	case len(r.menu.Items) >= maxItems:
		return fmt.Errorf("a menu has at most %d items", maxItems)
	case slices.ContainsFunc(r.menu.Items, func(it Item) bool { return it.ID == args[0] }):
		return fmt.Errorf("the menu has two items %s", args[0])
	}
	r.menu.Items = append(r.menu.Items, Item{args[0], strings.Join(args[1:], " ")})
	return nil
}

// checkChoose looks at the options, and at the name behind them.
func checkChoose(args []word) error {
	for len(args) > 2 {
		switch o, _ := args[0].literal(); o {
		case "--default", "--timeout":
			args = args[2:]
		default:
			return errors.New("the options are --default ID and --timeout SECONDS")
		}
	}
	if len(args) != 1 {
		return errors.New("the name of a variable is missing behind the options")
	}
	return checkVariable(args[0])
}

func runChoose(ctx context.Context, r *run, args []string) error {
	m := r.menu
	for ; len(args) > 2; args = args[2:] {
		if args[0] == "--default" {
			m.Default = args[1]
			continue
		}
		n, err := number(args[1])
		if err != nil {
			return err
		}
		m.Timeout = n
	}
	switch {
	case len(m.Items) == 0:
		return errors.New("the menu has no items")
	case m.Default == "":
		m.Default = m.Items[0].ID
	case !slices.ContainsFunc(m.Items, func(it Item) bool { return it.ID == m.Default }):
		return fmt.Errorf("the menu has no item %q", m.Default)
	}
	id, err := r.machine.Choose(ctx, m)
	if err != nil {
		return err
	}
	return r.set(args[0], id)
}

// checkImage returns an error unless s can be the name of an image.
func checkImage(s string) error {
	if !storepath.ValidTarget(s) {
		return fmt.Errorf("%q is no name of an image, such as images/tool/1/amd64.json", s)
	}
	return nil
}

func runKernel(_ context.Context, r *run, args []string) error {
	if err := checkImage(args[0]); err != nil {
		return err
	}
	r.boot = Boot{Kernel: args[0], Cmdline: strings.Join(args[1:], " ")}
	return nil
}

func runInitrd(_ context.Context, r *run, args []string) error {
	err := checkImage(args[0])
	switch {
	case err != nil:
		return err
	case r.boot.Kernel == "":
		return errors.New("there is no kernel yet")
	case len(r.boot.Initrds) >= maxInitrds:
		return fmt.Errorf("a kernel takes at most %d initrds", maxInitrds)
	}
	r.boot.Initrds = append(r.boot.Initrds, args[0])
	return nil
}

// runBoot is not bound by the script's time: a download may be slow.
func runBoot(_ context.Context, r *run, args []string) error {
	b := r.boot
	switch {
	case len(args) > 0:
		b = Boot{Entry: args[0], Cmdline: strings.Join(args[1:], " ")}
	case b.Kernel == "":
		return errors.New("there is no kernel yet, and no entry of the menu is named")
	}
	return r.machine.Boot(r.outer, b)
}
