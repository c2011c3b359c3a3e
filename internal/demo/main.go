// Command demo shows InetBoot at work: it publishes a Debian on a server of its
// own and boots it from the ISO in a virtual machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in, out *os.File) (err error) {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	build := fs.String("build", "build", "folder with the programs and inetboot.iso")
	firmware := fs.String("firmware", "bios", "bios or uefi")
	if err := fs.Parse(args); err != nil {
		return err
	}
	tarball, err := debianroot.Tarball(ctx, out)
	if err != nil {
		return err
	}
	dir := filepath.Join(*build, "demo")
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear the last demonstration: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fmt.Fprintln(out, "demo: starting the server and publishing Debian")
	bed, err := testbed.Start(ctx, testbed.Options{Build: *build, Dir: dir, Source: tarball, Log: out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()

	fmt.Fprintf(out, "demo: booting %s in a virtual machine (%s, %s)\n", bed.ISO, *firmware, vmtest.Accel())
	vm, err := vmtest.Start(ctx, vmtest.Config{
		Name: "demo", CD: bed.ISO, Memory: 1024, VGA: true, NoReboot: true, Dir: dir,
		Firmware: vmtest.Firmware(*firmware), NICs: []vmtest.NIC{{}},
	})
	if err != nil {
		return err
	}
	defer vm.Close()
	if term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd())) {
		return interactive(ctx, vm, in, out)
	}
	return unattended(ctx, vm, bed, out)
}

func interactive(ctx context.Context, vm *vmtest.VM, in, out *os.File) error {
	fmt.Fprintf(out, "demo: this is the machine's serial console. Pick Debian, log in as root with the password %q. Ctrl-A X ends it.\n", debianroot.Password)
	err := vm.Interact(ctx, in, out)
	fmt.Fprintln(out)
	if errors.Is(err, vmtest.ErrQuit) {
		return nil
	}
	return err
}

// unattended lets the default entry boot, and says what it took.
func unattended(ctx context.Context, vm *vmtest.VM, bed *testbed.Bed, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if _, err := vm.Expect(ctx, `menu ready`); err != nil {
		return fmt.Errorf("no menu: %w\n%s", err, vm.Command)
	}
	menu := vm.Uptime()
	fmt.Fprintf(out, "demo: the menu is there; Debian boots by itself in some seconds\n")
	if _, err := vm.Expect(ctx, `inetboot: starting `); err != nil {
		return fmt.Errorf("the default entry did not start: %w\n%s", err, vm.Command)
	}
	chosen := vm.Uptime()
	if _, err := vm.Expect(ctx, `login: `); err != nil {
		return fmt.Errorf("no login prompt: %w\n%s", err, vm.Command)
	}
	login := vm.Uptime()
	blocks, err := bed.Metric(ctx, "inetboot_http_requests_total", `kind="block"`, `code="200"`)
	if err != nil {
		return err
	}
	bytes, err := bed.Metric(ctx, "inetboot_http_sent_bytes_total", `kind="block"`)
	if err != nil {
		return err
	}
	image, err := bed.Image(ctx, "debian", debianroot.Version)
	if err != nil {
		return err
	}
	if err := powerOff(ctx, vm); err != nil {
		return err
	}
	fmt.Fprintf(out, "demo: menu after %.1f s\n", menu.Seconds())
	fmt.Fprintf(out, "demo: login prompt after %.1f s, %.1f s after the choice\n", login.Seconds(), (login - chosen).Seconds())
	fmt.Fprintf(out, "demo: fetched %.1f MB of %.1f MB of the root, %.0f of %d blocks\n", bytes/1e6, float64(image.Stored)/1e6, blocks, image.Blocks)
	return nil
}

func powerOff(ctx context.Context, vm *vmtest.VM) error {
	for _, step := range []struct{ send, expect string }{
		{"root\n", `Password:`}, {debianroot.Password + "\n", `# `}, {"poweroff\n", ""},
	} {
		if err := vm.Send(step.send); err != nil {
			return err
		}
		if step.expect != "" {
			if _, err := vm.ExpectWithin(ctx, time.Minute, step.expect); err != nil {
				return fmt.Errorf("log in: %w", err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := vm.Wait(ctx)
	return err
}
