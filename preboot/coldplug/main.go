// Command coldplug is the first program on the large boot medium, whose kernel
// has its drivers in modules. It loads those that the machine's devices ask for,
// leaves a process behind that does so for devices that appear later, and becomes
// preboot. The kernel also calls it, in place of modprobe, for file systems and the like.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/module"
	"github.com/inetboot/inetboot/preboot/system"
)

const (
	next     = "/preboot"
	watchArg = "watch"
	// kernelArg is the first argument when the kernel asks for a module: "-q -- NAME"
	// (call_modprobe in kernel/module/kmod.c).
	kernelArg    = "-q"
	modprobeFile = "/proc/sys/kernel/modprobe"
	// settleTime is how long the first process waits for the devices that are
	// there from the beginning.
	settleTime = 60 * time.Second
)

func main() {
	if err := run(context.Background(), os.Args, os.Getpid()); err != nil {
		fmt.Fprintln(os.Stderr, "coldplug:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, pid int) error {
	switch {
	case len(args) > 1 && args[1] == kernelArg:
		return modprobe(args[1:])
	case len(args) == 2 && args[1] == watchArg:
		return watch(ctx, os.NewFile(3, "settled"))
	case pid == 1:
		return begin(ctx)
	}
	return errors.New("this is the first program of a boot medium and runs as its /init: build a medium with `make iso-full`")
}

// begin does not fail for want of a module: preboot says what is missing.
func begin(ctx context.Context) error {
	trouble := system.Prepare()
	fmt.Println("inetboot: loading drivers")
	// This program is the archive's /init, and stays there.
	if err := os.WriteFile(modprobeFile, []byte("/init"), 0o644); err != nil {
		trouble = errors.Join(trouble, fmt.Errorf("load drivers: %w", err))
	}
	if err := startWatch(ctx); err != nil {
		trouble = errors.Join(trouble, err)
	}
	if trouble != nil {
		fmt.Fprintln(os.Stderr, "coldplug:", trouble)
	}
	if err := unix.Exec(next, []string{next}, os.Environ()); err != nil {
		return fmt.Errorf("start %s: %w", next, err)
	}
	return nil
}

// startWatch starts the process that loads modules, and returns when the
// devices that are there have theirs, or after settleTime.
func startWatch(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("load drivers: %w", err)
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", watchArg)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("load drivers: %w", err)
	}
	if err := r.SetReadDeadline(time.Now().Add(settleTime)); err != nil {
		return fmt.Errorf("wait for drivers: %w", err)
	}
	var b [1]byte
	if _, err := r.Read(b[:]); err != nil {
		return fmt.Errorf("wait for drivers: %w", err)
	}
	return nil
}

// modprobe loads what the kernel asks for: options, then names or aliases.
func modprobe(args []string) error {
	l, err := module.NewLoader("/")
	if err != nil {
		return err
	}
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			err = errors.Join(err, l.Load(a))
		}
	}
	return err
}
