// Blockfs mounts files of verified blocks: on a workstation with "blockfs
// mount", and as the root filesystem of a machine, where it is /init of the
// initramfs, the daemon that serves the root, and what shuts the machine down.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	_ "golang.org/x/crypto/x509roots/fallback" // an initramfs has no certificates
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/command"
	"github.com/inetboot/inetboot/blockfs/target"
)

func main() {
	// As process 1 there is nobody to return to, and signals mean nothing.
	if os.Getpid() == 1 {
		switch filepath.Base(os.Args[0]) {
		case "init":
			target.Init(context.Background(), os.Args[1:])
		case "shutdown":
			target.Shutdown(os.Args[1:])
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "blockfs:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	c := command.New(stdin, stdout, stderr)
	c.SetArgs(args)
	return c.ExecuteContext(ctx)
}
