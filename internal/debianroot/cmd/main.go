// Command cmd prints the path of the demonstration's Debian system, making it
// first if need be.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/inetboot/inetboot/internal/debianroot"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "debianroot:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout, log io.Writer) error {
	path, err := debianroot.Tarball(ctx, log)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, path)
	return err
}
