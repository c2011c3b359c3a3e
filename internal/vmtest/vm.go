package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// VM is a running machine. Close it.
type VM struct {
	*Console
	Started time.Time // when QEMU was started
	Command string    // QEMU's command line, quoted for a shell

	dir     string
	keepDir bool
	cmd     *exec.Cmd
	monitor *monitor
	exited  chan struct{}
	exitErr error
	stderr  *tail
	cleanup []func()
}

// Start starts a machine. It runs until it powers off or is closed.
func Start(ctx context.Context, c Config) (_ *VM, err error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("virtual machine: %w", err)
	}
	if _, err := exec.LookPath(qemu); err != nil {
		return nil, fmt.Errorf("virtual machine: %w (`make deps` installs QEMU)", err)
	}
	v := &VM{dir: c.Dir, keepDir: c.Dir != "", exited: make(chan struct{}), stderr: &tail{}}
	defer func() {
		if err != nil {
			v.Close()
		}
	}()
	// Paths of sockets are short, so they have a folder of their own.
	sockets, err := os.MkdirTemp("", "vm-*")
	if err != nil {
		return nil, fmt.Errorf("virtual machine: %w", err)
	}
	v.cleanup = append(v.cleanup, func() { os.RemoveAll(sockets) })
	if v.dir == "" {
		v.dir = sockets
	}
	if c.Firmware == UEFI {
		vars, err := os.ReadFile(ovmfVars)
		if err != nil {
			return nil, fmt.Errorf("virtual machine: firmware (`make deps` installs it): %w", err)
		}
		if err := os.WriteFile(filepath.Join(sockets, "vars.fd"), vars, 0o600); err != nil {
			return nil, fmt.Errorf("virtual machine: %w", err)
		}
	}
	accel := c.Accel
	if accel == "" {
		accel = Accel()
	}
	taps := make(map[int]string)
	var lan *LAN
	for i, n := range c.NICs {
		if n.LAN == nil {
			continue
		}
		if lan != nil && lan != n.LAN {
			return nil, errors.New("virtual machine: cards on two LANs")
		}
		lan = n.LAN
		tap, remove, err := lan.addTap()
		if err != nil {
			return nil, fmt.Errorf("virtual machine: network card %d: %w", i, err)
		}
		v.cleanup = append(v.cleanup, remove)
		taps[i] = tap
	}

	args := c.args(sockets, accel, taps)
	name := qemu
	if lan != nil {
		args = append([]string{"netns", "exec", lan.Name, qemu}, args...)
		name = "ip"
	}
	v.Command = quote(append([]string{name}, args...))
	logfile, err := os.Create(filepath.Join(v.dir, "console.log"))
	if err != nil {
		return nil, fmt.Errorf("virtual machine: %w", err)
	}
	v.Console = &Console{log: logfile, changed: make(chan struct{})}
	v.cleanup = append(v.cleanup, func() { logfile.Close() })

	var lines [2]net.Listener
	for i, what := range []string{"console", "monitor"} {
		if lines[i], err = net.Listen("unix", filepath.Join(sockets, what)); err != nil {
			return nil, fmt.Errorf("virtual machine: %w", err)
		}
		defer lines[i].Close()
	}
	v.cmd = exec.Command(name, args...)
	v.cmd.Stdout, v.cmd.Stderr = v.stderr, v.stderr
	// A group of its own: Ctrl-C is for the caller, who closes the machine.
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	v.Started = time.Now()
	v.Console.start = v.Started
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends, so
		// that thread is kept for as long as the machine.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := v.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		v.exitErr = v.cmd.Wait()
		close(v.exited)
	}()
	if err := <-started; err != nil {
		v.cmd = nil
		return nil, fmt.Errorf("virtual machine: %w", err)
	}
	var conns [2]net.Conn
	for i, l := range lines {
		if conns[i], err = v.accept(ctx, l); err != nil {
			return nil, err
		}
		v.cleanup = append(v.cleanup, func() { conns[i].Close() })
	}
	go v.Console.read(conns[0])
	if v.monitor, err = newMonitor(conns[1]); err != nil {
		return nil, v.died(err)
	}
	return v, nil
}

// accept waits until QEMU connects, or ends.
func (v *VM) accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ch := make(chan result, 1)
	go func() { c, err := l.Accept(); ch <- result{c, err} }()
	select {
	case r := <-ch:
		return r.conn, r.err
	case <-v.exited:
		return nil, v.died(v.exitErr)
	case <-time.After(30 * time.Second):
		return nil, v.died(errors.New("QEMU did not connect its console"))
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (v *VM) died(err error) error {
	return fmt.Errorf("virtual machine: %w\n%s\n%s", err, v.stderr, v.Command)
}

// Wait waits until the machine has ended and says how: "guest-shutdown",
// "guest-reset" (with NoReboot), "host-qmp-quit" and so on.
func (v *VM) Wait(ctx context.Context) (string, error) {
	select {
	case <-v.exited:
	case <-ctx.Done():
		return "", fmt.Errorf("wait for the machine to end: %w; the console's last lines:\n%s", ctx.Err(), v.Tail(20))
	}
	v.monitor.mu.Lock()
	defer v.monitor.mu.Unlock()
	if v.monitor.reason == "" {
		return "", v.died(fmt.Errorf("QEMU ended by itself: %w", errors.Join(v.exitErr, errors.New("no shutdown was announced"))))
	}
	return v.monitor.reason, nil
}

// Uptime is the time since QEMU was started.
func (v *VM) Uptime() time.Duration { return time.Since(v.Started) }

// CPUTime returns the processor time that QEMU has taken so far, in all of its
// threads: other work of the machine changes it less than the time on the clock.
func (v *VM) CPUTime() (time.Duration, error) {
	const sched = 2 // clock_getcpuclockid(3): a process's clock is made of its id
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^v.cmd.Process.Pid<<3|sched), &t); err != nil {
		return 0, fmt.Errorf("ask for the processor time of the virtual machine: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// Close ends the machine, however it is, and removes what belonged to it. The
// logs in Config.Dir stay.
func (v *VM) Close() error {
	if v.cmd != nil {
		syscall.Kill(-v.cmd.Process.Pid, syscall.SIGKILL)
		<-v.exited
		v.cmd = nil
	}
	for i := len(v.cleanup) - 1; i >= 0; i-- {
		v.cleanup[i]()
	}
	v.cleanup = nil
	return nil
}

// quote returns args as one line that a shell splits the same way.
func quote(args []string) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if a != "" && !strings.ContainsAny(a, " \t\n'\"\\$&|;<>()*?[]#~`!{}") {
			b.WriteString(a)
			continue
		}
		b.WriteString("'" + strings.ReplaceAll(a, "'", `'\''`) + "'")
	}
	return b.String()
}

// tail keeps the last kilobytes of QEMU's messages.
type tail struct {
	mu   sync.Mutex
	data []byte
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - 8<<10; over > 0 {
		t.data = t.data[over:]
	}
	return len(p), nil
}

var _ io.Writer = (*tail)(nil)
