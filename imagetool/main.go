// Imagetool publishes images of operating systems: it turns a directory or a
// tarball into files in a store, keeps the signed catalog and the menu, and
// makes boot media personal. See docs/imagetool.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/inetboot/inetboot/imagetool/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
