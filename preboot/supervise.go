package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/system"
)

// sessionArg makes the program be the boot and not its supervisor.
const sessionArg = "session"

// faultVariable is the variable of the environment that tells a session how the
// one before it has ended, for its log; "": there was none.
const faultVariable = "INETBOOT_FAULT"

// restartTime is how many seconds a fault is shown before the next attempt.
const restartTime = 60

// supervise never returns: the end of the first process is a kernel's panic.
func supervise(ctx context.Context) error {
	trouble := system.Prepare()
	var fault string // of the session before
	for {
		var tail tail
		cmd := exec.CommandContext(ctx, "/proc/self/exe", sessionArg)
		cmd.Env = append(os.Environ(), "GOTRACEBACK=single", faultVariable+"="+fault)
		cmd.Stderr = &tail
		err := cmd.Run()
		afterFault(ctx, errors.Join(trouble, err), tail.String())
		first, _, _ := strings.Cut(tail.String(), "\n")
		fault = console.Printable(fmt.Sprintf("%v: %s", err, first))
		trouble = nil
	}
}

// afterFault shows why the boot ended, and does what the person wants.
func afterFault(ctx context.Context, err error, output string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	con := console.New()
	defer con.Close()
	con.Attach(ctx)
	con.Print(fmt.Sprintf("inetboot: fault: %v", err))
	for line := range strings.Lines(output) {
		con.Print(strings.TrimRight(line, "\n"))
	}
	first, _, _ := strings.Cut(output, "\n")
	m := menu.New(menu.Options{
		Title:   "InetBoot: the program has stopped by a fault",
		Text:    fmt.Sprintf("inetboot: fault: %v: %s", err, console.Printable(first)),
		Items:   endItems("Start again"),
		Default: retryID, Timeout: restartTime,
	})
	for {
		ev := choose(ctx, con, m, nil)
		if ev.Picked == nil || ev.Picked.ID == retryID {
			return
		}
		if err := endMachine(con, ev.Picked.ID); err != nil {
			m.Status("inetboot: " + err.Error())
		}
	}
}

// endMachine restarts the machine or switches it off. It returns only if that
// fails.
func endMachine(con *console.Set, id string) error {
	con.Scroll()
	end, text := system.Reboot, "inetboot: restarting"
	if id == powerOffID {
		end, text = system.PowerOff, "inetboot: switching off"
	}
	con.Print(text)
	flush(con)
	return end()
}

func flush(con *console.Set) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	con.Flush(ctx)
}

// tail keeps the first lines of what is written, which for a Go program's
// fault are the ones that say what happened.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const maxTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p[:min(len(p), maxTail-t.b.Len())])
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
